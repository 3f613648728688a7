"""Peers of applying changes to an Iceberg table: pyiceberg alone, and DuckDB's extension through a REST catalog."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa

from ddb_lake.engine.session import load_extension
from ddb_lake_tests.benchmarks.measuring import measured
from ddb_lake_tests.benchmarks.peers.apply import MATCHED
from ddb_lake_tests.benchmarks.peers.shapes import ROWS, newest_sql, orders_sql, size_of
from ddb_lake_tests.benchmarks.rest import NAMESPACE, rest_catalog, sqlite_catalog

TABLE = (NAMESPACE, "orders")


def _made(export: str, folder: str) -> Any:
    """An empty table with the orders' columns, in a catalog of its own."""
    shutil.rmtree(folder, ignore_errors=True)
    with duckdb.connect() as con:
        schema = con.execute(f"{orders_sql(export)} LIMIT 0").to_arrow_table().schema
    return sqlite_catalog(folder).create_table(TABLE, schema=schema, properties={"format-version": "2"})


def prepare_pyiceberg(export: str, folder: str) -> None:
    """Parquet files in the order of the keys, added to a table."""
    table = _made(export, f"{folder}/pyiceberg")
    with duckdb.connect() as con:
        con.execute("SET memory_limit = '4GB'")
        options = "FORMAT parquet, COMPRESSION zstd, FILE_SIZE_BYTES '128MB'"
        con.execute(f"COPY ({orders_sql(export)}) TO '{folder}/pyiceberg/added' ({options})")
    table.add_files(sorted(map(str, Path(f"{folder}/pyiceberg/added").glob("*.parquet"))))


def apply_pyiceberg(landed: str, folder: str) -> dict[str, Any]:
    """`Table.overwrite` of the changed keys: it reads each file that may hold one, and writes it again without them.

    `Table.upsert` spells a condition for each key and compares row by row: of 5,000 rows it takes two minutes. The
    filter is on `order_id`, which alone is unique here, and on its range, by which files are left out.
    """
    from pyiceberg.expressions import And, GreaterThanOrEqual, In, LessThanOrEqual

    place = f"{folder}/pyiceberg"
    before = size_of(place)
    with duckdb.connect() as con, measured() as took:
        source = con.execute(newest_sql(landed)).to_arrow_table()
        keys = source.column("order_id").to_pylist()
        span = And(GreaterThanOrEqual("order_id", min(keys)), LessThanOrEqual("order_id", max(keys)))
        table = sqlite_catalog(place).load_table(TABLE)
        table.overwrite(source.cast(_nullable(source.schema)), And(span, In("order_id", keys)))
    with _attached(place) as con:
        rows = con.execute(f"SELECT {ROWS} FROM ice.{'.'.join(TABLE)}").fetchone() or ()
    return took.figures(rows, size_of(place) - before)


def _nullable(schema: pa.Schema) -> pa.Schema:
    return pa.schema([field.with_nullable(True) for field in schema])


def prepare_extension(export: str, folder: str) -> None:
    """A table that DuckDB's extension filled."""
    _made(export, f"{folder}/extension")
    with _attached(f"{folder}/extension") as con:
        con.execute("SET memory_limit = '4GB'")
        con.execute(f"INSERT INTO ice.{'.'.join(TABLE)} {orders_sql(export)}")


def apply_extension(landed: str, folder: str) -> dict[str, Any]:
    """MERGE INTO an attached Iceberg table: rows added and position deletes written by DuckDB's extension."""
    place = f"{folder}/extension"
    before = size_of(place)
    with _attached(place) as con:
        with measured() as took:
            con.execute(
                f"MERGE INTO ice.{'.'.join(TABLE)} t USING ({newest_sql(landed)}) s ON {MATCHED}"
                " WHEN MATCHED THEN UPDATE WHEN NOT MATCHED THEN INSERT"
            )
        rows = con.execute(f"SELECT {ROWS} FROM ice.{'.'.join(TABLE)}").fetchone() or ()
    return took.figures(rows, size_of(place) - before)


@contextmanager
def _attached(folder: str) -> Iterator[Any]:
    """A DuckDB connection with the catalog of a folder attached as `ice`."""
    with rest_catalog(folder) as url, duckdb.connect() as con:
        for name in ("httpfs", "avro", "iceberg"):
            load_extension(con, name)
        con.execute(f"ATTACH '' AS ice (TYPE iceberg, ENDPOINT '{url}', AUTHORIZATION_TYPE 'none')")
        yield con
