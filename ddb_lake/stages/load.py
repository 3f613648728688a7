"""A finished export into the lake: a full one becomes the base of `current`, an incremental one joins the changelog."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from duckdb import OutOfMemoryException
from pyiceberg.manifest import DataFile
from pyiceberg.schema import Schema, assign_fresh_schema_ids
from pyiceberg.table import Table

from ddb_lake.aws.objects import ObjectRef
from ddb_lake.config import TableSettings
from ddb_lake.core.ordering import horizon_us
from ddb_lake.core.schema import TableSchema
from ddb_lake.core.windows import Window
from ddb_lake.engine.connection import Session
from ddb_lake.engine.fitting import Project, extend, fit, guess
from ddb_lake.engine.keytext import key_hash_sql, key_text_sql
from ddb_lake.engine.merge import MergeInput, plan_merge
from ddb_lake.engine.projection import Projection
from ddb_lake.engine.sql import identifier
from ddb_lake.errors import CheckFailed, CommitConflict, ConfigError, DdbLakeError, ExportError
from ddb_lake.lake.commit import Commit, Delta
from ddb_lake.lake.evolution import evolve_table
from ddb_lake.lake.files import FileWriter, live_files, scan_sql
from ddb_lake.lake.schemas import current_schema
from ddb_lake.lake.sidecar import TOMBSTONE_COLUMNS, Sidecar
from ddb_lake.lake.state import ChangesState, CurrentState, LoadedExport
from ddb_lake.stages.current import collect_outcome, create_current, fit_rows, update_current
from ddb_lake.stages.exports import (
    MEMBER,
    FoundExport,
    LocalFile,
    find_damage,
    find_export,
    lines_sql,
    sample_items,
    verified,
)
from ddb_lake.stages.gaps import heal_gaps
from ddb_lake.stages.ingest import ingest, unseen, until_committed
from ddb_lake.stages.lake import Lake
from ddb_lake.stages.read import GroupReader, IngestedObject, StagedTable
from ddb_lake.stages.relations import base_images, keyed_rows_sql, records_sql

HOUR_US = 3_600_000_000
RUN_SHARE = 0.6
"""Size of the JSON, as a share of the memory, that is sorted together. Much more outgrows it."""


@dataclass(frozen=True, slots=True)
class LoadResult:
    """What loading an export did. `items`: what the export has; `rows`: living rows of `current` afterwards."""

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


def load_export(lake: Lake, table: str, uri: str) -> LoadResult:
    """Load a finished export. One that is loaded already changes nothing.

    Raises UsageError or ExportError before anything is committed: see `stages.exports`.
    """
    started = time.monotonic()
    settings = lake.table(table)
    export = find_export(lake.objects, uri)
    notes = _notes(settings, export)
    load = _load_full if export.summary.export_type == "FULL" else _load_increment
    result = until_committed(lambda: load(lake, settings, export))
    heal_gaps(lake, settings, export.summary)
    return replace(result, seconds=time.monotonic() - started, notes=(*notes, *result.notes))


def _notes(settings: TableSettings, export: FoundExport) -> list[str]:
    if export.summary.table_name != settings.source_name:
        return [f"the export is of table {export.summary.table_name}, loaded as {settings.name}"]
    return []


# --- full exports


def _load_full(lake: Lake, settings: TableSettings, export: FoundExport) -> LoadResult:
    name, summary = settings.name, export.summary
    table = lake.current(name)
    state = CurrentState.from_properties(table.properties) if table else None
    if table and state and any(e.export_arn == summary.export_arn for e in state.exports):
        rows = live_files(table).rows
        return _result(name, export, already_loaded=True, rows=rows, horizon=state.horizon_us)
    key = lake.key(name)
    if not key:
        raise ConfigError(f"table {name}: a full export does not say the key; add `key: [...]` to its configuration")
    with lake.session() as session:
        lake.progress(f"{name}: verifying {len(export.files)} data files", 0)
        files = verified(lake.objects, export, session.folder)
        loading = _Loading(lake, session, settings, export, table, state, key)
        return loading.run(files)


def _result(name: str, export: FoundExport, already_loaded: bool, rows: int, horizon: int | None) -> LoadResult:
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
        horizon,
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
        self._written: list[str] = []

    def run(self, files: Sequence[LocalFile]) -> LoadResult:
        try:
            schema = self._write_base(files)
        except Exception as error:
            self._discard()
            damage = None if isinstance(error, DdbLakeError) else find_damage(files)
            if damage is None:
                raise
            raise ExportError(damage) from error
        self._check_rows(files, schema)
        table, commit = self._open_commit(schema)
        metadata = commit.transaction.table_metadata
        writer = FileWriter.for_table(self.session.con, table, metadata)
        base = writer.entries(self._written, metadata)
        return self._commit(table, commit, schema, base)

    # --- the export's rows

    def _write_base(self, files: Sequence[LocalFile]) -> TableSchema:
        """Write the export's rows in runs sorted by key; gives the columns they were written with."""
        options = self.settings.schema_options
        known, policy = self.state.schema, self.settings.schema_evolution
        if self.becomes_base and (policy == "add_columns" or not known.columns):
            first, nulls = guess(sample_items(files), known, options)
            schema, _ = fit(self.session, first, nulls, options, self._projector(files), MEMBER)
        else:
            schema, _ = extend(self.session, known, options, policy, self._projector(files), MEMBER)
        return schema

    def _projector(self, files: Sequence[LocalFile]) -> Project:
        instant = f"make_timestamp({self.export.summary.as_of_us})"
        runs = list(_runs(files, int(RUN_SHARE * self.lake.settings.memory_bytes)))

        def project(projection: Projection) -> str:
            self._discard()
            schema = projection.schema
            iceberg = self._iceberg_schema(schema)
            writer = FileWriter(self.session.con, self._io(), self._location(), iceberg)
            key = ", ".join(identifier(c.name) for c in schema.columns if c.path in {(k,) for k in schema.key})
            for number, run in enumerate(runs):
                self.lake.progress(f"{self.settings.name}: runs of data files written", number, len(runs))
                keyed = f"SELECT *, {key_text_sql(schema)} AS _key FROM ({projection.select(lines_sql(run))})"
                rows = (
                    f"SELECT * EXCLUDE (_key), {key_hash_sql()} AS _key_hash, {instant} AS _changed_at,"
                    f" 'snapshot' AS _source, NULL::TIMESTAMP AS _expired_at FROM ({keyed})"
                )
                self._written += _write_run(writer, rows, key)
            return scan_sql(iceberg, self._written)

        return project

    def _iceberg_schema(self, schema: TableSchema) -> Schema:
        """The Iceberg schema, with the field ids that creating or evolving the table gives."""
        if self.table is None:
            return assign_fresh_schema_ids(current_schema(schema, self.keep_expired))
        commit = Commit(self.table)
        evolve_table(commit, self.table.schema(), self.state.schema, schema, self.keep_expired)
        return commit.transaction.table_metadata.schema()

    def _io(self) -> object:
        return self.table.io if self.table is not None else self.lake.catalog.file_io()

    def _location(self) -> str:
        return self.table.location() if self.table is not None else self.lake.catalog.location(self.settings.name)

    def _discard(self) -> None:
        io = self._io()
        for path in self._written:
            io.delete(path)  # type: ignore[attr-defined]
        self._written = []

    def _check_rows(self, files: Sequence[LocalFile], schema: TableSchema) -> None:
        """As many rows as the manifest says, each with a key, and no key twice; else nothing is committed."""
        rows = scan_sql(self._iceberg_schema(schema), self._written)
        total, keyed, distinct = self.session.rows(
            f"SELECT count(*), count(_key_hash), count(DISTINCT _key_hash) FROM {rows}"
        )[0]
        wanted = self.export.summary.item_count
        if total != wanted:
            self._discard()
            raise ExportError(
                f"{self._miscounted(files) or self.export.uri}: {total} items read, the manifest says {wanted}"
            )
        if keyed != total:
            self._discard()
            names = list(schema.key)
            raise CheckFailed(f"{total - keyed} of {total} items lack a key attribute of {names}; is `key` right?")
        if distinct != total:
            self._check_collisions(rows, schema)

    def _miscounted(self, files: Sequence[LocalFile]) -> str | None:
        counts = dict(self.session.rows(f"SELECT filename, count(*) FROM {lines_sql(files)} GROUP BY 1"))
        wrong = (f"{f.uri} ({counts.get(str(f.path), 0)} lines, expected {f.items})" for f in files)
        return next((w for w, f in zip(wrong, files, strict=True) if counts.get(str(f.path), 0) != f.items), None)

    def _check_collisions(self, rows: str, schema: TableSchema) -> None:
        keys = f"SELECT {key_text_sql(schema)} AS _key, _key_hash FROM {rows}"
        twice = self.session.value(
            f"SELECT count(*) FROM (SELECT _key FROM ({keys}) WHERE _key_hash IN (SELECT _key_hash FROM {rows}"
            " GROUP BY 1 HAVING count(*) > 1) GROUP BY 1 HAVING count(*) > 1)"
        )
        if twice:
            self._discard()
            raise CheckFailed(
                f"{self.export.uri}: {twice} keys stand more than once for key {list(schema.key)}; is `key` right?"
            )

    # --- the commit

    def _open_commit(self, schema: TableSchema) -> tuple[Table, Commit]:
        if self.table is None:
            table = create_current(self.lake, self.settings, schema)
            if table.current_snapshot() is not None or table.schema() != self._iceberg_schema(schema):
                self._discard()
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
        loaded = LoadedExport(
            summary.export_id,
            summary.export_arn,
            summary.as_of_us,
            summary.item_count,
            branch,
            state.schema,
            summary.table_id,
        )
        state = replace(state, exports=(*state.exports, loaded))
        commit.snapshot(replace(delta, summary=marks))
        commit.snapshot(Delta(added=base, summary=marks), branch=branch)
        commit.set_properties(state.properties())
        table = commit.run()
        return _result(self.settings.name, self.export, False, live_files(table).rows, state.horizon_us)

    def _rebuild(
        self, table: Table, commit: Commit, state: CurrentState, base: list[DataFile]
    ) -> tuple[Delta, CurrentState]:
        """The base's files and, over them, what the changelog has after the horizon."""
        changes = self.lake.changes(self.settings.name)
        log = ChangesState.from_properties(changes.properties) if changes else ChangesState()
        horizon = horizon_us(self.export.summary.as_of_us, log.first_change_us, self.settings.margin_us)
        state = replace(state, horizon_us=horizon, tombstones=Sidecar(), applied_batch=log.batch)
        if changes is None or log.records == 0:
            return Delta(added=base, replace_all=True), state
        metadata = commit.transaction.table_metadata
        rows = scan_sql(metadata.schema(), self._written)
        given = MergeInput(
            fresh=records_sql(changes, after_us=horizon),
            changelog=records_sql(changes, after_us=horizon),
            current=keyed_rows_sql(metadata.schema(), state.schema, self._written),
            tombstones=Sidecar().sql(TOMBSTONE_COLUMNS),
            horizon_us=horizon,
            base_us=self.export.summary.as_of_us,
            margin_us=self.settings.margin_us,
            simple=set(log.sources) <= {"time"},
            recheck=True,
        )
        plan_merge(self.session, given, lambda keys: base_images(self.session, rows, state.schema, keys))
        collect_outcome(self.session, given, self.settings)
        schema, living = fit_rows(self.session, self.settings, state.schema)
        evolve_table(commit, metadata.schema(), state.schema, schema, self.keep_expired)
        metadata = commit.transaction.table_metadata
        writer = FileWriter.for_table(self.session.con, table, metadata)
        added = writer.write(living, metadata, split=True)
        deletes = writer.write_deletes(
            "SELECT s.file_path, s.pos FROM standing s SEMI JOIN winners w ON w._key = s._key"
        )
        graves = (
            "SELECT _key, _key_hash, epoch_us(_changed_at) AS changed_us, true AS removed,"
            f" {table.metadata.last_sequence_number + 1} AS batch FROM outcome WHERE item IS NULL"
        )
        tombstones = Sidecar().append(self.session.con, table, graves, TOMBSTONE_COLUMNS)
        snapshot = changes.current_snapshot()
        state = replace(
            state, schema=schema, tombstones=tombstones, applied_snapshot=snapshot.snapshot_id if snapshot else None
        )
        return Delta(added=[*base, *added], deletes=deletes, replace_all=True), state


def _runs(files: Sequence[LocalFile], limit_bytes: int) -> Iterator[list[LocalFile]]:
    """The data files in groups of at most so many bytes of JSON, or of one file that has more."""
    run: list[LocalFile] = []
    size = 0
    for file in files:
        grown = size + file.content_bytes
        if run and grown > limit_bytes:
            yield run
            run, grown = [], grown - size
        run.append(file)
        size = grown
    if run:
        yield run


def _write_run(writer: FileWriter, rows: str, key: str) -> list[str]:
    """Write a run sorted by key; as it comes if its sort outgrows the memory, for order only helps those who read."""
    try:
        return writer.write_paths(f"{rows} ORDER BY {key}", split=True)
    except OutOfMemoryException:
        return writer.write_paths(rows, split=True)


# --- incremental exports


def _load_increment(lake: Lake, settings: TableSettings, export: FoundExport) -> LoadResult:
    """Each line of an incremental export asserts a key's state as of the window's end.

    The ledger names its data files and the export itself, and the changelog's state its window, in one commit.
    """
    name, marker = settings.name, export_ref(export.summary.export_id)
    with lake.session() as session:
        known = not unseen(lake, session, name, [marker])
        if not known:
            known = _take_in_increment(lake, session, settings, export, marker)
    current = update_current(lake, name)
    return _result(name, export, known, current.rows, current.horizon_us)


def _take_in_increment(
    lake: Lake, session: Session, settings: TableSettings, export: FoundExport, marker: ObjectRef
) -> bool:
    """Ingest the lines of an export that the ledger does not name; gives whether all its files were there already."""
    name, as_of_us = settings.name, export.summary.as_of_us
    files = verified(lake.objects, export, session.folder)
    unknown = set(unseen(lake, session, name, [file.ref for file in files]))
    fresh = [file for file in files if file.ref in unknown]
    reader = GroupReader(session.folder, name, {}, lake.key, as_of_us, lake.validator)
    staged = reader.read((file.ref, file.path.read_bytes()) for file in fresh)
    for file, read in zip(fresh, staged.objects, strict=True):
        if read.records != file.items:
            raise ExportError(f"{file.uri}: {read.records} lines, the manifest says {file.items}; copy the file again")
    rows = staged.tables.get(name) or StagedTable.empty(session.folder)
    objects = [*staged.objects, IngestedObject(marker, as_of_us // HOUR_US * HOUR_US, 0)]
    ingest(lake, session, name, rows, objects, reader.keys.get(name, ()), _window(export))
    return bool(files) and not fresh


def export_ref(export_id: str) -> ObjectRef:
    """What stands in the ledger for a loaded incremental export, wherever a copy of it lies."""
    return ObjectRef(f"export/{export_id}", "loaded", 0, 0)


def _window(export: FoundExport) -> Window:
    """What an incremental export covers: windows are whole seconds."""
    from_us, to_us = export.summary.from_us, export.summary.to_us
    assert from_us is not None and to_us is not None, "parse_summary gives an increment both"
    return Window(from_us // 1_000_000, to_us // 1_000_000)
