"""Values of a table that are in `_rescued` alone, counted by attribute: those that their column's type does not hold.

`engine.misfits` counts them.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, TypeAlias

from ddb_lake.core.schema.key_patterns import EntityRule, part_path
from ddb_lake.core.schema.table_schema import SCALARS, Column, dotted, parse_pointer, pointer

MOST_ATTRIBUTES: Final = 100
"""The most attributes whose counts are kept in the state of a table."""

READ_THEM: Final = "read them from `_rescued`, as the page on types shows"
UnheldValues: TypeAlias = Mapping[str, Mapping[str, int]]
"""How many values of each DynamoDB type no column holds, by the attribute's key in `_rescued`."""

_PLAIN: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_.]*")


@dataclass(frozen=True, slots=True)
class Misfit:
    """Values of one attribute that no column holds.

    Attributes:
        attribute: the attribute as `dotted` writes it.
        column: its column; None if it has none, or if its members have columns.
        column_type: the type of that column.
        values: how many values of each DynamoDB type (`S`, `N`, …) are in `_rescued` alone; NULL and empty maps are not counted.
        pointer: the attribute's key in `_rescued`.
    """

    attribute: str
    column: str | None
    column_type: str | None
    values: Mapping[str, int]
    pointer: str

    @property
    def count(self) -> int:
        """The number of values."""
        return sum(self.values.values())

    def __str__(self) -> str:
        return self.text()

    def text(self, exact: bool = True) -> str:
        """The attribute, its column and the values in words. `exact`: whether there are so many values, or at most so many."""
        most = "" if exact else "at most "
        kinds = ", ".join(f"{most}{count:,} of type {tag}" for tag, count in sorted(self.values.items()))
        column = (
            "no column holds" if self.column is None else f"column {self.column} ({self.column_type}) does not hold"
        )
        return f"attribute {self.attribute!r}: values that {column}: {kinds}; they are in _rescued"

    @property
    def advice(self) -> str:
        """What to write in the configuration so that the column has the values too; where to read them, if there is no column."""
        if self.column is None:
            return READ_THEM
        text = (
            json.dumps(self.attribute, ensure_ascii=False)
            if _PLAIN.fullmatch(self.attribute) is None
            else self.attribute
        )
        kind = "string" if self.values.keys() <= set(SCALARS) and self.column_type != "json" else "json"
        return f"`columns: {{{text}: {kind}}}` puts them into one column at the next full load or compaction; or {READ_THEM}"


def misfits_of(parts: Iterable[UnheldValues], columns: Sequence[Column]) -> tuple[Misfit, ...]:
    """The attributes with values that no column holds, from the counts of parts of the rows; those with the most values first.

    Args:
        parts: of disjoint parts of the rows.
        columns: the columns of the items, which hold none of these values.
    """
    totals: dict[str, Counter[str]] = {}
    for part in parts:
        for key, values in part.items():
            totals.setdefault(key, Counter()).update(values)
    main = {column.pointer: column for column in columns if column.role != "variant"}
    return _sorted(_misfit(key, dict(values), main.get(key)) for key, values in totals.items())


def sum_misfits(found: Iterable[Misfit]) -> tuple[Misfit, ...]:
    """The misfits of several commits together, with the column of the last one; those with the most values first."""
    totals: dict[str, Misfit] = {}
    for one in found:
        before = totals.get(one.pointer)
        values = Counter(one.values) + Counter({} if before is None else before.values)
        totals[one.pointer] = replace(one, values=dict(values))
    return _sorted(totals.values())


def _sorted(misfits: Iterable[Misfit]) -> tuple[Misfit, ...]:
    return tuple(sorted(misfits, key=lambda one: (-one.count, one.pointer)))


def _misfit(key: str, values: Mapping[str, int], column: Column | None) -> Misfit:
    name, kind = (None, None) if column is None else (column.name, column.type)
    return Misfit(dotted(parse_pointer(key)), name, kind, values, key)


def without_parts(misfits: Iterable[Misfit], rule: EntityRule) -> tuple[Misfit, ...]:
    """The misfits of an entity's rows that are of attributes. Parts of keys are not; the check `entities_complete` counts them."""
    parts = {pointer(part_path(part)) for part in rule.parts}
    return tuple(one for one in misfits if one.pointer not in parts)


@dataclass(frozen=True, slots=True)
class KnownMisfits:
    """What the commits to a table counted, as a state keeps it.

    Attributes:
        values: the values that no column holds, of the attributes with the most of them.
        exact: whether no row was deleted since they were counted, and no attribute left out. Otherwise there are at most so many.
    """

    values: UnheldValues
    exact: bool = True

    @classmethod
    def counted(cls, parts: Iterable[UnheldValues], exact: bool = True) -> KnownMisfits:
        """The counts of disjoint parts of the rows."""
        found = misfits_of(parts, ())
        kept = {one.pointer: one.values for one in found[:MOST_ATTRIBUTES]}
        return cls(kept, exact and len(found) <= MOST_ATTRIBUTES)

    def after(self, added: Iterable[Misfit], deletes: bool) -> KnownMisfits:
        """What is known after a commit. `deletes`: whether it deleted or replaced rows."""
        parts = [self.values, *({one.pointer: one.values} for one in added)]
        return KnownMisfits.counted(parts, self.exact and not (deletes and self.values))

    def misfits(self, columns: Sequence[Column]) -> tuple[Misfit, ...]:
        """The attributes that have these values. `columns`: those of the items."""
        return misfits_of([self.values], columns)

    def to_json(self) -> dict[str, Any]:
        """A JSON document from which `from_json` gives an equal value."""
        return {"values": {key: dict(values) for key, values in self.values.items()}, "exact": self.exact}

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> KnownMisfits:
        """The inverse of `to_json`."""
        return cls(document["values"], document["exact"])
