"""The rows by which the tables of entities change, on Spark (`pipeline.executor.EntityRows`).

Tasks read some files of `current` each: those that the later snapshot alone has, or all of them. They write the items of one entity.
Other tasks write the keys of the rows that are gone, and tasks that read some files of an entity's table find the positions of
these keys. The driver holds names of files and counts.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from math import ceil

from pyiceberg.manifest import DataFile
from pyiceberg.schema import Schema
from pyiceberg.table import Table
from pyiceberg.table.metadata import TableMetadata

from ddb_lake.core.schema.inference import Inference
from ddb_lake.core.schema.misfits import Misfit, misfits_of
from ddb_lake.core.schema.table_schema import Path, TableSchema
from ddb_lake.engine.schema_fitting import SAMPLE_ROWS, ProjectAndWrite, extend_schema, fit_schema, guess_from
from ddb_lake.engine.session import Session
from ddb_lake.engine.sql import literals
from ddb_lake.lake.file_writer import FileWriter
from ddb_lake.lake.scan import LiveFiles, TableScan, named_data_file, scan_table
from ddb_lake.lake.snapshot_diff import FileDiff, diff_files, rows_at
from ddb_lake.pipeline.merge.entity_source import OTHER_TYPES, EntitySource
from ddb_lake.pipeline.merge.local_merge import SAMPLE_BYTES
from ddb_lake.pipeline.open_lake import Lake
from ddb_lake.spark.access import WAVES, TableAccess, table_access
from ddb_lake.spark.carrier import Carrier, Progress
from ddb_lake.spark.entity_tasks import (
    EntityPart,
    FindPositions,
    SampleEntity,
    ScanRemoved,
    WriteEntity,
    find_positions,
    sample_entity,
    scan_removed,
    write_entity,
)
from ddb_lake.spark.export_tasks import Written, WrittenFiles, keeps_files, merged, unfitted_values_of
from ddb_lake.spark.merge_tasks import WriteDeletes, write_deletes
from ddb_lake.spark.scan_tasks import part_of, parts_of
from ddb_lake.spark.scratch import ScratchFolder, ScratchRows, names_of

PART_BYTES = 256 * 1024 * 1024
"""The most bytes of data files that a task divides: a task writes its items to its disk, where they take several times as much."""

LEAST_PART_BYTES = 32 * 1024 * 1024
"""The fewest bytes of data files that are worth a task of their own."""

POSITIONS_ROWS = 1_000_000
"""The most positions, about, whose delete files one task writes."""

REWRITTEN = "files of current were rewritten otherwise than by a compaction of ddb_lake"


class SparkEntityRows:
    """Rows that tasks read and write.

    Args:
        lake: the open lake.
        session: the step's session, which makes the manifest entries.
        carrier: runs the tasks.
        source: `current`, and its entities.
        added: the rows of `current` that are added, in parts, as SQL.
        removed: the same of the rows that are gone; None if the tables are written as a whole.
    """

    def __init__(
        self,
        lake: Lake,
        session: Session,
        carrier: Carrier,
        source: EntitySource,
        added: Sequence[str],
        removed: Sequence[str] | None,
    ) -> None:
        self._lake, self._session, self._carrier, self._source = lake, session, carrier, source
        self._is_whole = removed is None
        self._access = table_access(lake, source.table.io, source.table.location())
        self._scratch = ScratchFolder.below(self._access.io, self._access.location)
        self._scratch_files: list[str] = []
        self._added = [self._part(rows) for rows in added]
        self._removed, self._removed_rows = self._scan_removed(removed or ())
        self._positions = ScratchRows(self._scratch)
        self._delete_parts = 0

    @classmethod
    def of(
        cls, lake: Lake, session: Session, carrier: Carrier, source: EntitySource, since: int | None
    ) -> SparkEntityRows | str:
        """As `pipeline.executor.Executor.entity_rows`."""
        if since is None:
            scan = scan_table(source.table, source.snapshot_id)
            return cls(lake, session, carrier, source, _rows_in_parts(scan, scan.live.data, carrier.cores), None)
        diff = diff_files(source.table, since, source.snapshot_id)
        if diff is None:
            return OTHER_TYPES
        if diff.old_files or diff.old_deletes:
            return REWRITTEN
        new = set(diff.new_files)
        added = [file for file in diff.after.live.data if file.file_path in new]
        parts = _rows_in_parts(diff.after, added, carrier.cores)
        return cls(lake, session, carrier, source, parts, _deleted_rows_in_parts(diff, carrier.cores))

    @property
    def misfits(self) -> tuple[Misfit, ...]:
        """What the tasks counted."""
        return misfits_of([one.unheld for one in self._entity.written], self._columns)

    def find_removed(self, number: int, table: Table, schema: TableSchema) -> tuple[int, int]:
        """Find the positions by tasks; each task reads some files of the table."""
        expected = self._removed_rows[number]
        self._delete_parts = ceil(expected / POSITIONS_ROWS)
        self._positions = ScratchRows(self._scratch)
        if not expected:
            return 0, 0
        access, scan = self._access_of(table), scan_table(table)
        tasks = [
            FindPositions(
                access, self._scratch, part_of(scan, files), schema, self._removed, number, self._delete_parts
            )
            for files in _parts(scan.live.data, self._carrier.cores)
        ]
        found = self._carrier.map(find_positions, tasks, self._progress("rows of changed items found"))
        self._positions = ScratchRows(self._scratch, names_of(name for name, _ in found))
        self._scratch_files += self._positions.names
        return expected, sum(count for _, count in found)

    def fit(
        self, number: int, table: Table, names: TableSchema, rows: int, iceberg: Callable[[TableSchema], Schema]
    ) -> TableSchema:
        """Write the rows with the columns that fit them."""
        source = self._source
        self._entity = _EntityFiles(self._access_of(table), self._added, number, source, self._is_whole)
        project = partial(self._project_and_write, iceberg)
        schema = names
        if self._is_whole:
            schema = self._fit_all(number, names, project)
        elif self._added:
            schema = extend_schema(names, source.policy, project, rows)
        self._columns = schema.columns
        return schema

    def _fit_all(self, number: int, names: TableSchema, project: ProjectAndWrite) -> TableSchema:
        """The columns that fit all rows of an entity, after a guess from a sample. They are written."""
        options = self._entity.options
        sampled = self._added[: self._carrier.cores]
        share = max(1, len(sampled))
        samples = [
            SampleEntity(self._access, part, number, options, ceil(SAMPLE_ROWS / share), SAMPLE_BYTES // share)
            for part in sampled
        ]
        first, nulls = guess_from(merged(self._carrier.map(sample_entity, samples), options), names)
        return fit_schema(first, names, nulls, project)

    def _project_and_write(
        self, iceberg_of: Callable[[TableSchema], Schema], schema: TableSchema, nulls: set[Path]
    ) -> Callable[[bool], Inference]:
        """Write the rows with these columns, apart from parts whose files are already as they must be."""
        entity, iceberg = self._entity, iceberg_of(schema)
        entity.discard_others(iceberg)
        progress = self._progress("parts of entities written")
        entity.take(iceberg, self._carrier.map(write_entity, entity.tasks(schema, nulls, iceberg), progress))
        files = [WrittenFiles(entity.access, schema, iceberg, one.paths) for one in entity.written if one.paths]
        return partial(unfitted_values_of, self._carrier, entity.written, files, entity.options)

    def write(self, table: Table, metadata: TableMetadata) -> tuple[list[DataFile], list[DataFile]]:
        """The entries of the files that tasks have written."""
        entity, positions = self._entity, self._positions
        paths = [path for one in entity.written for path in one.paths]
        added = FileWriter.for_table(self._session.con, table, metadata).entries(paths, metadata)
        tasks = [
            WriteDeletes(entity.access, positions, part) for part in range(self._delete_parts if positions.names else 0)
        ]
        deletes = self._carrier.map(write_deletes, tasks, self._progress("position deletes written"))
        return added, [entry for entries in deletes for entry in entries]

    def close(self) -> None:
        """Delete the scratch files."""
        self._scratch.delete(self._scratch_files)
        self._scratch_files = []

    # --- tasks

    def _scan_removed(self, removed: Sequence[str]) -> tuple[ScratchRows, Counter[int]]:
        tasks = [ScanRemoved(self._access, self._scratch, self._part(rows)) for rows in removed]
        found = self._carrier.map(scan_removed, tasks, self._progress("rows that are gone found"))
        names = names_of(name for name, _ in found)
        self._scratch_files += names
        return ScratchRows(self._scratch, names), sum((Counter(counts) for _, counts in found), Counter())

    def _part(self, rows: str) -> EntityPart:
        source = self._source
        return EntityPart(rows, source.state.schema, source.rules, source.keep_expired)

    def _access_of(self, table: Table) -> TableAccess:
        return table_access(self._lake, table.io, table.location())

    def _progress(self, what: str) -> Progress:
        return partial(self._lake.progress, f"{self._source.settings.name}: {what}")


class _EntityFiles:
    """The files of one entity that tasks have written: of each part of the rows, with which columns."""

    def __init__(
        self, access: TableAccess, parts: Sequence[EntityPart], number: int, source: EntitySource, is_sorted: bool
    ) -> None:
        self.access, self.options = access, source.options(number)
        self._parts, self._number, self._is_sorted = parts, number, is_sorted
        self._written: dict[int, tuple[Written, Schema]] = {}

    @property
    def written(self) -> list[Written]:
        """What the tasks returned."""
        return [written for written, _ in self._written.values()]

    def discard_others(self, iceberg: Schema) -> None:
        """Delete the files that would have other columns now."""
        for place, (written, columns) in [*self._written.items()]:
            if not keeps_files(written, columns, iceberg):
                for path in written.paths:
                    self.access.io.delete(path)
                del self._written[place]

    def tasks(self, schema: TableSchema, nulls: set[Path], iceberg: Schema) -> list[WriteEntity]:
        """The tasks that write the parts that are not written."""
        return [
            WriteEntity(
                self.access, part, self._number, self.options, schema, frozenset(nulls), iceberg, self._is_sorted
            )
            for place, part in enumerate(self._parts)
            if place not in self._written
        ]

    def take(self, iceberg: Schema, written: Sequence[Written]) -> None:
        """Take the results of `tasks`."""
        places = [place for place in range(len(self._parts)) if place not in self._written]
        self._written |= {place: (one, iceberg) for place, one in zip(places, written, strict=True)}


# --- parts of the rows


def _parts(files: Sequence[DataFile], cores: int) -> list[list[DataFile]]:
    """Data files in parts: enough for the cores, none too large or too small."""
    size = sum(file.file_size_in_bytes for file in files)
    return [*parts_of(files, min(PART_BYTES, max(LEAST_PART_BYTES, size // (cores * WAVES))))]


def _rows_in_parts(scan: TableScan, files: Sequence[DataFile], cores: int) -> list[str]:
    return [part_of(scan, part).sql() for part in _parts(files, cores)]


def _deleted_rows_in_parts(diff: FileDiff, cores: int) -> list[str]:
    """The rows of files of both snapshots that position deletes of the later one alone name."""
    new, kept = set(diff.new_deletes), diff.kept
    entries = tuple(file for file in diff.after.live.deletes if file.file_path in new)
    named = {named_data_file(file) for file in entries}
    several = None in named  # a delete file of several data files, whose bounds comprise many others
    files = [f for f in diff.after.live.data if f.file_path in kept and (several or f.file_path in named)]
    deletes = TableScan(diff.after.schema, (), (), LiveFiles((), entries))
    found = []
    for part in _parts(files, cores):
        paths = [file.file_path for file in part]
        if naming := deletes.deletes_of(paths):
            found.append(
                rows_at(diff.after.schema, paths, f"SELECT file_path, pos FROM read_parquet({literals(naming)})")
            )
    return found
