"""Items of the sandbox as DynamoDB JSON: sizes, numbers in DynamoDB's spelling, binary encoded again.

https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/CapacityUnitCalculations.html has the sizes.

Does not import `core`: with shared code, tests against the sandbox could not find defects of that code.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from decimal import Context, Decimal
from typing import Any, TypeAlias

AttributeValue: TypeAlias = dict[str, Any]
Item: TypeAlias = dict[str, AttributeValue]
Key: TypeAlias = tuple[tuple[str, str, str], ...]
"""The key of an item as (attribute, type, text): equal for equal keys, and hashable."""

_WIDE = Context(prec=400, Emin=-10_000, Emax=10_000)
_SETS = ("SS", "NS", "BS")


def number_text(text: str) -> str:
    """A number as DynamoDB returns it: plain digits, no exponent, no superfluous zeros, no minus zero."""
    value = Decimal(text).normalize(_WIDE)
    return format(value, "f") if value else "0"


def digits(text: str) -> int:
    """The number of significant digits of a number."""
    return len(Decimal(text).normalize(_WIDE).as_tuple().digits)


def key_of(item: Item, attributes: list[str]) -> Key:
    """The key of an item or of a request's Key; `attributes` are the key attributes, hash first."""
    parts = []
    for name in attributes:
        ((kind, text),) = item[name].items()
        parts.append((name, kind, number_text(text) if kind == "N" else text))
    return tuple(parts)


def same_item(one: Item | None, other: Item | None) -> bool:
    """Whether two images are equal. The order in a set does not count."""
    return one == other or (one is not None and other is not None and canonical(one) == canonical(other))


def canonical(item: Item) -> str:
    """A text that is equal for all spellings of an item."""
    return json.dumps({name: _ordered(value) for name, value in item.items()}, sort_keys=True, ensure_ascii=False)


def _ordered(value: AttributeValue) -> AttributeValue:
    ((kind, content),) = value.items()
    if kind in _SETS:
        return {kind: sorted(content)}
    return {kind: _descend(kind, content, _ordered)}


def _descend(kind: str, content: Any, change: Callable[[AttributeValue], AttributeValue]) -> Any:
    if kind == "M":
        return {name: change(value) for name, value in content.items()}
    return [change(value) for value in content] if kind == "L" else content


def encode_binary_again(item: Item) -> Item:
    """The item with every binary value base64-encoded once more."""
    return {name: _encode_value(value) for name, value in item.items()}


def _encode_value(value: AttributeValue) -> AttributeValue:
    ((kind, content),) = value.items()
    if kind == "B":
        return {"B": _base64(content)}
    if kind == "BS":
        return {"BS": [_base64(member) for member in content]}
    return {kind: _descend(kind, content, _encode_value)}


def with_bytes(item: Item) -> Item:
    """The item with binary values as bytes, for moto's serialiser."""
    return {name: _bytes_value(value) for name, value in item.items()}


def _bytes_value(value: AttributeValue) -> AttributeValue:
    ((kind, content),) = value.items()
    if kind == "B":
        return {"B": base64.b64decode(content)}
    if kind == "BS":
        return {"BS": [base64.b64decode(member) for member in content]}
    return {kind: _descend(kind, content, _bytes_value)}


def _base64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def size_bytes(item: Item | None) -> int:
    """The size of an item as DynamoDB counts it: the UTF-8 bytes of the names, and each value by its type."""
    return sum(len(name.encode()) + _value_size(value) for name, value in (item or {}).items())


def _value_size(value: AttributeValue) -> int:
    ((kind, content),) = value.items()
    if kind == "N":
        return (digits(content) + 1) // 2 + 1 + int(content.startswith("-"))
    if kind == "B":
        return len(base64.b64decode(content))
    if kind == "S":
        return len(content.encode())
    if kind in _SETS:
        return sum(_value_size({kind[0]: member}) for member in content)
    if kind == "L":
        return 3 + sum(1 + _value_size(member) for member in content)
    if kind == "M":
        return 3 + sum(1 + len(name.encode()) + _value_size(member) for name, member in content.items())
    return 1  # BOOL and NULL
