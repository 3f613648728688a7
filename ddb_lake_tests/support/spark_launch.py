"""A lake's snapshot materialized by Dagster, its work launched by Pipes as a spark-submit job. A process of its own.

`python -m ddb_lake_tests.support.spark_launch MASTER FOLDER` prints one JSON object: what was reported to Dagster.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import dagster as dg

from ddb_lake import DynamoDBLakeComponent
from ddb_lake.config import SparkSettings, parse_settings
from ddb_lake.executors import open_lake
from ddb_lake.orchestration.in_process_daemon import RunOptions, run_job
from ddb_lake.orchestration.sensor import arrivals_sensor
from ddb_lake.pipeline.read.dump import dump_items
from ddb_lake_tests.support.landed_files import order, write_export
from ddb_lake_tests.support.spark_cluster import SETTINGS


def main(master: str, folder: Path) -> dict[str, Any]:
    """Load an export; what the materialization and the run's log say."""
    folder.mkdir()
    (folder / "exports").mkdir()
    (folder / "landing").mkdir()
    write_export(folder / "exports", "orders", [order("ann", number) for number in range(3)])
    settings = {
        "warehouse": str(folder / "lake"),
        "spark": {"master": master, "settings": SETTINGS, "memory": "320MB", "launch": {"type": "process"}},
        "tables": [
            {
                "name": "orders",
                "key": ["customer", "order_id"],
                "engine": "spark",
                "export": {"bucket": str(folder / "exports")},
                "changes": {"uri": str(folder / "landing")},
            }
        ],
    }
    lake = parse_settings(settings, "test")
    spark: SparkSettings = lake.spark
    component = DynamoDBLakeComponent(warehouse=lake.warehouse, spark=spark, tables=lake.tables)
    defs = dg.build_defs_for_component(component)
    sensor = arrivals_sensor(defs)
    job = f"{sensor.name.removesuffix('_arrivals')}_sync"
    with dg.DagsterInstance.ephemeral() as instance:
        run = run_job(defs, instance, job, "test", RunOptions(assets=[dg.AssetKey(["snapshot", "orders"])]))
        logs = [entry.user_message for one in instance.get_runs() for entry in instance.all_logs(one.run_id)]
    with open_lake(lake) as opened:
        items = len(list(dump_items(opened, "orders")))
    return {
        "success": run.success,
        "items": items,
        "rows": run.metadata.get("snapshot/orders", {}).get("dagster/row_count"),
        "progress": sorted({line.partition(":")[0] for line in logs if line.startswith("orders: ")}),
        "logs": [line for line in logs if "rror" in line][-5:],
    }


if __name__ == "__main__":
    print(json.dumps(main(sys.argv[1], Path(sys.argv[2]))), flush=True)
