"""The fast path of change records: reading without a check of their items, and patterns of usual items and keys.

The patterns are for a regular expression engine without backtracking. An item's JSON, as orjson writes it with sorted
names, that matches is an item beyond doubt (`attributes.check_item`), has no binary, and is canonical but for the order
within sets (`attributes.with_sorted_sets`). What does not match may be one all the same. One look at many texts takes a
tenth of the time of checking each.
"""

from __future__ import annotations

from typing import Any, Final

import orjson

from ddb_lake.core.decode.captures import NOWHERE, read_capture_by
from ddb_lake.core.decode.envelope_shapes import shape_of
from ddb_lake.core.values.change_record import ChangeRecord, Item, Texts
from ddb_lake.errors import UndecodableError

_LEVELS: Final = 8
"""Maps and lists within maps and lists."""

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
    """Pattern of a value. What it is matched with is JSON, so that commas and brackets are where they belong."""
    kinds = [f'"S":{_TEXT}', f'"N":{_NUMBER}', '"BOOL":(?:true|false)', *more]
    if levels:
        kinds.append(rf'"(?:M":\{{|L":\[)(?:(?:{_TEXT}:)?{_value(levels - 1, more)},?)*[\]}}]')
    return rf"\{{(?:{'|'.join(kinds)})\}}"


def _item(more: tuple[str, ...]) -> str:
    return rf"\{{(?:{_TEXT}:{_value(_LEVELS, more)},?)*\}}"


USUAL_ITEM: Final = f"^{_item(_CANONICAL)}$"
USUAL_LINE: Final = rf'^\{{"Item":{_item(_ANY)}\}}$'
"""A line of a full export whose values are values of DynamoDB JSON. The pattern does not prove that all names differ."""

USUAL_KEY: Final = (
    rf'^\{{{_TEXT}:\{{"(?:S":{_TEXT}|N":{_NUMBER})\}}(?:,{_TEXT}:\{{"(?:S":{_TEXT}|N":{_NUMBER})\}})?\}}$'
)


def read_unchecked(obj: dict[str, Any]) -> ChangeRecord | None:
    """`captures.read_capture` of decoded JSON, without a check of the content of keys and images (`Texts`).

    None for an object that is, or may be, no such record, and after any exception: reading with all checks decides.
    """
    try:
        if shape_of(obj) != "capture":
            return None
        record = read_capture_by(obj, NOWHERE, _unchecked_keys, _unchecked_image)
        new, old = record.new_image, record.old_image
        return record.unchecked(
            Texts(_text(record.keys), None if new is None else _text(new), None if old is None else _text(old))
        )
    except MemoryError:
        raise
    except Exception:
        return None


def _text(item: Item) -> bytes:
    return orjson.dumps(item, option=orjson.OPT_SORT_KEYS)


def _unchecked_keys(keys: Any, _doubled: bool) -> Item:
    if type(keys) is not dict:
        raise UndecodableError("Keys: missing")
    return keys


def _unchecked_image(body: dict[str, Any], name: str, keys: Item, _doubled: bool) -> Item | None:
    image = body.get(name)
    if image is None:
        return None
    if type(image) is not dict:
        raise UndecodableError(f"{name}: no object")
    for attribute, value in keys.items():
        if image.get(attribute) != value:
            raise UndecodableError(f"{name}: its key attributes may not be those of Keys")
    return image
