"""Tasks that read some files of a table on Spark: to rewrite them without their deleted rows, or to count values."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from pyiceberg.manifest import DataFile
from pyiceberg.schema import Schema

from ddb_lake.core.schema.misfits import UnheldValues
from ddb_lake.core.schema.table_schema import Column
from ddb_lake.engine.misfits import unheld_values
from ddb_lake.lake.file_writer import FileWriter, rewrite
from ddb_lake.lake.scan import LiveFiles, TableScan
from ddb_lake.spark.access import TableAccess

PART_BYTES = 1024 * 1024 * 1024
"""The size of the files that one task reads. If it rewrites them, they become several files, the last one smaller than the others."""


@dataclass(frozen=True, slots=True)
class RewriteFiles:
    """Write the rows of data files as other files of a table.

    Attributes:
        access: how the task reaches files.
        iceberg: the schema of the table.
        scan: a scan of these data files alone.
        key: the columns by which the rows are sorted, if sorting fits in memory.
    """

    access: TableAccess
    iceberg: Schema
    scan: TableScan
    key: str


@dataclass(frozen=True, slots=True)
class CountUnheld:
    """Count the values that no column holds.

    Attributes:
        access: how the task reaches files.
        scan: a scan of some data files.
        columns: the columns of the items.
    """

    access: TableAccess
    scan: TableScan
    columns: tuple[Column, ...]


def rewrite_files(task: RewriteFiles) -> list[str]:
    """Write the rows. Returns the paths of the files."""
    access = task.access
    with access.session() as session:
        writer = FileWriter(session.con, access.io, access.location, task.iceberg)
        return rewrite(session, writer, task.scan, task.scan.live.data, task.key)


def count_unheld(task: CountUnheld) -> UnheldValues:
    """Count the values."""
    with task.access.session() as session:
        return unheld_values(session, task.scan.sql(), task.columns)


def part_of(scan: TableScan, files: Sequence[DataFile]) -> TableScan:
    """A scan of some data files of a scan, with the position deletes that can name them: what a task needs."""
    paths = tuple(file.file_path for file in files)
    deletes = scan.deletes_of(paths)
    entries = tuple(file for file in scan.live.deletes if file.file_path in set(deletes))
    return TableScan(scan.schema, paths, deletes, LiveFiles(tuple(files), entries))


def parts_of(files: Sequence[DataFile], most_bytes: int | None = None) -> Iterator[list[DataFile]]:
    """The files in parts of at most `most_bytes`, by default `PART_BYTES`, in order. A larger file is a part of its own."""
    most_bytes = PART_BYTES if most_bytes is None else most_bytes
    part: list[DataFile] = []
    size = 0
    for file in files:
        if part and size + file.file_size_in_bytes > most_bytes:
            yield part
            part, size = [], 0
        part.append(file)
        size += file.file_size_in_bytes
    if part:
        yield part
