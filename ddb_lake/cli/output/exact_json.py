"""JSON without loss: integers and decimals are JSON numbers with every digit, never converted to floats.

Timestamps and dates are ISO 8601 strings, bytes are base64, NaN and the infinities are null, frozen results are
objects by field name.
"""

from __future__ import annotations

import base64
import dataclasses
from collections.abc import Mapping, Sequence
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import Any

import orjson

_OPTIONS = orjson.OPT_NON_STR_KEYS


def encode_json(value: Any, indent: bool = False) -> bytes:
    """The JSON of a value in UTF-8, without a final newline."""
    options = _OPTIONS | (orjson.OPT_INDENT_2 if indent else 0)
    try:
        return orjson.dumps(value, default=_encode_other, option=options)
    except TypeError:  # rare: an integer beyond 64 bits, a lone surrogate, a key that is no scalar
        return orjson.dumps(_replace_unsupported(value), default=_encode_other, option=options)


def value_text(value: Any) -> str | None:
    """A value as the text of a cell: its JSON, without the quotes of a string. None gives None."""
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, float):
        return repr(value)
    if isinstance(value, Decimal):
        return format(value, "f")
    encoded = encode_json(value).decode()
    return encoded[1:-1] if encoded.startswith('"') else encoded


def _encode_other(value: Any) -> Any:
    """The JSON form of types that orjson does not support."""
    if isinstance(value, Decimal):
        return orjson.Fragment(format(value, "f")) if value.is_finite() else None
    if isinstance(value, bytes | bytearray | memoryview):
        return base64.b64encode(value).decode("ascii")
    if isinstance(value, timedelta):
        return str(value)
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, set | frozenset):
        return sorted(value, key=str)
    if isinstance(value, datetime | date | time):  # with a zone that orjson does not know
        return value.isoformat()
    raise TypeError(f"a value of type {type(value).__name__} has no JSON form")


def _replace_unsupported(value: Any) -> Any:
    """Replace what orjson rejects: large integers by raw digits, lone surrogates by escapes."""
    if isinstance(value, bool):
        return value
    if isinstance(value, int):
        return orjson.Fragment(str(value))
    if isinstance(value, str):
        return _well_formed(value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: _replace_unsupported(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {_member_name(name): _replace_unsupported(member) for name, member in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, bytes | bytearray | memoryview):
        return [_replace_unsupported(member) for member in value]
    return value


def _member_name(name: Any) -> str:
    if isinstance(name, str):
        return _well_formed(name)
    return value_text(name) or "null"


def _well_formed(value: str) -> str:
    return value.encode("utf-8", "backslashreplace").decode("utf-8")
