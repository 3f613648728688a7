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


def read_unvalidated(obj: dict[str, Any]) -> ChangeRecord | None:
    """`captures.read_capture` without validation of the values in keys and images; the record has `texts`.

    Returns None for any other object and after any exception: the caller parses the object strictly.
    """
    try:
        if shape_of(obj) != "capture":
            return None
        record = read_capture_with(obj, UNKNOWN_ARRIVAL, _unvalidated_keys, _unvalidated_image)
        new, old = record.new_image, record.old_image
        return record.with_texts(
            Texts(_text(record.keys), None if new is None else _text(new), None if old is None else _text(old))
        )
    except MemoryError:
        raise
    except Exception:
        return None


def _text(item: Item) -> bytes:
    return orjson.dumps(item, option=orjson.OPT_SORT_KEYS)


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
