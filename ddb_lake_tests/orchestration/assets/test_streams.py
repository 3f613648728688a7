"""Streams read by runs that the sensor requests, against the embedded emulator."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest

from ddb_lake.aws.landing_writer import Landing
from ddb_lake.aws.session import session
from ddb_lake.checks.check import Subject
from ddb_lake.checks.gaps import LONGEST_UNREAD_S, stream_complete
from ddb_lake.core.capture.checkpoints import Checkpoint, dump
from ddb_lake.orchestration import run_requests
from ddb_lake.pipeline.capture import streams
from ddb_lake.pipeline.capture.streams import CHECKPOINT
from ddb_lake.pipeline.plan.planner import Busy
from ddb_lake.sandbox import Sandbox, Traffic, create_orders_table
from ddb_lake.sandbox.items import canonical
from ddb_lake_tests.support.dagster_folders import FolderLake, check
from ddb_lake_tests.support.memory_store import NOW, Steps
from ddb_lake_tests.support.sandbox_steps import scan

Make = Callable[..., FolderLake]


@pytest.fixture
def sandbox(without_telemetry: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[Sandbox]:
    with Sandbox() as running:
        for name, value in running.environment().items():
            monkeypatch.setenv(name, value)
        session.cache_clear()
        create_orders_table(running.client("dynamodb"), streams=True)
        monkeypatch.setattr(run_requests, "FOLLOW_S", 0.5)
        monkeypatch.setattr(run_requests, "LEAST_S", 0.1)
        monkeypatch.setattr(streams, "POLL_S", 0.04)
        yield running
        session.cache_clear()


def test_sensor_has_streams_read_and_what_landed_applied(sandbox: Sandbox, folder_lake: Make) -> None:
    lake = folder_lake(orders={"changes": {"streams": True}})
    traffic = Traffic(sandbox.client("dynamodb"))
    traffic.insert(10)

    (reading,) = lake.ticker.tick().runs

    assert reading.success
    assert [asset for asset, _ in reading.materialized] == ["streams/orders"]
    assert reading.metadata["streams/orders"]["records landed"] == 10
    assert check(reading, "streams/orders", "stream_complete").passed

    traffic.run(5)
    again, applying = sorted(lake.ticker.tick().runs, key=lambda run: run.reason.startswith("orders"))

    assert again.reason == "read streams: orders"
    assert {asset for asset, _ in applying.materialized} == {"changes/orders", "current/orders"}
    lake.ticker.tick()
    items = sorted(canonical(json.loads(line)["Item"]) for line in lake.items())
    assert items == scan(sandbox, "orders")


def test_check_is_red_while_a_gap_is_open_and_says_what_repairs_it(sandbox: Sandbox, folder_lake: Make) -> None:
    lake = folder_lake(orders={"changes": {"streams": True}})
    lake.ticker.tick()
    specification: dict[str, Any] = {"StreamEnabled": False}
    sandbox.client("dynamodb").update_table(TableName="orders", StreamSpecification=specification)

    (reading,) = lake.ticker.tick().runs

    found = check(reading, "streams/orders", "stream_complete")
    assert reading.success
    assert not found.passed
    assert "repair orders --gaps" in (found.description or "")


def test_check_is_red_when_the_stream_is_not_read(steps: Callable[..., Steps]) -> None:
    lake = steps({"name": "orders", "key": ["id"], "changes": {"streams": True}})
    subject = Subject(lake.lake, lake.settings.table("orders"))
    assert stream_complete(subject).state == "unknown"
    _write_checkpoint(lake, NOW - timedelta(hours=1))
    assert stream_complete(subject).state == "pass"
    lake.now = NOW + timedelta(seconds=LONGEST_UNREAD_S)
    found = stream_complete(subject)
    assert (found.state, "not read for" in found.text) == ("fail", True)


def test_reading_is_requested_when_the_last_one_is_done_and_after_pauses_if_it_never_is(
    steps: Callable[..., Steps],
) -> None:
    lake = steps({"name": "orders", "key": ["id"], "changes": {"streams": True}})
    assert [work.kind for work in lake.tick().work] == ["read"]
    assert lake.tick().work == []  # it has not come to be
    lake.now = NOW + timedelta(minutes=2)
    assert [(work.kind, work.tries) for work in lake.tick().work] == [("read", 2)]
    _write_checkpoint(lake, NOW)
    assert [(work.kind, work.tries) for work in lake.tick(Busy(reading={"orders"})).work] == []
    assert [(work.kind, work.tries) for work in lake.tick().work] == [("read", 1)]


def _write_checkpoint(lake: Steps, at: Any) -> None:
    uri = lake.settings.stream_landing(lake.settings.table("orders"))
    assert uri is not None
    written = dump(Checkpoint(read_us=int(at.timestamp() * 1e6)))
    Landing(lake.store, uri).replace(CHECKPOINT, written, None)
