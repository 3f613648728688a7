"""Repair lines: what mending a key lands. The envelope is an incremental export's line that says itself what it asserts.

    {"Repair":{"AssertedMicros":{"N":"1680109764000001"}},"Metadata":{"WriteTimestampMicros":{"N":"1680109763000000"}},
     "Keys":{…},"NewImage":{…}}

One JSON object a line; without NewImage the key was absent. AssertedMicros: the exclusive end of what was seen; the
line replaces a snapshot taken before that instant. WriteTimestampMicros: every change up to that instant is certainly
in the image; a change record that is later wins over the line, one that is not, loses.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import orjson

from ddb_lake.core.decode.captures import read_export_line
from ddb_lake.core.values.change_record import ChangeRecord, Item
from ddb_lake.core.values.times import UNIT_US, time_us
from ddb_lake.errors import UndecodableError


@dataclass(frozen=True, slots=True)
class Assertion:
    """The state of one key: `image` as of `asserted_us` (exclusive), with all changes up to `seen_us` in it; UTC µs."""

    keys: Item
    image: Item | None
    seen_us: int
    asserted_us: int


def write_repair(found: Assertion) -> bytes:
    """The line of an assertion, with its newline."""
    line: dict[str, Any] = {
        "Repair": {"AssertedMicros": {"N": str(found.asserted_us)}},
        "Metadata": {"WriteTimestampMicros": {"N": str(found.seen_us)}},
        "Keys": found.keys,
    }
    if found.image is not None:
        line["NewImage"] = found.image
    return orjson.dumps(line) + b"\n"


def read_repair(obj: dict[str, Any]) -> ChangeRecord:
    """A repair line: UPSERT, or DELETE when it has no NewImage. Raises UndecodableError, naming the field."""
    stamp = obj["Repair"].get("AssertedMicros")
    if not isinstance(stamp, dict):
        raise UndecodableError("Repair.AssertedMicros: missing")
    try:
        asserted_us = time_us(stamp.get("N"), UNIT_US["MICROSECOND"])
    except UndecodableError as error:
        raise UndecodableError(f"Repair.AssertedMicros: {error}") from None
    return replace(read_export_line(obj, asserted_us), kind="repair")
