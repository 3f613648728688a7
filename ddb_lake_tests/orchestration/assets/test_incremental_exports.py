"""Incremental exports under Dagster: the sensor asks for windows and for loads, and one run starts each window."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import dagster as dg
import pytest

from ddb_lake import DynamoDBLakeComponent
from ddb_lake.aws.export_requests import start_export
from ddb_lake.executors import open_lake
from ddb_lake.orchestration.in_process_daemon import InProcessDaemon, Run
from ddb_lake.orchestration.sensor import arrivals_sensor
from ddb_lake.pipeline.open_lake import Lake
from ddb_lake.pipeline.sync import sync
from ddb_lake.sandbox import Sandbox, Traffic
from ddb_lake_tests.support.sandbox_lake import BUCKET, assert_lake_is_source, orders_source


@pytest.fixture
def sandbox(monkeypatch: pytest.MonkeyPatch) -> Iterator[Sandbox]:
    with orders_source(monkeypatch) as sandbox:
        yield sandbox


def test_sensor_keeps_a_table_up_to_date_by_incremental_exports_alone(
    sandbox: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    orders = {"name": "orders", "export": {"bucket": BUCKET}, "changes": {"incremental_exports": {}}}
    component = DynamoDBLakeComponent(warehouse=str(tmp_path / "lake"), tables=[orders])  # type: ignore[arg-type]

    monkeypatch.setattr(DynamoDBLakeComponent, "_open", lambda self, log=None: _opened(component, sandbox))
    defs = dg.build_defs_for_component(component)
    assert dg.AssetKey(["increments", "orders"]) in defs.resolve_asset_graph().get_all_asset_keys()
    traffic = Traffic(sandbox.client("dynamodb"), seed=4, now=sandbox.clock.now)
    traffic.insert(6)
    sandbox.clock.advance(timedelta(seconds=2))
    with dg.DagsterInstance.ephemeral() as instance:
        sensor = arrivals_sensor(defs)
        ticker = InProcessDaemon(defs, instance, sensor.name)
        _full_export(component, sandbox)
        traffic.run(5)
        sandbox.clock.advance(timedelta(minutes=16))
        reasons = [run.reason for run in _settle(ticker, sandbox)]
        assert any("1 incremental exports are due" in reason for reason in reasons)
        assert any("the incremental export of" in reason for reason in reasons)
    with _opened(component, sandbox) as lake:
        assert_lake_is_source(lake, sandbox)


@contextmanager
def _opened(component: DynamoDBLakeComponent, sandbox: Sandbox) -> Iterator[Lake]:
    """The lake, with the sandbox's clock."""
    with open_lake(component.settings) as lake:
        lake.now = sandbox.clock.now
        yield lake


def _full_export(component: DynamoDBLakeComponent, sandbox: Sandbox) -> None:
    start_export(component.settings.table("orders"), at=sandbox.clock.now().replace(microsecond=0))
    with _opened(component, sandbox) as lake:
        sync(lake)


def _settle(ticker: InProcessDaemon, sandbox: Sandbox) -> list[Run]:
    """Tick a minute apart until two ticks in a row request nothing. Returns the runs; fails if one failed."""
    runs: list[Run] = []
    quiet = 0
    while quiet < 2:
        tick = ticker.tick()
        assert all(run.success for run in tick.runs)
        quiet = 0 if tick.runs else quiet + 1
        runs += tick.runs
        sandbox.clock.advance(timedelta(seconds=61))
    return runs
