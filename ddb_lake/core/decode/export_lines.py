"""Lines of DynamoDB's exports, and repair lines, which have the form of an incremental export's line.

    {"Item":{…}}                                                                        full export
    {"Metadata":{"WriteTimestampMicros":{"N":"1680109764000000"}},"Keys":{…},"OldImage":{…},"NewImage":{…}}    incremental
    {"Repair":{"AssertedMicros":{"N":"1680109764000001"}},"Metadata":{"WriteTimestampMicros":{"N":"1680109763000000"}},
     "Keys":{…},"NewImage":{…}}                                                         repair

DynamoDB's lines: https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/S3DataExport.Output.html

A repair line is ours: a repair lands one for each key that it corrects. `AssertedMicros` is the end (exclusive) of the time
for which the line states the key's image; the line replaces a snapshot taken before that instant. `WriteTimestampMicros`:
the image contains every change up to that instant (inclusive), and a change record wins over the line only if it is later.
A line without NewImage states that the key has no item.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Final

import orjson

from ddb_lake.core.decode.captures import checked_image, checked_keys
from ddb_lake.core.values.attributes import check_item
from ddb_lake.core.values.change_record import ChangeRecord, Item
from ddb_lake.core.values.json_text import exact, fault_of, loads
from ddb_lake.core.values.times import UNIT_US, change_time_us, check_not_after, time_us
from ddb_lake.errors import UndecodableError

ITEM_MEMBER: Final = "Item"
"""The member of a full export's line that has the item."""


def read_full_line(raw: bytes) -> Item:
    """The item of a full export's line, `{"Item":{…}}`.

    Raises:
        UndecodableError: the line is no JSON object, has other members, or its item is not valid. The message names the
            fault and its place, without a value.
    """
    line = _object_of(raw)
    if line.keys() != {ITEM_MEMBER}:
        if ITEM_MEMBER not in line:
            raise UndecodableError('no item: a line of a full export is {"Item":{…}}')
        raise UndecodableError('a member beside the item: a line of a full export is {"Item":{…}}')
    item: Item = line[ITEM_MEMBER]
    check_item(item)
    return item


def _object_of(raw: bytes) -> Item:
    value = loads(raw)
    if value is None and raw.strip() != b"null":
        raise UndecodableError(fault_of(raw))
    if type(value) is not dict:
        raise UndecodableError("a JSON value that is no object")
    return exact(raw, value, plain=False)


def read_incremental_line(obj: dict[str, Any], asserted_us: int | None, time_unit: str | None = None) -> ChangeRecord:
    """A line of an incremental export: an UPSERT, or a DELETE if it has no NewImage.

    Args:
        asserted_us: the export's end (exclusive). It is also the time of a line without a write time.
        time_unit: as in `captures.read_capture`.

    Raises:
        UndecodableError: the object is no such line.
    """
    keys = checked_keys(obj.get("Keys"), doubled=False)
    metadata = obj.get("Metadata")
    written = metadata.get("WriteTimestampMicros") if isinstance(metadata, dict) else None
    if isinstance(written, dict):
        written = written.get("N") or ""
    if written is None and asserted_us is None:
        raise UndecodableError("Metadata.WriteTimestampMicros: missing, and the export's end is not known")
    try:
        changed_us = asserted_us if written is None else change_time_us(written, "MICROSECOND", time_unit)
        check_not_after(changed_us or 0, asserted_us)
    except UndecodableError as error:
        raise UndecodableError(f"Metadata.WriteTimestampMicros: {error}") from None
    new_image = checked_image(obj, "NewImage", keys, doubled=False)
    return ChangeRecord(
        kind="incremental",
        event_name="DELETE" if new_image is None else "UPSERT",
        changed_us=changed_us or 0,
        keys=keys,
        new_image=new_image,
        old_image=checked_image(obj, "OldImage", keys, doubled=False),
        asserted_us=asserted_us,
    )


@dataclass(frozen=True, slots=True)
class Assertion:
    """The state of one key: `image` as of `asserted_us` (exclusive), with all changes up to `seen_us` in it; UTC µs."""

    keys: Item
    image: Item | None
    seen_us: int
    asserted_us: int


def write_repair_line(assertion: Assertion) -> bytes:
    """The line of an assertion, with its newline."""
    line: dict[str, Any] = {
        "Repair": {"AssertedMicros": {"N": str(assertion.asserted_us)}},
        "Metadata": {"WriteTimestampMicros": {"N": str(assertion.seen_us)}},
        "Keys": assertion.keys,
    }
    if assertion.image is not None:
        line["NewImage"] = assertion.image
    return orjson.dumps(line) + b"\n"


def read_repair_line(obj: dict[str, Any]) -> ChangeRecord:
    """A repair line: an UPSERT, or a DELETE if it has no NewImage. Raises UndecodableError."""
    stamp = obj["Repair"].get("AssertedMicros")
    if not isinstance(stamp, dict):
        raise UndecodableError("Repair.AssertedMicros: missing")
    try:
        asserted_us = time_us(stamp.get("N"), UNIT_US["MICROSECOND"])
    except UndecodableError as error:
        raise UndecodableError(f"Repair.AssertedMicros: {error}") from None
    return replace(read_incremental_line(obj, asserted_us), kind="repair")
