"""Texts and bytes that hold JSON objects: base64, JSON strings, KPL aggregates, and buffers as SDKs write them."""

from __future__ import annotations

import re
from typing import Any, Final

from ddb_lake.core.decode.compression import is_base64_start, is_known_start
from ddb_lake.core.decode.kpl import MAGIC, find_aggregates
from ddb_lake.core.decode.splitter import LARGEST_RECORD_BYTES
from ddb_lake.core.values import json_text

_STRINGS: Final = re.compile(rb'[ \t\r\n,\[\]]*+(?:"(?:[^"\\\x00-\x1f]++|\\.)*+"[ \t\r\n,\[\]]*+)++').fullmatch
_STRING: Final = re.compile(rb'"(?:[^"\\\x00-\x1f]++|\\.)*+"').findall
_STRING_START: Final = re.compile(rb'[ \t\r\n]*+"[ \t\r\n]*+(?:\\[nrt]|[ \t])*+(?:\{|\[|\\)').match
_BASE64: Final = re.compile(rb"[A-Za-z0-9+/]{16,}+={0,2}").fullmatch


def bytes_of(content: Any, encoded: bool) -> bytes | None:
    """The bytes that a member holds: bytes, base64, JSON text, or a buffer in the form of JavaScript; None for others.

    Args:
        encoded: text is base64, or JSON if a tool decoded it; otherwise any other text is its UTF-8.
    """
    if isinstance(content, bytes):
        return content
    if isinstance(content, dict):
        return _buffer(content)
    if not isinstance(content, str):
        return None
    text = content.encode("utf-8", "surrogatepass")
    if is_known_start(text):
        return text
    decoded = json_text.decode_base64(content)
    if encoded:
        return decoded
    return decoded if decoded and _may_hold_objects(decoded) else text


def _buffer(content: dict[str, Any]) -> bytes | None:
    """`{"type":"Buffer","data":[123,…]}` or `{"0":123,…}`, which JSON.stringify makes of Buffer and Uint8Array."""
    numbers = content.get("data") if content.get("type") == "Buffer" else None
    if numbers is None and content.keys() == {str(index) for index in range(len(content))}:
        numbers = [content[str(index)] for index in range(len(content))]
    try:
        return bytes(numbers) if isinstance(numbers, list) else None
    except (TypeError, ValueError):
        return None


def hidden_in(raw: bytes) -> list[bytes] | None:
    """The contents of bytes that are no JSON object; None if none of the contents can be objects."""
    if len(raw) > LARGEST_RECORD_BYTES:
        return None
    if raw.startswith(MAGIC):
        found = next(find_aggregates(raw), None)
        return found.records if found is not None and found.start == 0 and found.end == len(raw) else None
    text = raw.strip(b" \t\r\n,[]")
    if text.startswith(b'"'):
        return _strings(text)
    if _BASE64(text):
        decoded = json_text.decode_base64(text.decode())
        return [decoded] if decoded and _may_hold_objects(decoded) else None
    return None


def _strings(text: bytes) -> list[bytes] | None:
    """The contents of JSON strings, with or without commas between them; each string may hold objects."""
    if not _STRINGS(text):
        return None
    values = [json_text.loads(string) for string in _STRING(text)]
    contents = [bytes_of(value, encoded=False) for value in values if isinstance(value, str)]
    found = [content for content in contents if content is not None and _may_hold_objects(content)]
    return found if len(found) == len(values) else None


def _may_hold_objects(content: bytes) -> bool:
    return is_known_start(content) or is_base64_start(content) or _STRING_START(content) is not None
