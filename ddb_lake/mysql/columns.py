"""A lake table's columns in a MySQL-compatible database: their names, SQL types, and how their values are written.

The types hold every value that the lake's column can hold, exactly:

| lake | MySQL |
| --- | --- |
| string (S) | LONGTEXT; of a key VARCHAR(2048) (partition key) or VARCHAR(1024) (sort key), which are DynamoDB's limits |
| string (N: numbers that fit no DECIMAL) | LONGTEXT, the exact text |
| long, double, boolean | BIGINT, DOUBLE, BOOLEAN |
| decimal(38,S) | DECIMAL(38,S) up to S = 30, MySQL's limit; beyond, LONGTEXT with the exact text |
| binary | LONGBLOB; of a key VARBINARY |
| timestamp | DATETIME(6) |
| json, lists (sets) | JSON; MariaDB: LONGTEXT, as its JSON refuses documents nested more than 32 deep |

`number`s in the JSON of a number set are strings, so that no reader rounds them. Pure.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from ddb_lake.core.schema.table_schema import (
    Column,
    Path,
    TableSchema,
    column_names,
)
from ddb_lake.engine.projection import number_text
from ddb_lake.engine.sql import carried, identifier
from ddb_lake.errors import ConfigError
from ddb_lake.mysql.statements import KEY, SqlColumn, shortened

KEY_BYTES: Final = (2048, 1024)
INDEXED_CHARACTERS: Final = 191
"""How much of a text column of the key is indexed: two such columns fit any index."""

MAX_SCALE: Final = 30
METADATA: Final = (
    Column((), "", "_changed_at", "timestamp"),
    Column((), "", "_source", "string"),
    Column((), "", "_rescued", "string"),
)
EXPIRED_AT: Final = Column((), "", "_expired_at", "timestamp")

_SIMPLE: Final = {
    "long": "BIGINT",
    "double": "DOUBLE",
    "boolean": "BOOLEAN",
    "timestamp": "DATETIME(6)",
    "binary": "LONGBLOB",
}
_LENGTH: Final = re.compile(r"(?i)(?:var)?(?:char|binary)\s*\((\d+)\).*")
_UNBOUNDED: Final = re.compile(r"(?i)\w*(?:text|blob).*")


@dataclass(frozen=True, slots=True)
class Replicated:
    """One column: the lake's (`name`, `type`), and its counterpart."""

    column: Column
    sql: SqlColumn

    @property
    def name(self) -> str:
        """The lake's name of it."""
        return self.column.name

    @property
    def text(self) -> str:
        """DuckDB's SQL of the text that stands in a file for the value; NULL for NULL."""
        return value_text(self.column.type, carried(self.name) if self.column.path else identifier(self.name))


def replicated(
    schema: TableSchema,
    expired: bool,
    wanted: Sequence[str] = (),
    types: Mapping[str, str] | None = None,
    native_json: bool = True,
) -> list[Replicated]:
    """The columns to replicate: the key's, then those `wanted` (none named: all), then the metadata columns.

    Args:
        expired: whether the lake's table has `_expired_at`.
        types: SQL types that are wanted instead of the usual ones, by the lake's column name.

    Raises:
        ConfigError: a name in `wanted` or `types` is none of the lake's columns.
    """
    held = {column.name: column for column in (*schema.columns, *METADATA, *((EXPIRED_AT,) if expired else ()))}
    unknown = sorted({*wanted, *(types or ())} - set(held))
    if unknown:
        raise ConfigError(f"aurora: no such columns in the lake: {', '.join(unknown)}; it has {', '.join(held)}")
    chosen = [
        column
        for column in held.values()
        if not wanted or column.name in wanted or not column.path or _key_place(schema, column) is not None
    ]
    names = sql_names(schema)
    return [
        Replicated(
            column,
            SqlColumn(
                names.get(column.path) or column.name,
                (types or {}).get(column.name) or sql_type(schema, column, native_json),
            ),
        )
        for column in chosen
    ]


def _key_place(schema: TableSchema, column: Column) -> int | None:
    return schema.key.index(column.path[0]) if len(column.path) == 1 and column.path[0] in schema.key else None


def sql_names(schema: TableSchema) -> dict[Path, str]:
    """The names of a table's columns in the database: the lake's, with a suffix where it is `_key`."""
    free = {c.path: c.name for c in schema.columns if c.name.lower() != KEY}
    return {path: shortened(name) for path, name in column_names([c.path for c in schema.columns], free, {KEY}).items()}


def sql_type(schema: TableSchema, column: Column, native_json: bool = True) -> str:
    """The SQL type that holds whatever a column of the lake can hold."""
    place = _key_place(schema, column)
    if place is not None and column.tag in ("S", "B"):
        return f"{'VARCHAR' if column.tag == 'S' else 'VARBINARY'}({KEY_BYTES[min(place, 1)]})"
    if column.type.startswith("decimal"):
        precision, scale = (int(part) for part in column.type[8:-1].split(","))
        return f"DECIMAL({precision},{scale})" if scale <= MAX_SCALE else "LONGTEXT"
    if column.type == "json" or column.type.startswith("list<"):
        return "JSON" if native_json else "LONGTEXT"
    return _SIMPLE.get(column.type, "LONGTEXT")


def value_text(column_type: str, value: str) -> str:
    """DuckDB's SQL of the text of a value of a lake's column type."""
    if column_type.startswith("list<"):
        return f"to_json(list_transform({value}, lambda x: {value_text(column_type[5:-1], 'x')}))::VARCHAR"
    if column_type == "binary":
        return f"to_base64({value})"
    if column_type == "boolean":
        return f"({value})::TINYINT::VARCHAR"
    if column_type == "long" or column_type.startswith("decimal"):
        return number_text(column_type, value)
    return f"({value})::VARCHAR"


def key_index(schema: TableSchema, columns: Sequence[Replicated]) -> list[str]:
    """The parts of an index by which items are found by their own key, as MySQL's SQL."""
    by_path = {one.column.path: one.sql for one in columns}
    return [_index_part(by_path[(name,)]) for name in schema.key if (name,) in by_path]


def _index_part(column: SqlColumn) -> str:
    name = f"`{column.name}`"
    length = _LENGTH.fullmatch(column.type)
    if length:
        return f"{name}({min(int(length[1]), INDEXED_CHARACTERS)})"
    return f"{name}({INDEXED_CHARACTERS})" if _UNBOUNDED.fullmatch(column.type) else name
