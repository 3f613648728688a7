"""The values of a table that are in `_rescued` alone, counted by attribute: those that their column's type does not hold."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final, TypeAlias

from ddb_lake.core.schema.table_schema import SCALARS, Column, dotted, parse_pointer
from ddb_lake.engine.session import Session
from ddb_lake.engine.sql import carried, literal

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
        kinds = ", ".join(f"{count:,} of type {tag}" for tag, count in sorted(self.values.items()))
        column = "no column" if self.column is None else f"column {self.column} ({self.column_type})"
        return f"attribute {self.attribute!r}: {column} does not hold {kinds}; they are in _rescued"

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


def count_misfits(session: Session, rows: str, columns: Sequence[Column]) -> tuple[Misfit, ...]:
    """The attributes of a relation with values that no column holds, those with the most values first.

    The arguments are those of `unheld_values`.
    """
    return misfits_of([unheld_values(session, rows, columns)], columns)


def unheld_values(session: Session, rows: str, columns: Sequence[Column]) -> UnheldValues:
    """Count the values of a relation that no column holds. NULL and empty maps are not counted.

    Args:
        session: the session of the relation.
        rows: the relation, with the columns as `engine.sql.carried` names them, and `_rescued`.
        columns: the columns of the items.
    """
    held = {(column.pointer, tag): column for column in columns for tag in column.tags}
    found: dict[str, dict[str, int]] = {}
    for pointer, tag, count in session.rows(_COUNTS.format(rows=rows)):
        column = held.get((pointer, tag))
        if column is not None:
            count = _without_a_value(session, rows, column, tag)
        if count:
            found.setdefault(pointer, {})[tag] = count
    return found


def misfits_of(parts: Iterable[UnheldValues], columns: Sequence[Column]) -> tuple[Misfit, ...]:
    """The attributes with values that no column holds, from the counts of parts of the rows; those with the most values first.

    Args:
        parts: of disjoint parts of the rows.
        columns: the columns of the items, which hold none of these values.
    """
    totals: dict[str, Counter[str]] = {}
    for part in parts:
        for pointer, values in part.items():
            totals.setdefault(pointer, Counter()).update(values)
    main = {column.pointer: column for column in columns if column.role != "variant"}
    return _sorted(_misfit(pointer, dict(values), main.get(pointer)) for pointer, values in totals.items())


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


_ENTRIES = (
    "(SELECT unnest(map_entries(_rescued::JSON::MAP(VARCHAR, JSON))) AS e FROM {rows} WHERE _rescued IS NOT NULL)"
)
_COUNTS = (
    "SELECT e.key, json_keys(e.value)[1] AS tag, count(*) FROM " + _ENTRIES + " WHERE json_keys(e.value)[1] <> 'NULL'"
    " AND e.value <> '{{\"M\":{{}}}}' GROUP BY ALL"
)


def _without_a_value(session: Session, rows: str, column: Column, tag: str) -> int:
    """How many values of a type that a column takes it does not hold. A number in another spelling, or a value of another type
    in a declared column, is in the column and in `_rescued`."""
    kept = f"(_rescued::JSON::MAP(VARCHAR, JSON))[{literal(column.pointer)}]"
    count: int = session.value(
        f"SELECT count(*) FROM {rows} WHERE _rescued IS NOT NULL AND {carried(column.name)} IS NULL"
        f" AND json_keys({kept})[1] = {literal(tag)}"
    )
    return count


def _misfit(pointer: str, values: Mapping[str, int], column: Column | None) -> Misfit:
    name, kind = (None, None) if column is None else (column.name, column.type)
    return Misfit(dotted(parse_pointer(pointer)), name, kind, values, pointer)
