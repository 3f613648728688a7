"""DynamoDB JSON values: whether a value is valid, and the canonical form, which equal values share.

`check_*` decides whether something is a valid value or item; every other function here requires a checked one.
`canonical_*` follows DynamoDB's own equality: numbers by value, sets without order, binary by its bytes.
Standard library only, because the Lambda functions import it. `conversions` has other forms of values (boto3, plain JSON).

https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/HowItWorks.NamingRulesDataTypes.html
"""

from __future__ import annotations

import binascii
import re
from functools import lru_cache
from typing import Any, Final

from ddb_lake.core.values.change_record import AttributeValue, Item
from ddb_lake.core.values.numbers import CANONICAL_NUMBER, canonical_number, is_canonical_number
from ddb_lake.errors import UndecodableError

MAX_DEPTH: Final = 100
"""The most levels of M and L below an attribute. DynamoDB allows 32; orjson writes up to 126."""

_SHOWN_NAME_CHARS: Final = 60
_BINARY: Final = ord("B")
_NUMBER: Final = ord("N")
_plain_members: Final = re.compile(rb'"[^"\\]*+"(?:,"[^"\\]*+")*+\]').match
_is_canonical_number: Final = re.compile(CANONICAL_NUMBER.encode()).fullmatch

_find_odd_number: Final = re.compile(rb'"N":"(?!(?:' + CANONICAL_NUMBER.encode() + rb')")').search


def check_item(item: object) -> bool:
    """Check every attribute of an item; return whether it holds binary (B or BS) at any depth.

    Raises:
        UndecodableError: what is wrong and the path to it, without the value.
    """
    return _check_map(item, 0)


def check_value(value: object) -> bool:
    """Check one DynamoDB JSON value; return whether it holds binary (B or BS) at any depth.

    A value is a dict of exactly one type tag over a payload of that type. B is valid base64, N a finite
    number, sets are lists, nesting is at most MAX_DEPTH. DynamoDB stores no empty set, but one is accepted:
    fixtures that AWS publishes hold some.

    Raises:
        UndecodableError: what is wrong and the path to it, without the value.
    """
    return _check(value, 0)


def _check_map(item: object, depth: int) -> bool:
    if type(item) is not dict:
        raise UndecodableError(f"expected an object of attributes, found {type(item).__name__}")
    if depth > MAX_DEPTH:
        raise UndecodableError(f"nested deeper than {MAX_DEPTH} levels")
    binary = False
    name: object = None
    try:
        for name, value in item.items():
            if type(name) is not str or not (name.isascii() or is_utf8(name)):
                raise UndecodableError("an attribute name that is not UTF-8 text")
            if type(value) is dict and len(value) == 1:  # text and numbers first: most values are these
                text = value.get("S")
                if type(text) is str and text.isascii():
                    continue
                text = value.get("N")
                if type(text) is str and is_canonical_number(text):
                    continue
            if _check(value, depth):
                binary = True
    except UndecodableError as error:
        raise error_at(error, str(name)) from None
    return binary


def _check(value: object, depth: int) -> bool:
    if type(value) is not dict or len(value) != 1:
        raise UndecodableError("expected an object with one type tag")
    ((tag, payload),) = value.items()
    if tag == "M":
        return _check_map(payload, depth + 1)
    if tag == "L":
        return _check_list(payload, depth + 1)
    if tag == "S":
        if type(payload) is not str or not (payload.isascii() or is_utf8(payload)):
            raise UndecodableError("S is not UTF-8 text")
    elif tag == "N":
        canonical_number(payload)
    elif tag == "BOOL" or tag == "NULL":
        if type(payload) is not bool:
            raise UndecodableError(f"{tag} is neither true nor false")
    elif tag == "B":
        _decode_base64(payload)
        return True
    else:
        return _check_set(tag, payload)
    return False


def _check_list(members: object, depth: int) -> bool:
    if type(members) is not list:
        raise UndecodableError("L is not a list")
    if depth > MAX_DEPTH:
        raise UndecodableError(f"nested deeper than {MAX_DEPTH} levels")
    binary = False
    position = 0
    try:
        for position, member in enumerate(members):  # noqa: B007  # the except clause names it
            if _check(member, depth):
                binary = True
    except UndecodableError as error:
        raise error_at(error, f"[{position}]") from None
    return binary


def _check_set(tag: object, members: object) -> bool:
    if tag not in ("SS", "NS", "BS"):
        raise UndecodableError("unknown type tag")
    if type(members) is not list:
        raise UndecodableError(f"{tag} is not a list")
    for member in members:
        if type(member) is not str or not (member.isascii() or is_utf8(member)):
            raise UndecodableError(f"{tag} holds what is not text")
        if tag == "NS":
            canonical_number(member)
        elif tag == "BS":
            _decode_base64(member)
    return tag == "BS"


def _decode_base64(text: object) -> bytes:
    if type(text) is not str:
        raise UndecodableError("binary that is not base64 text")
    try:
        return binascii.a2b_base64(text, strict_mode=True)
    except ValueError:
        raise UndecodableError("binary that is not valid base64") from None


def is_utf8(text: str) -> bool:
    """Whether the text can be written as UTF-8: it holds no lone surrogate. Cheapest after `str.isascii`."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def error_at(error: UndecodableError, step: str) -> UndecodableError:
    """The same error, with `step` put before the path that its message has: `message at a.b[3]`."""
    message, _, path = str(error).partition(" at ")
    name = step if len(step) <= _SHOWN_NAME_CHARS else f"{step[:_SHOWN_NAME_CHARS]}…"
    name = name.encode("unicode_escape").decode("ascii")
    joint = "." if path and not path.startswith("[") else ""
    return UndecodableError(f"{message} at {name}{joint}{path}"[:500])


def without_members(reason: str) -> str:
    """The message of an UndecodableError without the names of members in the path: `message at a` of `message at a.b[3]`.

    If the attribute is protected, the names of its members may not be written. A name of the attribute itself ends at its first
    `.` or `[`, too.
    """
    message, at, path = reason.partition(" at ")
    return message + at + re.split(r"[.\[]", path, maxsplit=1)[0]


def canonical_item(item: Item) -> Item:
    """The canonical form of a checked item; the same object when it is canonical already.

    Two items that DynamoDB regards as equal have equal canonical forms, and only they.
    """
    changed: Item | None = None
    for name, value in item.items():
        if "S" in value or is_canonical_number(value.get("N", "")):
            continue
        canonical = canonical_value(value)
        if canonical is not value:
            if changed is None:
                changed = dict(item)
            changed[name] = canonical
    return item if changed is None else changed


def canonical_value(value: AttributeValue) -> AttributeValue:
    """The canonical form of a checked value; the same object when it is canonical already.

    Numbers are written by `canonical_number`, sets are sorted and without duplicates, base64 is as a
    strict encoder writes it, NULL is true.
    """
    ((tag, payload),) = value.items()
    if tag == "S" or tag == "BOOL":
        return value
    if tag == "N":
        return value if is_canonical_number(payload) else {"N": canonical_number(payload)}
    if tag == "M":
        canonical: Any = canonical_item(payload)
    elif tag == "L":
        members = [canonical_value(member) for member in payload]
        canonical = payload if all(map(_is, members, payload)) else members
    elif tag == "NULL":
        canonical = payload or True
    elif tag == "B":
        canonical = canonical_base64(payload)
    else:
        canonical = _canonical_set(tag, payload)
    return value if canonical is payload else {tag: canonical}


def _is(left: object, right: object) -> bool:
    return left is right


def _canonical_set(tag: str, members: list[str]) -> list[str]:
    if tag == "NS":
        unique = set(map(canonical_number, members))
    elif tag == "BS":
        unique = set(map(canonical_base64, members))
    else:
        unique = set(members)
    ordered = sorted(unique)
    return members if ordered == members else ordered


def canonical_base64(text: str) -> str:
    """The base64 text that a strict encoder writes for the same bytes."""
    encoded = binascii.b2a_base64(_decode_base64(text), newline=False).decode("ascii")
    return text if encoded == text else encoded


def canonical_text(text: bytes) -> bytes | None:
    """The canonical text of checked items, from orjson's text of them; None if that takes more than sorting plain sets.

    Only a binary, a set, a false NULL or a number in another spelling can differ from its canonical form. The searched bytes
    cannot occur within a string, because a quotation mark has a backslash before it there.
    """
    sorted_text = with_sorted_sets(text)
    if sorted_text is None:
        return None
    text = sorted_text
    if b'"B":"' in text or b'"NULL":f' in text or _find_odd_number(text) is not None:
        return None
    return text


def with_sorted_sets(text: bytes) -> bytes | None:
    """orjson's text of checked items with canonical sets; None if a set takes more than sorting.

    The searched bytes are the end of a set's tag; within a string, a quotation mark has a backslash before it.
    """
    done, bracket = 0, text.find(b"[")
    parts = []
    while bracket >= 0:
        if text[bracket - 3 : bracket] != b'S":':
            bracket = text.find(b"[", bracket + 1)
            continue
        end = text.find(b"]", bracket)
        if end - bracket <= _SMALL_SET_BYTES and _is_known_sorted(text[bracket - 4 : end + 1]):
            bracket = text.find(b"[", end)
            continue
        found = _plain_members(text, bracket + 1)
        if found is None or text[bracket - 4] == _BINARY:  # the first: an empty set, or a member with an escape
            return None
        first, end = found.start() + 1, found.end() - 2
        inside = text[first:end]
        sort = _known_sorted_members if end - first <= _SMALL_SET_BYTES else _sorted_members
        ordered = sort(inside, text[bracket - 4] == _NUMBER)
        if ordered is None:
            return None
        if ordered != inside:
            parts += [text[done:first], ordered]
            done = end
        bracket = text.find(b"[", end)
    return b"".join([*parts, text[done:]]) if parts else text


def _sorted_members(inside: bytes, numbers: bool) -> bytes | None:
    """The members of a set, sorted: the bytes between its first and last quotation mark. None if it takes more than sorting."""
    members = inside.split(b'","')
    if numbers and not all(map(_is_canonical_number, members)):
        return None
    return b'","'.join(sorted(set(members)))


def _is_sorted(tagged: bytes) -> bool:
    """Whether these bytes, from the tag of a set (two letters) to the next bracket, are a complete set that is canonical.

    The bytes of a set that has the bracket within a member are no complete set.
    """
    found = _plain_members(tagged, 5)
    if found is None or found.end() != len(tagged) or tagged[0] == _BINARY:
        return False
    inside = tagged[found.start() + 1 : found.end() - 2]
    return _sorted_members(inside, tagged[0] == _NUMBER) == inside


_SMALL_SET_BYTES: Final = 128
_is_known_sorted = lru_cache(maxsize=4096)(_is_sorted)  # the two images of a change usually have the same sets
_known_sorted_members = lru_cache(maxsize=4096)(_sorted_members)
