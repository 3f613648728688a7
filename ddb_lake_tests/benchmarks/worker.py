"""One measured piece of work in a process of its own; prints its figures as JSON. Imports are not in `seconds`."""

from __future__ import annotations

import json
import resource
import sys
import time
from pathlib import Path
from typing import Any

import duckdb
import pyiceberg.catalog.sql  # noqa: F401  # opened on first use: an import, not work

from ddb_lake.config import parse_settings
from ddb_lake.stages.apply import apply_objects
from ddb_lake.stages.lake import Lake, open_lake
from ddb_lake.stages.load import load_export
from ddb_lake_tests.benchmarks.data import KEY, TABLE

_TYPED = (
    "STRUCT(customer STRUCT(S VARCHAR), order_id STRUCT(S VARCHAR), status STRUCT(S VARCHAR), total STRUCT(N VARCHAR),"
    " quantity STRUCT(N VARCHAR), created_at STRUCT(S VARCHAR), address STRUCT(M STRUCT(street STRUCT(S VARCHAR), city"
    " STRUCT(S VARCHAR), zip STRUCT(S VARCHAR), geo STRUCT(M STRUCT(lat STRUCT(N VARCHAR), lon STRUCT(N VARCHAR))))),"
    " tags STRUCT(SS VARCHAR[]), lines STRUCT(L JSON), gift STRUCT(BOOL BOOLEAN), ttl STRUCT(N VARCHAR), note STRUCT(S VARCHAR))"
)
_COLUMNS = (
    "Item.customer.S customer, Item.order_id.S order_id, Item.status.S status, Item.total.N total, Item.quantity.N quantity,"
    " Item.created_at.S created_at, Item.address.M.street.S street, Item.address.M.city.S city, Item.address.M.zip.S zip,"
    " Item.address.M.geo.M.lat.N lat, Item.address.M.geo.M.lon.N lon, Item.tags.SS tags, Item.lines.L lines,"
    " Item.gift.BOOL gift, Item.ttl.N ttl, Item.note.S note"
)


def bare(export: str, target: str) -> dict[str, Any]:
    """DuckDB's typed read_json straight into zstd Parquet: no checks, no discovery, no order."""
    files = f"{export}/AWSDynamoDB/*/data/*.gz"
    read = f"read_json('{files}', format = 'newline_delimited', columns = {{'Item': '{_TYPED}'}})"
    con = duckdb.connect()
    con.execute("SET preserve_insertion_order = false; SET memory_limit = '1GB'")
    started = time.monotonic()
    con.execute(f"COPY (SELECT {_COLUMNS} FROM {read}) TO '{target}' (FORMAT parquet, COMPRESSION zstd)")
    seconds = time.monotonic() - started
    rows = con.execute(
        f"SELECT count(*), count(DISTINCT order_id), sum(total::DECIMAL(38,1)) FROM '{target}'"
    ).fetchone()
    return {"seconds": seconds, "rows": [str(value) for value in rows or ()], "bytes": Path(target).stat().st_size}


def load(export: str, warehouse: str) -> dict[str, Any]:
    """Our load of the same files."""
    with _lake(warehouse) as lake:
        started = time.monotonic()
        load_export(lake, TABLE, export)
        return {"seconds": time.monotonic() - started, **_contents(lake)}


def apply(changes: str, warehouse: str) -> dict[str, Any]:
    """Landed objects into changelog and current."""
    with _lake(warehouse) as lake:
        before = _contents(lake)["bytes"]
        started = time.monotonic()
        result = apply_objects(lake, TABLE, [changes])
        seconds = time.monotonic() - started
        found = _contents(lake)
        current = result.current[TABLE]
        return {
            "seconds": seconds,
            "current": current.seconds,
            "changed": current.changed,
            "rows": found["rows"],
            "bytes": found["bytes"] - before,
        }


def _lake(warehouse: str) -> Any:
    return open_lake(
        parse_settings({"warehouse": warehouse, "tables": [{"name": TABLE, "key": list(KEY)}]}, "benchmark")
    )


def _contents(lake: Lake) -> dict[str, Any]:
    from ddb_lake.stages.query import run_query
    from ddb_lake.stages.status import table_status

    with run_query(lake, f"SELECT count(*), count(DISTINCT order_id), sum(total) FROM {TABLE}") as result:
        rows = [str(value) for batch in result.batches() for row in batch for value in row]
    return {"rows": rows, "bytes": table_status(lake, TABLE).bytes}


if __name__ == "__main__":
    figures = {"bare": bare, "load": load, "apply": apply}[sys.argv[1]](*sys.argv[2:])
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    figures |= {"peak_mb": max(u.ru_maxrss for u in used) / 1024, "cpu": sum(u.ru_utime + u.ru_stime for u in used)}
    print(json.dumps(figures))
