"""The stamp on a captured record: where and when it arrived, which the record itself does not say."""

from __future__ import annotations

from typing import Final

from ddb_lake.core.decode.captures import Arrival
from ddb_lake.core.values.plain_json import quoted

STAMP: Final = "kinesisRecordMetadata"


def stamp_text(sequence: str | None, shard: str | None, arrived_us: int | None) -> str:
    """The JSON text of an arrival in the form of Firehose's `kinesisRecordMetadata`; empty if nothing is known."""
    parts = []
    if sequence is not None:
        parts.append(f'"sequenceNumber":"{sequence}"')
    if shard is not None:
        parts.append(f'"shardId":{quoted(shard)}')
    if arrived_us is not None:
        parts.append(f'"approximateArrivalTimestamp":{arrived_us // 1000}')
    return f"{{{','.join(parts)}}}" if parts else ""


def stamped_line(data: bytes, arrival: Arrival) -> bytes:
    r"""The bytes of a JSON object (not an empty one) on one line, with the stamp as its last member.

    Nothing else changes, but that line ends between tokens become spaces: JSON has none within a string.
    """
    line = data.strip(b" \t\r\n")
    if b"\n" in line or b"\r" in line:
        line = line.replace(b"\n", b" ").replace(b"\r", b" ")
    stamp = stamp_text(arrival.kinesis_sequence, arrival.shard, arrival.arrived_us)
    if not stamp:
        return line + b"\n"
    return b'%b,"%b":%b}\n' % (line[:-1], STAMP.encode(), stamp.encode())
