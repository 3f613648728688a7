"""The fast path: accept change records without walking their values; each batch is validated by the patterns below.

Validating a batch of texts with a regular expression takes a tenth of the time of checking each item in Python. The patterns
are for an engine without backtracking (RE2). If the JSON of an item, as orjson writes it with sorted names, matches, the
item is valid (`attributes.check_item`), has no binary, and is canonical except for the order within sets
(`attributes.with_sorted_sets`). A valid item may also not match; then the record is parsed strictly.
"""

from __future__ import annotations

from typing import Any, Final

import orjson

from ddb_lake.core.decode.arrival_stamp import UNKNOWN_ARRIVAL
from ddb_lake.core.decode.captures import read_capture_with
from ddb_lake.core.decode.shapes import shape_of
from ddb_lake.core.values.change_record import ChangeRecord, Item, Texts
from ddb_lake.core.values.json_text import is_whole
from ddb_lake.core.values.times import change_time_us
from ddb_lake.errors import UndecodableError

_LEVELS: Final = 8
"""The levels of maps and lists within maps and lists that the patterns accept."""

_TEXT: Final = r'"[^"\\]*(?:\\.[^"\\]*)*"'
_NUMBER: Final = r'"(?:0|-?(?:[1-9][0-9]{0,37}(?:\.[0-9]{0,37}[1-9])?|0\.[0-9]{0,99}[1-9]))"'


_BINARY: Final = r'"(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?"'
_CANONICAL: Final = (
    '"NULL":true',
    r'"SS":\[(?:"[^"\\]*",?)+\]',
    rf'"NS":\[(?:{_NUMBER},?)+\]',
)
_ANY: Final = (
    '"NULL":(?:true|false)',
    rf'"SS":\[(?:{_TEXT},?)*\]',
    rf'"NS":\[(?:{_NUMBER},?)*\]',
    rf'"B":{_BINARY}',
    rf'"BS":\[(?:{_BINARY},?)*\]',
)


def _value(levels: int, more: tuple[str, ...]) -> str:
    """The pattern of a value. It is matched with JSON only, so it need not check the places of commas and brackets."""
    kinds = [f'"S":{_TEXT}', f'"N":{_NUMBER}', '"BOOL":(?:true|false)', *more]
    if levels:
        kinds.append(rf'"(?:M":\{{|L":\[)(?:(?:{_TEXT}:)?{_value(levels - 1, more)},?)*[\]}}]')
    return rf"\{{(?:{'|'.join(kinds)})\}}"


def _item(more: tuple[str, ...]) -> str:
    return rf"\{{(?:{_TEXT}:{_value(_LEVELS, more)},?)*\}}"


CANONICAL_ITEM_PATTERN: Final = f"^{_item(_CANONICAL)}$"
EXPORT_LINE_PATTERN: Final = rf'^\{{"Item":{_item(_ANY)}\}}$'
"""A line of a full export with a valid item, canonical or not. The pattern does not prove that all names differ."""

CANONICAL_KEY_PATTERN: Final = (
    rf'^\{{{_TEXT}:\{{"(?:S":{_TEXT}|N":{_NUMBER})\}}(?:,{_TEXT}:\{{"(?:S":{_TEXT}|N":{_NUMBER})\}})?\}}$'
)


def read_unvalidated(raw: bytes) -> ChangeRecord | None:
    """`captures.read_capture` of one JSON object, without validation of the values in keys and images; the record has `texts`.

    Returns None for any other bytes and after any exception: the caller parses the object strictly.
    """
    try:
        obj = orjson.loads(raw)
        if type(obj) is not dict or shape_of(obj) != "capture" or not is_whole(raw, obj):
            return None
        record = _kinesis_record(obj) or read_capture_with(obj, UNKNOWN_ARRIVAL, _unvalidated_keys, _unvalidated_image)
        new, old = record.new_image, record.old_image
        record.texts = Texts(
            orjson.dumps(record.keys, option=_SORTED),
            None if new is None else orjson.dumps(new, option=_SORTED),
            None if old is None else orjson.dumps(old, option=_SORTED),
        )
    except MemoryError:
        raise
    except Exception:
        return None
    return record


_SORTED: Final = orjson.OPT_SORT_KEYS


def _kinesis_record(obj: dict[str, Any]) -> ChangeRecord | None:
    """`read_capture_with` for the most frequent form, in a third of its time; None for all other objects.

    The form is an insertion or a modification as Kinesis Data Streams for DynamoDB writes it, without an arrival stamp.
    """
    event_name, body, table, event_id = obj.get("eventName"), obj["dynamodb"], obj.get("tableName"), obj.get("eventID")
    if (
        event_name not in _WITH_NEW_IMAGE
        or not obj.keys() <= _KINESIS_MEMBERS
        or type(body) is not dict
        or "SequenceNumber" in body
        or not (type(table) is str and table and table.isascii() and type(event_id) is str and event_id.isascii())
    ):
        return None
    keys, new, old = body.get("Keys"), body.get("NewImage"), body.get("OldImage")
    time, precision = body.get("ApproximateCreationDateTime"), body.get("ApproximateCreationDateTimePrecision")
    if (
        type(keys) is not dict
        or type(new) is not dict
        or (old is not None and type(old) is not dict)
        or type(time) is not int
        or precision not in ("MICROSECOND", "MILLISECOND")
    ):
        return None
    for attribute, value in keys.items():
        if new.get(attribute) != value or (old is not None and old.get(attribute) != value):
            return None
    return ChangeRecord(
        "kds", event_name, change_time_us(time, precision), keys, new, old, table, event_id,
        None, None, None, None, None, None, False, obj.get("awsRegion"),
    )  # fmt: skip


_WITH_NEW_IMAGE: Final = ("MODIFY", "INSERT")
_KINESIS_MEMBERS: Final = frozenset(
    ("awsRegion", "eventID", "eventName", "userIdentity", "recordFormat", "tableName", "dynamodb", "eventSource")
)


def _unvalidated_keys(keys: Any, _doubled: bool) -> Item:
    if type(keys) is not dict:
        raise UndecodableError("Keys: missing")
    return keys


def _unvalidated_image(body: dict[str, Any], name: str, keys: Item, _doubled: bool) -> Item | None:
    image = body.get(name)
    if image is None:
        return None
    if type(image) is not dict:
        raise UndecodableError(f"{name}: no object")
    for attribute, value in keys.items():
        if image.get(attribute) != value:
            raise UndecodableError(f"{name}: its key attributes may not be those of Keys")
    return image
