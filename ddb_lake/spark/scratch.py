"""Rows that pass from tasks to tasks, in scratch files below the location of a table.

Each file has the rows of one task. Its row groups have the rows of one bucket each, so a task that reads a bucket reads its
row groups alone, of all files. A bucket need not fit in memory: DuckDB reads it from the files, and spills.

`compact` removes the files that a broken run leaves.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pyiceberg.io import FileIO

from ddb_lake.engine.session import Session, with_memory
from ddb_lake.engine.sql import identifier, literal, literals
from ddb_lake.lake.file_writer import MEASURED_FILES

BUCKET = "_bucket"
"""The column with the number of a row's bucket."""

HELD_BYTES = 32 * 1024 * 1024
"""The size of the rows that a task holds until it writes them."""

GROUP_BYTES = 8 * 1024 * 1024
"""Size of a row group. A group is read at once, and the work on it takes many times its size in memory."""


@dataclass(frozen=True, slots=True)
class ScratchFolder:
    """Where scratch files are. A task makes it when it writes the first file."""

    io: FileIO
    location: str

    @classmethod
    def below(cls, io: FileIO, table_location: str) -> ScratchFolder:
        """A new folder of a table."""
        return cls(io, f"{table_location.removeprefix('file://')}/data/scratch/{uuid.uuid4().hex}")

    def path(self, name: str) -> str:
        """The path of a file."""
        return f"{self.location}/{name}"

    def new_name(self) -> str:
        """The name of a new file, in the folder, which exists then."""
        if "://" not in self.location:
            Path(self.location).mkdir(parents=True, exist_ok=True)
        return f"{uuid.uuid4().hex}.parquet"

    def delete(self, names: Iterable[str]) -> None:
        """Delete files of the folder. Those that are not there are deleted already."""
        delete_files(self.io, map(self.path, names))


def delete_files(io: FileIO, paths: Iterable[str]) -> None:
    """Delete files. Those that are not there are deleted already, as by an erasure."""
    for path in paths:
        with suppress(FileNotFoundError):
            io.delete(path)


@dataclass(frozen=True, slots=True)
class ScratchRows:
    """The rows that some tasks wrote, by the names of their files."""

    folder: ScratchFolder
    names: tuple[str, ...] = ()

    def sql(self, columns: dict[str, str], bucket: int | None = None) -> str:
        """A relation of the rows, or of those of one bucket.

        Args:
            columns: the columns and their types, for a relation without rows.
            bucket: the number of the bucket.
        """
        names = ", ".join(map(identifier, columns))
        if not self.names:
            nulls = ", ".join(f"NULL::{kind} AS {identifier(name)}" for name, kind in columns.items())
            return f"(SELECT {nulls} WHERE false)"
        condition = f" WHERE {BUCKET} = {bucket}" if bucket is not None else ""
        paths = literals(self.folder.path(name) for name in self.names)
        return f"(SELECT {names} FROM read_parquet({paths}){condition})"


def write_buckets(batches: Iterable[pa.RecordBatch], folder: ScratchFolder) -> str | None:
    """Write rows that have the column `BUCKET`. Returns the name of the file; None if there are no rows."""
    writer = None
    name = None
    held = _HeldRows()
    try:
        for batch in batches:
            if not batch.num_rows:
                continue
            if writer is None:
                name = folder.new_name()
                sink = folder.io.new_output(folder.path(name)).create()
                writer = pq.ParquetWriter(sink, batch.schema, compression="lz4", use_dictionary=False)
            held.add(batch)
            if held.bytes > HELD_BYTES:
                held.write(writer)
        if writer is not None:
            held.write(writer)
    finally:
        if writer is not None:
            writer.close()
            sink.close()
    return name


class _HeldRows:
    """Rows by their bucket, until they are written."""

    def __init__(self) -> None:
        self.bytes = 0
        self._parts: dict[int, list[pa.RecordBatch]] = {}

    def add(self, batch: pa.RecordBatch) -> None:
        """Hold the rows of a batch."""
        self.bytes += batch.nbytes
        buckets = batch.column(BUCKET).to_numpy(zero_copy_only=False)
        if buckets[0] == buckets[-1] and (buckets == buckets[0]).all():
            self._parts.setdefault(int(buckets[0]), []).append(batch)
            return
        order = np.argsort(buckets, kind="stable")
        numbers, firsts = np.unique(buckets[order], return_index=True)
        ordered = batch.take(pa.array(order))
        for number, first, end in zip(numbers, firsts, [*firsts[1:], len(order)], strict=True):
            self._parts.setdefault(int(number), []).append(ordered.slice(first, end - first))

    def write(self, writer: pq.ParquetWriter) -> None:
        """Write the rows as row groups of one bucket each, and hold no rows."""
        for number in sorted(self._parts):
            rows = pa.Table.from_batches(self._parts[number])
            mean_bytes = max(1, rows.nbytes // rows.num_rows)
            writer.write_table(rows, row_group_size=max(1, GROUP_BYTES // mean_bytes))
        self.bytes, self._parts = 0, {}


def write_rows(session: Session, query: str, folder: ScratchFolder) -> str | None:
    """Write the rows of a query, which have no buckets. Returns the name of the file; None if there are no rows."""
    if session.value(f"SELECT count(*) FROM ({query})") == 0:
        return None
    name = folder.new_name()
    options = f"FORMAT parquet, COMPRESSION lz4, ROW_GROUP_SIZE_BYTES {GROUP_BYTES}"
    with_memory(session, lambda: session.con.execute(f"COPY ({query}) TO {literal(folder.path(name))} ({options})"))
    return name


def names_of(files: Iterable[str | None]) -> tuple[str, ...]:
    """The names of the files that were written: a task without rows writes none."""
    return tuple(name for name in files if name is not None)


def estimated_rows(session: Session, paths: Sequence[str]) -> int:
    """The number of rows of some Parquet files, estimated from the footers of at most `MEASURED_FILES` of them."""
    measured = paths[:: max(1, len(paths) // MEASURED_FILES)]
    if not measured:
        return 0
    rows = session.value(f"SELECT sum(num_rows) FROM parquet_file_metadata({literals(measured)})")
    return -(-int(rows) * len(paths) // len(measured))
