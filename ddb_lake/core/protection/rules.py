"""Protected attributes: attributes whose values the lake does not have. They are dropped, hashed or masked where an item enters.

`Protection` has the rules of a table and its filter, which decide together which part of an item enters the lake.

A rule can be for members of maps and elements of lists (`orders[].email`). A value above them that is no map or list, as the rules
expect, is protected as a whole: otherwise an attribute of another type would keep what the rules hide.

A rule is applied again to what it returned whenever bytes that ddb_lake landed itself are read, so each rule is idempotent:
`protect(protect(item)) == protect(item)`. A masked value is masked to itself. A hashed value ends with a check that only the key
can make, by which it is recognised.
"""

from __future__ import annotations

import hmac
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Final, TypeAlias

import orjson

from ddb_lake.core.protection.key_filter import KeyFilter
from ddb_lake.core.values.attributes import canonical_value
from ddb_lake.core.values.change_record import AttributeValue, ChangeRecord, Item
from ddb_lake.core.values.numbers import canonical_number
from ddb_lake.errors import ConfigError, UndecodableError

MASKED: Final = "****"
"""The text in place of the hidden part of a masked value, whatever its length."""

KEY_ID: Final = ""
FILTER: Final = "\0filter"
"""Where `Protection.stored` has the id of the key and the filter; no attribute in a configuration has these names."""

ELEMENTS: Final = "[]"
"""After the path of a list in the path of a rule: its elements."""

_DIGEST_CHARS: Final = 64
_CHECK_CHARS: Final = 16
_STEP: Final = re.compile(r"\.|\[\](?=\.|\[|$)")


@dataclass(frozen=True, slots=True)
class Drop:
    """The attribute is left out."""

    def __str__(self) -> str:
        return "drop"


@dataclass(frozen=True, slots=True)
class Hash:
    """The value becomes a text: a keyed hash of the value (`hashed`)."""

    def __str__(self) -> str:
        return "hash"


@dataclass(frozen=True, slots=True)
class Mask:
    """The value becomes a text that shows its last `keep_last` characters (code points) at most (`masked`)."""

    keep_last: int = 0

    def __str__(self) -> str:
        return f"mask {self.keep_last}"


Rule: TypeAlias = Drop | Hash | Mask


@dataclass(frozen=True, slots=True)
class _Below:
    """What the rules expect of a value that is above protected ones.

    Attributes:
        rule: protects the value if it is neither of these types.
        tags: `M` if a rule is for a member, `L` if one is for an element.
    """

    rule: Rule
    tags: frozenset[str]


@dataclass(frozen=True)
class Protection:
    """The rules and the filter of a table. False if there is none.

    Attributes:
        rules: by attribute; names of members of maps follow after a dot (`address.street`), elements of lists are `[]`
            (`orders[].email`, `phones[]`).
        key: the key of hashes; None if no rule is a hash.
        key_filter: which items the lake has.
    """

    rules: Mapping[str, Rule] = field(default_factory=dict)
    key: bytes | None = field(default=None, repr=False)
    key_filter: KeyFilter = field(default_factory=KeyFilter)

    def __bool__(self) -> bool:
        return bool(self.rules) or bool(self.key_filter)

    def leaves_out(self, item: Mapping[str, AttributeValue]) -> bool:
        """Whether the lake does not have the item with this key; `item` has further attributes or not.

        An item without the key's attributes is not left out: the caller finds that it is invalid.
        """
        try:
            return bool(self.key_filter) and not self.key_filter.keeps(item)
        except UndecodableError:
            return False

    @cached_property
    def _below(self) -> dict[str, _Below]:
        """The paths above those of the rules."""
        rules: dict[str, set[Rule]] = {}
        tags: dict[str, set[str]] = {}
        for path, rule in self.rules.items():
            for above, tag in _above(path):
                rules.setdefault(above, set()).add(rule)
                tags.setdefault(above, set()).add(tag)
        return {
            path: _Below(next(iter(of_path)) if len(of_path) == 1 else Mask(), frozenset(tags[path]))
            for path, of_path in rules.items()
        }

    def covers(self, path: Sequence[str]) -> bool:
        """Whether the values at a path of names are protected: a rule is for it, or for a map above it."""
        return any(".".join(path[:end]) in self.rules for end in range(1, len(path) + 1))

    def check_key(self, key: Sequence[str], table: str) -> None:
        """Raise ConfigError if a rule is for an attribute of the key, or a pattern of the filter for another one."""
        if fault := key_fault(self.rules, key):
            raise ConfigError(fault, table=table)
        for name in sorted(self.key_filter.attributes - set(key)):
            raise ConfigError(filter_fault(name, key), table=table)

    def protect(self, item: Item) -> Item:
        """A checked item of DynamoDB JSON without the values that the lake may not have; the same object if it has none."""
        return self._members(item, "") if self.rules else item

    def _members(self, members: Item, above: str) -> Item:
        changed: Item | None = None
        for name, value in members.items():
            new = self._at(above + name, value)
            if new is not value:
                changed = dict(members) if changed is None else changed
                if new is None:
                    del changed[name]
                else:
                    changed[name] = new
        return members if changed is None else changed

    def _at(self, path: str, value: AttributeValue) -> AttributeValue | None:
        """The value at a path as the lake may have it; the same object if that is the value, None if it is dropped."""
        if (rule := self.rules.get(path)) is not None:
            return self._value(rule, value)
        below = self._below.get(path)
        if below is None or "NULL" in value:
            return value
        if "M" in value and "M" in below.tags:
            members = self._members(value["M"], f"{path}.")
            return value if members is value["M"] else {"M": members}
        if "L" in value and "L" in below.tags:
            found = [self._at(path + ELEMENTS, element) for element in value["L"]]
            is_same = all(new is old for new, old in zip(found, value["L"], strict=True))
            return value if is_same else {"L": [element for element in found if element is not None]}
        return self._value(below.rule, value)

    def _value(self, rule: Rule, value: AttributeValue) -> AttributeValue | None:
        if isinstance(rule, Drop):
            return None
        if isinstance(rule, Mask):
            return {"S": masked(value, rule.keep_last)}
        assert self.key is not None, "a rule that hashes comes with a key"
        return value if is_hashed(value, self.key) else {"S": hashed(value, self.key)}

    def protect_record(self, record: ChangeRecord) -> ChangeRecord:
        """A strictly parsed record with protected images."""
        if not self.rules:
            return record
        old, new = record.old_image, record.new_image
        return replace(record, old_image=old and self.protect(old), new_image=new and self.protect(new))

    def protect_line(self, line: bytes) -> bytes:
        """A line of a stream that is read directly (`core.capture.stream_lines`), with protected images; empty if the item is left out.

        A line in another form, such as an aggregate of Kinesis, stays as it is.
        """
        if not self:
            return line
        value = orjson.loads(line)
        body: Any = value.get("dynamodb") if isinstance(value, dict) else None
        if not isinstance(body, dict):
            return line
        if isinstance(keys := body.get("Keys"), dict) and self.leaves_out(keys):
            return b""
        images = {
            name: self.protect(body[name]) for name in ("NewImage", "OldImage") if isinstance(body.get(name), dict)
        }
        return orjson.dumps(value | {"dynamodb": body | images}) + b"\n"

    @property
    def stored(self) -> dict[str, str]:
        """What a table's state names: each rule by attribute, `FILTER`, and under `KEY_ID` an id of the key of hashes."""
        rules = stored_rules(self.rules, self.key_filter)
        return rules if self.key is None else rules | {KEY_ID: _mac(self.key, b"key id")[:8]}


def stored_rules(rules: Mapping[str, Rule], key_filter: KeyFilter) -> dict[str, str]:
    """`Protection.stored` without the key's id."""
    stored = {path: _stored(path, rule) for path, rule in sorted(rules.items())}
    return stored | {FILTER: key_filter.text} if key_filter else stored


def _stored(path: str, rule: Rule) -> str:
    """A rule of a member also states that a value above it is protected as a whole: files of former versions may have such values."""
    return f"{rule}, or all above" if any(_above(path)) else str(rule)


def _above(path: str) -> Iterator[tuple[str, str]]:
    """The paths above a path, each with the type that the value there has if it has the next one within it."""
    for found in _STEP.finditer(path):
        yield path[: found.start()], "L" if found[0] == ELEMENTS else "M"


def hashed(value: AttributeValue, key: bytes) -> str:
    """The keyed hash of a checked value: 80 hexadecimal digits.

    The first 64 are the HMAC-SHA-256 of the value's canonical DynamoDB JSON in UTF-8, such as `{"S":"a"}` or `{"N":"1.5"}`: equal
    values, and values of one type only, have equal hashes. The other 16 are the beginning of the HMAC of `hashed:` and the first 64.
    """
    digest = _mac(key, orjson.dumps(canonical_value(value), option=orjson.OPT_SORT_KEYS))
    return digest + _check(digest, key)


def is_hashed(value: AttributeValue, key: bytes) -> bool:
    """Whether a value is a hash that `hashed` made with this key."""
    text = value.get("S", "")
    if len(text) != _DIGEST_CHARS + _CHECK_CHARS or not text.isascii():
        return False
    return hmac.compare_digest(text[_DIGEST_CHARS:], _check(text[:_DIGEST_CHARS], key))


def _check(digest: str, key: bytes) -> str:
    return _mac(key, b"hashed:" + digest.encode())[:_CHECK_CHARS]


def _mac(key: bytes, message: bytes) -> str:
    return hmac.digest(key, message, "sha256").hex()


def masked(value: AttributeValue, keep_last: int) -> str:
    """`****` and the last characters of a text, or of the canonical digits of a number; `****` alone if the value has no more
    characters than are kept, and for every other type.
    """
    text = value.get("S")
    if text is None and "N" in value:
        text = canonical_number(value["N"])
    kept = "" if text is None or len(text) <= keep_last or not keep_last else text[-keep_last:]
    return MASKED if not kept.strip("*") else MASKED + kept


def filter_fault(name: str, key: Sequence[str]) -> str:
    """Why a filter cannot have a pattern for an attribute."""
    return f"filter: {name!r} is no key attribute; the key is {', '.join(key)}"


def key_fault(rules: Mapping[str, Rule], key: Sequence[str]) -> str:
    """Why a rule, or one of several, is not possible, because it protects an attribute of the key; empty if none does.

    A rule for a member of a key attribute would protect the attribute, which is no map.
    """
    for path, rule in rules.items():
        if any(name == path or name in (above for above, _ in _above(path)) for name in key):
            return (
                f"columns.{path}: {str(rule).split()[0]} is not possible for an attribute of the key: changes, `verify`, `erase` and"
                " `restore` find an item by its key"
            )
    return ""
