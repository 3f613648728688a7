"""`ddb-lake sandbox` and its subcommands, against a sandbox that serves."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result

from ddb_lake.cli.commands import sandbox as sandbox_command
from ddb_lake.sandbox import Sandbox, create_orders_table
from ddb_lake.sandbox.web_analytics import create_web_analytics_table
from ddb_lake_tests.support.command_line import Run
from ddb_lake_tests.support.sandbox_steps import make_bucket, make_stream, stream_records

ECHO = """
import os
def handler(event, context):
    print("\\x1b[31mred")
    return {"color": os.environ.get("COLOR"), "n": event["n"]}
"""


@pytest.fixture
def sandbox(monkeypatch: pytest.MonkeyPatch) -> Iterator[Sandbox]:
    with Sandbox() as running:
        for name, value in running.environment().items():
            monkeypatch.setenv(name, value)
        yield running


def test_sandbox_serves_the_projects_functions_and_those_of_files(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mine.py").write_text(ECHO)
    monkeypatch.chdir(tmp_path)
    answers: dict[str, Any] = {}

    def use(_port: int, on_ready: Any, *, region: str, functions: Any, stop: threading.Event) -> None:
        with Sandbox(region=region, functions=functions) as served:
            on_ready(served)
            client = served.client("lambda")
            answers["names"] = {one["FunctionName"] for one in client.list_functions()["Functions"]}
            answers["mine"] = json.load(client.invoke(FunctionName="mine", Payload=b'{"n": 1}')["Payload"])
            wrong = client.invoke(FunctionName="transform", Payload=b"{}")  # an invalid setting
            answers["transform"] = json.load(wrong["Payload"])["errorMessage"]

    monkeypatch.setattr("ddb_lake.sandbox.serve", use)
    done = run(
        "sandbox",
        "--function",
        "mine=mine.py:handler",
        "--env",
        "mine:COLOR=a=b",
        "--env",
        "transform:DDB_LAKE_MODE=none",
    )
    assert done.exit_code == 0
    assert "export AWS_ENDPOINT_URL=http://127.0.0.1:" in done.stdout
    assert "\\x1b[31mred" in done.stderr and "\x1b" not in done.stderr
    assert answers["names"] == {"transform", "validate", "forward", "replicate", "load_aurora", "mine"}
    assert answers["mine"] == {"color": "a=b", "n": 1}
    assert "DDB_LAKE_MODE" in answers["transform"]


@pytest.mark.parametrize(
    "arguments",
    [
        ("--function", "mine"),
        ("--function", "mine=absent.py:handler"),
        ("--function", "a b=json:loads"),
        ("--env", "mine"),
        ("--env", "absent:A=1"),
        ("--port", "1", "advance", "1m"),
        ("advance", "soon"),
        ("traffic", "--shape", "clicks", "--table", "t"),
        ("traffic", "--shape", "orders", "--stream", "s"),
    ],
)
def test_wrong_arguments_are_usage_errors(run: Run, arguments: tuple[str, ...], tmp_path: Path) -> None:
    assert run("sandbox", *arguments).exit_code == 2


def test_commands_without_a_sandbox_say_so(run: Run) -> None:
    done = run("sandbox", "traffic", "--endpoint-url", "http://127.0.0.1:9")
    assert (done.exit_code, "no sandbox answers" in done.stderr) == (2, True)


def test_advance_delivers_what_is_due_then(run: Run, sandbox: Sandbox) -> None:
    make_bucket(sandbox)
    sandbox.client("firehose").create_delivery_stream(
        DeliveryStreamName="hose",
        S3DestinationConfiguration={
            "RoleARN": "arn:aws:iam::123456789012:role/firehose",
            "BucketARN": "arn:aws:s3:::landing",
            "BufferingHints": {"SizeInMBs": 1, "IntervalInSeconds": 120},
        },
    )
    sandbox.client("firehose").put_record(DeliveryStreamName="hose", Record={"Data": b"{}"})
    assert json.loads(run("sandbox", "advance", "119s", "--json").stdout)["objects"] == []
    first = run("sandbox", "advance", "10s").stdout.splitlines()
    assert first[0].endswith(": 1 object written")
    assert sandbox.client("s3").list_objects_v2(Bucket="landing")["Contents"][0]["Key"] == first[1]


def _traffic(run: Run, *arguments: object) -> dict[str, Any]:
    done: Result = run("sandbox", "traffic", *arguments, "--json")
    assert done.exit_code == 0, done.stderr
    return dict(json.loads(done.stdout))


@pytest.mark.parametrize("shape", ["employees", "orders", "web-analytics"])
def test_traffic_makes_exactly_the_stated_changes_and_the_same_ones_again(
    run: Run, sandbox: Sandbox, shape: str
) -> None:
    seen = []
    for name in ("first", "second"):
        client = sandbox.client("dynamodb")
        if shape == "orders":
            create_orders_table(client, name)
        elif shape == "web-analytics":
            create_web_analytics_table(client, name)
        else:
            client.create_table(
                TableName=name,
                KeySchema=[{"AttributeName": "id", "KeyType": "HASH"}],
                AttributeDefinitions=[{"AttributeName": "id", "AttributeType": "S"}],
                BillingMode="PAY_PER_REQUEST",
            )
        if name == "first":
            arn = make_stream(sandbox, name)
        else:
            client.enable_kinesis_streaming_destination(TableName=name, StreamArn=arn)
        made = _traffic(run, "--shape", shape, "--table", name, "--count", 40, "--seed", 3)
        records = [record for record in stream_records(sandbox, arn) if record["tableName"] == name]
        assert made["count"] == len(records) == 40
        kinds = {"INSERT": "inserts", "MODIFY": "updates", "REMOVE": "deletes"}
        counted = {kinds[kind]: [r["eventName"] for r in records].count(kind) for kind in kinds}
        assert made["changes"] == counted
        times = ("placed_at", "expires_at")
        images = [r["dynamodb"].get("NewImage", {}) for r in records]
        seen.append(sorted(json.dumps({k: v for k, v in i.items() if k not in times}) for i in images))
    assert seen[0] == seen[1]


def test_traffic_of_clicks_goes_into_the_stream(run: Run, sandbox: Sandbox) -> None:
    arn = make_stream(sandbox)
    assert _traffic(run, "--shape", "clicks", "--stream", "changes", "--count", 12)["changes"] == {"puts": 12}
    assert len({event["nano_timestamp"] for event in stream_records(sandbox, arn)}) == 12
    one = run("sandbox", "traffic", "--shape", "clicks", "--stream", "changes", "--count", 1)
    assert one.stdout == "changes: 1 change: 1 put\n"


def test_traffic_says_how_to_create_what_it_needs(run: Run, sandbox: Sandbox) -> None:
    done = run("sandbox", "traffic", "--shape", "employees", "--table", "absent")
    assert done.exit_code == 2
    assert "aws dynamodb create-table --table-name absent" in done.stderr
    create_orders_table(sandbox.client("dynamodb"))
    done = run("sandbox", "traffic", "--shape", "employees", "--table", "orders")
    assert (done.exit_code, "expected id, found customer, order_id" in done.stderr) == (2, True)


def test_shapes_of_the_command_are_those_of_the_generator() -> None:
    from ddb_lake.sandbox.generator import SHAPES

    assert set(sandbox_command._SHAPES) == set(SHAPES)
