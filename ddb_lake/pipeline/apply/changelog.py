"""Commit staged rows to the changelog and the quarantine, each distinct record once, and then their objects to the ledger.

A `Deduplicator` finds the new rows and writes their files. This module decides which objects count, and commits.
`pipeline.apply.ledger` states what a crash between the commits leaves.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import pyarrow as pa
from pyiceberg.manifest import DataFile
from pyiceberg.table import Table

from ddb_lake.aws.objects import ObjectRef
from ddb_lake.core.capture.export_windows import Window, remembered
from ddb_lake.core.layout.table_names import CHANGES, QUARANTINE
from ddb_lake.core.operations.retry_policy import retry_commit
from ddb_lake.core.values.erased_keys import ErasedKeys
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
from ddb_lake.lake.state import ChangesState, CurrentState, changes_state
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
from ddb_lake.pipeline.protection import rules_changed_since


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
        changed_rules: the attributes whose rule is another one than that by which the table's files were begun
            (`pipeline.protection.changed_rules`).
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
    changed_rules: tuple[str, ...] = ()

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
            changed_rules=tuple(sorted({*self.changed_rules, *other.changed_rules})),
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
    quarantined = refused = 0
    try:
        if share.rows.rejected:
            agreeing_tables(lake, share.table)  # before the first commit
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


@dataclass(frozen=True, slots=True)
class _Target:
    """What one attempt reads of the lake, each table once. A later attempt reads all of it again.

    Attributes:
        current: the state of `current`; None without one.
        changes: the changelog, to which the attempt commits.
        log: the state of the changelog.
        ledger: the ledger.
        objects: the objects of the share that the ledger does not name.
        erased: the erased keys.
        rules: the rules of protected attributes (`Protection.stored`).
    """

    current: CurrentState | None
    changes: Table
    log: ChangesState
    ledger: Ledger
    objects: NumberedObjects
    erased: ErasedKeys
    rules: Mapping[str, str]

    @classmethod
    def read(cls, lake: Lake, session: Session, share: TableShare) -> _Target:
        """Read it. The erased keys are last (`pipeline.apply.erasures`). Creates the changelog, and upgrades format 1."""
        name, tables = share.table, agreeing_tables(lake, share.table)
        rules = lake.protection(name).stored
        changes = upgraded(lake, name, tables.changes or _create_changelog(lake, name, share.key, rules))
        log = tables.log if changes is tables.changes else changes_state(changes)
        ledger = read_ledger(lake, name, changes)
        objects = _not_in_ledger(session, ledger, share.objects)
        erased = read_erased_keys(lake, session, name) if objects else ErasedKeys()
        return cls(tables.state, changes, log, ledger, objects, erased, rules)

    def state_after(self, share: TableShare, files: Sequence[DataFile], figures: Figures) -> ChangesState:
        """The state of the changelog after the commit of files of new records. It also names the exports of `current`."""
        log = self.log if self.current is None else self.log.naming(self.current.exports)
        return replace(
            log,
            key=log.key if log.records else share.key or log.key,
            batch=log.batch + 1 if files else log.batch,
            records=log.records + figures.new,
            first_change_us=extreme(min, log.first_change_us, figures.first_us),
            last_change_us=extreme(max, log.last_change_us, figures.last_us),
            sources=tuple(sorted({*log.sources, *figures.sources})),
            windows=log.windows if share.window is None else remembered((*log.windows, share.window)),
            protection=log.protection if log.records else self.rules,
        )


def _commit_changes(lake: Lake, session: Session, share: TableShare) -> _Ingested:
    """One attempt. Raises CommitConflict if another writer committed since it began."""
    target = _Target.read(lake, session, share)
    taken = {number for number, _ in target.objects}
    of_others = [o.tables.get(share.table, (0, 0))[0] for number, o in enumerate(share.objects) if number not in taken]
    result = IngestResult(
        share.table,
        records=share.rows.records - sum(of_others),
        changed_rules=rules_changed_since(target.current, target.log, target.rules),
    )
    if not target.objects:
        return _Ingested(result, ledger_rows(lake, share.table, (), Figures()), target.ledger)
    write = ChangesWrite(target.log.batch + 1, target.erased)
    files, figures = share.rows.write_changes(target.changes, target.objects, write)
    state = target.state_after(share, files, figures)
    if files or state != target.log:
        lake.commit_delta(target.changes, Delta(added=files), state.properties())
    result = replace(
        result,
        new=figures.new,
        duplicates=figures.staged - figures.new - figures.refused,
        refused=figures.refused,
        by_event=dict(figures.by_event),
        hours=dict(sorted(figures.hours.items())),
    )
    return _Ingested(result, ledger_rows(lake, share.table, target.objects, figures), target.ledger)


def _not_in_ledger(session: Session, ledger: Ledger, objects: Sequence[IngestedObject]) -> NumberedObjects:
    """The objects that the ledger does not name, with their numbers: another writer may have ingested some meanwhile."""
    ingested = ledger.ingested(session, [(o.ref.uri, o.ref.version) for o in objects])
    return [(number, o) for number, o in enumerate(objects) if (o.ref.uri, o.ref.version) not in ingested]


# --- the tables


def ensure_changelog(lake: Lake, table: str, key: tuple[str, ...]) -> Table:
    """The changelog of a table, which is created if it does not exist."""
    return lake.changes(table) or _create_changelog(lake, table, key, lake.protection(table).stored)


def _create_changelog(lake: Lake, table: str, key: tuple[str, ...], rules: Mapping[str, str]) -> Table:
    """The new changelog of a table; the existing one if another writer created it at the same time."""
    schema = fixed_schema(CHANGES_COLUMNS)
    state = ChangesState(key=key, protection=rules)
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
