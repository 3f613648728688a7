"""A row's primary key as text, in SQL: what `core.values.primary_key.key_text` makes of the item."""

from __future__ import annotations

from ddb_lake.core.schema.table_schema import TableSchema
from ddb_lake.engine.projection import number_text
from ddb_lake.engine.sql import carried, literal


def key_text_sql(schema: TableSchema, rescued: str = "_rescued") -> str:
    """SQL of `_key` over the columns of a projected row.

    A key value that its column does not hold (a number that does not fit) is taken from `_rescued`.
    """
    return " || ".join(_part(schema, name, rescued) for name in schema.key)


def _part(schema: TableSchema, name: str, rescued: str) -> str:
    column = schema.column((name,))
    assert column is not None, "the key's attributes always have columns"
    held = carried(column.name)
    if column.tag == "N":
        held = f"ddb_canonical_number({held})" if column.type == "string" else number_text(column.type, held)
    elif column.tag == "B":
        held = f"to_base64({held})"
    pieces = [f"concat('{column.tag}', length({held}), ':', {held})"]
    pointer = "/" + column.pointer.replace("~", "~0").replace("/", "~1")
    for tag in ("S", "N", "B"):
        found = f"json_extract_string({rescued}, {literal(f'{pointer}/{tag}')})"
        if tag == "N":
            found = f"ddb_canonical_number({found})"
        pieces.append(f"'{tag}' || length({found}) || ':' || {found}")
    return f"CASE WHEN {held} IS NOT NULL THEN {pieces[0]} ELSE coalesce({', '.join(pieces[1:])}) END"


def key_hash_sql(key: str = "_key") -> str:
    """SQL of `core.values.primary_key.key_hash`."""
    return f"(md5_number({key}) >> 65)::BIGINT"
