"""What the state of a table costs after many commits.

    python -m ddb_lake_tests.benchmarks.state FOLDER 10 1000 10000

Each object has one change record and is applied alone: three commits. At each of the numbers of objects it prints, as a line of
JSON, the processor time of the three commits alone (the mean of the last objects), that of the whole apply, and what the state
takes: snapshots, size of the newest metadata files, files and bytes of the ledger.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from time import process_time
from typing import Any
from unittest import mock

from ddb_lake.config import parse_settings
from ddb_lake.executors import open_lake
from ddb_lake.lake.commit import Commit
from ddb_lake.pipeline.apply.apply import apply_objects
from ddb_lake.pipeline.apply.ledger import read_ledger
from ddb_lake.pipeline.open_lake import Lake
from ddb_lake_tests.support.export_files import T0_US, change, item, land

LAST = 10
"""The objects whose mean is given."""


def main(folder: Path, marks: list[int]) -> None:
    """Apply the objects one by one, and print a line for each mark."""
    committing: list[float] = []
    settings = parse_settings(
        {"warehouse": str(folder / "lake"), "tables": [{"name": "orders", "key": ["id"]}]}, "the benchmark"
    )
    with open_lake(settings) as lake, mock.patch.object(Commit, "run", _timed(Commit.run, committing)):
        applying: list[float] = []
        for number in range(1, max(marks) + 1):
            record = change(T0_US + number * 1000, item(f"key {number % 1000}", v=number))
            landed = land(folder / "landing" / f"2026/03/01/09/{number:06d}", record)
            before = process_time()
            apply_objects(lake, "orders", [landed])
            applying.append(process_time() - before)
            if number in marks:
                print(json.dumps({"objects": number, **_times(committing, applying), **_sizes(lake)}), flush=True)


def _timed(run: Callable[[Commit], Any], took: list[float]) -> Callable[[Commit], Any]:
    def timed(commit: Commit) -> Any:
        before = process_time()
        try:
            return run(commit)
        finally:
            took.append(process_time() - before)

    return timed


def _times(committing: list[float], applying: list[float]) -> dict[str, float]:
    commits = sum(committing[-3 * LAST :]) / LAST
    return {"commits_cpu_ms": round(1000 * commits, 1), "apply_cpu_ms": round(1000 * sum(applying[-LAST:]) / LAST, 1)}


def _sizes(lake: Lake) -> dict[str, int]:
    tables = [table for table in (lake.current("orders"), lake.changes("orders"), lake.ledger("orders")) if table]
    ledger = read_ledger(lake, "orders").scan.live
    return {
        "snapshots": sum(len(table.snapshots()) for table in tables),
        "metadata_bytes": sum(Path(table.metadata_location).stat().st_size for table in tables),
        "ledger_files": len(ledger.data),
        "ledger_bytes": ledger.bytes,
    }


if __name__ == "__main__":
    main(Path(sys.argv[1]), [int(mark) for mark in sys.argv[2:]])
