"""One logical change, and every envelope it can arrive in, written as the services write them."""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass
from typing import Any

from hypothesis import strategies as st

from ddb_lake.core.values.change_record import Item
from ddb_lake_tests.support import strategies

ARN = "arn:aws:dynamodb:eu-west-1:123456789012:table/orders/stream/2024-01-01T00:00:00.000"


@dataclass(frozen=True)
class Change:
    """One insert, modify or remove. `changed_us` is whole milliseconds, so that KDS can say it either way."""

    event_name: str
    keys: Item
    new_image: Item | None
    old_image: Item | None
    changed_us: int
    event_id: str


@st.composite
def changes(draw: st.DrawFn) -> Change:
    """Any change of any item."""
    event_name = draw(st.sampled_from(("INSERT", "MODIFY", "REMOVE")))
    new = draw(strategies.keyed_items())
    old = draw(strategies.keyed_items(new.keys))
    return Change(
        event_name,
        new.keys,
        None if event_name == "REMOVE" else new.item,
        None if event_name == "INSERT" else old.item,
        draw(st.integers(1_500_000_000_000, 1_900_000_000_000)) * 1000,
        str(draw(st.uuids())),
    )


def compact(obj: Any) -> bytes:
    """JSON as DynamoDB writes it: no white space, no escapes beyond the necessary."""
    return json.dumps(obj, separators=(",", ":"), ensure_ascii=False).encode()


def b64(content: bytes) -> str:
    return base64.b64encode(content).decode()


def doubled(value: Any) -> Any:
    """An item or value with every binary base64-encoded once more, as Kinesis Data Streams records carry it."""
    if isinstance(value, list):
        return [doubled(member) for member in value]
    if not isinstance(value, dict):
        return value
    return {name: _doubled_member(name, member) for name, member in value.items()}


def _doubled_member(name: str, member: Any) -> Any:
    if name == "B" and isinstance(member, str):
        return b64(member.encode())
    if name == "BS" and isinstance(member, list):
        return [b64(text.encode()) for text in member]
    return doubled(member)


def images(change: Change) -> dict[str, Any]:
    found = {"NewImage": change.new_image, "OldImage": change.old_image}
    return {name: image for name, image in found.items() if image is not None}


def kds(change: Change, *, micros: bool = True, encode_twice: bool = True) -> dict[str, Any]:
    """The record that DynamoDB writes to Kinesis Data Streams."""
    body: dict[str, Any] = {"ApproximateCreationDateTime": change.changed_us // (1 if micros else 1000)}
    content = {"Keys": change.keys, **images(change)}
    body |= {name: doubled(item) for name, item in content.items()} if encode_twice else content
    body["SizeBytes"] = 161
    if micros:
        body["ApproximateCreationDateTimePrecision"] = "MICROSECOND"
    return {
        "awsRegion": "eu-west-1",
        "eventID": change.event_id,
        "eventName": change.event_name,
        "userIdentity": None,
        "recordFormat": "application/json",
        "tableName": "orders",
        "dynamodb": body,
        "eventSource": "aws:dynamodb",
    }


def streams(change: Change, sequence: str = "1405400000000002063282832") -> dict[str, Any]:
    """The record of DynamoDB Streams, as Lambda gets it (times in seconds)."""
    return {
        "eventID": change.event_id,
        "eventName": change.event_name,
        "eventVersion": "1.1",
        "eventSource": "aws:dynamodb",
        "awsRegion": "eu-west-1",
        "dynamodb": {
            "ApproximateCreationDateTime": change.changed_us // 1_000_000,
            "Keys": change.keys,
            **images(change),
            "SequenceNumber": sequence,
            "SizeBytes": 54,
            "StreamViewType": "NEW_AND_OLD_IMAGES",
        },
        "eventSourceARN": ARN,
    }


METADATA = {
    "sequenceNumber": "49546986683135544286507457936321625675700192471156785154",
    "subsequenceNumber": 0,
    "partitionKey": "0AB1",
    "shardId": "shardId-000000000001",
    "approximateArrivalTimestamp": 1664028793294,
}


def stamped(record: dict[str, Any]) -> dict[str, Any]:
    """With the stamp of our transform Lambda."""
    return {**record, "kinesisRecordMetadata": METADATA}


def error_object(content: bytes, code: str = "Lambda.FunctionError") -> dict[str, Any]:
    """What Firehose writes under `processing-failed/`."""
    return {
        "attemptsMade": 4,
        "arrivalTimestamp": 1664028793294,
        "errorCode": code,
        "errorMessage": "The Lambda function was successfully invoked but it returned an error result.",
        "attemptEndingTimestamp": 1654710238263,
        "rawData": b64(content),
        "lambdaArn": "test",
    }


def conversion_error(content: bytes) -> dict[str, Any]:
    """What Firehose writes under `format-conversion-failed/`."""
    return {
        "attemptsMade": 1,
        "arrivalTimestamp": 1664028793294,
        "ErrorCode": "DataFormatConversion.MalformedData",
        "ErrorMessage": "…",
        "rawData": b64(content),
    }


def kinesis_event(*contents: bytes) -> dict[str, Any]:
    """A Lambda event of a Kinesis stream."""
    return {
        "Records": [
            {
                "kinesis": {
                    "kinesisSchemaVersion": "1.0",
                    "partitionKey": "0AB1",
                    "sequenceNumber": METADATA["sequenceNumber"],
                    "data": b64(content),
                    "approximateArrivalTimestamp": 1664028793.294,
                },
                "eventSource": "aws:kinesis",
                "eventID": f"{METADATA['shardId']}:{METADATA['sequenceNumber']}",
                "eventName": "aws:kinesis:record",
            }
            for content in contents
        ]
    }


def firehose_event(*contents: bytes) -> dict[str, Any]:
    """The event that Firehose gives its transform Lambda."""
    return {
        "invocationId": "invoked123",
        "deliveryStreamArn": "arn:aws:firehose:eu-west-1:123456789012:deliverystream/d",
        "region": "eu-west-1",
        "records": [
            {"recordId": str(index), "data": b64(content), "kinesisRecordMetadata": METADATA}
            for index, content in enumerate(contents)
        ],
    }
