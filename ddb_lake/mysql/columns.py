"""The columns of a lake table in a MySQL-compatible database: names, SQL types, and the text of values in files.

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
| json (declared: plain JSON) | LONGTEXT, because JSON would round the numbers |

`number`s in the JSON of a number set are strings, so that no reader rounds them. Pure.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from ddb_lake.core.schema.table_schema import ANY, Column, Identity, TableSchema, column_names
from ddb_lake.engine.projection import number_text
from ddb_lake.engine.sql import carried, identifier
from ddb_lake.errors import ConfigError
from ddb_lake.mysql.statements import KEY, SqlColumn, shortened

KEY_BYTES: Final = (2048, 1024)
INDEXED_CHARACTERS: Final = 191
"""The indexed length of a text column of the key. Two such columns fit the size limit of an index."""

MAX_SCALE: Final = 30
METADATA: Final = (
    Column((), "", "_changed_at", "timestamp"),
    Column((), "", "_source", "string"),
    Column((), "", "_rescued", "string"),
)
EXPIRED_AT: Final = Column((), "", "_expired_at", "timestamp")

_SQL_TYPES: Final = {
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
    """A column of the lake and its column in the database."""

    column: Column
    sql: SqlColumn

    @property
    def name(self) -> str:
        """The name of the column in the lake."""
        return self.column.name

    @property
    def text(self) -> str:
        """DuckDB SQL for the text of the value in a file; NULL for NULL."""
        return value_text(self.column.type, carried(self.name) if self.column.path else identifier(self.name))


def replicated_columns(
    schema: TableSchema,
    expired: bool,
    wanted: Sequence[str] = (),
    types: Mapping[str, str] | None = None,
    native_json: bool = True,
) -> list[Replicated]:
    """The columns to replicate: the key's, then the `wanted` ones, then the metadata columns.

    Args:
        expired: whether the lake's table has `_expired_at`.
        wanted: names of columns of the lake; all if empty.
        types: SQL types in place of the default ones, by the name of the lake's column.
        native_json: whether the database has a JSON type without a depth limit of 32.

    Raises:
        ConfigError: the lake has no column of a name in `wanted` or `types`.
    """
    available = {column.name: column for column in (*schema.columns, *METADATA, *((EXPIRED_AT,) if expired else ()))}
    unknown = sorted({*wanted, *(types or ())} - set(available))
    if unknown:
        raise ConfigError(f"aurora: no such columns in the lake: {', '.join(unknown)}; it has {', '.join(available)}")
    chosen = [
        column
        for column in available.values()
        if not wanted or column.name in wanted or not column.path or _key_place(schema, column) is not None
    ]
    names = sql_names(schema)
    return [
        Replicated(
            column,
            SqlColumn(
                names.get(column.identity) or column.name,
                (types or {}).get(column.name) or sql_type(schema, column, native_json),
            ),
        )
        for column in chosen
    ]


def _key_place(schema: TableSchema, column: Column) -> int | None:
    return schema.key.index(column.path[0]) if len(column.path) == 1 and column.path[0] in schema.key else None


def sql_names(schema: TableSchema) -> dict[Identity, str]:
    """The names of columns in the database: the lake's names, with a suffix for a column named `_key`."""
    free = {c.identity: c.name for c in schema.columns if c.name.lower() != KEY}
    names = column_names([c.identity for c in schema.columns], free, {KEY})
    return {identity: shortened(name) for identity, name in names.items()}


def sql_type(schema: TableSchema, column: Column, native_json: bool = True) -> str:
    """The SQL type that holds every value of a column of the lake."""
    place = _key_place(schema, column)
    if place is not None and column.tag in ("S", "B"):
        return f"{'VARCHAR' if column.tag == 'S' else 'VARBINARY'}({KEY_BYTES[min(place, 1)]})"
    if column.type.startswith("decimal"):
        precision, scale = (int(part) for part in column.type[8:-1].split(","))
        return f"DECIMAL({precision},{scale})" if scale <= MAX_SCALE else "LONGTEXT"
    if column.tag == ANY:
        return "LONGTEXT"
    if column.type == "json" or column.type.startswith("list<"):
        return "JSON" if native_json else "LONGTEXT"
    return _SQL_TYPES.get(column.type, "LONGTEXT")


def value_text(column_type: str, value: str) -> str:
    """DuckDB SQL for the text of a value of a lake's column type."""
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
    """The parts (MySQL SQL) of an index over the item's key."""
    by_path = {one.column.path: one.sql for one in columns}
    return [_index_part(by_path[(name,)]) for name in schema.key if (name,) in by_path]


def _index_part(column: SqlColumn) -> str:
    name = f"`{column.name}`"
    length = _LENGTH.fullmatch(column.type)
    if length:
        return f"{name}({min(int(length[1]), INDEXED_CHARACTERS)})"
    return f"{name}({INDEXED_CHARACTERS})" if _UNBOUNDED.fullmatch(column.type) else name
