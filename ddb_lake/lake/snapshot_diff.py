"""The rows in which two snapshots of one Iceberg table differ, found by their files.

A row is in a data file, and gone when a position delete names it. So only files and deletes that one of the snapshots lacks are
read. It does not matter how many commits lie between the snapshots, which of them is earlier, or what the commits did.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pyiceberg.schema import Schema
from pyiceberg.table import Table

from ddb_lake.engine.session import Session
from ddb_lake.engine.sql import literals
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


def diff_snapshots(session: Session, table: Table, from_id: int, to_id: int | None = None) -> SnapshotDiff | None:
    """The rows in which a snapshot differs from the newest one; None if their columns differ so that rows cannot be compared.

    Equal rows that were only moved to another file are in neither relation.

    Args:
        session: the session that reads the relations.
        table: the table.
        from_id: the first snapshot, which the table must have.
        to_id: the second snapshot; by default, the newest of `main`.

    Raises:
        DamagedError, CommitConflict: as `lake.scan.scan_table`.
    """
    before, after = scan_table(table, from_id), scan_table(table, to_id)
    if not _has_columns(after.schema, before.schema):
        return None
    schema = after.schema
    kept = set(before.paths) & set(after.paths)
    old_files = [path for path in before.paths if path not in kept]
    new_files = [path for path in after.paths if path not in kept]
    old_deletes = sorted(set(before.deletes) - set(after.deletes))
    new_deletes = sorted(set(after.deletes) - set(before.deletes))
    removed = _union(
        TableScan(schema, before.paths, before.deletes, before.live).sql(old_files),
        _rows_at(session, schema, _positions(new_deletes, old_deletes), kept),
    )
    added = _union(after.sql(new_files), _rows_at(session, schema, _positions(old_deletes, new_deletes), kept))
    if old_files:  # files were rewritten: most of their rows are in other files now
        session.keep("diff_removed", f"SELECT * FROM {removed}")
        session.keep("diff_added", f"SELECT * FROM {added}")
        removed = "(SELECT * FROM diff_removed EXCEPT ALL SELECT * FROM diff_added)"
        added = "(SELECT * FROM diff_added EXCEPT ALL SELECT * FROM diff_removed)"
    return SnapshotDiff(removed, added)


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
    if not named:
        return nothing
    rows = TableScan(schema, tuple(named)).sql(positions=True)
    return (
        f"(SELECT r.* EXCLUDE (_file_path, _pos) FROM {rows} r"
        f" SEMI JOIN ({positions}) p ON p.file_path = r._file_path AND p.pos = r._pos)"
    )
