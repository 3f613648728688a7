"""The settings of one table."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from ddb_lake.config.base import Duration, Settings, Texts, seconds
from ddb_lake.config.columns import ColumnSettings, column_types, protecting_rules
from ddb_lake.config.entities import EntitySettings, check_entities
from ddb_lake.config.filters import FilterSettings
from ddb_lake.config.table_sections import (
    PLACEHOLDER,
    AuroraSettings,
    ChangesSettings,
    CheckSettings,
    DailyStatesSettings,
    ExportSettings,
    SourceSettings,
    ValidateSettings,
)
from ddb_lake.core.decode.routing import Source, arn_parts
from ddb_lake.core.layout.table_names import ICEBERG_SUFFIXES, LONGEST_NAME, LONGEST_TABLE, derived_names
from ddb_lake.core.protection.key_filter import KeyFilter
from ddb_lake.core.protection.rules import Rule, filter_fault, key_fault
from ddb_lake.core.schema.key_patterns import KeyPattern, part_path
from ddb_lake.core.schema.table_schema import SchemaOptions
from ddb_lake.core.values.json_schema import Validator

_TABLE_NAME = re.compile(rf"[A-Za-z0-9_.\-]{{1,{LONGEST_NAME}}}")
_PART = PLACEHOLDER.strip("{}")
_SOURCE_HINT = "`source.table` can name a DynamoDB table whose name differs"
_OWNER = re.compile(r"[^@\s]+@[^@\s]+\.[^@\s]+|team:[A-Za-z0-9_-]+")


class TableSettings(Settings):
    """One table of the lake."""

    name: str = Field(
        "",
        description="Name of the lake table, and of the DynamoDB table unless `source.table` is set; each table has it or `match`.",
    )
    match: str | None = Field(
        None,
        description="In place of `name`: this entry is for all DynamoDB tables with such a name, which `ddb-lake discover` lists. `*`"
        " is any text; `{name}` is the part that is the name of the lake table, else it is the whole name. In `export`, `changes` and"
        " `aurora`, `{name}` is that name.",
    )
    match_tags: dict[str, str] = Field(
        default_factory=dict,
        description="With `match`: only tables that have these tags in DynamoDB; the value `*` is any value.",
    )
    match_except: Texts = Field((), description="With `match`: not the tables with such names; `*` is any text.")
    key: Texts = Field((), description="Key attributes: partition key, then sort key; default: from the source.")
    source: SourceSettings = Field(default_factory=lambda: SourceSettings())
    export: ExportSettings | None = None
    changes: ChangesSettings | None = None
    columns: dict[str, ColumnSettings] = Field(
        default_factory=dict,
        description="Columns by attribute (`a.b` for members of maps): a type, or a mapping such as `{type: string}`. `string` takes"
        " every scalar as text, `json` every value as plain JSON. `{drop: true}`, `{hash: true}` and `{mask: {keep_last: 4}}` keep values"
        " out of the lake.",
    )
    filter: FilterSettings | None = Field(
        None, description="Which items of the source the lake has, by patterns of the key or by entities; default: all."
    )
    entities: tuple[EntitySettings, ...] = Field(
        (),
        description="Kinds of items of a single-table design, each with an Iceberg table of its own; the first whose key fits.",
    )
    nested: Literal["flatten", "json"] = Field(
        "flatten", description="Maps: `flatten` to columns, or `json` in one column."
    )
    flatten_depth: int = Field(
        5, ge=1, le=32, description="Depth to which maps are flattened, 1 to 32; deeper maps are JSON."
    )
    schema_evolution: Literal["add_columns", "rescue", "fail"] = Field(
        "add_columns", description="New attributes become columns, stay in `_rescued`, or fail the run."
    )
    engine: Literal["duckdb", "spark"] = Field(
        "duckdb", description="Engine of heavy work: DuckDB on this machine, or Spark on a cluster."
    )
    ttl_deletes: Literal["apply", "keep"] = Field(
        "apply",
        description="Items that Time to Live removed: `apply` the delete, or `keep` the row with `_expired_at`.",
    )
    snapshot_margin: Duration = Field(
        "5m", description="Clock skew allowance: changes up to this long before an export's time win over it."
    )
    checks: CheckSettings = Field(default_factory=lambda: CheckSettings())
    owners: Texts = Field((), description="Owners of the assets in Dagster: email addresses or `team:name`.")
    tags: dict[str, str] = Field(default_factory=dict, description="Further tags of the assets in Dagster.")
    mask: bool | Texts = Field(
        False,
        description="Attributes whose values are hidden in Dagster's samples (`a.b` for members of maps); true: all.",
    )
    daily_states: DailyStatesSettings | None = Field(
        None, description="Daily snapshots of the items; requires `changes`."
    )
    aurora: AuroraSettings | None = Field(
        None, description="A MySQL-compatible table that is kept equal to the lake table."
    )
    validation: ValidateSettings | None = Field(
        None, alias="validate", description="A JSON Schema for changes; records that violate it go to quarantine."
    )

    @model_validator(mode="before")
    @classmethod
    def _is_version_2(cls, given: Any) -> Any:
        """Explain why a table cannot have another version of Iceberg's format: it is no setting, so the error would name it only."""
        if isinstance(given, Mapping) and "format_version" in given:
            raise ValueError(
                "format_version: tables have version 2 of Iceberg's format, and version 3 is not written yet;"
                " leave the setting out"
            )
        return given

    @field_validator("owners")
    @classmethod
    def _valid_owners(cls, owners: tuple[str, ...]) -> tuple[str, ...]:
        for owner in owners:
            if not _OWNER.fullmatch(owner):
                raise ValueError(f"{owner!r} is neither an email address nor team:name")
        return owners

    def masks(self, path: Sequence[str]) -> bool:
        """Whether the values of an attribute path are hidden: the path itself or a map above it is masked."""
        if isinstance(self.mask, bool):
            return self.mask
        masked = set(self.mask)
        return any(".".join(path[: end + 1]) in masked for end in range(len(path)))

    @field_validator("name")
    @classmethod
    def _valid_name(cls, name: str) -> str:
        if not _TABLE_NAME.fullmatch(name):
            raise ValueError(
                f"a table's name has 1 to {LONGEST_NAME} letters, digits, '_', '-' and '.'; {_SOURCE_HINT}"
            )
        if name.strip(".") != name:
            raise ValueError(
                f"{name!r}: a table's name is also the name of a folder; it may not begin or end with '.'; {_SOURCE_HINT}"
            )
        if name.lower().endswith(ICEBERG_SUFFIXES[1:]):
            raise ValueError(
                f"a table's name may not end in {' or '.join(ICEBERG_SUFFIXES[1:])}: the lake uses these endings; {_SOURCE_HINT}"
            )
        return name

    @field_validator("match")
    @classmethod
    def _valid_match(cls, match: str | None) -> str | None:
        if match is not None and KeyPattern.parse(match).parts not in ((), (_PART,)):
            raise ValueError(f"{match!r}: the only part of a table's name is {PLACEHOLDER}, once; `*` is any text")
        return match

    @field_validator("match_except")
    @classmethod
    def _valid_exceptions(cls, patterns: tuple[str, ...]) -> tuple[str, ...]:
        for pattern in patterns:
            if KeyPattern.parse(pattern).parts:
                raise ValueError(f"{pattern!r}: write `*` for any text; a part has no meaning here")
        return patterns

    @model_validator(mode="after")
    def _has_a_name_or_a_pattern(self) -> Self:
        if self.match is None and not self.name:
            raise ValueError("a table needs a `name`, or `match` for all DynamoDB tables with such a name")
        if self.match is None:
            for setting in ("match_tags", "match_except"):
                if getattr(self, setting):
                    raise ValueError(f"{setting} needs `match`")
            for setting, what in (("kinesis", "stream"), ("fan_out", "consumer")):
                if self.changes is not None and PLACEHOLDER in (getattr(self.changes, setting) or ""):
                    raise ValueError(f"changes.{setting}: {PLACEHOLDER} needs `match`; write the name of the {what}")
        elif self.name:
            raise ValueError(
                "name and match: the names of discovered tables are those of DynamoDB; a part of them is {name} in `match`"
            )
        elif self.source.table is not None:
            raise ValueError("source.table and match: `match` names the DynamoDB tables")
        return self

    @field_validator("key")
    @classmethod
    def _valid_key(cls, key: tuple[str, ...]) -> tuple[str, ...]:
        if len(key) > 2 or len(set(key)) != len(key) or not all(key):
            raise ValueError("a key is one or two different attribute names")
        return key

    @model_validator(mode="after")
    def _entities_are_apart(self) -> Self:
        check_entities(self.entities, self.key)
        for name in self.iceberg_names:
            if len(name) > LONGEST_TABLE:
                raise ValueError(
                    f"{name!r} has {len(name)} characters, and an Iceberg table's name at most {LONGEST_TABLE}"
                )
        return self

    @model_validator(mode="after")
    def _key_is_not_protected(self) -> Self:
        if fault := key_fault(self.protecting_rules, self.key):
            raise ValueError(fault)
        for name in sorted(self.key_filter.attributes - set(self.key)) if self.key else ():
            raise ValueError(filter_fault(name, self.key))
        return self

    @model_validator(mode="after")
    def _filter_names_entities(self) -> Self:
        for name in sorted(self.key_filter.entity_names - set(self.entity_names)):
            similar = difflib.get_close_matches(name, self.entity_names, n=1)
            guess = f" (did you mean {similar[0]!r}?)" if similar else ""
            raise ValueError(f"filter: {name!r} is no entity of the table{guess}")
        return self

    @model_validator(mode="after")
    def _exports_have_a_destination(self) -> Self:
        if self.changes is not None and self.changes.incremental_exports is not None and self.export is None:
            raise ValueError(
                "changes.incremental_exports needs `export: {bucket: ...}`, the destination of the windows"
            )
        return self

    @model_validator(mode="after")
    def _days_have_changes(self) -> Self:
        if self.daily_states is not None and self.changes is None:
            raise ValueError("daily_states needs `changes`: exports alone do not contain the end of a day")
        return self

    @model_validator(mode="after")
    def _full_check_has_an_export(self) -> Self:
        full = self.checks.full
        if full is not None and full.against != "scan" and self.export is None:
            raise ValueError("checks.full needs `export: {bucket: ...}`, or `against: scan`")
        return self

    def matches(self, table: str, tags: Mapping[str, str]) -> bool:
        """Whether an entry with `match` is for a DynamoDB table, by its name and its tags. Its account and Region are not compared."""
        return self.matches_name(table) and all(
            tags.get(tag) == value or (value == "*" and tag in tags) for tag, value in self.match_tags.items()
        )

    def matches_name(self, table: str) -> bool:
        """Whether an entry with `match` is for DynamoDB tables of a name, if they have its tags."""
        return (
            self.match is not None
            and KeyPattern.parse(self.match).match(table) is not None
            and not any(KeyPattern.parse(pattern).match(table) is not None for pattern in self.match_except)
        )

    def lake_name(self, table: str) -> str:
        """The name of the lake table of a DynamoDB table that an entry with `match` is for."""
        assert self.match is not None, "an entry with `match`"
        return (KeyPattern.parse(self.match).match(table) or {}).get(_PART, table)

    @cached_property
    def key_filter(self) -> KeyFilter:
        """Which items of the source the lake has."""
        if self.filter is None:
            return KeyFilter()
        return self.filter.key_filter([entity.rule for entity in self.entities])

    @cached_property
    def protecting_rules(self) -> dict[str, Rule]:
        """The rules of protected attributes, by attribute."""
        return protecting_rules(self.columns)

    @cached_property
    def iceberg_names(self) -> tuple[str, ...]:
        """The names of the table's Iceberg tables, those of its entities included."""
        return derived_names(self.name, daily=False, entities=self.entity_names)

    @cached_property
    def entity_names(self) -> tuple[str, ...]:
        """The names of the entities, in order."""
        return tuple(entity.name for entity in self.entities)

    @property
    def source_name(self) -> str:
        """The DynamoDB table's name."""
        return self.source.table or self.name

    @cached_property
    def identity(self) -> Source:
        """The DynamoDB table, with Region and account as far as they are configured."""
        account = self.source.account or arn_parts(self.source.role_arn)[1]
        return Source(self.name, self.source_name, self.source.region, account)

    @cached_property
    def clock_skew_us(self) -> int:
        """The snapshot margin in microseconds."""
        return seconds(self.snapshot_margin) * 1_000_000

    @property
    def validator(self) -> Validator | None:
        """The compiled JSON Schema for landed changes; None without one."""
        return None if self.validation is None else self.validation.validator

    @cached_property
    def schema_options(self) -> SchemaOptions:
        """The options of the table schema."""
        return SchemaOptions(nested=self.nested, depth=self.flatten_depth, overrides=column_types(self.columns))

    def entity_options(self, entity: EntitySettings) -> SchemaOptions:
        """The options of an entity's table schema. A column type of a part of the key applies to the part, and to no attribute."""
        parts = entity.rule.parts
        numbers = {part_path(name)[0]: kind for name, kind in entity.rule.types.items() if kind != "string"}
        attributes = {name: kind for name, kind in column_types(entity.columns).items() if name not in parts}
        return replace(self.schema_options, overrides=column_types(self.columns) | attributes | numbers)
