"""The AWS side of the demo: the orders table, its traffic, the stream, Firehose, and what arrives in S3."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from ddb_lake.lambdas import transform
from ddb_lake.orchestration.demo.home import EXPORT_BUCKET, LANDING_BUCKET, TABLE
from ddb_lake.sandbox import Delivery, DeliveryStream, Function, Sandbox, Traffic, create_orders_table

PREFIX = "orders/"
ERROR_PREFIX = "orders-failed/"
_BUFFER_BYTES = 48 * 1024


def failing_transform(event: dict[str, Any], context: object) -> dict[str, Any]:
    """The transformation of `lambdas.transform` with a fault in it, for the demo's sake.

    Orders with seals are too much for it: Firehose delivers those to its error output.
    """
    answer = transform.handler(event, context)
    for record, result in zip(event["records"], answer["records"], strict=True):
        if b'"seals"' in base64.b64decode(record["data"]):
            result |= {"result": "ProcessingFailed", "data": record["data"]}
    return answer


@dataclass(slots=True)
class DemoSource:
    """The orders table on a sandbox, with everything between it and S3.

    `held`: objects that will arrive late. `faulty`: whether Firehose's transformation has a fault (`failing_transform`).
    """

    sandbox: Sandbox
    seed: int
    faulty: bool = True
    traffic: Traffic = field(init=False)
    delivery: DeliveryStream = field(init=False)
    held: dict[str, bytes] = field(default_factory=dict)

    def create(self, items: Iterable[dict[str, Any]] = (), buffer_seconds: float = 300) -> None:
        """Buckets, table, stream, delivery stream: as their owners would make them.

        `items`: what the table has before its changes are streamed, in DynamoDB JSON.
        """
        s3, dynamodb = self.sandbox.client("s3"), self.sandbox.client("dynamodb")
        for bucket in (EXPORT_BUCKET, LANDING_BUCKET):
            s3.create_bucket(Bucket=bucket, CreateBucketConfiguration={"LocationConstraint": self.sandbox.region})
        create_orders_table(dynamodb, TABLE)
        self.traffic = Traffic(dynamodb, TABLE, seed=self.seed, now=self.sandbox.clock.now)
        for item in items:
            dynamodb.put_item(TableName=TABLE, Item={name: _with_bytes(value) for name, value in item.items()})
        self._stream(buffer_seconds)

    def _stream(self, buffer_seconds: float) -> None:
        kinesis, dynamodb = self.sandbox.client("kinesis"), self.sandbox.client("dynamodb")
        kinesis.create_stream(StreamName=TABLE, ShardCount=2)
        arn = kinesis.describe_stream(StreamName=TABLE)["StreamDescription"]["StreamARN"]
        dynamodb.enable_kinesis_streaming_destination(
            TableName=TABLE,
            StreamArn=arn,
            EnableKinesisStreamingConfiguration={"ApproximateCreationDateTimePrecision": "MICROSECOND"},
        )
        self.delivery = self.sandbox.delivery_stream(
            Delivery(
                name=TABLE,
                bucket=LANDING_BUCKET,
                prefix=PREFIX,
                error_prefix=ERROR_PREFIX,
                source=arn,
                buffer_seconds=buffer_seconds,
                buffer_bytes=_BUFFER_BYTES,
                compression="GZIP",
                transform=Function(failing_transform if self.faulty else transform.handler),
                transform_bytes=64 * 1024,
            )
        )

    def items(self) -> Iterator[dict[str, Any]]:
        """All items of the table in DynamoDB JSON, by a consistent scan."""
        pages = self.sandbox.client("dynamodb").get_paginator("scan")
        for page in pages.paginate(TableName=TABLE, ConsistentRead=True):
            yield from (_json(item) for item in page["Items"])

    def live_on(self, steps: int) -> None:
        """A mixture of writes, with bursts on single orders within one millisecond."""
        self.traffic.run(steps)
        for changes in (3, 5, 8):
            self.traffic.burst(changes, held=self.sandbox.clock.held)
        self.traffic.move(3)
        self.traffic.recreate(3)

    def write_corners(self) -> None:
        """Orders with what a table may hold and a typed column may not."""
        client = self.sandbox.client("dynamodb")
        for number, attributes in enumerate(_CORNERS):
            key = {"customer": {"S": "c-corner"}, "order_id": {"S": f"o-corner-{number}"}}
            client.put_item(TableName=TABLE, Item=key | attributes)

    def an_hour_later(self) -> None:
        """Let Firehose deliver what it has, an hour pass, and Time to Live take what has expired."""
        self.delivery.flush()
        self.sandbox.clock.advance(timedelta(hours=1))
        self.sandbox.expire(TABLE)

    # --- what arrives in S3

    def landed(self) -> list[str]:
        """The keys of the change objects, in order."""
        s3 = self.sandbox.client("s3")
        pages = s3.get_paginator("list_objects_v2").paginate(Bucket=LANDING_BUCKET)
        return [entry["Key"] for page in pages for entry in page.get("Contents", [])]

    def read(self, key: str) -> bytes:
        """An object's bytes."""
        body: bytes = self.sandbox.client("s3").get_object(Bucket=LANDING_BUCKET, Key=key)["Body"].read()
        return body

    def put(self, key: str, data: bytes) -> None:
        """Write an object."""
        self.sandbox.client("s3").put_object(Bucket=LANDING_BUCKET, Key=key, Body=data)

    def hold_back(self, key: str) -> None:
        """Keep an object from being there yet."""
        self.held[key] = self.read(key)
        self.sandbox.client("s3").delete_object(Bucket=LANDING_BUCKET, Key=key)

    def let_arrive(self) -> list[str]:
        """Let the objects held back arrive; their keys."""
        arrived = list(self.held)
        for key in arrived:
            self.put(key, self.held.pop(key))
        return arrived


_CORNERS: tuple[dict[str, Any], ...] = (
    {"weight": {"N": "12345678901234567890123456789012345678"}, "note": {"S": ""}},
    {"weight": {"N": "-0.00000000000000000000000000000000000001"}, "note": {"NULL": True}},
    {"status": {"N": "7"}, "a.b": {"S": "a dot"}, 'quo"ted': {"BOOL": False}},
    {"lines": {"L": []}, "address": {"M": {}}, "thumbnail": {"B": b""}, "tags": {"SS": ["", "é", "\U0001f4e6"]}},
    {"coupons": {"NS": ["1", "-2.5", "1E+20"]}, "note": {"S": "line\nbreak,\t\"quotes\" and 'more'"}},
)


def _json(value: Any) -> Any:
    """What a client gives for an item as JSON: binary as base64."""
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    if isinstance(value, list):
        return [_json(member) for member in value]
    return {name: _json(member) for name, member in value.items()} if isinstance(value, dict) else value


def _with_bytes(value: dict[str, Any]) -> dict[str, Any]:
    """An attribute value of DynamoDB JSON as a client takes it."""
    ((kind, content),) = value.items()
    if kind == "B":
        return {kind: base64.b64decode(content)}
    if kind == "BS":
        return {kind: [base64.b64decode(member) for member in content]}
    if kind == "L":
        return {kind: [_with_bytes(member) for member in content]}
    if kind == "M":
        return {kind: {name: _with_bytes(member) for name, member in content.items()}}
    return value


def canonical_text(item: dict[str, Any]) -> str:
    """One text for an item: the order of attributes and of a set's members means nothing, all else does."""
    return json.dumps({name: _sorted_sets(value) for name, value in item.items()}, sort_keys=True, ensure_ascii=False)


def _sorted_sets(value: dict[str, Any]) -> dict[str, Any]:
    ((kind, content),) = value.items()
    if kind in ("SS", "NS", "BS"):
        return {kind: sorted(content)}
    if kind == "L":
        return {kind: [_sorted_sets(member) for member in content]}
    if kind == "M":
        return {kind: {name: _sorted_sets(member) for name, member in content.items()}}
    return value
