"""Records that the Kinesis Producer Library aggregated into one Kinesis record.

Four magic bytes, a protocol buffer with the records, and the MD5 of that buffer. The records carry no sequence number of
their own. https://github.com/awslabs/amazon-kinesis-producer/blob/master/aggregation-format.md
"""

from __future__ import annotations

from collections.abc import Iterator
from hashlib import md5
from typing import Final, NamedTuple

MAGIC: Final = b"\xf3\x89\x9a\xc2"

_DIGEST_BYTES: Final = 16
_MOST_READ: Final = 8  # times the number of bytes; without malicious input nearly all bytes are read once
_RECORD_TAG: Final = 0x1A  # field 3 of the aggregate, length-delimited
_DATA_TAG: Final = 0x1A  # field 3 of a record, length-delimited
_TABLE_TAGS: Final = (0x0A, 0x12)  # fields 1 and 2 of the aggregate: partition keys, explicit hash keys


class Aggregate(NamedTuple):
    """One aggregate in some bytes: from `start` to `end` (exclusive), and the data of its records."""

    start: int
    end: int
    records: list[bytes]


def find_aggregates(data: bytes) -> Iterator[Aggregate]:
    """Every aggregate in `data` whose MD5 is right, in order; never raises.

    Bytes that only look like an aggregate are read at most a few times, so that the time is linear in the bytes.
    """
    start = data.find(MAGIC)
    budget_bytes = _MOST_READ * len(data)
    while start >= 0 and budget_bytes > 0:
        found, read_bytes = _aggregate_at(data, start)
        budget_bytes -= read_bytes
        if found is not None:
            yield found
        start = data.find(MAGIC, start + len(MAGIC) if found is None else found.end)


def _aggregate_at(data: bytes, start: int) -> tuple[Aggregate | None, int]:
    """The aggregate that begins at `start`, and the number of bytes that were read to find it.

    An aggregate does not state its length: it ends where the MD5 of its fields follows.
    """
    position = start + len(MAGIC)
    digest = md5(usedforsecurity=False)
    records: list[bytes] = []
    while position < len(data):
        tag = data[position]
        content = _delimited(data, position + 1)
        if content is None or tag not in (_RECORD_TAG, *_TABLE_TAGS):
            break
        first, end = content
        digest.update(data[position:end])
        if tag == _RECORD_TAG:
            record = _data_of(data[first:end])
            if record is None:
                break
            records.append(record)
        position = end
        if data.startswith(digest.digest(), position):
            end = position + _DIGEST_BYTES
            return Aggregate(start, end, records), end - start
    return None, position - start


def _data_of(record: bytes) -> bytes | None:
    """The data of one record; None if the bytes are no record."""
    position, found = 0, None
    while position < len(record):
        tag, kind = record[position], record[position] & 7
        if kind == 0:  # a number: an index into one of the tables
            number = _varint(record, position + 1)
            if number is None:
                return None
            position = number[1]
        elif kind == 2:
            content = _delimited(record, position + 1)
            if content is None:
                return None
            if tag == _DATA_TAG:
                found = record[content[0] : content[1]]
            position = content[1]
        else:
            return None
    return found


def _delimited(data: bytes, position: int) -> tuple[int, int] | None:
    """First and (exclusive) last position of a field whose length is at `position`."""
    length = _varint(data, position)
    if length is None or length[1] + length[0] > len(data):
        return None
    return length[1], length[1] + length[0]


def _varint(data: bytes, position: int) -> tuple[int, int] | None:
    """The number at `position`, and the position after it."""
    value = 0
    for shift in range(0, 70, 7):
        if position >= len(data):
            return None
        byte = data[position]
        value |= (byte & 0x7F) << shift
        position += 1
        if byte < 0x80:
            return value, position
    return None
