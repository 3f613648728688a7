"""Tasks that rewrite files of a table on Spark, without the rows that position deletes name."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from pyiceberg.manifest import DataFile
from pyiceberg.schema import Schema

from ddb_lake.lake.file_writer import FileWriter, rewrite
from ddb_lake.lake.scan import LiveFiles, TableScan
from ddb_lake.spark.access import TableAccess

PART_BYTES = 1024 * 1024 * 1024
"""The size of the files that one task rewrites. It becomes several files; the last one is smaller than the others."""


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


def rewrite_files(task: RewriteFiles) -> list[str]:
    """Write the rows. Returns the paths of the files."""
    access = task.access
    with access.session() as session:
        writer = FileWriter(session.con, access.io, access.location, task.iceberg)
        return rewrite(session, writer, task.scan, task.scan.live.data, task.key)


def part_of(scan: TableScan, files: Sequence[DataFile]) -> TableScan:
    """A scan of some data files of a scan, with the position deletes that can name them: what a task needs."""
    paths = tuple(file.file_path for file in files)
    deletes = scan.deletes_of(paths)
    entries = tuple(file for file in scan.live.deletes if file.file_path in set(deletes))
    return TableScan(scan.schema, paths, deletes, LiveFiles(tuple(files), entries))


def parts_of(files: Sequence[DataFile]) -> Iterator[list[DataFile]]:
    """The files in parts of about `PART_BYTES`, in order. A larger file is a part of its own."""
    part: list[DataFile] = []
    size = 0
    for file in files:
        if part and size + file.file_size_in_bytes > PART_BYTES:
            yield part
            part, size = [], 0
        part.append(file)
        size += file.file_size_in_bytes
    if part:
        yield part
