"""`ddb-lake streams`, and what `sync` and `doctor` make of a table that is read from its stream."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from ddb_lake.aws.session import session
from ddb_lake.pipeline.capture import streams
from ddb_lake.sandbox import Sandbox, create_orders_table
from ddb_lake_tests.support.command_line import Run

CONFIGURATION = "warehouse: warehouse\ntables:\n  - {name: orders, changes: {streams: true}}\n"


@pytest.fixture
def account(project: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Sandbox]:
    """The emulator with one order in a table with a stream; the environment has its endpoint."""
    with Sandbox() as served:
        for name, value in served.environment().items():
            monkeypatch.setenv(name, value)
        session.cache_clear()
        create_orders_table(served.client("dynamodb"), streams=True)
        _order(served, "1")
        (project / "ddb_lake.yaml").write_text(CONFIGURATION)
        monkeypatch.setattr(streams, "POLL_S", 0.01)
        yield served
        session.cache_clear()


def _order(sandbox: Sandbox, number: str) -> None:
    item = {"customer": {"S": "ann"}, "order_id": {"S": number}}
    sandbox.client("dynamodb").put_item(TableName="orders", Item=item)


def _switch(sandbox: Sandbox, **specification: object) -> None:
    sandbox.client("dynamodb").update_table(TableName="orders", StreamSpecification=specification)


def test_streams_lands_and_sync_reads_on_and_applies(run: Run, account: Sandbox, project: Path) -> None:
    result = run("streams", "orders", "--json")
    assert result.exit_code == 0, result.stderr
    document = json.loads(result.stdout)
    assert (document["records"], document["caught_up"], document["gaps"]) == (1, True, [])
    assert len(list((project / "warehouse/landing/orders").rglob("*.gz"))) == 1
    _order(account, "2")
    assert "read is due" in run("sync", "--dry-run").stdout
    result = run("sync", "--json")
    assert result.exit_code == 0, result.stderr
    kinds = [one["kind"] for one in json.loads(result.stdout)["results"]]
    assert kinds == ["read", "apply"]
    assert len(run("dump", "orders").stdout.splitlines()) == 2
    assert run("streams", "orders", "--for", "1s").exit_code == 0
    assert run("streams", "orders", "--for", "soon").exit_code == 2


def test_gap_ends_with_status_1_and_what_repairs_it(run: Run, account: Sandbox) -> None:
    run("streams", "orders")
    _switch(account, StreamEnabled=False)
    for command in (("streams", "orders"), ("sync",)):
        result = run(*command)
        assert result.exit_code == 1
        assert "ddb-lake repair orders --gaps" in result.stderr


@pytest.mark.parametrize(
    ("view", "state"), [("NEW_AND_OLD_IMAGES", "ok"), ("NEW_IMAGE", "warn"), ("KEYS_ONLY", "fail"), ("", "fail")]
)
def test_doctor_examines_the_stream(run: Run, account: Sandbox, view: str, state: str) -> None:
    if view != "NEW_AND_OLD_IMAGES":
        _switch(account, StreamEnabled=False)
        if view:
            _switch(account, StreamEnabled=True, StreamViewType=view)
    checks = json.loads(run("doctor", "--json").stdout)["checks"]
    (found,) = (one for one in checks if one["check"] == "orders: stream")
    assert found["state"] == state
    assert (found["next_step"] is None) == (state == "ok")


def test_table_that_is_not_read_from_its_stream_says_so(run: Run, project: Path) -> None:
    result = run("streams", "orders")
    assert result.exit_code == 2
