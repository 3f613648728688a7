"""The inverse of `engine.projection`: typed columns back to DynamoDB JSON text, in SQL."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field

import orjson

from ddb_lake.core.schema.table_schema import ANY, Column, Path, TableSchema, parse_pointer, place
from ddb_lake.core.values.change_record import Item
from ddb_lake.engine.projection import number_text
from ddb_lake.engine.session import Session
from ddb_lake.engine.sql import carried, literal


@dataclass(slots=True)
class _Members:
    leaves: dict[str, list[Column]] = field(default_factory=dict)
    maps: dict[str, _Members] = field(default_factory=dict)


def item_sql(schema: TableSchema) -> str:
    """SQL of the item's JSON text without what `_rescued` holds."""
    return f"'{{' || {_members(_tree(schema))} || '}}'"


def _tree(schema: TableSchema) -> _Members:
    root = _Members()
    for column in schema.columns:
        node = root
        for name in column.path[:-1]:
            node = node.maps.setdefault(name, _Members())
        node.leaves.setdefault(column.path[-1], []).append(column)
    return root


def member_order(schema: TableSchema) -> list[Path]:
    """The paths of what `item_sql` writes, in its order: a path that others continue is that of a map, before its members."""
    return list(_paths(_tree(schema), ()))


def _paths(node: _Members, above: Path) -> Iterator[Path]:
    for name in node.leaves:
        if name not in node.maps:
            yield (*above, name)
    for name, inner in node.maps.items():
        yield (*above, name)
        yield from _paths(inner, (*above, name))


def complete(item: str, rescued: str | None) -> bytes:
    """The whole item's JSON text, from `item_sql` and the row's `_rescued`."""
    if rescued is None:
        return item.encode()
    whole: Item = orjson.loads(item)
    entries = orjson.loads(rescued)
    for pointer in sorted(entries, key=lambda p: p.count("/")):
        place(whole, parse_pointer(pointer), entries[pointer])
    return orjson.dumps(whole)


def register_complete(session: Session) -> None:
    """Create the function that `whole_item_sql` calls in a session, unless the session has it."""
    if not session.value("SELECT count(*) FROM duckdb_functions() WHERE function_name = 'ddb_complete'"):
        session.con.create_function("ddb_complete", _complete, ["VARCHAR", "VARCHAR"], "VARCHAR")


def whole_item_sql(schema: TableSchema) -> str:
    """SQL of the whole item's JSON text, over the columns of a projected row. The session has `register_complete`."""
    item = item_sql(schema)
    return f"CASE WHEN _rescued IS NULL THEN {item} ELSE ddb_complete({item}, _rescued) END"


def _complete(item: str, rescued: str) -> str:
    return complete(item, rescued).decode()


def _members(node: _Members) -> str:
    pieces = [_leaf(name, column) for name, columns in node.leaves.items() for column in columns]
    for name, inner in node.maps.items():
        text = f"nullif({_members(inner)}, '')"
        pieces.append(f"{literal(json.dumps(name) + ':' + _OPEN_MAP)} || {text} || '}}}}'")
    return f"concat_ws(',', {', '.join(pieces)})" if pieces else "''"


_OPEN_MAP = '{"M":{'


def _leaf(name: str, column: Column) -> str:
    value = carried(column.name)
    if column.tag == ANY:
        return f"{literal(json.dumps(name) + ':')} || ddb_value_of_plain_json({value})"
    head = literal(json.dumps(name) + ':{"' + column.tag + '":')
    return f"{head} || {_content(column, value)} || '}}'"


def _content(column: Column, value: str) -> str:
    """SQL of the JSON text of a value; NULL for NULL, so that the whole member is left out.

    A declared column's text may be that of a value of another type: its row's `_rescued` has the value.
    """
    if column.role == "declared":
        return f"({value} = 'true')::VARCHAR" if column.tag == "BOOL" else f"to_json({value})::VARCHAR"
    if column.tag == "N":
        if column.type == "double":
            return f"'\"' || ddb_canonical_number({value}::VARCHAR) || '\"'"
        return f"'\"' || {number_text(column.type, value)} || '\"'"
    if column.tag == "B":
        return f"'\"' || to_base64({value}) || '\"'"
    if column.tag == "BS":
        return f"to_json(list_transform({value}, lambda x: to_base64(x)))::VARCHAR"
    if column.tag == "NS" and column.type != "list<string>":
        text = number_text(column.type[5:-1], "x")
        return f"to_json(list_transform({value}, lambda x: {text}))::VARCHAR"
    if column.tag == "BOOL":
        return f"{value}::VARCHAR"
    return value if column.type == "json" else f"to_json({value})::VARCHAR"
