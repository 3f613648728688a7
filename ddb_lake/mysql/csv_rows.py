r"""The CSV format of changes for MySQL-compatible databases: one row for each change record, without loss.

The file
    UTF-8, no header, no byte order mark. Fields are separated by `,`, rows end with `\n`. Every value stands in `"`, a
    `"` within it is doubled, and nothing else is escaped: values may hold line ends, commas and backslashes. NULL is
    the bare word, without quotes; `""` is the empty string and `"NULL"` the word. For a loader that is
    `CHARACTER SET utf8mb4 FIELDS TERMINATED BY ',' ENCLOSED BY '"' ESCAPED BY '' LINES TERMINATED BY '\n'`.

The row: `_event`, `_seq`, then the columns in their configured order
    `_event`  INSERT, MODIFY or REMOVE, as captured (UPSERT or DELETE from an incremental export).
    `_seq`    an integer of 1 to 40 digits, for DECIMAL(40,0), that orders the records of one key: of two rows the
              greater one wins; equal ones are the same record delivered twice, or cannot be ordered (`sequence_of`).
    columns   a value of the new image each, see `Column`. A REMOVE has its key's columns; all others are NULL.

A value (`column_text`)
    S: its text. N: its digits, by `canonical_number`. BOOL: 1 or 0. B: base64 (`FROM_BASE64` gives it back). SS, NS, BS,
    L, M: JSON text (`plain.plain_text`). NULL and absent attributes: NULL.

Rows may repeat, be late and be in any order, within a file and between files: a loader compares `_seq` alone.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from ddb_lake.core.values.change_record import AttributeValue, ChangeRecord, Item
from ddb_lake.core.values.plain_json import from_plain, loads_exact, plain_text
from ddb_lake.errors import UndecodableError

EVENT_COLUMN: Final = "_event"
SEQUENCE_COLUMN: Final = "_seq"
MAX_SEQUENCE_DIGITS: Final = 40

_TIE_DIGITS: Final = 22
_TIE_BITS: Final = 73  # 2**73 has 22 digits


@dataclass(frozen=True, slots=True)
class Column:
    """A column and the path of its value in the item, from the attribute's name inwards.

    A step below a map is a member's name, below a list an index (from 0). A step below a string reads that string as
    JSON text: `("payload", "session", "start")` is a member of the document that the attribute `payload` holds.
    """

    name: str
    path: tuple[str, ...]

    @classmethod
    def at(cls, name: str, pointer: str) -> Column:
        """The column of a JSON Pointer (RFC 6901), `/payload/session/start`. Raises ValueError for no pointer."""
        if not pointer.startswith("/") or pointer == "/" or re.search(r"~(?![01])", pointer):
            raise ValueError(f"column {name!r}: {pointer!r} is no JSON Pointer such as /customer or /address/city")
        steps = pointer[1:].split("/")
        return cls(name, tuple(step.replace("~1", "/").replace("~0", "~") for step in steps))


def csv_row(record: ChangeRecord, columns: Sequence[Column]) -> str:
    """The row of a change record, line end included.

    Raises:
        UndecodableError: the record has no usable sequence, or a string that a path goes through is no JSON text.
    """
    image = record.keys if record.new_image is None else record.new_image
    documents: dict[str, AttributeValue] = {}
    values = (column_text(find_value(image, column.path, documents)) for column in columns)
    return write_row([record.event_name, str(sequence_of(record)), *values])


def sequence_of(record: ChangeRecord) -> int:
    """A number of at most 40 digits that orders the records of one key.

    DynamoDB Streams: its SequenceNumber, exact. Otherwise the change's time in microseconds, then 22 digits for records
    of one time: bits 73 to 145 of the Kinesis sequence number, which AWS does not describe, but which in every published
    number hold the count within a shard (0 without one). AWS does not guarantee the order within a microsecond.
    Numbers of Streams and of Kinesis are not comparable: load a table from one of them only.

    Raises:
        UndecodableError: a SequenceNumber of more than 40 digits.
    """
    if record.sequence_number is not None:
        if len(record.sequence_number.lstrip("0")) > MAX_SEQUENCE_DIGITS:
            raise UndecodableError(f"dynamodb.SequenceNumber: more than {MAX_SEQUENCE_DIGITS} digits")
        return int(record.sequence_number)
    kinesis = int(record.kinesis_sequence or 0)
    tie = kinesis if kinesis < 1 << _TIE_BITS else (kinesis >> _TIE_BITS) % (1 << _TIE_BITS)
    return record.changed_us * 10**_TIE_DIGITS + tie


def find_value(
    item: Mapping[str, AttributeValue], path: Sequence[str], documents: dict[str, AttributeValue]
) -> AttributeValue | None:
    """The value at a path of a checked item, None if there is none.

    Args:
        documents: a cache of strings parsed as JSON text; pass the same dict for all columns of one item.

    Raises:
        UndecodableError: a string that the path goes through is no JSON text.
    """
    found: AttributeValue | None = {"M": dict(item)}
    for step in path:
        if found is None:
            return None
        if "S" in found:
            found = _document(found["S"], documents)
        found = _member(found, step)
    return found


def _member(value: AttributeValue, step: str) -> AttributeValue | None:
    if "M" in value:
        members: Item = value["M"]
        return members.get(step)
    if "L" in value and step.isascii() and step.isdigit():
        elements: list[AttributeValue] = value["L"]
        return elements[int(step)] if len(step) < 10 and int(step) < len(elements) else None
    return None


def _document(text: str, documents: dict[str, AttributeValue]) -> AttributeValue:
    if text not in documents:
        documents[text] = from_plain(loads_exact(text))
    return documents[text]


def column_text(value: AttributeValue | None) -> str | None:
    """The text of a checked value in a row; None is NULL."""
    if value is None or "NULL" in value:
        return None
    ((tag, payload),) = value.items()
    if tag == "S" or tag == "B":
        return str(payload)
    if tag == "BOOL":
        return "1" if payload else "0"
    return plain_text(value)


def write_row(values: Iterable[str | None]) -> str:
    """One row, line end included; None is NULL."""
    return ",".join(["NULL" if value is None else f'"{_doubled(value)}"' for value in values]) + "\n"


def _doubled(text: str) -> str:
    return text.replace('"', '""')
