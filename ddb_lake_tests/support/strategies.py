"""Hypothesis strategies for whatever DynamoDB can hold, in DynamoDB JSON with binary encoded once.

`items()` is any item; `keyed_items()` is one with its key attributes' names. Numbers come canonical (`numbers()`)
or as pairs of another spelling and the canonical one (`spelled_numbers()`). `respelled(item)` is the same item to
DynamoDB, written differently.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from hypothesis import strategies as st

from ddb_lake.core.values.change_record import AttributeValue, Item

AWKWARD_NAMES = (
    "id", "ID", "Id", "a", "a.b", "a b", "a__b", 'qu"ote', "it's", "back\\slash", "new\nline", "tab\t", "_rescued",
    "_changed_at", "_source", "Item", "Keys", "Event", "S", "N", "M", "L", "select", "é", "日本", "🦆", "ß", "SS",
    "\x00", "#", "$", "}{", "n" * 300,
)  # fmt: skip


@st.composite
def numbers(draw: st.DrawFn) -> str:
    """Canonical text of any number DynamoDB holds: 38 significant digits, ±1E-130 to ±9.99…E+125, and 0."""
    if draw(st.booleans()):
        return str(draw(st.integers(-(10**20), 10**20)))
    digits = draw(st.integers(1, 10**38 - 1)).__str__().rstrip("0")
    leading = draw(st.integers(-130, 125))  # the power of ten of the first digit
    point = leading + 1
    if point <= 0:
        text = f"0.{'0' * -point}{digits}"
    elif point >= len(digits):
        text = digits + "0" * (point - len(digits))
    else:
        text = f"{digits[:point]}.{digits[point:]}"
    return draw(st.sampled_from(("", "-"))) + text


@st.composite
def spelled_numbers(draw: st.DrawFn) -> tuple[str, str]:
    """A number in some spelling, and its canonical text."""
    canonical = draw(numbers())
    return draw(spellings(canonical)), canonical


@st.composite
def spellings(draw: st.DrawFn, canonical: str) -> str:
    """Another spelling of a number given by its canonical text."""
    sign = "-" if canonical.startswith("-") else draw(st.sampled_from(("", "+", "-" if canonical == "0" else "")))
    whole, _, fraction = canonical.lstrip("-").partition(".")
    shift = draw(st.integers(-140, 140))
    exponent = ""
    if shift and draw(st.booleans()):
        whole, fraction = _shifted(whole, fraction, shift)
        exponent = draw(st.sampled_from(("e", "E"))) + (f"+{-shift}" if shift < 0 else str(-shift))
    whole = "0" * draw(st.integers(0, 3)) + whole
    fraction += "0" * draw(st.integers(0, 3))
    if not whole.strip("0") and fraction and draw(st.booleans()):
        whole = ""
    point = "." if fraction else draw(st.sampled_from(("", ".")))
    return sign + whole + point + fraction + exponent


def _shifted(whole: str, fraction: str, places: int) -> tuple[str, str]:
    if places > 0:
        padded = fraction.ljust(places, "0")
        return whole + padded[:places], padded[places:]
    padded = whole.rjust(-places + 1, "0")
    return padded[:places], padded[places:] + fraction


@cache
def texts(min_size: int = 0) -> st.SearchStrategy[str]:
    """Any text DynamoDB holds, with a liking for what breaks parsers."""
    awkward = (
        "",
        "}{",
        '}{"a":1}',
        '"',
        "\\",
        "\\u0022",
        "\n",
        "\r\n",
        "\x00",
        "\x7f",
        "\u2028",
        "🦆",
        "null",
        "1E5",
        "S3:a",
    )
    return st.one_of(
        st.sampled_from([text for text in awkward if len(text) >= min_size]),
        st.text(st.characters(codec="utf-8"), min_size=min_size, max_size=12),
    )


@cache
def binaries(min_size: int = 0) -> st.SearchStrategy[str]:
    """Base64 text of any bytes, among them bytes that are base64 text themselves."""
    content = st.binary(min_size=min_size, max_size=10)
    return st.one_of(content, content.filter(bool).map(base64.b64encode)).map(lambda b: base64.b64encode(b).decode())


@cache
def names() -> st.SearchStrategy[str]:
    """Attribute names: any UTF-8 of at least one character."""
    return st.one_of(st.sampled_from(AWKWARD_NAMES), texts(min_size=1))


def _members(member: st.SearchStrategy[str]) -> st.SearchStrategy[list[str]]:
    return st.lists(member, max_size=4, unique=True)


@cache
def scalars() -> st.SearchStrategy[AttributeValue]:
    """Values that hold no other value: all types but M and L."""
    return st.one_of(
        st.builds(lambda v: {"S": v}, texts()),
        st.builds(lambda v: {"N": v}, numbers()),
        st.builds(lambda v: {"B": v}, binaries()),
        st.builds(lambda v: {"BOOL": v}, st.booleans()),
        st.just({"NULL": True}),
        st.builds(lambda v: {"SS": v}, _members(texts())),
        st.builds(lambda v: {"NS": v}, _members(numbers())),
        st.builds(lambda v: {"BS": v}, _members(binaries())),
    )


@cache
def values() -> st.SearchStrategy[AttributeValue]:
    """Any value: the ten types, nested."""
    return st.recursive(
        scalars(),
        lambda inner: st.one_of(
            st.builds(lambda v: {"L": v}, st.lists(inner, max_size=3)),
            st.builds(lambda v: {"M": v}, st.dictionaries(names(), inner, max_size=3)),
        ),
        max_leaves=6,
    )


@cache
def items(max_size: int = 5) -> st.SearchStrategy[Item]:
    """Any item's attributes (no key attribute is singled out)."""
    return st.dictionaries(names(), values(), max_size=max_size)


def storable(item: Item) -> Item:
    """The item with NULL for each empty set: `items()` has empty sets, which DynamoDB refuses."""
    return {name: _storable(value) for name, value in item.items()}


def _storable(value: AttributeValue) -> AttributeValue:
    ((tag, payload),) = value.items()
    if tag == "M":
        return {"M": storable(payload)}
    if tag == "L":
        return {"L": [_storable(member) for member in payload]}
    return {"NULL": True} if tag in ("SS", "NS", "BS") and not payload else value


@cache
def key_values() -> st.SearchStrategy[AttributeValue]:
    """Values of key attributes: S, N or B, never empty."""
    return st.one_of(
        st.builds(lambda v: {"S": v}, texts(min_size=1)),
        st.builds(lambda v: {"N": v}, numbers()),
        st.builds(lambda v: {"B": v}, binaries(min_size=1)),
    )


@cache
def keys() -> st.SearchStrategy[Item]:
    """Primary keys of one or two attributes."""
    return st.dictionaries(names(), key_values(), min_size=1, max_size=2)


@dataclass(frozen=True)
class KeyedItem:
    """An item and the key it has."""

    keys: Item
    item: Item

    @property
    def key_names(self) -> tuple[str, ...]:
        return tuple(self.keys)


@st.composite
def keyed_items(draw: st.DrawFn, key: Item | None = None) -> KeyedItem:
    """Any item, complete with its key attributes."""
    chosen = draw(keys()) if key is None else key
    return KeyedItem(chosen, {**draw(items()), **chosen})


@st.composite
def respelled(draw: st.DrawFn, item: Item) -> Item:
    """The same item to DynamoDB: attributes and sets in another order, numbers in another spelling."""
    order = draw(st.permutations(sorted(item)))
    return {name: draw(respelled_values(item[name])) for name in order}


@st.composite
def respelled_values(draw: st.DrawFn, value: AttributeValue) -> AttributeValue:
    """The same value to DynamoDB, written differently."""
    ((tag, payload),) = value.items()
    result: Any = payload
    if tag == "N":
        result = draw(spellings(payload))
    elif tag == "NS":
        result = [draw(spellings(member)) for member in draw(st.permutations(payload))]
    elif tag in ("SS", "BS"):
        result = draw(st.permutations(payload))
    elif tag == "M":
        result = draw(respelled(payload))
    elif tag == "L":
        result = [draw(respelled_values(member)) for member in payload]
    return {tag: result}


ENVELOPE_NAMES = (
    "dynamodb", "Keys", "NewImage", "OldImage", "eventName", "eventID", "Records", "records", "kinesis", "data",
    "rawData", "attemptsMade", "errorCode", "Metadata", "WriteTimestampMicros", "Item", "Event",
    "ingestion_timestamp", "ApproximateCreationDateTime", "SequenceNumber", "userIdentity", "tableName",
    "kinesisRecordMetadata", "recordId", "S", "N", "B", "M", "L", "SS", "NULL", "INSERT", "id",
)  # fmt: skip


@cache
def json_values() -> st.SearchStrategy[Any]:
    """Any decoded JSON, with a liking for the member names of the envelopes."""
    members = st.sampled_from(ENVELOPE_NAMES)
    leaves = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=5), members)
    return st.recursive(
        leaves,
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(members | st.text(max_size=3), inner, max_size=5),
        max_leaves=25,
    )


@cache
def mixed_items() -> st.SearchStrategy[Item]:
    """Items with few attributes, which have values of one type here and of another there."""
    members = st.one_of(
        values(), st.builds(lambda m: {"M": m}, st.dictionaries(st.sampled_from("ab"), scalars(), max_size=2))
    )
    return st.dictionaries(st.sampled_from(("a", "b", "A", "a__s")), members, max_size=4)


@st.composite
def declared_types(draw: st.DrawFn, found: Sequence[Item]) -> dict[str, str]:
    """Types of columns for some of the paths that the items have, as `columns` in the configuration."""
    dotted = sorted({".".join(path) for item in found for path in _paths({"M": item}, ())} - {""})
    if not dotted:
        return {}
    types = st.sampled_from(("string", "json", "string", "json", "long", "double", "decimal(38,2)"))
    return draw(st.dictionaries(st.sampled_from(dotted), types, max_size=4))


def _paths(value: AttributeValue, above: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    yield above
    for name, member in value.get("M", {}).items():
        yield from _paths(member, (*above, name))
