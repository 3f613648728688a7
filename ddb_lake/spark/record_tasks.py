"""Tasks that write staged rows on Spark: find those that are not new, and write the others as files of a table.

Duplicates are found without the content of rows: by an id, its time, and the position of the row.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from pyiceberg.schema import Schema

from ddb_lake.engine.key_text import key_hash_sql
from ddb_lake.engine.session import Session
from ddb_lake.engine.sql import literal
from ddb_lake.lake.file_writer import FileWriter, mean_row_bytes
from ddb_lake.pipeline.apply.deduplication import (
    ChangesWrite,
    Figures,
    NewRows,
    RejectedWrite,
    keep_names,
    rows_of_changelog_file,
    with_arrival_hours,
    with_row_positions,
    without_images,
)
from ddb_lake.spark.access import TableAccess
from ddb_lake.spark.scratch import BUCKET, ScratchFolder, ScratchRows, write_buckets, write_rows

IDS = {
    "known": "BOOLEAN",
    "id": "VARCHAR",
    "changed_at": "TIMESTAMP",
    "_object": "BIGINT",
    "offset": "BIGINT",
    "position": "BIGINT",
}
"""The columns of ids. `known`: the id is of a row that the table has, which has no position."""

POSITIONS = {"position": "BIGINT"}
"""The column of the positions of staged rows that are not new."""

_IDS_ROWS = 50_000
"""Ids that pass to a scratch file at once."""


@dataclass(frozen=True, slots=True)
class StagedFile:
    """A file of staged rows.

    Attributes:
        number: its number in the group.
        path: its path.
        hours: number and arrival hour (µs) of those of its objects that count.
        names: of a file that can become a file of the changelog, the names of these objects; none of any other file.
    """

    number: int
    path: str
    hours: tuple[tuple[int, int], ...]
    names: tuple[str, ...] = ()

    def rows(self, session: Session) -> str:
        """A relation of its rows, with the column `position`."""
        if not self.names:
            return with_row_positions(self.path, self.number)
        named = f"objects_of_file_{self.number}"
        keep_names(session, named, {name: number for name, (number, _) in zip(self.names, self.hours, strict=True)})
        return rows_of_changelog_file(self.number, self.path, named)


@dataclass(frozen=True, slots=True)
class Ids:
    """The ids of staged rows, or of rows of a table that may be the same as staged rows.

    Attributes:
        identity: as in `pipeline.apply.deduplication.NewRows`.
        rows: a file of staged rows, or a relation of the table's rows.
    """

    identity: tuple[str, ...]
    rows: StagedFile | str

    def query(self, session: Session) -> str:
        """A query of the columns `IDS`. It is valid until the next call."""
        if isinstance(self.rows, StagedFile):
            rows = with_arrival_hours(session, self.rows.rows(session), self.rows.hours)
            position = '_object, "offset", position'
        else:
            rows = self.rows
            position = ", ".join(f'NULL::BIGINT AS "{name}"' for name in ("_object", "offset", "position"))
        known = f"{isinstance(self.rows, str)} AS known"
        time = "changed_at" if "changed_at" in self.identity else "NULL::TIMESTAMP AS changed_at"
        return f"SELECT {known}, {self.identity[0]} AS id, {time}, {position} FROM {rows}"


@dataclass(frozen=True, slots=True)
class ScanIds:
    """Write ids by bucket."""

    access: TableAccess
    scratch: ScratchFolder
    ids: Ids
    buckets: int


@dataclass(frozen=True, slots=True)
class FindRepeated:
    """Find the staged rows that are not new, of a bucket or of some relations.

    Attributes:
        access: how the task reaches files.
        scratch: the folder for the positions that it finds.
        identity: the columns that are equal in the same rows.
        ids: the ids.
        bucket: the number of the bucket, if they are in buckets.
    """

    access: TableAccess
    scratch: ScratchFolder
    identity: tuple[str, ...]
    ids: tuple[Ids, ...] | ScratchRows
    bucket: int | None = None


@dataclass(frozen=True, slots=True)
class WriteNew:
    """Write staged rows as files of a table, without those that are not new.

    Attributes:
        access: how the task reaches files.
        iceberg: the schema of the table.
        identity: the columns that are equal in the same rows.
        files: the staged rows.
        repeated: the positions of rows that are not new. None: the task finds these rows, among `known`.
        known: a relation of the rows that the table has; None if it has none that could be the same.
        how: the number of the commit of the changelog, or the time of the quarantine; and the erased keys.
        adopts: whether files with names become files of the changelog if all of their rows are new.
    """

    access: TableAccess
    iceberg: Schema
    identity: tuple[str, ...]
    files: tuple[StagedFile, ...]
    repeated: ScratchRows | None
    known: str | None
    how: ChangesWrite | RejectedWrite
    adopts: bool = False


def scan_ids(task: ScanIds) -> str | None:
    """Write the ids of some rows. Returns the name of the file; None if there are no rows."""
    with task.access.session() as session:
        bucket = f"({key_hash_sql('id')} % {task.buckets})::INTEGER AS {BUCKET}"
        ids = session.con.sql(f"SELECT *, {bucket} FROM ({task.ids.query(session)})")
        return write_buckets(ids.to_arrow_reader(_IDS_ROWS), task.scratch)


def find_repeated(task: FindRepeated) -> str | None:
    """Write the positions of staged rows that are not new. Returns the name of the file; None if all are new."""
    with task.access.session() as session:
        columns = ", ".join(f'"{name}" {kind}' for name, kind in IDS.items())
        session.con.execute(f"CREATE TABLE all_ids ({columns})")
        for query in _id_queries(session, task):
            session.con.execute(f"INSERT INTO all_ids {query}")
        session.con.execute(f"CREATE VIEW ids AS SELECT * EXCLUDE (id), id AS {task.identity[0]} FROM all_ids")
        new = NewRows.first_of_each(session, task.identity, "(SELECT * FROM ids WHERE NOT known)")
        new.remove_known("(SELECT * FROM ids WHERE known)")
        repeated = f"SELECT position FROM ids i ANTI JOIN {new} n ON n.position = i.position WHERE NOT known"
        return write_rows(session, repeated, task.scratch)


def _id_queries(session: Session, task: FindRepeated) -> Iterator[str]:
    """Queries of the ids of a task, each valid until the next."""
    if isinstance(task.ids, ScratchRows):
        yield f"SELECT * FROM {task.ids.sql(IDS, task.bucket)}"
    else:
        yield from (one.query(session) for one in task.ids)


def write_new(task: WriteNew) -> tuple[list[str], Figures]:
    """Write the rows that are new; returns the paths of the files, and figures.

    A file that becomes one of the changelog as it is is among the paths.
    """
    access = task.access
    with access.session() as session:
        staged = f"({' UNION ALL BY NAME '.join(f'FROM {file.rows(session)}' for file in task.files)})"
        # files of one share have the same objects
        hours = sorted({entry for file in task.files for entry in file.hours})
        rows = with_arrival_hours(session, staged, hours)
        count: int = session.value(f"SELECT count(*) FROM {rows}")
        writer = FileWriter(session.con, access.io, access.location, task.iceberg)
        if isinstance(task.how, ChangesWrite):
            new = _new_rows(session, task, without_images(rows, task.how.erased))
            refused = new.remove_erased(task.how.erased)
            complete = _complete_files(session, task, new)
            row_bytes = mean_row_bytes(session, [file.path for file in task.files])
            found = rows if new.count() == count else new.of_relation(rows)
            paths, figures = new.write_changes(writer, task.how, found, row_bytes, [file.number for file in complete])
            paths += [file.path for file in complete]
        else:
            new = _new_rows(session, task, rows)
            refused = new.remove_naming_erased(task.how.erased)
            paths, figures = new.write_rejected(writer, task.how), Figures()
        new.drop()
        return paths, replace(figures, staged=count, refused=refused)


def _new_rows(session: Session, task: WriteNew, rows: str) -> NewRows:
    """Those of the staged rows that are not repeated."""
    if task.repeated is not None:
        query = f"SELECT * FROM {rows} s"
        if task.repeated.names:
            query += f" ANTI JOIN {task.repeated.sql(POSITIONS)} r ON r.position = s.position"
        return NewRows.of(session, task.identity, query)
    new = NewRows.first_of_each(session, task.identity, rows)
    if task.known is not None:
        new.remove_known(task.known)
    return new


def _complete_files(session: Session, task: WriteNew, new: NewRows) -> list[StagedFile]:
    """The files that become files of the changelog: each of their rows is new, and is what the changelog gets."""
    if not task.adopts:
        return []
    counts = new.count_by_file()
    files = [file for file in task.files if file.names and file.number in counts]
    return [
        file
        for file in files
        if counts[file.number] == session.value(f"SELECT count(*) FROM read_parquet({literal(file.path)})")
    ]
