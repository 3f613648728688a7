"""Full load and changes: ours on Spark and on DuckDB, Spark's own SQL, and Iceberg's MERGE on Spark, in turn.

    python -m ddb_lake_tests.benchmarks.spark                 20,000 items, to keep the program working
    python -m ddb_lake_tests.benchmarks.spark 2000000 --changes 300000 --repeats 3
                                                              the sizes of the goals, which are printed beside the results
    python -m ddb_lake_tests.benchmarks.spark 10000000 --changes 100000 --cluster
                                                              ours alone, on a standalone cluster, row by row

Seconds are of the work, without imports and the start of Spark's JVM, which is printed apart; CPU seconds are of all processes. The
medians of the repetitions are printed. All end with the same rows. Iceberg's MERGE runs on Spark 3.5 (`make iceberg-spark`), merge-on-read,
on a table that Spark has written from the export; it is left out if that environment is not there.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import re
import shutil
import statistics
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
from ddb_lake_tests.benchmarks.measuring import measured
from ddb_lake_tests.benchmarks.peers.shapes import ORDER
from ddb_lake_tests.benchmarks.peers.spark import spark_type
from ddb_lake_tests.benchmarks.worker import values
from ddb_lake_tests.support.iceberg_spark import ENVIRONMENT, OWN_TABLES, iceberg_spark
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


_DATA_FILES = "AWSDynamoDB/*/data/*.gz"
_ITEM_TYPE = f"Item {spark_type(ORDER)}"
_COUNTED = "count(*), count(DISTINCT order_id), sum(CAST(total AS DECIMAL(38,1))), sum(CAST(quantity AS BIGINT))"
"""What is compared of all."""


def theirs(master: str, export: str, target: str, _changes: str) -> dict[str, Any]:
    """Spark's text reader, from_json and Parquet writer: no checks, no discovery, no order, nothing rescued."""
    spark, start_s = _started(master)
    from pyspark.sql import functions as f

    with measured() as load:
        lines = spark.read.text(f"{export}/{_DATA_FILES}")
        items = lines.select(f.from_json("value", _ITEM_TYPE).alias("d")).select("d.*")
        items.selectExpr(*_COLUMNS).write.mode("overwrite").option("compression", "zstd").parquet(target)
    query = f"SELECT {_COUNTED} FROM '{target}/*.parquet'"
    rows = [str(v) for v in duckdb.execute(query).fetchone() or ()]
    return {"start": start_s, "load": load.seconds, "load CPU": load.cpu, "rows": rows}


def icebergs(master: str, export: str, target: str, changes: str) -> dict[str, Any]:
    """Iceberg on Spark: a table of the export's items, then MERGE INTO with the newest image of each key; no checks, no changelog."""
    table, columns = f"{OWN_TABLES}.orders", ", ".join(_COLUMNS)
    names = [column.split()[-1] for column in _COLUMNS]
    modes = "'write.merge.mode' = 'merge-on-read', 'write.parquet.compression-codec' = 'zstd'"
    record = f"dynamodb STRUCT<ApproximateCreationDateTime BIGINT, NewImage {spark_type(ORDER)}>"
    settings = {"spark.master": master, "spark.driver.memory": "2g", "spark.sql.shuffle.partitions": "4"}
    started = time.monotonic()
    with iceberg_spark(settings) as spark:
        start_s = time.monotonic() - started
        items = f"SELECT from_json(value, '{_ITEM_TYPE}') AS d FROM text.`{export}/{_DATA_FILES}`"
        with measured() as load:
            spark.sql(
                f"CREATE TABLE {table} USING iceberg LOCATION '{target}'"
                f" TBLPROPERTIES ('format-version' = '2', {modes}) AS SELECT {columns} FROM (SELECT d.* FROM ({items}))"
            )
        rows = [str(value) for value in spark.sql(f"SELECT {_COUNTED} FROM {table}")[0]]
        records = f"SELECT from_json(value, '{record}').dynamodb AS d FROM text.`{changes}/*/*/*/*/*.gz`"
        images = f"SELECT {columns}, changed FROM (SELECT d.NewImage AS Item, d.ApproximateCreationDateTime AS changed FROM ({records}))"
        newest = (
            f"SELECT {', '.join(names)} FROM (SELECT *, row_number() OVER (PARTITION BY customer, order_id ORDER BY changed DESC)"
            f" AS place FROM ({images})) WHERE place = 1"
        )
        with measured() as apply:
            spark.sql(
                f"MERGE INTO {table} t USING ({newest}) s ON t.customer = s.customer AND t.order_id = s.order_id"
                " WHEN MATCHED THEN UPDATE SET * WHEN NOT MATCHED THEN INSERT *"
            )
        after = [str(value) for value in spark.sql(f"SELECT {_COUNTED} FROM {table}")[0]]
    figures = {"start": start_s, "load": load.seconds, "load CPU": load.cpu, "rows": rows}
    return {**figures, "apply": apply.seconds, "apply CPU": apply.cpu, "rows after": after}


def ours(engine: str, master: str, export: str, target: str, changes: str) -> dict[str, Any]:
    """Our load of the export, then our apply of the changes."""
    start_s = _started(master)[1] if engine == "spark" else 0.0
    tables = [{"name": TABLE, "key": list(KEY), "engine": engine}]
    spark = {"master": master, "settings": SETTINGS}
    with open_lake(parse_settings({"warehouse": target, "spark": spark, "tables": tables}, "benchmark")) as lake:
        with measured() as load:
            load_export(lake, TABLE, export)
        rows = values(lake, _COUNTED)
        with measured() as apply:
            apply_objects(lake, TABLE, [changes])
        figures = {"start": start_s, "load": load.seconds, "load CPU": load.cpu, "rows": rows}
        return {**figures, "apply": apply.seconds, "apply CPU": apply.cpu, "rows after": values(lake, _COUNTED)}


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


GOALS = {
    ("load", "ddb-lake on DuckDB"): 2.5,
    ("apply", "ddb-lake on DuckDB"): 1.3,
    ("apply", "Iceberg's MERGE"): 1.0,
}
"""The most times of a peer's time that Spark may take with the same cores. They are for 2 million items and 300,000 changes."""

WORK: dict[str, Callable[..., dict[str, Any]]] = {
    "Spark's from_json": theirs,
    "ddb-lake on Spark": lambda *a: ours("spark", *a),
    "ddb-lake on DuckDB": lambda *a: ours("duckdb", *a),
    "Iceberg's MERGE": icebergs,
}
CLUSTERED: dict[str, Callable[..., dict[str, Any]]] = {
    "on the cluster": lambda *a: on_cluster("spark", *a),
    "DuckDB": lambda *a: on_cluster("duckdb", *a),
}


def main() -> None:
    """Run all in turn; print seconds and ratios."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("items", type=int, nargs="?", default=20_000)
    parser.add_argument("--changes", type=int, default=0, help="change records; default: a tenth of the items")
    parser.add_argument("--repeats", type=int, default=1, help="how often each runs, in turn")
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
        runs: dict[str, list[dict[str, Any]]] = {}
        for _ in range(chosen.repeats):
            for name in CLUSTERED if chosen.cluster else _installed():
                target = work / "out"
                shutil.rmtree(target, ignore_errors=True)
                command = [sys.executable, "-m", __spec__.name, "--run", name, master]
                command += [str(export), str(target), str(changes)]
                done = subprocess.run(command, check=True, stdout=subprocess.PIPE)
                runs.setdefault(name, []).append(json.loads(done.stdout.splitlines()[-1]))
    for kind in ("rows", "rows after"):
        assert len({str(run[kind]) for several in runs.values() for run in several if kind in run}) == 1, runs
    found = {name: _median(several) for name, several in runs.items()}
    if chosen.cluster:
        _print_clustered(chosen.items, found)
    else:
        _print(chosen.items, found)


def _installed() -> list[str]:
    """The names of the work whose programs are there."""
    return [name for name in WORK if WORK[name] is not icebergs or (ENVIRONMENT / "bin" / "python").exists()]


def _median(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """The median of each figure; the rows of the first run."""
    first = runs[0]
    return {
        name: statistics.median(run[name] for run in runs) if isinstance(first[name], float) else first[name]
        for name in first
    }


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
    print(f"{items:,} items; load average {os.getloadavg()[0]:.1f} on {os.cpu_count()} processors")
    columns = ("start", "load", "load CPU", "apply", "apply CPU")
    print(f"  {'seconds':22}" + "".join(f"{name:>11}" for name in columns))
    for name, run in found.items():
        print(f"  {name:22}" + "".join(f"{run[column]:11.2f}" if column in run else " " * 11 for column in columns))
    on_spark = found["ddb-lake on Spark"]
    for (work, peer), goal in GOALS.items():
        if peer in found:
            ratio, cpu = (on_spark[figure] / found[peer][figure] for figure in (work, f"{work} CPU"))
            said = "met" if ratio <= goal else "MISSED"
            print(f"  {work}: {ratio:.2f} x {peer} ({cpu:.2f} x its CPU), goal {goal} x: {said}")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--run"]:
        figures = {**WORK, **CLUSTERED}[sys.argv[2]](*sys.argv[3:])
        print(json.dumps(figures), flush=True)
        os._exit(0)
    main()
