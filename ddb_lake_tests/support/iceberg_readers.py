"""Three readers of the same Iceberg tables: our own query, pyiceberg's scan, and DuckDB's iceberg extension."""

from __future__ import annotations

import json
from decimal import Decimal
from functools import cache
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
from pyiceberg.schema import Schema
from pyiceberg.types import (
    BinaryType,
    BooleanType,
    DecimalType,
    DoubleType,
    IcebergType,
    ListType,
    LongType,
    StringType,
    TimestampType,
)

from ddb_lake.engine.session import load_extension
from ddb_lake.engine.sql import identifier, literal, shown
from ddb_lake.lake.scan import scan_table
from ddb_lake.pipeline.open_lake import Lake
from ddb_lake_tests.support.duckdb_wheels import HAS_WHEELS


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
        assert ours == scanned, f"{name}{suffix}: our query and pyiceberg differ"
        if HAS_WHEELS:
            independent = _rows(duckdb_with_iceberg(), f"iceberg_scan({literal(table.metadata_location)})", columns)
            assert ours == independent, f"{name}{suffix}: our query and DuckDB's iceberg extension differ"
        assert len(ours) == scan.live.rows, (
            f"{name}{suffix}: the metadata counts {scan.live.rows} rows, there are {len(ours)}"
        )


PARQUET_TYPES = {
    StringType: ("BYTE_ARRAY", {"Type": "String"}),
    LongType: ("INT64", {}),
    DoubleType: ("DOUBLE", {"Type": "None"}),
    BinaryType: ("BYTE_ARRAY", {"Type": "None"}),
    BooleanType: ("BOOLEAN", {"Type": "None"}),
    TimestampType: ("INT64", {"Type": "Timestamp", "isAdjustedToUTC": False, "timeUnit": "microseconds"}),
    DecimalType: ("FIXED_LEN_BYTE_ARRAY", {"Type": "Decimal"}),
}
"""By Iceberg type, the physical and logical type in Parquet. A decimal of 38 digits has no smaller physical type. A whole number needs
no logical type.
https://iceberg.apache.org/spec/#parquet
"""


def assert_iceberg_types(path: str, schema: Schema, *, complete: bool = False) -> None:
    """Each column of a file has field id, name and types of its Iceberg type, and NULL only if the Iceberg type permits it.

    DuckDB 2 writes a column as required if it knows that no value is NULL.

    `complete`: the file has all columns, as one does that was written for this schema. Older files may lack some.
    """
    file = pq.ParquetFile(path.removeprefix("file://"))
    leaves = iter(file.schema.column(number) for number in range(len(file.schema.names)))
    lists = set()
    for field in file.schema_arrow:
        expected = schema.find_field(_field_id(field))
        assert field.name == expected.name, f"{path}: {field} is {expected}"
        assert not (field.nullable and expected.required), f"{path}: {field} is {expected}"
        kind, leaf = expected.field_type, next(leaves)
        if isinstance(kind, ListType):
            element = field.type.value_field
            assert _field_id(element) == kind.element_id, f"{path}: {field.name} has other elements"
            assert not (element.nullable and kind.element_required), f"{path}: {field.name} has other elements"
            assert leaf.path == f"{field.name}.list.element", f"{path}: a reader of lists expects other groups"
            kind = kind.element_type
            lists.add(field.name)
        _assert_type(f"{path}: {field.name}", leaf, kind)
    assert next(leaves, None) is None, f"{path} has columns of several leaves"
    if complete:
        assert [_field_id(field) for field in file.schema_arrow] == [field.field_id for field in schema.fields], path
    marked = duckdb.execute(
        "SELECT name FROM parquet_schema(?) WHERE logical_type = 'ListType()' AND converted_type = 'LIST'", [path]
    )
    assert {name for (name,) in marked.fetchall()} == lists, f"{path}: not each list has the logical type"


def _field_id(field: pa.Field) -> int:
    return int((field.metadata or {})[b"PARQUET:field_id"])


def _assert_type(place: str, leaf: Any, kind: IcebergType) -> None:
    physical, logical = PARQUET_TYPES[type(kind)]
    if isinstance(kind, DecimalType):
        assert kind.precision == 38, f"{place}: a decimal of {kind.precision} digits may have another physical type"
        logical = {**logical, "precision": kind.precision, "scale": kind.scale}
    found = json.loads(leaf.logical_type.to_json())
    if isinstance(kind, LongType):
        assert found in ({"Type": "None"}, {"Type": "Int", "bitWidth": 64, "isSigned": True}), f"{place} is {found}"
    assert leaf.physical_type == physical, f"{place} is {leaf.physical_type}, and {kind} needs {physical}"
    assert logical.items() <= found.items(), f"{place} is {found}, and {kind} needs {logical}"


@cache
def duckdb_with_iceberg() -> Any:
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
