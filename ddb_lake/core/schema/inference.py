"""What columns all items need: the type of each attribute path and the shape of its numbers, over all data seen.

The outcome is a function of the set of items: it depends neither on their order nor on how they were batched.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeAlias

from ddb_lake.core.schema.table_schema import (
    ANY,
    DECIMAL,
    INT64,
    MAX_COLUMNS,
    SCALARS,
    Column,
    ColumnType,
    Path,
    Role,
    SchemaOptions,
    TableSchema,
    column_names,
    fits_column,
    is_spelled_as_named,
    parse_pointer,
    with_variants,
)
from ddb_lake.core.values.change_record import AttributeValue, Item
from ddb_lake.core.values.numbers import canonical_number
from ddb_lake.errors import UndecodableError

MAX_MAP_CHILDREN = 200
"""A map with more distinct members is a dictionary, not a record: it becomes one JSON column."""

_TYPE_ORDER = ("S", "N", "B", "BOOL", "SS", "NS", "BS", "L", "M")

# --- numbers -----------------------------------------------------------------------------------------------------


COMMON_SHARE_PERCENT = 99
"""The share of an attribute's numbers that its column's type must hold; the others are rescued. A key's type holds all."""

VARIANT_SHARE_PERCENT = 1
"""A type that a greater share of an attribute's values has than this has a column of its own."""

Need: TypeAlias = tuple[int, int, bool]
"""The need of a number: integer digits, decimals, and whether it fits 64 bits."""

_NO_DECIMAL: Need = (39, 1, False)


@dataclass(slots=True)
class NumberShape:
    """The needs of an attribute's numbers, with the count of each. The need of a set is that of its members together.

    `known`: what the numeric type of an existing column holds. The type does not become narrower, because rows that are
    not counted here may need it; a column of text may become numeric.
    """

    counts: dict[Need, int] = field(default_factory=dict)
    known: Need | None = None

    def observe(self, *texts: str, count: int = 1) -> None:
        """Count `count` equal values: a number, or a set of numbers."""
        needs = [_need(text) for text in texts] or [(0, 0, True)]
        need = (max(n[0] for n in needs), max(n[1] for n in needs), all(n[2] for n in needs))
        self.add(need, count)

    def add(self, need: Need, count: int) -> None:
        """Count `count` values with equal needs."""
        if count:
            self.counts[need] = self.counts.get(need, 0) + count

    def merge(self, other: NumberShape) -> None:
        """Take all that `other` has seen in."""
        for need, count in other.counts.items():
            self.add(need, count)
        self.known = self.known or other.known

    def column_type(self, percent: int = COMMON_SHARE_PERCENT) -> ColumnType:
        """The narrowest type that holds this share of the values: BIGINT, then DECIMAL of 38 digits, then the exact text."""
        counts = self.counts or {self.known or (0, 0, True): 1}
        floor = self.known if self.known not in (None, _NO_DECIMAL) else (0, 0, True)
        assert floor is not None
        wanted = sum(counts.values()) * percent
        if floor[2] and sum(count for need, count in counts.items() if need[2]) * 100 >= wanted:
            return "long"
        scales = {decimals for _, decimals, _ in (*counts, floor) if decimals < 38}
        for scale in sorted(scales, key=lambda scale: (scale < floor[1], scale)):
            held = sum(n for (digits, decimals, _), n in counts.items() if decimals <= scale and digits <= 38 - scale)
            if held * 100 >= wanted:
                return f"decimal(38,{scale})"
        return "string"


def _need(text: str) -> Need:
    try:
        plain = canonical_number(text)
    except UndecodableError:
        return _NO_DECIMAL
    whole, _, decimals = plain.lstrip("-").partition(".")
    fits = not decimals and int(plain) in INT64
    return (0 if whole == "0" else len(whole)), len(decimals), fits


def need_of(column_type: ColumnType) -> Need:
    """The need that leads to `column_type`, for values in a column whose numbers were not examined."""
    match = DECIMAL.search(column_type)
    if match:
        precision, scale = int(match[1]), int(match[2])
        return (1 if precision > scale else 0), scale, False
    return (0, 0, True) if "long" in column_type else _NO_DECIMAL


# --- inference ---------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class PathStats:
    """How many values of each type a path has, and the shape of its numbers.

    `converted`: what must be added to `counts` of a declared column, whose values are all counted as its tag.
    """

    counts: dict[str, int] = field(default_factory=dict)
    numbers: NumberShape = field(default_factory=NumberShape)
    set_numbers: NumberShape = field(default_factory=NumberShape)
    converted: dict[str, int] = field(default_factory=dict)

    def totals(self) -> dict[str, int]:
        """How many values have each type."""
        return {tag: self.counts.get(tag, 0) + self.converted.get(tag, 0) for tag in (*self.counts, *self.converted)}

    def add_converted(self, tag: str, held_as: str, count: int) -> None:
        """Record that `count` values of type `tag` are among those that were counted as `held_as`."""
        self.converted[tag] = self.converted.get(tag, 0) + count
        self.converted[held_as] = self.converted.get(held_as, 0) - count


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
            stats.numbers.observe(content, count=count)
        elif tag == "NS":
            stats.set_numbers.observe(*content, count=count)
        stats.counts[tag] = stats.counts.get(tag, 0) + count

    def merge(self, other: Inference) -> None:
        """Take all that `other` has seen in: the same as if its items had come here."""
        for path, theirs in other.paths.items():
            stats = self.paths.setdefault(path, PathStats())
            for tag, count in theirs.counts.items():
                stats.counts[tag] = stats.counts.get(tag, 0) + count
            for tag, count in theirs.converted.items():
                stats.converted[tag] = stats.converted.get(tag, 0) + count
            stats.numbers.merge(theirs.numbers)
            stats.set_numbers.merge(theirs.set_numbers)

    def observe_column(self, column: Column, count: int, needs: Mapping[Need, int] | None = None) -> None:
        """Count the `count` values of an existing column. `needs`: those of its numbers, if they were counted."""
        stats = self.paths.setdefault(column.path, PathStats())
        stats.counts[column.tag] = stats.counts.get(column.tag, 0) + count
        shape = {"N": stats.numbers, "NS": stats.set_numbers}.get(column.tag)
        if shape is None:
            return
        shape.known = need_of(column.type)
        for need, times in (needs or {shape.known: count}).items():
            shape.add(need, times)

    def observe_maps(self, path: Path, count: int) -> None:
        """Record that `count` items have a map at `path` whose members are counted elsewhere."""
        stats = self.paths.setdefault(path, PathStats())
        stats.counts["M"] = stats.counts.get("M", 0) + count

    def observe_rescued(
        self,
        rescued: Mapping[str, AttributeValue],
        count: int = 1,
        counted: Collection[Path] = (),
        columns: Mapping[tuple[Path, str], Column] | None = None,
    ) -> None:
        """Record the values of `count` items, with the same leftovers, that the columns did not hold.

        `counted`: maps that these items have columns in, and that `observe_maps` counts by those. `columns`: those
        that `observe_column` counts, by path and by each type that they take; a value that is also in a column, because of
        its type or spelling, is not counted twice.
        """
        maps: set[Path] = set()
        for text, value in rescued.items():
            path = parse_pointer(text)
            maps.update(path[:length] for length in range(1, len(path)))
            ((tag, _),) = value.items()
            column = columns.get((path, tag)) if columns else None
            if column is None or not fits_column(column, value):
                self.observe_value(path, value, count)
            elif column.role != "declared":
                self.observe_value(path, value, 0)
            elif column.tag != ANY:
                self.paths.setdefault(path, PathStats()).add_converted(tag, column.tag, count)
        for path in maps.difference(counted):
            self.observe_maps(path, count)

    def columns(self, key: Sequence[str], known: TableSchema | None = None, rows: int = 0) -> list[Column]:
        """The columns for all attributes seen, without names, in order of precedence, at most `MAX_COLUMNS`.

        Key attributes come first, then those with more values, then those whose name needs no change, then by path, then in
        the order of `_TYPE_ORDER`.
        The columns of a path have different types; `with_variants` decides which of them are variants.

        Args:
            key: the key attributes.
            known: columns that a table has. One that has a value stays, however few they are. A column of another type at
                the path of one needs values in more than a hundredth of `rows`.
            rows: the number of the table's rows.
        """
        known = known or TableSchema(tuple(key))
        held = {c.path for c in known.columns}
        kept = {(c.path, tag) for c in known.columns for tag in c.tags}
        kept |= {(path[:length], "M") for path in held for length in range(1, len(path))}
        children: dict[Path, list[Path]] = {}
        for path in self.paths:
            children.setdefault(path[:-1], []).append(path)
        order: dict[Path, int] = {(name,): place for place, name in enumerate(key)}
        leaves = [
            leaf
            for leaf in self._leaves((), children, kept)
            if leaf.path not in order
            and (leaf.path not in held or (leaf.path, leaf.tag) in kept or _is_frequent(leaf.count, rows))
        ]
        leaves += map(self._key_leaf, order)

        def precedence(leaf: _Leaf) -> tuple[int, int, bool, Path]:
            spelled = is_spelled_as_named(leaf.path)
            return order.get(leaf.path, len(order)), -max(leaf.count, leaf.rank), not spelled, leaf.path

        ranked = sorted(leaves, key=precedence)[:MAX_COLUMNS]
        return [Column(leaf.path, leaf.tag, "", leaf.type, leaf.role) for leaf in ranked]

    def schema(self, key: Sequence[str], known: TableSchema | None = None) -> TableSchema:
        """The columns for all attributes seen: key attributes first, then by path.

        `known`: a schema whose names are kept, and whose variants are kept while they have values.
        """
        known = known or TableSchema(tuple(key))
        ranked = with_variants(self.columns(key, known), known)
        names = column_names([c.identity for c in ranked], known.names)
        order: dict[Path, int] = {(name,): place for place, name in enumerate(key)}
        columns = sorted(
            (replace(c, name=names[c.identity]) for c in ranked),
            key=lambda c: (order.get(c.path, len(order)), c.identity),
        )
        return known.with_columns(columns)

    def _leaves(
        self, parent: Path, children: Mapping[Path, Sequence[Path]], kept: Collection[tuple[Path, str]]
    ) -> Iterator[_Leaf]:
        """The columns of the members of a map: for each member one of the most frequent type, of each other frequent type, and
        of each type with a value that is in `kept`."""
        for path in children.get(parent, ()):
            counts, override = self.paths[path].totals(), self.options.override(path)
            if override == "json":
                if counts:
                    yield _Leaf(path, ANY, "json", sum(counts.values()), "declared")
                continue
            scalars = {tag: count for tag, count in counts.items() if tag in SCALARS} if override == "string" else {}
            declared = _most_frequent(scalars)
            if declared is not None:
                counts = {tag: count for tag, count in counts.items() if tag not in scalars}
                counts[declared] = sum(scalars.values())
            most, total = _most_frequent(counts), sum(counts.get(tag, 0) for tag in _TYPE_ORDER)
            for tag in _TYPE_ORDER:
                count = counts.get(tag, 0)
                if tag != most and not _is_frequent(count, total) and not (count and (path, tag) in kept):
                    continue
                if tag == "M" and self.options.flattens(path) and 0 < len(children.get(path, ())) <= MAX_MAP_CHILDREN:
                    yield from self._leaves(path, children, kept)
                elif tag == declared:
                    yield _Leaf(path, tag, "string", count, "declared")
                else:
                    first = total + 1 if tag == "N" and override else 0  # the type of its numbers is declared
                    yield _Leaf(path, tag, self._type(path, tag), count, rank=first)

    def _key_leaf(self, path: Path) -> _Leaf:
        """The column of a key attribute. All its values have one type, so its column is never a declared one."""
        stats = self.paths.get(path) or PathStats()
        counts = stats.totals()
        tag = _most_frequent(counts)
        if tag is None:
            return _Leaf(path, "S", "string", 0)
        if tag == "N" and self.options.override(path) in (
            None,
            "json",
            "double",
        ):  # double rounds: two keys would be one
            return _Leaf(path, tag, stats.numbers.column_type(percent=100), counts[tag])
        return _Leaf(path, tag, self._type(path, tag), counts[tag])

    def _type(self, path: Path, tag: str) -> ColumnType:
        stats = self.paths[path]
        if tag == "N":
            override = self.options.override(path)
            return override if override and override != "json" else stats.numbers.column_type()
        if tag == "NS":
            return f"list<{stats.set_numbers.column_type()}>"
        fixed = {"S": "string", "B": "binary", "BOOL": "boolean", "SS": "list<string>", "BS": "list<binary>"}
        return fixed.get(tag, "json")


@dataclass(frozen=True, slots=True)
class _Leaf:
    """A column that some values need, and how many values. `rank`: the number of values that decides its precedence."""

    path: Path
    tag: str
    type: ColumnType
    count: int
    role: Role = "plain"
    rank: int = 0


def _is_frequent(count: int, total: int) -> bool:
    return count * 100 > total * VARIANT_SHARE_PERCENT


def _most_frequent(counts: Mapping[str, int]) -> str | None:
    """The type that most values have (the first of `_TYPE_ORDER` among equals); None if all are NULL or empty maps."""
    known = [(count, -_TYPE_ORDER.index(tag), tag) for tag, count in counts.items() if tag in _TYPE_ORDER]
    return max(known)[2] if known else None
