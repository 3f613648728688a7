"""The settings of entities: the kinds of items of one table, which differ by their keys."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cached_property
from typing import Self

from pydantic import Field, field_validator, model_validator

from ddb_lake.config.base import Settings
from ddb_lake.config.columns import ColumnSettings, column_types, protecting_rules
from ddb_lake.core.layout.table_names import DAILY, ICEBERG_SUFFIXES
from ddb_lake.core.schema.key_patterns import EntityRule, KeyPattern, is_named_as_key
from ddb_lake.core.schema.table_schema import RESERVED

_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9_]{0,58}[A-Za-z0-9])?")

_ENDINGS = (*ICEBERG_SUFFIXES[1:], DAILY)


class EntitySettings(Settings):
    """One kind of item in a table, selected by its key, with an Iceberg table `<table>_<name>` of its own."""

    name: str = Field(description="Name of the entity; its Iceberg table is `<table>_<name>`.")
    key: dict[str, str] = Field(
        default_factory=dict,
        description="Patterns by key attribute: `*` is any text, `{name}` a part that becomes a column. Without patterns, all keys"
        " that no entity before it takes.",
    )
    columns: dict[str, ColumnSettings] = Field(
        default_factory=dict, description="Columns of parts of the key and of attributes, over those of the table."
    )

    @field_validator("name")
    @classmethod
    def _valid_name(cls, name: str) -> str:
        if not _NAME.fullmatch(name):
            raise ValueError(
                f"{name!r}: an entity's name has 1 to 60 ASCII letters, digits and '_', no '_' at its ends"
            )
        if f"_{name}".lower().endswith(_ENDINGS):
            raise ValueError(
                f"{name!r}: the lake uses the endings {', '.join(_ENDINGS[:-1])} and {_ENDINGS[-1]} itself"
            )
        return name

    @field_validator("key")
    @classmethod
    def _valid_patterns(cls, key: dict[str, str]) -> dict[str, str]:
        for attribute, text in key.items():
            try:
                KeyPattern.parse(text)
            except ValueError as error:
                raise ValueError(f"{attribute}: {error}") from None
        return key

    @field_validator("columns")
    @classmethod
    def _protects_nothing(cls, columns: dict[str, ColumnSettings]) -> dict[str, ColumnSettings]:
        for attribute, rule in protecting_rules(columns).items():
            raise ValueError(
                f"{attribute}: {str(rule).split()[0]} is a setting of the table's `columns`: its values are kept out of every table"
            )
        return columns

    @model_validator(mode="after")
    def _valid_parts(self) -> Self:
        parts = self.rule.parts
        lower = [part.lower() for part in parts]
        for part in parts:
            if lower.count(part.lower()) > 1:
                raise ValueError(f"entity {self.name!r}: two parts of the key have the name {part!r}")
            if part.lower() in RESERVED:
                raise ValueError(f"entity {self.name!r}: {part!r} is the name of a metadata column")
            if column_types(self.columns).get(part) == "json":
                raise ValueError(
                    f"entity {self.name!r}: {part!r} is a part of the key, which is text or a number, no JSON"
                )
        return self

    @cached_property
    def rule(self) -> EntityRule:
        """Which keys belong to the entity."""
        patterns = {attribute: KeyPattern.parse(text) for attribute, text in self.key.items()}
        parts = {part for pattern in patterns.values() for part in pattern.parts}
        types = {name: kind for name, kind in column_types(self.columns).items() if name in parts}
        return EntityRule(self.name, patterns, types)


def check_entities(entities: Sequence[EntitySettings], key: Sequence[str]) -> None:
    """Check the entities of one table against each other and its key. `key`: empty if the source states it.

    Raises ValueError.
    """
    names = [entity.name.lower() for entity in entities]
    for entity in entities:
        if names.count(entity.name.lower()) > 1:
            raise ValueError(f"two entities have the name {entity.name!r}")
        unknown = [attribute for attribute in entity.key if key and attribute not in key]
        if unknown:
            raise ValueError(f"entity {entity.name!r}: {unknown[0]!r} is no key attribute; the key is {', '.join(key)}")
        same = [part for part in entity.rule.parts if is_named_as_key(part, (*key, *entity.key))]
        if same:
            raise ValueError(
                f"entity {entity.name!r}: {same[0]!r} is a part of the key and a key attribute: rename the part"
            )
        if len(entity.key) > 2:
            raise ValueError(
                f"entity {entity.name!r}: a key has one or two attributes, and `key` has {len(entity.key)}"
            )
    for position, entity in enumerate(entities[:-1]):
        if all(pattern.is_any for pattern in entity.rule.patterns.values()):
            raise ValueError(
                f"entity {entity.name!r} takes all keys, so {entities[position + 1].name!r} after it has none: put it last"
            )
