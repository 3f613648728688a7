from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from pydantic import ValidationError

from ddb_lake import DynamoDBLakeComponent
from ddb_lake.aws.objects import ObjectRef, ObjectStore
from ddb_lake.core.capture.leases import FRESH_US
from ddb_lake.errors import UsageError
from ddb_lake.orchestration.sensor import arrivals_sensor
from ddb_lake.pipeline.follow.leases import LeaseKeeper
from ddb_lake.pipeline.plan import due, planner
from ddb_lake_tests.support.dagster_folders import FolderLake, inserted

Make = Callable[..., FolderLake]


class NoCredentialsError(Exception):
    """As botocore's is called."""

    __module__ = "botocore.exceptions"


QUEUE = "https://sqs.eu-west-1.amazonaws.com/111122223333/landed"


def test_run_request_resolves_against_the_definitions(folder_lake: Make) -> None:
    lake = folder_lake()
    lake.land("2025/02/03/04/a", inserted(1))

    requests, skipped = lake.ticker.requests()

    (request,) = requests
    assert skipped is None
    assert request.tags["dagster/asset_partition_range_start"] == "2025-02-03"
    assert request.run_config["ops"][f"{lake.name}__current__orders"]["config"] == {"hours": ["2025-02-03T04:00Z"]}
    assert request.job_name == f"{lake.name}_sync"


def test_run_that_failed_is_requested_under_another_key(folder_lake: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    lake = folder_lake()
    lake.land("2025/02/03/04/a", inserted(1))
    (first,), _ = lake.ticker.requests()  # its run never comes to be
    monkeypatch.setattr("ddb_lake.pipeline.plan.cursor.FIRST_PAUSE_S", 0)

    (second,), _ = lake.ticker.requests()

    assert first.run_key != second.run_key
    assert lake.ticker.execute(second).success
    assert lake.ticker.requests()[0] == []


def test_no_way_to_aws_is_a_reason_to_skip_and_no_error(folder_lake: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    lake = folder_lake()

    def fail(*_: Any) -> Any:
        raise NoCredentialsError("Unable to locate credentials")

    monkeypatch.setattr(planner, "landing_roots", fail)
    monkeypatch.setattr(due, "exports_to_load", fail)

    requests, skipped = lake.ticker.requests()

    assert requests == []
    assert skipped is not None and skipped.endswith("Unable to locate credentials")


def test_fault_of_the_only_table_makes_the_tick_fail(folder_lake: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    lake = folder_lake()

    def denied(*_: Any) -> Any:
        raise PermissionError("AccessDenied")

    monkeypatch.setattr(planner, "landing_roots", denied)
    with pytest.raises(Exception, match="AccessDenied"):
        lake.ticker.requests()


def test_fault_of_one_table_is_logged_and_the_others_are_served(
    folder_lake: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    broken = tmp_path / "broken"
    broken.mkdir()
    lake = folder_lake(others=[{"name": "broken", "key": ["k"], "changes": {"uri": str(broken)}}])
    lake.land("2025/02/03/04/a", inserted(1))
    listed = ObjectStore.list

    def fails_there(self: ObjectStore, uri: str) -> Iterator[ObjectRef]:
        if uri == str(broken):
            raise UsageError("the folder cannot be read")
        return listed(self, uri)

    monkeypatch.setattr(ObjectStore, "list", fails_there)
    requests, _ = lake.ticker.requests()

    assert "broken: the folder cannot be read" in capfd.readouterr().err
    assert [request.tags["ddb_lake/reason"] for request in requests] == ["orders: 1 landed object is not applied"]


@pytest.mark.parametrize(
    ("changes", "interval", "expected_s"), [({}, None, 30), ({"notifications": QUEUE}, None, 5), ({}, "10s", 10)]
)
def test_sensor_ticks_at_its_interval(changes: dict[str, str], interval: str | None, expected_s: int) -> None:
    """The daemon waits for a multiple of 5 s that is greater than the definition's interval, so that one is a second shorter."""
    table: Any = {"name": "other", "key": ["k"], "changes": {"uri": "s3://landed/other/", **changes}}
    component = DynamoDBLakeComponent(warehouse="lake", sensor_interval=interval, tables=(table,))
    sensor = arrivals_sensor(dg.build_defs_for_component(component))
    assert sensor.minimum_interval_seconds == expected_s - 1
    assert component.settings.sensor_interval_s == expected_s


def test_run_without_a_partition_names_one_and_applies_nothing(folder_lake: Make) -> None:
    """As `dg launch --job` starts it. Dagster's framework cannot report the result of such a run."""
    lake = folder_lake()
    lake.land("2025/02/03/04/a", inserted(1))
    assert not lake.run("changes/orders", "current/orders").success
    (failed,) = lake.instance.get_runs()
    events = (entry.dagster_event for entry in lake.instance.all_logs(failed.run_id))
    (failure,) = (event for event in events if event is not None and event.is_step_failure)
    message = str(failure.step_failure_data.error)
    assert "the run has no partition" in message
    assert f"`--partition {datetime.now(UTC).date()}`" in message
    assert "`ddb-lake sync orders`" in message
    with lake.opened() as opened:
        assert opened.changes("orders") is None


@pytest.mark.parametrize("interval", ["4s", "31s", "1h"])
def test_interval_that_the_daemon_or_the_health_checks_cannot_have_is_refused(interval: str) -> None:
    with pytest.raises(ValidationError, match="the sensor's interval is 5s to 30s"):
        DynamoDBLakeComponent(warehouse="lake", sensor_interval=interval)


def test_sensor_is_stopped_at_the_start(folder_lake: Make) -> None:
    sensor = arrivals_sensor(folder_lake().defs)

    assert sensor.default_status == dg.DefaultSensorStatus.STOPPED


def test_cursor_that_cannot_be_read_is_logged_and_everything_is_listed(
    folder_lake: Make, capfd: pytest.CaptureFixture[str]
) -> None:
    lake = folder_lake()
    lake.land("2025/02/03/04/a", inserted(1))
    lake.ticker.cursor = '{"v":1,"next":null,"t":{"orders":[9,9,9,"",{},"9",0]}}'

    requests, _ = lake.ticker.requests()

    assert "The sensor's cursor is not used" in capfd.readouterr().err
    assert len(requests) == 1


def test_followed_table_is_left_to_its_follower_until_that_stops(folder_lake: Make) -> None:
    lake = folder_lake()
    lake.land("2025/02/03/04/a", inserted(1))
    with lake.opened() as opened:
        keeper = LeaseKeeper(opened, ["orders"])
        keeper.renew()
        assert lake.ticker.requests()[0] == []
        keeper.release()
    assert len(lake.ticker.requests()[0]) == 1


def test_table_whose_follower_died_is_requested_again(folder_lake: Make) -> None:
    lake = folder_lake()
    lake.land("2025/02/03/04/a", inserted(1))
    with lake.opened() as opened:
        opened.now = lambda: datetime.now(UTC) - timedelta(seconds=FRESH_US // 1_000_000 + 1)
        LeaseKeeper(opened, ["orders"]).renew()
    assert len(lake.ticker.requests()[0]) == 1
