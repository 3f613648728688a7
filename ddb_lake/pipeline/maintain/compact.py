"""Compaction: rewrites files of a table without changing its contents.

Small files are merged, deleted rows are left out, and rescued values move into columns that fit them. Then old snapshots
expire, and files that no snapshot names are removed.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import partial

from pyiceberg.io import FileIO
from pyiceberg.manifest import DataFile
from pyiceberg.table import Table

from ddb_lake.config import EntitySettings, TableSettings
from ddb_lake.core.layout.table_names import entity_table
from ddb_lake.core.operations.count_text import count_text
from ddb_lake.core.operations.retry_policy import retry_commit
from ddb_lake.core.schema.misfits import KnownMisfits
from ddb_lake.core.schema.table_schema import SchemaOptions, TableSchema, is_declared_as
from ddb_lake.engine.inverse_projection import register_complete, whole_item_sql
from ddb_lake.engine.misfits import unheld_values
from ddb_lake.engine.projection import Projection
from ddb_lake.engine.schema_fitting import SessionProjection, fit_schema, guess, requires_reprojection, unfitted_values
from ddb_lake.engine.session import Session
from ddb_lake.engine.sql import carried, identifier, literals
from ddb_lake.errors import CheckFailed
from ddb_lake.lake.commit import Delta, check_newest_commit
from ddb_lake.lake.compaction_policy import (
    compaction_reason,
    crowded_changes,
    first_slice,
    rows_reason,
    slice_of_groups,
    worth_rewriting,
)
from ddb_lake.lake.entity_state import EntityState
from ddb_lake.lake.file_writer import FileWriter, mean_row_bytes, sorted_if_it_fits
from ddb_lake.lake.maintenance import expire_snapshots, referenced, unnamed
from ddb_lake.lake.metadata_files import COMPACTION, OPERATION
from ddb_lake.lake.ownership import foreign_claim, location_fault, rebuild_claim, written_by_tables
from ddb_lake.lake.scan import LiveFiles, TableScan, live_files, scan_table
from ddb_lake.lake.schema_evolution import evolve_table
from ddb_lake.lake.schemas import changes_partitioning, is_hourly
from ddb_lake.lake.state import CurrentState
from ddb_lake.pipeline.apply.ledger import upgraded
from ddb_lake.pipeline.merge.entities import update_entities
from ddb_lake.pipeline.open_lake import Lake

ORPHAN_GRACE = timedelta(days=1)
"""A file that no snapshot names may belong to a writer that has not committed yet. A day later it does not."""

_DELETING_THREADS = 8
"""Commits every few seconds leave some 10,000 files an hour; one after another, removing them from S3 takes minutes."""


@dataclass(frozen=True, slots=True)
class CompactResult:
    """The result of a compaction.

    Attributes:
        skipped: no file was rewritten.
        reason: why the compaction ran, or why not.
        files_before: data files and delete files of `current`.
        bytes_before: their size.
        retired_rows: deleted rows that were left out.
        retyped: columns that were added or have another type.
        snapshots_expired: snapshots that were removed, of all of the table's Iceberg tables.
        orphans_removed: files that no snapshot named.
        orphans_left: for each Iceberg table whose orphans were not removed, why they may not be its own.
    """

    table: str
    skipped: bool
    reason: str
    files_before: int = 0
    files_after: int = 0
    bytes_before: int = 0
    bytes_after: int = 0
    retired_rows: int = 0
    retyped: tuple[str, ...] = ()
    snapshots_expired: int = 0
    orphans_removed: int = 0
    orphans_left: tuple[str, ...] = ()
    seconds: float = 0.0


def compact_table(lake: Lake, name: str, force: bool = False, most_bytes: int | None = None) -> CompactResult:
    """Compact `current` and the changelog, then expire snapshots and remove orphans.

    Contents do not change, and readers see the files of before or of after. Old snapshots expire (`snapshots` in the
    configuration), except those of exports. Files that no snapshot names are removed after a day.

    Args:
        lake: the open lake.
        name: the table.
        force: rewrite all files of `current`. By default, only what `lake.compaction_policy` finds.
        most_bytes: do a slice of the work, which takes a bounded time: rewrite files of about so many bytes of `current`
            and of the changelog. The columns of a larger table keep their types, and `clean_up_table` is not called. The
            next call does the next slice; the result is `skipped` when nothing is left.

    Raises:
        ConfigError: the table is not configured.
        CheckFailed: the rewritten files would have other rows. Nothing was committed.
        DamagedError: another tool rolled the table or its changelog back. Nothing was changed.
    """
    started = time.monotonic()
    settings = lake.table(name)
    current, changes = lake.current(name), lake.changes(name)
    for table in (current, changes):
        if table is not None:  # expiry would remove the snapshots to which a table that was rolled back can return
            check_newest_commit(table)
    if changes is not None:
        changes = upgraded(lake, name, changes)
    reason = "requested" if force else compaction_reason(current, changes)
    result = CompactResult(name, reason is None, reason or "within the policy")
    if reason is not None:
        result = retry_commit(lambda: _compact_current(lake, settings, force, most_bytes, result))
        retry_commit(lambda: _compact_changes(lake, name, most_bytes))
    update_entities(lake, name)
    for entity in settings.entities:
        retry_commit(lambda entity=entity: _compact_entity(lake, settings, entity, force, most_bytes))  # type: ignore[misc]
    if most_bytes is None:
        result = clean_up_table(lake, result)
    return replace(result, seconds=time.monotonic() - started)


# --- current


def _compact_current(
    lake: Lake, settings: TableSettings, force: bool, most_bytes: int | None, result: CompactResult
) -> CompactResult:
    table = lake.current(settings.name)
    if table is None:
        return result
    scan = scan_table(table)
    live = scan.live
    if not live.data or (not force and rows_reason(live) is None):
        return result
    with lake.session() as session:
        compaction = _Compaction(lake, session, settings, table, scan, CurrentState.of(table), settings.schema_options)
        after = compaction.run(force, most_bytes)
    return replace(
        result,
        files_before=len(live.data) + len(live.deletes),
        files_after=len(after.data) + len(after.deletes),
        bytes_before=live.bytes,
        bytes_after=after.bytes,
        retired_rows=live.deleted_rows - after.deleted_rows,
        retyped=compaction.retyped,
    )


def _compact_entity(
    lake: Lake, settings: TableSettings, entity: EntitySettings, force: bool, most_bytes: int | None
) -> None:
    """Compact the table of an entity, as `current`."""
    table = lake.readable(entity_table(settings.name, entity.name))
    state = EntityState.of(table) if table is not None else None
    if table is None or state is None:
        return
    scan = scan_table(table)
    if not scan.live.data or (not force and rows_reason(scan.live) is None):
        return
    with lake.session() as session:
        _Compaction(lake, session, settings, table, scan, state, settings.entity_options(entity)).run(force, most_bytes)


@dataclass
class _Compaction:
    """One attempt at rewriting files of `current`, or of the table of an entity.

    Attributes:
        settings: those of the table.
        table: the Iceberg table.
        scan: its scan.
        state: its state.
        options: how its items become columns.
        retyped: columns that were added or have another type; known after `run`.
    """

    lake: Lake
    session: Session
    settings: TableSettings
    table: Table
    scan: TableScan
    state: CurrentState | EntityState
    options: SchemaOptions
    retyped: tuple[str, ...] = ()

    @property
    def live(self) -> LiveFiles:
        """The files of the scan."""
        return self.scan.live

    @property
    def deletes(self) -> tuple[str, ...]:
        """The position delete files of the scan."""
        return self.scan.deletes

    def run(self, force: bool, most_bytes: int | None) -> LiveFiles:
        schema, rows = self.state.schema, ""
        if most_bytes is None or self.live.bytes <= most_bytes:
            schema, rows = self._fitted()
        misfits = self.state.misfits
        if (most_bytes is None or self.live.bytes <= most_bytes) and misfits != KnownMisfits({}):
            misfits = self._counted(rows, schema)
        state = replace(self.state, schema=schema, misfits=misfits)
        if self.retyped:
            return self._commit(self.live.data, rows, state)
        chosen = self.live.data if force else self._chosen()
        return self._commit(first_slice(chosen, most_bytes), "", state)

    def _counted(self, rows: str, schema: TableSchema) -> KnownMisfits:
        """The values of all living rows that no column holds. `rows`: as `_fitted` returns them."""
        if rows:
            return KnownMisfits.counted([unheld_values(self.session, f"({rows})", schema.columns)])
        executor = self.lake.executor(self.settings.name)
        return KnownMisfits.counted(executor.unheld_values(self.session, self.table, self.scan, schema.columns))

    def _chosen(self) -> list[DataFile]:
        if not self.deletes:
            deleted_rows: dict[str, int] = {}
        else:
            source = f"read_parquet({literals(self.deletes)})"
            deleted_rows = dict(self.session.rows(f"SELECT file_path, count(*) FROM {source} GROUP BY 1"))
        return worth_rewriting(self.live.data, deleted_rows)

    def _fitted(self) -> tuple[TableSchema, str]:
        """The columns that fit all rows now, and a query of the rows projected onto them; no query if the columns do not change."""
        schema = self.state.schema
        if self.settings.schema_evolution != "add_columns":
            return schema, ""
        rows = self.scan.sql()
        unfitted = unfitted_values(self.session, rows, schema, self.options)
        before = set(schema.columns)
        if is_declared_as(schema, self.options) and (
            not requires_reprojection(unfitted) or set(unfitted.schema(schema.key, schema).columns) == before
        ):
            return schema, ""
        register_complete(self.session)
        passed = ", ".join(identifier(f.name) for f in self.table.schema().fields if f.name in _ROW_COLUMNS)
        self.session.con.execute(
            f"CREATE OR REPLACE VIEW complete_items AS SELECT {whole_item_sql(schema)} AS item, {passed} FROM {rows}"
        )

        def project(projection: Projection) -> str:
            columns = [name.strip() for name in passed.split(",")]
            self.session.keep("refitted", projection.select("complete_items", columns))
            return "refitted"

        first, nulls = guess((), schema, self.options)
        projection = SessionProjection(self.session, self.options, project)
        wanted = fit_schema(first, schema, nulls, projection)
        self.retyped = tuple(c.name for c in wanted.columns if c not in before)
        return (wanted, "SELECT * FROM refitted") if self.retyped else (schema, "")

    def _commit(self, chosen: Sequence[DataFile], rows: str, state: CurrentState | EntityState) -> LiveFiles:
        schema = state.schema
        commit = self.lake.commit(self.table)
        keep_expired = any(f.name == "_expired_at" for f in self.table.schema().fields)
        evolve_table(commit, self.table.schema(), self.state.schema, schema, keep_expired)
        metadata = commit.transaction.table_metadata
        writer = FileWriter.for_table(self.session.con, self.table, metadata)
        key = ", ".join(carried(c.name) for c in schema.key_columns)
        if rows:
            size = mean_row_bytes(self.session, [f.file_path for f in chosen])
            written = sorted_if_it_fits(
                self.session, key, lambda order: writer.write_paths(rows + order, split=True, row_bytes=size), size
            )
        else:
            executor = self.lake.executor(self.settings.name)
            written = executor.rewrite(self.session, self.table, self.scan, [chosen] if chosen else [], key)
        added = writer.entries(written, metadata)
        removed = frozenset(f.file_path for f in chosen)
        kept_paths = [path for path in self.live.paths if path not in removed]
        deletes: list[DataFile] = []
        if self.deletes:
            self.session.keep("kept_positions", self._kept_deletes(kept_paths))
            deletes = writer.write_deletes_by_file("kept_positions")
        kept = sum(f.record_count for f in self.live.data if f.file_path not in removed)
        after = kept + sum(f.record_count for f in added) - sum(f.record_count for f in deletes)
        if after != self.live.rows:
            raise CheckFailed(
                f"compaction would leave {after} of {count_text(self.live.rows, 'row')}; nothing was committed",
                table=self.table.name()[-1],
            )
        delta = Delta(added, deletes, removed=removed, drop_deletes=True, summary={OPERATION: COMPACTION})
        commit.snapshot(delta)
        commit.set_properties(state.properties())
        return live_files(commit.run())

    def _kept_deletes(self, kept: Sequence[str]) -> str:
        """The deleted positions in files that stay. Another engine may have left deletes of files that it rewrote."""
        source = f"read_parquet({literals(self.deletes)})"
        return f"SELECT file_path, pos FROM {source} WHERE list_contains({literals(kept)}::VARCHAR[], file_path)"


_ROW_COLUMNS = ("_changed_at", "_source", "_key_hash", "_expired_at")


# --- the changelog


def _compact_changes(lake: Lake, name: str, most_bytes: int | None) -> None:
    changes = lake.changes(name)
    if changes is None:
        return
    groups = slice_of_groups(crowded_changes(changes), most_bytes)
    if not groups:
        return
    commit = lake.commit(changes)
    if is_hourly(changes.spec(), changes.schema()):
        commit.change_partitioning(changes_partitioning(changes.schema()))
    metadata = commit.transaction.table_metadata
    with lake.session() as session:
        paths = lake.executor(name).rewrite(session, changes, scan_table(changes), groups, "changed_at")
        added = FileWriter.for_table(session.con, changes, metadata).entries(paths, metadata)
    crowded = [file for files in groups for file in files]
    if sum(f.record_count for f in added) != sum(f.record_count for f in crowded):
        raise CheckFailed("compacting the changelog would change its rows; nothing was committed", table=name)
    commit.snapshot(Delta(added, removed=frozenset(f.file_path for f in crowded)))
    commit.run()


# --- cleaning up


def clean_up_table(lake: Lake, result: CompactResult) -> CompactResult:
    """Expire old snapshots, and remove old orphans, of all of a table's Iceberg tables. Adds the figures to a result."""
    expired = removed = 0
    doubts = []
    for full_name in lake.table(result.table).iceberg_names:
        table = lake.catalog.table(full_name)
        if table is None:
            continue
        expired += expire_snapshots(table, lake.settings.snapshots, lake.now())
        orphans, doubt = _orphans(lake, full_name)
        if doubt is not None:
            doubts.append(f"{full_name}: {doubt}")
            lake.warn(f"{full_name}: files that no snapshot names were not removed: {doubt}")
            continue
        with ThreadPoolExecutor(_DELETING_THREADS) as pool:
            removed += sum(pool.map(partial(_deleted, table.io), orphans))
    return replace(result, snapshots_expired=expired, orphans_removed=removed, orphans_left=tuple(doubts))


def _deleted(io: FileIO, uri: str) -> bool:
    try:
        io.delete(uri)
    except FileNotFoundError:  # another compaction has removed it
        return False
    return True


def _orphans(lake: Lake, full_name: str) -> tuple[list[str], str | None]:
    """The files of a table that no snapshot names and that may be removed, or the reason why none may be."""
    listed = lake.catalog.table(full_name)
    if listed is None:
        return [], None
    location = listed.location()
    landed = [uri for settings in lake.settings.tables for uri in lake.settings.landed_uris(settings)]
    fault = location_fault(lake.catalog, location, landed)
    if fault is not None:
        return [], fault
    found = [(ref.uri, ref.modified_us) for ref in lake.objects.list(f"{location}/")]
    table = lake.catalog.table(full_name)
    if table is None or table.metadata_location != listed.metadata_location:
        return [], None  # another commit happened: its files may be missing in the listing
    before_us = int((lake.now() - ORPHAN_GRACE).timestamp() * 1_000_000)
    named = referenced(table)
    orphans = [uri for uri in unnamed(found, named, before_us) if written_by_tables(uri, location)]
    if not orphans:
        return [], None
    rebuild = rebuild_claim(table, [uri for uri, modified_us in found if modified_us >= before_us])
    if rebuild is not None:
        return [], rebuild
    return orphans, foreign_claim(lake.catalog, table, [uri for uri, _ in found], named)
