"""Protected attributes: attributes whose values the lake does not have. They are dropped, hashed or masked where an item enters.

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

from ddb_lake.core.values.attributes import canonical_value
from ddb_lake.core.values.change_record import AttributeValue, ChangeRecord, Item
from ddb_lake.core.values.numbers import canonical_number
from ddb_lake.errors import ConfigError

MASKED: Final = "****"
"""The text in place of the hidden part of a masked value, whatever its length."""

KEY_ID: Final = ""
"""Where `Protection.stored` has the id of the key; no attribute has this name."""

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
    """The rules of a table. False if there is none.

    Attributes:
        rules: by attribute; names of members of maps follow after a dot (`address.street`).
        key: the key of hashes; None if no rule is a hash.
    """

    rules: Mapping[str, Rule] = field(default_factory=dict)
    key: bytes | None = field(default=None, repr=False)

    def __bool__(self) -> bool:
        return bool(self.rules)

    @cached_property
    def _maps(self) -> frozenset[str]:
        """The attributes above those of the rules."""
        names = [path.split(".") for path in self.rules]
        return frozenset(".".join(parts[:end]) for parts in names for end in range(1, len(parts)))

    def covers(self, path: Sequence[str]) -> bool:
        """Whether the values at a path of names are protected: a rule is for it, or for a map above it."""
        return any(".".join(path[:end]) in self.rules for end in range(1, len(path) + 1))

    def check_key(self, key: Sequence[str], table: str) -> None:
        """Raise ConfigError if a rule is for an attribute of the key."""
        for name in key:
            if name in self.rules:
                raise ConfigError(key_fault(name, self.rules[name]), table=table)

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
        """A line of a stream that is read directly (`core.capture.stream_lines`), with protected images.

        A line in another form, such as an aggregate of Kinesis, stays as it is.
        """
        if not self.rules:
            return line
        value = orjson.loads(line)
        body: Any = value.get("dynamodb") if isinstance(value, dict) else None
        if not isinstance(body, dict):
            return line
        images = {
            name: self.protect(body[name]) for name in ("NewImage", "OldImage") if isinstance(body.get(name), dict)
        }
        return orjson.dumps(value | {"dynamodb": body | images}) + b"\n"

    @property
    def stored(self) -> dict[str, str]:
        """What a table's state names of the rules: each rule by attribute, and under `KEY_ID` an id of the key of hashes."""
        rules = stored_rules(self.rules)
        return rules if self.key is None else rules | {KEY_ID: _mac(self.key, b"key id")[:8]}


def stored_rules(rules: Mapping[str, Rule]) -> dict[str, str]:
    """`Protection.stored` without the key's id."""
    return {path: str(rule) for path, rule in sorted(rules.items())}


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


def key_fault(name: str, rule: Rule) -> str:
    """Why a rule cannot be for an attribute of the key."""
    return (
        f"columns.{name}: {str(rule).split()[0]} is not possible for an attribute of the key: changes, `verify`, `erase` and `restore` find"
        " an item by its key"
    )
