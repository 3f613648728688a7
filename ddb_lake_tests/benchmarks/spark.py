"""Full load and changes: ours on Spark, Spark's own SQL doing the load's parsing, and ours on DuckDB, in turn.

    python -m ddb_lake_tests.benchmarks.spark                 20,000 items, to keep the program working
    python -m ddb_lake_tests.benchmarks.spark 2000000 --changes 300000
                                                              the sizes of the goals, which are printed beside the results
    python -m ddb_lake_tests.benchmarks.spark 10000000 --changes 100000 --cluster
                                                              ours alone, on a standalone cluster, row by row

Seconds are of the work, without imports and the start of Spark's JVM, which is printed apart. All end with the same rows.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
from pyiceberg.table import Table

from ddb_lake.config import parse_settings
from ddb_lake.executors import open_lake
from ddb_lake.lake.scan import scan_table
from ddb_lake.pipeline.apply.apply import apply_objects
from ddb_lake.pipeline.load.load import load_export
from ddb_lake.pipeline.open_lake import Lake
from ddb_lake.spark.session import open_spark
from ddb_lake_tests.benchmarks.data import KEY, TABLE, make_changes, make_export
from ddb_lake_tests.benchmarks.peers.shapes import ORDER
from ddb_lake_tests.benchmarks.peers.spark import spark_type
from ddb_lake_tests.benchmarks.worker import values
from ddb_lake_tests.support.peak_memory import peak_mb
from ddb_lake_tests.support.spark_cluster import cluster

SETTINGS = {
    "spark.driver.memory": "1g",
    "spark.sql.shuffle.partitions": "4",
    "spark.ui.showConsoleProgress": "false",
    "spark.log.level": "ERROR",
}
CLUSTER = {
    "spark.executor.memory": "1g",
    "spark.executor.cores": "1",
    "spark.driver.host": "127.0.0.1",
    "spark.driver.bindAddress": "127.0.0.1",
}
TASK_MEMORY = "1GB"
WORKER_MEMORY = "2g"
_COLUMNS = (
    "Item.customer.S customer", "Item.order_id.S order_id", "Item.status.S status",
    "CAST(Item.total.N AS DECIMAL(38,1)) total", "CAST(Item.quantity.N AS BIGINT) quantity",
    "Item.created_at.S created_at", "Item.address.M.street.S street", "Item.address.M.city.S city",
    "Item.address.M.zip.S zip", "Item.address.M.geo.M.lat.N lat", "Item.address.M.geo.M.lon.N lon",
    "Item.tags.SS tags", "Item.lines.L lines", "Item.gift.BOOL gift", "CAST(Item.ttl.N AS BIGINT) ttl",
    "Item.note.S note",
)  # fmt: skip


_COUNTED = "count(*), count(DISTINCT order_id), sum(total::DECIMAL(38,1)), sum(quantity::BIGINT)"
"""What is compared of all three."""


def theirs(master: str, export: str, target: str, _changes: str) -> dict[str, Any]:
    """Spark's text reader, from_json and Parquet writer: no checks, no discovery, no order, nothing rescued."""
    spark, start_s = _started(master)
    from pyspark.sql import functions as f

    started = time.monotonic()
    lines = spark.read.text(f"{export}/AWSDynamoDB/*/data/*.gz")
    rows = (
        lines.select(f.from_json("value", f"Item {spark_type(ORDER)}").alias("d")).select("d.*").selectExpr(*_COLUMNS)
    )
    rows.write.mode("overwrite").option("compression", "zstd").parquet(target)
    seconds = time.monotonic() - started
    query = f"SELECT {_COUNTED} FROM '{target}/*.parquet'"
    return {"start": start_s, "load": seconds, "rows": [str(v) for v in duckdb.execute(query).fetchone() or ()]}


def ours(engine: str, master: str, export: str, target: str, changes: str) -> dict[str, Any]:
    """Our load of the export, then our apply of the changes."""
    start_s = _started(master)[1] if engine == "spark" else 0.0
    tables = [{"name": TABLE, "key": list(KEY), "engine": engine}]
    spark = {"master": master, "settings": SETTINGS}
    with open_lake(parse_settings({"warehouse": target, "spark": spark, "tables": tables}, "benchmark")) as lake:
        started = time.monotonic()
        load_export(lake, TABLE, export)
        loaded = time.monotonic()
        rows = values(lake, _COUNTED)
        before = time.monotonic()
        apply_objects(lake, TABLE, [changes])
        applied = time.monotonic() - before
        figures = {"start": start_s, "load": loaded - started, "rows": rows, "apply": applied}
        return {**figures, "rows after": values(lake, _COUNTED)}


def on_cluster(engine: str, master: str, export: str, target: str, changes: str) -> dict[str, Any]:
    """As `ours`, with the peaks of memory of this process and of its JVM, and all rows for comparison."""
    settings = {**CLUSTER, **SETTINGS}
    session, start_s = _started(master, settings) if engine == "spark" else (None, 0.0)
    tables = [{"name": TABLE, "key": list(KEY), "engine": engine}]
    spark = {"master": master, "settings": settings, "memory": TASK_MEMORY}
    figures: dict[str, Any] = {"start": start_s}
    with open_lake(parse_settings({"warehouse": target, "spark": spark, "tables": tables}, "benchmark")) as lake:
        started = time.monotonic()
        load_export(lake, TABLE, export)
        figures |= {"load": time.monotonic() - started, "load MB": peak_mb()}
        started = time.monotonic()
        applied = apply_objects(lake, TABLE, [changes])
        took_s = time.monotonic() - started
        current_s = applied.current[TABLE].seconds
        figures |= {"apply": took_s, "of it current": current_s, "apply MB": peak_mb()}
        figures |= {"JVM MB": _jvm_peak_mb(session)}
        figures |= {
            "rows": _hashed(lake.current(TABLE), lake),
            "records": _hashed(lake.changes(TABLE), lake, "EXCLUDE (_batch)"),
        }
    return figures


def _jvm_peak_mb(session: Any) -> float:
    """Greatest resident memory of the driver's JVM; 0 without one, or where /proc does not state it."""
    status = Path(f"/proc/{session.sparkContext._gateway.proc.pid}/status") if session is not None else Path()
    found = re.search(r"VmHWM:\s+(\d+) kB", status.read_text(encoding="ascii")) if status.is_file() else None
    return int(found[1]) / 1024 if found else 0.0


def _hashed(table: Table | None, lake: Lake, but: str = "") -> list[str]:
    """All living rows of a table as counts and a sum of hashes, whatever files they are in."""
    assert table is not None
    rows = scan_table(table).sql()
    with lake.session() as session:
        found = session.rows(
            f"SELECT count(*), count(DISTINCT _key_hash), sum(hash(r)) FROM (SELECT * {but} FROM {rows}) r"
        )[0]
        return [str(value) for value in found]


def _started(master: str, settings: dict[str, str] | None = None) -> tuple[Any, float]:
    started = time.monotonic()
    spark = open_spark(master, settings or SETTINGS)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        spark.range(2).mapInArrow(lambda batches: batches, "id long").count()  # the Python workers too
    return spark, time.monotonic() - started


GOALS = {"load": 2.5, "apply": 1.3}
"""The most times of DuckDB's time that Spark may take with the same cores. They are for 2 million items and 300,000 changes."""

WORK: dict[str, Callable[..., dict[str, Any]]] = {
    "Spark's from_json": theirs,
    "ddb-lake on Spark": lambda *a: ours("spark", *a),
    "ddb-lake on DuckDB": lambda *a: ours("duckdb", *a),
}
CLUSTERED: dict[str, Callable[..., dict[str, Any]]] = {
    "on the cluster": lambda *a: on_cluster("spark", *a),
    "DuckDB": lambda *a: on_cluster("duckdb", *a),
}


def main() -> None:
    """Run all three; print seconds and ratios to Spark's own SQL."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("items", type=int, nargs="?", default=20_000)
    parser.add_argument("--changes", type=int, default=0, help="change records; default: a tenth of the items")
    parser.add_argument("--master", default="local[2]")
    parser.add_argument("--folder", type=Path, help="keep the inputs here")
    parser.add_argument("--cluster", action="store_true", help="ours alone, on a master and two workers of one core")
    chosen = parser.parse_args()
    with contextlib.ExitStack() as stack:
        work = chosen.folder or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        work.mkdir(parents=True, exist_ok=True)
        export = make_export(work, chosen.items)
        changes = make_changes(work, chosen.items, chosen.changes or chosen.items // 10, 1)
        master = stack.enter_context(cluster(work, memory=WORKER_MEMORY)) if chosen.cluster else chosen.master
        found: dict[str, dict[str, Any]] = {}
        for name in CLUSTERED if chosen.cluster else WORK:
            target = work / "out"
            shutil.rmtree(target, ignore_errors=True)
            command = [sys.executable, "-m", __spec__.name, "--run", name, master]
            command += [str(export), str(target), str(changes)]
            done = subprocess.run(command, check=True, stdout=subprocess.PIPE)
            found[name] = json.loads(done.stdout.splitlines()[-1])
    if chosen.cluster:
        _print_clustered(chosen.items, found)
    else:
        _print(chosen.items, found)


def _print_clustered(items: int, found: dict[str, dict[str, Any]]) -> None:
    print(f"{items:,} items; load average {os.getloadavg()[0]:.1f} on {os.cpu_count()} processors")
    columns = ("start", "load", "apply", "of it current", "load MB", "apply MB", "JVM MB")
    print(f"  {'':16}" + "".join(f"{name:>15}" for name in columns))
    for name, run in found.items():
        print(f"  {name:16}" + "".join(f"{run[column]:15.1f}" for column in columns))
    first, second = found.values()
    assert first["rows"] == second["rows"], (first["rows"], second["rows"])
    assert first["records"] == second["records"], (first["records"], second["records"])
    print(f"  equal: {first['rows'][0]} rows of current, {first['records'][0]} records of the changelog")


def _print(items: int, found: dict[str, dict[str, Any]]) -> None:
    base = found["Spark's from_json"]["load"]
    print(f"{items:,} items; load average {os.getloadavg()[0]:.1f} on {os.cpu_count()} processors")
    print(f"  {'':22}{'start s':>9}{'load s':>9}{'ratio':>8}{'apply s':>9}")
    for name, run in found.items():
        apply = f"{run['apply']:9.2f}" if "apply" in run else " " * 9
        print(f"  {name:22}{run['start']:9.2f}{run['load']:9.2f}{run['load'] / base:8.2f}{apply}")
    ours, duckdb_alone = found["ddb-lake on Spark"], found["ddb-lake on DuckDB"]
    for work, goal in GOALS.items():
        ratio = ours[work] / duckdb_alone[work]
        print(f"  {work}: {ratio:.2f} x DuckDB, goal {goal} x: {'met' if ratio <= goal else 'MISSED'}")
    assert len({str(run["rows"]) for run in found.values()}) == 1, found
    assert len({str(run["rows after"]) for run in found.values() if "rows after" in run}) == 1, found


if __name__ == "__main__":
    if sys.argv[1:2] == ["--run"]:
        figures = {**WORK, **CLUSTERED}[sys.argv[2]](*sys.argv[3:])
        print(json.dumps(figures), flush=True)
        os._exit(0)
    main()
