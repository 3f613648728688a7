"""SQL over the lake: each table by its name, with its changelog and quarantine.

A statement is shown the tables that it may read, and no others: making a view reads the table's metadata, and a lake may
have hundreds of tables.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Container, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import duckdb
from pyiceberg.table import Table

from ddb_lake.config.locations import is_within
from ddb_lake.core.layout.table_names import (
    CHANGES,
    DAILY,
    ICEBERG_SUFFIXES,
    QUARANTINE,
)
from ddb_lake.core.operations.library_errors import translate
from ddb_lake.engine.session import Session
from ddb_lake.engine.sql import identifier, shown
from ddb_lake.errors import UsageError
from ddb_lake.lake.scan import TableScan, scan_table
from ddb_lake.lake.schemas import CHANGES_COLUMNS, QUARANTINE_COLUMNS, duckdb_type, fixed_schema
from ddb_lake.pipeline.merge.sources import records_sql
from ddb_lake.pipeline.open_lake import Lake
from ddb_lake.pipeline.read.daily_snapshots import daily_snapshots_sql
from ddb_lake.pipeline.read.time_travel import past_rows

_FIXED = {CHANGES: CHANGES_COLUMNS, QUARANTINE: QUARANTINE_COLUMNS}
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


_CATALOG_WORDS = re.compile(
    r"\b(show|describe|pragma)\b|\b(information_schema|query|query_table)\b|\b(duckdb|sqlite|pg)_", re.IGNORECASE
)
"""What reads the list of tables, or names a table otherwise than by its name; after the first three, a name tells which."""

_WORD = re.compile(r"[a-z0-9_]+")


def table_names(lake: Lake) -> list[str]:
    """The names that hold something and can be queried, in order. Reads no table's metadata."""
    known = lake.catalog.names()
    return sorted(name for name in _all_names(lake) if lake.catalog.identifier(name)[1] in known)


def needed_names(lake: Lake, sql: str) -> set[str]:
    """The names that a statement may read: those that stand in its text, or all if it looks at the list of tables.

    Rather one too many than one too few: a name in a literal or in a comment counts.
    """
    found = _named(lake, sql)
    listing = [match[1] for match in _CATALOG_WORDS.finditer(sql)]
    return set(_all_names(lake)) if listing and not (found and all(listing)) else found


def _named(lake: Lake, sql: str) -> set[str]:
    """The names that a statement's text contains."""
    told = sql.lower()
    words = set(_WORD.findall(told))
    return {name for name in _all_names(lake) if _stands_in(name.lower(), told, words)}


def near_names(lake: Lake, name: str) -> list[str]:
    """The names that were probably meant by one that is not there, the likeliest first."""
    lower = {known.lower(): known for known in _all_names(lake)}
    return [lower[known] for known in difflib.get_close_matches(name.lower(), lower, n=3)]


def _all_names(lake: Lake) -> Iterator[str]:
    return (settings.name + suffix for settings in lake.settings.tables for suffix in ICEBERG_SUFFIXES)


def _stands_in(name: str, told: str, words: Container[str]) -> bool:
    """Whether a name is in a text. One of letters, digits and _ would stand there as a word of its own."""
    return name in words if _WORD.fullmatch(name) else name in told


def table_columns(lake: Lake, name: str) -> list[tuple[str, str, str]]:
    """Name, type and origin (the attribute's path, as the column's doc has it) of each column of a table.

    Raises UsageError if there is no table of that name.
    """
    for known in _all_names(lake):
        table = lake.catalog.table(known) if known.lower() == name.lower() else None
        if table is not None:
            fields = table.schema().fields
            return [(field.name, duckdb_type(field.field_type).lower(), field.doc or "") for field in fields]
    raise UsageError(f"there is no table {name!r}; there are: {', '.join(table_names(lake)) or 'none'}")


@contextmanager
def run_query(lake: Lake, sql: str, as_of_us: int | None = None) -> Iterator[QueryResult]:
    """Run one query against the lake as it is now, or as of an instant (inclusive).

    Raises UsageError with DuckDB's message if it is wrong, or if the lake has no state of a named table at that time;
    DamagedError and other errors of `core.operations.library_errors` if a file of the lake cannot be read.
    """
    with lake.session() as session:
        past = {} if as_of_us is None else past_relations(lake, session, sql, as_of_us)
        session.forget_relations()
        add_views(lake, session, sql, past)
        absent = add_day_views(lake, session, sql)
        try:
            result = session.con.execute(sql)
        except duckdb.OutOfMemoryException:
            raise
        except duckdb.Error as error:
            if isinstance(error, duckdb.CatalogException):
                for name, reason in absent.items():
                    if f"Table with name {name} ".lower() in str(error).lower():
                        raise reason from error
            meant = translate(error)
            if meant is not None and (meant.uri is None or is_within(meant.uri, lake.catalog.warehouse)):
                raise meant from error
            raise UsageError(str(error)) from error
        if result is None or not result.description:
            raise UsageError("no statement that gives rows; write a SELECT")
        described = result.description
        yield QueryResult(tuple(d[0] for d in described), tuple(str(d[1]) for d in described), session.con)


def add_views(lake: Lake, session: Session, sql: str, past: Mapping[str, str] = MappingProxyType({})) -> None:
    """A view for each Iceberg table that `sql` may read. It shows the snapshot of this moment, or what `past` has.

    Changelogs and quarantines that are made only once they hold something are empty views until then.
    """
    needed = needed_names(lake, sql)
    found = {**dict(table_relations(lake, needed - past.keys())), **past}
    for settings in lake.settings.tables:
        for suffix, columns in _FIXED.items():
            if settings.name + suffix in needed:
                found.setdefault(settings.name + suffix, TableScan(fixed_schema(columns)).sql())
    for name, rows in found.items():
        session.con.execute(f"CREATE OR REPLACE VIEW {identifier(name)} AS SELECT * FROM {rows}")


def add_day_views(lake: Lake, session: Session, sql: str) -> dict[str, UsageError]:
    """Create a view `<table>_daily` of the kept days, with the day as `_day`, for each table that `sql` may name.

    Returns, by name, the reason why there is no view: the name may also be that of a column.
    """
    absent: dict[str, UsageError] = {}
    for settings in lake.settings.tables:
        name = settings.name + DAILY
        if settings.daily_states is None or name.lower() not in sql.lower():
            continue
        try:
            days = daily_snapshots_sql(lake, session, settings.name)
        except UsageError as error:
            absent[name] = error
        else:
            session.con.execute(f"CREATE OR REPLACE VIEW {identifier(name)} AS {days}")
    return absent


def table_relations(lake: Lake, names: Container[str] | None = None) -> Iterator[tuple[str, str]]:
    """Iceberg tables of the lake (default: all): the name, and a relation of the living rows at this moment."""
    for name, table in _tables(lake, names):
        yield name, shown(scan_table(table).sql())


def past_relations(lake: Lake, session: Session, sql: str, as_of_us: int) -> dict[str, str]:
    """Relations of the tables that `sql` names, and of their changelogs, as they were as of an instant, by name.

    They are made before any view has the name of a table: the replay has relations of its own, of any name.
    """
    found: dict[str, str] = {}
    named = _named(lake, sql)
    for number, settings in enumerate(lake.settings.tables):
        name = settings.name
        if name in named and lake.catalog.table(name) is not None:
            _, rows = past_rows(lake, session, name, as_of_us, number)
            found[name] = shown(f"({rows})")
        changes = lake.changes(name) if name + CHANGES in named else None
        if changes is not None:
            found[name + CHANGES] = f"(FROM {records_sql(changes)} WHERE changed_at <= make_timestamp({as_of_us}))"
    return found


def _tables(lake: Lake, names: Container[str] | None) -> Iterator[tuple[str, Table]]:
    for name in _all_names(lake):
        table = lake.catalog.table(name) if names is None or name in names else None
        if table is not None:
            yield name, table
