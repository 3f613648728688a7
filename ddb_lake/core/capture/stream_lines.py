"""Records of streams that are read directly, as lines of a landed object.

A line of DynamoDB Streams has the form in which Lambda receives the record. A line of Kinesis is the record with its arrival
stamp, as Firehose's transformation delivers it. So records read directly and delivered ones are read by the same code.
https://docs.aws.amazon.com/lambda/latest/dg/with-ddb.html
"""

from __future__ import annotations

import base64
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

import orjson

from ddb_lake.core.decode.arrival_stamp import STAMP, Arrival, stamped_line
from ddb_lake.core.values.conversions import from_boto
from ddb_lake.core.values.times import UNIT_US, time_us_or_none

_IMAGES: Final = ("Keys", "NewImage", "OldImage")
_TIME: Final = "ApproximateCreationDateTime"


def stream_line(record: Mapping[str, Any], stream_arn: str) -> bytes:
    """The line, with `\\n`, of a record in boto3's form (B as bytes, the time as a datetime).

    It has all members of the record, and `eventSourceARN`, which GetRecords does not return. The time is in whole seconds, as
    in Lambda's form: these records have no finer time.
    """
    body = dict(record.get("dynamodb") or {})
    for name in _IMAGES:
        if isinstance(body.get(name), Mapping):
            body[name] = {attribute: from_boto(value) for attribute, value in body[name].items()}
    if isinstance(body.get(_TIME), datetime):
        body[_TIME] = int(body[_TIME].timestamp())
    return orjson.dumps({**record, "dynamodb": body, "eventSourceARN": stream_arn}) + b"\n"


@dataclass(frozen=True, slots=True)
class StreamLine:
    """One record of a stream: its line, with `\\n`, its sequence number, and its time (UTC microseconds).

    The time is that which the stream's retention counts from, or an earlier one. None: the record does not state it.
    """

    line: bytes
    sequence: str | None
    time_us: int | None


def dynamodb_line(record: Mapping[str, Any], stream_arn: str) -> StreamLine:
    """A record of DynamoDB Streams in boto3's form."""
    return StreamLine(stream_line(record, stream_arn), sequence_of(record), changed_us(record))


REPLICATION_DELAY_US: Final = 15 * 60 * 1_000_000
"""The time that a change is assumed to take at most from DynamoDB to a Kinesis stream."""


def kinesis_line(record: Mapping[str, Any], shard_id: str) -> StreamLine:
    """A record of Kinesis Data Streams in boto3's form (Data as bytes, the arrival as a datetime).

    Data that is one JSON object gets the arrival stamp; its other bytes stay as they are. All other data, such as an aggregate
    of the Kinesis Producer Library, lands as Lambda receives it, in base64: whatever it contains, the lines around it are safe.
    https://docs.aws.amazon.com/lambda/latest/dg/with-kinesis.html
    """
    data, sequence, arrived = record["Data"], record["SequenceNumber"], record.get("ApproximateArrivalTimestamp")
    arrived_us = round(arrived.timestamp() * 1_000_000) if isinstance(arrived, datetime) else None
    if _is_json_object(data):
        line = stamped_line(data, Arrival(sequence, shard_id, arrived_us))
    else:
        kinesis = {"data": base64.b64encode(data).decode(), "sequenceNumber": sequence}
        stated = {} if arrived_us is None else {"approximateArrivalTimestamp": arrived_us / 1_000_000}
        event = {"kinesis": kinesis | stated, "eventID": f"{shard_id}:{sequence}", "eventSource": "aws:kinesis"}
        line = orjson.dumps(event) + b"\n"
    return StreamLine(line, sequence, None if arrived_us is None else arrived_us - REPLICATION_DELAY_US)


def _is_json_object(data: bytes) -> bool:
    """Whether the arrival stamp can be added: the data is one JSON object with members, and has no stamp."""
    try:
        value = orjson.loads(data)
    except orjson.JSONDecodeError:
        return False
    return isinstance(value, dict) and bool(value) and STAMP not in value


def sequence_of(record: Mapping[str, Any]) -> str | None:
    """The record's sequence number."""
    sequence = (record.get("dynamodb") or {}).get("SequenceNumber")
    return sequence if isinstance(sequence, str) else None


def changed_us(record: Mapping[str, Any]) -> int | None:
    """The record's time, UTC microseconds."""
    return time_us_or_none((record.get("dynamodb") or {}).get(_TIME), UNIT_US["SECOND"])


@dataclass(slots=True)
class LineBatch:
    """Lines for one gzip object, kept compressed. `line_bytes`: their uncompressed size. `since`: when the first was added."""

    records: int = 0
    line_bytes: int = 0
    since: float = 0.0
    _parts: list[bytes] = field(default_factory=list)
    _packer: zlib._Compress = field(default_factory=lambda: zlib.compressobj(6, zlib.DEFLATED, 31))

    def add(self, line: bytes, at: float) -> None:
        """Add a line, which ends with `\\n`, at the time `at`."""
        self.since = self.since if self.records else at
        self.records += 1
        self.line_bytes += len(line)
        self._parts.append(self._packer.compress(line))

    def packed(self) -> bytes:
        """The content of the object. The batch cannot be used afterwards."""
        return b"".join([*self._parts, self._packer.flush()])
