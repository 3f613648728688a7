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

from ddb_lake_tests.simulator import CORNERS
from ddb_lake_tests.support.effort import by_effort
from ddb_lake_tests.support.spark_cluster import cluster

HISTORIES = os.environ.get("DDB_LAKE_SPARK_HISTORIES", by_effort("0", "4"))
ITEMS = os.environ.get("DDB_LAKE_SPARK_ITEMS", by_effort("2000", "8000"))


def said_by(module: str, *arguments: str) -> Any:
    command = [sys.executable, "-m", f"ddb_lake_tests.support.{module}", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-4000:]
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.exhaustive
@pytest.mark.needs("java")
def test_spark_cluster_leaves_the_lakes_that_duckdb_leaves(tmp_path: Path) -> None:
    with cluster(tmp_path) as master:
        work = tmp_path / "work"
        work.mkdir()
        found = said_by("spark_driver", master, str(work), HISTORIES, ITEMS, *by_effort(["--quick"], ["0"]))
    expected = {*CORNERS, "history 0", "spread 0", "several tables", "scenario 0", "killed executors", "killed worker"}
    assert by_effort({"scenario 0", "killed worker"}, expected) <= set(found)
    assert [problem for problems in found.values() for problem in problems] == []


@pytest.mark.exhaustive
@pytest.mark.needs("java")
def test_snapshot_is_materialized_by_a_job_that_pipes_launches(tmp_path: Path) -> None:
    with cluster(tmp_path) as master:
        launched = said_by("spark_launch", master, str(tmp_path / "launched"))
    assert launched["success"], launched["logs"]
    assert (launched["items"], launched["rows"]) == (3, 3)
    assert "orders" in launched["progress"], "the progress of the job is in the log of the run"
