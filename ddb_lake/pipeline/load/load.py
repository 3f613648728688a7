"""A finished export into the lake: a full one becomes the base of `current`, an incremental one joins the changelog."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import cast

from pyiceberg.io import FileIO
from pyiceberg.manifest import DataFile
from pyiceberg.schema import Schema
from pyiceberg.table import Table

from ddb_lake.aws.objects import ObjectRef
from ddb_lake.config import TableSettings
from ddb_lake.core.capture.export_windows import Window
from ddb_lake.core.merge.ordering import snapshot_cutoff_us
from ddb_lake.core.operations.retry_policy import retry_commit
from ddb_lake.core.schema.table_schema import NameCollision, TableSchema, new_collisions
from ddb_lake.engine.merge_plan import MergeRules
from ddb_lake.engine.schema_fitting import extend_schema, fit_schema, guess_from
from ddb_lake.engine.session import Session
from ddb_lake.errors import CommitConflict, ConfigError, ExportError
from ddb_lake.lake.commit import Commit, Delta
from ddb_lake.lake.file_writer import FileWriter
from ddb_lake.lake.scan import TableScan, live_files
from ddb_lake.lake.schema_evolution import evolve_table
from ddb_lake.lake.sidecar import Sidecar
from ddb_lake.lake.state import CurrentState, LoadedExport, changes_state, current_state
from ddb_lake.pipeline.apply.apply import everything_quarantined
from ddb_lake.pipeline.apply.changelog import (
    IngestResult,
    ingest,
    set_aside,
    unseen,
)
from ddb_lake.pipeline.apply.deduplication import LocalDeduplicator
from ddb_lake.pipeline.apply.object_reader import (
    GroupReader,
    IngestedObject,
    StagedTable,
    Unreadable,
)
from ddb_lake.pipeline.capture.gap_log import heal_gaps
from ddb_lake.pipeline.load.export_files import (
    FoundExport,
    LocalFile,
    check_lines,
    find_export,
    verified,
)
from ddb_lake.pipeline.load.line_screening import BadLine, BadLines, lines_of
from ddb_lake.pipeline.load.snapshot_writer import Base, Target
from ddb_lake.pipeline.load.table_identity import check_origin
from ddb_lake.pipeline.merge.current import (
    create_current,
    iceberg_schema,
    update_current,
)
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

HOUR_US = 3_600_000_000


@dataclass(frozen=True, slots=True)
class LoadResult:
    """The result of loading an export. `items`: those of the export; `rows`: living rows of `current` afterwards.

    `quarantined`: lines that went to quarantine. `doubts`: as in `pipeline.apply.apply.ApplyResult`.
    `name_collisions`: new columns whose names carry a suffix.
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


def load_export(lake: Lake, table: str, uri: str, recreated: bool = False, reject: bool = False) -> LoadResult:
    """Load a finished export. One that is loaded already changes nothing.

    `reject`: put lines that hold no valid item into the quarantine and load the rest. By default they are refused.
    `recreated`: the source was deleted and created again, and a full export of the new table becomes the base.
    Raises UsageError or ExportError before anything is committed: see `pipeline.load.export_files`, `pipeline.load.table_identity`.
    """
    started = time.monotonic()
    settings = lake.table(table)
    export = find_export(lake.objects, uri)
    notes = _notes(lake, settings, export)
    check_origin(lake, table, export.summary, recreated)
    load = _load_full if export.summary.export_type == "FULL" else _load_increment
    result = retry_commit(lambda: load(lake, settings, export, reject))
    heal_gaps(lake, settings, export.summary)
    return replace(result, seconds=time.monotonic() - started, notes=(*notes, *result.notes))


def _notes(lake: Lake, settings: TableSettings, export: FoundExport) -> list[str]:
    summary = export.summary
    if summary.table_name != settings.source_name:
        return [f"the export is of table {summary.table_name}, loaded as {settings.name}"]
    if not lake.settings.is_source_of(settings, summary.table_arn):
        return [f"the export is of {summary.table_arn}, loaded as {settings.name} ({settings.identity.text()})"]
    return []


# --- full exports


def _load_full(lake: Lake, settings: TableSettings, export: FoundExport, reject: bool) -> LoadResult:
    name, summary = settings.name, export.summary
    table = lake.current(name)
    state = current_state(table)
    loaded = next((e for e in state.exports if e.export_arn == summary.export_arn), None) if state else None
    if table and state and loaded:
        result = _result(
            name, export, already_loaded=True, rows=live_files(table).rows, cutoff_us=state.snapshot_cutoff_us
        )
        return replace(result, quarantined=loaded.rejected)
    key = lake.key(name)
    if not key:
        raise ConfigError(f"table {name}: a full export does not say the key; add `key: [...]` to its configuration")
    with lake.session() as session:
        loading = _Loading(lake, session, settings, export, table, state, key)
        lake.progress(f"{name}: verifying {len(export.files)} data files", 0)
        return loading.run(lake.executor(name).snapshot_writer(session, loading.target, export, reject))


def _result(name: str, export: FoundExport, already_loaded: bool, rows: int, cutoff_us: int | None) -> LoadResult:
    summary = export.summary
    return LoadResult(
        name,
        summary.export_id,
        summary.export_type,
        summary.as_of_us,
        summary.item_count,
        len(export.files),
        already_loaded,
        rows,
        cutoff_us,
    )


class _Loading:
    """One attempt at loading a full export."""

    def __init__(
        self,
        lake: Lake,
        session: Session,
        settings: TableSettings,
        export: FoundExport,
        table: Table | None,
        state: CurrentState | None,
        key: tuple[str, ...],
    ) -> None:
        self.lake, self.session, self.settings, self.export = lake, session, settings, export
        self.table = table
        self.state = state or CurrentState(TableSchema(key))
        self.keep_expired = settings.ttl_deletes == "keep"
        newest = self.state.base
        self.becomes_base = newest is None or (newest.export_us, newest.export_id) < (
            export.summary.as_of_us,
            export.summary.export_id,
        )
        self.target = Target(
            settings.name,
            cast(FileIO, table.io) if table is not None else lake.catalog.file_io(),
            table.location() if table is not None else lake.catalog.location(settings.name),
            self._iceberg_schema,
            settings.schema_options,
            lake.settings.memory_bytes,
            lake.progress,
        )
        self._written: list[str] = []
        self._rejected = 0

    def run(self, base: Base) -> LoadResult:
        try:
            schema = self._write(base)
            base.check(schema)
            self._written = base.written
            self._rejected = self._set_aside(base)
            table, commit = self._open_commit(schema)
        except Exception:
            base.discard()
            raise
        metadata = commit.transaction.table_metadata
        writer = FileWriter.for_table(self.session.con, table, metadata)
        return self._commit(table, commit, schema, writer.entries(self._written, metadata))

    def _set_aside(self, base: Base) -> int:
        """Commit the lines that were left out to the quarantine, before the rest: another attempt finds them there."""
        rows = base.set_aside
        if rows is None:
            return 0
        hour_us = self.export.summary.as_of_us // HOUR_US * HOUR_US
        files = [IngestedObject(ObjectRef(uri, one.md5 or "", 0, 0), hour_us, 0) for one, uri in self.export.files]
        set_aside(self.lake, self.session, self.settings.name, rows, files)
        return base.rejected

    def _write(self, base: Base) -> TableSchema:
        """Write the export's rows; gives the columns they were written with."""
        known, policy = self.state.schema, self.settings.schema_evolution
        if self.becomes_base and (policy == "add_columns" or not known.columns):
            first, nulls = guess_from(base.sample(), known)
            return fit_schema(first, known, nulls, base.project_and_write)
        return extend_schema(known, policy, base.project_and_write)

    def _iceberg_schema(self, schema: TableSchema) -> Schema:
        """The Iceberg schema, with the field ids that creating or evolving the table gives."""
        return iceberg_schema(self.table, [self.state.schema, schema], self.keep_expired)

    # --- the commit

    def _open_commit(self, schema: TableSchema) -> tuple[Table, Commit]:
        if self.table is None:
            table = create_current(self.lake, self.settings, schema)
            if table.current_snapshot() is not None or table.schema() != self._iceberg_schema(schema):
                raise CommitConflict("another writer made the table meanwhile")
            return table, Commit(table)
        commit = Commit(self.table)
        evolve_table(commit, self.table.schema(), self.state.schema, schema, self.keep_expired)
        return self.table, commit

    def _commit(self, table: Table, commit: Commit, schema: TableSchema, base: list[DataFile]) -> LoadResult:
        summary = self.export.summary
        branch = f"export-{summary.export_id}"
        state = replace(self.state, schema=schema)
        marks = {"ddb_lake.export": summary.export_id}
        delta = Delta()
        if self.becomes_base:
            delta, state = self._rebuild(table, commit, state, base)
        elif self.keep_expired:
            delta, state = self._recheck_expired(table, commit, state)
            if delta.added or delta.deletes:
                marks = {"ddb_lake.older-export": summary.export_id}
        loaded = LoadedExport(
            summary.export_id,
            summary.export_arn,
            summary.as_of_us,
            summary.item_count,
            branch,
            state.schema,
            summary.table_id,
            self._rejected,
        )
        state = replace(state, exports=(*state.exports, loaded))
        commit.snapshot(replace(delta, summary=marks))
        commit.snapshot(Delta(added=base, summary=marks), branch=branch)
        commit.set_properties(state.properties())
        table = commit.run()
        result = _result(self.settings.name, self.export, False, live_files(table).rows, state.snapshot_cutoff_us)
        return replace(
            result, quarantined=self._rejected, name_collisions=new_collisions(self.state.schema, state.schema)
        )

    def _rebuild(
        self, table: Table, commit: Commit, state: CurrentState, base: list[DataFile]
    ) -> tuple[Delta, CurrentState]:
        """The base's files and the records of the changelog that change them."""
        changes = self.lake.changes(self.settings.name)
        log = changes_state(changes)
        cutoff_us = snapshot_cutoff_us(self.export.summary.as_of_us, log.first_change_us, self.settings.clock_skew_us)
        state = replace(state, snapshot_cutoff_us=cutoff_us, tombstones=Sidecar(), applied_batch=log.batch)
        if changes is None or log.records == 0:
            return Delta(added=base, replace_all=True), state
        iceberg = commit.transaction.table_metadata.schema()
        written = TableScan(iceberg, tuple(self._written))
        known = known_records(changes, cutoff_us, self.keep_expired)
        sources = MergeSources(
            new_records=naming_records(known, cutoff_us, self.settings.clock_skew_us, self.keep_expired),
            changelog=known,
            current=keyed_rows(written, state.schema),
            tombstones=Sidecar(),
            base=ExportRows(written, state.schema),
            rules=MergeRules(
                cutoff_us,
                self.export.summary.as_of_us,
                self.settings.clock_skew_us,
                time_ordered=set(log.sources) <= {"time"},
                redecide_all=True,
                keep_expired=self.keep_expired,
            ),
            exported_keys=partial(self._exported_keys, iceberg, state.schema),
        )
        delta, state = self._merge(table, commit, state, sources)
        snapshot = changes.current_snapshot()
        state = replace(state, applied_snapshot=snapshot.snapshot_id if snapshot else None)
        return replace(delta, added=[*base, *delta.added], replace_all=True), state

    def _recheck_expired(self, table: Table, commit: Commit, state: CurrentState) -> tuple[Delta, CurrentState]:
        """Decide the expired rows again for an export older than the base: an item that it has did not expire before it."""
        changes, base = self.lake.changes(self.settings.name), state.base
        assert base is not None, "an export without a newer one becomes the base"
        if changes is None:
            return Delta(), state
        iceberg = commit.transaction.table_metadata.schema()
        known = known_records(changes, None, keep_expired=True)
        sources = MergeSources(
            new_records=Relation(known.files, lambda files: f"(SELECT * FROM {known.read(files)} WHERE ttl)"),
            changelog=known,
            current=current_rows(table, self.state.schema),
            tombstones=state.tombstones,
            base=export_rows(table, base),
            rules=MergeRules(
                state.snapshot_cutoff_us,
                base.export_us,
                self.settings.clock_skew_us,
                time_ordered=False,
                redecide_all=True,
                keep_expired=True,
            ),
            exported_keys=partial(self._exported_keys, iceberg, state.schema),
        )
        return self._merge(table, commit, state, sources)

    def _exported_keys(self, iceberg: Schema, schema: TableSchema, from_us: int) -> list[Relation]:
        found = exported_keys(self.table, self.state.exports, from_us)
        if self.export.summary.as_of_us >= from_us:
            found.append(
                keys_of_export(
                    self.export.summary.as_of_us, ExportRows(TableScan(iceberg, tuple(self._written)), schema)
                )
            )
        return found

    def _merge(
        self, table: Table, commit: Commit, state: CurrentState, sources: MergeSources
    ) -> tuple[Delta, CurrentState]:
        before = commit.transaction.table_metadata
        merge = self.lake.executor(self.settings.name).plan_merge(self.session, table, sources)
        steps = [state.schema] if self.table is None else [self.state.schema, state.schema]
        schema = merge.fit(state.schema, lambda s: iceberg_schema(table, [*steps, s], self.keep_expired))
        evolve_table(commit, before.schema(), state.schema, schema, self.keep_expired)
        added, deletes = merge.write(table, commit.transaction.table_metadata)
        tombstones = merge.write_tombstones(table, state.tombstones)
        return Delta(added=added, deletes=deletes), replace(state, schema=schema, tombstones=tombstones)


# --- incremental exports


def _load_increment(lake: Lake, settings: TableSettings, export: FoundExport, reject: bool) -> LoadResult:
    """Each line of an incremental export asserts a key's state as of the window's end.

    The ledger names its data files and the export itself, and the changelog's state its window, in one commit.
    """
    name, marker = settings.name, export_ref(export.summary.export_id)
    found = None
    with lake.session() as session:
        if unseen(lake, session, name, [marker]):
            found = _take_in_increment(lake, session, settings, export, marker, reject)
    current = update_current(lake, name)
    result = _result(name, export, found is None, current.rows, current.horizon_us)
    result = replace(result, name_collisions=current.name_collisions)
    if found is None:
        return result
    nothing = found.records and not found.new and not found.duplicates
    doubts = (everything_quarantined(name, found.records),) if nothing else ()
    return replace(result, quarantined=found.quarantined, doubts=doubts)


def _take_in_increment(
    lake: Lake, session: Session, settings: TableSettings, export: FoundExport, marker: ObjectRef, reject: bool
) -> IngestResult | None:
    """Ingest the lines of an export that the ledger does not name; None if all its files were there already.

    Raises ExportError for lines that hold no valid record, unless `reject` sends them to the quarantine.
    """
    name, as_of_us = settings.name, export.summary.as_of_us
    files = verified(lake.objects, export, session.folder)
    unknown = set(unseen(lake, session, name, [file.ref for file in files]))
    fresh = [file for file in files if file.ref in unknown]
    check_lines(fresh)
    reader = GroupReader(session.folder, name, {}, lake.key, as_of_us, lake.validator)
    staged = reader.read((file.ref, file.path.read_bytes()) for file in fresh)
    for file, read in zip(fresh, staged.objects, strict=True):
        if read.records != file.items:
            raise ExportError(f"{file.uri}: {read.records} lines, the manifest says {file.items}; copy the file again")
    bad = _bad_records(fresh, reader.unreadable)
    if bad.count and not reject:
        raise bad.refusal()
    rows = staged.tables.get(name) or StagedTable.empty(session.folder)
    objects = [*staged.objects, IngestedObject(marker, as_of_us // HOUR_US * HOUR_US, 0)]
    result = ingest(
        lake, session, name, LocalDeduplicator(session, rows), objects, reader.keys.get(name, ()), _window(export)
    )
    return None if files and not fresh else result


def _bad_records(files: Sequence[LocalFile], unreadable: Unreadable) -> BadLines:
    """The lines that were not read as records. `unreadable`: the first of them by file number and offset."""
    bad = BadLines(unreadable.count)
    for number, offset, reason in unreadable.first:
        line = max((line for line, at, _ in lines_of(files[number]) if at <= offset), default=0)
        bad.first.append(BadLine(files[number].uri, line, offset, reason))
    return bad


def export_ref(export_id: str) -> ObjectRef:
    """What stands in the ledger for a loaded incremental export, wherever a copy of it lies."""
    return ObjectRef(f"export/{export_id}", "loaded", 0, 0)


def _window(export: FoundExport) -> Window:
    """What an incremental export covers: windows are whole seconds."""
    from_us, to_us = export.summary.from_us, export.summary.to_us
    assert from_us is not None and to_us is not None, "parse_summary gives an increment both"
    return Window(from_us // 1_000_000, to_us // 1_000_000)
