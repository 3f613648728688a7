"""`pipeline.executor.Executor` in this process: DuckDB in the step's session, and a few processes that parse JSON."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from pyiceberg.manifest import DataFile
from pyiceberg.table import Table

from ddb_lake.aws.objects import ObjectRef
from ddb_lake.config import TableSettings
from ddb_lake.core.schema.misfits import UnheldValues
from ddb_lake.core.schema.table_schema import Column
from ddb_lake.engine.misfits import unheld_values
from ddb_lake.engine.session import Session
from ddb_lake.lake.file_writer import FileWriter, rewrite
from ddb_lake.lake.scan import TableScan
from ddb_lake.pipeline.apply.changelog_files import ChangelogFormat
from ddb_lake.pipeline.apply.deduplication import Deduplicator, LocalDeduplicator, ReadGroup
from ddb_lake.pipeline.apply.object_reader import GroupReader, ReadOptions, StagedTable, fetch, groups
from ddb_lake.pipeline.apply.parallel_reader import ReadPlan, read_parallel
from ddb_lake.pipeline.load.export_files import Export, download_files
from ddb_lake.pipeline.load.increments import IncrementRows, read_increment
from ddb_lake.pipeline.load.snapshot_writer import LocalSnapshotWriter, SnapshotTarget
from ddb_lake.pipeline.merge.entity_source import EntitySource
from ddb_lake.pipeline.merge.local_entities import LocalEntityRows
from ddb_lake.pipeline.merge.local_merge import LocalMerge
from ddb_lake.pipeline.merge.sources import MergeSources
from ddb_lake.pipeline.open_lake import Lake
from ddb_lake.pipeline.table_key import table_definition


class LocalExecutor:
    """The executor of tables with `engine: duckdb`."""

    def __init__(self, lake: Lake, settings: TableSettings) -> None:
        self._lake, self._settings = lake, settings

    def groups(self, refs: Sequence[ObjectRef]) -> Iterator[list[ObjectRef]]:
        """Groups of at most 64 MB: what a broken run has committed is not read again."""
        return groups(refs)

    def read(self, session: Session, refs: Sequence[ObjectRef]) -> ReadGroup:
        """Read the objects by several processes, or by this one if they are small or hold several tables' records."""
        lake, name = self._lake, self._settings.name
        options = ReadOptions(name, lake.routes())
        definition = table_definition(lake, name)
        staged = read_parallel(
            ReadPlan(session.folder, options, definition),
            refs,
            lambda: ChangelogFormat.of_next_commit(lake.changes(name)),
        )
        keys = {name: definition.key}
        if staged is None:
            known = {name: definition} if definition.key else {}
            reader = GroupReader(
                session.folder, options, lambda table: known.get(table) or table_definition(lake, table)
            )
            staged, keys = reader.read(fetch(lake.objects, refs)), reader.keys
        rows = staged.tables
        if name not in rows:  # the table's ledger must name the objects even if they hold no record of it
            rows[name] = StagedTable.empty(session.folder)
        tables: dict[str, Deduplicator] = {table: LocalDeduplicator(session, rows[table]) for table in rows}
        return ReadGroup(staged.objects, tables, staged.other_tables, keys, staged.left_out)

    def read_increment(self, session: Session, export: Export) -> IncrementRows:
        """Read by several processes, or by this one if the data files are small."""
        return read_increment(self._lake, session, self._settings.name, export)

    def plan_merge(self, session: Session, table: Table, sources: MergeSources) -> LocalMerge:  # noqa: ARG002
        """Decide by statements in the session."""
        return LocalMerge.of(session, self._settings, sources)

    def rewrite(
        self, session: Session, table: Table, scan: TableScan, groups: Sequence[Sequence[DataFile]], key: str
    ) -> list[str]:
        """Rewrite one group after another by statements in the session."""
        writer = FileWriter.for_table(session.con, table)
        paths: list[str] = []
        for files in groups:
            paths += rewrite(session, writer, scan, files, key)
        return paths

    def entity_rows(self, session: Session, source: EntitySource, since: int | None) -> LocalEntityRows | str:
        """Find the rows by statements in the session."""
        return LocalEntityRows.of(session, source, since)

    def unheld_values(
        self,
        session: Session,
        table: Table,  # noqa: ARG002
        scan: TableScan,
        columns: Sequence[Column],
    ) -> list[UnheldValues]:
        """Count by statements in the session."""
        return [unheld_values(session, scan.sql(), columns)]

    def snapshot_writer(
        self, session: Session, target: SnapshotTarget, export: Export, reject: bool
    ) -> LocalSnapshotWriter:
        """A writer of the export's verified data files. Raises ExportError for a file that differs from its manifest."""
        files = download_files(self._lake.objects, export, session.folder)
        return LocalSnapshotWriter(session, target, export, files, reject)
