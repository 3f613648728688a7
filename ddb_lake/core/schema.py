"""Typed columns for items that have no schema, and nothing lost: names, projection and its inverse.

An attribute path (`("address", "city")`) becomes a column of the DynamoDB type most of its values have. What a
column cannot hold (another type, NULL, an unknown attribute, an empty map, a number in an odd spelling) is kept in
`_rescued`: DynamoDB JSON keyed by the path's JSON Pointer. So `restore(*project(item)) == item` for every item.

The SQL kernel in `engine.projection` does the same for many rows at once; this module is what it is tested against.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

from ddb_lake.core.attributes import canonical_number
from ddb_lake.core.records import AttributeValue, Item
from ddb_lake.errors import UndecodableError

Path: TypeAlias = tuple[str, ...]
ColumnType: TypeAlias = str
"""'string', 'long', 'double', 'decimal(38,S)', 'binary', 'boolean', 'json' or 'list<…>' of the scalar ones."""

RESERVED = (
    *("_changed_at", "_source", "_rescued", "_expired_at", "_key_hash", "_day"),
    *("_key", "_file_path", "_pos", "file_row_number"),
)
"""Metadata columns, and names that our queries give beside the columns; an attribute of such a name gets a suffix."""

MAX_NAME_CHARS = 120
MAX_COLUMNS = 1000

_SAFE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_UNSAFE_CHAR = re.compile(r"[^A-Za-z0-9_]")
INT64 = range(-(2**63), 2**63)
DECIMAL = re.compile(r"decimal\((\d+),\s*(\d+)\)")


@dataclass(frozen=True, slots=True)
class Column:
    """One typed column: where its values stand in the item, their DynamoDB type, and how they are held."""

    path: Path
    tag: str
    name: str
    type: ColumnType

    @property
    def pointer(self) -> str:
        """The path as a JSON Pointer (RFC 6901), the key of `_rescued`."""
        return pointer(self.path)


@dataclass(frozen=True, slots=True)
class TableSchema:
    """The columns of one table, in order; the key attributes first."""

    key: tuple[str, ...]
    columns: tuple[Column, ...] = ()

    def column(self, path: Path) -> Column | None:
        """The column that holds `path`, if there is one."""
        return next((c for c in self.columns if c.path == path), None)

    def to_json(self) -> dict[str, Any]:
        """A JSON document from which `from_json` gives an equal schema."""
        return {"key": list(self.key), "columns": [[list(c.path), c.tag, c.name, c.type] for c in self.columns]}

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> TableSchema:
        """The inverse of `to_json`."""
        return cls(tuple(document["key"]), tuple(Column(tuple(p), t, n, y) for p, t, n, y in document["columns"]))


@dataclass(frozen=True, slots=True)
class SchemaOptions:
    """How a table's items become columns: `nested`, the depth of flattening, and overrides by dotted path."""

    nested: Literal["flatten", "json"] = "flatten"
    depth: int = 5
    overrides: Mapping[str, ColumnType] = field(default_factory=dict)

    def override(self, path: Path) -> ColumnType | None:
        """The configured type of a path, given as `a.b` or as the attribute's own name."""
        return self.overrides.get(".".join(path))

    def flattens(self, path: Path) -> bool:
        """Whether a map at `path` becomes columns of its members."""
        return self.nested == "flatten" and len(path) < self.depth and self.override(path) != "json"


def pointer(path: Path) -> str:
    """The JSON Pointer of an attribute path."""
    return "".join("/" + part.replace("~", "~0").replace("/", "~1") for part in path)


def parse_pointer(text: str) -> Path:
    """The attribute path of a JSON Pointer."""
    return tuple(part.replace("~1", "/").replace("~0", "~") for part in text.split("/")[1:])


def column_names(paths: Iterable[Path]) -> dict[Path, str]:
    """Safe names, unique for engines that ignore case, as a function of the set of paths alone.

    A path's plain name joins its parts with `__` and replaces what is no ASCII letter, digit or underscore. Among
    paths that want the same name (compared without case) the first, unchanged ones before changed ones, then in
    code-point order, has it; the others, and whatever wants a metadata column's name, get `_` and eight hex digits
    of the path's SHA-256, or of that digest's, if some path's plain name is just that.
    """
    wanted: dict[str, list[tuple[bool, Path, str]]] = {}
    for path in paths:
        raw = "__".join(path)
        plain = _UNSAFE_CHAR.sub("_", raw)[:MAX_NAME_CHARS] or "_"
        plain = plain if _SAFE.fullmatch(plain) else f"_{plain}"
        wanted.setdefault(plain.lower(), []).append((plain != raw or len(path) > 1, path, plain))
    names: dict[Path, str] = {}
    second: list[tuple[Path, str]] = []
    for folded, group in wanted.items():
        (_, first, plain), *others = sorted(group)
        if folded in RESERVED:
            others = group
        else:
            names[first] = plain
        second += [(path, plain) for _, path, plain in others]
    taken = set(wanted)
    for path, plain in sorted(second):
        digest = _digest(pointer(path))
        while f"{plain}_{digest}".lower() in taken:
            digest = _digest(digest)
        names[path] = f"{plain}_{digest}"
        taken.add(names[path].lower())
    return names


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:8]


def evolve(current: TableSchema, wanted: TableSchema) -> TableSchema:
    """`current` with the columns that only `wanted` has added at the end; names follow the whole set of paths.

    Existing columns keep their types: what no longer fits them is rescued until the files are next rewritten.
    A path below or above an existing column's is not added (its values are rescued as well).
    """
    held = {c.path for c in current.columns}
    above = {path[:length] for path in held for length in range(len(path))}
    fresh = [c for c in wanted.columns if c.path not in above and not _is_at_or_below(c.path, held)]
    fresh = fresh[: max(0, MAX_COLUMNS - len(held))]
    names = column_names([*held, *(c.path for c in fresh)])
    return TableSchema(
        current.key, tuple(Column(c.path, c.tag, names[c.path], c.type) for c in (*current.columns, *fresh))
    )


def _is_at_or_below(path: Path, held: set[Path]) -> bool:
    return any(path[:length] in held for length in range(1, len(path) + 1))


# --- projection and its inverse ----------------------------------------------------------------------------------


class Projector:
    """Projects items onto one schema: what it needs to know of the schema is worked out once."""

    def __init__(self, schema: TableSchema) -> None:
        self._columns = schema.columns
        self._index = {c.path: index for index, c in enumerate(schema.columns)}
        self._maps = {c.path[:length] for c in schema.columns for length in range(1, len(c.path))}

    def project(self, item: Item) -> tuple[list[Any], dict[str, AttributeValue]]:
        """The column values of an item, in the schema's order, and what they do not hold, by JSON Pointer.

        A number or binary that fits its column but whose spelling is not canonical is in both.
        """
        values: list[Any] = [None] * len(self._columns)
        rescued: dict[str, AttributeValue] = {}
        for name, value in item.items():
            self._visit((name,), value, values, rescued)
        return values, rescued

    def _visit(self, path: Path, value: AttributeValue, values: list[Any], rescued: dict[str, AttributeValue]) -> None:
        ((tag, content),) = value.items()
        index = self._index.get(path)
        if index is not None and self._columns[index].tag == tag:
            values[index], exact = to_column(self._columns[index], content)
            if not exact:
                rescued[pointer(path)] = value
        elif tag == "M" and content and path in self._maps:
            for name, member in content.items():
                self._visit((*path, name), member, values, rescued)
        else:
            rescued[pointer(path)] = value


def project(item: Item, schema: TableSchema) -> tuple[list[Any], dict[str, AttributeValue]]:
    """`Projector.project` of one item."""
    return Projector(schema).project(item)


def to_column(column: Column, content: Any) -> tuple[Any, bool]:
    """The value a column holds for a content of its type, and whether that says it all.

    Numbers and binary are given as the text from which the column's exact value is made; lists and maps as
    Python values.
    """
    if column.tag == "N":
        return _number(column.type, content)
    if column.tag == "NS":
        held = [_number(column.type[5:-1], number) for number in content]
        exact = all(ok for _, ok in held)
        return ([value for value, _ in held] if exact else None), exact
    if column.tag == "B":
        return _binary(content)
    if column.tag == "BS":
        blobs = [_binary(member) for member in content]
        decoded = all(value is not None for value, _ in blobs)
        return ([value for value, _ in blobs] if decoded else None), all(ok for _, ok in blobs)
    return content, True


def _number(column_type: ColumnType, text: str) -> tuple[str | None, bool]:
    if column_type == "string":
        return text, True
    try:
        plain = canonical_number(text)
    except UndecodableError:
        return None, False
    if column_type == "double":
        return plain, _spelled_as_double(text)
    if not _fits(column_type, plain):
        return None, False
    return plain, plain == text


def _spelled_as_double(text: str) -> bool:
    """Whether a double gives this spelling back: only short integers do, for certain, in every engine."""
    return bool(re.fullmatch(r"0|-?[1-9]\d{0,14}", text))


def _fits(column_type: ColumnType, plain: str) -> bool:
    whole, _, decimals = plain.lstrip("-").partition(".")
    if column_type == "long":
        return not decimals and int(plain) in INT64
    match = DECIMAL.fullmatch(column_type)
    assert match, column_type
    precision, scale = int(match[1]), int(match[2])
    return len(decimals) <= scale and (0 if whole == "0" else len(whole)) <= precision - scale


def stands_in(column: Column, value: AttributeValue) -> bool:
    """Whether `project` gives the column a value for this one, be it in another spelling."""
    ((tag, content),) = value.items()
    return tag == column.tag and to_column(column, content)[0] is not None


def _binary(text: str) -> tuple[bytes | None, bool]:
    try:
        blob = base64.b64decode(text, validate=True)
    except ValueError:
        return None, False
    return blob, base64.b64encode(blob).decode() == text


def restore(values: Sequence[Any], rescued: Mapping[str, AttributeValue], schema: TableSchema) -> Item:
    """The item whose projection these are. `values` as `project` gives them: numbers as canonical text."""
    item: Item = {}
    for column, value in zip(schema.columns, values, strict=True):
        if value is not None:
            place(item, column.path, {column.tag: from_column(column, value)})
    for text in sorted(rescued, key=lambda p: p.count("/")):
        place(item, parse_pointer(text), rescued[text])
    return item


def from_column(column: Column, value: Any) -> Any:
    """The inverse of `to_column`."""
    if column.tag == "B":
        return base64.b64encode(value).decode()
    if column.tag == "BS":
        return [base64.b64encode(member).decode() for member in value]
    return value


def place(item: Item, path: Path, value: AttributeValue) -> None:
    """Set `value` at `path`, making the maps above it."""
    members = item
    for name in path[:-1]:
        members = members.setdefault(name, {"M": {}})["M"]
    members[path[-1]] = value
