"""Loads a finished export. The newest full export becomes the base of `current`; an incremental one joins the changelog.

A full export is loaded in four steps: open the export (`export_files`), decide whether it becomes the base (`LoadPlan`),
write and check its rows (`snapshot_writer`), and commit them. An incremental export is read like landed change objects: each
line asserts the state of a key at the end of the export's window.

Loading an export again changes nothing. After a crash, repeat the call; compaction removes the files that were written but
not committed.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import partial

from pyiceberg.schema import Schema
from pyiceberg.table import Table

from ddb_lake.aws.objects import ObjectRef
from ddb_lake.config import TableSettings
from ddb_lake.core.capture.export_windows import Window
from ddb_lake.core.operations.count_text import count_text
from ddb_lake.core.operations.retry_policy import retry_commit
from ddb_lake.core.schema.misfits import KnownMisfits, Misfit
from ddb_lake.core.schema.table_schema import NameCollision, TableSchema, new_collisions
from ddb_lake.core.values.time_text import iso_text
from ddb_lake.engine.merge_plan import MergeRules
from ddb_lake.engine.schema_fitting import extend_schema, fit_schema, guess_from
from ddb_lake.engine.session import Session
from ddb_lake.engine.staging import StagedRows
from ddb_lake.errors import ConfigError
from ddb_lake.lake.commit import EXPORT_BRANCH, Commit, Delta
from ddb_lake.lake.file_writer import FileWriter
from ddb_lake.lake.scan import LiveFiles, live_files
from ddb_lake.lake.schema_evolution import evolve_table
from ddb_lake.lake.state import CurrentState, LoadedExport, changes_state, current_state, lost_exports
from ddb_lake.pipeline.apply.apply import everything_quarantined
from ddb_lake.pipeline.apply.changelog import IngestResult, TableShare, ingest, not_ingested, quarantine_rows
from ddb_lake.pipeline.apply.erasures import read_erased_keys
from ddb_lake.pipeline.apply.object_reader import (
    IngestedObject,
)
from ddb_lake.pipeline.capture.gap_log import repair_by_export
from ddb_lake.pipeline.executor import Executor
from ddb_lake.pipeline.load.erased_items import without_erased
from ddb_lake.pipeline.load.export_files import (
    Export,
    open_export,
)
from ddb_lake.pipeline.load.snapshot_writer import SnapshotTarget, SnapshotWriter
from ddb_lake.pipeline.merge.current import (
    ensure_current,
    first_state,
    iceberg_schema,
    misfits_after,
    name_exports,
    open_commit,
    update_current,
)
from ddb_lake.pipeline.merge.entities import update_entities
from ddb_lake.pipeline.merge.misfits import find_entity_misfits, find_misfits
from ddb_lake.pipeline.merge.sources import (
    ExportRows,
    MergeSources,
    Relation,
    current_rows,
    export_rows,
    exported_keys,
    keyed_rows,
    keys_of_export,
    known_records,
    naming_records,
)
from ddb_lake.pipeline.open_lake import Lake
from ddb_lake.pipeline.protection import warn_of_former_values
from ddb_lake.pipeline.table_identity import check_origin
from ddb_lake.pipeline.table_key import table_key

HOUR_US = 3_600_000_000


@dataclass(frozen=True, slots=True)
class LoadResult:
    """The result of loading an export. Times are UTC microseconds.

    Attributes:
        export_us: the instant whose state the export has: its time, or the end of its window (exclusive).
        items: the number of items or lines according to the manifest.
        files: the number of data files.
        already_loaded: whether the export was loaded before and its rows are in the lake, so nothing changed.
        rows: the number of living rows of `current` after the load.
        horizon_us: the snapshot cutoff of `current` (inclusive); None without a full export.
        notes: remarks for the user, for example that the export is of a table with another name.
        quarantined: the number of lines that went to quarantine.
        refused: the number of items and lines of erased keys, which were left out.
        left_out: the number of items or lines that the table's `filter` leaves out.
        misfits: after a full export, the attributes of `current` with values that no column holds.
        entity_misfits: the same of the tables of its entities, by the table's name.
        doubts: as in `pipeline.apply.apply.ApplyResult`.
        name_collisions: new columns whose names have a suffix, because several attributes need the same column name.
        scan_until_us: for a scan, the instant from which the lake has the table's state; None for an export.
    """

    table: str
    export_id: str
    export_type: str
    export_us: int
    items: int
    files: int
    already_loaded: bool
    rows: int
    horizon_us: int | None
    seconds: float = 0.0
    notes: tuple[str, ...] = ()
    quarantined: int = 0
    doubts: tuple[str, ...] = ()
    name_collisions: tuple[NameCollision, ...] = ()
    scan_until_us: int | None = None
    refused: int = 0
    left_out: int = 0
    misfits: tuple[Misfit, ...] = ()
    entity_misfits: Mapping[str, tuple[Misfit, ...]] = field(default_factory=dict)


def load_export(lake: Lake, table: str, uri: str, recreated: bool = False, reject: bool = False) -> LoadResult:
    """Load a finished export. An export that is already loaded changes nothing, unless its branch was dropped since.

    Args:
        lake: the open lake.
        table: the lake's name of the table.
        uri: the export's `manifest-summary.json`, or a folder or prefix with exactly one of those below it.
        recreated: the source was deleted and created again; a full export of the new table replaces the old items.
        reject: put lines that hold no valid item into the quarantine and load the rest. By default they are an error.

    Returns:
        What was loaded.

    Raises:
        UsageError: there are several exports below `uri`, or the export is of another table (`check_origin`).
        ConfigError: the table is not configured, or its key is not known.
        ExportError: the export is incomplete or damaged, or has lines without a valid item. Nothing was committed.
        CheckFailed: the rows contradict the configuration, such as a wrong `key`. Nothing was committed, except the rejected
            lines to the quarantine if `reject` is set.
        TransientError: another writer committed first in each attempt, or a service does not answer. It is safe to load the
            export again.
        CommitStateUnknown: the catalog did not report whether the commit succeeded.

    Example:
        >>> with open_lake(settings) as lake:
        ...     load_export(lake, "orders", "s3://exports/AWSDynamoDB/01693685827463-2d8752fd/").rows
    """
    started = time.monotonic()
    settings = lake.table(table)
    export = open_export(lake.objects, uri)
    notes = _notes(lake, settings, export)
    check_origin(lake, table, export.summary, recreated)
    warn_of_former_values(lake, table)
    load = _load_full if export.summary.export_type == "FULL" else _load_increment
    result = retry_commit(lambda: load(lake, settings, export, reject))
    repair_by_export(lake, settings, export.summary)
    name_exports(lake, table)
    update_entities(lake, table)
    if result.export_type == "FULL" and not result.already_loaded:
        executor = lake.executor(table)
        result = replace(
            result,
            misfits=find_misfits(lake, table, executor, counted=True),
            entity_misfits=find_entity_misfits(lake, table, executor, counted=True),
        )
    return replace(result, seconds=time.monotonic() - started, notes=(*notes, *result.notes))


def _notes(lake: Lake, settings: TableSettings, export: Export) -> list[str]:
    summary = export.summary
    notes = []
    if summary.table_name != settings.source_name:
        notes.append(f"the export is of table {summary.table_name}, loaded as {settings.name}")
    elif not lake.settings.is_source_of(settings, summary.table_arn):
        notes.append(f"the export is of {summary.table_arn}, loaded as {settings.name} ({settings.identity.text()})")
    if summary.scan_until_us is not None:
        until = iso_text(summary.scan_until_us)
        notes.append(
            f"items were read one after another until {until}; without `changes` they stay of different instants"
            if settings.changes is None
            else f"exact once the changes up to {until} are applied; `ddb-lake status {settings.name}` reports it"
        )
    return notes


def _result(name: str, export: Export, already_loaded: bool, rows: int, cutoff_us: int | None) -> LoadResult:
    summary = export.summary
    return LoadResult(
        table=name,
        export_id=summary.export_id,
        export_type=summary.export_type,
        export_us=summary.as_of_us,
        items=summary.item_count,
        files=len(export.files),
        already_loaded=already_loaded,
        rows=rows,
        horizon_us=cutoff_us,
        scan_until_us=summary.scan_until_us,
    )


# --- full exports


@dataclass(frozen=True, slots=True)
class LoadPlan:
    """One attempt to load a full export: the state of `current` before it, and whether the export becomes the base.

    Attributes:
        settings: the table.
        export: the export.
        table: `current`, which has no snapshot before its first commit.
        state: the state of `current` before the load.
        executor: the engine that does the heavy work.
    """

    settings: TableSettings
    export: Export
    table: Table
    state: CurrentState
    executor: Executor

    @property
    def becomes_base(self) -> bool:
        """Whether the export is newer than all loaded exports. If so, its rows replace those of `current`."""
        newest, summary = self.state.base, self.export.summary
        return newest is None or (newest.export_us, newest.export_id) < (summary.as_of_us, summary.export_id)

    @property
    def restored(self) -> LoadedExport | None:
        """The export as it was loaded before, if its branch was dropped since; None if it is loaded for the first time."""
        arn = self.export.summary.export_arn
        return next((export for export in self.state.exports if export.export_arn == arn), None)

    @property
    def keep_expired(self) -> bool:
        """Whether `current` keeps the rows of items that Time to Live removed."""
        return self.settings.ttl_deletes == "keep"

    def iceberg_schema(self, schema: TableSchema) -> Schema:
        """The Iceberg schema, with the field ids that the table will have when it is created or evolved."""
        return iceberg_schema(self.table, [self.state.schema, schema], self.keep_expired)


@dataclass(frozen=True, slots=True)
class WrittenSnapshot:
    """The rows of an export, written and checked, and the commit that adds them.

    Attributes:
        commit: the open commit, with the new columns.
        rows: the files and their columns.
        rejected: the number of lines that were left out.
        refused: the number of items of erased keys that were left out.
        left_out: the number of items that the table's filter leaves out.
    """

    commit: Commit
    rows: ExportRows
    rejected: int
    refused: int
    left_out: int


def _load_full(lake: Lake, settings: TableSettings, export: Export, reject: bool) -> LoadResult:
    name, arn = settings.name, export.summary.export_arn
    table = lake.current(name)
    state = current_state(table)
    loaded = next((e for e in state.exports if e.export_arn == arn), None) if state else None
    if table and state and loaded and loaded not in lost_exports(table):
        result = _result(name, export, True, live_files(table).rows, state.snapshot_cutoff_us)
        return replace(result, quarantined=loaded.rejected, refused=loaded.erased, left_out=loaded.left_out)
    key = table_key(lake, name)
    if not key:
        raise ConfigError(
            "a full export does not say the key", table=name, hint="add `key: [...]` to its configuration"
        )
    lake.protection(name).check_key(key, name)
    target = table or ensure_current(lake, settings)
    known = state or first_state(target, key, lake.protection(name))
    plan = LoadPlan(settings=settings, export=export, table=target, state=known, executor=lake.executor(name))
    with lake.session() as session:
        lake.progress(f"{name}: verifying {count_text(len(export.files), 'data file')}", 0)
        writer = plan.executor.snapshot_writer(session, _target(lake, plan), export, reject)
        try:
            schema = _write_rows(plan, writer)
            writer.check()
            erased = read_erased_keys(lake, session, name)
            items = without_erased(
                session, plan.table, ExportRows(writer.scan, schema), erased, export.summary.as_of_us
            )
            rejected = _quarantine_lines(lake, session, plan, writer.rejected_lines())
            commit = open_commit(lake, plan.table, (plan.state.schema, schema), plan.keep_expired)
        except Exception:
            writer.discard()
            raise
        # From here on no file is removed after an error: a commit whose outcome is unknown may name it.
        for path in items.replaced:
            plan.table.io.delete(path)
        return _commit(
            lake, session, plan, WrittenSnapshot(commit, items.rows, rejected, items.refused, writer.left_out)
        )


def _target(lake: Lake, plan: LoadPlan) -> SnapshotTarget:
    return SnapshotTarget(
        name=plan.settings.name,
        io=plan.table.io,
        location=plan.table.location(),
        iceberg_schema=plan.iceberg_schema,
        options=plan.settings.schema_options,
        memory_bytes=lake.settings.memory_bytes,
        progress=lake.progress,
        protection=lake.protection(plan.settings.name),
    )


def _write_rows(plan: LoadPlan, writer: SnapshotWriter) -> TableSchema:
    """Write the export's rows, and return their columns.

    Only a new base may change the types of columns. An older export does not replace the rows of `current`, so its columns
    must fit theirs.
    """
    known, policy = plan.state.schema, plan.settings.schema_evolution
    if plan.becomes_base and (policy == "add_columns" or not known.columns):
        first, nulls = guess_from(writer.sample(), known)
        return fit_schema(first, known, nulls, writer.project_and_write)
    return extend_schema(known, policy, writer.project_and_write)


def _quarantine_lines(lake: Lake, session: Session, plan: LoadPlan, rejected: StagedRows | None) -> int:
    """Commit rejected lines to the quarantine, before the rows. A repeated attempt finds them there."""
    if rejected is None:
        return 0
    hour_us = plan.export.summary.as_of_us // HOUR_US * HOUR_US
    files = [IngestedObject(ObjectRef(uri, file.md5 or "", 0, 0), hour_us, 0) for file, uri in plan.export.files]
    quarantine_rows(lake, session, plan.settings.name, rejected, files)
    return rejected.rows


def _commit(lake: Lake, session: Session, plan: LoadPlan, written: WrittenSnapshot) -> LoadResult:
    """Commit the export's rows: in a branch of their own, and in `main` too if the export becomes the base."""
    table, commit, summary = plan.table, written.commit, plan.export.summary
    metadata = commit.transaction.table_metadata
    files = FileWriter.for_table(session.con, table, metadata).entries(written.rows.scan.paths, metadata)
    branch = f"{EXPORT_BRANCH}{summary.export_id}"
    state = replace(plan.state, schema=written.rows.schema)
    properties = {"ddb_lake.export": summary.export_id}
    delta = Delta()
    if plan.becomes_base:
        rows = written.rows
        scan = replace(rows.scan, live=LiveFiles(tuple(files)))  # tasks divide the work by these entries
        unheld = plan.executor.unheld_values(session, table, scan, rows.schema.columns)
        state = replace(state, misfits=KnownMisfits.counted(unheld))
        delta, state = _merge_changelog(lake, session, plan, written, state)
        delta = replace(delta, added=[*files, *delta.added], replace_all=True)
    elif plan.keep_expired and plan.restored is None:
        delta, state = _merge_expired(lake, session, plan, written, state)
        if delta.added or delta.deletes:
            properties = {"ddb_lake.older-export": summary.export_id}
    loaded = LoadedExport(
        export_id=summary.export_id,
        export_arn=summary.export_arn,
        export_us=summary.as_of_us,
        items=summary.item_count,
        branch=branch,
        schema=state.schema,
        table_id=summary.table_id,
        rejected=written.rejected,
        scan_until_us=summary.scan_until_us,
        uri=plan.export.uri,
        left_out=written.left_out,
        erased=written.refused,
    )
    others = tuple(export for export in state.exports if export is not plan.restored)
    state = replace(state, exports=(*others, loaded))
    commit.snapshot(replace(delta, summary=properties))
    commit.snapshot(Delta(added=files, summary=properties), branch=branch)
    commit.set_properties(state.properties())
    table = commit.run()
    return replace(
        _result(plan.settings.name, plan.export, False, live_files(table).rows, state.snapshot_cutoff_us),
        quarantined=written.rejected,
        refused=written.refused,
        left_out=written.left_out,
        name_collisions=new_collisions(plan.state.schema, state.schema),
    )


def _merge_changelog(
    lake: Lake, session: Session, plan: LoadPlan, written: WrittenSnapshot, state: CurrentState
) -> tuple[Delta, CurrentState]:
    """Apply the changelog to the rows of a new base. Returns the changes of the rows, and the state after them."""
    settings, export_us = plan.settings, plan.export.summary.as_of_us
    changes = lake.changes(settings.name)
    log = changes_state(changes)
    cutoff_us = log.snapshot_cutoff_us(export_us, settings.clock_skew_us)
    state = replace(state, snapshot_cutoff_us=cutoff_us, applied_batch=log.batch)
    if changes is None or log.records == 0:
        return Delta(), state
    known = known_records(changes, cutoff_us, plan.keep_expired)
    sources = MergeSources(
        new_records=naming_records(known, cutoff_us, settings.clock_skew_us, plan.keep_expired),
        changelog=lambda: known,
        current=keyed_rows(written.rows.scan, state.schema),
        base=written.rows,
        rules=MergeRules(
            cutoff_us,
            export_us,
            settings.clock_skew_us,
            time_ordered=set(log.sources) <= {"time"},
            redecide_all=True,
            keep_expired=plan.keep_expired,
        ),
        exported_keys=partial(_keys_of_exports, plan, written),
    )
    return _merge(session, plan, written, state, sources)


def _merge_expired(
    lake: Lake, session: Session, plan: LoadPlan, written: WrittenSnapshot, state: CurrentState
) -> tuple[Delta, CurrentState]:
    """Decide expired rows again with an export that is older than the base. Returns the changes, and the state after them.

    If the export has an item, the item had not expired before the export.
    """
    settings, base = plan.settings, state.base
    assert base is not None, "an export without a newer one becomes the base"
    changes = lake.changes(settings.name)
    if changes is None:
        return Delta(), state
    known = known_records(changes, None, keep_expired=True)
    sources = MergeSources(
        new_records=Relation(known.files, lambda files: f"(SELECT * FROM {known.read(files)} WHERE ttl)"),
        changelog=lambda: known,
        current=current_rows(plan.table, plan.state.schema),
        base=export_rows(plan.table, base),
        rules=MergeRules(
            state.snapshot_cutoff_us,
            base.export_us,
            settings.clock_skew_us,
            time_ordered=False,
            redecide_all=True,
            keep_expired=True,
        ),
        exported_keys=partial(_keys_of_exports, plan, written),
    )
    return _merge(session, plan, written, state, sources)


def _keys_of_exports(plan: LoadPlan, written: WrittenSnapshot, from_us: int) -> list[Relation]:
    """The keys in the exports of a time or later: the loaded ones, and the one that is being loaded."""
    keys = exported_keys(plan.table, plan.state.exports, from_us)
    export_us = plan.export.summary.as_of_us
    return [*keys, keys_of_export(export_us, written.rows)] if export_us >= from_us else keys


def _merge(
    session: Session, plan: LoadPlan, written: WrittenSnapshot, state: CurrentState, sources: MergeSources
) -> tuple[Delta, CurrentState]:
    table, commit = plan.table, written.commit
    before = commit.transaction.table_metadata
    merge = plan.executor.plan_merge(session, table, sources)
    schema = merge.fit(
        state.schema,
        plan.export.summary.item_count,
        lambda s: iceberg_schema(table, [plan.state.schema, state.schema, s], plan.keep_expired),
    )
    evolve_table(commit, before.schema(), state.schema, schema, plan.keep_expired)
    added, deletes = merge.write(table, commit.transaction.table_metadata)
    merge.close()
    misfits = misfits_after(state, merge, deletes)
    return Delta(added=added, deletes=deletes), replace(state, schema=schema, misfits=misfits)


# --- incremental exports


def _load_increment(lake: Lake, settings: TableSettings, export: Export, reject: bool) -> LoadResult:
    """Ingest an incremental export into the changelog, and merge the changelog into `current`.

    The commit to the changelog also adds the data files and the export to the ledger, and the window to the state.
    """
    name, marker = settings.name, export_ref(export.summary.export_id)
    ingested = None
    with lake.session() as session:
        if not_ingested(lake, session, name, [marker]):
            ingested = _ingest_increment(lake, session, settings, export, reject)
    current = update_current(lake, name)
    result = _result(name, export, ingested is None, current.rows, current.horizon_us)
    result = replace(result, name_collisions=current.name_collisions)
    if ingested is None:
        return result
    taken = ingested.new or ingested.duplicates or ingested.refused or ingested.left_out
    nothing = ingested.records and not taken
    doubts = (everything_quarantined(name, ingested.records),) if nothing else ()
    return replace(
        result,
        quarantined=ingested.quarantined,
        refused=ingested.refused,
        left_out=ingested.left_out,
        doubts=doubts,
    )


def _ingest_increment(
    lake: Lake, session: Session, settings: TableSettings, export: Export, reject: bool
) -> IngestResult | None:
    """Ingest the lines of an export that the ledger does not name. Returns None if the ledger had all of its data files.

    Raises:
        ExportError: a line holds no valid record and `reject` is false, or the number of lines differs from the manifest.
    """
    name = settings.name
    read = lake.executor(name).read_increment(session, export)
    if read.invalid.count and not reject:
        read.rows.close()
        raise read.invalid.error()
    marker = IngestedObject(export_ref(export.summary.export_id), export.summary.as_of_us // HOUR_US * HOUR_US, 0)
    result = ingest(lake, session, TableShare(name, read.rows, [*read.objects, marker], read.key, _window(export)))
    return None if read.is_known else replace(result, left_out=read.left_out)


def export_ref(export_id: str) -> ObjectRef:
    """The ledger's entry for a loaded incremental export. It is the same for all copies of the export."""
    return ObjectRef(f"export/{export_id}", "loaded", 0, 0)


def _window(export: Export) -> Window:
    """The window of an incremental export, in whole seconds."""
    from_us, to_us = export.summary.from_us, export.summary.to_us
    assert from_us is not None and to_us is not None, "parse_summary gives an increment both"
    return Window(from_us // 1_000_000, to_us // 1_000_000)
