"""Partitions of `changes/<table>` by day and by hour: the arrival hours that each has, and the objects that its run reads."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ddb_lake.config import PartitionsSettings
from ddb_lake.lake.scan import scan_table
from ddb_lake.orchestration.arrival_partitions import ArrivalPartitions
from ddb_lake.pipeline.open_lake import Lake
from ddb_lake_tests.support.dagster_folders import HOUR_US, FolderLake, inserted
from ddb_lake_tests.support.effort import examples
from ddb_lake_tests.support.landed_files import EXPORT_US, change, order, write_changes
from ddb_lake_tests.support.several_tables import dumped

Make = Callable[..., FolderLake]

DAY_S, HOUR_S = 86_400, 3_600
FIRST_S = int(datetime(2025, 1, 1, tzinfo=UTC).timestamp())
SINCE_S = st.integers(FIRST_S // HOUR_S, FIRST_S // HOUR_S + 20_000).map(lambda hour: hour * HOUR_S)
"""Whole hours (seconds since the epoch) in the years that the partitions have, with changes to and from summer time."""


@pytest.fixture(scope="module", params=["UTC", "America/New_York", "Pacific/Kiritimati", "Australia/Lord_Howe"])
def local_zone(request: pytest.FixtureRequest) -> Iterator[None]:
    """This process in a zone; the partitions are the same in all."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TZ", request.param)
        time.tzset()
        yield
    time.tzset()


@given(at_s=SINCE_S, every=st.sampled_from(["day", "hour"]))
@examples(50, 500)
def test_partition_has_the_hours_of_its_window_in_dagster(local_zone: None, at_s: int, every: Any) -> None:
    partitions, length_s = ArrivalPartitions(PartitionsSettings(every=every)), {"day": DAY_S, "hour": HOUR_S}[every]
    at = datetime.fromtimestamp(at_s, UTC)

    key = partitions.key(at)

    start_s = at_s - at_s % length_s
    assert [int(hour.timestamp()) for hour in partitions.hours(key)] == list(range(start_s, start_s + length_s, HOUR_S))
    assert partitions.key(at.astimezone()) == key, "whatever the zone of the time is"
    window = partitions.definition.time_window_for_partition_key(key)
    assert (window.start.timestamp(), window.end.timestamp()) == (start_s, start_s + length_s)


@given(hours_s=st.lists(SINCE_S, max_size=30))
@examples(50, 500)
def test_days_are_the_days_of_their_hours(hours_s: list[int]) -> None:
    by_day, by_hour = (ArrivalPartitions(PartitionsSettings(every=every)) for every in ("day", "hour"))
    hours = [datetime.fromtimestamp(at_s, UTC) for at_s in hours_s]

    assert len(by_hour.keys(hours)) == len(set(hours_s))
    assert by_day.keys(hours) == sorted({key[:10] for key in by_hour.keys(hours)})
    for day in by_day.keys(hours):
        assert [by_hour.key(hour)[:10] for hour in by_day.hours(day)] == [day] * 24


@pytest.mark.parametrize("every", ["day", "hour"])
def test_present_partition_exists_and_earlier_ones_do_not(every: Any) -> None:
    start, now = date(2026, 3, 1), datetime(2026, 3, 4, 12, 59, tzinfo=UTC)
    partitions = ArrivalPartitions(PartitionsSettings(every=every, start=start))
    present, first = now.replace(minute=0), datetime(2026, 3, 1, tzinfo=UTC)
    keys = partitions.definition.get_partition_keys(current_time=now)

    assert keys[0] == partitions.key(first) and keys[-1] == partitions.key(present)
    assert partitions.has(first, now) and partitions.has(present, now)
    assert not partitions.has(first - timedelta(hours=1), now) and not partitions.has(now + timedelta(hours=1), now)


def test_first_day_in_the_future_is_an_error() -> None:
    with pytest.raises(ValueError, match="is in the future"):
        PartitionsSettings(start=datetime.now(UTC).date() + timedelta(days=2))


def test_day_reads_the_objects_of_its_hours_and_late_ones_when_run_again(folder_lake: Make) -> None:
    lake = folder_lake()
    for number, place in enumerate(("02/23/a", "03/00/b", "03/23/c", "04/00/d"), start=1):
        lake.land(f"2025/02/{place}", inserted(number))

    lake.run("changes/orders", "current/orders", hours=("2025-02-03", "2025-02-03"))
    assert order_numbers(lake) == [2, 3]
    lake.land("2025/02/03/00/late", inserted(5), inserted(2))
    run = lake.run("changes/orders", "current/orders", hours=("2025-02-03", "2025-02-03"))

    assert order_numbers(lake) == [2, 3, 5]
    figures = run.metadata["changes/orders"]
    assert (figures["objects"], figures["objects already ingested"], figures["new"], figures["duplicates"]) == (
        3,
        2,
        1,
        1,
    )
    assert rows_of_partition(lake, "2025-02-03") == (3, 1)


def test_run_of_the_sensor_reads_the_hours_with_news_alone(folder_lake: Make) -> None:
    lake = folder_lake()
    lake.land("2025/02/03/04/a", inserted(1))
    lake.land("2025/02/03/09/b", inserted(2))
    assert all(run.success for run in lake.settle())
    lake.land("2025/02/03/04/late", inserted(3))

    (run,) = lake.settle()

    assert run.metadata["changes/orders"]["objects"] == 2, "those of hour 4, and not that of hour 9"
    assert order_numbers(lake) == [1, 2, 3]
    assert rows_of_partition(lake, "2025-02-03") == (3, 1)


@pytest.mark.parametrize(
    ("hour", "message"),
    [
        ("2025-02-04T00:00Z", "which is in no partition of the run"),
        ("2025-02-03T04:30Z", "write full hours in UTC"),
        ("2025-02-03T04:00", "write full hours in UTC"),
        ("noon", "write full hours in UTC"),
    ],
)
def test_hour_that_the_run_cannot_read_is_an_error(folder_lake: Make, hour: str, message: str) -> None:
    lake = folder_lake()
    config = {"ops": {f"{lake.name}__current__orders": {"config": {"hours": [hour]}}}}

    run = lake.run("changes/orders", hours=("2025-02-03", "2025-02-03"), config=config)

    (found,) = lake.instance.get_runs(limit=1)
    events = [entry.get_dagster_event() for entry in lake.instance.all_logs(found.run_id) if entry.is_dagster_event]
    (failure,) = (event.step_failure_data for event in events if event.is_step_failure)
    assert not run.success
    assert failure.user_failure_data is not None and message in str(failure.user_failure_data.description)


def test_tables_of_one_lake_may_have_different_partitions(folder_lake: Make, tmp_path: Path) -> None:
    """Each has its job, and one sensor requests the runs of all. How the changelog is stored does not depend on them."""
    archive = {"name": "archive", "key": ["customer", "order_id"], "changes": {"uri": str(tmp_path / "archived")}}
    lake = folder_lake(partitions={"every": "hour", "start": "2025-02-03"}, others=[archive])
    for number, place in enumerate(("2025/02/02/23/before-the-first", "2025/02/03/04/a", "2025/02/05/23/b", "flat")):
        lake.land(place, inserted(number))
        archived = change(number, EXPORT_US + HOUR_US, order("ann", number), table="archive")
        write_changes(tmp_path / "archived" / place, archived)

    runs = lake.settle()

    assert all(run.success for run in runs)
    keys = {key for run in runs for asset, key in run.materialized if asset.startswith("changes/") and key}
    assert {len(key) for key in keys} == {len("2025-02-03"), len("2025-02-03-04:00")}
    with lake.opened() as opened:
        assert len(dumped(opened)) == len(dumped(opened, "archive")) == 4
        changelogs = [opened.changes(name) for name in ("orders", "archive")]
        assert [str(changes.spec()) for changes in changelogs] == [str(changelogs[0].spec())] * 2
        hours = [[row[0] for row in scan(opened, changes)] for changes in changelogs]
    assert hours[0] == hours[1] and len(set(hours[0])) > 2


def scan(opened: Lake, changes: Any) -> list[tuple[Any, ...]]:
    with opened.session() as session:
        return list(session.rows(f"SELECT arrival_hour FROM {scan_table(changes).sql()} ORDER BY ALL"))


def order_numbers(lake: FolderLake) -> list[int]:
    return sorted(int(json.loads(line)["Item"]["order_id"]["N"]) for line in lake.items())


def rows_of_partition(lake: FolderLake, key: str) -> tuple[Any, Any]:
    """The rows of a partition, and those that its last run added."""
    asset = dg.AssetKey(["changes", "orders"])
    records = lake.instance.fetch_materializations(
        dg.AssetRecordsFilter(asset_key=asset, asset_partitions=[key]), limit=1
    ).records
    found = records[0].asset_materialization
    assert found is not None
    return tuple(found.metadata[name].value for name in ("dagster/partition_row_count", "new in this partition"))
