"""Records of DynamoDB Streams as lines of a landed object.

A line has the form in which Lambda receives the record, so that records read directly and records forwarded by a Lambda
function are read by the same code (`core.decode.captures.read_capture`).
https://docs.aws.amazon.com/lambda/latest/dg/with-ddb.html
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

import orjson

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
