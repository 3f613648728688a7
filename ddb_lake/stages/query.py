"""SQL over the lake: each table by its name, with its changelog and quarantine."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from pyiceberg.table import Table

from ddb_lake.engine.connection import Session
from ddb_lake.engine.keytext import key_text_sql
from ddb_lake.engine.sql import identifier
from ddb_lake.errors import UsageError
from ddb_lake.lake.files import live_files, scan_sql
from ddb_lake.lake.schemas import CHANGES_COLUMNS, QUARANTINE_COLUMNS, duckdb_type, fixed_schema
from ddb_lake.stages.current import fit_rows
from ddb_lake.stages.lake import Lake
from ddb_lake.stages.relations import records_sql
from ddb_lake.stages.replay import replay

SUFFIXES = ("", "_changes", "_quarantine")
_FIXED = {"_changes": CHANGES_COLUMNS, "_quarantine": QUARANTINE_COLUMNS}
"""Tables that have the same columns in every lake, by suffix."""

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


def table_columns(lake: Lake, name: str) -> list[tuple[str, str, str]]:
    """Name, type and origin (the attribute's path, as the column's doc has it) of each column of a table.

    Raises UsageError if there is no table of that name.
    """
    for known, table in _tables(lake):
        if known.lower() == name.lower():
            fields = table.schema().fields
            return [(field.name, duckdb_type(field.field_type).lower(), field.doc or "") for field in fields]
    raise UsageError(f"there is no table {name!r}; there are: {', '.join(table_names(lake)) or 'none'}")


@contextmanager
def run_query(lake: Lake, sql: str, as_of_us: int | None = None) -> Iterator[QueryResult]:
    """Run one query against the lake as it is now, or as of an instant (inclusive).

    Raises UsageError with DuckDB's message if it is wrong, or if the lake knows nothing of a named table then.
    """
    with lake.session() as session:
        add_views(lake, session)
        if as_of_us is not None:
            add_past_views(lake, session, sql, as_of_us)
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
    """A view for each Iceberg table of the lake. It shows the snapshot of this moment.

    Changelogs and quarantines that are made only once they hold something are empty views until then.
    """
    found = dict(table_relations(lake))
    for settings in lake.settings.tables:
        for suffix, columns in _FIXED.items():
            found.setdefault(settings.name + suffix, scan_sql(fixed_schema(columns), []))
    for name, rows in found.items():
        session.con.execute(f"CREATE OR REPLACE VIEW {identifier(name)} AS SELECT * FROM {rows}")


def table_relations(lake: Lake) -> Iterator[tuple[str, str]]:
    """Each Iceberg table of the lake: its name, and a relation of its living rows at this moment."""
    for name, table in _tables(lake):
        live = live_files(table)
        yield name, scan_sql(table.schema(), live.paths, [f.file_path for f in live.deletes])


def add_past_views(lake: Lake, session: Session, sql: str, as_of_us: int) -> None:
    """Put in place of the tables that `sql` may name, and of their changelogs, what they were as of an instant."""
    told = sql.lower()
    for number, settings in enumerate(lake.settings.tables):
        name = settings.name
        if name.lower() not in told:
            continue
        if lake.catalog.table(name) is not None:
            _add_past_view(lake, session, name, number, as_of_us)
        changes = lake.changes(name)
        if changes is not None:
            rows = f"{records_sql(changes)} WHERE changed_at <= make_timestamp({as_of_us})"
            session.con.execute(f"CREATE OR REPLACE VIEW {identifier(name + '_changes')} AS SELECT * FROM {rows}")


def _add_past_view(lake: Lake, session: Session, name: str, number: int, as_of_us: int) -> None:
    """Only what changed since the base is worked out now; the base's rows are read when they are asked for."""
    found = replay(lake, session, name, as_of_us)
    fit_rows(session, lake.table(name), found.schema)
    outcome, projected = f"past_outcome_{number}", f"past_rows_{number}"
    session.con.execute(f"CREATE OR REPLACE TABLE {outcome} AS SELECT _key FROM outcome")
    session.con.execute(f"CREATE OR REPLACE TABLE {projected} AS SELECT * FROM projected")
    rows = f"SELECT * FROM {projected}"
    if found.base_rows is not None:
        keyed = f"(SELECT *, {key_text_sql(found.schema)} AS _past_key FROM {found.base_rows})"
        unchanged = f"SELECT b.* EXCLUDE (_past_key) FROM {keyed} b ANTI JOIN {outcome} o ON o._key = b._past_key"
        rows = f"{unchanged} UNION ALL BY NAME {rows}"
    session.con.execute(f"CREATE OR REPLACE VIEW {identifier(name)} AS {rows}")


def _tables(lake: Lake) -> Iterator[tuple[str, Table]]:
    for settings in lake.settings.tables:
        for suffix in SUFFIXES:
            table = lake.catalog.table(settings.name + suffix)
            if table is not None:
                yield settings.name + suffix, table
