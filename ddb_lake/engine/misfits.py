"""Counts the values of a table that are in `_rescued` alone, because their column's type does not hold them."""

from __future__ import annotations

from collections.abc import Sequence

from ddb_lake.core.schema.misfits import Misfit, UnheldValues, misfits_of
from ddb_lake.core.schema.table_schema import Column
from ddb_lake.engine.session import Session
from ddb_lake.engine.sql import carried, literal


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
