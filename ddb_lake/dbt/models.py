"""The text of a table's dbt models, from the lake's schema of the table. Does not import dbt.

For the table `orders`: the sources, `stg_lake__orders` and `stg_lake__orders_changes` (views), a staging view for each entity,
`dim_orders_history` and `fct_orders_daily_changes` (incremental), and the macro `orders_columns`, which lists the items' columns. The
SQL comes from `templates/`; they are Jinja templates with other delimiters (`<< >>`, `<% %>`), because a dbt model is a Jinja template
itself. The models call macros of the dbt package `ddb_lake` (the folder `package`). The properties (YAML) document each column, declare
its type as a contract, and have tests for the key, unit tests, and the column for `dbt source freshness`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any

import yaml
from jinja2 import Environment, PackageLoader, StrictUndefined

from ddb_lake.core.layout.table_names import glue_name
from ddb_lake.core.schema.table_schema import CURRENT_METADATA, EXPIRED_AT, Column, TableSchema, column_names
from ddb_lake.lake.schemas import CHANGES_COLUMNS, column_doc

MARK = "Written by `ddb-lake init-dbt`: run it again when the table has new columns."
"""The first line of each file that may be overwritten."""

SOURCE = "lake"
_SCALARS = {
    "string": "varchar",
    "json": "varchar",
    "long": "bigint",
    "double": "double",
    "binary": "varbinary",
    "boolean": "boolean",
    "timestamp": "timestamp(6)",
}
_CHANGE_COLUMNS = (
    *("record_id", "kind", "event_name", "changed_at", "asserted_at", "new_image", "old_image", "ttl"),
    *("sequence_number", "stream", "kinesis_sequence", "arrival_hour", "_key_hash", "_batch"),
)
"""The columns of the changelog in its staging model, each with the prefix `_`."""

_RENAMED = {"event_name": "_event", "ttl": "_is_ttl"}
_HISTORY_COLUMNS: dict[str, tuple[str, str]] = {
    "_version_id": ("varchar", "Names the version: the id of the change record that began it, or says what else did."),
    "_valid_from": (
        "timestamp(6)",
        "When the version began (UTC, inclusive); null if before the first record of the item.",
    ),
    "_valid_to": ("timestamp(6)", "When the version ended (UTC, exclusive); null while it holds."),
    "_is_current": ("boolean", "Whether the version holds."),
    "_started_by": ("varchar", "insert, update, export (an export has it and no change record says why) or unknown."),
    "_ended_by": ("varchar", "update, delete (by a user), ttl (by Time to Live) or export; null while it holds."),
    "_changes": ("bigint", "Change records of the instant in which it began; the last of them is the version."),
    "_item": ("varchar", "The item, DynamoDB JSON; null if it is known from an export only."),
    "_key_hash": ("bigint", "Hash of the primary key."),
    "_through_batch": ("bigint", "Commit of the changelog up to which the version was computed."),
    "_base_at": ("timestamp(6)", "The newest export when the version was computed (UTC)."),
}
_DAILY_COLUMNS: dict[str, tuple[str, str]] = {
    "change_day": ("date", "Day of the changes (UTC)."),
    "inserts": ("bigint", "Items inserted."),
    "updates": ("bigint", "Items modified."),
    "user_deletes": ("bigint", "Items deleted by a user."),
    "ttl_deletes": ("bigint", "Items deleted by Time to Live."),
    "items": ("bigint", "Different items changed."),
    "_through_batch": ("bigint", "Commit of the changelog up to which the day is counted."),
}


_MACROS = Path(__file__).parent / "package" / "macros"
_OWN_NAME = re.compile(r"(?<!\w)_[a-z]\w*")


@cache
def _templates() -> Environment:
    environment = Environment(
        loader=PackageLoader("ddb_lake.dbt"),
        variable_start_string="<<",
        variable_end_string=">>",
        block_start_string="<%",
        block_end_string="%>",
        comment_start_string="<#",
        comment_end_string="#>",
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        undefined=StrictUndefined,
        autoescape=False,
    )
    environment.filters |= {"jinja_string": _jinja_string, "sql_identifier": _quote}
    return environment


@cache
def own_names() -> frozenset[str]:
    """The names of all columns in models and macros that are not columns of attributes. All begin with `_`."""
    used = (name for macro in _MACROS.rglob("*.sql") for name in _OWN_NAME.findall(macro.read_text(encoding="utf-8")))
    shown = (*CURRENT_METADATA, *EXPIRED_AT, *map(_change_name, _CHANGE_COLUMNS), *_HISTORY_COLUMNS)
    return frozenset({*shown, *used})


@dataclass(frozen=True, slots=True)
class ModelNames:
    """The names of a table's models, by dbt's conventions.

    Attributes:
        items: the staging model of the existing items.
        changes: the staging model of the change records.
        history: the versions of the items.
        daily: the change records by day.
    """

    items: str
    changes: str
    history: str
    daily: str

    @classmethod
    def of(cls, name: str) -> ModelNames:
        """The names for a table. `name`: the table's name in models."""
        staging = f"stg_{SOURCE}__{name}"
        return cls(staging, f"{staging}_changes", f"dim_{name}_history", f"fct_{name}_daily_changes")

    @classmethod
    def former(cls, name: str) -> ModelNames:
        """The names that a release before these conventions gave."""
        return cls(f"stg_{name}", f"stg_{name}_changes", f"{name}_history", f"{name}_daily_changes")


@dataclass(frozen=True, slots=True)
class TableModels:
    """The facts that the models of a table are rendered from.

    Args:
        table: the table's name in the lake.
        schema: the lake's schema of its items.
        clock_skew_s: the clock skew allowance (`snapshot_margin`), in seconds.
        keep_expired: whether the lake keeps items that Time to Live deleted.
        entities: the tables of its entities, as tables of their own, by the entities' names. Only staging models are made of them.
    """

    table: str
    schema: TableSchema
    clock_skew_s: int = 300
    keep_expired: bool = False
    entities: Mapping[str, TableModels] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """The table's name in models: lower case letters, digits and underscores."""
        return glue_name(self.table)

    @property
    def names(self) -> ModelNames:
        """The names of the models. Those of an entity have only `items`."""
        return ModelNames.of(self.name)

    @property
    def columns(self) -> list[Column]:
        """The attributes' columns with their names in the models: the lake's name, with a suffix if it is in `own_names()`."""
        reserved = own_names()
        free = {c.identity: c.name for c in self.schema.columns if c.name.lower() not in reserved}
        names = column_names([c.identity for c in self.schema.columns], free, reserved)
        return [replace(c, name=names[c.identity]) for c in self.schema.columns]

    @property
    def keys(self) -> list[Column]:
        """The columns of the key attributes."""
        by_path = {c.path: c for c in self.columns}
        return [by_path[(name,)] for name in self.schema.key if (name,) in by_path]

    def files(self) -> dict[str, str]:
        """The text of each file, by its path below the project."""
        names = self.names
        staging, marts = f"models/staging/{SOURCE}/{self.name}", f"models/marts/{self.name}"
        return {
            f"macros/tables/{self.name}.sql": self._sql("columns_macro"),
            f"{staging}/{names.items}.sql": self._sql("staging", self._current_columns()),
            f"{staging}/{names.changes}.sql": self._sql("staging_changes", _changelog_columns()),
            f"{staging}/_{names.items}.yml": self._staging_properties(),
            f"{marts}/{names.history}.sql": self._sql("history"),
            f"{marts}/{names.daily}.sql": self._sql("daily_changes"),
            f"{marts}/_{names.history}.yml": self._history_properties(),
            **{
                path: text
                for entity, models in self.entities.items()
                for path, text in models._entity_files(self.table, entity).items()
            },
        }

    def former_files(self) -> list[str]:
        """The paths that these files had before the models had the names of dbt's conventions."""
        name, names = self.name, ModelNames.former(self.name)
        staging, history = f"models/staging/{name}", f"models/history/{name}"
        return [
            f"{staging}/{names.items}.sql",
            f"{staging}/{names.changes}.sql",
            f"{staging}/_{names.items}.yml",
            f"{history}/{names.history}.sql",
            f"{history}/{names.daily}.sql",
            f"{history}/_{names.history}.yml",
            *(
                f"{staging}/{prefix}stg_{entity.name}.{kind}"
                for entity in self.entities.values()
                for prefix, kind in _KINDS
            ),
        ]

    def renamed(self) -> dict[str, str]:
        """The names of the models by the names that they had before, those of the entities too."""
        former, now = ModelNames.former(self.name), self.names
        pairs = {
            former.items: now.items,
            former.changes: now.changes,
            former.history: now.history,
            former.daily: now.daily,
        }
        return pairs | {ModelNames.former(e.name).items: e.names.items for e in self.entities.values()}

    def _entity_files(self, table: str, entity: str) -> dict[str, str]:
        """The staging model of these rows as those of an entity of `table`, in the folder of that table's models."""
        folder, of_table = f"models/staging/{SOURCE}/{glue_name(table)}", _without_jinja(table)
        described = f"The existing items of the entity `{entity}` of the DynamoDB table `{of_table}`, one row each, in typed columns."
        document = {
            "sources": [self._source([self._current_source(described, _asset(table, "current", entity))])],
            "models": [self._staging_model(described)],
        }
        return {
            f"{folder}/{self.names.items}.sql": self._sql("staging", self._current_columns()),
            f"{folder}/_{self.names.items}.yml": _document(document),
        }

    # --- SQL

    def _sql(self, template: str, selected: Sequence[str] = ()) -> str:
        """Render a template. `selected`: the columns that the model selects from its source, as SQL."""
        text: str = (
            _templates()
            .get_template(f"{template}.sql.jinja")
            .render(
                mark=MARK,
                source=SOURCE,
                table=_without_jinja(self.table),
                name=self.name,
                names=self.names,
                columns=self.columns,
                keys=self.keys,
                selected=selected,
                keep_expired=self.keep_expired,
                clock_skew_s=self.clock_skew_s,
            )
        )
        return text

    def _current_columns(self) -> list[str]:
        columns = [
            _quote(stored.name) if stored.name == shown.name else f"{_quote(stored.name)} as {_quote(shown.name)}"
            for stored, shown in zip(self.schema.columns, self.columns, strict=True)
        ]
        return columns + [name for name in CURRENT_METADATA if name != "_expired_at"]

    # --- properties

    def _staging_properties(self) -> str:
        shown = _without_jinja(self.table)
        change = [
            _column(_change_name(name), _SCALARS[CHANGES_COLUMNS[name][0]], CHANGES_COLUMNS[name][1])
            for name in _CHANGE_COLUMNS
        ]
        _test(change, "_record_id", "unique", "not_null")
        after = [_property(c, "After the change; null when removed. ") for c in self.columns[len(self.keys) :]]
        keys = [_property(c) for c in self.keys]
        for key in self.keys:
            _test(keys, key.name, "not_null")
        models = [
            self._staging_model(f"The existing items of the DynamoDB table `{shown}`, one row each, in typed columns."),
            {
                "name": self.names.changes,
                "description": f"Every distinct change record of `{shown}` once, with the item after the change in columns.",
                "config": _CONTRACT,
                "columns": change + keys + after,
            },
        ]
        return _document({"sources": [self._sources()], "models": models})

    def _staging_model(self, description: str) -> dict[str, Any]:
        own = [_property(c) for c in self.columns]
        for key in self.keys:
            _test(own, key.name, *(["unique"] if len(self.keys) == 1 else []), "not_null")
        kept = [_column(name, _SCALARS[kind], doc) for name, (kind, doc) in CURRENT_METADATA.items()]
        return {
            "name": self.names.items,
            "description": description,
            "config": _CONTRACT,
            **({"data_tests": [_unique(self.keys)]} if len(self.keys) > 1 else {}),
            "columns": own + kept,
        }

    def _sources(self) -> dict[str, Any]:
        shown = _without_jinja(self.table)
        changes = {
            "name": f"{self.name}_changes",
            "description": f"The changelog of `{shown}`: every distinct change record once.",
            "config": _source_config("changed_at", _asset(self.table, "changes")),
            "columns": [_column(name, None, doc) for name, (_, doc) in CHANGES_COLUMNS.items()],
        }
        return self._source(
            [self._current_source(f"The existing items of `{shown}`.", _asset(self.table, "current")), changes]
        )

    def _current_source(self, description: str, meta: dict[str, Any]) -> dict[str, Any]:
        current = [_column(c.name, None, column_doc(c)) for c in self.schema.columns]
        metadata = CURRENT_METADATA | (EXPIRED_AT if self.keep_expired else {})
        current += [_column(name, None, doc) for name, (_, doc) in metadata.items()]
        config = _source_config("_changed_at", meta)
        return {"name": self.name, "description": description, "config": config, "columns": current}

    @staticmethod
    def _source(tables: list[dict[str, Any]]) -> dict[str, Any]:
        return {
            "name": SOURCE,
            "description": "The lake's Iceberg tables, as ddb_lake keeps them.",
            "database": "{{ 'lake' if target.type == 'duckdb' else target.database }}",
            "schema": "{{ var('lake_namespace', 'ddb_lake') }}",
            "tables": tables,
        }

    def _history_properties(self) -> str:
        shown = _without_jinja(self.table)
        own = [_property(c) for c in self.columns]
        keys = [c.name for c in self.keys]
        for key in keys:
            _test(own, key, "not_null")
        kept = [_column(name, kind, doc) for name, (kind, doc) in _HISTORY_COLUMNS.items()]
        _test(kept, "_version_id", "unique", "not_null")
        _accepted_values(kept, "_started_by", "insert", "update", "export", "unknown")
        _accepted_values(kept, "_ended_by", "update", "delete", "ttl", "export")
        daily = [_column(name, kind, doc) for name, (kind, doc) in _DAILY_COLUMNS.items()]
        _test(daily, "change_day", "unique", "not_null")
        same = {"other": f"ref('{self.names.items}')", "columns": f"{{{{ {self.name}_columns() }}}}"}
        models = [
            {
                "name": self.names.history,
                "description": f"The history of the items of `{shown}` (slowly changing dimension, type 2): one row for"
                " each image an item had, with the interval in which it had it. Where an item was deleted there is none.",
                "config": _CONTRACT,
                "data_tests": [
                    {"ddb_lake.intervals_disjoint": {"arguments": {"key": keys}}},
                    {"ddb_lake.same_items": {"arguments": same, "config": {"severity": "warn"}}},
                ],
                "columns": own + kept,
            },
            {
                "name": self.names.daily,
                "description": f"The change records of `{shown}` by day (UTC); lines of incremental exports do not count.",
                "config": _CONTRACT,
                "columns": daily,
            },
        ]
        return _document({"models": models, "unit_tests": [self._history_unit_test(), self._daily_unit_test()]})

    # --- unit tests

    def _history_unit_test(self) -> dict[str, Any]:
        key = {
            column.name: 1 if column.type in _NUMBERS or column.type.startswith("decimal") else "a"
            for column in self.keys
        }
        one, two = '{"n":{"N":"1"}}', '{"n":{"N":"2"}}'
        events = [("INSERT", "09", None, one), ("MODIFY", "10", one, two), ("REMOVE", "11", two, None)]
        changes = [
            {**_CHANGE, "_record_id": f"at-{hour}", "_event": event, "_changed_at": f"2026-01-02 {hour}:00:00"}
            | {"_old_image": before, "_new_image": after, **key}
            for event, hour, before, after in events
        ]
        versions = [
            {**key, "_valid_from": "2026-01-02 09:00:00", "_valid_to": "2026-01-02 10:00:00", "_is_current": False}
            | {"_started_by": "insert", "_ended_by": "update", "_changes": 1},
            {**key, "_valid_from": "2026-01-02 10:00:00", "_valid_to": "2026-01-02 11:00:00", "_is_current": False}
            | {"_started_by": "update", "_ended_by": "delete", "_changes": 1},
        ]
        description = "An item that is inserted, changed and deleted had two versions, each until the next change."
        given = {self.names.changes: changes, self.names.items: []}
        return _unit_test(self.names.history, "versions_follow_each_other", description, given, versions)

    def _daily_unit_test(self) -> dict[str, Any]:
        changes = [
            {**_CHANGE, "_event": event, "_changed_at": at, "_key_hash": key, "_is_ttl": ttl, "_batch": batch}
            for event, at, key, ttl, batch in [
                ("INSERT", "2026-01-02 00:00:00", 1, False, 1),
                ("MODIFY", "2026-01-02 23:59:59.999999", 1, False, 1),
                ("REMOVE", "2026-01-03 00:00:00", 1, True, 1),
                ("REMOVE", "2026-01-03 08:00:00", 2, False, 2),
            ]
        ]
        counted = ("inserts", "updates", "user_deletes", "ttl_deletes", "items", "_through_batch")
        days = [
            {"change_day": "2026-01-02", **dict(zip(counted, (1, 1, 0, 0, 1, 1), strict=True))},
            {"change_day": "2026-01-03", **dict(zip(counted, (0, 0, 1, 1, 2, 2), strict=True))},
        ]
        description = "A change counts on its day in UTC, and Time to Live is counted apart from users."
        return _unit_test(self.names.daily, "changes_count_by_day", description, {self.names.changes: changes}, days)


_KINDS = (("", "sql"), ("_", "yml"))
"""Of the files of a staging model: what is before its name, and the suffix."""

_NUMBERS = ("long", "double")
_CHANGE = {"_is_ttl": False, "_key_hash": 1, "_batch": 1}
"""What the change records of unit tests have unless they say otherwise. Columns that a unit test does not name are null."""

_CONTRACT = {"contract": {"enforced": True}}


def _source_config(loaded_at_field: str, meta: dict[str, Any]) -> dict[str, Any]:
    """The configuration of a source. `loaded_at_field`: the column with the time of the change, for `dbt source freshness`."""
    freshness = {"warn_after": {"count": "{{ var('lake_stale_hours', 24) }}", "period": "hour"}}
    return {"loaded_at_field": loaded_at_field, "freshness": freshness, "meta": meta}


def _unit_test(
    model: str, name: str, description: str, given: Mapping[str, list[dict[str, Any]]], expected: list[dict[str, Any]]
) -> dict[str, Any]:
    """A unit test of a build from nothing. `given`: the rows of each model that it reads."""
    return {
        "name": f"{model}_{name}",
        "description": description,
        "model": model,
        "overrides": {"macros": {"is_incremental": False}},
        "given": [{"input": f"ref('{input_model}')", "rows": rows} for input_model, rows in given.items()],
        "expect": {"rows": expected},
    }


def _asset(table: str, stage: str, entity: str = "") -> dict[str, Any]:
    """The Dagster asset of a source, as `meta` for our component and for dagster-dbt. `entity`: empty for the whole table."""
    of_entity = {"entity": entity} if entity else {}
    key = [stage, table, entity] if entity else [stage, table]
    return {"ddb_lake": {"table": table, "stage": stage, **of_entity}, "dagster": {"asset_key": key}}


def data_type(column_type: str) -> str:
    """A column type for a model's contract, valid in DuckDB and Athena."""
    if column_type.startswith("list<"):
        inner = data_type(column_type[5:-1])
        return f"{{{{ '{inner}[]' if target.type == 'duckdb' else 'array({inner})' }}}}"
    return _SCALARS.get(column_type, column_type)


def _property(column: Column, before: str = "") -> dict[str, Any]:
    return _column(column.name, data_type(column.type), f"{before}Attribute {column_doc(column)}", quote=True)


def _column(name: str, kind: str | None, description: str, quote: bool = False) -> dict[str, Any]:
    typed = {"data_type": kind} if kind else {}
    return {"name": name, **typed, **({"quote": True} if quote else {}), "description": _without_jinja(description)}


def _test(columns: list[dict[str, Any]], name: str, *tests: Any) -> None:
    column = next(c for c in columns if c["name"] == name)
    column["data_tests"] = [*column.get("data_tests", []), *tests]


def _accepted_values(columns: list[dict[str, Any]], name: str, *values: str) -> None:
    _test(columns, name, {"accepted_values": {"arguments": {"values": list(values)}}})


def _unique(keys: list[Column]) -> dict[str, Any]:
    return {"ddb_lake.unique_combination_of_columns": {"arguments": {"combination_of_columns": [c.name for c in keys]}}}


def _changelog_columns() -> list[str]:
    return [f"{name} as {_change_name(name)}" if _change_name(name) != name else name for name in _CHANGE_COLUMNS]


def _change_name(name: str) -> str:
    return _RENAMED.get(name) or (name if name.startswith("_") else f"_{name}")


def _quote(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _jinja_string(text: str) -> str:
    """A Jinja string literal. Braces are escaped, so that they do not end the expression."""
    return (
        json.dumps(text, ensure_ascii=False)
        .replace("{", "\\x7b")
        .replace("}", "\\x7d")
        .replace("%", "\\x25")
        .replace("#", "\\x23")
    )


def _without_jinja(text: str) -> str:
    """Text without Jinja's delimiters: a space separates their characters."""
    return re.sub(r"\{(?=[{%#])", "{ ", text).replace("}}", "} }")


class _WithoutAnchors(yaml.SafeDumper):
    """Writes equal values in full: people edit these files."""

    def ignore_aliases(self, data: Any) -> bool:  # noqa: ARG002  # PyYAML's signature
        """No value is written as a reference to another one."""
        return True


def _document(content: dict[str, Any]) -> str:
    document = {"version": 2, **content}
    text: str = yaml.dump(document, Dumper=_WithoutAnchors, sort_keys=False, allow_unicode=True, width=120)
    return f"# {MARK}\n{text}"
