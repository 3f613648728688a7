"""`engine: spark` on a real standalone cluster: the same lakes as by DuckDB here, and a killed worker changes nothing.

One test, so that one process of a parallel run has the cluster. More histories: DDB_LAKE_SPARK_HISTORIES=200.
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
from ddb_lake_tests.support.spark_cluster import cluster

HISTORIES = os.environ.get("DDB_LAKE_SPARK_HISTORIES", "4")
ITEMS = os.environ.get("DDB_LAKE_SPARK_ITEMS", "8000")


def said_by(module: str, *arguments: str) -> Any:
    command = [sys.executable, "-m", f"ddb_lake_tests.support.{module}", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-4000:]
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.needs("java")
def test_spark_cluster_leaves_the_lakes_that_duckdb_leaves(tmp_path: Path) -> None:
    with cluster(tmp_path) as master:
        work = tmp_path / "work"
        work.mkdir()
        launched = said_by("spark_launch", master, str(work / "launched"))
        found = said_by("spark_driver", master, str(work), HISTORIES, ITEMS)
    assert {*CORNERS, "history 0", "spread 0", "several tables", "killed executors", "killed worker"} <= set(found)
    assert [problem for problems in found.values() for problem in problems] == []
    assert launched["success"], launched["logs"]
    assert (launched["items"], launched["rows"]) == (3, 3)
    assert "orders" in launched["progress"], "the progress of the job is in the log of the run"
