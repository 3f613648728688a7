"""The work of one Spark task on data files of an export, by the functions of `pipeline.load`, in a DuckDB of its own.

Tasks write files and return their paths. They open no catalog and commit nothing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import pyarrow as pa
import pyarrow.parquet as pq
from pyiceberg.schema import Schema

from ddb_lake.aws.objects import ObjectStore
from ddb_lake.aws.session import expect_bucket_owners, expected_owners
from ddb_lake.core.decode.export_lines import ITEM_MEMBER
from ddb_lake.core.protection.rules import Protection
from ddb_lake.core.schema.inference import Inference, Need
from ddb_lake.core.schema.misfits import UnheldValues
from ddb_lake.core.schema.table_schema import Path, SchemaOptions, TableSchema
from ddb_lake.engine.key_text import key_text_sql
from ddb_lake.engine.line_check import LineCheck
from ddb_lake.engine.projection import Projection
from ddb_lake.engine.schema_fitting import (
    column_statistics,
    number_needs,
    observe_statistics,
    requires_reprojection,
    rescued_values,
    statistics_matter,
)
from ddb_lake.engine.session import Session
from ddb_lake.lake.file_writer import FileWriter
from ddb_lake.lake.scan import TableScan
from ddb_lake.pipeline.load.export_files import Export, ExportLines, InvalidLines, LocalFile, download_files, lines_sql
from ddb_lake.pipeline.load.snapshot_writer import (
    RUN_SHARE,
    count_unkeyed,
    infer_from_sample,
    mean_line_bytes,
    mismatched_files,
    runs_of,
    write_run,
)
from ddb_lake.spark.access import TableAccess
from ddb_lake.spark.carrier import Carrier
from ddb_lake.spark.scratch import BUCKET, ScratchFolder, ScratchRows, write_buckets

MAX_HASHES = 100_000
"""Repeated hashes that are checked. There are that many if `key` is wrong, and very few if it is right."""

_HASH_ROWS = 100_000
"""Key hashes that pass to a scratch file at once."""

MAX_REJECTED_BYTES = 64 * 1024 * 1024
"""Compressed bytes of lines that one task may reject: the driver collects them. An export with more is an error."""


@dataclass(frozen=True, slots=True)
class Share:
    """Some data files of an export."""

    access: TableAccess
    export: Export
    options: SchemaOptions
    protection: Protection = field(default_factory=Protection)
    owners: Mapping[str, str] = field(default_factory=expected_owners)


@dataclass(frozen=True, slots=True)
class WriteShare:
    """Data files to write with some columns. `buckets`: the number of those of key hashes, which go to `scratch`."""

    share: Share
    schema: TableSchema
    nulls: frozenset[Path]
    iceberg: Schema
    scratch: ScratchFolder
    buckets: int


@dataclass(frozen=True, slots=True)
class Written:
    """The result of a task that wrote rows.

    Attributes:
        paths: the files.
        rows: the number of rows.
        unfitted: the inference of the values that the columns do not hold.
        mismatched_file: a data file whose number of lines is not that of the manifest.
        invalid: lines that hold no valid item.
        rejected: the same lines as rows of the quarantine.
        hashes: a scratch file of the rows' key hashes.
        unheld: the values that no column holds, of an entity's rows.
        left_out: the number of items that the table's filter leaves out.
    """

    paths: list[str]
    rows: int
    unfitted: Inference
    mismatched_file: str | None = None
    invalid: InvalidLines = field(default_factory=InvalidLines)
    rejected: pa.Table | None = None
    hashes: str | None = None
    unheld: UnheldValues = field(default_factory=dict)
    left_out: int = 0


@dataclass(frozen=True, slots=True)
class WrittenFiles:
    """Files with rows of these columns."""

    access: TableAccess
    schema: TableSchema
    iceberg: Schema
    paths: list[str]


@dataclass(frozen=True, slots=True)
class ColumnStatistics:
    """Files, to count their values, and the values that the columns do not hold."""

    files: WrittenFiles
    unfitted: Inference


@dataclass(frozen=True, slots=True)
class RepeatedHashes:
    """A bucket of key hashes, to find those that occur more than once."""

    access: TableAccess
    hashes: ScratchRows
    bucket: int


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
        lines = ExportLines(files, session.folder, True, share.protection)
        return lines.read(lambda files, _check: infer_from_sample(files, share.options))


def write_share(task: WriteShare) -> Written:
    """Verify the files, project their rows, and write them sorted by key."""
    share, access = task.share, task.share.access
    expect_bucket_owners(share.owners)
    with access.session() as session:
        files = download_files(ObjectStore(), share.export, session.folder)
        lines = ExportLines(files, session.folder, True, share.protection)
        writer = FileWriter(session.con, access.io, access.location, task.iceberg)
        paths: list[str] = []

        def write(files: Sequence[LocalFile], check: LineCheck) -> None:
            while paths:
                access.io.delete(paths.pop())
            projection = Projection(task.schema, task.nulls, ITEM_MEMBER, check, mean_line_bytes(files))
            projection.register(session.con)
            runs = runs_of(files, int(RUN_SHARE * access.memory_bytes))
            as_of_us = share.export.summary.as_of_us
            paths.extend(path for run in runs for path in write_run(session, writer, projection, run, as_of_us))
            check.unkeyed = count_unkeyed(session, TableScan(task.iceberg, tuple(paths)))

        lines.read(write, task.schema.key)
        written = describe_written(session, paths, task.schema, task.iceberg, share.options)
        written = replace(written, hashes=_write_hashes(session, task, paths), left_out=lines.left_out)
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
    total = session.value(f"SELECT count(*) FROM {rows}")
    return Written(paths, total, rescued_values(session, rows, schema, options))


def _write_hashes(session: Session, task: WriteShare, paths: list[str]) -> str | None:
    """Write the key hashes of written rows, by bucket."""
    bucket = f"(_key_hash % {task.buckets})::INTEGER AS {BUCKET}"
    rows = TableScan(task.iceberg, tuple(paths)).sql()
    hashes = session.con.sql(f"SELECT _key_hash, {bucket} FROM {rows} WHERE _key_hash IS NOT NULL")
    return write_buckets(hashes.to_arrow_reader(_HASH_ROWS), task.scratch)


def repeated_hashes(task: RepeatedHashes) -> list[int]:
    """The hashes of a bucket that occur more than once, at most `MAX_HASHES`."""
    rows = task.hashes.sql({"_key_hash": "BIGINT"}, task.bucket)
    with task.access.session() as session:
        found = session.rows(f"SELECT _key_hash FROM {rows} GROUP BY 1 HAVING count(*) > 1 LIMIT {MAX_HASHES}")
        return [key_hash for (key_hash,) in found]


def keys_of_hashes(task: HashedKeys) -> list[str]:
    """A digest of the key of each row that has one of the hashes. (The keys themselves stay in the task.)"""
    files = task.files
    rows = TableScan(files.iceberg, tuple(files.paths)).sql()
    wanted = f"(SELECT unnest([{', '.join(map(str, task.hashes))}]::BIGINT[]) AS h)"
    found = f"(SELECT r.* FROM {rows} r SEMI JOIN {wanted} w ON w.h = r._key_hash)"
    with files.access.session() as session:
        return [digest for (digest,) in session.rows(f"SELECT sha256({key_text_sql(files.schema)}) FROM {found}")]


def statistics_of(task: ColumnStatistics) -> tuple[list[int], dict[Path, Counter[Need]]]:
    """`engine.schema_fitting.column_statistics` and `number_needs` of the files' rows."""
    files = task.files
    with files.access.session() as session:
        rows = TableScan(files.iceberg, tuple(files.paths)).sql()
        counts = column_statistics(session, rows, files.schema)
        return counts, number_needs(session, rows, files.schema, task.unfitted)


# --- on the driver


def unfitted_values_of(
    carrier: Carrier,
    parts: Sequence[Written],
    files: Sequence[WrittenFiles],
    options: SchemaOptions,
    count_columns: bool,
) -> Inference:
    """`engine.schema_fitting.unfitted_values` of the files that tasks wrote."""
    unfitted = merged([part.unfitted for part in parts], options)
    if files and (count_columns or statistics_matter(files[0].schema, unfitted)):
        found = carrier.map(statistics_of, [ColumnStatistics(one, unfitted) for one in files])
        counts = [sum(column) for column in zip(*(counts for counts, _ in found), strict=True)]
        needs: dict[Path, Counter[Need]] = {}
        for _, some in found:
            for path, counter in some.items():
                needs.setdefault(path, Counter()).update(counter)
        observe_statistics(unfitted, files[0].schema, counts, needs)
    return unfitted


def keeps_files(written: Written, old: Schema, new: Schema) -> bool:
    """Whether files that were written with the columns `old` are those that would be written with `new`.

    So it is if all values fitted, and each column is among the new ones, with the same field id. A new column has no value
    in the files, and is read as NULL.
    """
    columns = {field.field_id: field for field in new.fields}
    same = all(columns.get(field.field_id) == field for field in old.fields)
    return same and not requires_reprojection(written.unfitted)


def merged(inferences: list[Inference], options: SchemaOptions) -> Inference:
    """One inference of all items that several tasks observed."""
    total = Inference(options)
    for inference in inferences:
        total.merge(inference)
    return total
