"""The settings of a filter: which items of the source the lake has, by their key or the entity of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Self

from pydantic import BeforeValidator, Field, model_validator

from ddb_lake.config.base import Settings, Texts
from ddb_lake.core.protection.key_filter import KeyFilter
from ddb_lake.core.schema.key_patterns import EntityRule, KeyPattern


def _listed(given: Any) -> Any:
    return (given,) if isinstance(given, dict) else given


KeyPatternTexts = Annotated[
    tuple[dict[str, str], ...],
    BeforeValidator(_listed, json_schema_input_type=tuple[dict[str, str], ...] | dict[str, str]),
]
"""Patterns by key attribute, as in `entities`; one mapping, or a list of them."""


class FilterSettings(Settings):
    """Which items of the source the lake has, by patterns of the key as in `entities`, or by the names of entities."""

    include: KeyPatternTexts = Field(
        (),
        description="Patterns by key attribute, or a list of such mappings: an item of the lake matches one; default: all do.",
    )
    exclude: KeyPatternTexts = Field(
        (), description="Patterns by key attribute, or a list of such mappings: an item of the lake matches none."
    )

    include_entities: Texts = Field(
        (), description="Names of entities: their items are in the lake, beside those that `include` matches."
    )
    exclude_entities: Texts = Field((), description="Names of entities: their items are not in the lake.")

    @model_validator(mode="after")
    def _has_patterns(self) -> Self:
        for name, given in (("include", self.include), ("exclude", self.exclude)):
            if any(not patterns for patterns in given):
                raise ValueError(f"{name}: a mapping without a pattern matches every item")
        if not self.key_filter(()):  # a text that is no pattern is a ValueError
            raise ValueError(
                'give `include`, `exclude` or both: patterns by key attribute, such as {PK: "USER#*"}; or `include_entities` or'
                " `exclude_entities`: names of entities"
            )
        return self

    def key_filter(self, entities: Sequence[EntityRule]) -> KeyFilter:
        """The filter of a table with these entities. Raises ValueError for a text that is no pattern."""
        return KeyFilter(
            tuple(map(_parsed, self.include)),
            tuple(map(_parsed, self.exclude)),
            frozenset(self.include_entities),
            frozenset(self.exclude_entities),
            tuple(entities),
        )


def _parsed(patterns: dict[str, str]) -> dict[str, KeyPattern]:
    found: dict[str, KeyPattern] = {}
    for attribute, text in patterns.items():
        try:
            found[attribute] = KeyPattern.parse(text)
        except ValueError as error:
            raise ValueError(f"{attribute}: {error}") from None
    return found
