"""`ddb-lake follow` in a process: streams, Kinesis and landed objects in the sandbox; signals, exit status, JSON."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ddb_lake.aws.session import session
from ddb_lake.sandbox import Sandbox, create_orders_table
from ddb_lake_tests.support.command_line import Run
from ddb_lake_tests.support.effort import cases
from ddb_lake_tests.support.sandbox_steps import make_stream

STREAMS = "warehouse: warehouse\ntables:\n  - {name: orders, changes: {streams: true}}\n"
KINESIS = "warehouse: warehouse\ntables:\n  - {name: orders, changes: {kinesis: changes}}\n"
FAN_OUT = KINESIS.replace("{kinesis: changes}", "{kinesis: changes, fan_out: lake}")


@pytest.fixture
def account(project: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Sandbox]:
    """A sandbox with one order in a table with a DynamoDB stream and a Kinesis stream."""
    with Sandbox() as served:
        for name, value in served.environment().items():
            monkeypatch.setenv(name, value)
        session.cache_clear()
        create_orders_table(served.client("dynamodb"), streams=True)
        make_stream(served, "orders")
        _order(served, "1")
        (project / "ddb_lake.yaml").write_text(STREAMS)
        yield served
        session.cache_clear()


def _order(sandbox: Sandbox, number: str) -> None:
    item = {"customer": {"S": "ann"}, "order_id": {"S": number}}
    sandbox.client("dynamodb").put_item(TableName="orders", Item=item)


@pytest.mark.parametrize("configuration", [STREAMS, KINESIS, FAN_OUT], ids=["streams", "kinesis", "fan-out"])
def test_once_lands_and_applies_what_there_is(run: Run, account: Sandbox, project: Path, configuration: str) -> None:
    (project / "ddb_lake.yaml").write_text(configuration)
    account.settle()
    result = run("follow", "--once", "--json")
    assert result.exit_code == 0, result.stderr
    events = [json.loads(line) for line in result.stdout.splitlines()]
    (turn,) = (event for event in events if event["event"] == "turn")
    assert (turn["landed_records"], turn["new"], turn["rows"], turn["gaps"]) == (1, 1, 1, 0)
    assert events[-1]["event"] == "stopped"
    assert len(run("dump", "orders").stdout.splitlines()) == 1
    again = run("follow", "--once", "--emf")
    assert (again.exit_code, again.stdout) == (0, "")
    documents = [json.loads(line) for line in again.stderr.splitlines() if line.startswith("{")]
    values = {name: value for document in documents for name, value in document.items()}
    assert (values["ddb_lake_followed"], values["ddb_lake_rows"], values["ddb_lake_lag_seconds"]) == (1, 1, 0)


def test_doctor_examines_the_consumer_of_enhanced_fan_out(run: Run, account: Sandbox, project: Path) -> None:
    (project / "ddb_lake.yaml").write_text(FAN_OUT)
    kinesis = account.client("kinesis")
    assert "`ddb-lake follow` registers the consumer lake" in run("doctor").stdout
    stream = kinesis.describe_stream(StreamName="changes")["StreamDescription"]["StreamARN"]
    assert kinesis.list_stream_consumers(StreamARN=stream)["Consumers"] == [], "doctor changes nothing"
    kinesis.register_stream_consumer(StreamARN=stream, ConsumerName="lake")
    assert "the consumer lake is active" in run("doctor").stdout


def test_landed_objects_are_applied(run: Run, project: Path) -> None:
    (project / "ddb_lake.yaml").write_text(
        "warehouse: warehouse\ntables:\n  - {name: orders, key: [id], changes: {uri: landing}}\n"
    )
    body = {
        "ApproximateCreationDateTime": 1_772_357_400_000,
        "Keys": {"id": {"S": "1"}},
        "NewImage": {"id": {"S": "1"}},
    }
    record = {"eventID": "1", "eventName": "INSERT", "tableName": "orders", "dynamodb": body}
    landing = project / "landing/2026/03/01/09"
    landing.mkdir(parents=True)
    (landing / "object").write_text(json.dumps(record))
    result = run("follow", "--once")
    assert result.exit_code == 0, result.stderr
    assert "1 new of 1 record" in result.stdout
    assert len(run("dump", "orders").stdout.splitlines()) == 1


def test_object_whose_records_all_go_to_quarantine_ends_with_status_1(run: Run, project: Path) -> None:
    (project / "ddb_lake.yaml").write_text(
        "warehouse: warehouse\ntables:\n  - {name: orders, key: [id], changes: {uri: landing}}\n"
    )
    (project / "landing").mkdir()
    (project / "landing/object").write_text("garbage")
    result = run("follow", "--once")
    assert result.exit_code == 1
    assert "nothing could be ingested" in result.stderr


def test_gap_ends_with_status_1(run: Run, account: Sandbox, project: Path) -> None:
    assert run("follow", "--once").exit_code == 0
    dynamodb = account.client("dynamodb")
    dynamodb.update_table(TableName="orders", StreamSpecification={"StreamEnabled": False})
    result = run("follow", "--once")
    assert result.exit_code == 1
    assert "repair orders --gaps" in result.stderr


@pytest.mark.parametrize("options", [(), ("--once",)], ids=["continuous", "once"])
def test_wrong_configuration_ends_with_status_2(
    run: Run, account: Sandbox, project: Path, options: tuple[str, ...]
) -> None:
    (project / "ddb_lake.yaml").write_text(KINESIS.replace("changes}}", "absent}}"))
    result = run("follow", *options)
    assert result.exit_code == 2
    assert "the Kinesis stream absent does not exist" in result.stderr
    (leases,) = project.rglob("leases.json")
    assert "orders" not in leases.read_text(), "another follower need not wait"


@pytest.mark.parametrize("configuration", cases([STREAMS, FAN_OUT], quick=[STREAMS]), ids=["streams", "fan-out"])
def test_follower_runs_until_sigterm_and_ends_with_status_0(
    account: Sandbox, project: Path, configuration: str
) -> None:
    (project / "ddb_lake.yaml").write_text(configuration)
    command = [sys.executable, "-m", "ddb_lake.cli", "follow", "--interval", "1s", "--json"]
    with subprocess.Popen(
        command, cwd=project, env=dict(os.environ), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        events = _until(process.stdout, "new", 1)
        _order(account, "2")
        account.settle()
        events += _until(process.stdout, "rows", 2)
        process.send_signal(signal.SIGTERM)
        rest, errors = process.communicate()
        events += [json.loads(line) for line in rest.splitlines()]
        assert process.returncode == 0, errors
        assert "Traceback" not in errors
    assert [event["event"] for event in events if event["event"] in ("failed", "stopped")] == ["stopped"]


def _until(lines: Any, name: str, value: int) -> list[dict[str, Any]]:
    """The events up to the first whose figure `name` has the value."""
    events = []
    for line in lines:
        events.append(json.loads(line))
        if events[-1].get(name) == value:
            return events
    raise AssertionError(f"it ended before {name} was {value}: {events}")


def test_sync_and_status_export_metrics(run: Run, account: Sandbox, project: Path) -> None:
    result = run("sync", "--metrics-file", "lake.prom", "--emf")
    assert result.exit_code == 0, result.stderr
    text = (project / "lake.prom").read_text()
    assert 'ddb_lake_landed_records_total{table="orders"} 1.0' in text
    assert 'ddb_lake_rows{table="orders"} 1.0' in text
    documents = [json.loads(line) for line in result.stderr.splitlines() if line.startswith("{")]
    assert [one["ddb_lake_rows"] for one in documents if "ddb_lake_rows" in one] == [1.0]
    assert run("status", "--metrics-file", "status.prom").exit_code == 0
    assert 'ddb_lake_rows{table="orders"} 1.0' in (project / "status.prom").read_text()
    assert run("status", "--watch", "1", "--emf").exit_code == 2
