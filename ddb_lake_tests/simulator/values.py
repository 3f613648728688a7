"""Nasty attribute names and values, as fixed pools and as a seeded generator.

Numbers are spelled as DynamoDB returns them; no value of the pool is written in two spellings, so that equal text and
equal number mean the same. Binary values are base64 text, encoded once.
"""

from __future__ import annotations

import base64
import random
from typing import Final

from ddb_lake.core.values.change_record import AttributeValue, Item


def encoded(raw: bytes) -> str:
    """Base64 text of `raw`, encoded once."""
    return base64.b64encode(raw).decode("ascii")


NAMES: Final[tuple[str, ...]] = (
    "v",
    "id",
    "ID",
    "Id",
    "a.b",
    "a__b",
    "a",
    '"',
    "_rescued",
    "_changed_at",
    "_key_hash",
    "_source",
    "_expired_at",
    "x" * 300,
    "line\nbreak",
    "naïve 🦆",
    "cafe\u0301",
    "caf\u00e9",
    "'; DROP TABLE items; --",
    "semi;colon,comma",
    "back\\slash/`tick`",
    "a[0]",
    "$.a",
    "{}",
    "S",
    "M",
    "Item",
    "NULL",
    "select",
    " ",
    "nul\x00name",
)
"""Attribute names DynamoDB allows and engines stumble over; several differ by case, accent form or dots only."""

KEY_NAMES: Final[tuple[str, ...]] = tuple(name for name in NAMES if len(name) <= 255)
"""Names for key attributes, which DynamoDB limits to 255 bytes."""

NUMBERS: Final[tuple[str, ...]] = (
    "0",
    "1",
    "-1",
    "42",
    "10",
    "0.1",
    "-0.5",
    "1.005",
    "9223372036854775807",
    "9223372036854775808",
    "-9223372036854775809",
    "12345678901234567890123456789012345678",
    "-99999999999999999999999999999999999999",
    "0.12345678901234567890123456789012345678",
    "1234567890123456789.0123456789012345678",
    "1E-130",
    "-1E-130",
    "9.99E+125",
    "-9.9999999999999999999999999999999999999E+125",
    "1" + "0" * 120,
    "0." + "0" * 100 + "1",
    "1.5E-129",
)

STRINGS: Final[tuple[str, ...]] = (
    "a",
    "",
    "A",
    " a ",
    "ab",
    "b",
    "bc",
    "c",
    "a|b",
    "0",
    "00",
    "-1",
    "1e5",
    "null",
    "NULL",
    "true",
    "2026-01-01T00:00:00Z",
    "cafe\u0301",
    "caf\u00e9",
    "🦆",
    "\x00",
    "\n",
    "\r\n\t",
    '"',
    "'; DROP TABLE items; --",
    "\\u0041\\",
    "\u2028\u0085",
    "\ufeff",
    "}{",
    '{"S":"x"}',
    "x" * 2000,
)

BINARIES: Final[tuple[str, ...]] = tuple(
    encoded(raw) for raw in (b"a", b"", b"\x00", b"\xff\xfe", b"abcd", b"YWJj", b'{"a":1}', b"\n", bytes(range(256)))
)
"""Two of them are, decoded, base64 text themselves: a reader must not decode them twice."""


def _deep(levels: int) -> AttributeValue:
    value: AttributeValue = {"N": "1"}
    for level in range(levels):
        value = {"M": {"a": value}} if level % 2 else {"L": [value]}
    return value


COMPOUNDS: Final[tuple[AttributeValue, ...]] = (
    {"L": []},
    {"M": {}},
    {"SS": ["a"]},
    {"SS": ["a", "A", "cafe\u0301", ""]},
    {"NS": ["1", "-1", "0.1", "1E-130"]},
    {"BS": [encoded(b"a"), encoded(b"\xff\xfe")]},
    {"BS": [encoded(b"abcd"), encoded(b"")]},
    {"M": {"b": {"N": "1"}, "B": {"S": "a"}}},
    {"M": {"b": {"M": {"b": {"B": encoded(b"\xff\xfe")}, "a.b": {"NULL": True}}}}},
    {"L": [{"M": {"a": {"S": ""}}}, {"M": {"a": {"N": "1"}, "x": {"L": []}}}, {"NULL": True}]},
    {"L": [{"SS": ["b", "a"]}, {"B": encoded(b"YWJj")}, {"BOOL": False}]},
    {"M": {"S": {"S": "S"}, "L": {"L": [{"N": "10"}]}}},
    _deep(31),
)
"""Whole compound values, nested to DynamoDB's limit of 32 levels in the last one."""


def looks_encoded(text: str) -> bool:
    """Whether the bytes behind base64 `text` are base64 text themselves, so decoding once and twice cannot be distinguished."""
    raw = base64.b64decode(text)
    try:
        return bool(raw) and base64.b64encode(base64.b64decode(raw, validate=True)) == raw
    except ValueError:
        return False


def random_value(rng: random.Random, depth: int = 2) -> AttributeValue:
    """One value of any of the ten types; maps and lists nest up to `depth` levels."""
    kinds = ("S", "N", "N", "B", "BOOL", "NULL", "SS", "NS", "BS", "pool") + (("M", "L") if depth else ())
    kind = rng.choice(kinds)
    pools = {"S": STRINGS, "N": NUMBERS, "B": BINARIES}
    if kind in pools:
        return {kind: rng.choice(pools[kind])}
    if kind in ("SS", "NS", "BS"):
        pool = pools[kind[0]]
        return {kind: rng.sample(pool, rng.randint(1, 4))}
    if kind == "BOOL":
        return {"BOOL": rng.random() < 0.5}
    if kind == "NULL":
        return {"NULL": True}
    if kind == "L":
        return {"L": [random_value(rng, depth - 1) for _ in range(rng.randint(0, 3))]}
    if kind == "M":
        return {"M": {rng.choice(NAMES): random_value(rng, depth - 1) for _ in range(rng.randint(0, 3))}}
    return rng.choice(COMPOUNDS)


def random_body(rng: random.Random, attributes: int = 6) -> Item:
    """The attributes of an item beside its key: up to `attributes`, some with a random number that distinguishes items."""
    body = {rng.choice(NAMES): random_value(rng) for _ in range(rng.randint(0, attributes))}
    if rng.random() < 0.8:
        body["v"] = {"N": str(rng.randint(-1000, 100000))}
    return body


def huge_body(rng: random.Random) -> Item:
    """A body that brings an item close to the limit of 400 KB; half of it must be escaped in JSON."""
    return {"huge": {"S": "\x01" * 190_000 + "".join(rng.choices("abc🦆\n", k=60_000))}}
