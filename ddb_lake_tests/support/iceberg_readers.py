"""Three readers of the same Iceberg tables: our own query, pyiceberg's scan, and DuckDB's iceberg extension."""

from __future__ import annotations

from decimal import Decimal
from functools import cache
from typing import Any

import duckdb
import pyarrow as pa
from pyiceberg.schema import Schema
from pyiceberg.types import (
    BinaryType,
    BooleanType,
    DecimalType,
    DoubleType,
    LongType,
    StringType,
    TimestampType,
)

from ddb_lake.engine.session import load_extension
from ddb_lake.engine.sql import identifier, literal, shown
from ddb_lake.lake.scan import scan_table
from ddb_lake.pipeline.open_lake import Lake


def count_rows(lake: Lake, table: str, where: str = "true") -> int:
    """Rows of a table by our own reader; 0 if there is no such table."""
    found = lake.catalog.table(table)
    if found is None:
        return 0
    with lake.session() as session:
        rows = shown(scan_table(found).sql())
        count: int = session.value(f"SELECT count(*) FROM {rows} WHERE {where}")
    return count


def assert_readers_agree(lake: Lake, name: str) -> None:
    """All rows of the table, its changelog and its quarantine are the same through each reader."""
    for suffix in ("", "_changes", "_quarantine"):
        table = lake.catalog.table(name + suffix)
        if table is None or table.current_snapshot() is None:
            continue
        columns = [f.name for f in table.schema().fields]
        scan = scan_table(table)
        for path in scan.paths:
            assert_iceberg_types(path, table.schema())
        with lake.session() as session:
            ours = _rows(session.con, shown(scan.sql()), columns)
        scanned = _plain(table.scan().to_arrow(), columns)
        independent = _rows(_independent(), f"iceberg_scan({literal(table.metadata_location)})", columns)
        assert ours == scanned, f"{name}{suffix}: our query and pyiceberg differ"
        assert ours == independent, f"{name}{suffix}: our query and DuckDB's iceberg extension differ"
        assert len(ours) == scan.live.rows, (
            f"{name}{suffix}: the metadata counts {scan.live.rows} rows, there are {len(ours)}"
        )


PHYSICAL_TYPES = {
    StringType: {"BYTE_ARRAY"},
    LongType: {"INT64"},
    DoubleType: {"DOUBLE"},
    BinaryType: {"BYTE_ARRAY"},
    BooleanType: {"BOOLEAN"},
    TimestampType: {"INT64"},
    DecimalType: {"INT32", "INT64", "FIXED_LEN_BYTE_ARRAY"},
}
"""By Iceberg type, what Parquet may store. Spark refuses another. https://iceberg.apache.org/spec/#parquet"""


def assert_iceberg_types(path: str, schema: Schema) -> None:
    """Each column of a data file has the Parquet type of its Iceberg type, by field id."""
    types = {field_id: type(schema.find_type(field_id)) for field_id in schema.field_ids}
    for element in duckdb.execute(f"SELECT field_id, type, name FROM parquet_schema({literal(path)})").fetchall():
        field_id, physical, name = element
        if physical is not None and field_id in types:
            assert physical in PHYSICAL_TYPES[types[field_id]], f"{path}: {name} is {physical}, not {types[field_id]}"


@cache
def _independent() -> Any:
    """One connection with DuckDB's iceberg extension for all tests of a process: loading it takes long."""
    con = duckdb.connect()
    load_extension(con, "avro")
    load_extension(con, "iceberg")
    return con


def _rows(con: Any, relation: str, columns: list[str]) -> list[str]:
    names = ", ".join(identifier(name) for name in columns)
    return sorted(repr(_comparable(row)) for row in con.execute(f"SELECT {names} FROM {relation}").fetchall())


def _plain(table: pa.Table, columns: list[str]) -> list[str]:
    rows = zip(*(table.column(name).to_pylist() for name in columns), strict=True)
    return sorted(repr(_comparable(row)) for row in rows)


def _comparable(row: tuple[Any, ...]) -> tuple[Any, ...]:
    return tuple(str(value) if isinstance(value, Decimal) else value for value in row)
