"""Commit staged rows to the changelog and the quarantine, each distinct record once, and then their objects to the ledger.

A `Deduplicator` finds the new rows and writes their files. This module decides which objects count, and commits.
`pipeline.apply.ledger` states what a crash between the commits leaves.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import pyarrow as pa
from pyiceberg.table import Table

from ddb_lake.aws.objects import ObjectRef
from ddb_lake.core.capture.export_windows import Window, remembered
from ddb_lake.core.layout.table_names import CHANGES, QUARANTINE
from ddb_lake.core.operations.retry_policy import retry_commit
from ddb_lake.engine.session import Session
from ddb_lake.engine.staging import StagedRows
from ddb_lake.lake.commit import Delta
from ddb_lake.lake.lake_format import REFUSED_BY_FORMAT_1
from ddb_lake.lake.schemas import (
    CHANGES_COLUMNS,
    QUARANTINE_COLUMNS,
    changes_partitioning,
    fixed_schema,
    missing_columns,
)
from ddb_lake.lake.state import ChangesState, changes_state
from ddb_lake.pipeline.agreement import agreeing_tables
from ddb_lake.pipeline.apply.deduplication import (
    ChangesWrite,
    Deduplicator,
    Figures,
    LocalDeduplicator,
    NumberedObjects,
    RejectedWrite,
    extreme,
)
from ddb_lake.pipeline.apply.erasures import read_erased_keys
from ddb_lake.pipeline.apply.ledger import Ledger, add_objects, ledger_rows, read_ledger, upgraded
from ddb_lake.pipeline.apply.object_reader import IngestedObject, StagedTable
from ddb_lake.pipeline.open_lake import Lake


@dataclass(frozen=True, slots=True)
class IngestResult:
    """What one table got from some objects.

    Attributes:
        table: the table's name.
        records: the records that the objects have of the table, rejected ones included. Objects that another writer ingested meanwhile
            do not count.
        new: those that are added to the changelog.
        duplicates: records that were in the changelog already, or are several times in the objects.
        quarantined: entries that are added to the quarantine.
        refused: distinct records of erased keys, and rejected bytes that name one. They are in no table.
        left_out: records that the table's filter leaves out. They are in no table, and not among `records`.
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
    refused: int = 0
    left_out: int = 0

    def __add__(self, other: IngestResult) -> IngestResult:
        return IngestResult(
            table=self.table,
            records=self.records + other.records,
            new=self.new + other.new,
            duplicates=self.duplicates + other.duplicates,
            quarantined=self.quarantined + other.quarantined,
            by_event=dict(Counter(self.by_event) + Counter(other.by_event)),
            hours=dict(Counter(self.hours) + Counter(other.hours)),
            refused=self.refused + other.refused,
            left_out=self.left_out + other.left_out,
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
    """Those of `refs` that the ledger of a table does not name, in their order."""
    if not refs:
        return []
    ingested = read_ledger(lake, table).ingested(session, [(ref.uri, ref.version) for ref in refs])
    return [ref for ref in refs if (ref.uri, ref.version) not in ingested]


def ingest(lake: Lake, session: Session, share: TableShare) -> IngestResult:
    """Commit a table's share of a group of objects: first to the quarantine, then to the changelog, then to the ledger.

    The effect is that of exactly one delivery: records that the changelog has are left out, and so is every record of an
    object that the ledger names. After a crash between two commits, the next run finds the entries in the quarantine and the
    records in the changelog. If no record is new, nothing is committed to the changelog.

    Raises:
        DamagedError: as `pipeline.agreement.agreeing_tables`. If the changelog lacks batches that are applied to `current`, new
            records would get their numbers.
        TransientError: in each attempt, another writer committed first.
    """
    try:
        agreeing_tables(lake, share.table)
        quarantined, refused = retry_commit(lambda: _commit_rejected(lake, session, share))
        ingested = retry_commit(lambda: _commit_changes(lake, session, share))
    finally:
        share.rows.close()
    add_objects(lake, session, share.table, ingested.objects, ingested.ledger)
    refused += ingested.result.refused
    return replace(ingested.result, quarantined=quarantined, refused=refused)


def quarantine_rows(
    lake: Lake, session: Session, table: str, rows: StagedRows, objects: Sequence[IngestedObject]
) -> int:
    """Commit rows to the quarantine alone. Returns the number of rows that it did not have."""
    deduplicator = LocalDeduplicator(session, StagedTable.rejected(session.folder, rows))
    return retry_commit(lambda: _commit_rejected(lake, session, TableShare(table, deduplicator, objects)))[0]


def _commit_rejected(lake: Lake, session: Session, share: TableShare) -> tuple[int, int]:
    """Returns the number of entries that were added, and of those that name an erased key."""
    if share.rows.rejected == 0:
        return 0, 0
    objects = _not_in_ledger(session, read_ledger(lake, share.table), share.objects)
    table = ensure_quarantine(lake, share.table)
    at = lake.now().replace(tzinfo=None).isoformat()
    write = RejectedWrite(at, read_erased_keys(lake, session, share.table))
    files, refused = share.rows.write_rejected(table, objects, write)
    if files:
        lake.commit_delta(table, Delta(added=files))
    return sum(f.record_count for f in files), refused


@dataclass(frozen=True, slots=True)
class _Ingested:
    """Records that are in the changelog.

    Attributes:
        result: what the table got.
        objects: the rows of the ledger to add.
        ledger: the ledger before it has them.
    """

    result: IngestResult
    objects: pa.Table
    ledger: Ledger


def _commit_changes(lake: Lake, session: Session, share: TableShare) -> _Ingested:
    table = upgraded(lake, share.table, ensure_changelog(lake, share.table, share.key))
    ledger = read_ledger(lake, share.table)
    objects = _not_in_ledger(session, ledger, share.objects)
    taken = {number for number, _ in objects}
    of_others = [o.tables.get(share.table, (0, 0))[0] for number, o in enumerate(share.objects) if number not in taken]
    records = share.rows.records - sum(of_others)
    if not objects:
        return _Ingested(IngestResult(share.table, records), ledger_rows(lake, share.table, (), Figures()), ledger)
    state = changes_state(table)
    write = ChangesWrite(state.batch + 1, read_erased_keys(lake, session, share.table))
    files, figures = share.rows.write_changes(table, objects, write)
    windows = state.windows if share.window is None else remembered((*state.windows, share.window))
    new_state = replace(
        state,
        key=state.key if state.records else share.key or state.key,
        batch=state.batch + 1 if files else state.batch,
        records=state.records + figures.new,
        first_change_us=extreme(min, state.first_change_us, figures.first_us),
        last_change_us=extreme(max, state.last_change_us, figures.last_us),
        sources=tuple(sorted({*state.sources, *figures.sources})),
        windows=windows,
        protection=state.protection if state.records else lake.protection(share.table).stored,
    )
    if files or new_state != state:
        lake.commit_delta(table, Delta(added=files), new_state.properties())
    result = IngestResult(
        share.table,
        records,
        new=figures.new,
        duplicates=figures.staged - figures.new - figures.refused,
        refused=figures.refused,
        by_event=dict(figures.by_event),
        hours=dict(sorted(figures.hours.items())),
    )
    return _Ingested(result, ledger_rows(lake, share.table, objects, figures), ledger)


def _not_in_ledger(session: Session, ledger: Ledger, objects: Sequence[IngestedObject]) -> NumberedObjects:
    """The objects that the ledger does not name, with their numbers: another writer may have ingested some meanwhile."""
    ingested = ledger.ingested(session, [(o.ref.uri, o.ref.version) for o in objects])
    return [(number, o) for number, o in enumerate(objects) if (o.ref.uri, o.ref.version) not in ingested]


# --- the tables


def ensure_changelog(lake: Lake, table: str, key: tuple[str, ...]) -> Table:
    """The changelog of a table, which is created if it does not exist."""
    changes = lake.changes(table)
    if changes is not None:
        return changes
    schema = fixed_schema(CHANGES_COLUMNS)
    state = ChangesState(key=key, protection=lake.protection(table).stored)
    properties = {"comment": f"Every distinct change record of {table}, once", **state.properties()}
    properties["ddb_lake.ledger"] = REFUSED_BY_FORMAT_1
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
