"""Run SQL over the lake: each table by its name, with its changelog, ledger, quarantine and kept days.

A statement gets views of the tables that it may read, and of no others: a view takes a read of the table's metadata, and
a lake may have hundreds of tables. It only reads, and opens no other files than those of its views (`engine.read_only`).
`pipeline.read.time_travel` runs a statement over the lake as of an instant.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Container, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType
from typing import Any

import duckdb

from ddb_lake.core.layout.locations import is_within
from ddb_lake.core.layout.table_names import CHANGES, DAILY, OBJECTS, QUARANTINE
from ddb_lake.core.operations.library_errors import translate
from ddb_lake.engine.exact_types import cast_columns, casts_for_python
from ddb_lake.engine.read_only import as_relation, foreign_file, limit_to_files, read_only_statements
from ddb_lake.engine.session import Session, interruptible
from ddb_lake.engine.sql import identifier, shown
from ddb_lake.errors import UsageError
from ddb_lake.lake.scan import TableScan, scan_table
from ddb_lake.lake.schemas import CHANGES_COLUMNS, OBJECTS_COLUMNS, QUARANTINE_COLUMNS, duckdb_type, fixed_schema
from ddb_lake.pipeline.open_lake import Lake
from ddb_lake.pipeline.read.daily_snapshots import daily_snapshots_sql

FETCH_ROWS = 2_000
"""Rows of a batch of a result."""

_FIXED = {CHANGES: CHANGES_COLUMNS, OBJECTS: OBJECTS_COLUMNS, QUARANTINE: QUARANTINE_COLUMNS}
"""Tables that have the same columns in every lake, by suffix."""

_CATALOG_WORDS = re.compile(
    r"\b(show|describe|pragma)\b|\b(information_schema|query|query_table)\b|\b(duckdb|sqlite|pg)_", re.IGNORECASE
)
"""Words of statements that list tables, or that give a table's name as text. With the first three, a name may follow."""

_MISSING = re.compile(r"Table with name (.+?) does not exist")

_WORD = re.compile(r"[a-z0-9_]+")


@dataclass(frozen=True, slots=True)
class ViewRows:
    """The rows that a view shows.

    Attributes:
        sql: the relation.
        files: the files that it reads, besides those in the session's folder.
    """

    sql: str
    files: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class QueryResult:
    """The result of a query. Its rows can be read once, while the `with` of `run_query` is open.

    Attributes:
        columns: the names of the columns.
        types: the DuckDB types of the columns.
    """

    columns: tuple[str, ...]
    types: tuple[str, ...]
    _con: Any

    def batches(self) -> Iterator[list[tuple[Any, ...]]]:
        """The rows, at most `FETCH_ROWS` at a time."""
        while rows := interruptible(self._con, lambda: self._con.fetchmany(FETCH_ROWS)):
            yield rows


@contextmanager
def run_query(lake: Lake, sql: str) -> Iterator[QueryResult]:
    """Run one statement against the lake as it is now.

    Args:
        lake: the open lake.
        sql: one statement of DuckDB that only reads. It sees the snapshots of this moment, no other files than those of
            the lake's tables, and no variables of the process.

    Raises:
        UsageError: the statement is wrong, gives no rows, does more than read, or opens another file. If DuckDB refuses it,
            the message is DuckDB's, and the cause its error.
        DamagedError: a file of the lake is missing or damaged. Other errors of `core.operations.library_errors` apply.

    Example:
        with run_query(lake, "SELECT id, total FROM orders") as result:
            for rows in result.batches():
                ...
    """
    with lake.session() as session:
        yield execute_query(lake, session, sql)


def execute_query(
    lake: Lake, session: Session, sql: str, relations: Mapping[str, ViewRows] = MappingProxyType({})
) -> QueryResult:
    """Create the views that a statement may read in a session, and execute it there.

    Args:
        session: serves this one statement: afterwards it opens no other files.
        relations: rows by name, which take the place of the lake's tables of these names.

    Raises UsageError, DamagedError and others, as `run_query`.
    """
    absent = create_views(lake, session, sql, relations)
    result: Any = None
    with statement_errors(lake, absent):
        for statement in read_only_statements(session.con, sql):
            result = interruptible(session.con, partial(session.con.execute, statement))
        if (
            result is not None
            and result.description
            and (casts := casts_for_python([column[1] for column in result.description]))
        ):
            names = [column[0] for column in result.description]
            exact = cast_columns(as_relation(session.con, sql), casts, names)
            result = interruptible(session.con, partial(session.con.execute, exact))
    if result is None or not result.description:
        raise UsageError("no statement that gives rows", hint="write a SELECT")
    columns, types = zip(*((column[0], str(column[1])) for column in result.description), strict=True)
    return QueryResult(columns, types, session.con)


@contextmanager
def statement_errors(lake: Lake, absent: Mapping[str, UsageError]) -> Iterator[None]:
    """Translate DuckDB's errors about a user's statement.

    Args:
        absent: the reasons why views are missing, by name.
    """
    try:
        yield
    except duckdb.PermissionException as error:
        raise foreign_file(error) from error
    except duckdb.OutOfMemoryException:
        raise  # the session translates it
    except duckdb.Error as error:
        if (missing := table_fault(lake, error, absent)) is not None:
            raise missing from error
        translated = translate(error)
        # a file that the statement itself names is the user's: its fault is an error of the statement
        if translated is not None and (translated.uri is None or is_within(translated.uri, lake.catalog.warehouse)):
            raise translated from error
        raise UsageError(str(error)) from error
    except UnicodeDecodeError as error:  # DuckDB cut its message within a character
        raise UsageError(error.object.decode(errors="replace")) from error


def create_views(
    lake: Lake,
    session: Session,
    sql: str,
    relations: Mapping[str, ViewRows] = MappingProxyType({}),
    written: Sequence[str] = (),
) -> dict[str, UsageError]:
    """Create a view for each table that a statement may read. It shows the snapshot of this moment.

    A changelog, ledger or quarantine that has no table yet is an empty view. `<table>_daily` has all kept days of a table, with
    the day as `_day`. From then on, the session opens no files but those of the views.

    Args:
        relations: rows by name, which take the place of the lake's tables of these names.
        written: files that the session may write besides.

    Returns:
        The reasons why there is no view of kept days, by name. They are no errors yet: the name may be a column's.
    """
    needed = needed_names(lake, sql)
    scans = table_scans(lake, needed - relations.keys())
    views = {name: ViewRows(shown(scan.sql()), scan.files) for name, scan in scans} | dict(relations)
    absent: dict[str, UsageError] = {}
    for settings in lake.settings.tables:
        for suffix in _FIXED:
            name = settings.name + suffix
            if name in needed and name not in views:
                views[name] = ViewRows(empty_rows(suffix))
        name = settings.name + DAILY
        if settings.daily_states is not None and name.lower() in sql.lower():
            try:
                rows, files = daily_snapshots_sql(lake, session, settings.name)
                views[name] = ViewRows(f"({rows})", files)
            except UsageError as error:
                absent[name] = error
    for name, view in views.items():
        session.con.execute(f"CREATE OR REPLACE VIEW {identifier(name)} AS SELECT * FROM {view.sql}")
    limit_to_files(session, [*(file for view in views.values() for file in view.files), *written])
    return absent


def table_scans(lake: Lake, names: Container[str] | None = None) -> Iterator[tuple[str, TableScan]]:
    """Name and scan of the Iceberg tables of the lake that have a commit: their living rows at this moment.

    Args:
        names: the names to look up; by default, all.
    """
    for name in _all_names(lake):
        table = lake.readable(name) if names is None or name in names else None
        if table is not None:
            yield name, scan_table(table)


def needed_names(lake: Lake, sql: str) -> set[str]:
    """The names of Iceberg tables that a statement may read: those in its text, or all if it lists tables.

    The set may be too large (a name in a literal or in a comment counts) but never too small.
    """
    # DuckDB's `get_table_names` is exact where it works. But it binds the statement, so that (in 1.5.5) it raises for
    # JOIN … USING, PIVOT and two statements, and it finds no table for information_schema, duckdb_views() and SHOW.
    mentioned = mentioned_names(lake, sql)
    catalog_words = [match[1] for match in _CATALOG_WORDS.finditer(sql)]
    lists_tables = bool(catalog_words) and not (mentioned and all(catalog_words))
    return set(_all_names(lake)) if lists_tables else mentioned


def mentioned_names(lake: Lake, sql: str) -> set[str]:
    """The names of Iceberg tables in the text of a statement, in any case."""
    text = sql.lower()
    words = set(_WORD.findall(text))
    # a name of letters, digits and _ is a word of its own; any other name may contain characters that end a word
    return {
        name
        for name in _all_names(lake)
        if (name.lower() in words if _WORD.fullmatch(name.lower()) else name.lower() in text)
    }


def table_names(lake: Lake) -> list[str]:
    """The names of the Iceberg tables that exist, sorted. Reads no table's metadata."""
    known = lake.catalog.names()
    return sorted(name for name in _all_names(lake) if lake.catalog.identifier(name)[1] in known)


def near_names(lake: Lake, name: str) -> list[str]:
    """The names of tables that are most like an unknown one, at most three, the best first."""
    lower = {known.lower(): known for known in _all_names(lake)}
    return [lower[known] for known in difflib.get_close_matches(name.lower(), lower, n=3)]


def table_fault(
    lake: Lake, error: duckdb.Error, absent: Mapping[str, UsageError] = MappingProxyType({})
) -> UsageError | None:
    """The error about a table that a statement names without the quotes that its name needs, or that the lake does not have; None
    if DuckDB's error is another one.

    The message says how to quote the name, that the table has no rows yet, or which tables of the lake have a similar name.
    DuckDB's own suggestion may be a table of its catalog.

    Args:
        absent: the reasons why views are missing, by name.
    """
    if isinstance(error, duckdb.ParserException):
        return _unquoted(lake, error)
    found = _MISSING.search(str(error)) if isinstance(error, duckdb.CatalogException) else None
    if found is None:
        return None
    name = found[1]
    if (reason := {known.lower(): reason for known, reason in absent.items()}.get(name.lower())) is not None:
        return reason
    configured = next((table.name for table in lake.settings.tables if table.name.lower() == name.lower()), None)
    if configured is not None:
        steps = f"`ddb-lake load {configured} --export URI`, `ddb-lake apply {configured} URI` or `ddb-lake sync`"
        return UsageError(f"the lake has no rows of {configured} yet; {steps} adds them")
    near = " or ".join(near_names(lake, name))
    suggested = f" Did you mean {near}?" if near else ""
    return UsageError(f"there is no table {name!r}.{suggested} The statement `SHOW TABLES` lists the tables")


def _unquoted(lake: Lake, error: duckdb.ParserException) -> UsageError | None:
    message, _, line = str(error).partition("\n\nLINE ")
    names = [name for name in _all_names(lake) if _WORD.fullmatch(name.lower()) is None]
    bare = [name for name in names if re.search(rf'(?<!")\b{re.escape(name)}\b(?!")', line, re.IGNORECASE)]
    if not bare:
        return None
    name = max(bare, key=len)
    return UsageError(message.strip(), hint=f"write the name of the table {name} in double quotes: {identifier(name)}")


def empty_rows(suffix: str) -> str:
    """The relation, as SQL, that the changelog, the ledger or the quarantine of a table is before it exists: no rows."""
    return shown(TableScan(fixed_schema(_FIXED[suffix])).sql())


def table_columns(lake: Lake, name: str) -> list[tuple[str, str, str]]:
    """Name, type and origin (the attribute's path, from the column's doc) of each column of a table.

    Args:
        name: the table's name, in any case.

    Raises:
        UsageError: there is no table of that name.
    """
    for known in _all_names(lake):
        table = lake.readable(known) if known.lower() == name.lower() else None
        if table is not None:
            fields = table.schema().fields
            return [(field.name, duckdb_type(field.field_type).lower(), field.doc or "") for field in fields]
    raise UsageError(f"there is no table {name!r}; there are: {', '.join(table_names(lake)) or 'none'}")


def _all_names(lake: Lake) -> Iterator[str]:
    return (name for settings in lake.settings.tables for name in settings.iceberg_names)
