"""The bytes of the change records that DynamoDB writes to Kinesis Data Streams.

https://docs.aws.amazon.com/amazondynamodb/latest/APIReference/API_streams_Record.html has the members.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any

from ddb_lake.sandbox.history import Change
from ddb_lake.sandbox.items import encode_binary_again, size_bytes

TTL_IDENTITY = {"type": "Service", "principalId": "dynamodb.amazonaws.com"}


def change_record(change: Change, *, region: str, table_name: str, event_id: str, precision: str | None) -> bytes:
    """The record of a change. `precision` is MICROSECOND, MILLISECOND, or None: milliseconds, not declared.

    Binary values are base64-encoded twice, also in sets and at any depth.
    """
    microseconds = precision == "MICROSECOND"
    body: dict[str, Any] = {
        "ApproximateCreationDateTime": change.time_us if microseconds else change.time_us // 1000,
        "Keys": encode_binary_again(change.keys),
    }
    if change.new is not None:
        body["NewImage"] = encode_binary_again(change.new)
    if change.old is not None:
        body["OldImage"] = encode_binary_again(change.old)
    body["SizeBytes"] = size_bytes(change.keys) + size_bytes(change.new) + size_bytes(change.old)
    if precision is not None:
        body["ApproximateCreationDateTimePrecision"] = precision
    record = {
        "awsRegion": region,
        "eventID": event_id,
        "eventName": change.event_name,
        "userIdentity": TTL_IDENTITY if change.ttl else None,
        "recordFormat": "application/json",
        "tableName": table_name,
        "dynamodb": body,
        "eventSource": "aws:dynamodb",
    }
    return json.dumps(record, separators=(",", ":"), ensure_ascii=False).encode()


def partition_key(change: Change) -> str:
    """The Kinesis partition key: 32 hex digits, the same for all changes of one key."""
    text = json.dumps(change.key, ensure_ascii=False)
    return hashlib.md5(text.encode(), usedforsecurity=False).hexdigest().upper()
