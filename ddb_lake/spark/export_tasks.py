"""What one task on Spark does with an export's data files: the same kernels, in a DuckDB of the task's own.

Tasks write files and say which; they open no catalog and commit nothing.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import reduce
from pathlib import Path as FilePath

import pyarrow as pa
import pyarrow.parquet as pq
from pyiceberg.io import FileIO
from pyiceberg.schema import Schema

from ddb_lake.aws.objects import ObjectStore
from ddb_lake.aws.session import s3_access
from ddb_lake.core.decode.export_lines import ITEM_MEMBER
from ddb_lake.core.schema.inference import Inference
from ddb_lake.core.schema.table_schema import Path, SchemaOptions, TableSchema
from ddb_lake.engine.key_text import key_text_sql
from ddb_lake.engine.line_check import LineCheck
from ddb_lake.engine.projection import Projection
from ddb_lake.engine.schema_fitting import column_statistics, rescued_values
from ddb_lake.engine.session import Session, connect, with_memory
from ddb_lake.engine.sql import literal
from ddb_lake.lake.file_writer import FileWriter
from ddb_lake.lake.scan import TableScan
from ddb_lake.pipeline.load.export_files import (
    FoundExport,
    LocalFile,
    lines_sql,
    verified,
)
from ddb_lake.pipeline.load.line_screening import BadLines
from ddb_lake.pipeline.load.snapshot_writer import (
    RUN_SHARE,
    Lines,
    observed,
    runs_of,
    write_run,
    wrong_counts,
)

MAX_SET_ASIDE_BYTES = 64 * 1024 * 1024
"""Lines that one task may set aside (compressed): the driver collects them. An export with more is refused."""


@dataclass(frozen=True, slots=True)
class Place:
    """How a task reaches the lake's files. `memory`: what its DuckDB may take."""

    io: FileIO
    location: str
    local: bool
    memory: str
    memory_bytes: int

    @contextmanager
    def session(self) -> Iterator[Session]:
        """A DuckDB of one thread (Spark gives a task one core) that can reach the files."""
        with connect(None if self.local else s3_access(), self.memory, threads=1) as session:
            yield session


@dataclass(frozen=True, slots=True)
class Share:
    """Some data files of an export."""

    place: Place
    export: FoundExport
    options: SchemaOptions


@dataclass(frozen=True, slots=True)
class WriteShare:
    """Data files to be written with some columns."""

    share: Share
    schema: TableSchema
    nulls: frozenset[Path]
    iceberg: Schema


@dataclass(frozen=True, slots=True)
class Written:
    """What a task wrote: files, how many rows, how many of them with a key, and what the columns did not hold.

    `wrong`: a data file whose number of lines is not that of its manifest. `bad`: lines that hold no valid item.
    `set_aside`: the same lines as rows of the quarantine.
    """

    paths: list[str]
    rows: int
    keyed: int
    unfitted: Inference
    wrong: str | None = None
    bad: BadLines = field(default_factory=BadLines)
    set_aside: pa.Table | None = None


@dataclass(frozen=True, slots=True)
class WrittenFiles:
    """Files with rows of these columns."""

    place: Place
    schema: TableSchema
    iceberg: Schema
    paths: list[str]


@dataclass(frozen=True, slots=True)
class HashedKeys:
    """Files with rows of these columns, and hashes of keys that are wanted."""

    files: WrittenFiles
    hashes: list[int]


def sample_share(share: Share) -> Inference:
    """What items at the beginning of the files need."""
    with share.place.session() as session:
        lines = Lines(verified(ObjectStore(), share.export, session.folder), session.folder, reject=True)
        return lines.read(lambda files, _check: observed(files, share.options))


def write_share(task: WriteShare) -> Written:
    """Verify the files, project their rows, and write them sorted by key."""
    share, place = task.share, task.share.place
    with place.session() as session:
        lines = Lines(verified(ObjectStore(), share.export, session.folder), session.folder, reject=True)
        writer = FileWriter(session.con, place.io, place.location, task.iceberg)

        def write(files: Sequence[LocalFile], check: LineCheck) -> list[str]:
            projection = Projection(task.schema, task.nulls, ITEM_MEMBER, check)
            projection.register(session.con)
            runs = runs_of(files, int(RUN_SHARE * place.memory_bytes))
            as_of_us = share.export.summary.as_of_us
            return [path for run in runs for path in write_run(session, writer, projection, run, as_of_us)]

        paths = lines.read(write)
        written = look_at(session, paths, task.schema, task.iceberg, share.options)
        if lines.set_aside is not None:
            if lines.set_aside.path.stat().st_size > MAX_SET_ASIDE_BYTES:
                raise lines.bad.refusal()
            written = replace(written, bad=lines.bad, set_aside=pq.read_table(lines.set_aside.path))
        if written.rows != sum(file.items for file in lines.files):
            counts = dict(session.rows(f"SELECT filename, count(*) FROM {lines_sql(lines.files)} GROUP BY 1"))
            return replace(written, wrong=next(wrong_counts(lines.files, counts), None))
        return written


def look_at(
    session: Session, paths: list[str], schema: TableSchema, iceberg: Schema, options: SchemaOptions
) -> Written:
    """What stands in files that were written."""
    rows = TableScan(iceberg, tuple(paths)).sql()
    total, keyed = session.rows(f"SELECT count(*), count(_key_hash) FROM {rows}")[0]
    return Written(paths, total, keyed, rescued_values(session, rows, schema, options))


def count_columns_of(files: WrittenFiles) -> list[int]:
    """`engine.schema_fitting.column_statistics` of the files' rows."""
    with files.place.session() as session:
        return column_statistics(session, TableScan(files.iceberg, tuple(files.paths)).sql(), files.schema)


def key_hashes(files: WrittenFiles) -> Iterator[pa.RecordBatch]:
    """The column `_key_hash` of the files."""
    yield from _batches(files.place, f"SELECT _key_hash FROM {TableScan(files.iceberg, tuple(files.paths)).sql()}")


def keys_of_hashes(task: HashedKeys) -> Iterator[pa.RecordBatch]:
    """The keys (`_key`) of the rows that have one of the hashes."""
    files = task.files
    rows = TableScan(files.iceberg, tuple(files.paths)).sql()
    wanted = f"(SELECT unnest([{', '.join(map(str, task.hashes))}]::BIGINT[]) AS h)"
    found = f"(SELECT r.* FROM {rows} r SEMI JOIN {wanted} w ON w.h = r._key_hash)"
    yield from _batches(files.place, f"SELECT {key_text_sql(files.schema)} AS _key FROM {found}")


_SCRATCH_BYTES = 8 * 1024 * 1024
"""A group of rows is read at once, and the work on it takes many times as much memory."""


def scratch_file(session: Session, query: str, folder: str) -> str | None:
    """The rows of a query in a file for other tasks to read; None for no rows."""
    if session.value(f"SELECT count(*) FROM ({query})") == 0:
        return None
    if "://" not in folder:
        FilePath(folder).mkdir(parents=True, exist_ok=True)
    path = f"{folder}/{uuid.uuid4().hex}.parquet"
    options = f"FORMAT parquet, COMPRESSION zstd, ROW_GROUP_SIZE_BYTES {_SCRATCH_BYTES}"
    with_memory(session, lambda: session.con.execute(f"COPY ({query}) TO {literal(path)} ({options})"))
    return path


def _batches(place: Place, query: str) -> Iterator[pa.RecordBatch]:
    with place.session() as session:
        yield from session.con.execute(query).to_arrow_reader(10_000)


def merged(inferences: list[Inference], options: SchemaOptions) -> Inference:
    """One inference of all that several tasks saw."""

    def taken_in(whole: Inference, part: Inference) -> Inference:
        whole.merge(part)
        return whole

    return reduce(taken_in, inferences, Inference(options))
