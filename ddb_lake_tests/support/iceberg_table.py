"""An Iceberg table of (id, v) to commit to, and its rows through three readers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import duckdb
from pyiceberg.manifest import DataFile
from pyiceberg.schema import Schema
from pyiceberg.table import Table
from pyiceberg.types import LongType, NestedField, StringType

from ddb_lake.config import parse_settings
from ddb_lake.engine.session import load_extension
from ddb_lake.engine.sql import literal
from ddb_lake.lake.catalog import LakeCatalog
from ddb_lake.lake.commit import Commit, Delta
from ddb_lake.lake.file_writer import FileWriter
from ddb_lake.lake.scan import scan_table
from ddb_lake_tests.support.duckdb_wheels import HAS_WHEELS

Rows = list[tuple[int, str]]
SCHEMA = Schema(NestedField(1, "id", LongType(), required=False), NestedField(2, "v", StringType(), required=False))


@contextmanager
def catalog(folder: Path) -> Iterator[LakeCatalog]:
    """The catalog of an empty lake."""
    with LakeCatalog(parse_settings({"warehouse": str(folder), "tables": []}, "test")) as opened:
        yield opened


@cache
def connection() -> Any:
    """One DuckDB connection with the iceberg extension, for all tests of a process: loading it takes long."""
    con = duckdb.connect()
    con.execute("SET preserve_insertion_order = false")
    if HAS_WHEELS:
        load_extension(con, "avro")
        load_extension(con, "iceberg")
    return con


def writer(table: Table) -> FileWriter:
    """A writer of the table's files."""
    return FileWriter.for_table(connection(), table)


def data_files(table: Table, *groups: Sequence[tuple[int, str]]) -> list[DataFile]:
    """A data file for each group of rows, in their order."""
    found = []
    for rows in groups:
        values = ", ".join(f"({number}, {literal(text)})" for number, text in rows)
        query = (
            f"SELECT id::BIGINT AS id, v FROM (VALUES {values}) r(id, v)"
            if rows
            else "SELECT 1::BIGINT AS id, '' AS v WHERE false"
        )
        found += writer(table).write(query, table.metadata)
    return found


def delete_files(table: Table, *places: tuple[str, int]) -> list[DataFile]:
    """A position delete file of the places (path, position); none for no places."""
    values = ", ".join(f"({literal(path)}, {pos})" for path, pos in places) or "(NULL, NULL)"
    kept = f"SELECT file_path, pos::BIGINT AS pos FROM (VALUES {values}) p(file_path, pos) WHERE pos IS NOT NULL"
    return writer(table).write_deletes(kept)


def commit(table: Table, *deltas: Delta | tuple[Delta, str], properties: dict[str, str] | None = None) -> Table:
    """Commit deltas, each to main or to the branch it comes with."""
    made = Commit(table)
    for delta in deltas:
        if isinstance(delta, tuple):
            made.snapshot(*delta)
        else:
            made.snapshot(delta)
    made.set_properties(properties or {})
    return made.run()


def rows(table: Table, snapshot_id: int | None = None) -> Rows:
    """The rows of a snapshot (main's by default) through three readers, which must agree."""
    con = connection()
    scan = scan_table(table, snapshot_id)
    ours = sorted(con.execute(f"SELECT id, v FROM {scan.sql()}").fetchall())
    scanned = table.scan(snapshot_id=snapshot_id).to_arrow()
    theirs = sorted(zip(scanned["id"].to_pylist(), scanned["v"].to_pylist(), strict=True))
    assert ours == theirs, "our query and pyiceberg differ"
    at = f", snapshot_from_id = {snapshot_id}::UBIGINT" if snapshot_id is not None else ""
    if HAS_WHEELS:
        independent = f"SELECT id, v FROM iceberg_scan({literal(table.metadata_location)}{at})"
        assert ours == sorted(con.execute(independent).fetchall()), "our query and DuckDB's extension differ"
    assert len(ours) == scan.live.rows, "the metadata counts other rows"
    return ours


def roll_back(table: Table, commits: int) -> Table:
    """What `rollback_to_snapshot` of another engine does."""
    snapshots = sorted(table.snapshots(), key=lambda s: s.sequence_number or 0)
    with table.manage_snapshots() as manage:
        manage.set_current_snapshot(snapshot_id=snapshots[-1 - commits].snapshot_id)
    return table.refresh()
