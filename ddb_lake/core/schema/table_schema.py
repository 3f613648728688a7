"""Typed columns for items that have no schema, and nothing lost: names, projection and its inverse.

An attribute path (`("address", "city")`) becomes a column of the DynamoDB type most of its values have, and a further
column, a variant, of each other type that more than a hundredth of its values have. What a
column cannot hold (another type, NULL, an unknown attribute, an empty map, a number in an odd spelling) is kept in
`_rescued`: DynamoDB JSON keyed by the path's JSON Pointer. A column whose type is declared as `string` or `json` takes
values of other types too; a value that does not follow from its text is also in `_rescued`. So
`restore(*project(item)) == item` for every item.

The SQL kernel in `engine.projection` does the same for many rows at once; this module is what it is tested against.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Literal, TypeAlias

from ddb_lake.core.values.change_record import AttributeValue, Item
from ddb_lake.core.values.numbers import canonical_number
from ddb_lake.core.values.plain_json import from_plain, loads_exact, plain_text
from ddb_lake.errors import UndecodableError

Path: TypeAlias = tuple[str, ...]
ColumnType: TypeAlias = str
"""'string', 'long', 'double', 'decimal(38,S)', 'binary', 'boolean', 'json' or 'list<…>' of the scalar ones."""

Role: TypeAlias = Literal["plain", "declared", "variant"]
"""What a column takes: `plain` and `variant` the values of its own DynamoDB type, `declared` those of other types as text too.

A path has at most one column that is not a variant. The variants hold its values of other types.
"""

Identity: TypeAlias = tuple[Path, str]
"""What has a name: the path of a column, and the type of a variant; "" for a column that is no variant."""

SCALARS = ("S", "N", "B", "BOOL")
"""The DynamoDB types whose values a column that is declared as `string` takes."""

TAGS = (*SCALARS, "NULL", "SS", "NS", "BS", "L", "M")
"""All DynamoDB types."""

ANY = "ANY"
"""The tag of a column that is declared as `json`: it takes values of all types."""

CURRENT_METADATA = {
    "_changed_at": ("timestamp", "When the item last changed (UTC, microseconds); the export's time for snapshot rows"),
    "_source": ("string", "What the row comes from: snapshot, change or repair"),
    "_rescued": ("string", "DynamoDB JSON of what the typed columns do not hold, by JSON Pointer"),
    "_key_hash": ("long", "Hash of the primary key: 63 bits of the MD5 of its text"),
}
"""The metadata columns of `current`: name, type and meaning."""

EXPIRED_AT = {"_expired_at": ("timestamp", "When Time to Live removed the item (`ttl_deletes: keep`)")}
"""The metadata column that `ttl_deletes: keep` adds."""

DAY = "_day"
"""The metadata column of daily states."""

FIELD_ID = "__duckdb_field_id"
"""A word of COPY's option FIELD_IDS; DuckDB writes no column of this name with a field id."""

ICEBERG_METADATA = (
    *("_file", "_pos", "_deleted", "_spec_id", "_partition", "_commit_snapshot_id", "_change_type", "_change_ordinal"),
    *("_row_id", "_last_updated_sequence_number"),
)
"""Metadata columns of Iceberg; Spark refuses a table with columns of these names.
https://iceberg.apache.org/spec/#reserved-field-ids
"""

RESERVED = frozenset({*CURRENT_METADATA, *EXPIRED_AT, DAY, FIELD_ID, *ICEBERG_METADATA})
"""Names that no attribute's column has: a reader sees columns of these names beside the attributes' columns."""

MAX_NAME_CHARS = 120
MAX_COLUMNS = 1000
MAX_RETIRED = 10_000
"""The most names that are kept for attributes without a column; beyond that the oldest are forgotten."""

_SAFE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_UNSAFE_CHAR = re.compile(r"[^A-Za-z0-9_]")
INT64 = range(-(2**63), 2**63)
DECIMAL = re.compile(r"decimal\((\d+),\s*(\d+)\)")


@dataclass(frozen=True)
class Column:
    """One typed column: the path of its values in the item, their DynamoDB type, and the column's type.

    `tag`: the type of its values; of a column that is declared as `string` the type that most of them have, because values
    of this type follow from the column alone; `ANY` if it is declared as `json`.
    """

    path: Path
    tag: str
    name: str
    type: ColumnType
    role: Role = "plain"

    @cached_property
    def pointer(self) -> str:
        """The path as a JSON Pointer (RFC 6901), the key of `_rescued`."""
        return pointer(self.path)

    @cached_property
    def identity(self) -> Identity:
        """What its name belongs to. A column that is no variant keeps its name if its type changes."""
        return self.path, self.tag if self.role == "variant" else ""

    @cached_property
    def tags(self) -> tuple[str, ...]:
        """The DynamoDB types whose values the column takes."""
        if self.role != "declared":
            return (self.tag,)
        return TAGS if self.type == "json" else SCALARS

    def to_json(self) -> list[Any]:
        """A JSON document from which `from_json` gives an equal column."""
        return [list(self.path), self.tag, self.name, self.type, *([] if self.role == "plain" else [self.role])]

    @classmethod
    def from_json(cls, document: Sequence[Any]) -> Column:
        """The inverse of `to_json`. Columns that earlier releases wrote have no role."""
        path, tag, name, kind, *role = document
        return cls(tuple(path), tag, name, kind, *role)


@dataclass(frozen=True, slots=True)
class TableSchema:
    """The columns of one table, in order; the key attributes first.

    `retired`: identity and name of columns that once were and are no more, the oldest first. If there is such a column
    again, it has the same name.
    """

    key: tuple[str, ...]
    columns: tuple[Column, ...] = ()
    retired: tuple[tuple[Identity, str], ...] = ()

    @property
    def names(self) -> dict[Identity, str]:
        """The name of each column that is, or once was."""
        return {**dict(self.retired), **{c.identity: c.name for c in self.columns}}

    def with_columns(self, columns: Iterable[Column]) -> TableSchema:
        """The schema with these columns. The names of attributes that lose their column are retired."""
        found = tuple(columns)
        held = {c.identity for c in found}
        retired = [(identity, name) for identity, name in self.names.items() if identity not in held]
        return TableSchema(self.key, found, tuple(retired[-MAX_RETIRED:]))

    def with_names_of(self, other: TableSchema) -> TableSchema:
        """The schema with the names that `other` has for attributes without a name here."""
        known, taken = self.names, {name.lower() for name in self.names.values()}
        added = [(p, n) for p, n in other.names.items() if p not in known and n.lower() not in taken]
        return TableSchema(self.key, self.columns, (*self.retired, *added)[-MAX_RETIRED:])

    @property
    def key_columns(self) -> tuple[Column, ...]:
        """The columns of the key's attributes, in the order of the columns."""
        key = {(name,) for name in self.key}
        return tuple(column for column in self.columns if column.path in key)

    def column(self, path: Path) -> Column | None:
        """The column of `path` that is no variant, if there is one."""
        return next((c for c in self.columns if c.path == path and c.role != "variant"), None)

    def to_json(self) -> dict[str, Any]:
        """A JSON document from which `from_json` gives an equal schema."""
        columns = [c.to_json() for c in self.columns]
        retired = [[list(path), name, *([tag] if tag else [])] for (path, tag), name in self.retired]
        return {"key": list(self.key), "columns": columns, "retired": retired}

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> TableSchema:
        """The inverse of `to_json`."""
        return cls(
            tuple(document["key"]),
            tuple(map(Column.from_json, document["columns"])),
            tuple(((tuple(path), tag[0] if tag else ""), name) for path, name, *tag in document.get("retired", ())),
        )


@dataclass(frozen=True, slots=True)
class SchemaOptions:
    """How a table's items become columns. `depth`: the levels of maps that are flattened. `overrides`: types by dotted path."""

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


def dotted(path: Path) -> str:
    """A path for people: its parts with dots between them, or a JSON list if a part has a dot itself."""
    return ".".join(path) if all("." not in part for part in path) else json.dumps(list(path), ensure_ascii=False)


# --- names


def plain_name(path: Path) -> str:
    """The name that a path's column needs: its parts joined with `__`, and `_` for each character but ASCII letters, digits."""
    plain = _UNSAFE_CHAR.sub("_", "__".join(path))[:MAX_NAME_CHARS] or "_"
    return plain if _SAFE.fullmatch(plain) else f"_{plain}"


def is_spelled_as_named(path: Path) -> bool:
    """Whether the column's name would be the attribute's own."""
    return len(path) == 1 and plain_name(path) == path[0]


def wanted_name(identity: Identity) -> str:
    """The name that a column needs: `plain_name` of its path, of a variant with its type: `created__s`."""
    path, tag = identity
    return plain_name((*path, tag.lower()) if tag else path)


def dotted_identity(identity: Identity) -> str:
    """A column's attribute for people, of a variant with its type."""
    path, tag = identity
    return f"{dotted(path)} ({tag})" if tag else dotted(path)


def column_names(
    columns: Iterable[Identity], known: Mapping[Identity, str] | None = None, reserved: Collection[str] = RESERVED
) -> dict[Identity, str]:
    """Names of columns: safe, and unique for engines that ignore case.

    A column in `known` keeps its name. Among the other columns that need the same name (`wanted_name`, compared without
    case) the first gets it, unless it is taken or reserved. The others get a suffix: `_` and eight hex digits of the
    SHA-256 of the path and the variant's type, or of that digest's SHA-256 if such a name is taken.

    Args:
        columns: in order of precedence.
        known: names that are given already, including those of columns that are not among `columns`.
        reserved: names in lower case that are never given.
    """
    known = known or {}
    taken = {name.lower() for name in known.values()} | set(reserved)
    names: dict[Identity, str] = {}
    second: list[tuple[Identity, str]] = []
    for identity in columns:
        wanted = wanted_name(identity)
        if identity in known:
            names[identity] = known[identity]
        elif wanted.lower() in taken:
            second.append((identity, wanted))
        else:
            names[identity] = wanted
            taken.add(wanted.lower())
    for identity, wanted in second:
        path, tag = identity
        digest = _digest(f"{pointer(path)}:{tag}" if tag else pointer(path))
        while f"{wanted}_{digest}".lower() in taken:
            digest = _digest(digest)
        names[identity] = f"{wanted}_{digest}"
        taken.add(names[identity].lower())
    return names


def with_variants(columns: Iterable[Column], known: TableSchema) -> list[Column]:
    """The columns with roles. Each path has at most one column that is no variant.

    That is the declared one; else the one whose type has the path's name in `known`; else the first without a variant's name
    in `known`. A column that was a variant once stays one, so a name keeps its meaning when other types come and go. A key
    attribute has one column, which is no variant.

    Args:
        columns: in order of precedence; their roles are `plain` or `declared`.
        known: the schema before.
    """
    found = list(columns)
    names, main = known.names, {c.path: c for c in known.columns if c.role != "variant"}
    key = {(name,) for name in known.key}
    chosen: dict[Path, Column] = {}

    def precedence(column: Column) -> tuple[bool, bool, bool]:
        before = main.get(column.path)
        is_known = before is not None and before.tag == column.tag and before.role != "declared"
        return column.role == "declared", is_known, (column.path, column.tag) not in names

    for column in found:
        best = chosen.get(column.path)
        if best is None or precedence(column) > precedence(best):
            chosen[column.path] = column
    for path, column in list(chosen.items()):
        if path not in key and not any(precedence(column)):
            del chosen[path]
    return [c if chosen.get(c.path) is c else replace(c, role="variant") for c in found]


def is_declared_as(schema: TableSchema, options: SchemaOptions) -> bool:
    """Whether the columns are declared ones where the options declare `string` or `json`, and nowhere else."""
    for column in schema.columns:
        declared, path = options.override(column.path), column.path
        if any(options.override(path[:length]) == "json" for length in range(1, len(path))):
            return False
        if column.role == "declared" and declared != column.type:
            return False
        takes = declared == "json" or (declared == "string" and column.tag in SCALARS)
        if column.role != "declared" and takes and path not in {(name,) for name in schema.key}:
            return False
    return True


def has_contested_names(schema: TableSchema, known: TableSchema) -> bool:
    """Whether columns without a name in `known` need the same name, so that the most frequent one must be found."""
    given = known.names
    key: set[Identity] = {((name,), "") for name in schema.key}
    taken = {name.lower() for name in given.values()} | {wanted_name(one).lower() for one in key} | RESERVED
    new = [c.identity for c in schema.columns if c.identity not in given and c.identity not in key]
    wanted = [name for name in (wanted_name(one).lower() for one in new) if name not in taken]
    return len(set(wanted)) < len(wanted)


def has_mixed_paths(schema: TableSchema) -> bool:
    """Whether values of several types have columns at one path: which types these are depends on how many values there are."""
    paths = [c.path for c in schema.columns]
    above = {path[:length] for path in paths for length in range(1, len(path))}
    return len(set(paths)) < len(paths) or not above.isdisjoint(paths)


@dataclass(frozen=True, slots=True)
class NameCollision:
    """An attribute whose column has a suffix, because another column has the name.

    `attribute`, `holder`: the attributes as `dotted` writes them; no holder where the name is reserved for a metadata
    column. `column`, `holder_column`: their columns.
    """

    attribute: str
    column: str
    holder: str | None
    holder_column: str

    def __str__(self) -> str:
        if self.holder is None:
            return f"attribute {self.attribute!r} is column {self.column}: {self.holder_column} is a metadata column"
        return (
            f"attributes {self.holder!r} and {self.attribute!r} need the same column name:"
            f" {self.holder!r} has column {self.holder_column}, {self.attribute!r} has column {self.column}"
        )


def name_collisions(schema: TableSchema) -> tuple[NameCollision, ...]:
    """The columns that do not have the name that they need, in order, each with the attribute that has it."""
    holders = {name.lower(): (identity, name) for identity, name in schema.names.items()}
    found: list[NameCollision] = []
    for column in schema.columns:
        wanted, attribute = wanted_name(column.identity), dotted_identity(column.identity)
        holder = holders.get(wanted.lower())
        if holder is not None and holder[0] != column.identity:
            found.append(NameCollision(attribute, column.name, dotted_identity(holder[0]), holder[1]))
        elif holder is None and wanted.lower() in RESERVED:
            found.append(NameCollision(attribute, column.name, None, wanted.lower()))
    return tuple(found)


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:8]


def new_collisions(before: TableSchema, after: TableSchema) -> tuple[NameCollision, ...]:
    """The collisions of `after` that `before` does not have."""
    known = set(name_collisions(before))
    return tuple(collision for collision in name_collisions(after) if collision not in known)


def evolve(current: TableSchema, wanted: Iterable[Column]) -> TableSchema:
    """`current` with columns added at the end for what only `wanted` has, in the order of their paths.

    Existing columns keep their names and types: values that no longer fit are rescued until the files are next rewritten.
    A value of another type than an existing column's gets a variant, unless it is a key's. What would be below or above the
    path of a column that holds whole maps is not added (its values are rescued).

    `wanted`: columns in order of precedence; their names are not used.
    """
    held = {c.path for c in current.columns}
    above = {path[:length] for path in held for length in range(len(path))}
    whole = {c.path for c in current.columns if "M" in c.tags}
    taken = {(c.path, tag) for c in current.columns for tag in c.tags}
    named = {c.path for c in current.columns if c.role != "variant"}
    key = {(name,) for name in current.key}
    fresh: list[Column] = []
    for column in with_variants((replace(c, role="plain") if c.role == "variant" else c for c in wanted), current):
        path = column.path
        if (
            any((path, tag) in taken for tag in column.tags)
            or _is_at_or_below(path, whole)
            or ("M" in column.tags and path in above)
        ):
            continue
        if path in named:
            if column.role == "declared" or path in key:
                continue
            column = replace(column, role="variant")
        fresh.append(column)
    fresh = fresh[: max(0, MAX_COLUMNS - len(current.columns))]
    names = column_names([c.identity for c in fresh], current.names)
    added = sorted((replace(c, name=names[c.identity]) for c in fresh), key=lambda c: c.identity)
    return current.with_columns((*current.columns, *added))


def _is_at_or_below(path: Path, held: set[Path]) -> bool:
    return any(path[:length] in held for length in range(1, len(path) + 1))


# --- projection and its inverse ----------------------------------------------------------------------------------


class Projector:
    """Projects items onto one schema. It prepares what it needs of the schema once."""

    def __init__(self, schema: TableSchema) -> None:
        self._columns = schema.columns
        self._index: dict[Path, dict[str, int]] = {}
        for index, column in enumerate(schema.columns):
            self._index.setdefault(column.path, {}).update(dict.fromkeys(column.tags, index))
        self._maps = {c.path[:length] for c in schema.columns for length in range(1, len(c.path))}

    def project(self, item: Item) -> tuple[list[Any], dict[str, AttributeValue]]:
        """The column values of an item, in the schema's order, and the values that do not follow from them, by JSON Pointer.

        A value that is in a column is also in the second result if its type and spelling do not follow from the column:
        a number or binary that is not canonical, or a value of another type in a declared column.
        """
        values: list[Any] = [None] * len(self._columns)
        rescued: dict[str, AttributeValue] = {}
        for name, value in item.items():
            self._visit((name,), value, values, rescued)
        return values, rescued

    def _visit(self, path: Path, value: AttributeValue, values: list[Any], rescued: dict[str, AttributeValue]) -> None:
        ((tag, content),) = value.items()
        index = self._index.get(path, _NO_COLUMN).get(tag)
        if index is not None:
            values[index], exact = to_column(self._columns[index], value)
            if not exact:
                rescued[pointer(path)] = value
        elif tag == "M" and content and path in self._maps:
            for name, member in content.items():
                self._visit((*path, name), member, values, rescued)
        else:
            rescued[pointer(path)] = value


_NO_COLUMN: Mapping[str, int] = {}


def project(item: Item, schema: TableSchema) -> tuple[list[Any], dict[str, AttributeValue]]:
    """`Projector.project` of one item."""
    return Projector(schema).project(item)


def to_column(column: Column, value: AttributeValue) -> tuple[Any, bool]:
    """What a column holds for a value of one of its `tags`, and whether `from_column` gives the value back from that.

    Numbers are given as the text from which the column's exact value is made; lists and maps as Python values.
    """
    ((tag, content),) = value.items()
    if column.role == "declared":
        return to_json_column(value) if column.type == "json" else (scalar_text(value), tag == column.tag)
    if tag == "N":
        return _number(column.type, content)
    if tag == "NS":
        held = [_number(column.type[5:-1], number) for number in content]
        exact = all(ok for _, ok in held)
        return ([value for value, _ in held] if exact else None), exact
    if tag == "B":
        return _binary(content)
    if tag == "BS":
        blobs = [_binary(member) for member in content]
        decoded = all(value is not None for value, _ in blobs)
        return ([value for value, _ in blobs] if decoded else None), all(ok for _, ok in blobs)
    return content, True


def to_json_column(value: AttributeValue) -> tuple[str | None, bool]:
    """What a column that is declared as `json` holds for a value: plain JSON; and whether the value follows from it."""
    try:
        text = plain_text(value)
    except UndecodableError:  # a number that cannot be spelled out
        return None, False
    return text, from_json_column(text) == value


def from_json_column(text: str) -> AttributeValue:
    """The value that follows from the text of a column that is declared as `json`."""
    return from_plain(loads_exact(text))


def scalar_text(value: AttributeValue) -> str:
    """The text of a value of `SCALARS`: text and base64 as they are, the digits of a number as written, `true`, `false`."""
    ((tag, content),) = value.items()
    if tag == "BOOL":
        return "true" if content else "false"
    return str(content)


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


def fits_column(column: Column, value: AttributeValue) -> bool:
    """Whether `project` puts this value into the column, also in another spelling."""
    ((tag, _),) = value.items()
    return tag in column.tags and to_column(column, value)[0] is not None


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
            place(item, column.path, from_column(column, value))
    for text in sorted(rescued, key=lambda p: p.count("/")):
        place(item, parse_pointer(text), rescued[text])
    return item


def from_column(column: Column, value: Any) -> AttributeValue:
    """The value that follows from that of a column: the inverse of `to_column`."""
    if column.role == "declared" and column.type == "json":
        return from_json_column(value)
    if column.role == "declared":
        return {column.tag: value == "true" if column.tag == "BOOL" else value}
    if column.tag == "B":
        return {"B": base64.b64encode(value).decode()}
    if column.tag == "BS":
        return {"BS": [base64.b64encode(member).decode() for member in value]}
    return {column.tag: value}


def place(item: Item, path: Path, value: AttributeValue) -> None:
    """Set `value` at `path`, making the maps above it."""
    members = item
    for name in path[:-1]:
        members = members.setdefault(name, {"M": {}})["M"]
    members[path[-1]] = value
