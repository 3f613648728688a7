"""A lake's assets materialized by Dagster, their work launched by Pipes as spark-submit jobs. A process of its own.

`python -m ddb_lake_tests.integration.spark_launch MASTER FOLDER` prints one JSON object: what Dagster was told.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import dagster as dg

from ddb_lake import DynamoDBLakeComponent
from ddb_lake.config import SparkSettings, parse_settings
from ddb_lake.orchestration.ticking import run_job
from ddb_lake.stages.dump import dump_items
from ddb_lake.stages.lake import open_lake
from ddb_lake_tests.cli.landed import order, write_changes, write_export
from ddb_lake_tests.integration.spark_cluster import SETTINGS
from ddb_lake_tests.orchestration.folders import RANGE, inserted

HOUR = "2025-02-03-04:00"


def main(master: str, folder: Path) -> dict[str, Any]:
    """Load an export and apply a change object; what the materializations and the job's log say."""
    folder.mkdir()
    (folder / "exports").mkdir()
    write_export(folder / "exports", "orders", [order("ann", number) for number in range(3)])
    write_changes(folder / "landing" / "2025/02/03/04/a", inserted(7), inserted(8))
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
    (sensor,) = defs.sensors or ()
    job = f"{sensor.name.removesuffix('_arrivals')}_sync"
    with dg.DagsterInstance.ephemeral() as instance:
        runs = [
            run_job(defs, instance, job, "test", asset_selection=[dg.AssetKey(["snapshot", "orders"])]),
            run_job(
                defs,
                instance,
                job,
                "test",
                asset_selection=[dg.AssetKey(["changes", "orders"]), dg.AssetKey(["current", "orders"])],
                tags=dict.fromkeys(RANGE, HOUR),
            ),
        ]
        logs = [entry.user_message for run in instance.get_runs() for entry in instance.all_logs(run.run_id)]
    with open_lake(lake) as opened:
        items = len(list(dump_items(opened, "orders")))
    told = {name: dict(figures) for run in runs for name, figures in run.metadata.items()}
    return {
        "success": [run.success for run in runs],
        "items": items,
        "snapshot": told.get("snapshot/orders", {}).get("dagster/row_count"),
        "new": told.get("changes/orders", {}).get("new"),
        "upserted": told.get("current/orders", {}).get("upserted"),
        "progress": sorted({line.partition(":")[0] for line in logs if line.startswith("orders: ")}),
        "logs": [line for line in logs if "rror" in line][-5:],
    }


if __name__ == "__main__":
    print(json.dumps(main(sys.argv[1], Path(sys.argv[2]))), flush=True)
