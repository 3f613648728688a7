"""Assets follow what they depend on, also if another program materialized it: what Dagster's conditions request."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta

import dagster as dg
import pytest

from ddb_lake import DynamoDBLakeComponent
from ddb_lake_tests.support.automation_ticks import Ticks
from ddb_lake_tests.support.dagster_folders import FolderLake, inserted
from ddb_lake_tests.support.landed_files import order

Make = Callable[..., FolderLake]

NIGHT = datetime(2026, 3, 4, tzinfo=UTC)
DAY = ("2025-02-03", "2025-02-03")
AURORA = {"host": "db", "database": "shop", "user": "lake", "password_env": "PASSWORD"}


def test_items_follow_a_snapshot_and_the_replica_follows_the_items(folder_lake: Make) -> None:
    lake = folder_lake(orders={"aurora": AURORA})
    lake.export(order("ann", 1))
    ticks = Ticks(lake.defs, lake.instance)
    assert ticks.tick() == {}, "nothing has happened yet"

    assert lake.run("snapshot/orders").success
    assert ticks.tick() == {"current/orders": {None}, "aurora/orders": {None}}
    assert ticks.tick() == {}, "it was requested once"


def test_nothing_is_requested_that_the_run_had_itself(folder_lake: Make) -> None:
    lake = folder_lake()
    lake.land("2025/02/03/04/a", inserted(1))
    ticks = Ticks(lake.defs, lake.instance)
    ticks.tick()

    assert lake.run("changes/orders", "current/orders", hours=DAY).success
    assert ticks.tick() == {}


def test_changes_alone_bring_the_items_up_to_date_so_that_the_replica_follows(folder_lake: Make) -> None:
    lake = folder_lake(orders={"aurora": AURORA})
    lake.land("2025/02/03/04/a", inserted(1))
    ticks = Ticks(lake.defs, lake.instance)
    ticks.tick()

    assert lake.run("changes/orders", hours=DAY).success
    assert "aurora/orders" in ticks.tick()


@pytest.mark.parametrize("stage", ["changes", "current"])
def test_materialization_that_another_program_reports_is_followed(folder_lake: Make, stage: str) -> None:
    lake = folder_lake(orders={"aurora": AURORA})
    ticks = Ticks(lake.defs, lake.instance)
    ticks.tick()

    partition = DAY[0] if stage == "changes" else None
    lake.instance.report_runless_asset_event(dg.AssetMaterialization([stage, "orders"], partition=partition))

    expected = {"aurora/orders": {None}} | ({"current/orders": {None}} if stage == "changes" else {})
    assert ticks.tick() == expected


def lake_with_days(checks: Mapping[str, str] | None = None, **days: str) -> dg.Definitions:
    table = {
        "name": "orders",
        "key": ["id"],
        "changes": {"uri": "s3://landing/"},
        "daily_states": {"start": "2026-03-01", **days},
        "checks": dict(checks or {}),
    }
    return dg.build_defs_for_component(
        DynamoDBLakeComponent.resolve_from_dict({"warehouse": "lake", "tables": [table]})
    )


def test_day_is_requested_each_hour_while_it_is_missing_once_it_can_be_certain() -> None:
    with dg.DagsterInstance.ephemeral() as instance:
        ticks = Ticks(lake_with_days(), instance, NIGHT - timedelta(minutes=10))
        assert ticks.tick() == {}
        assert ticks.tick(timedelta(minutes=40)) == {}, "00:30: what is late by `max_lag` may still land"
        yesterday = {"daily/orders": {"2026-03-03"}}
        assert ticks.tick(timedelta(minutes=5)) == yesterday
        assert ticks.tick() == {}, "it is requested at most once an hour"
        assert ticks.tick(timedelta(hours=1)) == yesterday, "the run failed"
        event = dg.AssetMaterialization(["daily", "orders"], partition="2026-03-03")
        instance.report_runless_asset_event(event)
        assert ticks.tick(timedelta(hours=1)) == {}
        assert ticks.tick(timedelta(days=1)) == {"daily/orders": {"2026-03-04"}}, "an idle table has days too"


def test_days_with_a_schedule_are_left_to_it() -> None:
    graph = lake_with_days(schedule="30 2 * * *").resolve_asset_graph()
    assert graph.get(dg.AssetKey(["daily", "orders"])).automation_condition is None


@pytest.mark.parametrize(
    ("max_lag", "ready"),
    [
        ("1m", "00:02"),
        ("59m", "01:00"),
        ("1h", "01:01"),
        ("22h58m", "22:59"),
        ("23h59m", None),
        ("24h", None),
        ("7d", None),
    ],
)
def test_day_is_first_requested_when_it_can_be_certain(max_lag: str, ready: str | None) -> None:
    defs = lake_with_days({"max_lag": max_lag})
    with dg.DagsterInstance.ephemeral() as instance:
        ticks = Ticks(defs, instance, NIGHT)
        assert ticks.tick(timedelta(0)) == {}
        if ready is None:
            assert ticks.tick(timedelta(hours=23, minutes=59)) == {}
            return
        hour, minute = map(int, ready.split(":"))
        assert ticks.tick(timedelta(hours=hour, minutes=minute - 1)) == {}
        assert ticks.tick(timedelta(minutes=1)) == {"daily/orders": {"2026-03-03"}}


def test_sensor_of_the_conditions_is_stopped_until_it_is_chosen(folder_lake: Make) -> None:
    tables = [{"name": "orders", "key": ["id"], "changes": {"uri": "s3://landing/"}}]
    for chosen, running in ((False, False), (["sensor"], False), (["following"], True), (True, True)):
        attributes = {"warehouse": "lake", "key_prefix": "lake", "run_automatically": chosen, "tables": tables}
        defs = dg.build_defs_for_component(DynamoDBLakeComponent.resolve_from_dict(attributes))
        sensor = defs.resolve_sensor_def("lake_following")
        assert (sensor.default_status == dg.DefaultSensorStatus.RUNNING) == running
        assert isinstance(sensor, dg.AutomationConditionSensorDefinition)
        assert sensor.run_tags == {"ddb_lake/lake": "lake"}, "the sensor of arrivals counts its runs as under way"
