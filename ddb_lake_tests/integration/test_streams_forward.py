"""DynamoDB Streams, the forwarder, Firehose with a transformation, S3, lake: nothing lost, nothing twice, in order."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ddb_lake.aws.session import session
from ddb_lake.config import parse_settings
from ddb_lake.core.operations.retry_policy import RetryPolicy
from ddb_lake.executors import open_lake
from ddb_lake.lambdas import forward, transform
from ddb_lake.pipeline.apply.apply import apply_objects
from ddb_lake.sandbox import Delivery, Function, Sandbox, StreamTrigger
from ddb_lake_tests.support.crashing_lake import NO_OBJECT, changelog_rows, quarantined
from ddb_lake_tests.support.sandbox_lake import START, assert_lake_is_source, point_at
from ddb_lake_tests.support.sandbox_steps import BUCKET, key, make_bucket, make_table, objects, put

STREAM = {"StreamSpecification": {"StreamEnabled": True, "StreamViewType": "NEW_AND_OLD_IMAGES"}}
ENVIRONMENT = {"DDB_LAKE_DELIVERY_STREAM": "hose", "DDB_LAKE_OVERSIZE_URI": f"s3://{BUCKET}/oversize"}


@pytest.fixture
def sandbox(monkeypatch: pytest.MonkeyPatch) -> Iterator[Sandbox]:
    with Sandbox(start=START) as running:
        point_at(running, monkeypatch)
        monkeypatch.setattr(forward, "LAMBDA", RetryPolicy(attempts=10, longest_wait_s=0.0))
        make_bucket(running)
        make_table(running, **STREAM)
        yield running
    session.cache_clear()
    forward._forwarder.cache_clear()


def test_every_change_arrives_once_and_large_ones_hold_nothing_up(sandbox: Sandbox, tmp_path: Path) -> None:
    client = sandbox.client("dynamodbstreams")
    arn = client.list_streams(TableName="things")["Streams"][0]["StreamArn"]
    function = Function(forward.handler, ENVIRONMENT, faults=["throttle", "timeout", "error"])
    trigger = StreamTrigger(client, arn, function, batch_size=20)
    stream = sandbox.delivery_stream(
        Delivery(
            name="hose",
            bucket=BUCKET,
            prefix="changes/",
            error_prefix="failed/",
            transform=Function(transform.handler, faults=["timeout"]),
            refuses=lambda call, number: call % 3 == 0 and number % 4 == 1,
        )
    )
    for number in range(90):
        put(sandbox, f"k{number % 20}", v={"N": str(number)})
        if number == 50:
            put(sandbox, "large", 1, x={"B": bytes(390_000)})
            put(sandbox, "large", 1, x={"B": b"\x01" * 390_000})  # with both images: more than Firehose takes
        if number % 9 == 8:
            sandbox.client("dynamodb").delete_item(TableName="things", Key=key(f"k{number % 20}"))
    polls = 0
    while trigger.poll() or trigger.waiting:
        polls += 1
        assert polls < 20
    stream.put(b"poison")
    stream.flush()
    assert len([name for name in objects(sandbox) if name.startswith("oversize/2026/03/01/09/")]) == 1
    places = [f"s3://{BUCKET}/{prefix}/" for prefix in ("changes", "oversize", "failed")]
    settings: dict[str, Any] = {"warehouse": str(tmp_path), "tables": [{"name": "things", "key": ["pk", "sk"]}]}
    with open_lake(parse_settings(settings, "test")) as lake:
        applied = apply_objects(lake, "things", places)
        assert applied.duplicates > 0  # what the functions did before their faults was done
        assert changelog_rows(lake, "things") == 90 + 2 + 10
        assert quarantined(lake, "things") == {NO_OBJECT: 1}
        assert_lake_is_source(lake, sandbox, "things")
