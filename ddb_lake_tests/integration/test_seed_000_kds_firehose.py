"""Streaming DynamoDB data into a centralised data lake: table, Kinesis Data Streams, Firehose with a Lambda, S3, lake.

What the post deploys, with the handler that is deployed here, and with what it does not speak of: records that come twice
and out of order, a transformation that is throttled, times out and fails, records that are none, crashes.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest

from ddb_lake.aws.session import session
from ddb_lake.config import parse_settings
from ddb_lake.executors import open_lake
from ddb_lake.lambdas import transform
from ddb_lake.pipeline.apply.apply import apply_objects
from ddb_lake.pipeline.maintain.quarantine import replay_quarantine
from ddb_lake.pipeline.open_lake import Lake
from ddb_lake.sandbox import Delivery, DeliveryStream, Function, Sandbox, StreamFaults, Traffic, create_orders_table
from ddb_lake_tests.support import envelopes
from ddb_lake_tests.support.crashing_lake import NO_OBJECT, apply_with_crashes, changelog_rows, quarantined
from ddb_lake_tests.support.decoded_changes import CHANGE
from ddb_lake_tests.support.effort import cases
from ddb_lake_tests.support.sandbox_lake import START, assert_lake_is_source, point_at
from ddb_lake_tests.support.sandbox_steps import BUCKET, make_bucket, make_stream, objects, raw_records, stream_records

TABLE = "orders"
LANDED = [f"s3://{BUCKET}/orders/", f"s3://{BUCKET}/orders-failed/"]
CHEAP = {"schema": {"properties": {"total": {"type": "number", "maximum": 100}}}}
ALL: dict[str, Any] = {"schema": {"properties": {"total": {"type": "number"}}}}

WRONG_KEY = envelopes.compact({**envelopes.kds(CHANGE), "eventID": "poison"})
_NO_ENVELOPE = "no known envelope: its members are level; ddb_lake/docs/guides/ways-in.md lists what is read"
POISON = [b"\x00\xffno text", b'{"eventName":"INSERT","dynamodb":{"Keys":{', b'{"level":"INFO"}', WRONG_KEY]
"""No text, cut short, no change record, and the record of an item whose key is not the table's."""


@pytest.fixture
def sandbox(monkeypatch: pytest.MonkeyPatch) -> Iterator[Sandbox]:
    with Sandbox(start=START, faults=StreamFaults(duplicates=0.2, reordering=0.3, seed=5)) as running:
        point_at(running, monkeypatch)
        make_bucket(running)
        create_orders_table(running.client("dynamodb"), TABLE)
        yield running
    session.cache_clear()


def deliver(sandbox: Sandbox, arn: str, function: Function) -> DeliveryStream:
    """The post's delivery stream: small batches, its errors beside its data."""
    return sandbox.delivery_stream(
        Delivery(
            name=TABLE,
            bucket=BUCKET,
            prefix="orders/",
            error_prefix="orders-failed/",
            source=arn,
            buffer_bytes=24 * 1024,
            compression="GZIP",
            transform=function,
            transform_bytes=16 * 1024,
        )
    )


def lake_at(folder: Path, **table: Any) -> AbstractContextManager[Lake]:
    orders = {"name": TABLE, "key": ["customer", "order_id"], "changes": {"uri": LANDED[0]}, **table}
    return open_lake(parse_settings({"warehouse": str(folder), "tables": [orders]}, "test"))


@pytest.mark.parametrize("mode", cases(("envelope", "flatten"), quick=("envelope",)))
def test_every_item_arrives_whatever_goes_wrong_on_the_way(mode: str, sandbox: Sandbox, tmp_path: Path) -> None:
    arn = make_stream(sandbox, TABLE, "MICROSECOND")
    function = Function(transform.handler, {"DDB_LAKE_MODE": mode})
    stream = deliver(sandbox, arn, function)
    traffic = Traffic(sandbox.client("dynamodb"), TABLE, seed=3, now=sandbox.clock.now)
    kinesis = sandbox.client("kinesis")

    traffic.insert(30)
    function.fail_next("timeout", "throttle", "error")  # the fourth attempt succeeds
    stream.pump()
    for poison in POISON:
        traffic.run(10)
        kinesis.put_record(StreamARN=arn, Data=poison, PartitionKey="p")
    traffic.burst(4, held=sandbox.clock.held)
    stream.pump()
    traffic.update(5)
    function.fail_next(*["timeout"] * 4)  # no attempt succeeds: a whole batch goes to the error prefix
    stream.pump()
    traffic.recreate(4)
    traffic.delete(5)
    stream.flush()

    captured = {found["eventID"] for raw in raw_records(sandbox, arn) if (found := _record(raw["Data"])) is not None}
    crashes = apply_with_crashes(lambda: lake_at(tmp_path, validate=CHEAP), TABLE, LANDED)
    assert crashes > 4
    with lake_at(tmp_path, validate=CHEAP) as lake:
        found = quarantined(lake, TABLE)
        offenders = found.pop("schema: the item fails `maximum` at total")
        assert found == {
            NO_OBJECT: 1,
            "Firehose error Lambda.ProcessingFailedStatus: a damaged or truncated JSON object": 1,
            f"Firehose error Lambda.ProcessingFailedStatus: {_NO_ENVELOPE}": 1,
            "a key attribute is missing or no value at customer": 1,
        }
        assert changelog_rows(lake, TABLE) + offenders + 1 == len(captured)
        assert replay_quarantine(lake, TABLE).replayed == 0
    with lake_at(tmp_path, validate=ALL) as lake:  # the schema is corrected
        assert replay_quarantine(lake, TABLE).replayed == offenders
        assert sum(quarantined(lake, TABLE).values()) == len(POISON)
        assert changelog_rows(lake, TABLE) == len(captured) - 1
        assert_lake_is_source(lake, sandbox, TABLE)
    codes = {json.loads(line)["errorCode"] for data in _failed(sandbox) for line in data.splitlines()}
    assert codes == {"Lambda.FunctionTimedOut", "Lambda.ProcessingFailedStatus"}


def _record(data: bytes) -> dict[str, Any] | None:
    try:
        found = json.loads(data)
    except ValueError:
        return None
    return found if "dynamodb" in found else None


def _failed(sandbox: Sandbox) -> list[bytes]:
    return [data for name, data in objects(sandbox).items() if name.startswith("orders-failed/")]


def test_the_posts_own_commands(sandbox: Sandbox, tmp_path: Path) -> None:
    """Put the item 864732, then put it again with another designation; look at the file, then at the lake."""
    dynamodb = sandbox.client("dynamodb")
    dynamodb.create_table(
        TableName="blog-srsa-ddb-table",
        KeySchema=[{"AttributeName": "id", "KeyType": "HASH"}],
        AttributeDefinitions=[{"AttributeName": "id", "AttributeType": "S"}],
        BillingMode="PAY_PER_REQUEST",
    )
    arn = make_stream(sandbox, "blog-srsa-ddb-table", shards=10)
    stream = deliver(sandbox, arn, Function(transform.handler, {"DDB_LAKE_MODE": "flatten"}))
    for designation in ("Architect", "Senior Architect"):
        item = {"id": {"S": "864732"}, "name": {"S": "Adam"}, "Designation": {"S": designation}}
        dynamodb.put_item(TableName="blog-srsa-ddb-table", Item=item)
    stream.flush()
    settings = {"warehouse": str(tmp_path), "tables": [{"name": "blog-srsa-ddb-table"}]}
    with open_lake(parse_settings(settings, "test")) as lake:
        applied = apply_objects(lake, "blog-srsa-ddb-table", LANDED)
        assert (applied.new, applied.quarantined) == (2, 0)
        assert_lake_is_source(lake, sandbox, "blog-srsa-ddb-table")
    assert {r["eventName"] for r in stream_records(sandbox, arn)} == {"INSERT", "MODIFY"}
