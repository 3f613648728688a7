"""A table in an AWS emulator, its changes delivered in one of several ways, and a lake of it that the command line keeps."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final, Protocol

import pytest

from ddb_lake.aws.session import session
from ddb_lake.core.layout.firehose_paths import expand_prefix, firehose_key
from ddb_lake.infra.packaging import build_package
from ddb_lake.sandbox import Sandbox
from ddb_lake.sandbox.kinesis_reader import KinesisReader
from ddb_lake_tests.support.command_line import Run
from ddb_lake_tests.support.s3_semantics import UNUSUAL_NAMES

PREFIX: Final = "orders/"
CONFIGURATION: Final = """\
type: ddb_lake.DynamoDBLakeComponent
attributes:
  warehouse: s3://{lake}/warehouse
  catalog: {catalog}
  tables:
    - name: orders
      export: {{bucket: {exports}}}
      changes: {changes}
"""
CATALOGS: Final = {"glue": {"type": "glue"}, "sql": {"type": "sql", "uri": "sqlite:///catalog.db"}}
LANDS_WITHIN_S: Final = 300
_ROLE: Final = "arn:aws:iam::123456789012:role/tests"
_MOST_IN_A_BATCH: Final = 100


class Service(Protocol):
    """What a path needs of an emulator."""

    def environment(self) -> dict[str, str]:
        """The environment variables with which AWS clients use it."""

    def bucket(self, name: str) -> str:
        """The name of a bucket of this path alone."""

    def client(self, service: str) -> Any:
        """A client of boto3."""


@dataclass(frozen=True, slots=True)
class SandboxAccount:
    """A sandbox, as a `Service`."""

    sandbox: Sandbox

    def environment(self) -> dict[str, str]:
        """Those of the sandbox."""
        return self.sandbox.environment()

    def bucket(self, name: str) -> str:
        """The name itself: a sandbox has one user."""
        return name

    def client(self, service: str) -> Any:
        """A client of the sandbox."""
        return self.sandbox.client(service)


@dataclass(frozen=True, slots=True)
class Delivery:
    """How change records get from the table to the landing objects.

    `start` is called before the changes, and returns a function that is called after them.
    """

    name: str
    start: Callable[[Service], Callable[[], None]]
    streams: bool = False

    def __str__(self) -> str:
        return self.name


def _read_streams(service: Service) -> Callable[[], None]:  # `ddb-lake sync` reads the stream
    return lambda: None


def _kinesis(service: Service) -> KinesisReader:
    """A Kinesis stream that the table's changes go to, and its reader."""
    client = service.client("kinesis")
    client.create_stream(StreamName="changes", ShardCount=2)
    client.get_waiter("stream_exists").wait(StreamName="changes")
    arn = client.describe_stream_summary(StreamName="changes")["StreamDescriptionSummary"]["StreamARN"]
    service.client("dynamodb").enable_kinesis_streaming_destination(
        TableName="orders",
        StreamArn=arn,
        EnableKinesisStreamingConfiguration={"ApproximateCreationDateTimePrecision": "MICROSECOND"},
    )
    return KinesisReader(client, arn, from_start=True)


def _records(reader: KinesisReader) -> list[bytes]:
    found: list[Any] = []
    reader.read_into(found)
    return [record.data for record in found]


def _land_kinesis(service: Service) -> Callable[[], None]:
    """Read the Kinesis stream here, and write objects as Firehose does, with unusual characters at the end of their keys."""
    reader, s3 = _kinesis(service), service.client("s3")

    def land() -> None:
        records = _records(reader)
        for number, name in enumerate(UNUSUAL_NAMES):
            at = datetime.now(UTC)
            key = firehose_key(expand_prefix(PREFIX, at), "here", 1, at, str(uuid.uuid4()), name)
            body = b"".join(records[number :: len(UNUSUAL_NAMES)])
            s3.put_object(Bucket=service.bucket("landing"), Key=key, Body=body)

    return land


def _put_into_firehose(service: Service) -> Callable[[], None]:  # Firehose writes to its own S3
    """Read the Kinesis stream here, and put its records into the emulator's Firehose."""
    reader = _kinesis(service)
    firehose = service.client("firehose")
    create_delivery_stream(service)

    def put() -> None:
        for batch in _batches(_records(reader)):
            answer = firehose.put_record_batch(DeliveryStreamName="orders", Records=[{"Data": data} for data in batch])
            assert answer["FailedPutCount"] == 0

    return put


def _forward(service: Service) -> Callable[[], None]:
    """Let the emulator's Lambda run our function `forward` on the table's stream, and its Firehose write what that puts."""
    create_delivery_stream(service)
    functions, s3 = service.client("lambda"), service.client("s3")
    with TemporaryDirectory() as folder:
        package = build_package("forward", Path(folder)).read_bytes()
    variables = {
        "DDB_LAKE_DELIVERY_STREAM": "orders",
        "DDB_LAKE_OVERSIZE_URI": f"s3://{service.bucket('landing')}/{PREFIX}oversize/",
        "POWERTOOLS_SERVICE_NAME": "forward",
    }
    functions.create_function(
        FunctionName="forward",
        Runtime="python3.13",
        Role=_ROLE,
        Handler="ddb_lake.lambdas.forward.handler",
        Code={"ZipFile": package},
        Timeout=60,
        Environment={"Variables": variables},
    )
    functions.get_waiter("function_active_v2").wait(FunctionName="forward")
    stream = service.client("dynamodb").describe_table(TableName="orders")["Table"]["LatestStreamArn"]
    functions.create_event_source_mapping(
        EventSourceArn=stream,
        FunctionName="forward",
        StartingPosition="TRIM_HORIZON",
        BatchSize=100,
        FunctionResponseTypes=["ReportBatchItemFailures"],
    )

    def wait() -> None:
        until = time.monotonic() + LANDS_WITHIN_S
        wanted = count_stream_records(service, stream)
        pages = s3.get_paginator("list_objects_v2")
        while time.monotonic() < until:
            listed = pages.paginate(Bucket=service.bucket("landing"), Prefix=PREFIX)
            found = sum(page["KeyCount"] for page in listed)
            if found >= wanted:
                return
            time.sleep(0.1)
        raise RuntimeError(f"{found} of {wanted} records landed within {LANDS_WITHIN_S} s")

    return wait


def count_stream_records(service: Service, stream: str) -> int:
    """The number of records in a DynamoDB stream."""
    client = service.client("dynamodbstreams")
    count = 0
    for shard in client.describe_stream(StreamArn=stream)["StreamDescription"]["Shards"]:
        iterator = client.get_shard_iterator(
            StreamArn=stream, ShardId=shard["ShardId"], ShardIteratorType="TRIM_HORIZON"
        )["ShardIterator"]
        while iterator is not None:
            answer = client.get_records(ShardIterator=iterator)
            if not answer["Records"]:
                break
            count += len(answer["Records"])
            iterator = answer.get("NextShardIterator")
    return count


def create_delivery_stream(service: Service, **settings: Any) -> None:
    """A delivery stream `orders` to the landing bucket."""
    service.client("firehose").create_delivery_stream(
        DeliveryStreamName="orders",
        ExtendedS3DestinationConfiguration={
            "RoleARN": _ROLE,
            "BucketARN": f"arn:aws:s3:::{service.bucket('landing')}",
            "Prefix": PREFIX,
            "ErrorOutputPrefix": "errors/",
            "BufferingHints": {"IntervalInSeconds": 60, "SizeInMBs": 1},
        },
        **settings,
    )


def _batches(records: Sequence[bytes]) -> Iterator[Sequence[bytes]]:
    for first in range(0, len(records), _MOST_IN_A_BATCH):
        yield records[first : first + _MOST_IN_A_BATCH]


STREAMS: Final = Delivery("streams", _read_streams, streams=True)
KINESIS: Final = Delivery("kinesis", _land_kinesis)
FORWARD: Final = Delivery("forward", _forward)
FIREHOSE: Final = Delivery("firehose", _put_into_firehose)


def make_table(service: Service) -> None:
    """The table `orders`, with a stream."""
    names = ("customer", "order_id")
    client = service.client("dynamodb")
    client.create_table(
        TableName="orders",
        AttributeDefinitions=[{"AttributeName": name, "AttributeType": "S"} for name in names],
        KeySchema=[
            {"AttributeName": name, "KeyType": kind} for name, kind in zip(names, ("HASH", "RANGE"), strict=True)
        ],
        BillingMode="PAY_PER_REQUEST",
        StreamSpecification={"StreamEnabled": True, "StreamViewType": "NEW_AND_OLD_IMAGES"},
    )
    client.get_waiter("table_exists").wait(TableName="orders")


def make_buckets(service: Service) -> None:
    """The buckets of the lake, the landing objects and the exports."""
    s3 = service.client("s3")
    where = {"LocationConstraint": service.environment()["AWS_REGION"]}
    for name in ("lake", "landing", "exports"):
        s3.create_bucket(Bucket=service.bucket(name), CreateBucketConfiguration=where)


def landed_changes(service: Service, delivery: Delivery) -> dict[str, Any]:
    """The setting `changes` of a table whose changes are delivered."""
    changes: dict[str, Any] = {"uri": f"s3://{service.bucket('landing')}/{PREFIX}"}
    return changes | {"streams": True} if delivery.streams else changes


def write_configuration(path: Path, service: Service, changes: dict[str, Any], catalog: str) -> None:
    """The lake's YAML file. `changes`: the setting of the table. `catalog`: its type."""
    path.write_text(
        CONFIGURATION.format(
            lake=service.bucket("lake"),
            exports=service.bucket("exports"),
            catalog=json.dumps(CATALOGS[catalog]),
            changes=json.dumps(changes),
        )
    )


@contextmanager
def used(environment: dict[str, str], folder: Path) -> Iterator[None]:
    """Within the block, the command line runs in `folder` with this environment."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in environment.items():
            patch.setenv(name, value)
        patch.setenv("DDB_LAKE_CONFIG", str(folder / "ddb_lake.yaml"))
        patch.chdir(folder)
        session.cache_clear()
        yield
    session.cache_clear()


def succeed(run: Run, *arguments: object) -> str:
    """Run a command that must succeed. Returns what it printed on stdout."""
    result = run(*arguments)
    assert result.exit_code == 0, f"{arguments}: {result.output}"
    return str(result.stdout)
