"""Erased keys: which keys of a table were erased, known by digests alone, and which keys some bytes name.

The lake must refuse records of an erased key without keeping the key. It keeps the SHA-256 of a random salt and the key's text. The
salt is in the lake too, so a digest does not hide a key from a reader of the lake who can guess it. It keeps the key out of
searches, and out of comparisons with other lakes.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import itertools
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ddb_lake.core.values.json_text import loads
from ddb_lake.core.values.primary_key import key_text
from ddb_lake.errors import UndecodableError

_MOST_WITHIN = 6
"""The most encodings (JSON in a string, base64) that are opened within each other."""

_MOST_CUT_KEYS = 1000
"""The most combinations of key attributes that are tried in bytes that are no JSON."""

_NAMED = re.compile(rb'("(?:[^"\\]|\\.)*")\s*:\s*\{\s*"([SNB])"\s*:\s*("(?:[^"\\]|\\.)*")', re.DOTALL)


@dataclass(frozen=True, slots=True)
class ErasedKeys:
    """The erased keys of a table. False if there is none.

    Attributes:
        key: the key attributes, the partition key first.
        salt: the beginning of each digested text.
        until_us: by digest, the time until which (inclusive, UTC microseconds) records of the key are refused; None: all of them.
    """

    key: tuple[str, ...] = ()
    salt: str = ""
    until_us: Mapping[str, int | None] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.until_us)

    @property
    def allows_recreation(self) -> bool:
        """Whether later records of a key are accepted."""
        return any(until_us is not None for until_us in self.until_us.values())

    def digest(self, text: str) -> str:
        """The digest of a key's text. In DuckDB: `sha256(salt || text)`."""
        return hashlib.sha256(f"{self.salt}{text}".encode()).hexdigest()

    def names(self, text: str) -> bool:
        """Whether the key of this text was erased."""
        return self.digest(text) in self.until_us

    def named_in(self, raw: bytes) -> bool:
        """Whether some bytes name an erased key (`keys_in`)."""
        return any(map(self.names, keys_in(raw, self.key)))


def keys_in(raw: bytes, names: Sequence[str]) -> set[str]:
    """The texts of the keys that some bytes name.

    An object of JSON names a key if it has all key attributes as S, N or B, or as a plain string or number. Strings that hold JSON,
    and base64 of JSON, are opened. In other bytes, such as a record that was cut off, the pairs `"name":{"S":"value"}` are
    combined.

    Args:
        raw: the bytes.
        names: the key attributes.
    """
    if not names:
        return set()
    value = loads(raw)
    if value is not None:
        return set(_keys_within(value, names, 0))
    found: dict[str, set[tuple[str, str]]] = {name: set() for name in names}
    for quoted, tag, text in _NAMED.findall(raw):
        name, content = loads(quoted), loads(text)
        if name in found and isinstance(content, str):
            found[name].add((tag.decode(), content))
    combined = itertools.islice(itertools.product(*found.values()), _MOST_CUT_KEYS)
    keys = ({name: {tag: text} for name, (tag, text) in zip(names, parts, strict=True)} for parts in combined)
    texts = {text for key in keys if (text := _text(key, names)) is not None}
    within = {text for line in _json_lines(raw) for text in _keys_within(line, names, 0)}
    return texts | within


def _json_lines(raw: bytes) -> Iterator[Any]:
    for line in raw.splitlines():
        value = loads(line)
        if value is not None:
            yield value


def _keys_within(value: Any, names: Sequence[str], depth: int) -> Iterator[str]:
    if isinstance(value, dict):
        if all(name in value for name in names):
            text = _text({name: _tagged(value[name]) for name in names}, names)
            if text is not None:
                yield text
        for member in value.values():
            yield from _keys_within(member, names, depth)
    elif isinstance(value, list):
        for element in value:
            yield from _keys_within(element, names, depth)
    elif isinstance(value, str) and depth < _MOST_WITHIN:
        for inner in _encoded(value):
            yield from _keys_within(inner, names, depth + 1)


def _encoded(text: str) -> Iterator[Any]:
    """The JSON values that a string holds: as text, or as base64 of one or several lines."""
    if text.lstrip()[:1] in ("{", "["):
        value = loads(text.encode())
        if value is not None:
            yield value
        return
    if len(text) < 8 or len(text) % 4:
        return
    try:
        decoded = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return
    if b"{" in decoded[:64]:
        value = loads(decoded)
        yield from _json_lines(decoded) if value is None else [value]


def _tagged(value: Any) -> Any:
    """A key attribute as DynamoDB JSON; a plain string or number is one of S or N."""
    if isinstance(value, str):
        return {"S": value}
    if isinstance(value, int | float) and not isinstance(value, bool):
        return {"N": str(value)}
    return value


def _text(key: Mapping[str, Any], names: Sequence[str]) -> str | None:
    try:
        return key_text(key, names)
    except (UndecodableError, ValueError, TypeError):
        return None


def scalar_texts(values: Iterable[Any]) -> set[str]:
    """The texts of all strings, numbers and binary values in items of DynamoDB JSON, sets and nested values included."""
    found: set[str] = set()
    waiting = list(values)
    while waiting:
        value = waiting.pop()
        if isinstance(value, dict):
            for tag, member in value.items():
                waiting.append(member if tag not in ("BOOL", "NULL") else None)
        elif isinstance(value, list):
            waiting += value
        elif isinstance(value, str):
            found.add(value)
    return found
