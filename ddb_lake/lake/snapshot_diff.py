"""The rows in which two snapshots of one Iceberg table differ, found by their files.

A row is in a data file, and gone when a position delete names it. So only files and deletes that one of the snapshots lacks are
read. It does not matter how many commits lie between the snapshots, which of them is earlier, or what the commits did.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from pyiceberg.schema import Schema
from pyiceberg.table import Table

from ddb_lake.engine.session import Session
from ddb_lake.engine.sql import literals
from ddb_lake.lake.metadata_files import COMPACTION, OPERATION
from ddb_lake.lake.scan import TableScan, scan_table


@dataclass(frozen=True, slots=True)
class SnapshotDiff:
    """The rows in which two snapshots differ, as relations with the columns of the later schema.

    Attributes:
        removed: rows of the first snapshot only.
        added: rows of the second snapshot only.
    """

    removed: str
    added: str


@dataclass(frozen=True, slots=True)
class FileDiff:
    """The files in which two snapshots differ, and those that both have.

    Attributes:
        before: the first snapshot, read by the columns of the second one.
        after: the second snapshot.
    """

    before: TableScan
    after: TableScan

    @property
    def kept(self) -> set[str]:
        """The data files of both."""
        return set(self.before.paths) & set(self.after.paths)

    @property
    def old_files(self) -> list[str]:
        """Data files of the first snapshot only."""
        known = set(self.after.paths)
        return [path for path in self.before.paths if path not in known]

    @property
    def new_files(self) -> list[str]:
        """Data files of the second snapshot only."""
        known = set(self.before.paths)
        return [path for path in self.after.paths if path not in known]

    @property
    def old_deletes(self) -> list[str]:
        """Position delete files of the first snapshot only."""
        return sorted(set(self.before.deletes) - set(self.after.deletes))

    @property
    def new_deletes(self) -> list[str]:
        """Position delete files of the second snapshot only."""
        return sorted(set(self.after.deletes) - set(self.before.deletes))


def diff_snapshots(session: Session, table: Table, from_id: int, to_id: int) -> SnapshotDiff | None:
    """The rows in which two snapshots differ; None if their columns differ so that rows cannot be compared.

    Equal rows that were only moved to another file are in neither relation.

    Args:
        session: the session that reads the relations.
        table: the table.
        from_id: the first snapshot, which the table must have.
        to_id: the second snapshot.

    Raises:
        DamagedError, CommitConflict: as `lake.scan.scan_table`.
    """
    files = diff_files(table, from_id, to_id)
    if files is None:
        return None
    before, after, kept = files.before, files.after, files.kept
    schema, old_files = after.schema, files.old_files
    old_deletes, new_deletes = files.old_deletes, files.new_deletes
    removed = _union(before.sql(old_files), _rows_at(session, schema, _positions(new_deletes, old_deletes), kept))
    added = _union(after.sql(files.new_files), _rows_at(session, schema, _positions(old_deletes, new_deletes), kept))
    if old_files:  # files were rewritten: most of their rows are in other files now
        session.keep("diff_removed", f"SELECT * FROM {removed}")
        session.keep("diff_added", f"SELECT * FROM {added}")
        removed = "(SELECT * FROM diff_removed EXCEPT ALL SELECT * FROM diff_added)"
        added = "(SELECT * FROM diff_added EXCEPT ALL SELECT * FROM diff_removed)"
    return SnapshotDiff(removed, added)


def diff_files(table: Table, from_id: int, to_id: int) -> FileDiff | None:
    """The files in which two snapshots differ; None if their columns differ so that rows cannot be compared.

    A compaction of ours changes no row. If the first commits between the snapshots or the last ones are compactions, the files of
    the snapshots after the former and before the latter are compared.

    Raises:
        DamagedError, CommitConflict: as `lake.scan.scan_table`.
    """
    first_id, last_id = _without_compactions(table, from_id, to_id)
    before, after = scan_table(table, first_id), scan_table(table, last_id)
    schema = _schema_of(table, to_id)
    if not all(_has_columns(schema, other) for other in (_schema_of(table, from_id), before.schema, after.schema)):
        return None
    return FileDiff(replace(before, schema=schema), replace(after, schema=schema))


def _without_compactions(table: Table, from_id: int, to_id: int) -> tuple[int, int]:
    """Two snapshots with the rows of two given ones, and as few compactions between them as possible.

    The first is the last one that compactions alone made from the snapshot `from_id`, and the second is the first one from which
    compactions alone made `to_id`. They are the given ones if the second does not descend from the first.
    """
    line = [to_id]
    while line[0] != from_id:
        snapshot = table.snapshot_by_id(line[0])
        if snapshot is None or snapshot.parent_snapshot_id is None:
            return from_id, to_id
        line.insert(0, snapshot.parent_snapshot_id)
    while len(line) > 1 and _is_compaction(table, line[-1]):
        line.pop()
    while len(line) > 1 and _is_compaction(table, line[1]):
        line.pop(0)
    return line[0], line[-1]


def _is_compaction(table: Table, snapshot_id: int) -> bool:
    snapshot = table.snapshot_by_id(snapshot_id)
    summary = None if snapshot is None else snapshot.summary
    return summary is not None and summary[OPERATION] == COMPACTION


def _schema_of(table: Table, snapshot_id: int) -> Schema:
    """The columns of a snapshot, as `lake.scan.scan_table` reads it."""
    snapshot = table.snapshot_by_id(snapshot_id)
    schema_id = None if snapshot is None else snapshot.schema_id
    return table.schema() if schema_id is None else table.schemas()[schema_id]


def _has_columns(schema: Schema, others: Schema) -> bool:
    """Whether a schema has all columns of another one, with the same field ids, names and types."""
    known = {field.field_id: (field.name, field.field_type) for field in schema.fields}
    return all(known.get(field.field_id) == (field.name, field.field_type) for field in others.fields)


def _union(*relations: str) -> str:
    return f"({' UNION ALL '.join(f'SELECT * FROM {relation}' for relation in relations)})"


def _positions(deletes: Sequence[str], others: Sequence[str]) -> str | None:
    """A query of the positions that some delete files name and others do not; None without files."""
    if not deletes:
        return None
    query = f"SELECT file_path, pos FROM read_parquet({literals(deletes)})"
    return f"{query} EXCEPT SELECT file_path, pos FROM read_parquet({literals(others)})" if others else query


def _rows_at(session: Session, schema: Schema, positions: str | None, files: set[str]) -> str:
    """The rows at some positions, of files of `files` only."""
    nothing = TableScan(schema).sql()
    if positions is None:
        return nothing
    named = [path for (path,) in session.rows(f"SELECT DISTINCT file_path FROM ({positions})") if path in files]
    return rows_at(schema, named, positions) if named else nothing


def rows_at(schema: Schema, files: Sequence[str], positions: str) -> str:
    """A relation of the rows of some data files at some positions. `positions`: a query of (file_path, pos)."""
    rows = TableScan(schema, tuple(files)).sql(positions=True)
    return (
        f"(SELECT r.* EXCLUDE (_file_path, _pos) FROM {rows} r"
        f" SEMI JOIN ({positions}) p ON p.file_path = r._file_path AND p.pos = r._pos)"
    )
