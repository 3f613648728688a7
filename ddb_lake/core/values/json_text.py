"""JSON bytes to Python objects, without rounding a number or dropping a member in silence.

orjson decodes; it is strict (UTF-8, no NaN, no lone surrogate, at most 1024 levels) and fast. It loses data in two
cases, which are corrected here: it keeps only the last of members with the same name, and converts plain numbers to
64-bit integers and floats.
"""

from __future__ import annotations

import binascii
import json
import re
from datetime import datetime
from typing import Any, Final

import orjson

from ddb_lake.core.values.numbers import NumberText
from ddb_lake.core.values.plain_json import distinct_members
from ddb_lake.errors import UndecodableError

_NAME_ENDS: Final = re.compile(rb'"[ \t\r\n]*+:')


def loads(raw: bytes) -> Any:
    """The decoded JSON value; None for other bytes, and for `null`, which is no record either."""
    try:
        return orjson.loads(raw)
    except orjson.JSONDecodeError:
        return None


def fault_of(raw: bytes) -> str:
    """The reason why `loads` returns None for a text. It does not quote the text."""
    try:
        text = raw.decode()
    except UnicodeDecodeError as error:
        return f"not UTF-8 at byte {error.start}"
    if text.startswith("\ufeff"):
        return "a byte order mark before the JSON text"
    try:
        value = json.loads(text, parse_constant=_not_json)
    except UndecodableError as error:
        return str(error)
    except RecursionError:
        return "a JSON text nested too deeply"
    except ValueError:
        return "a damaged or truncated JSON object" if text.lstrip().startswith("{") else "no JSON object"
    if _has_lone_surrogate(value):
        return "a lone surrogate, which is no character of Unicode, in a JSON string"
    return "a JSON text nested too deeply"


def _not_json(name: str) -> Any:
    raise UndecodableError(f"{name}, which is no number of JSON")


def _has_lone_surrogate(value: Any) -> bool:
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return True
    except RecursionError:
        return False
    return False


def exact(raw: bytes, value: dict[str, Any], plain: bool) -> dict[str, Any]:
    """The object in `raw` without loss: no member was dropped and, if `plain`, no number was rounded.

    Args:
        value: `loads(raw)`.
        plain: the object's numbers are data (flattened records); they are returned as `NumberText`.

    Raises:
        UndecodableError: two members of one object have the same name, or the object is nested too deeply.
    """
    if not plain and is_whole(raw, value):
        return value
    number = NumberText if plain else None
    try:
        decoded: dict[str, Any] = json.loads(
            raw, object_pairs_hook=distinct_members, parse_int=number, parse_float=number
        )
    except RecursionError:
        raise UndecodableError("a JSON object nested too deeply") from None
    return decoded if plain else value


def is_whole(raw: bytes, value: dict[str, Any]) -> bool:
    """Whether every name in `raw` is certainly in `value`, which is `loads(raw)`. It costs one encoding."""
    try:
        encoded = orjson.dumps(value)
    except orjson.JSONEncodeError:  # nested deeper than orjson writes
        return False
    if encoded == raw:
        return True
    if b"\\u0022" in raw or b"\\u003" in raw:  # an escaped quote or colon makes the count wrong
        return False
    return encoded.count(b'":') == len(_NAME_ENDS.findall(raw))


def dump_raw(value: Any) -> bytes:
    """JSON of any decoded record, for the quarantine: binary as base64, times as ISO 8601. Never raises."""
    try:
        return orjson.dumps(value, default=_plain, option=orjson.OPT_NON_STR_KEYS | orjson.OPT_PASSTHROUGH_DATETIME)
    except (TypeError, ValueError):
        pass
    try:
        return json.dumps(value, default=_plain).encode()
    except (TypeError, ValueError, RecursionError):
        return f"no JSON: {type(value).__name__}".encode()


def _plain(value: Any) -> Any:
    content = getattr(value, "value", value)
    if isinstance(content, bytes | bytearray | memoryview):
        return binascii.b2a_base64(content, newline=False).decode("ascii")
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, set | frozenset | tuple):
        return list(value)
    return str(value)


def decode_base64(text: Any) -> bytes | None:
    """The bytes of strict base64 text, or None for anything else."""
    if not isinstance(text, str):
        return None
    try:
        return binascii.a2b_base64(text, strict_mode=True)
    except ValueError:
        return None
