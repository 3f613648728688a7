"""The rows of a query as a Parquet file, with exact values (`engine.exact_types`)."""

from __future__ import annotations

from pathlib import Path

from ddb_lake.engine.exact_types import IN_PARQUET, cast_columns, exact_type
from ddb_lake.engine.session import Session
from ddb_lake.engine.sql import literal, unique_names


def write_parquet(session: Session, rows: str, path: Path) -> int:
    """Write the rows of a statement.

    Args:
        session: a session after `engine.read_only.limit_to_files`.
        rows: the relation, from `engine.read_only.as_relation`.
        path: the file, one of those that the session may open.

    Returns:
        The number of rows.

    Raises:
        UsageError: a column's type is not kept exactly.
        duckdb.Error: the statement fails, or a number has more than 38 digits.
    """
    empty = session.con.execute(f"SELECT * FROM {rows} LIMIT 0")
    names = unique_names([column[0] for column in empty.description], key=str.lower)
    kinds = [exact_type(column[1], IN_PARQUET) for column in empty.description]
    options = "FORMAT parquet, COMPRESSION zstd, USE_TMP_FILE false"  # the session may write this path only
    query = f"COPY ({cast_columns(rows, kinds, names)}) TO {literal(str(path))} ({options})"
    return int(session.value(query))
