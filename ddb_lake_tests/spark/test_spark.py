"""`engine: spark` on a real standalone cluster: the same lakes as by DuckDB here, and a killed worker changes nothing.

`make test` has the cluster do a small part. More histories: DDB_LAKE_SPARK_HISTORIES=200.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from ddb_lake.pipeline.read.dump import dump_items
from ddb_lake_tests.simulator import CORNERS
from ddb_lake_tests.support.effort import by_effort
from ddb_lake_tests.support.folder_lake import lake
from ddb_lake_tests.support.iceberg_spark import ENVIRONMENT, IcebergSpark
from ddb_lake_tests.support.lake_contents import small_scenario
from ddb_lake_tests.support.spark_cluster import cluster

HISTORIES = os.environ.get("DDB_LAKE_SPARK_HISTORIES", by_effort("0", "2", "4"))
ITEMS = os.environ.get("DDB_LAKE_SPARK_ITEMS", by_effort("2000", "4000", "8000"))


def said_by(module: str, *arguments: str, spark: Path | None = None) -> Any:
    """What a module prints in a process of its own. `spark`: the folder of another PySpark than that of this environment."""
    command = [sys.executable, "-m", f"ddb_lake_tests.support.{module}", *arguments]
    environment = {**os.environ, "PYTHONPATH": str(spark)} if spark is not None else dict(os.environ)
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stderr[-4000:]
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.exhaustive
@pytest.mark.needs("java")
def test_spark_cluster_leaves_the_lakes_that_duckdb_leaves(tmp_path: Path) -> None:
    with cluster(tmp_path) as master:
        work = tmp_path / "work"
        work.mkdir()
        found = said_by("spark_driver", master, str(work), HISTORIES, ITEMS, *by_effort(["--quick"], ["0"]))
    expected = {
        *CORNERS,
        "entities",
        "history 0",
        "spread 0",
        "several tables",
        "scenario 0",
        "killed executors",
        "killed worker",
    }
    assert by_effort({"scenario 0", "killed worker", "entities"}, expected) <= set(found)
    del found["spark"]
    assert [problem for problems in found.values() for problem in problems] == []


@pytest.mark.exhaustive
@pytest.mark.needs("java")
def test_oldest_spark_leaves_a_lake_that_icebergs_runtime_reads(tmp_path: Path, iceberg_spark: IcebergSpark) -> None:
    (spark,) = (ENVIRONMENT / "lib").glob("python*/site-packages")
    found = said_by("spark_driver", "local[2]", str(tmp_path), "0", "0", "0", "--quick", spark=spark)
    assert {"scenario 0", "entities", "spark"} <= set(found)
    assert found.pop("spark") == "3.5.6"
    assert [problem for problems in found.values() for problem in problems] == []
    scenario = small_scenario(0, keys=5, writes=20, objects=4)
    with lake(tmp_path / "scenario-0" / "spark", scenario.table, scenario.key_names) as opened:
        current = opened.current(scenario.table)
        assert current is not None
        items = len(list(dump_items(opened, scenario.table)))
        view = iceberg_spark.view(current.metadata_location)
        assert iceberg_spark.sql(f"SELECT count(*), count(DISTINCT _key_hash) FROM {view}") == [(items, items)]
    assert items > 0


@pytest.mark.exhaustive
@pytest.mark.needs("java")
def test_snapshot_is_materialized_by_a_job_that_pipes_launches(tmp_path: Path) -> None:
    with cluster(tmp_path) as master:
        launched = said_by("spark_launch", master, str(tmp_path / "launched"))
    assert launched["success"], launched["logs"]
    assert (launched["items"], launched["rows"]) == (3, 3)
    assert "orders" in launched["progress"], "the progress of the job is in the log of the run"
