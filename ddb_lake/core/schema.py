"""Typed columns for items that have no schema, and nothing lost: inference, names, projection and its inverse.

An attribute path (`("address", "city")`) becomes a column of the DynamoDB type most of its values have. What a
column cannot hold (another type, NULL, an unknown attribute, an empty map, a number in an odd spelling) is kept in
`_rescued`: DynamoDB JSON keyed by the path's JSON Pointer. So `restore(*project(item)) == item` for every item.

The SQL kernel in `engine.projection` does the same for many rows at once; this module is what it is tested against.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

from ddb_lake.core.attributes import canonical_number
from ddb_lake.core.records import AttributeValue, Item
from ddb_lake.errors import UndecodableError

Path: TypeAlias = tuple[str, ...]
ColumnType: TypeAlias = str
"""'string', 'long', 'double', 'decimal(38,S)', 'binary', 'boolean', 'json' or 'list<…>' of the scalar ones."""

RESERVED = (
    *("_changed_at", "_source", "_rescued", "_expired_at", "_key_hash"),
    *("_key", "_file_path", "_pos", "file_row_number"),
)
"""Metadata columns, and names that our queries give beside the columns; an attribute of such a name gets a suffix."""

MAX_NAME_CHARS = 120
MAX_COLUMNS = 1000
MAX_MAP_CHILDREN = 200
"""A map with more distinct members is a dictionary, not a record: it becomes one JSON column."""

_SAFE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_UNSAFE_CHAR = re.compile(r"[^A-Za-z0-9_]")
_INT64 = range(-(2**63), 2**63)
_TYPE_ORDER = ("S", "N", "B", "BOOL", "SS", "NS", "BS", "L", "M")
_DECIMAL = re.compile(r"decimal\((\d+),\s*(\d+)\)")


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


# --- numbers -----------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class NumberShape:
    """What all numbers of an attribute need: integer digits, decimals, and whether each fits 64 bits."""

    integer_digits: int = 0
    scale: int = 0
    int64: bool = True
    numeric: bool = True

    def observe(self, text: str) -> None:
        """Take one number in."""
        try:
            plain = canonical_number(text)
        except UndecodableError:
            self.numeric = False
            return
        whole, _, decimals = plain.lstrip("-").partition(".")
        self.integer_digits = max(self.integer_digits, 0 if whole == "0" else len(whole))
        self.scale = max(self.scale, len(decimals))
        self.int64 = self.int64 and not decimals and int(plain) in _INT64

    def merge(self, other: NumberShape) -> None:
        """Take all that `other` has seen in."""
        self.integer_digits = max(self.integer_digits, other.integer_digits)
        self.scale = max(self.scale, other.scale)
        self.int64 = self.int64 and other.int64
        self.numeric = self.numeric and other.numeric

    def column_type(self) -> ColumnType:
        """BIGINT if every value fits it, else a DECIMAL of 38 digits if every value fits one, else the exact text."""
        if self.numeric and self.int64:
            return "long"
        if self.numeric and max(1, self.integer_digits) + self.scale <= 38:
            return f"decimal(38,{self.scale})"
        return "string"


def shape_of(column_type: ColumnType) -> NumberShape:
    """The shape that leads to `column_type`: what to start from when a column already exists."""
    match = _DECIMAL.search(column_type)
    if match:
        precision, scale = int(match[1]), int(match[2])
        return NumberShape(1 if precision > scale else 0, scale, int64=False)
    return NumberShape() if "long" in column_type else NumberShape(39, 1, int64=False)


# --- inference ---------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class PathStats:
    """How many values of each type a path has, and the shape of its numbers."""

    counts: dict[str, int] = field(default_factory=dict)
    numbers: NumberShape = field(default_factory=NumberShape)
    set_numbers: NumberShape = field(default_factory=NumberShape)

    def tag(self) -> str | None:
        """The type most values have (the first of `_TYPE_ORDER` among equals); None if all are NULL or empty maps."""
        known = [(count, -_TYPE_ORDER.index(tag), tag) for tag, count in self.counts.items() if tag in _TYPE_ORDER]
        return max(known)[2] if known else None


class Inference:
    """Collects what all items need; the outcome does not depend on the order in which they come."""

    def __init__(self, options: SchemaOptions) -> None:
        self.options = options
        self.paths: dict[Path, PathStats] = {}

    def observe(self, item: Item) -> None:
        """Take one item in."""
        for name, value in item.items():
            self.observe_value((name,), value)

    def observe_value(self, path: Path, value: AttributeValue, count: int = 1) -> None:
        """Take `count` equal values at `path` in."""
        stats = self.paths.get(path)
        if stats is None:
            stats = self.paths[path] = PathStats()
        ((tag, content),) = value.items()
        if tag == "M" and self.options.flattens(path):
            if not content:
                tag = "{}"
            for name, member in content.items():
                self.observe_value((*path, name), member, count)
        elif tag == "N":
            stats.numbers.observe(content)
        elif tag == "NS":
            for number in content:
                stats.set_numbers.observe(number)
        stats.counts[tag] = stats.counts.get(tag, 0) + count

    def observe_column(self, column: Column, count: int) -> None:
        """Take in that an existing column holds `count` values."""
        stats = self.paths.setdefault(column.path, PathStats())
        stats.counts[column.tag] = stats.counts.get(column.tag, 0) + count
        if column.tag == "N":
            stats.numbers.merge(shape_of(column.type))
        elif column.tag == "NS":
            stats.set_numbers.merge(shape_of(column.type))

    def observe_maps(self, path: Path, count: int) -> None:
        """Take in that `count` items have a map at `path` whose members are counted elsewhere."""
        stats = self.paths.setdefault(path, PathStats())
        stats.counts["M"] = stats.counts.get("M", 0) + count

    def observe_rescued(
        self,
        rescued: Mapping[str, AttributeValue],
        count: int = 1,
        counted: Collection[Path] = (),
        columns: Mapping[Path, Column] | None = None,
    ) -> None:
        """Take in what the columns did not hold of `count` items with the same leftovers.

        `counted`: maps that these items have columns in, and that `observe_maps` counts by those. `columns`: those
        that `observe_column` counts; what stands in one as well, for its spelling, is not counted twice.
        """
        maps: set[Path] = set()
        for text, value in rescued.items():
            path = parse_pointer(text)
            maps.update(path[:length] for length in range(1, len(path)))
            column = columns.get(path) if columns else None
            self.observe_value(path, value, 0 if column and _stands_in(column, value) else count)
        for path in maps.difference(counted):
            self.observe_maps(path, count)

    def schema(self, key: Sequence[str]) -> TableSchema:
        """The columns for all that was seen: key attributes first, then by path."""
        leaves: dict[Path, tuple[str, ColumnType, int]] = {}
        children: dict[Path, list[Path]] = {}
        for path in self.paths:
            children.setdefault(path[:-1], []).append(path)
        self._collect((), children, leaves)
        for name in key:
            tag, column_type, count = leaves.setdefault((name,), ("S", "string", 0))
            if column_type == "double":  # rounds, and would take two keys for one
                leaves[(name,)] = (tag, self.paths[(name,)].numbers.column_type(), count)
        ranked = sorted(leaves, key=lambda p: (p[0] not in key or len(p) > 1, -leaves[p][2], p))[:MAX_COLUMNS]
        order = {name: i for i, name in enumerate(key)}
        ranked.sort(key=lambda p: (order.get(p[0], len(order)) if len(p) == 1 else len(order), p))
        names = column_names(ranked)
        return TableSchema(tuple(key), tuple(Column(p, leaves[p][0], names[p], leaves[p][1]) for p in ranked))

    def _collect(
        self, parent: Path, children: dict[Path, list[Path]], out: dict[Path, tuple[str, ColumnType, int]]
    ) -> None:
        for path in children.get(parent, ()):
            stats = self.paths[path]
            tag = stats.tag()
            if tag is None:
                continue
            members = children.get(path, ())
            if tag == "M" and self.options.flattens(path) and 0 < len(members) <= MAX_MAP_CHILDREN:
                self._collect(path, children, out)
            else:
                out[path] = (tag, self._type(path, tag, stats), stats.counts[tag])

    def _type(self, path: Path, tag: str, stats: PathStats) -> ColumnType:
        override = self.options.override(path)
        if tag == "N":
            return override if override and override != "json" else stats.numbers.column_type()
        if tag == "NS":
            return f"list<{stats.set_numbers.column_type()}>"
        fixed = {"S": "string", "B": "binary", "BOOL": "boolean", "SS": "list<string>", "BS": "list<binary>"}
        return fixed.get(tag, "json")


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
    fresh = [c for c in wanted.columns if not _overlaps(c.path, held)][: max(0, MAX_COLUMNS - len(held))]
    names = column_names([*held, *(c.path for c in fresh)])
    return TableSchema(
        current.key, tuple(Column(c.path, c.tag, names[c.path], c.type) for c in (*current.columns, *fresh))
    )


def _overlaps(path: Path, held: set[Path]) -> bool:
    if any(path[:length] in held for length in range(1, len(path) + 1)):
        return True
    return any(other[: len(path)] == path for other in held)


# --- projection and its inverse ----------------------------------------------------------------------------------


def project(item: Item, schema: TableSchema) -> tuple[list[Any], dict[str, AttributeValue]]:
    """The column values of an item, in the schema's order, and what they do not hold, by JSON Pointer.

    A number or binary that fits its column but whose spelling is not canonical stands in both.
    """
    by_path = {c.path: index for index, c in enumerate(schema.columns)}
    parents = {c.path[:length] for c in schema.columns for length in range(1, len(c.path))}
    values: list[Any] = [None] * len(schema.columns)
    rescued: dict[str, AttributeValue] = {}

    def visit(path: Path, value: AttributeValue) -> None:
        ((tag, content),) = value.items()
        index = by_path.get(path)
        if index is not None and schema.columns[index].tag == tag:
            values[index], exact = to_column(schema.columns[index], content)
            if not exact:
                rescued[pointer(path)] = value
        elif tag == "M" and content and path in parents:
            for name, member in content.items():
                visit((*path, name), member)
        else:
            rescued[pointer(path)] = value

    for name, value in item.items():
        visit((name,), value)
    return values, rescued


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
        return not decimals and int(plain) in _INT64
    match = _DECIMAL.fullmatch(column_type)
    assert match, column_type
    precision, scale = int(match[1]), int(match[2])
    return len(decimals) <= scale and (0 if whole == "0" else len(whole)) <= precision - scale


def _stands_in(column: Column, value: AttributeValue) -> bool:
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
