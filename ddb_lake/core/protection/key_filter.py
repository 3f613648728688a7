"""Filters of items by their key: which items of a source a lake has. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeAlias

from ddb_lake.core.schema.key_patterns import KeyPattern
from ddb_lake.core.values.change_record import AttributeValue
from ddb_lake.core.values.primary_key import key_text

KeyPatterns: TypeAlias = Mapping[str, KeyPattern]
"""Patterns by key attribute. An attribute without a pattern may have any value."""


@dataclass(frozen=True, slots=True)
class KeyFilter:
    """Which items a lake has, by their key alone, so that an item is always in the lake or never. False if it has all.

    Attributes:
        include: an item matches one of these; empty: every item does.
        exclude: an item matches none of these.
    """

    include: tuple[KeyPatterns, ...] = ()
    exclude: tuple[KeyPatterns, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.include or self.exclude)

    @property
    def attributes(self) -> frozenset[str]:
        """The attributes that have a pattern."""
        return frozenset(name for patterns in (*self.include, *self.exclude) for name in patterns)

    def keeps(self, item: Mapping[str, AttributeValue]) -> bool:
        """Whether the lake has the item with these attributes, which include those of the key.

        Raises UndecodableError if an attribute of a pattern is missing or is no value of a key.
        """
        if self.include and not any(_matches(patterns, item) for patterns in self.include):
            return False
        return not any(_matches(patterns, item) for patterns in self.exclude)

    @property
    def text(self) -> str:
        """The filter for the state of a table: equal filters have equal texts, and different ones different texts."""
        return json.dumps([[_patterns(one) for one in part] for part in (self.include, self.exclude)])


def _patterns(patterns: KeyPatterns) -> list[tuple[str, str]]:
    return sorted((name, pattern.re2) for name, pattern in patterns.items())


def _matches(patterns: KeyPatterns, item: Mapping[str, AttributeValue]) -> bool:
    return all(_matches_one(pattern, name, item) for name, pattern in patterns.items())


def _matches_one(pattern: KeyPattern, name: str, item: Mapping[str, AttributeValue]) -> bool:
    tag, _, text = key_text(item, (name,)).partition(":")
    if tag.startswith("B"):  # base64 is no text that a person writes a pattern for
        return pattern.is_any
    return pattern.match(text) is not None
