"""Commit staged rows to the changelog and the quarantine: each distinct record once, and the ledger in the same commit.

A `Deduplicator` finds the new rows and writes their files. This module decides which objects count, and commits.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import pyarrow as pa
from pyiceberg.manifest import DataFile
from pyiceberg.table import Table

from ddb_lake.aws.objects import ObjectRef
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
    NumberedObjects,
    extreme,
)
from ddb_lake.pipeline.apply.object_reader import IngestedObject, StagedTable
from ddb_lake.pipeline.open_lake import Lake


@dataclass(frozen=True, slots=True)
class IngestResult:
    """What one table got from some objects.

    Attributes:
        table: the table's name.
        records: the records that the objects have of the table, rejected ones included.
        new: those that are added to the changelog.
        duplicates: records that were in the changelog already, or are several times in the objects.
        quarantined: entries that are added to the quarantine.
        by_event: the new records by `event_name`.
        hours: the new records by arrival hour (ISO 8601, UTC).
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


@dataclass(frozen=True, slots=True)
class TableShare:
    """One table's share of a group of objects that was read.

    Attributes:
        table: the table's name.
        rows: its staged rows.
        objects: the objects of the group.
        key: the table's key attributes; empty if they are not known.
        window: the interval that the objects cover, if they are an incremental export.
    """

    table: str
    rows: Deduplicator
    objects: Sequence[IngestedObject]
    key: tuple[str, ...] = ()
    window: Window | None = None


def not_ingested(lake: Lake, session: Session, table: str, refs: Sequence[ObjectRef]) -> list[ObjectRef]:
    """Those of `refs` that the ledger of a table's changelog does not name, in their order."""
    changes = lake.changes(table)
    if changes is None or not refs:
        return list(refs)
    ingested = _ledger_names(session, changes_state(changes), refs)
    return [ref for ref in refs if (ref.uri, ref.version) not in ingested]


def ingest(lake: Lake, session: Session, share: TableShare) -> IngestResult:
    """Commit a table's share of a group of objects: first the quarantine, then changelog and ledger in one commit.

    The effect is that of exactly one delivery: records that the changelog has are left out, and so is every record of an
    object that the ledger names. After a crash between the two commits, the next run finds its entries in the
    quarantine.

    Raises:
        TransientError: in each attempt, another writer committed first.
    """
    try:
        quarantined = retry_commit(lambda: _commit_rejected(lake, session, share))
        result = retry_commit(lambda: _commit_changes(lake, session, share))
    finally:
        share.rows.close()
    return replace(result, quarantined=quarantined, records=share.rows.records)


def quarantine_rows(
    lake: Lake, session: Session, table: str, rows: StagedRows, objects: Sequence[IngestedObject]
) -> int:
    """Commit rows to the quarantine alone. Returns the number of rows that it did not have."""
    deduplicator = LocalDeduplicator(session, StagedTable.rejected(session.folder, rows))
    return retry_commit(lambda: _commit_rejected(lake, session, TableShare(table, deduplicator, objects)))


def _commit_rejected(lake: Lake, session: Session, share: TableShare) -> int:
    if share.rows.rejected == 0:
        return 0
    state = changes_state(lake.changes(share.table))
    table = ensure_quarantine(lake, share.table)
    at = lake.now().replace(tzinfo=None).isoformat()
    files = share.rows.write_rejected(table, _not_in_ledger(session, state, share.objects), at)
    if files:
        _commit(table, files, {})
    return sum(f.record_count for f in files)


def _commit_changes(lake: Lake, session: Session, share: TableShare) -> IngestResult:
    table = ensure_changelog(lake, share.table, share.key)
    state = changes_state(table)
    objects = _not_in_ledger(session, state, share.objects)
    if not objects:
        return IngestResult(share.table)
    batch = state.batch + 1
    files, figures = share.rows.write_changes(table, objects, batch)
    windows = state.windows if share.window is None else remembered((*state.windows, share.window))
    ledger_rows = _ledger_rows(lake, session, share.table, objects, figures)
    state = replace(
        state,
        key=state.key if state.records else share.key or state.key,
        batch=batch,
        records=state.records + figures.new,
        first_change_us=extreme(min, state.first_change_us, figures.first_us),
        last_change_us=extreme(max, state.last_change_us, figures.last_us),
        sources=tuple(sorted({*state.sources, *figures.sources})),
        ledger=state.ledger.append(session.con, table, ledger_rows, LEDGER_COLUMNS),
        windows=windows,
    )
    _commit(table, files, state.properties())
    return IngestResult(
        share.table,
        new=figures.new,
        duplicates=figures.staged - figures.new,
        by_event=dict(figures.by_event),
        hours=dict(sorted(figures.hours.items())),
    )


def _commit(table: Table, files: Sequence[DataFile], properties: dict[str, str]) -> None:
    commit = Commit(table)
    commit.snapshot(Delta(added=files))
    commit.set_properties(properties)
    commit.run()


# --- the ledger


def _not_in_ledger(session: Session, state: ChangesState, objects: Sequence[IngestedObject]) -> NumberedObjects:
    """The objects that the ledger does not name, with their numbers: another writer may have ingested some meanwhile."""
    ingested = _ledger_names(session, state, [o.ref for o in objects])
    return [(number, o) for number, o in enumerate(objects) if (o.ref.uri, o.ref.version) not in ingested]


def _ledger_names(session: Session, state: ChangesState, refs: Sequence[ObjectRef]) -> set[tuple[str, str]]:
    """The URIs and versions of those of `refs` that the ledger names."""
    if not state.ledger.files:
        return set()
    columns = {"object": [ref.uri for ref in refs], "version": [ref.version for ref in refs]}
    session.con.register("wanted_objects", pa.table(columns))
    try:
        return {
            (uri, version)
            for uri, version in session.rows(
                f"SELECT object, version FROM {state.ledger.sql(LEDGER_COLUMNS)} l SEMI JOIN wanted_objects w"
                " ON l.object = w.object AND l.version = w.version"
            )
        }
    finally:
        session.con.unregister("wanted_objects")


def ingested_names(lake: Lake, session: Session, table: str, uris: Sequence[str]) -> set[str]:
    """Those of `uris` that the ledger of a table's changelog names, in any version."""
    ledger = changes_state(lake.changes(table)).ledger
    if not ledger.files or not uris:
        return set()
    session.con.register("wanted_names", pa.table({"object": list(uris)}))
    try:
        names = session.rows(
            f"SELECT DISTINCT object FROM {ledger.sql(LEDGER_COLUMNS)} l SEMI JOIN wanted_names w ON l.object = w.object"
        )
        return {uri for (uri,) in names}
    finally:
        session.con.unregister("wanted_names")


def _ledger_rows(lake: Lake, session: Session, table: str, objects: NumberedObjects, figures: Figures) -> str:
    """A query of the ledger's rows for some objects. `figures`: of the new records."""
    own = [o.tables.get(table, (0, 0)) for _, o in objects]
    others = [o.records - records for (_, o), (records, _) in zip(objects, own, strict=True)]
    times = pa.timestamp("us")
    rows = pa.table(
        {
            "object": [o.ref.uri for _, o in objects],
            "version": [o.ref.version for _, o in objects],
            "size_bytes": pa.array([o.ref.size_bytes for _, o in objects], type=pa.int64()),
            "arrival_hour": pa.array([o.hour_us for _, o in objects], type=times),
            "records": pa.array([o.records for _, o in objects], type=pa.int64()),
            "new": pa.array([figures.by_object[number] for number, _ in objects], type=pa.int64()),
            "rejected": pa.array([rejected for _, rejected in own], type=pa.int64()),
            "other_tables": pa.array(others, type=pa.int64()),
            "landed_at": pa.array([o.ref.modified_us or None for _, o in objects], type=times),
            "ingested_at": pa.array([lake.now().replace(tzinfo=None)] * len(objects), type=times),
        }
    )
    session.con.register("ledger_rows", rows)
    return "SELECT * FROM ledger_rows"


# --- the tables


def ensure_changelog(lake: Lake, table: str, key: tuple[str, ...]) -> Table:
    """The changelog of a table, which is created if it does not exist."""
    changes = lake.changes(table)
    if changes is not None:
        return changes
    schema = fixed_schema(CHANGES_COLUMNS)
    properties = {"comment": f"Every distinct change record of {table}, once", **ChangesState(key=key).properties()}
    return lake.catalog.create(table + CHANGES, schema, changes_partitioning(schema), properties)


def ensure_quarantine(lake: Lake, table: str) -> Table:
    """The quarantine of a table, which is created if it does not exist. Columns that an earlier release lacks are added."""
    quarantine = lake.quarantine(table)
    if quarantine is None:
        comment = f"What could not be taken into {table}, with the reason"
        return lake.catalog.create(
            table + QUARANTINE, fixed_schema(QUARANTINE_COLUMNS), properties={"comment": comment}
        )
    missing = missing_columns(quarantine.schema(), QUARANTINE_COLUMNS)
    if missing:
        with quarantine.update_schema() as update:
            for column in missing:
                update.add_column(column[0], column[1], column[2])
    return quarantine
