"""`ddb_lake.open`: the tables of a lake in notebooks and scripts, as DuckDB relations, Arrow, pandas or polars.

This module reads a lake and never writes to it. Values are exact in every form: decimals stay decimals and 64-bit integers
stay integers, also in columns with NULL.

    import ddb_lake

    with ddb_lake.open("ddb_lake.yaml") as lake:
        orders = lake.table("orders").pandas()
        then = lake.table("orders", as_of="2024-05-14T11:14:20Z").arrow()
        removed = lake.sql("FROM orders_changes WHERE event_name = 'REMOVE'").duckdb()

Errors are those of `ddb_lake.errors`.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import import_module
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import pyarrow as pa
import pyarrow.parquet as pq

from ddb_lake.config import LakeSettings, find_file, load_settings, parse_settings
from ddb_lake.core.layout.table_names import CHANGES, ICEBERG_SUFFIXES, QUARANTINE
from ddb_lake.core.values.time_text import microseconds, parse_time
from ddb_lake.engine.projection import Projection
from ddb_lake.engine.read_only import as_relation
from ddb_lake.engine.session import Session, lasting
from ddb_lake.engine.sql import identifier, literal, shown
from ddb_lake.errors import UsageError
from ddb_lake.executors import open_lake
from ddb_lake.lake.catalog import LakeCatalog
from ddb_lake.lake.scan import scan_table
from ddb_lake.lake.state import CurrentState
from ddb_lake.pipeline.open_lake import Lake
from ddb_lake.pipeline.read.dump import dump_items
from ddb_lake.pipeline.read.query import create_views, statement_errors

if TYPE_CHECKING:
    import pandas

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_BATCH_ROWS = 10_000
_LINE_START, _LINE_END = len(b'{"Item":'), -1


def open(lake: str | os.PathLike[str] | Mapping[str, Any] | LakeSettings | None = None) -> OpenLake:
    """Open a lake for reading. Close it, or use it in a `with` statement.

    Args:
        lake: a configuration file; a folder with one; a warehouse (a folder or an s3:// URI), whose tables come from its
            catalog; or the settings, as a mapping or as `LakeSettings`. By default, the configuration that `ddb-lake` uses
            in this folder.

    Returns:
        The open lake.

    Raises:
        ConfigError: the configuration is wrong, or there is none.
        UsageError: the warehouse has no table of a lake.

    Example:
        with ddb_lake.open("s3://bucket/lake") as lake:
            print(lake.tables)
    """
    return OpenLake(_settings(lake))


class OpenLake:
    """An open lake. A table has the lake's state of the moment at which `table`, `changes`, `quarantine` or `sql` was called.

    It is for one thread: its tables share one DuckDB connection, and each `sql` has another.
    """

    def __init__(self, settings: LakeSettings) -> None:
        self._stack = ExitStack()
        try:
            self._lake: Lake = self._stack.enter_context(open_lake(settings))
            self._session: Session = self._stack.enter_context(self._lake.session())
        except BaseException:
            self._stack.close()
            raise
        self._staged_count = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections. Relations cannot be read any more; Arrow tables and data frames stay valid."""
        self._stack.close()

    @property
    def tables(self) -> list[str]:
        """The names of the tables that exist in the lake, sorted."""
        return sorted(table.name for table in self._lake.settings.tables if self._lake.current(table.name) is not None)

    def table(self, name: str, as_of: datetime | str | None = None) -> LakeTable:
        """The existing items of a table, in typed columns.

        Args:
            name: the table.
            as_of: the instant (inclusive), as a datetime or as text in ISO 8601; UTC without a time zone. By default, now.

        Raises:
            ConfigError: the table is not configured.
            UsageError: the lake has no rows of it yet, or the instant is before its first export.
        """
        self._lake.table(name)
        if as_of is None:
            return self._iceberg(name, name)
        return LakeTable(name, self._session, self._items_as_of(name, _microseconds(as_of)))

    def changes(self, name: str) -> LakeTable:
        """All distinct change records of a table. Raises UsageError if there are none yet."""
        self._lake.table(name)
        return self._iceberg(name, name + CHANGES)

    def quarantine(self, name: str) -> LakeTable:
        """All quarantine entries of a table, open and discarded. Raises UsageError if there have never been any."""
        self._lake.table(name)
        return self._iceberg(name, name + QUARANTINE)

    def sql(self, query: str) -> LakeTable:
        """A query over the lake as it is now, with the names that `ddb-lake query` has.

        It only reads, and opens no other files than those of the lake's tables. It has a DuckDB connection of its own, which
        stays open as long as the lake.

        Args:
            query: a SELECT statement of DuckDB.

        Raises:
            UsageError: the text is no SQL, or does more than read.

        Example:
            lake.sql("SELECT status, count(*) AS orders FROM orders GROUP BY 1").polars()
        """
        session = self._stack.enter_context(self._lake.session())
        absent = create_views(self._lake, session, query)
        with statement_errors(self._lake, absent):
            rows = as_relation(session.con, query)
        return LakeTable("query", session, rows)

    def _iceberg(self, name: str, full_name: str) -> LakeTable:
        table = self._lake.readable(full_name)
        if table is None:
            raise UsageError(f"the lake has no {full_name} yet", hint=f"`ddb-lake status {name}` shows what it has")
        rows = shown(scan_table(table).sql())
        return LakeTable(full_name, self._session, rows)

    def _items_as_of(self, name: str, as_of_us: int) -> str:
        """A relation of the items as of an instant, in the columns that the table has now."""
        table = self._lake.current(name)
        if table is None:
            raise UsageError(f"the lake has no {name} yet", hint=f"`ddb-lake status {name}` shows what it has")
        self._staged_count += 1
        staged = self._session.folder / f"as-of-{self._staged_count}.parquet"
        _stage(dump_items(self._lake, name, as_of_us), staged)
        projection = Projection(CurrentState.of(table).schema)
        projection.register(self._session.con)
        relation = identifier(lasting(f"as_of_{self._staged_count}"))
        query = projection.select(f"read_parquet({literal(str(staged))})")
        self._session.con.execute(f"CREATE TABLE {relation} AS {query}")
        staged.unlink()
        return shown(relation)


@dataclass(frozen=True, slots=True)
class LakeTable:
    """Rows of an open lake. Each call of a method reads them."""

    name: str
    _session: Session
    _rows: str

    def duckdb(self) -> Any:
        """The rows as a DuckDB relation (`filter`, `aggregate`, `project`…), valid while the lake is open.

        The relation of `OpenLake.sql` cannot write files; `arrow`, `pandas` and `polars` have rows for writers.
        """
        return self._session.con.sql(f"SELECT * FROM {self._rows}")

    def arrow(self) -> pa.Table:
        """The rows as a pyarrow table."""
        return self.duckdb().to_arrow_table()

    def pandas(self) -> pandas.DataFrame:
        """The rows as a pandas data frame with Arrow's types, which have NULL, decimals and nested values."""
        import pandas  # start-up time: pandas takes longer to import than the rest of this module

        return self.arrow().to_pandas(types_mapper=pandas.ArrowDtype)

    def polars(self) -> Any:
        """The rows as a polars data frame. Raises UsageError if polars is not installed."""
        try:
            polars = import_module("polars")
        except ImportError as error:
            raise UsageError("polars is not installed here", hint="pip install polars") from error
        return polars.from_arrow(self.arrow())


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
    if isinstance(instant, str):
        try:
            return parse_time(instant)
        except (ValueError, OverflowError) as error:
            raise UsageError(str(error)) from error
    return microseconds(instant)


def _stage(lines: Iterable[bytes], path: Path) -> None:
    """Write the items of a dump to a Parquet file with one column, `item`."""
    schema = pa.schema([("item", pa.large_string())])
    with pq.ParquetWriter(path, schema) as writer:
        for batch in _batches(lines):
            writer.write_batch(pa.record_batch([pa.array(batch, pa.large_string())], schema))


def _batches(lines: Iterable[bytes]) -> Iterator[list[str]]:
    batch: list[str] = []
    for line in lines:
        batch.append(line[_LINE_START:_LINE_END].decode())
        if len(batch) >= _BATCH_ROWS:
            yield batch
            batch = []
    yield batch
