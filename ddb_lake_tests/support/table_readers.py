"""Readers of Iceberg tables that others made. Each gives all rows of a table, and figures of its columns by its own aggregates.

Values have one form for all readers (`plain`). Figures are computed by the reader, because readers answer `count`, `min` and `max`
from statistics and not from rows, and skip columns that a query does not need.
"""

from __future__ import annotations

import contextlib
import math
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Context, Decimal
from typing import Any, Final
from unittest import mock

import pyarrow as pa
import pyarrow.compute as pc
from pyiceberg.table import Table
from pyiceberg.types import (
    BinaryType,
    BooleanType,
    DecimalType,
    DoubleType,
    IcebergType,
    ListType,
    LongType,
    NestedField,
    StringType,
    TimestampType,
)

from ddb_lake_tests.support.iceberg_readers import duckdb_with_iceberg
from ddb_lake_tests.support.iceberg_spark import VERSIONS, IcebergSpark

Row = tuple[Any, ...]
_WIDE: Final = "DECIMAL(38, {scale})"
_EXACT: Final = Context(prec=100)
_SUMMED: Final = (LongType, DecimalType, DoubleType)
_ORDERED: Final = (LongType, DecimalType, DoubleType, StringType, TimestampType)


@dataclass(frozen=True, slots=True)
class Reader:
    """A reader.

    name:      as in the documentation
    packages:  the packages whose versions it consists of
    rows:      all rows, with the columns in the table's order
    figures:   one row: the result of `expressions`, in their order
    null_lists: whether a list can be NULL; without, it is read as an empty list
    """

    name: str
    packages: tuple[str, ...]
    rows: Callable[[Table], Sequence[Sequence[Any]]]
    figures: Callable[[Table], Sequence[Any]]
    null_lists: bool = True


def expressions(fields: Sequence[NestedField], quote: str, wide: str = _WIDE) -> Iterator[str]:
    """SQL of the figures of each column. `wide`: the type in which sums of exact numbers cannot overflow."""
    yield "count(*)"
    for field in fields:
        name, kind = f"{quote}{field.name}{quote}", field.field_type
        yield f"count({name})"
        if isinstance(kind, _SUMMED):
            scale = kind.scale if isinstance(kind, DecimalType) else 0
            number = name if isinstance(kind, DoubleType) else f"CAST({name} AS {wide.format(scale=scale)})"
            yield f"sum({number})"
        if isinstance(kind, _ORDERED):
            yield f"min({name})"
            yield f"max({name})"


def read_rows(reader: Reader, table: Table, null_lists: bool = True) -> list[str]:
    """All rows of a table in one form, sorted. Without `null_lists`, a list that is NULL is empty."""
    kinds = [field.field_type for field in table.schema().fields]

    def value(found: Any, kind: IcebergType) -> Any:
        return [] if found is None and isinstance(kind, ListType) and not null_lists else plain(found, kind)

    rows = reader.rows(table)
    return sorted(repr(tuple(value(v, kind) for v, kind in zip(row, kinds, strict=True))) for row in rows)


def read_figures(reader: Reader, table: Table, null_lists: bool = True) -> dict[str, Any]:
    """The figures of a table in one form, by expression. Without `null_lists`, lists are not counted."""
    named = list(expressions(table.schema().fields, '"'))
    kinds: list[IcebergType] = [LongType()]
    for field in table.schema().fields:
        kinds.append(LongType())
        kinds += [field.field_type] * (
            isinstance(field.field_type, _SUMMED) + 2 * isinstance(field.field_type, _ORDERED)
        )
    figures = {name: plain(v, kind) for name, v, kind in zip(named, reader.figures(table), kinds, strict=True)}
    lists = [f'count("{f.name}")' for f in table.schema().fields if isinstance(f.field_type, ListType)]
    return {name: figure for name, figure in figures.items() if null_lists or name not in lists}


def plain(value: Any, kind: IcebergType) -> Any:
    """A value of a type in one form: numbers as decimal text, times without a zone. Raises TypeError for another type."""
    if value is None:
        return None
    if isinstance(kind, ListType):
        return [plain(element, kind.element_type) for element in value]
    if isinstance(kind, LongType | DecimalType) and isinstance(value, int | Decimal) and not isinstance(value, bool):
        return f"{Decimal(value).normalize(_EXACT):f}"
    if isinstance(kind, DoubleType) and isinstance(value, float):
        return value if math.isfinite(value) else repr(value)
    if isinstance(kind, TimestampType) and isinstance(value, datetime):
        return (value.astimezone(UTC) if value.tzinfo else value).replace(tzinfo=None).isoformat()
    if isinstance(kind, BinaryType) and isinstance(value, bytes | bytearray):
        return bytes(value)
    if isinstance(kind, StringType) and isinstance(value, bytes):
        return value.decode()
    if isinstance(kind, StringType | BooleanType) and isinstance(value, str | bool):
        return value
    raise TypeError(f"{value!r} is no {kind}")


def _numbered(table: Table, wide: str = _WIDE) -> str:
    """`expressions` with names that differ."""
    return ", ".join(f"{e} AS f{number}" for number, e in enumerate(expressions(table.schema().fields, '"', wide)))


def _columns(table: pa.Table) -> list[Row]:
    return list(zip(*(column.to_pylist() for column in table.columns), strict=True))


# --- pyiceberg


def _pyiceberg_rows(table: Table) -> list[Row]:
    return _columns(table.scan().to_arrow().select([field.name for field in table.schema().fields]))


def _pyiceberg_figures(table: Table) -> list[Any]:
    found: list[Any] = [table.scan().count()]
    for field in table.schema().fields:
        column = table.scan(selected_fields=(field.name,)).to_arrow()[field.name]
        found.append(pc.count(column).as_py())
        kind = field.field_type
        if isinstance(kind, _SUMMED):
            scale = kind.scale if isinstance(kind, DecimalType) else 0
            exact = column if isinstance(kind, DoubleType) else column.cast(pa.decimal256(50, scale))
            found.append(pc.sum(exact).as_py())
        if isinstance(kind, _ORDERED):
            found += pc.min_max(column).as_py().values()
    return found


# --- DuckDB


def _duckdb_query(table: Table, selected: str) -> Any:
    return duckdb_with_iceberg().execute(f"SELECT {selected} FROM iceberg_scan('{table.metadata_location}')").fetchall()


def _duckdb_figures(table: Table) -> Row:
    (row,) = _duckdb_query(table, ", ".join(expressions(table.schema().fields, '"')))
    return tuple(row)


# --- Polars


_POLARS_PLANNER: Final = mock.patch.dict(os.environ, POLARS_ICEBERG_PLANNER="pyiceberg")
"""Without the setting, Polars warns that the package `polars_iceberg` would be faster."""


def _polars_rows(table: Table) -> Any:
    import polars as pl

    with _POLARS_PLANNER:
        return pl.scan_iceberg(table).collect().rows()


def _polars_figures(table: Table) -> Any:
    import polars as pl

    with _POLARS_PLANNER, pl.SQLContext({"t": pl.scan_iceberg(table)}) as context:
        (row,) = context.execute(f"SELECT {_numbered(table)} FROM t").collect().rows()
    return row


# --- chdb


def _chdb_query(table: Table, selected: str) -> pa.Table:
    import chdb

    # It reads no file outside the working folder, and has one type for strings and binary values
    source = f"icebergLocal('{table.location().removeprefix('file://')}')"
    with contextlib.chdir("/"):
        return chdb.query(
            f"SELECT {selected} FROM {source} SETTINGS output_format_arrow_string_as_string = 0", "ArrowTable"
        )


def _chdb_rows(table: Table) -> list[Row]:
    return _columns(_chdb_query(table, ", ".join(f'"{field.name}"' for field in table.schema().fields)))


def _chdb_figures(table: Table) -> Row:
    (row,) = _columns(_chdb_query(table, _numbered(table, "Nullable(Decimal(76, {scale}))")))
    return row


# --- Daft


def _daft_rows(table: Table) -> list[Row]:
    import daft

    return _columns(daft.read_iceberg(table).to_arrow())


def _daft_figures(table: Table) -> Row:
    import daft

    (row,) = _columns(daft.sql(f"SELECT {_numbered(table)} FROM t", t=daft.read_iceberg(table)).to_arrow())
    return row


# --- datafusion


def _datafusion_query(table: Table, selected: str) -> pa.Table:
    from datafusion import SessionContext

    context = SessionContext()
    context.register_table("t", table)
    return context.sql(f"SELECT {selected} FROM t").to_arrow_table()


def _datafusion_rows(table: Table) -> list[Row]:
    return _columns(_datafusion_query(table, "*"))


def _datafusion_figures(table: Table) -> Row:
    (row,) = _columns(_datafusion_query(table, _numbered(table)))
    return row


QUICK: Final = (
    Reader("pyiceberg", ("pyiceberg",), _pyiceberg_rows, _pyiceberg_figures),
    Reader("DuckDB", ("duckdb", "duckdb-extension-iceberg"), lambda table: _duckdb_query(table, "*"), _duckdb_figures),
    Reader("Polars", ("polars",), _polars_rows, _polars_figures),
)
"""Readers that start at once."""

OTHERS: Final = (
    Reader("chdb", ("chdb",), _chdb_rows, _chdb_figures, null_lists=False),
    Reader("Daft", ("daft",), _daft_rows, _daft_figures),
    Reader("DataFusion", ("datafusion", "pyiceberg-core"), _datafusion_rows, _datafusion_figures),
)


def spark_reader(spark: IcebergSpark) -> Reader:
    """Spark with Iceberg's runtime."""

    def query(table: Table, selected: str) -> list[Row]:
        return spark.sql(f"SELECT {selected} FROM {spark.view(table.metadata_location)}")

    def figures(table: Table) -> Row:
        (row,) = query(table, ", ".join(expressions(table.schema().fields, "`")))
        return row

    return Reader(VERSIONS, (), lambda table: query(table, "*"), figures)
