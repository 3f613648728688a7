"""`ddb_lake.open`: the tables of a lake in notebooks and scripts, as DuckDB relations, Arrow, pandas or polars.

This module reads a lake and never writes to it. Values are exact in every form: decimals stay decimals and 64-bit integers
stay integers, also in columns with NULL. A table and a query read no rows before a method requests them.

    import ddb_lake

    with ddb_lake.open("ddb_lake.yaml") as lake:
        orders = lake.table("orders").pandas()
        then = lake.table("orders", as_of="2024-05-14T11:14:20Z").arrow()
        removed = lake.sql("FROM orders_changes WHERE event_name = 'REMOVE'").duckdb()

Errors are those of `ddb_lake.errors`.
"""

from __future__ import annotations

import html
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, replace
from datetime import datetime
from functools import cached_property, partial
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeVar

import pyarrow as pa

from ddb_lake.config import LakeSettings, find_file, load_settings, parse_settings
from ddb_lake.core.layout.table_names import CHANGES, ICEBERG_SUFFIXES, QUARANTINE
from ddb_lake.core.operations.display_text import escape_controls
from ddb_lake.core.operations.library_errors import translate_aws, translate_uncaught
from ddb_lake.core.values.time_text import microseconds, parse_time, time_text
from ddb_lake.engine.read_only import as_relation
from ddb_lake.engine.session import Session, interruptible, translated_errors
from ddb_lake.engine.sql import shown
from ddb_lake.errors import UsageError
from ddb_lake.executors import open_lake
from ddb_lake.lake.catalog import LakeCatalog
from ddb_lake.lake.scan import scan_table
from ddb_lake.pipeline.open_lake import Lake
from ddb_lake.pipeline.read.query import create_views, empty_rows, statement_errors
from ddb_lake.pipeline.read.replay import View, base_of, view
from ddb_lake.pipeline.read.time_travel import past_relations, past_rows

if TYPE_CHECKING:
    from duckdb import DuckDBPyRelation
    from pandas import DataFrame as PandasFrame
    from polars import DataFrame as PolarsFrame

_Result = TypeVar("_Result")

BATCH_ROWS = 10_000
"""The rows of a batch of `LakeTable.batches`, at most."""

_SHOWN_ROWS = 10
_SHOWN_COLUMNS = 50
_SHOWN_CHARACTERS = 100
"""What the HTML of a table shows of it: the first rows, columns, and characters of a value."""


def open(lake: str | os.PathLike[str] | Mapping[str, Any] | LakeSettings | None = None) -> OpenLake:
    """Open a lake for reading. Close it, or use it in a `with` statement.

    Args:
        lake: a configuration file; a folder with one; a warehouse (a folder or an s3:// URI), whose tables come from its
            catalog; or the settings, as a mapping or as `LakeSettings`. By default, the configuration that `ddb-lake` uses
            in this folder.

    Returns:
        The open lake.

    Raises:
        ConfigError: the configuration is wrong, or there is none; or AWS is needed, and there is no Region or no credentials.
        UsageError: the warehouse has no table of a lake.

    Example:
        with ddb_lake.open("s3://bucket/lake") as lake:
            print(lake.tables)
    """
    with _library_errors():
        return OpenLake(_settings(lake))


class OpenLake:
    """An open lake. A table has the lake's state of the moment at which `table`, `changes`, `quarantine` or `sql` was called.

    It is for one thread. Its tables share one DuckDB connection, and each `sql` has another, which stays open as long as the
    lake. After `close`, each method raises UsageError.
    """

    def __init__(self, settings: LakeSettings) -> None:
        self._stack = ExitStack()
        self._opened: Lake | None = self._stack.enter_context(open_lake(settings))
        self._past_tables = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        if self._opened is None:
            return "<OpenLake, closed>"
        return f"<OpenLake {self._opened.catalog.warehouse}>"

    def close(self) -> None:
        """Close the connections. Relations cannot be read any more; Arrow tables and data frames stay valid."""
        self._opened = None
        self._stack.close()

    @property
    def tables(self) -> list[str]:
        """The names of the tables that exist in the lake, sorted."""
        with _library_errors():
            lake = self._lake
            return sorted(table.name for table in lake.settings.tables if lake.current(table.name) is not None)

    def table(self, name: str, as_of: datetime | str | None = None) -> LakeTable:
        """The existing items of a table or of an entity (`app_user`), in typed columns.

        Args:
            name: the table; of an entity, the table's name, `_` and the entity's name.
            as_of: the instant (inclusive), as a datetime or as text in ISO 8601; UTC without a time zone. By default, now.
                The rows are those of `ddb-lake query --as-of`. They are computed when they are first requested.

        Raises:
            ConfigError: the table is not configured.
            UsageError: the lake has no rows of it yet, the instant is before its first export, or an entity is read as of an instant.
        """
        with _library_errors():
            owner = self._lake.settings.owner_of_entity(name)
        if as_of is None:
            return self._iceberg(owner or name, name)
        if owner is not None:
            raise UsageError(
                f"{name} is the table of an entity, which is not computed for an instant here",
                hint=f'lake.sql("SELECT * FROM {name}", as_of=…)',
            )
        as_of_us = _microseconds(as_of)
        with _library_errors():
            seen = view(self._lake, name)
            if seen.table is None or seen.table.current_snapshot() is None:
                raise _absent(name, name)
            base_of(seen, as_of_us)
        self._past_tables += 1
        return LakeTable(name, _Rows(self, partial(self._past, seen, as_of_us, self._past_tables)), as_of_us)

    def changes(self, name: str) -> LakeTable:
        """All distinct change records of a table. It has no rows before the first change is applied."""
        return self._iceberg(name, name + CHANGES, CHANGES)

    def quarantine(self, name: str) -> LakeTable:
        """All quarantine entries of a table, open and discarded. It has no rows if there have never been any."""
        return self._iceberg(name, name + QUARANTINE, QUARANTINE)

    def sql(self, query: str, as_of: datetime | str | None = None) -> LakeTable:
        """A query over the lake, with the names that `ddb-lake query` has, and by the same rule: it only reads.

        It opens no other files than those of the lake's tables.

        Args:
            query: one statement of DuckDB that only reads (SELECT, FROM, WITH, VALUES, DESCRIBE, SUMMARIZE, SHOW). Comments and a
                `;` at its end are allowed.
            as_of: the instant (inclusive) for which the tables are computed, as in `table`. By default, now.

        Raises:
            UsageError: the text is no SQL, is several statements, does more than read, or names what the lake does not have.

        Example:
            lake.sql("SELECT status, count(*) AS orders FROM orders GROUP BY 1").polars()
        """
        as_of_us = None if as_of is None else _microseconds(as_of)
        with _library_errors(), ExitStack() as stack:
            lake = self._lake
            session = stack.enter_context(lake.session())
            relations = {} if as_of_us is None else past_relations(lake, session, query, as_of_us)
            absent = create_views(lake, session, query, relations)
            with statement_errors(lake, absent):
                rows = as_relation(session.con, query)
                session.con.sql(f"SELECT * FROM {rows}")  # binds names and types; no row is read
            self._stack.enter_context(stack.pop_all())
        errors = partial(statement_errors, lake, absent)
        return LakeTable("query", _Rows(self, lambda: (session, rows), errors), as_of_us)

    @property
    def _lake(self) -> Lake:
        if self._opened is None:
            raise UsageError("this lake is closed", hint="open it again by `ddb_lake.open`, and read within its `with`")
        return self._opened

    @cached_property
    def _session(self) -> Session:
        return self._stack.enter_context(self._lake.session())

    def _iceberg(self, name: str, full_name: str, suffix: str = "") -> LakeTable:
        """`suffix`: that of a table with fixed columns, which has no rows before it exists."""
        with _library_errors():
            self._lake.table(name)
            table = self._lake.readable(full_name)
            if table is None and not suffix:
                raise _absent(name, full_name)
            rows = empty_rows(suffix) if table is None else shown(scan_table(table).sql())
        return LakeTable(full_name, _Rows(self, lambda: (self._session, rows)))

    def _past(self, seen: View, as_of_us: int, number: int) -> tuple[Session, str]:
        _, rows = past_rows(self._lake, self._session, seen, as_of_us, number)
        self._session.forget_relations()
        return self._session, shown(f"({rows.sql})")


class _Rows:
    """Where the rows of a table come from: a session and a relation in it, which `find` makes when it is first needed."""

    def __init__(
        self,
        lake: OpenLake,
        find: Callable[[], tuple[Session, str]],
        errors: Callable[[], AbstractContextManager[None]] = nullcontext,
    ) -> None:
        self._lake = lake
        self._find = find
        self._errors = errors

    @cached_property
    def _found(self) -> tuple[Session, str]:
        return self._find()

    @contextmanager
    def reading(self) -> Iterator[tuple[Any, str]]:
        """A connection and the relation. Errors of the block are translated."""
        with _library_errors(), translated_errors(self._lake._lake.settings.memory), self._errors():
            session, relation = self._found
            yield session.cursor(), relation


@dataclass(frozen=True, slots=True, repr=False)
class LakeTable:
    """Rows of an open lake, in no particular order. Each call of a method reads them; a notebook shows the first of them.

    After the lake is closed, each method raises UsageError.

    Attributes:
        name: the table's name in the lake; `query` for the result of `OpenLake.sql`.
        as_of_us: the instant (inclusive) for which the rows are computed, microseconds since the epoch; None for now.
    """

    name: str
    _rows: _Rows
    as_of_us: int | None = None
    _limit: int | None = None

    @property
    def schema(self) -> pa.Schema:
        """The names and types of the columns, as a pyarrow schema."""
        return self._read("*", lambda relation: relation.limit(0).to_arrow_table().schema)

    def count(self) -> int:
        """The number of rows."""
        return int(self._read("count(*)", lambda relation: relation.fetchall()[0][0]))

    def head(self, rows: int = 5) -> LakeTable:
        """The table of at most so many of the rows, any of them. Raises UsageError for a negative number."""
        if rows < 0:
            raise UsageError("`head` takes a number of rows", expected="0 or more", found=rows)
        return replace(self, _limit=rows if self._limit is None else min(rows, self._limit))

    def batches(self, rows: int = BATCH_ROWS) -> Iterator[pa.RecordBatch]:
        """The rows as pyarrow record batches, one after the other, in bounded memory.

        Args:
            rows: the rows of a batch, at most. Raises UsageError if it is less than 1.
        """
        if rows < 1:
            raise UsageError("a batch has rows", expected="1 or more", found=rows)
        return self._batches(rows)

    def duckdb(self) -> DuckDBPyRelation:
        """The rows as a DuckDB relation (`filter`, `aggregate`, `project`…), valid while the lake is open.

        The relation of `OpenLake.sql` cannot write files; `arrow`, `pandas` and `polars` have rows for writers. Errors of the
        relation's own methods are DuckDB's.
        """
        with self._rows.reading() as (con, relation):
            return con.sql(self._select("*", relation))

    def arrow(self) -> pa.Table:
        """The rows as a pyarrow table."""
        return self._read("*", lambda relation: relation.to_arrow_table())

    def pandas(self) -> PandasFrame:
        """The rows as a pandas data frame with Arrow's types, which have NULL, decimals and nested values."""
        import pandas  # start-up time: pandas takes longer to import than the rest of this module

        return self.arrow().to_pandas(types_mapper=pandas.ArrowDtype)

    def polars(self) -> PolarsFrame:
        """The rows as a polars data frame. Raises UsageError if polars is not installed."""
        try:
            import polars  # optional
        except ImportError as error:
            raise UsageError("polars is not installed here", hint="pip install polars") from error
        return polars.from_arrow(self.arrow())

    def __repr__(self) -> str:
        limit = "" if self._limit is None else f", at most {self._limit:,} rows"
        return f"<LakeTable {self._title()}{limit}>"

    def _repr_html_(self) -> str:
        """The first rows as an HTML table, which notebooks show."""
        found = self.head(_SHOWN_ROWS + 1).arrow()
        return _html(self._title(), found)

    def _title(self) -> str:
        return self.name if self.as_of_us is None else f"{self.name} as of {time_text(self.as_of_us)}"

    def _batches(self, rows: int) -> Iterator[pa.RecordBatch]:
        with self._rows.reading() as (con, relation):
            yield from con.sql(self._select("*", relation)).to_arrow_reader(rows)

    def _read(self, columns: str, read: Callable[[DuckDBPyRelation], _Result]) -> _Result:
        with self._rows.reading() as (con, relation):
            return interruptible(con, lambda: read(con.sql(self._select(columns, relation))))

    def _select(self, columns: str, relation: str) -> str:
        rows = relation if self._limit is None else f"(SELECT * FROM {relation} LIMIT {self._limit})"
        return f"SELECT {columns} FROM {rows}"


@contextmanager
def _library_errors() -> Iterator[None]:
    """Translate errors of AWS, catalogs and files."""
    try:
        yield
    except Exception as error:
        translated = translate_aws(error) or translate_uncaught(error)
        if translated is None:
            raise
        raise translated from error


def _absent(name: str, full_name: str) -> UsageError:
    return UsageError(f"the lake has no {full_name} yet", hint=f"`ddb-lake status {name}` shows what it has")


def _settings(lake: str | os.PathLike[str] | Mapping[str, Any] | LakeSettings | None) -> LakeSettings:
    if isinstance(lake, LakeSettings):
        return lake
    if isinstance(lake, Mapping):
        return parse_settings(dict(lake), "ddb_lake.open")
    if lake is None:
        return load_settings(find_file(Path.cwd()))
    place = os.fspath(lake)
    if "://" in place:
        return _discovered(place)
    path = Path(place).expanduser()
    if (path / "catalog.db").is_file():
        return _discovered(str(path))
    return load_settings(find_file(path) if path.is_dir() else path)


def _discovered(warehouse: str) -> LakeSettings:
    """Settings with the tables that the catalog of a warehouse has. Raises UsageError if it has none."""
    bare = LakeSettings(warehouse=warehouse)
    with LakeCatalog(bare) as catalog:
        names = {name for _, name in catalog.catalog.list_tables(bare.catalog.namespace)}
    tables = [name for name in sorted(names) if not name.endswith(ICEBERG_SUFFIXES[1:])]
    if not tables:
        raise UsageError(f"no table of a lake in the namespace {bare.catalog.namespace}", uri=warehouse)
    return parse_settings({"warehouse": warehouse, "tables": [{"name": name} for name in tables]}, warehouse)


def _microseconds(instant: datetime | str) -> int:
    if isinstance(instant, datetime):
        return microseconds(instant)
    if not isinstance(instant, str):
        raise UsageError(
            "`as_of` is no instant", expected="a datetime or a text in ISO 8601", found=type(instant).__name__
        )
    try:
        return parse_time(instant)
    except (ValueError, OverflowError) as error:
        raise UsageError(str(error)) from error


def _html(title: str, found: pa.Table) -> str:
    """The first rows of a table as HTML that scrolls sideways. Texts of the data are escaped."""
    shown_columns = found.schema.names[:_SHOWN_COLUMNS]
    hidden = len(found.schema.names) - len(shown_columns)
    heads = [
        f"<th>{_escaped(field.name)}<br><small>{_escaped(str(field.type))}</small></th>"
        for field in list(found.schema)[:_SHOWN_COLUMNS]
    ]
    columns = [found.column(place).slice(0, _SHOWN_ROWS).to_pylist() for place in range(len(shown_columns))]
    rows = ["".join(f"<td>{_cell(value)}</td>" for value in row) for row in zip(*columns, strict=True)]
    more = found.num_rows > _SHOWN_ROWS
    notes = [f"the first {_SHOWN_ROWS} rows; <code>count()</code> returns their number"] if more else []
    notes += [f"{hidden:,} more column{'' if hidden == 1 else 's'} in <code>schema</code>"] if hidden else []
    return (
        f"<p><b>{_escaped(title)}</b>{': ' if notes else ''}{'; '.join(notes)}</p>"
        f'<div style="overflow-x: auto"><table><thead><tr>{"".join(heads)}</tr></thead>'
        f"<tbody>{''.join(f'<tr>{row}</tr>' for row in rows)}</tbody></table></div>"
    )


def _cell(value: Any) -> str:
    if value is None:
        return "<i>NULL</i>"
    text = value[: _SHOWN_CHARACTERS // 2 + 1].hex() if isinstance(value, bytes) else str(value)
    return _escaped(text if len(text) <= _SHOWN_CHARACTERS else f"{text[:_SHOWN_CHARACTERS]}…")


def _escaped(text: str) -> str:
    return html.escape(escape_controls(text))
