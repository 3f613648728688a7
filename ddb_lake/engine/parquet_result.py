"""The rows of a query as a Parquet file, with exact values.

DuckDB writes HUGEINT (the type of `sum`) as floating-point numbers, TIME WITH TIME ZONE in another zone, and INTERVAL without
microseconds. Such values are cast to types that Parquet keeps.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import duckdb

from ddb_lake.engine.session import Session
from ddb_lake.engine.sql import identifier, literal, unique_names
from ddb_lake.errors import UsageError

_EXACT = {
    "HUGEINT": "DECIMAL(38,0)",
    "UHUGEINT": "DECIMAL(38,0)",
    "TIME WITH TIME ZONE": "VARCHAR",
    "INTERVAL": "VARCHAR",
}
"""The type that keeps each value of a type that a Parquet file of DuckDB does not keep. A number of more digits is an error."""


def write_parquet(session: Session, sql: str, path: Path) -> int:
    """Write the rows of a statement.

    Args:
        session: a session after `engine.read_only.limit_to_files`.
        sql: a statement that `engine.read_only.read_only_statements` accepted, and no EXPLAIN.
        path: the file, one of those that the session may open.

    Returns:
        The number of rows.

    Raises:
        UsageError: the statement is one that cannot be part of another, such as EXPLAIN.
        duckdb.Error: the statement fails, or a number has more than 38 digits.
    """
    rows = f"(\n{sql}\n)"
    try:
        empty = session.con.execute(f"SELECT * FROM {rows} LIMIT 0")
    except duckdb.ParserException as error:
        raise UsageError("the result of this statement is no table", hint="write it as .csv or .json") from error
    names = unique_names([column[0] for column in empty.description], key=str.lower)
    places = [f"c{number}" for number in range(len(names))]
    kinds = [column[1] for column in empty.description]
    columns = zip(places, map(exact_type, kinds), names, strict=True)
    selected = ", ".join(
        f"{place if kind is None else f'CAST({place} AS {kind})'} AS {identifier(name)}"
        for place, kind, name in columns
    )
    query = f"SELECT {selected} FROM {rows} AS r({', '.join(places)})"
    options = "FORMAT parquet, COMPRESSION zstd, USE_TMP_FILE false"  # the session may write this path only
    (count,) = session.con.execute(f"COPY ({query}) TO {literal(str(path))} ({options})").fetchone()
    return int(count)


def exact_type(kind: Any) -> str | None:
    """The type as which a value of a DuckDB type is written; None for the type itself.

    Raises UsageError for a UNION with a value that Parquet does not keep.
    """
    if str(kind) in _EXACT:
        return _EXACT[str(kind)]
    if kind.id not in ("list", "array", "struct", "map", "union"):
        return None
    inner = dict(kind.children)
    size = f"[{inner.pop('size')}]" if kind.id == "array" else "[]"
    exact = {name: exact_type(child) for name, child in inner.items()}
    if not any(exact.values()):
        return None
    if kind.id == "union":
        raise UsageError(f"a value of type {kind} cannot be written as Parquet", hint="cast it, or write .csv or .json")
    types = [written or str(inner[name]) for name, written in exact.items()]
    if kind.id in ("list", "array"):
        return types[0] + size
    if kind.id == "map":
        return f"MAP({', '.join(types)})"
    return f"STRUCT({', '.join(f'{identifier(name)} {written}' for name, written in zip(inner, types, strict=True))})"
