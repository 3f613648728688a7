"""SQL over the lake: each table by its name, with its changelog and quarantine."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from pyiceberg.table import Table

from ddb_lake.engine.connection import Session
from ddb_lake.engine.sql import identifier
from ddb_lake.errors import UsageError
from ddb_lake.lake.files import live_files, scan_sql
from ddb_lake.stages.lake import Lake

SUFFIXES = ("", "_changes", "_quarantine")
FETCH_ROWS = 2_000


@dataclass(frozen=True, slots=True)
class QueryResult:
    """The columns and types of a query's result, and its rows, to be read once."""

    columns: tuple[str, ...]
    types: tuple[str, ...]
    con: Any

    def batches(self) -> Iterator[list[tuple[Any, ...]]]:
        """The rows, a bounded number at a time."""
        while rows := self.con.fetchmany(FETCH_ROWS):
            yield rows


def table_names(lake: Lake) -> list[str]:
    """The names that can be queried, in order."""
    return sorted(name for name, _ in _tables(lake))


@contextmanager
def run_query(lake: Lake, sql: str) -> Iterator[QueryResult]:
    """Run one query against the lake as it is now. Raises UsageError with DuckDB's message if it is wrong."""
    with lake.session() as session:
        add_views(lake, session)
        try:
            result = session.con.execute(sql)
        except Exception as error:
            if type(error).__module__.startswith(("duckdb", "_duckdb")):
                raise UsageError(str(error)) from error
            raise
        if result is None or not result.description:
            raise UsageError("no statement that gives rows; write a SELECT")
        described = result.description
        yield QueryResult(tuple(d[0] for d in described), tuple(str(d[1]) for d in described), session.con)


def add_views(lake: Lake, session: Session) -> None:
    """A view for each Iceberg table of the lake. It shows the snapshot of this moment."""
    for name, table in _tables(lake):
        live = live_files(table)
        rows = scan_sql(table.schema(), live.paths, [f.file_path for f in live.deletes])
        session.con.execute(f"CREATE OR REPLACE VIEW {identifier(name)} AS SELECT * FROM {rows}")


def _tables(lake: Lake) -> Iterator[tuple[str, Table]]:
    for settings in lake.settings.tables:
        for suffix in SUFFIXES:
            table = lake.catalog.table(settings.name + suffix)
            if table is not None:
                yield settings.name + suffix, table
