"""A record of DynamoDB Streams as a line of a landed object: in the form in which Lambda gets it.

So what is read directly and what a Lambda forwards are one format, with one way in (`captures.read_capture`).
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

import orjson

from ddb_lake.core.values.conversions import from_boto
from ddb_lake.core.values.times import UNIT_US, time_us_or_none

_IMAGES: Final = ("Keys", "NewImage", "OldImage")
_TIME: Final = "ApproximateCreationDateTime"


def stream_line(record: Mapping[str, Any], stream_arn: str) -> bytes:
    """One line, `\\n` included, of a record in boto3's form (B as bytes, the time as a datetime).

    Nothing is left out; `eventSourceARN`, which GetRecords leaves to the caller to know, is added. The time is in
    whole seconds, as Lambda has it: that is all the precision these records have.
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
