"""`pipeline.executor.Executor` on Spark: the work of a step is divided into tasks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property, partial

from pyiceberg.manifest import DataFile
from pyiceberg.table import Table

from ddb_lake.aws.objects import ObjectRef
from ddb_lake.config import TableSettings
from ddb_lake.core.schema.misfits import UnheldValues
from ddb_lake.core.schema.table_schema import Column
from ddb_lake.engine.session import Session
from ddb_lake.lake.scan import TableScan
from ddb_lake.pipeline.apply.changelog import not_ingested
from ddb_lake.pipeline.apply.deduplication import Deduplicator, LocalDeduplicator, ReadGroup
from ddb_lake.pipeline.apply.object_reader import StagedTable
from ddb_lake.pipeline.load.export_files import Export
from ddb_lake.pipeline.load.increments import IncrementRows
from ddb_lake.pipeline.load.snapshot_writer import SnapshotTarget
from ddb_lake.pipeline.merge.entity_source import EntitySource
from ddb_lake.pipeline.merge.sources import MergeSources
from ddb_lake.pipeline.open_lake import Lake
from ddb_lake.spark.access import table_access
from ddb_lake.spark.carrier import Carrier, SparkCarrier
from ddb_lake.spark.changelog import SparkDeduplicator
from ddb_lake.spark.entities import SparkEntityRows
from ddb_lake.spark.increment_reader import read_increment_on_spark
from ddb_lake.spark.merge import SparkMerge
from ddb_lake.spark.object_reader import object_groups, read_objects_on_spark
from ddb_lake.spark.scan_tasks import CountUnheld, RewriteFiles, count_unheld, part_of, parts_of, rewrite_files
from ddb_lake.spark.session import open_spark
from ddb_lake.spark.snapshot_writer import SparkSnapshotWriter


class SparkExecutor:
    """The executor of tables with `engine: spark`. `carrier`: runs the tasks; by default, Spark does."""

    def __init__(self, lake: Lake, settings: TableSettings, carrier: Carrier | None = None) -> None:
        self._lake, self._settings = lake, settings
        self._given = carrier

    @cached_property
    def _carrier(self) -> Carrier:
        """Runs the tasks. Spark starts when the first step needs it."""
        spark = self._lake.settings.spark
        return self._given or SparkCarrier(open_spark(spark.master, spark.settings))

    def groups(self, refs: Sequence[ObjectRef]) -> Iterator[list[ObjectRef]]:
        """Groups that all cores read together."""
        return object_groups(self._lake, self._carrier, self._settings.name, refs)

    def read(self, session: Session, refs: Sequence[ObjectRef]) -> ReadGroup:
        """Read the objects by tasks; the rows stay in scratch files."""
        group = read_objects_on_spark(self._lake, self._carrier, self._settings.name, refs)
        no_rows = LocalDeduplicator(session, StagedTable.empty(session.folder))
        tables: dict[str, Deduplicator] = {self._settings.name: no_rows}
        tables |= {table: SparkDeduplicator(self._lake, session, self._carrier, table, group) for table in group.tables}
        return ReadGroup(group.objects, tables, group.other_tables, group.keys, group.left_out)

    def read_increment(self, session: Session, export: Export) -> IncrementRows:
        """Read by tasks; each task reads some data files, and the rows stay in scratch files."""
        lake, name = self._lake, self._settings.name
        read = read_increment_on_spark(lake, self._carrier, name, export)
        refs = [one.ref for one in read.group.objects]
        rows: Deduplicator = LocalDeduplicator(session, StagedTable.empty(session.folder))
        if name in read.group.tables:
            rows = SparkDeduplicator(lake, session, self._carrier, name, read.group)
        is_known = bool(refs) and not not_ingested(lake, session, name, refs)
        key, left_out = read.group.keys.get(name, ()), read.group.left_out[name]
        return IncrementRows(read.group.objects, rows, key, is_known, read.invalid, left_out)

    def plan_merge(self, session: Session, table: Table, sources: MergeSources) -> SparkMerge:
        """Decide by tasks; each task decides a bucket of keys."""
        merge = SparkMerge(self._lake, session, self._settings, table, self._carrier, sources)
        merge.plan()
        return merge

    def rewrite(
        self,
        session: Session,  # noqa: ARG002
        table: Table,
        scan: TableScan,
        groups: Sequence[Sequence[DataFile]],
        key: str,
    ) -> list[str]:
        """Rewrite by tasks; each task rewrites some files of a group."""
        access = table_access(self._lake, table.io, table.location())
        tasks = [
            RewriteFiles(access, table.schema(), part_of(scan, part), key)
            for files in groups
            for part in parts_of(files)
        ]
        progress = partial(self._lake.progress, f"{self._settings.name}: parts of a table rewritten")
        return [path for paths in self._carrier.map(rewrite_files, tasks, progress) for path in paths]

    def entity_rows(self, session: Session, source: EntitySource, since: int | None) -> SparkEntityRows | str:
        """Find the rows by tasks; each task reads some files of `current`."""
        return SparkEntityRows.of(self._lake, session, self._carrier, source, since)

    def unheld_values(
        self,
        session: Session,  # noqa: ARG002
        table: Table,
        scan: TableScan,
        columns: Sequence[Column],
    ) -> list[UnheldValues]:
        """Count by tasks; each task reads some files."""
        access = table_access(self._lake, table.io, table.location())
        tasks = [CountUnheld(access, part_of(scan, part), tuple(columns)) for part in parts_of(scan.live.data)]
        return self._carrier.map(count_unheld, tasks)

    def snapshot_writer(
        self, session: Session, target: SnapshotTarget, export: Export, reject: bool
    ) -> SparkSnapshotWriter:
        """A writer by tasks; each task verifies, projects, sorts and writes some data files."""
        access = table_access(self._lake, target.io, target.location)
        rejected = session.folder / "rejected.parquet" if reject else None
        return SparkSnapshotWriter(access, self._carrier, target, export, rejected)
