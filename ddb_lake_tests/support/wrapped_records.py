"""One example of each wrapper of `wrappers.WRAPPERS`, of each encoding of a payload, and of each container of an object.

They are written by hand from the pages that the table names, and share no code with what reads them.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import io
import json
import zipfile
from collections.abc import Callable
from typing import Any

import cramjam

ARN = "arn:aws:kinesis:eu-west-1:123456789012:stream/changes"
SEQUENCE = "49590338271490256608559692538361571095921575989136588898"
CONTEXT = {"requestId": "r", "functionArn": "f", "condition": "RetryAttemptsExhausted", "approximateInvokeCount": 3}


def text(value: Any) -> str:
    return json.dumps(value)


def b64(value: Any) -> str:
    return base64.b64encode(json.dumps(value).encode()).decode()


def varint(number: int) -> bytes:
    out = b""
    while number > 127:
        out += bytes([number & 127 | 128])
        number >>= 7
    return out + bytes([number])


def field(tag: int, content: bytes) -> bytes:
    return bytes([tag]) + varint(len(content)) + content


def aggregated(*records: bytes) -> bytes:
    """The bytes that the Kinesis Producer Library makes of some records."""
    body = field(0x0A, b"key") + b"".join(field(0x1A, b"\x08\x00" + field(0x1A, record)) for record in records)
    return b"\xf3\x89\x9a\xc2" + body + hashlib.md5(body).digest()


WRAPPERS: dict[str, list[Callable[[Any], Any]]] = {
    "list of records": [
        lambda value: {"Records": [value]},
        lambda value: {"Records": [value], "NextShardIterator": "x"},
        lambda value: {"invocationId": "i", "region": "eu-west-1", "records": [value]},
        lambda value: {"Messages": [value]},
    ],
    "Firehose error record": [
        lambda value: {
            "attemptsMade": 4, "arrivalTimestamp": 1715688000000, "errorCode": "Lambda.FunctionTimedOut",
            "errorMessage": "m", "attemptEndingTimestamp": 1715688000001, "rawData": b64(value), "lambdaArn": "a",
        },
    ],
    "Kinesis record of a Lambda event": [
        lambda value: {
            "kinesis": {
                "kinesisSchemaVersion": "1.0", "partitionKey": "p", "sequenceNumber": SEQUENCE, "data": b64(value),
                "approximateArrivalTimestamp": 1715688000.123,
            },
            "eventSource": "aws:kinesis", "eventVersion": "1.0", "eventID": f"shardId-000000000000:{SEQUENCE}",
            "eventName": "aws:kinesis:record", "awsRegion": "eu-west-1", "eventSourceARN": ARN,
        },
        lambda value: {"kinesis": {"sequenceNumber": SEQUENCE, "data": base64.b64encode(aggregated(text(value).encode())).decode()}},
    ],
    "Firehose record of a transform event": [
        lambda value: {"recordId": "1", "approximateArrivalTimestamp": 1715688000000, "data": b64(value)},
        lambda value: {"recordId": "1", "result": "Ok", "data": b64(value)},
    ],
    "Kinesis record of GetRecords or EventBridge Pipes": [
        lambda value: {
            "SequenceNumber": SEQUENCE, "ApproximateArrivalTimestamp": "2024-05-14T12:00:00.100000+00:00",
            "Data": b64(value), "PartitionKey": "x",
        },
        lambda value: {"SequenceNumber": SEQUENCE, "ApproximateArrivalTimestamp": 1715688000.1, "Data": b64(value)},
        lambda value: {
            "SequenceNumber": SEQUENCE, "Data": {"type": "Buffer", "data": list(text(value).encode())},
        },
        lambda value: {
            "SequenceNumber": SEQUENCE, "Data": {str(i): byte for i, byte in enumerate(text(value).encode())},
        },
        lambda value: {
            "eventSource": "aws:kinesis", "eventID": f"shardId-000000000000:{SEQUENCE}", "sequenceNumber": SEQUENCE,
            "kinesisSchemaVersion": "1.0", "partitionKey": "x", "approximateArrivalTimestamp": 1715688000.1,
            "data": b64(value),
        },
    ],
    "Lambda asynchronous invocation record": [
        lambda value: {
            "version": "1.0", "timestamp": "2024-05-14T12:00:00.000Z", "requestContext": CONTEXT,
            "requestPayload": value, "responseContext": {"statusCode": 200}, "responsePayload": None,
        },
    ],
    "Lambda event source mapping failure in S3": [
        lambda value: {
            "requestContext": CONTEXT, "responseContext": {"statusCode": 200, "functionError": "Unhandled"},
            "version": "1.0", "timestamp": "2024-05-14T12:00:00.000Z",
            "DDBStreamBatchInfo": {"shardId": "s", "startSequenceNumber": "1", "batchSize": 1, "streamArn": "a"},
            "payload": text(value),
        },
        lambda value: {
            "requestContext": CONTEXT, "version": "1.0", "timestamp": "2024-05-14T12:00:00.000Z",
            "KinesisBatchInfo": {"shardId": "s", "batchSize": 1, "streamArn": "a"}, "payload": value,
        },
    ],
    "EventBridge event": [
        lambda value: {
            "version": "0", "id": "i", "detail-type": "change", "source": "my.pipe", "account": "123456789012",
            "time": "2024-05-14T12:00:00Z", "region": "eu-west-1", "resources": [], "detail": value,
        },
    ],
    "SNS record of a Lambda event": [
        lambda value: {
            "EventSource": "aws:sns", "EventVersion": "1.0",
            "Sns": {"Type": "Notification", "MessageId": "m", "Message": text(value)},
        },
    ],
    "SNS notification": [
        lambda value: {"Type": "Notification", "MessageId": "m", "TopicArn": "a", "Message": text(value)},
    ],
    "SQS message": [
        lambda value: {"messageId": "m", "receiptHandle": "h", "body": text(value), "eventSource": "aws:sqs"},
        lambda value: {"MessageId": "m", "ReceiptHandle": "h", "Body": b64(value)},
    ],
}  # fmt: skip

VALUES: dict[str, Callable[[Any], Any]] = {"itself": lambda value: value, "a list": lambda value: [value], "text": text}


def zipped(content: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("part", content)
    return buffer.getvalue()


CONTAINERS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "zip": zipped,
    "zstd": lambda content: bytes(cramjam.zstd.compress(content)),
    "framed snappy": lambda content: bytes(cramjam.snappy.compress(content)),
    "base64": base64.b64encode,
    "base64 in lines": base64.encodebytes,
}
"""Of bytes, so that they can be within each other."""

ENCODINGS: dict[str, Callable[[str], bytes]] = {
    "UTF-8": str.encode,
    "UTF-8 with a mark": lambda content: content.encode("utf-8-sig"),
    "UTF-16": lambda content: content.encode("utf-16"),
    "UTF-16, big-endian": lambda content: b"\xfe\xff" + content.encode("utf-16-be"),
    "UTF-32": lambda content: content.encode("utf-32"),
}
