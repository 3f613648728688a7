"""Filters of items by their key: which items of a source a lake has. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TypeAlias

from ddb_lake.core.schema.key_patterns import EntityRule, KeyPattern
from ddb_lake.core.values.change_record import AttributeValue
from ddb_lake.core.values.primary_key import key_text

KeyPatterns: TypeAlias = Mapping[str, KeyPattern]
"""Patterns by key attribute. An attribute without a pattern may have any value."""


@dataclass(frozen=True)
class KeyFilter:
    """Which items a lake has, by their key alone, so that an item is always in the lake or never. False if it has all.

    Attributes:
        include: an item matches one of these, or is of one of `include_entities`; both empty: every item does.
        exclude: an item matches none of these.
        include_entities: names of entities.
        exclude_entities: names of entities. An item is of none of these.
        entities: the rules of the table's entities, in their order. An item is of the first one whose patterns match.
    """

    include: tuple[KeyPatterns, ...] = ()
    exclude: tuple[KeyPatterns, ...] = ()
    include_entities: frozenset[str] = frozenset()
    exclude_entities: frozenset[str] = frozenset()
    entities: tuple[EntityRule, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.include or self.exclude or self.include_entities or self.exclude_entities)

    @property
    def entity_names(self) -> frozenset[str]:
        """The entities that the filter names."""
        return self.include_entities | self.exclude_entities

    @cached_property
    def _deciding(self) -> tuple[EntityRule, ...]:
        """The rules of entities up to the last one that the filter names."""
        named = [place for place, rule in enumerate(self.entities, start=1) if rule.name in self.entity_names]
        return self.entities[: max(named, default=0)]

    @property
    def attributes(self) -> frozenset[str]:
        """The attributes that have a pattern."""
        all_patterns = (*self.include, *self.exclude, *(rule.patterns for rule in self._deciding))
        return frozenset(name for patterns in all_patterns for name in patterns)

    def keeps(self, item: Mapping[str, AttributeValue]) -> bool:
        """Whether the lake has the item with these attributes, which include those of the key.

        Raises UndecodableError if an attribute of a pattern is missing or is no value of a key.
        """
        entity = next((rule.name for rule in self._deciding if _matches(rule.patterns, item)), None)
        is_included = not self.include and not self.include_entities
        if not (is_included or entity in self.include_entities or any(_matches(one, item) for one in self.include)):
            return False
        return entity not in self.exclude_entities and not any(_matches(patterns, item) for patterns in self.exclude)

    @property
    def text(self) -> str:
        """The filter for the state of a table: filters that keep other items have other texts. Entities' names make no difference."""
        parts: list[object] = [[_patterns(one) for one in part] for part in (self.include, self.exclude)]
        if self.entity_names:
            parts += [
                [_patterns(rule.patterns), rule.name in self.include_entities, rule.name in self.exclude_entities]
                for rule in self._deciding
            ]
        return json.dumps(parts)


def _patterns(patterns: KeyPatterns) -> list[tuple[str, str]]:
    return sorted((name, pattern.re2) for name, pattern in patterns.items())


def _matches(patterns: KeyPatterns, item: Mapping[str, AttributeValue]) -> bool:
    return all(_matches_one(pattern, name, item) for name, pattern in patterns.items())


def _matches_one(pattern: KeyPattern, name: str, item: Mapping[str, AttributeValue]) -> bool:
    tag, _, text = key_text(item, (name,)).partition(":")
    if tag.startswith("B"):  # base64 is no text that a person writes a pattern for
        return pattern.is_any
    return pattern.match(text) is not None
