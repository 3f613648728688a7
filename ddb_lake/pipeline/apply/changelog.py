"""Staged rows into the changelog and the quarantine: each distinct record once, with the ledger in the same commit.

Which rows are new, and their files, is an `Deduplicator`'s; here is what is committed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import pyarrow as pa
from pyiceberg.manifest import DataFile
from pyiceberg.table import Table

from ddb_lake.core.capture.export_windows import Window, remembered
from ddb_lake.core.layout.table_names import CHANGES, QUARANTINE
from ddb_lake.core.operations.retry_policy import retry_commit
from ddb_lake.engine.session import Session
from ddb_lake.engine.staging import StagedRows
from ddb_lake.lake.commit import Commit, Delta
from ddb_lake.lake.schemas import (
    CHANGES_COLUMNS,
    QUARANTINE_COLUMNS,
    changes_partitioning,
    fixed_schema,
    missing_columns,
)
from ddb_lake.lake.sidecar import LEDGER_COLUMNS
from ddb_lake.lake.state import ChangesState, changes_state
from ddb_lake.pipeline.apply.deduplication import (
    Deduplicator,
    Figures,
    LocalDeduplicator,
    Numbered,
    extreme,
)
from ddb_lake.pipeline.apply.object_reader import IngestedObject, StagedTable
from ddb_lake.pipeline.open_lake import Lake


@dataclass(frozen=True, slots=True)
class IngestResult:
    """What one table got from some objects.

    `duplicates`: records that were in the changelog already, or twice in the objects. `hours`: new records by
    arrival hour (ISO 8601, UTC).
    """

    table: str
    records: int = 0
    new: int = 0
    duplicates: int = 0
    quarantined: int = 0
    by_event: dict[str, int] = field(default_factory=dict)
    hours: dict[str, int] = field(default_factory=dict)

    def __add__(self, other: IngestResult) -> IngestResult:
        return IngestResult(
            self.table,
            self.records + other.records,
            self.new + other.new,
            self.duplicates + other.duplicates,
            self.quarantined + other.quarantined,
            dict(Counter(self.by_event) + Counter(other.by_event)),
            dict(Counter(self.hours) + Counter(other.hours)),
        )


def unseen(lake: Lake, session: Session, table: str, objects: Sequence[Any]) -> list[Any]:
    """Those of `objects` (ObjectRefs) that the changelog of `table` has not ingested."""
    changes = lake.changes(table)
    if changes is None or not objects:
        return list(objects)
    known = _ledger(session, changes, [(ref.uri, ref.version) for ref in objects])
    return [ref for ref in objects if (ref.uri, ref.version) not in known]


def ingest(
    lake: Lake,
    session: Session,
    table: str,
    deduplicator: Deduplicator,
    objects: Sequence[IngestedObject],
    key: tuple[str, ...],
    window: Window | None = None,
) -> IngestResult:
    """Commit one table's share of a group of objects: quarantine first, then changelog and ledger at once.

    `window`: what the objects, an incremental export, cover of time; noted in the same commit.

    Exactly-once effect: records that are there already are left out, and so is all of an object that the ledger
    names. A crash between the two commits leaves quarantined bytes that the next run finds there.
    """
    try:
        quarantined = retry_commit(lambda: _commit_quarantine(lake, session, table, deduplicator, objects))
        result = retry_commit(lambda: _commit_changes(lake, session, table, deduplicator, objects, key, window))
    finally:
        deduplicator.close()
    return replace(result, quarantined=quarantined, records=deduplicator.records)


def set_aside(lake: Lake, session: Session, table: str, rows: StagedRows, objects: Sequence[IngestedObject]) -> int:
    """Commit rows to the quarantine alone; returns how many it did not have before."""
    deduplicator = LocalDeduplicator(session, StagedTable.rejected(session.folder, rows))
    return retry_commit(lambda: _commit_quarantine(lake, session, table, deduplicator, objects))


def changes_table(lake: Lake, table: str, key: tuple[str, ...]) -> Table:
    """The changelog, created if there is none."""
    found = lake.changes(table)
    if found is not None:
        return found
    schema = fixed_schema(CHANGES_COLUMNS)
    properties = {"comment": f"Every distinct change record of {table}, once", **ChangesState(key=key).properties()}
    return lake.catalog.create(table + CHANGES, schema, changes_partitioning(schema), properties)


def quarantine_table(lake: Lake, table: str) -> Table:
    """The quarantine, created if there is none, with columns that an earlier release did not have added to it."""
    found = lake.quarantine(table)
    if found is not None:
        missing = missing_columns(found.schema(), QUARANTINE_COLUMNS)
        if missing:
            with found.update_schema() as update:
                for column in missing:
                    update.add_column(column[0], column[1], column[2])
        return found
    properties = {"comment": f"What could not be taken into {table}, with the reason"}
    return lake.catalog.create(table + QUARANTINE, fixed_schema(QUARANTINE_COLUMNS), properties=properties)


def _ledger(session: Session, changes: Table, wanted: Sequence[tuple[str, str]]) -> set[tuple[str, str]]:
    state = changes_state(changes)
    if not state.ledger.files:
        return set()
    columns = {"object": [uri for uri, _ in wanted], "version": [version for _, version in wanted]}
    session.con.register("wanted_objects", pa.table(columns))
    try:
        rows = session.rows(
            f"SELECT object, version FROM {state.ledger.sql(LEDGER_COLUMNS)} l SEMI JOIN wanted_objects w"
            " ON l.object = w.object AND l.version = w.version"
        )
    finally:
        session.con.unregister("wanted_objects")
    return {(uri, version) for uri, version in rows}


def _unknown(session: Session, changes: Table | None, objects: Sequence[IngestedObject]) -> Numbered:
    """The objects that the ledger does not name."""
    known = _ledger(session, changes, [(o.ref.uri, o.ref.version) for o in objects]) if changes is not None else set()
    return [(number, o) for number, o in enumerate(objects) if (o.ref.uri, o.ref.version) not in known]


def _commit_quarantine(
    lake: Lake, session: Session, name: str, deduplicator: Deduplicator, objects: Sequence[IngestedObject]
) -> int:
    if deduplicator.rejected == 0:
        return 0
    fresh = _unknown(session, lake.changes(name), objects)
    table = quarantine_table(lake, name)
    files = deduplicator.write_rejected(table, fresh, lake.now().replace(tzinfo=None).isoformat())
    if files:
        _commit(table, files, {})
    return sum(f.record_count for f in files)


def _commit_changes(
    lake: Lake,
    session: Session,
    name: str,
    deduplicator: Deduplicator,
    objects: Sequence[IngestedObject],
    key: tuple[str, ...],
    window: Window | None,
) -> IngestResult:
    table = changes_table(lake, name, key)
    state = changes_state(table)
    fresh = _unknown(session, table, objects)
    if not fresh:
        return IngestResult(name)
    batch = state.batch + 1
    files, found = deduplicator.write_changes(table, fresh, batch)
    grown = _grown(state, batch, found, key)
    if window is not None:
        grown = replace(grown, windows=remembered((*grown.windows, window)))
    ledger = state.ledger.append(session.con, table, _ledger_rows(session, [o for _, o in fresh]), LEDGER_COLUMNS)
    _commit(table, files, replace(grown, ledger=ledger).properties())
    return IngestResult(
        name, 0, found.new, found.staged - found.new, 0, dict(found.by_event), dict(sorted(found.hours.items()))
    )


def _grown(state: ChangesState, batch: int, found: Figures, key: tuple[str, ...]) -> ChangesState:
    """The changelog's state with new records."""
    return replace(
        state,
        key=state.key if state.records else key or state.key,
        batch=batch,
        records=state.records + found.new,
        first_change_us=extreme(min, state.first_change_us, found.first_us),
        last_change_us=extreme(max, state.last_change_us, found.last_us),
        sources=tuple(sorted({*state.sources, *found.sources})),
    )


def _ledger_rows(session: Session, objects: Sequence[IngestedObject]) -> str:
    rows = pa.table(
        {
            "object": [o.ref.uri for o in objects],
            "version": [o.ref.version for o in objects],
            "size_bytes": pa.array([o.ref.size_bytes for o in objects], type=pa.int64()),
            "arrival_hour": pa.array([o.hour_us for o in objects], type=pa.timestamp("us")),
            "records": pa.array([o.records for o in objects], type=pa.int64()),
        }
    )
    session.con.register("ledger_rows", rows)
    return "SELECT * FROM ledger_rows"


def _commit(table: Table, files: Sequence[DataFile], properties: dict[str, str]) -> None:
    commit = Commit(table)
    commit.snapshot(Delta(added=files))
    commit.set_properties(properties)
    commit.run()
