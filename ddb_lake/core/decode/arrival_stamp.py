"""The arrival of a captured record: its Kinesis sequence number, its shard, and when it reached Kinesis or Firehose.

A record of DynamoDB has none of these facts; the service that delivers it has them. Firehose passes them to a transform as
`kinesisRecordMetadata`. Our transform adds the same object to the record: the *arrival stamp*.
https://docs.aws.amazon.com/firehose/latest/dev/data-transformation.html
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Final

from ddb_lake.core.values.plain_json import quoted
from ddb_lake.core.values.times import UNIT_US, arrival_us_or_none

STAMP: Final = "kinesisRecordMetadata"
"""The member of a record that holds its arrival stamp."""

is_sequence_number: Final = re.compile(r"[0-9]{1,128}", re.ASCII).fullmatch
"""Whether a text can be a sequence number of Kinesis or DynamoDB Streams."""


@dataclass(frozen=True, slots=True)
class Arrival:
    """What is known about the delivery of a record. `arrived_us`: UTC microseconds."""

    kinesis_sequence: str | None = None
    shard: str | None = None
    arrived_us: int | None = None

    def or_else(self, other: Arrival) -> Arrival:
        """This arrival; each fact that it lacks is taken from `other`."""
        if other is UNKNOWN_ARRIVAL:
            return self
        return Arrival(
            self.kinesis_sequence or other.kinesis_sequence,
            self.shard or other.shard,
            other.arrived_us if self.arrived_us is None else self.arrived_us,
        )


UNKNOWN_ARRIVAL: Final = Arrival()


def sequence_number_or_none(value: Any) -> str | None:
    """A Kinesis sequence number; None for any other value, because a record with a damaged stamp is still a record."""
    return value if isinstance(value, str) and is_sequence_number(value) else None


def read_stamp(stamp: dict[str, Any]) -> Arrival:
    """The arrival in an arrival stamp, whose time is in milliseconds."""
    shard = stamp.get("shardId")
    return Arrival(
        sequence_number_or_none(stamp.get("sequenceNumber")),
        shard if isinstance(shard, str) else None,
        arrival_us_or_none(stamp.get("approximateArrivalTimestamp"), UNIT_US["MILLISECOND"]),
    )


def stamp_text(arrival: Arrival) -> str:
    """The arrival stamp as JSON text; empty if nothing is known."""
    parts = []
    if arrival.kinesis_sequence is not None:
        parts.append(f'"sequenceNumber":"{arrival.kinesis_sequence}"')
    if arrival.shard is not None:
        parts.append(f'"shardId":{quoted(arrival.shard)}')
    if arrival.arrived_us is not None:
        parts.append(f'"approximateArrivalTimestamp":{arrival.arrived_us // 1000}')
    return f"{{{','.join(parts)}}}" if parts else ""


def stamped_line(data: bytes, arrival: Arrival) -> bytes:
    """The JSON object in `data` (not an empty one) on one line, with the arrival stamp as its last member.

    The other bytes stay as they are, but line ends between tokens become spaces. (A JSON string has no line ends.)
    """
    line = data.strip(b" \t\r\n")
    if b"\n" in line or b"\r" in line:
        line = line.replace(b"\n", b" ").replace(b"\r", b" ")
    stamp = stamp_text(arrival)
    if not stamp:
        return line + b"\n"
    return b'%b,"%b":%b}\n' % (line[:-1], STAMP.encode(), stamp.encode())
