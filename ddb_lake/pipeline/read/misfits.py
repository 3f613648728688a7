"""The values of a table that are in `_rescued` alone, counted by attribute: those that their column's type does not hold."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ddb_lake.core.schema.table_schema import Column, dotted, parse_pointer
from ddb_lake.engine.session import Session
from ddb_lake.engine.sql import carried, literal
from ddb_lake.lake.scan import scan_table
from ddb_lake.lake.state import CurrentState
from ddb_lake.pipeline.open_lake import Lake


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


def find_misfits(lake: Lake, name: str) -> tuple[Misfit, ...]:
    """The attributes of a table with values that no column holds, those with the most values first.

    It reads `_rescued` of all rows. A table without rows has none.

    Raises:
        ConfigError: the table is not configured.
    """
    lake.table(name)
    table = lake.current(name)
    if table is None:
        return ()
    columns = CurrentState.of(table).schema.columns
    held = {(column.pointer, tag): column for column in columns for tag in column.tags}
    rows = scan_table(table).sql()
    found: dict[str, dict[str, int]] = {}
    with lake.session() as session:
        for pointer, tag, count in session.rows(_COUNTS.format(rows=rows)):
            column = held.get((pointer, tag))
            if column is not None:
                count = _without_a_value(session, rows, column, tag)
            if count:
                found.setdefault(pointer, {})[tag] = count
    main = {column.pointer: column for column in columns if column.role != "variant"}
    misfits = [_misfit(pointer, values, main.get(pointer)) for pointer, values in found.items()]
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
