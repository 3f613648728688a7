"""`ddb_lake.open`: a lake's tables in notebooks and scripts, as DuckDB relations, Arrow, pandas or polars.

A shell over the stages, like the command line: it reads and never writes. Values are exact in every form: decimals
stay decimals and 64-bit integers integers, also beside NULL.
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
from ddb_lake.engine.session import Session, lasting
from ddb_lake.engine.sql import identifier, literal, shown
from ddb_lake.errors import UsageError
from ddb_lake.executors import open_lake
from ddb_lake.lake.catalog import LakeCatalog
from ddb_lake.lake.scan import scan_table
from ddb_lake.lake.state import CurrentState
from ddb_lake.pipeline.open_lake import Lake
from ddb_lake.pipeline.read.dump import dump_items
from ddb_lake.pipeline.read.query import create_views

if TYPE_CHECKING:
    import pandas

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_BATCH_ROWS = 10_000
_LINE_START, _LINE_END = len(b'{"Item":'), -1


def open(lake: str | os.PathLike[str] | Mapping[str, Any] | LakeSettings | None = None) -> OpenLake:
    """Open a lake for reading; close it, or use it in a `with`.

    Args:
        lake: a configuration file, a folder with one, a warehouse (a folder or s3://…, whose tables are found in its
            catalog), or the settings themselves. Default: the configuration that `ddb-lake` would use here.

    Raises:
        ConfigError: the configuration is wrong, or there is none.
    """
    return OpenLake(_settings(lake))


class OpenLake:
    """An open lake. What a table shows is the lake's state when `table` was called."""

    def __init__(self, settings: LakeSettings) -> None:
        self._stack = ExitStack()
        try:
            self._lake: Lake = self._stack.enter_context(open_lake(settings))
            self._session: Session = self._stack.enter_context(self._lake.session())
        except BaseException:
            self._stack.close()
            raise
        self._made = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let go of everything. Relations cannot be read any more; Arrow tables and frames stay."""
        self._stack.close()

    @property
    def tables(self) -> list[str]:
        """The names of the tables that have rows to show, in order."""
        return sorted(t.name for t in self._lake.settings.tables if self._lake.current(t.name) is not None)

    def table(self, name: str, as_of: datetime | str | None = None) -> LakeTable:
        """The living items of a table in typed columns, now or as of an instant (inclusive; UTC without a zone).

        Raises UsageError if the lake has no such table, or knows nothing of that instant.
        """
        self._lake.table(name)
        if as_of is None:
            return self._iceberg(name, name)
        return LakeTable(name, self._session, self._items_as_of(name, _microseconds(as_of)))

    def changes(self, name: str) -> LakeTable:
        """Every distinct change record of a table. Raises UsageError if there are none yet."""
        self._lake.table(name)
        return self._iceberg(name, name + CHANGES)

    def quarantine(self, name: str) -> LakeTable:
        """Records of a table that could not be ingested. Raises UsageError if there never were any."""
        self._lake.table(name)
        return self._iceberg(name, name + QUARANTINE)

    def sql(self, query: str) -> LakeTable:
        """A query over the lake as it is now, each table by its name, as `ddb-lake query` has them."""
        create_views(self._lake, self._session, query)
        return LakeTable("query", self._session, f"({query})")

    def _iceberg(self, name: str, full_name: str) -> LakeTable:
        table = self._lake.catalog.table(full_name)
        if table is None:
            raise UsageError(f"the lake has no {full_name} yet", hint=f"`ddb-lake status {name}` shows what it has")
        rows = shown(scan_table(table).sql())
        return LakeTable(full_name, self._session, rows)

    def _items_as_of(self, name: str, as_of_us: int) -> str:
        """A relation of the items of an instant, in the columns that the table has now."""
        table = self._lake.current(name)
        if table is None:
            raise UsageError(f"the lake has no {name} yet", hint=f"`ddb-lake status {name}` shows what it has")
        self._made += 1
        staged = self._session.folder / f"as-of-{self._made}.parquet"
        _stage(dump_items(self._lake, name, as_of_us), staged)
        projection = Projection(CurrentState.of(table).schema)
        projection.register(self._session.con)
        made = identifier(lasting(f"as_of_{self._made}"))
        query = projection.select(f"read_parquet({literal(str(staged))})")
        self._session.con.execute(f"CREATE TABLE {made} AS {query}")
        staged.unlink()
        return shown(made)


@dataclass(frozen=True, slots=True)
class LakeTable:
    """Rows of an open lake, read when one of the methods asks for them."""

    name: str
    _session: Session
    _rows: str

    def duckdb(self) -> Any:
        """A DuckDB relation, to go on with (`filter`, `aggregate`, `write_parquet`…) while the lake is open."""
        return self._session.con.sql(f"SELECT * FROM {self._rows}")

    def arrow(self) -> pa.Table:
        """A pyarrow table."""
        return self.duckdb().to_arrow_table()

    def pandas(self) -> pandas.DataFrame:
        """A pandas frame with Arrow's types, which have NULLs, decimals and nested values."""
        import pandas

        return self.arrow().to_pandas(types_mapper=pandas.ArrowDtype)

    def polars(self) -> Any:
        """A polars frame. Raises UsageError if polars is not installed."""
        try:
            polars = import_module("polars")
        except ImportError as error:
            raise UsageError("polars is not installed here: pip install polars") from error
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
    """Settings with the tables that a warehouse's catalog names. Raises UsageError if it has none."""
    bare = LakeSettings(warehouse=warehouse)
    with LakeCatalog(bare) as catalog:
        names = {name for _, name in catalog.catalog.list_tables(bare.catalog.namespace)}
    own = [name for name in sorted(names) if not name.endswith(ICEBERG_SUFFIXES[1:])]
    if not own:
        raise UsageError(f"no table of a lake in the namespace {bare.catalog.namespace}", uri=warehouse)
    return parse_settings({"warehouse": warehouse, "tables": [{"name": name} for name in own]}, warehouse)


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
