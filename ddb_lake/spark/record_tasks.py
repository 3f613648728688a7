"""Tasks that write staged rows on Spark: find those that are not new, and write the others as files of a table.

Rows go through the shuffle without their content: as an id, its time, and the position of the row.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import pyarrow as pa
from pyiceberg.schema import Schema

from ddb_lake.engine.key_text import key_hash_sql
from ddb_lake.engine.sql import literal, literals
from ddb_lake.lake.file_writer import FileWriter
from ddb_lake.pipeline.apply.deduplication import Figures, NewRows, with_arrival_hours
from ddb_lake.spark.export_tasks import TableAccess, scratch_file

DDL = (
    "bucket long, known boolean, id string, changed_at timestamp_ntz, _object long, `offset` long, file long, pos long"
)


@dataclass(frozen=True, slots=True)
class StagedFile:
    """A file of staged rows, by its number; `hours`: number and arrival hour (µs) of those of its objects that count."""

    number: int
    path: str
    hours: tuple[tuple[int, int], ...]

    @property
    def rows(self) -> str:
        """A relation of its rows, with the position (file, pos) of each."""
        return (
            f"(SELECT *, {self.number}::BIGINT AS file, file_row_number AS pos"
            f" FROM read_parquet({literal(self.path)}, file_row_number = true))"
        )


@dataclass(frozen=True, slots=True)
class ScanStagedIds:
    """Scan the ids of staged rows. `identity`: as in `pipeline.apply.deduplication.NewRows`."""

    access: TableAccess
    identity: tuple[str, ...]
    file: StagedFile
    buckets: int


@dataclass(frozen=True, slots=True)
class ScanKnownIds:
    """Scan the ids of rows of a table that may be the same as staged rows."""

    access: TableAccess
    identity: tuple[str, ...]
    query: str
    buckets: int


@dataclass(frozen=True, slots=True)
class FindRepeated:
    """Find the staged rows of a bucket that are not new."""

    access: TableAccess
    identity: tuple[str, ...]
    scratch: str


@dataclass(frozen=True, slots=True)
class WriteNew:
    """Write staged rows as files of a table, without those that are not new.

    Attributes:
        access: how the task reaches files.
        iceberg: the schema of the table.
        identity: the columns that are equal in the same rows.
        files: the staged rows.
        repeated: files of the positions of rows that are not new. None: the task finds these rows, among `known`.
        known: a relation of the rows that the table has; None if it has none that could be the same.
        batch: the number of the commit, for the changelog.
        at: the time of the quarantine (ISO 8601); None for the changelog.
    """

    access: TableAccess
    iceberg: Schema
    identity: tuple[str, ...]
    files: tuple[StagedFile, ...]
    repeated: tuple[str, ...] | None
    known: str | None
    batch: int
    at: str | None


def scan_ids(task: ScanStagedIds | ScanKnownIds) -> Iterator[pa.RecordBatch]:
    """The ids of the rows, their positions, and their buckets."""
    with task.access.session() as session:
        if isinstance(task, ScanStagedIds):
            rows = with_arrival_hours(session, task.file.rows, task.file.hours)
            position = '_object, "offset", file, pos'
        else:
            rows = task.query
            position = ", ".join(f'NULL::BIGINT AS "{name}"' for name in ("_object", "offset", "file", "pos"))
        name = task.identity[0]
        time = "changed_at" if "changed_at" in task.identity else "NULL::TIMESTAMP AS changed_at"
        bucket = f"{key_hash_sql(name)} % {task.buckets} AS bucket, {isinstance(task, ScanKnownIds)} AS known"
        query = f"SELECT {bucket}, {name} AS id, {time}, {position} FROM {rows}"
        yield from session.con.sql(query).to_arrow_reader(10_000)


def find_repeated(task: FindRepeated, _bucket: int, rows: pa.Table) -> str | None:
    """A file of the positions (file, pos) of staged rows that are not new; None if all are new."""
    with task.access.session() as session:
        session.con.register("bucket_rows", rows)
        session.con.execute(f"CREATE TABLE ids AS SELECT * EXCLUDE (id), id AS {task.identity[0]} FROM bucket_rows")
        new = NewRows.first_of_each(session, task.identity, "(SELECT * FROM ids WHERE NOT known)")
        new.remove_known("(SELECT * FROM ids WHERE known)")
        repeated = f"SELECT file, pos FROM ids i ANTI JOIN {new} n ON n.file = i.file AND n.pos = i.pos WHERE NOT known"
        return scratch_file(session, repeated, task.scratch)


def write_new(task: WriteNew) -> tuple[list[str], Figures]:
    """Write the rows that are new; returns the paths of the files, and figures."""
    with task.access.session() as session:
        staged = f"({' UNION ALL '.join(f'FROM {file.rows}' for file in task.files)})"
        rows = with_arrival_hours(session, staged, [entry for file in task.files for entry in file.hours])
        count: int = session.value(f"SELECT count(*) FROM {rows}")
        if task.repeated is None:
            new = NewRows.first_of_each(session, task.identity, rows)
            if task.known is not None:
                new.remove_known(task.known)
        else:
            query = f"SELECT * FROM {rows} s"
            if task.repeated:
                repeated = f"read_parquet({literals(task.repeated)})"
                query += f" ANTI JOIN {repeated} r ON r.file = s.file AND r.pos = s.pos"
            new = NewRows.of(session, task.identity, query)
        writer = FileWriter(session.con, task.access.io, task.access.location, task.iceberg)
        if task.at is None:
            paths, figures = new.write_changes(writer, task.batch)
        else:
            paths, figures = new.write_rejected(writer, task.at), Figures()
        new.drop()
        return paths, replace(figures, staged=count)
