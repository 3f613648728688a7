"""A row's primary key as text, in SQL: what `core.values.primary_key.key_text` makes of the item."""

from __future__ import annotations

from ddb_lake.core.schema.table_schema import TableSchema
from ddb_lake.engine.projection import number_text
from ddb_lake.engine.sql import carried, quoted


def key_text_sql(schema: TableSchema, rescued: str = "_rescued") -> str:
    """SQL of `_key` over the columns of a projected row.

    A key value that its column does not hold (a number that does not fit) is taken from `_rescued`.
    """
    return " || ".join(_part(schema, name, rescued) for name in schema.key)


def _part(schema: TableSchema, name: str, rescued: str) -> str:
    held, tag, found = _values(schema, name, rescued)
    pieces = [f"'{kind}' || length({text}) || ':' || {text}" for kind, text in found.items()]
    return f"CASE WHEN {held} IS NOT NULL THEN concat('{tag}', length({held}), ':', {held}) ELSE coalesce({', '.join(pieces)}) END"


def key_value_sql(schema: TableSchema, name: str, rescued: str = "_rescued") -> str:
    """SQL of the text of one key attribute, over the columns of a projected row: as in `_key`, without type and length."""
    held, _, found = _values(schema, name, rescued)
    return f"coalesce({held}, {', '.join(found.values())})"


def _values(schema: TableSchema, name: str, rescued: str) -> tuple[str, str, dict[str, str]]:
    """SQL of a key attribute's text in its column, the column's tag, and SQL of the text in `_rescued` by tag."""
    column = schema.column((name,))
    assert column is not None, "the key's attributes always have columns"
    held = carried(column.name)
    if column.tag == "N":
        held = f"ddb_canonical_number({held})" if column.type == "string" else number_text(column.type, held)
    elif column.tag == "B":
        held = f"to_base64({held})"
    pointer = "/" + column.pointer.replace("~", "~0").replace("/", "~1")
    tags = ("S", "N", "B")
    paths = quoted([f"{pointer}/{tag}" for tag in tags])
    found = {tag: f"json_extract_string({rescued}, {path})" for tag, path in zip(tags, paths, strict=True)}
    found["N"] = f"ddb_canonical_number({found['N']})"
    return held, column.tag, found


def key_hash_sql(key: str = "_key") -> str:
    """SQL of `core.values.primary_key.key_hash`."""
    return f"(md5_number({key}) >> 65)::BIGINT"
