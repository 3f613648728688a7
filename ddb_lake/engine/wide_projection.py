"""Projects DynamoDB JSON text onto Arrow columns in Python: `core.schema.table_schema.project` for many columns.

The SQL of `engine.projection` grows with the columns: DuckDB plans it in quadratic time, rejects an expression depth of more
than 1,000, and holds a vector for each expression. Here the work is linear in the attributes that the items have. Rare
values (a number that is not canonical, a binary, a set) are converted by `core.schema.table_schema.to_column`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import orjson
import pyarrow as pa
import pyarrow.compute as pc

from ddb_lake.core.schema.table_schema import DECIMAL, Column, Path, TableSchema, pointer, to_column
from ddb_lake.core.values.change_record import AttributeValue, Item
from ddb_lake.engine.session import slices_of

SLICE_BYTES = 16 * 1024 * 1024
"""The size of the JSON text that is held as Python objects at the same time."""

_Values: TypeAlias = list[Any]
_ARROW_TYPES = {
    "string": pa.string(),
    "json": pa.string(),
    "long": pa.int64(),
    "double": pa.float64(),
    "binary": pa.binary(),
    "boolean": pa.bool_(),
}


def arrow_type(column_type: str) -> pa.DataType:
    """The Arrow type of a column type."""
    if column_type.startswith("list<"):
        return pa.list_(arrow_type(column_type[5:-1]))
    match = DECIMAL.fullmatch(column_type)
    return pa.decimal128(int(match[1]), int(match[2])) if match else _ARROW_TYPES[column_type]


def struct_type(schema: TableSchema) -> pa.StructType:
    """The type of the result of `ColumnProjector`: fields named by number, for the columns in order and then for `_rescued`."""
    types = [*(arrow_type(c.type) for c in schema.columns), pa.string()]
    return pa.struct([pa.field(str(index), kind) for index, kind in enumerate(types)])


class ColumnProjector:
    """Projects JSON documents onto one schema. `member`: the member of a document that is the item; None: the document itself."""

    def __init__(self, schema: TableSchema, member: str | None = None) -> None:
        self._schema, self._member = schema, member
        self._type = struct_type(schema)
        self._root = _Node(())
        for index, column in enumerate(schema.columns):
            node = self._root
            for length, name in enumerate(column.path, start=1):
                node = node.members.setdefault(name, _Node(column.path[:length]))
            node.columns |= dict.fromkeys(column.tags, index)
            if column.role == "declared":
                node.declared = index

    def project_texts(self, texts: pa.Array | pa.ChunkedArray) -> pa.StructArray:
        """Project documents. All columns of a document that is null, or has no item, are null."""
        sizes = pc.fill_null(pc.binary_length(texts), 0).to_pylist()
        parts = [self._project(texts[first:last]) for first, last in slices_of(sizes, SLICE_BYTES)]
        return pa.concat_arrays(parts) if parts else pa.array([], self._type)

    def _project(self, texts: pa.Array | pa.ChunkedArray) -> pa.StructArray:
        rows = _Rows(len(texts), self._root)
        for row, text in enumerate(texts):
            document = text.as_py()
            if document is None:
                continue
            item = orjson.loads(document)
            if self._member is not None:
                item = item.get(self._member)
            if item is not None:
                rows.add(row, item)
        columns = [_column(column, rows.values.get(index), rows) for index, column in enumerate(self._schema.columns)]
        rescued = [orjson.dumps(left).decode() if left else None for left in rows.rescued]
        return pa.StructArray.from_arrays([*columns, pa.array(rescued, pa.string())], fields=list(self._type))


@dataclass(slots=True)
class _Node:
    """An attribute path: the index of the column for each type of its values, that of a declared column, and the members of a
    map, which are nodes."""

    path: Path
    columns: dict[str, int] = field(default_factory=dict)
    declared: int = -1
    members: dict[str, _Node] = field(default_factory=dict)


class _Rows:
    """The contents of some items by column, and the values of each item that no column holds."""

    def __init__(self, count: int, root: _Node) -> None:
        self.count = count
        self.values: dict[int, _Values] = {}
        self.rescued: list[dict[str, AttributeValue] | None] = [None] * count
        self._root = root

    def add(self, row: int, item: Item) -> None:
        """Add an item."""
        self._add_members(row, item, self._root)

    def _add_members(self, row: int, members: Mapping[str, AttributeValue], above: _Node) -> None:
        nodes, held = above.members, self.values
        for name, value in members.items():
            ((tag, content),) = value.items()
            node = nodes.get(name)
            if node is None:
                self.rescue(row, (*above.path, name), value)
                continue
            index = node.columns.get(tag)
            if index is not None:
                column = held.get(index)
                if column is None:
                    column = held[index] = [None] * self.count
                column[row] = value if index == node.declared else content
            elif tag == "M" and content and node.members:
                self._add_members(row, content, node)
            else:
                self.rescue(row, node.path, value)

    def rescue(self, row: int, path: Path, value: AttributeValue) -> None:
        """Record a value that a column does not hold."""
        left = self.rescued[row]
        if left is None:
            left = self.rescued[row] = {}
        left[pointer(path)] = value


def _column(column: Column, contents: _Values | None, rows: _Rows) -> pa.Array:
    """The Arrow column of some contents; values that it does not hold are rescued.

    `contents`: without their type tags, but with them if the column is a declared one.
    """
    kind = arrow_type(column.type)
    if contents is None:
        return pa.nulls(rows.count, kind)
    if column.role == "declared":
        return pa.array(
            [None if value is None else _declared(column, row, value, rows) for row, value in enumerate(contents)], kind
        )
    if column.type == "json":
        return pa.array([None if c is None else orjson.dumps(c).decode() for c in contents], kind)
    if column.type in ("string", "boolean", "list<string>"):
        return pa.array(contents, kind)
    if column.tag != "N":
        return _list_or_binary(kind, _convert(column, contents, range(rows.count), rows))
    texts = pa.array(contents, pa.string())
    canonical = pc.match_substring_regex(texts, _canonical_pattern(column.type))
    if pc.all(canonical).as_py() is False:
        others = pc.indices_nonzero(pc.invert(canonical)).to_pylist()
        texts = pa.array(_convert(column, contents, others, rows), pa.string())
    return pc.cast(texts, kind)


def _declared(column: Column, row: int, value: AttributeValue, rows: _Rows) -> str | None:
    text: str | None
    text, exact = to_column(column, value)
    if not exact:
        rows.rescue(row, column.path, value)
    return text


def _convert(column: Column, contents: _Values, positions: range | list[int], rows: _Rows) -> _Values:
    """Replace some of the contents by the result of `to_column`, in place. Returns the contents."""
    for row in positions:
        content = contents[row]
        if content is not None:
            value = {column.tag: content}
            contents[row], exact = to_column(column, value)
            if not exact:
                rows.rescue(row, column.path, value)
    return contents


def _list_or_binary(kind: pa.DataType, values: _Values) -> pa.Array:
    if pa.types.is_list(kind) and not pa.types.is_binary(kind.value_type):
        return pc.cast(pa.array(values, pa.list_(pa.string())), kind)
    return pa.array(values, kind)


def _canonical_pattern(column_type: str) -> str:
    """A pattern of texts that the column's value certainly reproduces: canonical, and short enough to fit."""
    if column_type == "double":
        return "^(?:0|-?[1-9][0-9]{0,14})$"
    match = DECIMAL.fullmatch(column_type)
    whole, scale = (int(match[1]) - int(match[2]), int(match[2])) if match else (18, 0)
    fraction = rf"\.[0-9]{{0,{scale - 1}}}[1-9]" if scale else ""
    kinds = ["0"]
    if whole:
        kinds.append(f"-?[1-9][0-9]{{0,{whole - 1}}}" + (f"(?:{fraction})?" if fraction else ""))
    if fraction:
        kinds.append(f"-?0{fraction}")
    return f"^(?:{'|'.join(kinds)})$"
