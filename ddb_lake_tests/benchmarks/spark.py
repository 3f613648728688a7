"""Full load and changes: ours on Spark, Spark's own SQL doing the load's parsing, and ours on DuckDB, in turn.

    python -m ddb_lake_tests.benchmarks.spark                 20,000 items, to keep the program working
    python -m ddb_lake_tests.benchmarks.spark 1000000         the figures of the guide

Seconds are of the work, without imports and the start of Spark's JVM, which is printed apart. All end with the same rows.
"""

from __future__ import annotations

import argparse
import json
import os
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

from ddb_lake.config import parse_settings
from ddb_lake.engine.spark.session import open_spark
from ddb_lake.stages.apply import apply_objects
from ddb_lake.stages.lake import open_lake
from ddb_lake.stages.load import load_export
from ddb_lake_tests.benchmarks.data import KEY, TABLE, make_changes, make_export
from ddb_lake_tests.benchmarks.worker import _contents

SETTINGS = {
    "spark.driver.memory": "1g",
    "spark.sql.shuffle.partitions": "4",
    "spark.ui.showConsoleProgress": "false",
    "spark.log.level": "ERROR",
}
_SHAPE = (
    "Item STRUCT<customer STRUCT<S STRING>, order_id STRUCT<S STRING>, status STRUCT<S STRING>, total STRUCT<N STRING>,"
    " quantity STRUCT<N STRING>, created_at STRUCT<S STRING>, address STRUCT<M STRUCT<street STRUCT<S STRING>,"
    " city STRUCT<S STRING>, zip STRUCT<S STRING>, geo STRUCT<M STRUCT<lat STRUCT<N STRING>, lon STRUCT<N STRING>>>>>,"
    " tags STRUCT<SS ARRAY<STRING>>, lines STRUCT<L STRING>, gift STRUCT<BOOL BOOLEAN>, ttl STRUCT<N STRING>,"
    " note STRUCT<S STRING>>"
)
_COLUMNS = (
    "Item.customer.S customer", "Item.order_id.S order_id", "Item.status.S status",
    "CAST(Item.total.N AS DECIMAL(38,1)) total", "CAST(Item.quantity.N AS BIGINT) quantity",
    "Item.created_at.S created_at", "Item.address.M.street.S street", "Item.address.M.city.S city",
    "Item.address.M.zip.S zip", "Item.address.M.geo.M.lat.N lat", "Item.address.M.geo.M.lon.N lon",
    "Item.tags.SS tags", "Item.lines.L lines", "Item.gift.BOOL gift", "CAST(Item.ttl.N AS BIGINT) ttl",
    "Item.note.S note",
)  # fmt: skip


def theirs(master: str, export: str, target: str, _changes: str) -> dict[str, Any]:
    """Spark's text reader, from_json and Parquet writer: no checks, no discovery, no order, nothing rescued."""
    spark, start_s = _started(master)
    from pyspark.sql import functions as f

    started = time.monotonic()
    lines = spark.read.text(f"{export}/AWSDynamoDB/*/data/*.gz")
    rows = lines.select(f.from_json("value", _SHAPE).alias("d")).select("d.*").selectExpr(*_COLUMNS)
    rows.write.mode("overwrite").option("compression", "zstd").parquet(target)
    seconds = time.monotonic() - started
    query = f"SELECT count(*), count(DISTINCT order_id), sum(total), sum(quantity) FROM '{target}/*.parquet'"
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
        rows = _contents(lake)["rows"]
        before = time.monotonic()
        apply_objects(lake, TABLE, [changes])
        applied = time.monotonic() - before
        figures = {"start": start_s, "load": loaded - started, "rows": rows, "apply": applied}
        return {**figures, "rows after": _contents(lake)["rows"]}


def _started(master: str) -> tuple[Any, float]:
    started = time.monotonic()
    spark = open_spark(master, SETTINGS)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        spark.range(2).mapInArrow(lambda batches: batches, "id long").count()  # the Python workers too
    return spark, time.monotonic() - started


WORK: dict[str, Callable[..., dict[str, Any]]] = {
    "Spark's from_json": theirs,
    "ddb-lake on Spark": lambda *a: ours("spark", *a),
    "ddb-lake on DuckDB": lambda *a: ours("duckdb", *a),
}


def main() -> None:
    """Run all three; print seconds and ratios to Spark's own SQL."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("items", type=int, nargs="?", default=20_000)
    parser.add_argument("--changes", type=int, default=0, help="change records; default: a tenth of the items")
    parser.add_argument("--master", default="local[2]")
    parser.add_argument("--folder", type=Path, help="keep the inputs here")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        work = chosen.folder or Path(scratch)
        work.mkdir(parents=True, exist_ok=True)
        export = make_export(work, chosen.items)
        changes = make_changes(work, chosen.items, chosen.changes or chosen.items // 10, 1)
        found: dict[str, dict[str, Any]] = {}
        for name in WORK:
            target = work / "out"
            shutil.rmtree(target, ignore_errors=True)
            command = [sys.executable, "-m", __spec__.name, "--run", name, chosen.master]
            command += [str(export), str(target), str(changes)]
            done = subprocess.run(command, check=True, stdout=subprocess.PIPE)
            found[name] = json.loads(done.stdout.splitlines()[-1])
    _print(chosen.items, found)


def _print(items: int, found: dict[str, dict[str, Any]]) -> None:
    base = found["Spark's from_json"]["load"]
    print(f"{items:,} items; load average {os.getloadavg()[0]:.1f} on {os.cpu_count()} processors")
    print(f"  {'':22}{'start s':>9}{'load s':>9}{'ratio':>8}{'apply s':>9}")
    for name, run in found.items():
        apply = f"{run['apply']:9.2f}" if "apply" in run else " " * 9
        print(f"  {name:22}{run['start']:9.2f}{run['load']:9.2f}{run['load'] / base:8.2f}{apply}")
    assert len({str(run["rows"]) for run in found.values()}) == 1, found
    assert len({str(run["rows after"]) for run in found.values() if "rows after" in run}) == 1, found


if __name__ == "__main__":
    if sys.argv[1:2] == ["--run"]:
        figures = WORK[sys.argv[2]](*sys.argv[3:])
        print(json.dumps(figures), flush=True)
        os._exit(0)
    main()
