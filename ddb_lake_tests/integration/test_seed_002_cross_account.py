"""Change data capture from one account into another's data lake: the stream and the transformation.

The tables, their Kinesis stream and Firehose are the producer's; the bucket and the lake are the consumer's, who has no
way to the tables. The full load across accounts has tests of its own.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from ddb_lake.aws.session import session
from ddb_lake.config import parse_settings
from ddb_lake.executors import open_lake
from ddb_lake.lambdas import transform
from ddb_lake.pipeline.apply.apply import apply_objects
from ddb_lake.pipeline.maintain.quarantine import replay_quarantine
from ddb_lake.pipeline.open_lake import Lake
from ddb_lake.sandbox import Delivery, DeliveryStream, Function, Sandbox, StreamFaults
from ddb_lake_tests.support.crashing_lake import NO_OBJECT, apply_with_crashes, changelog_rows, quarantined
from ddb_lake_tests.support.sandbox_lake import START, assert_lake_is_source, point_at
from ddb_lake_tests.support.sandbox_steps import make_stream, raw_records

CONSUMER = "444455556666"
BUCKET = "consumer-lake"
EXAMPLE, OTHER = "example-ddb-table", "other-ddb-table"
TABLES = {"DDB_LAKE_PARTITION_KEYS": "table"}
PREFIX = "!{partitionKeyFromLambda:table}/!{timestamp:yyyy/MM/dd/HH}/"


@pytest.fixture
def sandbox(monkeypatch: pytest.MonkeyPatch) -> Iterator[Sandbox]:
    """The producer's account, with this process's own clients in the consumer's, as a role of it."""
    with Sandbox(start=START, faults=StreamFaults(duplicates=0.3, reordering=0.3, seed=2)) as running:
        point_at(running, monkeypatch)
        role = running.client("sts").assume_role(RoleArn=f"arn:aws:iam::{CONSUMER}:role/lake", RoleSessionName="lake")
        for name, member in (("ACCESS_KEY_ID", "AccessKeyId"), ("SECRET_ACCESS_KEY", "SecretAccessKey")):
            monkeypatch.setenv(f"AWS_{name}", role["Credentials"][member])
        monkeypatch.setenv("AWS_SESSION_TOKEN", role["Credentials"]["SessionToken"])
        session.cache_clear()
        location: Any = {"LocationConstraint": running.region}
        consumer("s3").create_bucket(Bucket=BUCKET, CreateBucketConfiguration=location)
        for name in (EXAMPLE, OTHER):
            running.client("dynamodb").create_table(
                TableName=name,
                KeySchema=[{"AttributeName": "id", "KeyType": "HASH"}],
                AttributeDefinitions=[{"AttributeName": "id", "AttributeType": "S"}],
                BillingMode="PAY_PER_REQUEST",
            )
        yield running
    session.cache_clear()


def consumer(service: str) -> Any:
    return session().client(service)  # type: ignore[call-overload]


def put(sandbox: Sandbox, table: str, key: str, **attributes: str) -> None:
    item = {"id": {"S": key}, **{name: {"S": text} for name, text in attributes.items()}}
    sandbox.client("dynamodb").put_item(TableName=table, Item=item)


def delivery(sandbox: Sandbox, arn: str, function: Function) -> DeliveryStream:
    return sandbox.delivery_stream(
        Delivery(
            name="producer",
            bucket=BUCKET,
            prefix=PREFIX,
            error_prefix="errors/!{firehose:error-output-type}/!{timestamp:yyyy/MM/dd/HH}/",
            source=arn,
            buffer_bytes=4096,
            transform=function,
            transform_bytes=4096,
        )
    )


def lake_at(folder: Path, *tables: dict[str, Any]) -> AbstractContextManager[Lake]:
    configured = tables or ({"name": EXAMPLE, "key": ["id"]}, {"name": OTHER, "key": ["id"]})
    return open_lake(parse_settings({"warehouse": str(folder), "tables": list(configured)}, "test"))


def test_consumer_has_every_item_of_the_producer_without_a_way_to_the_tables(sandbox: Sandbox, tmp_path: Path) -> None:
    arn = make_stream(sandbox, EXAMPLE, "MICROSECOND")
    declared: Any = {"ApproximateCreationDateTimePrecision": "MILLISECOND"}
    sandbox.client("dynamodb").enable_kinesis_streaming_destination(
        TableName=OTHER, StreamArn=arn, EnableKinesisStreamingConfiguration=declared
    )
    function = Function(transform.handler, TABLES, faults=["throttle", "timeout"])
    stream = delivery(sandbox, arn, function)
    for designation in ("Architect", "Sr. Architect", "Developer Advocate"):  # as in the document
        put(sandbox, EXAMPLE, "864732", name="Adam", Designation=designation)
    for number in range(40):
        put(sandbox, (EXAMPLE, OTHER)[number % 2], f"k{number % 12}", v=str(number))
    sandbox.client("kinesis").put_record(StreamARN=arn, Data=b"poison", PartitionKey="p")
    stream.pump()
    sandbox.client("dynamodb").delete_item(TableName=EXAMPLE, Key={"id": {"S": "k0"}})
    function.fail_next(*["error"] * 4)
    stream.flush()

    with pytest.raises(ClientError, match="not found"):
        consumer("dynamodb").describe_table(TableName=EXAMPLE)
    places = [f"s3://{BUCKET}/{EXAMPLE}/", f"s3://{BUCKET}/errors/"]
    assert apply_with_crashes(lambda: lake_at(tmp_path), EXAMPLE, places) > 4
    apply_with_crashes(lambda: lake_at(tmp_path), OTHER, [f"s3://{BUCKET}/{OTHER}/"])
    captured = {r["eventID"]: r["tableName"] for r in _captured(sandbox, arn)}
    with lake_at(tmp_path) as lake:
        assert quarantined(lake, EXAMPLE) == {NO_OBJECT: 1}
        for table in (EXAMPLE, OTHER):
            assert changelog_rows(lake, table) == list(captured.values()).count(table)
            assert_lake_is_source(lake, sandbox, table)
    listed = consumer("s3").list_objects_v2(Bucket=BUCKET)["Contents"]
    assert {entry["Key"].split("/")[0] for entry in listed} == {EXAMPLE, OTHER, "errors"}


def _captured(sandbox: Sandbox, arn: str) -> list[dict[str, Any]]:
    return [json.loads(record["Data"]) for record in raw_records(sandbox, arn) if record["Data"] != b"poison"]


def test_records_without_their_tables_key_replay_once_the_lake_knows_it(sandbox: Sandbox, tmp_path: Path) -> None:
    """A flattening transformation of the producer's own says no key: what it delivered waits for the consumer's `key`."""
    arn = make_stream(sandbox, EXAMPLE)

    def flattening_as_others_do(event: dict[str, Any], context: object) -> dict[str, Any]:
        answer = transform.handler(event, context)
        for result in answer["records"]:
            row = json.loads(base64.b64decode(result["data"]))
            del row["_ddb_lake"]
            result["data"] = base64.b64encode(json.dumps(row).encode() + b"\n").decode()
        return answer

    stream = delivery(sandbox, arn, Function(flattening_as_others_do, {"DDB_LAKE_MODE": "flatten", **TABLES}))
    put(sandbox, EXAMPLE, "864732", name="Adam", Designation="Architect")
    stream.flush()
    places = [f"s3://{BUCKET}/{EXAMPLE}/"]
    with lake_at(tmp_path, {"name": EXAMPLE}) as lake:
        apply_objects(lake, EXAMPLE, places)
        (count,) = quarantined(lake, EXAMPLE).values()
        assert count == len(raw_records(sandbox, arn))
    with lake_at(tmp_path) as lake:
        assert replay_quarantine(lake, EXAMPLE).still_quarantined == 0
        assert_lake_is_source(lake, sandbox, EXAMPLE)
