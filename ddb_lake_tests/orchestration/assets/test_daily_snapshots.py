"""`daily/<table>`: the items as of the end of each day; made again they have what came late, and nothing is guessed."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from ddb_lake.config import parse_settings
from ddb_lake.core.capture.gaps import Gap
from ddb_lake.core.values.change_record import Item
from ddb_lake.errors import ConfigError, UsageError
from ddb_lake.pipeline.capture.gap_log import record_gap
from ddb_lake.pipeline.maintain.daily_snapshots import end_us, keep_day
from ddb_lake.pipeline.open_lake import Lake
from ddb_lake.pipeline.read.dump import dump_items
from ddb_lake.pipeline.sync import sync
from ddb_lake_tests.support.dagster_folders import HOUR_US, FolderLake
from ddb_lake_tests.support.landed_files import EXPORT_US, change, order
from ddb_lake_tests.support.several_tables import queried

Make = Callable[..., FolderLake]
FIRST, SECOND = date(2024, 5, 14), date(2024, 5, 15)
"""The day of the export, and the one after it."""

DAYS = {"daily_states": {"start": "2024-05-10", "schedule": "30 1 * * *"}}


def keep(lake: FolderLake, day: date) -> dg.ExecuteInProcessResult:
    """Materialize the partition of a day, as from the UI."""
    daily = [a for a in lake.defs.assets or () if isinstance(a, dg.AssetsDefinition) and "daily" in str(a.keys)]
    return dg.materialize(daily, partition_key=str(day), instance=lake.instance, raise_on_error=False)


def told(result: dg.ExecuteInProcessResult) -> dict[str, Any]:
    (event,) = result.get_asset_materialization_events()
    return {name: value.value for name, value in event.materialization.metadata.items()}


def refusal(lake: FolderLake, day: date) -> str:
    result = keep(lake, day)
    assert not result.success
    (failure,) = result.get_step_failure_events()
    data: Any = failure.step_failure_data.user_failure_data
    return str(data.description)


def at(number: int, hours: float, new: Item | None, old: Item | None = None) -> Item:
    """A change so many hours after the export."""
    return change(number, EXPORT_US + int(hours * HOUR_US), new, old)


@pytest.fixture
def days(folder_lake: Make) -> FolderLake:
    return with_two_days(folder_lake(orders=DAYS))


@pytest.fixture
def lasting_lake(tmp_path: Path) -> Iterator[Make]:
    """As `folder_lake`, on an instance that a schedule can open."""
    with dg.instance_for_test() as instance:
        yield lambda **options: FolderLake(tmp_path, instance, **options)


def with_two_days(lake: FolderLake) -> FolderLake:
    """An export of two orders at 11:14 of the first day, and changes on this day and the next."""
    lake.export(order("ann", 1, total={"N": "0.5"}), order("bob", 1, total={"N": "2"}))
    first, bob = order("ann", 1, total={"N": "1.5"}, note={"S": "x"}), order("bob", 1, total={"N": "2"})
    lake.land("2024/05/14/13/a", at(1, 2, first, order("ann", 1, total={"N": "0.5"})))
    lake.land("2024/05/15/13/b", at(2, 26, None, bob), at(3, 27, order("cec", 1, tag={"S": "new"})))
    with lake.opened() as opened:
        sync(opened)
    return lake


def shown(lake: FolderLake) -> list[tuple[Any, ...]]:
    with lake.opened() as opened:
        return queried(opened, "SELECT _day, customer, total, tag FROM orders_daily ORDER BY ALL")


def test_days_are_kept_exactly_and_queried_by_date(days: FolderLake) -> None:
    second = told(keep(days, SECOND))
    first = told(keep(days, FIRST))
    assert (first["dagster/partition_row_count"], second["dagster/partition_row_count"]) == (2, 2)
    assert first["bytes"] > 0 and first["dagster/uri"].endswith("daily/orders/2024-05-14.parquet")
    assert [(str(day), who, None if total is None else float(total), tag) for day, who, total, tag in shown(days)] == [
        ("2024-05-14", "ann", 1.5, None),
        ("2024-05-14", "bob", 2.0, None),
        ("2024-05-15", "ann", 1.5, None),
        ("2024-05-15", "cec", None, "new"),
    ]
    with days.opened() as lake:
        for day in (FIRST, SECOND):
            as_of = [json.loads(line)["Item"] for line in dump_items(lake, "orders", end_us(day) - 1)]
            kept = queried(lake, f"SELECT customer FROM orders_daily WHERE _day = '{day}' ORDER BY ALL")
            assert kept == sorted((item["customer"]["S"],) for item in as_of)
        assert queried(lake, "SELECT count(*), min(_day) FROM orders_daily") == [(4, FIRST)]


def test_day_made_again_after_a_late_record_has_it_and_replaces_what_was(days: FolderLake) -> None:
    before = told(keep(days, FIRST))
    keep(days, SECOND)
    days.land(
        "2024/05/16/01/late",
        at(4, 3, order("dan", 1)),
        at(5, 4, None, order("ann", 1, total={"N": "1.5"}, note={"S": "x"})),
    )
    days.settle()
    with days.opened() as lake:
        assert queried(lake, "SELECT customer FROM orders_daily WHERE _day = '2024-05-14' ORDER BY 1") == [
            ("ann",),
            ("bob",),
        ]
    again = told(keep(days, FIRST))
    assert again["dagster/uri"] == before["dagster/uri"]
    assert [who for day, who, *_ in shown(days) if day == FIRST] == ["bob", "dan"]
    assert [who for day, who, *_ in shown(days) if day == SECOND] == ["ann", "cec"], "only what is made again changes"
    assert told(keep(days, FIRST))["dagster/partition_row_count"] == 2
    assert len(list((days.folder / "lake" / "daily").rglob("*.*"))) == 2


def test_day_ends_with_its_last_microsecond(days: FolderLake) -> None:
    midnight = end_us(FIRST)
    last, first = (change(n, us, order(f"eve{n}", 1)) for n, us in ((6, midnight - 1), (7, midnight)))
    days.land("2024/05/15/00/midnight", last, first)
    days.settle()
    keep(days, FIRST)
    keep(days, SECOND)
    assert [who for day, who, *_ in shown(days) if who.startswith("eve") and day == FIRST] == ["eve6"]
    assert [who for day, who, *_ in shown(days) if who.startswith("eve") and day == SECOND] == ["eve6", "eve7"]


def test_day_before_the_first_snapshot_is_refused_with_the_first_that_can_be(days: FolderLake) -> None:
    said = refusal(days, date(2024, 5, 13))
    assert "its first snapshot is of 2024-05-14 11:14:20Z" in said
    assert "`daily_states.start` to 2024-05-14 or later" in said


def test_day_whose_objects_are_not_applied_is_refused_until_they_are(folder_lake: Make, tmp_path: Path) -> None:
    lake = folder_lake(orders={**DAYS, "changes": {"uri": str(tmp_path / "landing"), "layout": "flat"}})
    lake.export(order("ann", 1))
    lake.settle()
    lake.land("late", at(1, 2, order("bob", 1)))
    assert "1 landed object that is not applied may hold changes of 2024-05-14" in refusal(lake, FIRST)
    lake.settle()
    assert told(keep(lake, FIRST))["dagster/partition_row_count"] == 2


def kept(lake: Lake, day: date, now: datetime) -> int:
    lake.now = lambda: now
    return keep_day(lake, "orders", day).rows


def test_day_that_is_not_over_or_may_not_have_landed_is_refused(days: FolderLake) -> None:
    third = date(2024, 5, 16)
    midnight = datetime(2024, 5, 17, tzinfo=UTC)
    with days.opened() as lake:
        with pytest.raises(UsageError, match="is not over before 2024-05-17 00:00:00Z"):
            kept(lake, third, midnight - timedelta(seconds=1))
        with pytest.raises(UsageError, match=r"goes up to 2024-05-15 14:14:20Z.*make it after 2024-05-17 00:30:00Z"):
            kept(lake, third, midnight + timedelta(minutes=29))
        assert kept(lake, third, midnight + timedelta(minutes=30)) == 2
        assert kept(lake, FIRST, midnight) == 2, "a later change had arrived"


def test_day_in_which_changes_may_be_missing_is_refused(days: FolderLake) -> None:
    hour = EXPORT_US + 20 * HOUR_US
    with days.opened() as lake:
        record_gap(lake, "orders", Gap("stream_off", hour, hour + HOUR_US, "it was off", hour))
        assert kept(lake, FIRST, datetime(2024, 6, 1, tzinfo=UTC)) == 2
        with pytest.raises(UsageError, match=r"2024-05-15 07:14:20Z to 2024-05-15 08:14:20Z may be missing.*--gaps"):
            kept(lake, SECOND, datetime(2024, 6, 1, tzinfo=UTC))


def test_incremental_exports_must_reach_the_end_of_the_day(folder_lake: Make, tmp_path: Path) -> None:
    """A stream beside the exports may be ahead of them. Changes that it has not delivered are in the windows."""
    lake = folder_lake(orders={**DAYS, "changes": {"uri": str(tmp_path / "landing"), "incremental_exports": {}}})
    lake.export(order("ann", 1))
    lake.land("2024/05/15/13/b", at(2, 26, order("bob", 1)))
    lake.settle()
    assert "goes up to 2024-05-14 11:14:20Z" in refusal(lake, FIRST)


def test_query_without_a_daily_snapshot_is_an_error(days: FolderLake) -> None:
    with days.opened() as lake, pytest.raises(UsageError, match="no day is kept yet; materialize partitions"):
        queried(lake, "SELECT * FROM orders_daily")


def test_attribute_has_one_column_in_all_days_when_another_wants_its_name(days: FolderLake) -> None:
    days.land("2024/05/14/20/lower", at(8, 4, order("fay", 1, v={"N": "1"}, gone={"S": "x"})))
    days.settle()
    keep(days, FIRST)
    days.land("2024/05/15/20/upper", at(9, 28, order("gus", 1, V={"N": "30"})))
    days.settle()
    keep(days, SECOND)
    with days.opened() as lake:
        columns = [name for name, *_ in queried(lake, "DESCRIBE orders_daily") if name.lower().startswith("v")]
        lower, upper = sorted(columns, key=len)
        rows = queried(lake, f'SELECT _day, customer, "{lower}", "{upper}" FROM orders_daily ORDER BY ALL')
    assert lower == "v" and upper.startswith("V_")
    found = {(str(day), who): (low, up) for day, who, low, up in rows if who in ("fay", "gus")}
    assert found == {
        ("2024-05-14", "fay"): (1, None),
        ("2024-05-15", "fay"): (1, None),
        ("2024-05-15", "gus"): (None, 30),
    }


def asked(lake: FolderLake, now: datetime) -> list[str | None]:
    """The days that the schedule requests at a time."""
    schedule = day_schedule(lake)
    context = dg.build_schedule_context(
        lake.instance, scheduled_execution_time=now, repository_def=lake.defs.get_repository_def()
    )
    return [request.partition_key for request in schedule.evaluate_tick(context).run_requests or ()]


def day_schedule(lake: FolderLake) -> dg.ScheduleDefinition:
    (schedule,) = (s for s in lake.defs.schedules or () if s.name == f"{lake.name}_daily_orders")
    assert isinstance(schedule, dg.ScheduleDefinition)
    return schedule


def test_schedule_asks_for_the_day_before_and_for_none_before_the_first(lasting_lake: Make) -> None:
    days = with_two_days(lasting_lake(orders=DAYS))
    schedule = day_schedule(days)
    assert schedule.cron_schedule == "30 1 * * *"
    assert asked(days, datetime(2024, 5, 16, 1, 30, tzinfo=UTC)) == ["2024-05-15"]
    assert asked(days, datetime(2024, 5, 10, 1, 30, tzinfo=UTC)) == []
    job = days.defs.resolve_job_def(schedule.job_name)
    assert job.execute_in_process(instance=days.instance, partition_key="2024-05-15").success


@pytest.mark.parametrize(
    ("setting", "lost"), [(DAYS["daily_states"], [SECOND, FIRST]), ({"start": "2024-05-10"}, [FIRST])]
)
def test_file_that_is_gone_is_made_again(lasting_lake: Make, setting: dict[str, str], lost: list[date]) -> None:
    lake = with_two_days(lasting_lake(orders={"daily_states": setting}))
    for day in (FIRST, SECOND):
        assert keep(lake, day).success
    before, now = shown(lake), datetime(2024, 5, 17, 1, 50, tzinfo=UTC)
    yesterday = ["2024-05-16"] if "schedule" in setting else []
    assert asked(lake, now) == yesterday
    for day in lost:
        (lake.folder / f"lake/daily/orders/{day}.parquet").unlink()
    requested = asked(lake, now)
    assert requested == [*yesterday, *map(str, lost)]
    job = lake.defs.resolve_job_def(day_schedule(lake).job_name)
    for day in lost:
        assert job.execute_in_process(instance=lake.instance, partition_key=str(day)).success
    assert (shown(lake), asked(lake, now)) == (before, yesterday)


def test_table_without_the_setting_has_no_such_asset(folder_lake: Make) -> None:
    keys = folder_lake().defs.resolve_asset_graph().get_all_asset_keys()
    assert not [key for key in keys if key.path[0] == "daily"]


@pytest.mark.parametrize(
    ("tables", "said"),
    [
        ([{"name": "orders", **DAYS}], "needs `changes`"),
        (
            [{"name": "orders", "changes": {"uri": "x"}, **DAYS}, {"name": "Orders_Daily"}],
            "'orders_daily' of the first",
        ),
    ],
)
def test_setting_that_cannot_be_is_reported_at_once(tables: list[dict[str, Any]], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        parse_settings({"warehouse": "lake", "tables": tables}, "test")
