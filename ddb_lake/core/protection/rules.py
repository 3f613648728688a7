"""Protected attributes: attributes whose values the lake does not have. They are dropped, hashed or masked where an item enters.

`Protection` has the rules of a table and its filter, which decide together which part of an item enters the lake.

A rule is applied again to what it returned whenever bytes that ddb_lake landed itself are read, so each rule is idempotent:
`protect(protect(item)) == protect(item)`. A masked value is masked to itself. A hashed value ends with a check that only the key
can make, by which it is recognised.
"""

from __future__ import annotations

import hmac
from collections.abc import Mapping, Sequence
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

_DIGEST_CHARS: Final = 64
_CHECK_CHARS: Final = 16


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


@dataclass(frozen=True)
class Protection:
    """The rules and the filter of a table. False if there is none.

    Attributes:
        rules: by attribute; names of members of maps follow after a dot (`address.street`).
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
    def _maps(self) -> frozenset[str]:
        """The attributes above those of the rules."""
        names = [path.split(".") for path in self.rules]
        return frozenset(".".join(parts[:end]) for parts in names for end in range(1, len(parts)))

    def covers(self, path: Sequence[str]) -> bool:
        """Whether the values at a path of names are protected: a rule is for it, or for a map above it."""
        return any(".".join(path[:end]) in self.rules for end in range(1, len(path) + 1))

    def check_key(self, key: Sequence[str], table: str) -> None:
        """Raise ConfigError if a rule is for an attribute of the key, or a pattern of the filter for another one."""
        for name in key:
            if name in self.rules:
                raise ConfigError(key_fault(name, self.rules[name]), table=table)
        for name in sorted(self.key_filter.attributes - set(key)):
            raise ConfigError(filter_fault(name, key), table=table)

    def protect(self, item: Item) -> Item:
        """A checked item of DynamoDB JSON without the values that the lake may not have; the same object if it has none."""
        return self._protected(item, "") if self.rules else item

    def _protected(self, item: Item, above: str) -> Item:
        changed: Item | None = None
        for name, value in item.items():
            path = above + name
            rule = self.rules.get(path)
            new: AttributeValue | None = value
            if rule is not None:
                new = self._value(rule, value)
            elif path in self._maps and "M" in value:
                members = self._protected(value["M"], f"{path}.")
                new = value if members is value["M"] else {"M": members}
            if new is not value:
                changed = dict(item) if changed is None else changed
                if new is None:
                    del changed[name]
                else:
                    changed[name] = new
        return item if changed is None else changed

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
    stored = {path: str(rule) for path, rule in sorted(rules.items())}
    return stored | {FILTER: key_filter.text} if key_filter else stored


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


def key_fault(name: str, rule: Rule) -> str:
    """Why a rule cannot be for an attribute of the key."""
    return (
        f"columns.{name}: {str(rule).split()[0]} is not possible for an attribute of the key: changes, `verify`, `erase` and `restore` find"
        " an item by its key"
    )
