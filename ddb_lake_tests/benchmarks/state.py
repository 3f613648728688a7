"""What the state of a table costs after many commits.

    python -m ddb_lake_tests.benchmarks.state FOLDER 10 1000 10000

Each object has one change record, of ten minutes after the one before, and is applied alone: three commits. After an apply, the table
is compacted if that is due, as `sync` does. At each of the numbers of objects it prints, as a line of JSON, the processor time
of the three commits alone (the median of the last objects), that of the whole apply and of all compactions, and what the state takes:
snapshots, size of the newest metadata files, manifests, files of the changelog, files and bytes of the ledger.
"""

from __future__ import annotations

import json
import statistics
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from time import process_time
from typing import Any
from unittest import mock

from ddb_lake.config import parse_settings
from ddb_lake.executors import open_lake
from ddb_lake.lake.commit import Commit
from ddb_lake.lake.compaction_policy import compaction_reason
from ddb_lake.lake.scan import live_files
from ddb_lake.pipeline.apply.apply import apply_objects
from ddb_lake.pipeline.apply.ledger import read_ledger
from ddb_lake.pipeline.maintain.compact import compact_table
from ddb_lake.pipeline.open_lake import Lake
from ddb_lake_tests.support.export_files import MINUTE_US, T0_US, change, item, land

LAST = 40
"""The objects whose median is given: more than there are between two compactions."""


def main(folder: Path, marks: list[int]) -> None:
    """Apply the objects one by one, and print a line for each mark."""
    committing: list[float] = []
    settings = parse_settings(
        {"warehouse": str(folder / "lake"), "tables": [{"name": "orders", "key": ["id"]}]}, "the benchmark"
    )
    with open_lake(settings) as lake, mock.patch.object(Commit, "run", _timed(Commit.run, committing)):
        applying: list[float] = []
        commits: list[float] = []
        compacting: list[float] = []
        for number in range(1, max(marks) + 1):
            at_us = T0_US + number * 10 * MINUTE_US
            record = change(at_us, item(f"key {number % 1000}", v=number))
            hour = datetime.fromtimestamp(at_us / 1_000_000, UTC)
            landed = land(folder / "landing" / f"{hour:%Y/%m/%d/%H}/{number:06d}", record)
            before = process_time()
            apply_objects(lake, "orders", [landed])
            applying.append(process_time() - before)
            commits.append(sum(committing))
            committing.clear()
            before = process_time()
            if compaction_reason(lake.current("orders"), lake.changes("orders")) is not None:
                compact_table(lake, "orders")
            compacting.append(process_time() - before)
            committing.clear()
            if number in marks:
                took = {"commits": _median(commits), "apply": _median(applying), "all_compactions": sum(compacting)}
                times = {f"{name}_cpu_ms": round(1000 * seconds, 1) for name, seconds in took.items()}
                print(json.dumps({"objects": number, **times, **_sizes(lake)}), flush=True)


def _timed(run: Callable[[Commit], Any], took: list[float]) -> Callable[[Commit], Any]:
    def timed(commit: Commit) -> Any:
        before = process_time()
        try:
            return run(commit)
        finally:
            took.append(process_time() - before)

    return timed


def _median(seconds: list[float]) -> float:
    return statistics.median(seconds[-LAST:])


def _sizes(lake: Lake) -> dict[str, int]:
    tables = [table for table in (lake.current("orders"), lake.changes("orders"), lake.ledger("orders")) if table]
    ledger = read_ledger(lake, "orders").scan.live
    return {
        "snapshots": sum(len(table.snapshots()) for table in tables),
        "metadata_bytes": sum(Path(table.metadata_location).stat().st_size for table in tables),
        "manifests": sum(len(s.manifests(table.io)) for table in tables if (s := table.current_snapshot()) is not None),
        "changelog_files": len(live_files(tables[1]).data),
        "ledger_files": len(ledger.data),
        "ledger_bytes": ledger.bytes,
    }


if __name__ == "__main__":
    main(Path(sys.argv[1]), [int(mark) for mark in sys.argv[2:]])
