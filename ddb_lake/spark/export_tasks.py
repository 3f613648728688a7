"""The work of one Spark task on data files of an export, by the functions of `pipeline.load`, in a DuckDB of its own.

Tasks write files and return their paths. They open no catalog and commit nothing.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path as FilePath

import pyarrow as pa
import pyarrow.parquet as pq
from pyiceberg.io import FileIO
from pyiceberg.schema import Schema

from ddb_lake.aws.objects import ObjectStore
from ddb_lake.aws.session import expect_bucket_owners, expected_owners, s3_access
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
from ddb_lake.pipeline.load.export_files import Export, ExportLines, InvalidLines, LocalFile, download_files, lines_sql
from ddb_lake.pipeline.load.snapshot_writer import RUN_SHARE, infer_from_sample, mismatched_files, runs_of, write_run

MAX_REJECTED_BYTES = 64 * 1024 * 1024
"""Compressed bytes of lines that one task may reject: the driver collects them. An export with more is an error."""


@dataclass(frozen=True, slots=True)
class TableAccess:
    """How a task accesses the files of a table. `memory`: the limit of its DuckDB."""

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

    access: TableAccess
    export: Export
    options: SchemaOptions
    owners: Mapping[str, str] = field(default_factory=expected_owners)


@dataclass(frozen=True, slots=True)
class WriteShare:
    """Data files to write with some columns."""

    share: Share
    schema: TableSchema
    nulls: frozenset[Path]
    iceberg: Schema


@dataclass(frozen=True, slots=True)
class Written:
    """The result of a task that wrote rows.

    Attributes:
        paths: the files.
        rows: the number of rows.
        keyed: the number of rows with a key.
        unfitted: the inference of the values that the columns do not hold.
        mismatched_file: a data file whose number of lines is not that of the manifest.
        invalid: lines that hold no valid item.
        rejected: the same lines as rows of the quarantine.
    """

    paths: list[str]
    rows: int
    keyed: int
    unfitted: Inference
    mismatched_file: str | None = None
    invalid: InvalidLines = field(default_factory=InvalidLines)
    rejected: pa.Table | None = None


@dataclass(frozen=True, slots=True)
class WrittenFiles:
    """Files with rows of these columns."""

    access: TableAccess
    schema: TableSchema
    iceberg: Schema
    paths: list[str]


@dataclass(frozen=True, slots=True)
class HashedKeys:
    """Files with rows of these columns, and hashes of the wanted keys."""

    files: WrittenFiles
    hashes: list[int]


def sample_share(share: Share) -> Inference:
    """The inference of items at the beginning of the files."""
    expect_bucket_owners(share.owners)
    with share.access.session() as session:
        files = download_files(ObjectStore(), share.export, session.folder)
        lines = ExportLines(files, session.folder, reject=True)
        return lines.read(lambda files, _check: infer_from_sample(files, share.options))


def write_share(task: WriteShare) -> Written:
    """Verify the files, project their rows, and write them sorted by key."""
    share, access = task.share, task.share.access
    expect_bucket_owners(share.owners)
    with access.session() as session:
        files = download_files(ObjectStore(), share.export, session.folder)
        lines = ExportLines(files, session.folder, reject=True)
        writer = FileWriter(session.con, access.io, access.location, task.iceberg)

        def write(files: Sequence[LocalFile], check: LineCheck) -> list[str]:
            projection = Projection(task.schema, task.nulls, ITEM_MEMBER, check)
            projection.register(session.con)
            runs = runs_of(files, int(RUN_SHARE * access.memory_bytes))
            as_of_us = share.export.summary.as_of_us
            return [path for run in runs for path in write_run(session, writer, projection, run, as_of_us)]

        paths = lines.read(write)
        written = describe_written(session, paths, task.schema, task.iceberg, share.options)
        if lines.rejected is not None:
            if lines.rejected.path.stat().st_size > MAX_REJECTED_BYTES:
                raise lines.invalid.error()
            written = replace(written, invalid=lines.invalid, rejected=pq.read_table(lines.rejected.path))
        if written.rows != sum(file.items for file in lines.files):
            counts = dict(session.rows(f"SELECT filename, count(*) FROM {lines_sql(lines.files)} GROUP BY 1"))
            return replace(written, mismatched_file=next(mismatched_files(lines.files, counts), None))
        return written


def describe_written(
    session: Session, paths: list[str], schema: TableSchema, iceberg: Schema, options: SchemaOptions
) -> Written:
    """The result of a task that wrote these files."""
    rows = TableScan(iceberg, tuple(paths)).sql()
    total, keyed = session.rows(f"SELECT count(*), count(_key_hash) FROM {rows}")[0]
    return Written(paths, total, keyed, rescued_values(session, rows, schema, options))


def count_columns_of(files: WrittenFiles) -> list[int]:
    """`engine.schema_fitting.column_statistics` of the files' rows."""
    with files.access.session() as session:
        return column_statistics(session, TableScan(files.iceberg, tuple(files.paths)).sql(), files.schema)


def key_hashes(files: WrittenFiles) -> Iterator[pa.RecordBatch]:
    """The column `_key_hash` of the files."""
    yield from _batches(files.access, f"SELECT _key_hash FROM {TableScan(files.iceberg, tuple(files.paths)).sql()}")


def keys_of_hashes(task: HashedKeys) -> Iterator[pa.RecordBatch]:
    """The keys (`_key`) of the rows that have one of the hashes."""
    files = task.files
    rows = TableScan(files.iceberg, tuple(files.paths)).sql()
    wanted = f"(SELECT unnest([{', '.join(map(str, task.hashes))}]::BIGINT[]) AS h)"
    found = f"(SELECT r.* FROM {rows} r SEMI JOIN {wanted} w ON w.h = r._key_hash)"
    yield from _batches(files.access, f"SELECT {key_text_sql(files.schema)} AS _key FROM {found}")


_SCRATCH_BYTES = 8 * 1024 * 1024
"""Size of a row group. A group is read at once, and the work on it takes many times its size in memory."""


def scratch_file(session: Session, query: str, folder: str) -> str | None:
    """Write the rows of a query to a file that other tasks read. Returns its path; None if there are no rows."""
    if session.value(f"SELECT count(*) FROM ({query})") == 0:
        return None
    if "://" not in folder:
        FilePath(folder).mkdir(parents=True, exist_ok=True)
    path = f"{folder}/{uuid.uuid4().hex}.parquet"
    options = f"FORMAT parquet, COMPRESSION zstd, ROW_GROUP_SIZE_BYTES {_SCRATCH_BYTES}"
    with_memory(session, lambda: session.con.execute(f"COPY ({query}) TO {literal(path)} ({options})"))
    return path


def _batches(access: TableAccess, query: str) -> Iterator[pa.RecordBatch]:
    with access.session() as session:
        yield from session.con.sql(query).to_arrow_reader(10_000)


def merged(inferences: list[Inference], options: SchemaOptions) -> Inference:
    """One inference of all items that several tasks observed."""
    total = Inference(options)
    for inference in inferences:
        total.merge(inference)
    return total
