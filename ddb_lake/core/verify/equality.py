"""Whether two JSON texts are the same item: the reading of items that verification compares with.

Verification must find the faults of the code that loads and merges items, so it shares none of it: this module imports
nothing of ours, and import-linter holds that. It reads the text of an export's line and the text that `dump` returns in
the same way. Values are equal as DynamoDB compares them: numbers by value, sets without order, binary by its bytes,
members of maps without order. What no writer of DynamoDB JSON writes (two members of one name, a tag that does not exist,
`{"N":"abc"}`) is kept unchanged and equals only itself.
"""

from __future__ import annotations

import binascii
import json
import re
from collections.abc import Sequence
from decimal import Context, Decimal, DecimalException, Inexact, InvalidOperation, Overflow
from typing import Any, TypeAlias

import orjson

Pairs: TypeAlias = list[tuple[str, Any]]

_MAX_PLAIN_DIGITS = 2_000
"""A number whose plain form is longer keeps its exponent."""

_EXACT = Context(
    prec=5_000, Emax=999_999_999, Emin=-999_999_999, traps=[Inexact, InvalidOperation, Overflow], capitals=1
)
_SPELLED_NUMBER = re.compile(r"[+-]?[0-9.]+(?:[eE][+-]?[0-9]{1,9})?", re.ASCII)


class _Object(list[tuple[str, Any]]):
    """The members of a JSON object in the order of the text, with names that occur twice."""


class _Literal(str):
    """A number of JSON, as it is spelled: no value of DynamoDB, which writes numbers as text."""


def fingerprint(text: bytes) -> int:
    """64 bits that are the same for two texts only if they are the same but for the order of members.

    Valid within one process. Texts of equal items can differ: their numbers and sets may be spelled in two ways.
    """
    try:
        value = orjson.loads(text)
        ordered = orjson.dumps(value, option=orjson.OPT_SORT_KEYS)
    except (orjson.JSONDecodeError, orjson.JSONEncodeError):
        return hash(b"?" + text)
    if len(ordered) != len(text) and not _has_distinct_names(text):  # a member that orjson dropped makes it shorter
        return hash(b"?" + text)
    return hash(ordered)


def canonical(text: bytes | str) -> bytes:
    """The canonical JSON of the item that a text is: equal for equal items, and only for them."""
    try:
        item = _read(text)
        return _members(item) if isinstance(item, _Object) else _raw(item)
    except (ValueError, RecursionError):
        return text.encode("utf-8", "surrogatepass") if isinstance(text, str) else text


def canonical_number(text: str) -> str | None:
    """The plain digits of a number's value; None for a text that is no finite number."""
    if not isinstance(text, str) or _SPELLED_NUMBER.fullmatch(text) is None:
        return None
    try:
        number = Decimal(text).normalize(_EXACT)
    except (DecimalException, ValueError):
        return None
    if number == 0:
        return "0"
    exponent = number.as_tuple().exponent
    plain = isinstance(exponent, int) and abs(exponent) <= _MAX_PLAIN_DIGITS
    return format(number, "f") if plain else str(number)


def key_text(item: dict[str, Any], names: Sequence[str]) -> str:
    """The text by which a verification finds a primary key: tag, number of characters, colon, canonical value, in turn.

    Raises ValueError naming the attribute that is missing or is no value of a key.
    """
    parts = []
    for name in names:
        value = item.get(name)
        tag, content = next(iter(value.items())) if isinstance(value, dict) and len(value) == 1 else ("", None)
        text = {"S": _plain, "N": canonical_number, "B": _base64}[tag](content) if tag in ("S", "N", "B") else None
        if text is None:
            raise ValueError(f"no value of a key in attribute {name!r}")
        parts.append(f"{tag}{len(text)}:{text}")
    return "".join(parts)


def _has_distinct_names(text: bytes) -> bool:
    """Whether no object of a JSON text has two members of one name."""
    distinct = True

    def look(pairs: Pairs) -> None:
        nonlocal distinct
        distinct = distinct and len(dict(pairs)) == len(pairs)

    try:
        json.loads(text, object_pairs_hook=look)
    except (ValueError, RecursionError):
        return False
    return distinct


def _read(text: bytes | str) -> Any:
    return json.loads(
        text, object_pairs_hook=_Object, parse_int=_Literal, parse_float=_Literal, parse_constant=_Literal
    )


def _members(pairs: Pairs) -> bytes:
    """A map of values in canonical form. Two members of one name both count."""
    found = sorted((_text(name), _value(value)) for name, value in pairs)
    return b"{" + b",".join(name + b":" + value for name, value in found) + b"}"


def _value(value: Any) -> bytes:
    if not isinstance(value, _Object) or len(value) != 1:
        return _raw(value)
    tag, content = value[0]
    return b"{" + _text(tag) + b":" + _content(tag, content) + b"}"


def _content(tag: str, content: Any) -> bytes:
    if tag == "M" and isinstance(content, _Object):
        return _members(content)
    if type(content) is list:
        if tag == "L":
            return b"[" + b",".join(map(_value, content)) + b"]"
        if tag in ("SS", "NS", "BS"):
            return b"[" + b",".join(sorted({_content(tag[0], member) for member in content})) + b"]"
    if type(content) is str:
        found = canonical_number(content) if tag == "N" else _base64(content) if tag == "B" else None
        return _text(content if found is None else found)
    return _raw(content)


def _raw(value: Any) -> bytes:
    """What is no value of DynamoDB, as the text has it."""
    if isinstance(value, _Object):
        return b"{" + b",".join(_text(name) + b":" + _raw(member) for name, member in value) + b"}"
    if isinstance(value, list):
        return b"[" + b",".join(map(_raw, value)) + b"]"
    if isinstance(value, _Literal):
        return value.encode()
    return _text(value) if isinstance(value, str) else json.dumps(value).encode()


def _text(text: str) -> bytes:
    try:
        return orjson.dumps(text)
    except orjson.JSONEncodeError:  # a lone surrogate
        return json.dumps(text).encode()


def _plain(text: Any) -> str | None:
    return text if isinstance(text, str) else None


def _base64(text: Any) -> str | None:
    """The one spelling of bytes in base64; None for a text that is not base64."""
    try:
        return binascii.b2a_base64(binascii.a2b_base64(text, strict_mode=True), newline=False).decode()
    except (ValueError, TypeError):
        return None
