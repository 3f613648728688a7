"""What one task on Spark does with staged rows: which of them are repeated, and the files of those that are new.

Rows go through the shuffle without their content: an id, its time, and where the row stands.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import pyarrow as pa
from pyiceberg.schema import Schema

from ddb_lake.engine.key_text import key_hash_sql
from ddb_lake.engine.sql import literal, literals
from ddb_lake.lake.file_writer import FileWriter
from ddb_lake.pipeline.apply.deduplication import (
    Figures,
    choose_first,
    forget_chosen,
    leave_out,
    number_objects,
    with_hours,
    write_chosen,
    write_chosen_rejected,
)
from ddb_lake.spark.export_tasks import Place, scratch_file

DDL = (
    "bucket long, known boolean, id string, changed_at timestamp_ntz, _object long, `offset` long, file long, pos long"
)


@dataclass(frozen=True, slots=True)
class StagedFile:
    """A file of staged rows, by its number; `hours`: number and arrival hour (µs) of its objects that count."""

    number: int
    path: str
    hours: tuple[tuple[int, int], ...]

    @property
    def rows(self) -> str:
        """Its rows and where they stand."""
        return (
            f"(SELECT *, {self.number}::BIGINT AS file, file_row_number AS pos"
            f" FROM read_parquet({literal(self.path)}, file_row_number = true))"
        )


@dataclass(frozen=True, slots=True)
class StagedIds:
    """Rows that are staged. `same`: see `pipeline.apply.deduplication.CHANGES`."""

    place: Place
    same: tuple[str, ...]
    file: StagedFile
    buckets: int


@dataclass(frozen=True, slots=True)
class KnownIds:
    """Rows of a table that may be the same as some that are staged."""

    place: Place
    same: tuple[str, ...]
    query: str
    buckets: int


@dataclass(frozen=True, slots=True)
class Repeats:
    """Find the staged rows of a bucket that are not new."""

    place: Place
    same: tuple[str, ...]
    scratch: str


@dataclass(frozen=True, slots=True)
class WriteNew:
    """Staged rows to become files of a table, but for those whose places are in the files `repeated`.

    `repeated` None: that is found out here, against the rows of `known`. `batch`: of the changelog. `at`: for the
    quarantine, when they are put there.
    """

    place: Place
    iceberg: Schema
    same: tuple[str, ...]
    files: tuple[StagedFile, ...]
    repeated: tuple[str, ...] | None
    known: str | None
    batch: int
    at: str | None


def scan_ids(task: StagedIds | KnownIds) -> Iterator[pa.RecordBatch]:
    """The rows' ids, and their buckets."""
    with task.place.session() as session:
        if isinstance(task, StagedIds):
            number_objects(session, task.file.hours)
            rows, place = with_hours(task.file.rows), '_object, "offset", file, pos'
        else:
            nowhere = ", ".join(f'NULL::BIGINT AS "{name}"' for name in ("_object", "offset", "file", "pos"))
            rows, place = task.query, nowhere
        name = task.same[0]
        time = "changed_at" if "changed_at" in task.same else "NULL::TIMESTAMP AS changed_at"
        shown = f"{key_hash_sql(name)} % {task.buckets} AS bucket, {isinstance(task, KnownIds)} AS known"
        yield from session.con.execute(f"SELECT {shown}, {name} AS id, {time}, {place} FROM {rows}").to_arrow_reader(
            10_000
        )


def find_repeated(task: Repeats, _bucket: int, rows: pa.Table) -> str | None:
    """A file of the places (file, pos) of rows that are not new; None if all are."""
    with task.place.session() as session:
        session.con.register("bucket_rows", rows)
        session.con.execute(f"CREATE TABLE ids AS SELECT * EXCLUDE (id), id AS {task.same[0]} FROM bucket_rows")
        choose_first(session, task.same, "(SELECT * FROM ids WHERE NOT known)")
        leave_out(session, task.same, "(SELECT * FROM ids WHERE known)")
        repeated = "SELECT file, pos FROM ids i ANTI JOIN chosen c ON c.file = i.file AND c.pos = i.pos WHERE NOT known"
        return scratch_file(session, repeated, task.scratch)


def write_new(task: WriteNew) -> tuple[list[str], Figures]:
    """Write the rows that are new; gives the files."""
    with task.place.session() as session:
        number_objects(session, [entry for file in task.files for entry in file.hours])
        rows = with_hours(f"({' UNION ALL '.join(f'FROM {file.rows}' for file in task.files)})")
        staged: int = session.value(f"SELECT count(*) FROM {rows}")
        if task.repeated is None:
            choose_first(session, task.same, rows)
            if task.known is not None:
                leave_out(session, task.same, task.known)
        else:
            new = f"SELECT * FROM {rows} s"
            if task.repeated:
                again = f"read_parquet({literals(task.repeated)})"
                new += f" ANTI JOIN {again} r ON r.file = s.file AND r.pos = s.pos"
            session.con.execute(f"CREATE TABLE chosen AS {new}")
        writer = FileWriter(session.con, task.place.io, task.place.location, task.iceberg)
        if task.at is None:
            paths, figures = write_chosen(session, writer, task.batch)
        else:
            paths, figures = write_chosen_rejected(writer, task.at), Figures()
        forget_chosen(session)
        return paths, replace(figures, staged=staged)
