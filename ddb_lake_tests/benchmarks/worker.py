"""One measured piece of our work in a process of its own; prints its figures as JSON. Imports are not in `seconds`."""

from __future__ import annotations

import json
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from pkgutil import resolve_name
from typing import Any
from unittest.mock import patch

import pyiceberg.catalog.sql  # noqa: F401  # opened on first use: an import, not work

from ddb_lake.config import parse_settings
from ddb_lake.executors import open_lake
from ddb_lake.lake.compaction_policy import compaction_reason
from ddb_lake.pipeline.apply.apply import apply_objects
from ddb_lake.pipeline.load.load import load_export
from ddb_lake.pipeline.maintain.compact import compact_table
from ddb_lake.pipeline.open_lake import Lake
from ddb_lake.pipeline.read.query import run_query
from ddb_lake.pipeline.read.status import table_status
from ddb_lake.pipeline.sync import sync
from ddb_lake_tests.benchmarks.data import KEY, TABLE
from ddb_lake_tests.benchmarks.measuring import measured
from ddb_lake_tests.benchmarks.peers.shapes import ROWS

READS = 5
SCANNED = "count(*), max(customer), max(order_id), sum(total), sum(quantity)"
PARTS = {
    "list": "ddb_lake.pipeline.plan.planner.list_unapplied",
    "read": "ddb_lake.pipeline.local_executor.LocalExecutor.read",
    "ingest": "ddb_lake.pipeline.apply.apply.ingest",
    "current": "ddb_lake.pipeline.apply.apply.update_current",
}
"""Where the time of a `sync` goes: the steps of it, and the functions that do them."""


def load(export: str, warehouse: str) -> dict[str, Any]:
    """Our load of the same files."""
    with _lake(warehouse) as lake:
        with measured() as took:
            load_export(lake, TABLE, export)
        return took.figures(values(lake, ROWS), table_status(lake, TABLE).bytes)


def apply(changes: str, warehouse: str) -> dict[str, Any]:
    """Landed objects into changelog and current."""
    with _lake(warehouse) as lake:
        before = table_status(lake, TABLE).bytes
        with measured() as took:
            apply_objects(lake, TABLE, [changes])
        return took.figures(values(lake, ROWS), table_status(lake, TABLE).bytes - before)


def _lake(warehouse: str, table: dict[str, Any] | None = None) -> Any:
    tables = [{"name": TABLE, "key": list(KEY), **(table or {})}]
    return open_lake(parse_settings({"warehouse": warehouse, "tables": tables}, "benchmark"))


def values(lake: Lake, columns: str) -> list[str]:
    """The values of a query of one row over the table."""
    with run_query(lake, f"SELECT {columns} FROM {TABLE}") as result:
        return [str(value) for batch in result.batches() for row in batch for value in row]


def read(warehouse: str, compacted: str) -> list[dict[str, Any]]:
    """A scan of `current` some times, after a first; `compacted`: "compacted" to fold its deletes in before."""
    with _lake(warehouse) as lake:
        if compacted == "compacted":
            compact_table(lake, TABLE, force=True)
        runs, rows = [], values(lake, ROWS)
        for _ in range(1 + READS):
            with measured() as took:
                values(lake, SCANNED)
            runs.append(took.figures(rows))
        return runs[1:]


def freshness(landed: str, warehouse: str) -> list[dict[str, Any]]:
    """From an object landed to its rows visible to a query, by `sync` in one process; `parts`: seconds of each step."""
    folder = Path(warehouse).parent / "fresh"
    hour = folder / "2023/11/15/00"
    shutil.rmtree(folder, ignore_errors=True)
    hour.mkdir(parents=True)
    rounds = []
    with _lake(warehouse, {"changes": {"uri": str(folder)}}) as lake:
        for number, file in enumerate(sorted(Path(landed).rglob("*.gz"))):
            content, known = file.read_bytes(), table_status(lake, TABLE).bytes
            with _split() as parts, measured() as took:
                (hour / f"{number:06d}.gz").write_bytes(content)
                sync(lake)
                synced = time.monotonic()
                values(lake, "max(quantity::BIGINT)")
                parts["query"] = time.monotonic() - synced
            rounds.append({**took.figures(size=table_status(lake, TABLE).bytes - known), "parts": parts})
    return rounds


@contextmanager
def _split() -> Iterator[dict[str, float]]:
    """Seconds that a block spends in the functions of `PARTS`."""
    parts = dict.fromkeys([*PARTS, "query"], 0.0)
    with ExitStack() as patches:
        for name, function in PARTS.items():
            real = resolve_name(function)
            patches.enter_context(patch(function, _timed(real, parts, name)))
        yield parts


def _timed(real: Callable[..., Any], parts: dict[str, float], name: str) -> Callable[..., Any]:
    def timed(*arguments: Any, **options: Any) -> Any:
        started = time.monotonic()
        try:
            return real(*arguments, **options)
        finally:
            parts[name] += time.monotonic() - started

    return timed


def day(landed: str, warehouse: str) -> dict[str, Any]:
    """A day of micro-batches, one object each, compacting when the policy says so: bytes written for bytes added."""
    with _lake(warehouse) as lake:
        files = _over_a_day(sorted(Path(landed).rglob("*.gz")), Path(warehouse).parent / "day")
        written, known = 0, _sizes(warehouse)
        with measured() as took:
            for file in files:
                apply_objects(lake, TABLE, [str(file)])
                if compaction_reason(lake.current(TABLE), lake.changes(TABLE)):
                    compact_table(lake, TABLE)
                found = _sizes(warehouse)
                written += sum(size for path, size in found.items() if path not in known)
                known |= found
        landed_bytes = sum(file.stat().st_size for file in files)
        return {**took.figures(values(lake, ROWS), written), "amplification": written / landed_bytes}


def _over_a_day(files: list[Path], folder: Path) -> list[Path]:
    """Copies of the files, as if they had landed evenly over 24 hours."""
    copies = []
    for number, file in enumerate(files):
        copy = folder / f"2023/11/15/{number * 24 // len(files):02d}" / f"{number:06d}.gz"
        copy.parent.mkdir(parents=True, exist_ok=True)
        copies.append(Path(shutil.copy(file, copy)))
    return copies


def _sizes(warehouse: str) -> dict[Path, int]:
    """Every data and delete file, whether it is still live or not."""
    return {path: path.stat().st_size for path in Path(warehouse).rglob("*.parquet")}


if __name__ == "__main__":
    print(json.dumps(globals()[sys.argv[1]](*sys.argv[2:])))
