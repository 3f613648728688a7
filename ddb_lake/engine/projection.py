"""Projects DynamoDB JSON text onto typed columns in SQL: `core.schema.table_schema.project` for many items.

The known attributes are read in one pass. If the record kernel was built (`engine.native.items`), it reads the documents that have
nothing else. The others are read in SQL: few attributes by `json_extract_string`, which looks them up one by one, many by
`json_transform`, which hashes names. A row with anything else (an unknown attribute, another type than the column's) is
projected by `core.schema.table_schema.project` itself, so that no value is lost. `TRY_CAST` rounds, so a number is stored
only if casting it back gives its text.

Schemas of more than `MOST_IN_SQL` columns are projected by `engine.wide_projection`.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Final

import orjson

from ddb_lake.core.decode.fast_path import EXPORT_LINE_PATTERN
from ddb_lake.core.schema.table_schema import ANY, Column, Path, Projector, TableSchema, pointer
from ddb_lake.engine.line_check import LineCheck
from ddb_lake.engine.native.items import ItemReader, KnownAttribute
from ddb_lake.engine.native.library import load
from ddb_lake.engine.sql import carried, identifier, literal, literals

_BASE64 = "(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?"
_SQL_TYPES = {
    "string": "VARCHAR",
    "long": "BIGINT",
    "double": "DOUBLE",
    "binary": "BLOB",
    "boolean": "BOOLEAN",
    "json": "VARCHAR",
}
_JSON_SHAPES: dict[str, Any] = {"S": "VARCHAR", "N": "VARCHAR", "B": "VARCHAR", "BOOL": "BOOLEAN"}
_SET_SHAPES: dict[str, Any] = {tag: ["VARCHAR"] for tag in ("SS", "NS", "BS")}


def sql_type(column_type: str) -> str:
    """DuckDB's name of a column type."""
    if column_type.startswith("list<"):
        return sql_type(column_type[5:-1]) + "[]"
    return _SQL_TYPES.get(column_type) or column_type.upper()


LOOKED_UP = 50
"""The most attributes that are looked up one by one. With more, `json_transform` is faster."""

LOOKED_UP_BY_KERNEL = 100
"""The same if the record kernel reads most documents. The others are looked up."""

LARGE_DOCUMENT_BYTES = 32 * 1024
"""The mean size of documents that are not read by the kernel: it gets a copy of a batch, beside the memory limit of DuckDB."""

_NOTHING: Final = {"_": "JSON"}
"""The structure of an object none of whose members are read. DuckDB refuses an empty one and, since 2.0, an empty name."""

MOST_IN_SQL = 200
"""The most columns that are projected in SQL. With more, the planning and the vectors of DuckDB cost more than a loop in Python."""

_NUMBERS = itertools.count()
"""Each projection's function has a name of its own, because DuckDB keeps a function until its connection closes."""


@dataclass(slots=True)
class _Node:
    """An attribute path: columns, a map whose members are nodes, or a path where NULL values are expected."""

    path: Path
    columns: list[Column] = field(default_factory=list)
    members: dict[str, _Node] = field(default_factory=dict)
    nullable: bool = False
    in_struct: bool = True


class Projection:
    """The SQL that projects items onto a schema.

    Args:
        schema: the columns.
        nulls: paths where NULL values are expected. Rows with NULL values elsewhere are projected correctly, but slower.
        member: the member of a document that is the item (`Item` in the lines of an export). By default, the document is
            the item.
        check: counts the lines without a valid item, whose rows must not be used. Without it, all documents are valid.
        document_bytes: about the mean size of a document; 0 if it is not known, or documents are read a few at a time.
    """

    def __init__(
        self,
        schema: TableSchema,
        nulls: Iterable[Path] = (),
        member: str | None = None,
        check: LineCheck | None = None,
        document_bytes: int = 0,
    ) -> None:
        self.schema = schema
        self._check = check
        self._member_name = member
        self._at = f"/{member}" if member else ""
        number = next(_NUMBERS)
        self._function, self._read = f"ddb_project_{number}", f"ddb_read_items_{number}"
        self._wide = len(schema.columns) > MOST_IN_SQL
        if self._wide:
            return
        self._root = _Node(())
        for column in schema.columns:
            self._node(column.path).columns.append(column)
        for path in nulls:
            if self._reaches(path):
                self._node(path).nullable = True
        self._mark(self._root)
        library = load().library if document_bytes < LARGE_DOCUMENT_BYTES and _is_read_by_kernel(self._root) else None
        most = LOOKED_UP if library is None else LOOKED_UP_BY_KERNEL
        self._looked_up: list[str] | None = [] if 0 < len(schema.columns) + self._nullable(self._root) <= most else None
        self._native: list[str] | None = None if library is None or self._looked_up is None else []
        self._raw: dict[str, str] = {}
        self._quick: dict[str, str] = {}
        self._maps = [self._at or "$"]
        self._counts: dict[str, str] = {}
        self._pieces: list[str] = []
        self._dirty: list[str] = []
        self._json: list[str] = []
        self._values: dict[Column, str] = {}
        self._length = [str(len(f'{{"{member}":{{}}}}' if member else "{}") - 1)]
        self._walk(self._root, f"s.{identifier(member)}" if member else "s", self._at)
        self._kernel = self._item_reader(library)

    def register(self, con: Any) -> None:
        """Create the functions that the SQL calls in a connection."""
        if self._check is not None:
            self._check.register(con)
        if self._wide:
            from ddb_lake.engine.wide_projection import ColumnProjector  # needs `pyarrow.compute`, slow to import

            kinds = [*(sql_type(c.type) for c in self.schema.columns), "VARCHAR"]
            struct = f"STRUCT({', '.join(f'{_field(index)} {kind}' for index, kind in enumerate(kinds))})"
            project = ColumnProjector(self.schema, self._member_name).project_texts
            con.create_function(self._function, project, ["VARCHAR"], struct, type="arrow", null_handling="special")
            return
        if self._kernel is not None:
            fields = [f"{_field(place)} {sql_type(kind)}" for place, kind in enumerate(self._native or ())]
            row = f"STRUCT({', '.join(['is_read BOOLEAN', *fields])})"
            con.create_function(self._read, self._kernel.read, ["VARCHAR"], row, type="arrow", null_handling="special")
        projector = Projector(self.schema)

        def rescue(text: str | None) -> str | None:
            if text is None:
                return None
            _, rescued = projector.project(orjson.loads(text))
            return orjson.dumps(rescued).decode() if rescued else None

        con.create_function(self._function, rescue, ["VARCHAR"], "VARCHAR", null_handling="special")

    def select(self, source: str, passthrough: Iterable[str] = ()) -> str:
        """A query of the schema's columns, as `engine.sql.carried` names them, and `_rescued`.

        Args:
            source: a relation with a column `item`, the text of a document.
            passthrough: further columns of `source` to select, as SQL identifiers.
        """
        if self._wide:
            return self._select_wide(source, list(passthrough))
        handed = ["item", *passthrough]
        item = f"json_extract(item, {literal(self._at)})" if self._at else "item"
        raws = _named(self._raw)
        quick = _named(self._quick)
        native = [] if self._kernel is None else ["n"]
        columns = [f"{self._values[c]} AS {carried(c.name)}" for c in self.schema.columns]
        pieces = ", ".join(self._pieces)
        held = f"nullif(concat_ws(',', {pieces}), '')" if pieces else "NULL::VARCHAR"
        dirty = f"k IS NOT NULL AND ({' OR '.join(self._dirty)})"
        invalid = f"WHEN NOT {self._valid()} THEN NULL " if self._check is not None else ""
        rescued = (
            f"CASE {invalid}WHEN {dirty} THEN {self._function}({item}) ELSE '{{' || {held} || '}}' END AS _rescued"
        )
        keys = f"WHEN strlen(item) <> {' + '.join(self._length)} THEN json_keys(item, {literals(self._maps)})"
        return (
            f"SELECT {', '.join([*columns, rescued, *handed[1:]])} FROM ("
            f"SELECT {', '.join(['*', *_named(self._counts)])} FROM ("
            f"SELECT {', '.join(['*', *quick])}, CASE WHEN is_read THEN NULL {keys} END AS k FROM ("
            f"SELECT {', '.join([*handed, *raws, *native])}, is_read FROM ("
            f"SELECT {', '.join(handed)}, {self._parsed()} FROM {self._read_by_kernel(source, handed)}))))"
        )

    def _select_wide(self, source: str, passed: list[str]) -> str:
        names = [*(carried(c.name) for c in self.schema.columns), "_rescued"]
        columns = [f"s.{_field(index)} AS {name}" for index, name in enumerate(names)]
        item = f"CASE WHEN {self._check.valid}(item) THEN item END" if self._check is not None else "item"
        projected = f"SELECT {', '.join([f'{self._function}({item}) AS s', *passed])} FROM {source}"
        return f"SELECT {', '.join([*columns, *passed])} FROM ({projected})"

    def _valid(self) -> str:
        """SQL condition: a line is proven valid (`engine.line_check` says how), or the check finds it valid."""
        assert self._check is not None, "there is a check"
        proven = [
            "k IS NULL",
            f"regexp_matches(item, {literal(EXPORT_LINE_PATTERN)})",
        ]  # k is NULL for a line of exactly the expected length
        for raw in self._json:  # this text separates two members of a map
            proven.append(f"CASE WHEN contains({raw}, '}},\"') THEN {self._check.distinct}({raw}) ELSE true END")
        return f"CASE WHEN is_read THEN true WHEN {' AND '.join(proven)} THEN true ELSE {self._check.valid}(item) END"

    def _item_reader(self, library: Any | None) -> ItemReader | None:
        """What reads items by the record kernel; None if the kernel is not used, or does not read such attributes."""
        if self._native is None or self._looked_up is None:
            return None
        item = KnownAttribute.of_pointers([path.removeprefix(self._at) for path in self._looked_up])
        assert item is not None, "each path has a type tag, and no map is read twice"
        return ItemReader(library, self._member_name, item, self._native)

    def _read_by_kernel(self, source: str, handed: list[str]) -> str:
        """The relation `source`, with the column `n` (a row of `engine.native.items.ItemReader`) if the kernel is used."""
        if self._kernel is None:
            return source
        return f"(SELECT {', '.join(handed)}, {self._read}(item) AS n FROM {source})"

    def _parsed(self) -> str:
        """SQL of two columns: `s`, the known attributes of a document, as a list of their texts or a struct; and `is_read`, whether the
        kernel read the document. If it did, `s` is NULL, `n` has the values, and there is no other attribute and no other type."""
        if self._kernel is not None:
            return f"CASE WHEN n.is_read THEN NULL ELSE {self._struct()} END AS s, n, n.is_read AS is_read"
        return f"{self._struct()} AS s, false AS is_read"

    def _struct(self) -> str:
        if self._looked_up is not None:
            return f"json_extract_string(item, {literals(self._looked_up)})"
        fields = self._shape(self._root)
        shape = json.dumps({self._member_name: fields} if self._member_name else fields, ensure_ascii=True)
        return f"json_transform(item, {literal(shape)})"

    # --- the tree of paths

    def _node(self, path: Path) -> _Node:
        node = self._root
        for length, name in enumerate(path, start=1):
            node = node.members.setdefault(name, _Node(path[:length]))
        return node

    def _reaches(self, path: Path) -> bool:
        """Whether a NULL value at the path is rescued by itself: no column takes it, and each map above it has columns of its members.

        A map without such columns is rescued as a whole.
        """
        node = self._root
        for name in path[:-1]:
            found = node.members.get(name)
            if found is None or not found.members or any("M" in column.tags for column in found.columns):
                return False
            node = found
        found = node.members.get(path[-1])
        return found is None or not any("NULL" in column.tags for column in found.columns)

    def _nullable(self, node: _Node) -> int:
        return node.nullable + sum(self._nullable(member) for member in node.members.values())

    def _mark(self, node: _Node) -> None:
        """Mark the members that are read through the struct. A struct ignores case: of names that differ in case only, the first."""
        seen: set[str] = set()
        for name, member in node.members.items():
            folded = name.lower()
            plain = name.isascii() and "\0" not in name and bool(name)
            member.in_struct = node.in_struct and plain and folded not in seen
            seen.add(folded)
            self._mark(member)

    def _shape(self, node: _Node) -> dict[str, Any]:
        return {name: self._value_shape(m) for name, m in node.members.items() if m.in_struct} or _NOTHING

    def _value_shape(self, node: _Node) -> Any:
        if any(column.tag == ANY for column in node.columns):
            return "JSON"
        shape: dict[str, Any] = {
            tag: _JSON_SHAPES.get(tag) or _SET_SHAPES.get(tag) or "JSON"
            for column in node.columns
            for tag in column.tags
        }
        if node.members:
            shape["M"] = self._shape(node)
        if node.nullable:
            shape["NULL"] = "BOOLEAN"
        return shape

    # --- expressions

    def _walk(self, root: _Node, struct: str, at: str) -> None:
        """Add the expressions of the item's members; `struct` is its struct, `at` its JSON pointer in the document."""
        present = [self._member(m, struct, at) for m in root.members.values()]
        total = " + ".join(f"({p})::INTEGER" for p in present) or "0"
        self._dirty.append(f"len(k[1]) <> {total}")

    def _member(self, node: _Node, struct: str, at: str) -> str:
        """Add a member's expressions. Returns the condition that they cover the member's value."""
        name = node.path[-1]
        tags = "/" + name.replace("~", "~0").replace("/", "~1")
        where = at + tags
        held = f"{struct}.{identifier(name)}"
        covered = [raw for column in node.columns for raw in self._column(node, column, held, where)]
        if node.members:
            covered.append(self._map(node, held, where))
        if node.nullable:
            raw = self._add_raw(node, "NULL", held, where)
            self._pieces.append(f"CASE WHEN {raw} IS NOT NULL THEN {_entry(node.path, f'{raw}::VARCHAR', 'NULL')} END")
            self._add_length(node, "NULL", raw)
            covered.append(f"{raw} IS NOT NULL")
        return " OR ".join(covered) or "false"

    def _column(self, node: _Node, column: Column, struct: str, where: str) -> list[str]:
        """Add a column's expressions. Returns the conditions that it covers the value."""
        if column.tag == ANY:
            raw = self._whole(column, node, struct, where)
        elif column.role == "declared":
            return self._scalars(column, node, struct, where)
        else:
            typed = column.type if column.tag == "N" and column.type not in ("string", "double") else None
            raw = self._add_raw(node, column.tag, struct, where, typed)
            value = self._value(column, raw)
            if typed and self._native is not None:
                value = f"CASE WHEN is_read THEN n.{_field(len(self._native) - 1)} ELSE {value} END"
            self._values[column] = value
            self._add_pieces(column, raw)
            if column.tag in ("L", "M"):
                self._json.append(f"{raw}::VARCHAR")
            self._add_length(node, column.tag, raw)
        return [f"{raw} IS NOT NULL"]

    def _whole(self, column: Column, node: _Node, struct: str, where: str) -> str:
        """Add a column that takes any value as plain JSON. Returns the name of the value with its tag."""
        if self._looked_up is not None:
            raw = self._add_json_looked_up(self._looked_up, "{", where)
        else:
            raw = self._add(struct if node.in_struct else f"json_extract(item, {literal(where)})")
        plain = f"q{raw[1:]}"
        self._quick[plain] = f"ddb_plain_json({raw}::VARCHAR)"
        self._values[column] = f"{plain}.text"
        self._json.append(f"{raw}::VARCHAR")
        entry = f"{literal(json.dumps(column.pointer) + ':')} || {raw}::VARCHAR"
        self._pieces.append(f"CASE WHEN NOT {plain}.exact THEN {entry} END")
        frame = len(f"{json.dumps(node.path[-1], ensure_ascii=False)}:,".encode())
        self._length.append(f"CASE WHEN {raw} IS NULL THEN 0 ELSE strlen({raw}::VARCHAR) + {frame} END")
        return raw

    def _scalars(self, column: Column, node: _Node, struct: str, where: str) -> list[str]:
        """Add a column that takes any scalar as text. Returns the conditions that it covers the value."""
        raws = {tag: self._add_raw(node, tag, struct, where) for tag in column.tags}
        texts = {tag: f"{raw}::VARCHAR" if tag == "BOOL" else raw for tag, raw in raws.items()}
        self._values[column] = f"coalesce({', '.join(texts[tag] for tag in sorted(texts, key=column.tag.__ne__))})"
        for tag, raw in raws.items():
            self._add_length(node, tag, raw)
            if tag != column.tag:
                content = texts[tag] if tag == "BOOL" else f"to_json({raw})::VARCHAR"
                self._pieces.append(f"CASE WHEN {raw} IS NOT NULL THEN {_entry(column.path, content, tag)} END")
        return [f"{raw} IS NOT NULL" for raw in raws.values()]

    def _map(self, node: _Node, struct: str, where: str) -> str:
        inner = where + "/M"
        first = len(self._raw)
        present = [self._member(m, f'{struct}."M"', inner) for m in node.members.values()]
        total = " + ".join(f"({p})::INTEGER" for p in present)
        held = " OR ".join(f"r{number} IS NOT NULL" for number in range(first, len(self._raw)))
        self._length.append(f"CASE WHEN {held} THEN {_framed(node, 'M', '{}') - 1} ELSE 0 END")
        self._maps.append(inner)
        count = f"c{len(self._maps)}"
        self._counts[count] = f"len(k[{len(self._maps)}])"
        self._dirty.append(f"coalesce({count}, 0) <> {total}")
        self._pieces.append(f"CASE WHEN {count} = 0 THEN {_entry(node.path, literal('{}'), 'M')} END")
        return f"{count} IS NOT NULL"

    def _add(self, expression: str) -> str:
        name = f"r{len(self._raw)}"
        self._raw[name] = expression
        return name

    def _add_raw(self, node: _Node, tag: str, struct: str, where: str, typed: str | None = None) -> str:
        """Add a value, as it is in JSON. Returns its name. `typed`: the type of the number that the kernel reads in its place."""
        if self._looked_up is not None:
            return self._add_looked_up(self._looked_up, tag, f"{where}/{tag}", typed)
        if node.in_struct:
            return self._add(f"{struct}.{identifier(tag)}")
        found = f"json_extract(item, {literal(where + '/' + tag)})"
        if tag in ("S", "N", "B"):
            return self._add(f"json_extract_string(item, {literal(where + '/' + tag)})")
        if tag in ("BOOL", "NULL"):
            return self._add(f"{found}::BOOLEAN")
        return self._add(f"{found}::VARCHAR[]" if tag in _SET_SHAPES else found)

    def _add_looked_up(self, paths: list[str], tag: str, path: str, typed: str | None) -> str:
        """Add a value that is looked up. Lists and maps are returned as JSON text, strings as they are."""
        if tag in ("L", "M"):
            return self._add_json_looked_up(paths, "{" if tag == "M" else "[", path)
        paths.append(path)
        text = f"s[{len(paths)}]"
        if tag in ("S", "N", "B"):
            return self._add_read(text, typed or "string")
        if tag in ("BOOL", "NULL"):
            return self._add_read(
                f"CASE WHEN {text} = 'true' THEN true WHEN {text} = 'false' THEN false END", "boolean"
            )
        return self._add_read(f"from_json({_begun(text, '[')}, '[\"VARCHAR\"]')", "list<string>")

    def _add_json_looked_up(self, paths: list[str], bracket: str, path: str) -> str:
        """Add an object or a list that is looked up as JSON text; `bracket`: its first character."""
        paths.append(path)
        raw = self._add_read(_begun(f"s[{len(paths)}]", bracket), "string")
        self._dirty.append(f"NOT coalesce(json_valid({raw}), true)")
        return raw

    def _add_read(self, looked_up: str, kind: str) -> str:
        """Add a value that is looked up, or that the kernel reads as a `kind`. It is NULL for a number that the kernel reads as such."""
        if self._native is None:
            return self._add(looked_up)
        self._native.append(kind)
        if kind in ("string", "boolean", "list<string>"):
            looked_up = f"CASE WHEN is_read THEN n.{_field(len(self._native) - 1)} ELSE {looked_up} END"
        return self._add(looked_up)

    def _add_length(self, node: _Node, tag: str, raw: str) -> None:
        """Add the least number of bytes of a value, with its name, its type and the comma after it.

        If the document is exactly as long as all its values take, it has nothing else, and its keys need not be listed. The
        keys of a longer document (with spaces, escapes or empty maps) are listed.
        """
        if tag in ("BOOL", "NULL"):
            size = f"CASE WHEN {raw} THEN {_framed(node, tag, 'true')} ELSE {_framed(node, tag, 'false')} END"
        elif tag in _SET_SHAPES:
            size = f"strlen(array_to_string({raw}, '')) + 3 * len({raw}) + {_framed(node, tag, '[]') - 1}"
        else:
            quotes = '""' if tag in _JSON_SHAPES else ""
            size = f"strlen({raw}) + {_framed(node, tag, quotes)}"
        self._length.append(f"CASE WHEN {raw} IS NULL THEN 0 ELSE {size} END")

    def _value(self, column: Column, raw: str) -> str:
        if column.tag == "N":
            return self._number(column.type, raw)
        if column.tag == "B":
            return f"CASE WHEN regexp_full_match({raw}, '{_BASE64}') THEN from_base64({raw}) END"
        if column.tag == "BS":
            every = f"list_bool_and(list_transform({raw}, lambda x: regexp_full_match(x, '{_BASE64}')))"
            return (
                f"CASE WHEN coalesce({every}, len({raw}) = 0) THEN list_transform({raw}, lambda x: from_base64(x)) END"
            )
        if column.tag == "NS" and column.type != "list<string>":
            inner = sql_type(column.type[5:-1])
            text = _as_text(f"TRY_CAST(x AS {inner})", column.type[5:-1])
            same = f"list_transform({raw}, lambda x: {text}) = {raw}"
            return f"CASE WHEN {same} THEN list_transform({raw}, lambda x: TRY_CAST(x AS {inner})) END"
        return f"{raw}::VARCHAR" if column.type == "json" else raw

    def _number(self, column_type: str, raw: str) -> str:
        """SQL of a number column's value: `q…` for canonical texts, which are nearly all, else the slower cast of the canonical text."""
        if column_type in ("string", "double"):
            return raw if column_type == "string" else f"TRY_CAST({raw} AS DOUBLE)"
        quick = f"q{raw[1:]}"
        self._quick[quick] = _quick_number(column_type, raw)
        cast, odd = sql_type(column_type), f"ddb_canonical_number({raw})"
        slow = f"CASE WHEN {_spelled(column_type, odd)} THEN TRY_CAST({odd} AS {cast}) END"
        return f"CASE WHEN {raw} IS NULL OR {quick} IS NOT NULL THEN {quick} ELSE {slow} END"

    def _plainly_spelled(self, column_type: str, raw: str) -> str:
        quick = f"q{raw[1:]}"
        return f"CASE WHEN {quick} IS NOT NULL THEN true ELSE {_spelled(column_type, raw)} END"

    def _add_pieces(self, column: Column, raw: str) -> None:
        """Add the members of `_rescued` of a column: a number in another spelling, or a set or binary that it does not hold."""
        if column.tag == "N" and column.type != "string":
            exact = _spelled(column.type, raw) if column.type == "double" else self._plainly_spelled(column.type, raw)
            content = f"to_json({raw})::VARCHAR"
        elif column.tag in ("B", "BS") or (column.tag == "NS" and column.type != "list<string>"):
            exact = f"({self._value(column, raw)}) IS NOT NULL"
            if column.tag == "B":
                exact = f"to_base64({self._value(column, raw)}) = {raw}"
            if column.tag == "BS":
                exact = f"list_transform({self._value(column, raw)}, lambda b: to_base64(b)) = {raw}"
            content = f"to_json({raw})::VARCHAR"
        else:
            return
        entry = _entry(column.path, content, column.tag)
        self._pieces.append(f"CASE WHEN {raw} IS NOT NULL AND ({exact}) IS NOT TRUE THEN {entry} END")


def _field(index: int) -> str:
    """The name of a field in the result of `engine.wide_projection`: the number of a column; the last one is `_rescued`."""
    return f'"{index}"'


def _is_read_by_kernel(node: _Node) -> bool:
    """Whether the kernel reads the columns at a path and below it: no values with their tags, and no map as a whole beside its members."""
    tags = {column.tag for column in node.columns}
    return (
        ANY not in tags and not ("M" in tags and node.members) and all(map(_is_read_by_kernel, node.members.values()))
    )


def _begun(text: str, bracket: str) -> str:
    """SQL of a text if it begins with a bracket; NULL for other texts."""
    return f"CASE WHEN starts_with({text}, '{bracket}') THEN {text} END"


def _named(expressions: dict[str, str]) -> list[str]:
    return [f"{expression} AS {name}" for name, expression in expressions.items()]


def _framed(node: _Node, tag: str, content: str) -> int:
    """The least number of bytes of a member of a map in JSON, with the comma after it."""
    return len(f'{json.dumps(node.path[-1], ensure_ascii=False)}:{{"{tag}":{content}}},'.encode())


def _entry(path: Path, content: str, tag: str) -> str:
    """SQL text of one member of `_rescued`."""
    return literal(json.dumps(pointer(path)) + ':{"' + tag + '":') + f" || {content} || '}}'"


def _as_text(expression: str, column_type: str) -> str:
    """SQL of a number's canonical text: DuckDB prints all places of a decimal, also trailing zeros."""
    if column_type.startswith("decimal") and not column_type.endswith(",0)"):
        return f"rtrim(rtrim(({expression})::VARCHAR, '0'), '.')"
    return f"({expression})::VARCHAR"


def _spelled(column_type: str, raw: str) -> str:
    """SQL condition: the column's value gives the text of the number back."""
    if column_type == "double":
        return f"regexp_full_match({raw}, '0|-?[1-9][0-9]{{0,14}}')"
    return _as_text(f"TRY_CAST({raw} AS {sql_type(column_type)})", column_type) + f" = {raw}"


def _quick_number(column_type: str, raw: str) -> str:
    """SQL of the value of a number whose text is canonical and short; NULL for other texts.

    Casting text to a DECIMAL of 38 digits takes DuckDB 3 µs, one of 18 digits a hundredth of it.
    """
    if column_type == "long":
        return f"CASE WHEN TRY_CAST({raw} AS BIGINT)::VARCHAR = {raw} THEN TRY_CAST({raw} AS BIGINT) END"
    scale = int(column_type[:-1].split(",")[1])
    if scale > 17:
        return f"NULL::{sql_type(column_type)}"
    decimals = rf"(?:\.[0-9]{{0,{scale - 1}}}[1-9])?" if scale else ""
    pattern = f"-?(?:0|[1-9][0-9]{{0,{17 - scale}}}){decimals}"
    narrow = f"TRY_CAST(TRY_CAST({raw} AS DECIMAL(18,{scale})) AS {sql_type(column_type)})"
    return f"CASE WHEN regexp_full_match({raw}, '{pattern}') AND {raw} <> '-0' THEN {narrow} END"


def number_text(column_type: str, column: str) -> str:
    """SQL of the canonical text of a number column's value."""
    return column if column_type == "string" else _as_text(column, column_type)
