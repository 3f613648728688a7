"""`current` and the changelog of a table, after a check that neither lacks commits that the other one names."""

from __future__ import annotations

from dataclasses import dataclass

from pyiceberg.table import Table

from ddb_lake.core.layout.table_names import CHANGES
from ddb_lake.errors import DamagedError
from ddb_lake.lake.state import ChangesState, CurrentState, changes_state, current_state, exports_without_commit
from ddb_lake.pipeline.open_lake import Lake


@dataclass(frozen=True, slots=True)
class AgreeingTables:
    """`current` and the changelog with their states.

    Attributes:
        current: None before its first commit.
        changes: None if it does not exist.
        state: the state of `current`; None without one.
        log: the state of the changelog; that of an empty one if it does not exist.
    """

    current: Table | None
    changes: Table | None
    state: CurrentState | None
    log: ChangesState


def agreeing_tables(lake: Lake, name: str) -> AgreeingTables:
    """Read `current` and the changelog of a table.

    `current` is read first. Then no other writer can apply a batch that this changelog does not have.

    Raises:
        DamagedError: the changelog lacks batches that are applied to `current`, or `current` lacks full exports that the
            changelog names: their newest metadata is lost, or they were dropped. Or another tool rolled one of them back.
    """
    tables = _read(lake, name)
    _check_batches(name, tables)
    if exports_without_commit(tables.state, tables.log):
        tables = _read(lake, name)  # another writer may have loaded an export between the two reads
        _check_exports(name, tables)
    return tables


def _read(lake: Lake, name: str) -> AgreeingTables:
    current = lake.current(name)
    changes = lake.changes(name)
    return AgreeingTables(current, changes, current_state(current), changes_state(changes))


def _check_batches(name: str, tables: AgreeingTables) -> None:
    applied = 0 if tables.state is None else tables.state.applied_batch
    if applied > tables.log.batch:
        raise DamagedError(
            f"it ends with batch {tables.log.batch}, and batch {applied} is applied to {name}: its last commits are lost",
            uri="the changelog" if tables.changes is None else tables.changes.metadata_location,
            table=name + CHANGES,
            hint=f"`ddb-lake rebuild {name}` builds it again from exports and landed objects",
        )


def _check_exports(name: str, tables: AgreeingTables) -> None:
    lost = exports_without_commit(tables.state, tables.log)
    if lost:
        named = ", ".join(export.uri or f"export {export.export_id}" for export in lost)
        raise DamagedError(
            f"it does not have exports that were loaded ({named}): its last commits are lost, or it was dropped",
            uri="the table of current items" if tables.current is None else tables.current.metadata_location,
            table=name,
            hint=f"`ddb-lake rebuild {name}` builds it again from exports and landed objects",
        )
