"""The values of a table that are in `_rescued` alone (`engine.misfits`)."""

from __future__ import annotations

from collections.abc import Sequence

from pyiceberg.table import Table

from ddb_lake.core.layout.table_names import entity_table
from ddb_lake.core.schema.misfits import KnownMisfits, Misfit, misfits_of, without_parts
from ddb_lake.core.schema.table_schema import Column
from ddb_lake.engine.misfits import count_misfits
from ddb_lake.lake.entity_state import EntityState
from ddb_lake.lake.scan import scan_table
from ddb_lake.lake.state import CurrentState
from ddb_lake.pipeline.executor import Executor
from ddb_lake.pipeline.open_lake import Lake


def find_misfits(lake: Lake, name: str, executor: Executor | None = None, counted: bool = False) -> tuple[Misfit, ...]:
    """The attributes of a table with values that no column holds, those with the most values first.

    A table without rows has none.

    Args:
        lake: the open lake.
        name: the table.
        executor: reads `_rescued` of all rows. By default, this process does.
        counted: take what the commits counted if that is exact, and read no row then.
    """
    table = lake.current(name)
    if table is None:
        return ()
    state = CurrentState.of(table)
    return _misfits(lake, table, state.schema.columns, executor, state.misfits if counted else None)


def find_entity_misfits(
    lake: Lake, name: str, executor: Executor | None = None, counted: bool = False
) -> dict[str, tuple[Misfit, ...]]:
    """As `find_misfits`, for the table of each entity that has such attributes, by the table's name.

    An entity has columns of its own, so a type that is rare in it may have a column in `current` only.

    Raises:
        ConfigError: the table is not configured.
    """
    found = {}
    for entity in lake.table(name).entities:
        full_name = entity_table(name, entity.name)
        table = lake.readable(full_name)
        state = EntityState.of(table) if table is not None else None
        if table is None or state is None:
            continue
        misfits = _misfits(lake, table, state.schema.columns, executor, state.misfits if counted else None)
        if attributes := without_parts(misfits, entity.rule):
            found[full_name] = attributes
    return found


def _misfits(
    lake: Lake, table: Table, columns: Sequence[Column], executor: Executor | None, known: KnownMisfits | None
) -> tuple[Misfit, ...]:
    if known is not None and known.exact:
        return known.misfits(columns)
    scan = scan_table(table)
    with lake.session() as session:
        if executor is None:
            return count_misfits(session, scan.sql(), columns)
        return misfits_of(executor.unheld_values(session, table, scan, columns), columns)
