"""Peers of applying changes outside of Iceberg: DuckDB's own table, a Parquet file that is rewritten, delta-rs.

They take the newest image of each key from rows that DuckDB parsed; none keeps a changelog, removed keys or what it has
applied already.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import duckdb

from ddb_lake_tests.benchmarks.measuring import measured
from ddb_lake_tests.benchmarks.peers.shapes import ROWS, newest_sql, orders_sql, rows_of, size_of

MATCHED = "t.customer = s.customer AND t.order_id = s.order_id"


def prepare_native(export: str, folder: str) -> None:
    """A DuckDB table of the export's orders."""
    Path(f"{folder}/native.duckdb").unlink(missing_ok=True)
    with duckdb.connect(f"{folder}/native.duckdb") as con:
        con.execute("SET memory_limit = '4GB'")
        con.execute(f"CREATE TABLE orders AS {orders_sql(export)}")


def apply_native(landed: str, folder: str) -> dict[str, Any]:
    """DuckDB's MERGE INTO its own table. The file is its alone: no other engine reads it. Bytes: the file's growth."""
    path = Path(f"{folder}/native.duckdb")
    before = path.stat().st_size
    with duckdb.connect(str(path)) as con:
        with measured() as took:
            con.execute(
                f"MERGE INTO orders t USING ({newest_sql(landed)}) s ON {MATCHED}"
                " WHEN MATCHED THEN UPDATE WHEN NOT MATCHED THEN INSERT"
            )
            con.execute("CHECKPOINT")
        rows = con.execute(f"SELECT {ROWS} FROM orders").fetchone() or ()
    return took.figures(rows, max(0, path.stat().st_size - before))


def prepare_rewrite(export: str, folder: str) -> None:
    """A Parquet file of the export's orders."""
    with duckdb.connect() as con:
        con.execute("SET preserve_insertion_order = false; SET memory_limit = '4GB'")
        con.execute(f"COPY ({orders_sql(export)}) TO '{folder}/rewrite.parquet' (FORMAT parquet, COMPRESSION zstd)")


def apply_rewrite(landed: str, folder: str) -> dict[str, Any]:
    """The anti-join that rewrites the whole table, which most lake scripts do."""
    base, target = f"{folder}/rewrite.parquet", f"{folder}/rewritten.parquet"
    with duckdb.connect() as con:
        con.execute("SET preserve_insertion_order = false; SET memory_limit = '1GB'")
        with measured() as took:
            con.execute(f"CREATE TEMP TABLE newest AS {newest_sql(landed)}")
            kept = f"SELECT t.* FROM '{base}' t ANTI JOIN newest s ON {MATCHED}"
            con.execute(f"COPY ({kept} UNION ALL FROM newest) TO '{target}' (FORMAT parquet, COMPRESSION zstd)")
            Path(target).rename(base)
    return took.figures(rows_of(f"'{base}'"), Path(base).stat().st_size)


def prepare_delta(export: str, folder: str) -> None:
    """A Delta table of the export's orders, written in batches in the order of the keys."""
    from deltalake import write_deltalake

    shutil.rmtree(f"{folder}/delta", ignore_errors=True)
    with duckdb.connect() as con:
        con.execute("SET memory_limit = '4GB'")
        batches = con.execute(orders_sql(export)).to_arrow_reader(100_000)
        write_deltalake(f"{folder}/delta", batches, mode="overwrite")


def apply_delta(landed: str, folder: str) -> dict[str, Any]:
    """delta-rs' merge, from rows that DuckDB parsed."""
    from deltalake import DeltaTable

    path = f"{folder}/delta"
    before = size_of(path)
    with duckdb.connect() as con, measured() as took:
        source = con.execute(newest_sql(landed)).to_arrow_table()
        merge = DeltaTable(path).merge(source, MATCHED, source_alias="s", target_alias="t")
        merge.when_matched_update_all().when_not_matched_insert_all().execute()
    return took.figures(rows_of(f"read_parquet({DeltaTable(path).file_uris()})"), size_of(path) - before)
