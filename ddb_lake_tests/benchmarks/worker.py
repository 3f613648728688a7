"""One measured piece of work in a process of its own; prints its figures as JSON. Imports are not in `seconds`."""

from __future__ import annotations

import json
import resource
import shutil
import statistics
import sys
import time
from pathlib import Path
from typing import Any

import pyiceberg.catalog.sql  # noqa: F401  # opened on first use: an import, not work

from ddb_lake.config import parse_settings
from ddb_lake.stages.apply import apply_objects
from ddb_lake.stages.compact import compact_table, needs_compaction
from ddb_lake.stages.lake import Lake, open_lake
from ddb_lake.stages.load import load_export
from ddb_lake.stages.sync import sync
from ddb_lake_tests.benchmarks.data import KEY, TABLE
from ddb_lake_tests.benchmarks.peers import APPLIES, LOADS, ROWS
from ddb_lake_tests.peaks import peak_mb


def load(export: str, warehouse: str) -> dict[str, Any]:
    """Our load of the same files."""
    with _lake(warehouse) as lake:
        started = time.monotonic()
        load_export(lake, TABLE, export)
        return {"seconds": time.monotonic() - started, **_contents(lake)}


def apply(changes: str, warehouse: str) -> dict[str, Any]:
    """Landed objects into changelog and current."""
    with _lake(warehouse) as lake:
        before = _contents(lake)["bytes"]
        started = time.monotonic()
        result = apply_objects(lake, TABLE, [changes])
        seconds = time.monotonic() - started
        found = _contents(lake)
        current = result.current[TABLE]
        return {
            "seconds": seconds,
            "current": current.seconds,
            "changed": current.changed,
            "rows": found["rows"],
            "bytes": found["bytes"] - before,
        }


def _lake(warehouse: str, table: dict[str, Any] | None = None) -> Any:
    tables = [{"name": TABLE, "key": list(KEY), **(table or {})}]
    return open_lake(parse_settings({"warehouse": warehouse, "tables": tables}, "benchmark"))


def _contents(lake: Lake) -> dict[str, Any]:
    from ddb_lake.stages.query import run_query
    from ddb_lake.stages.status import table_status

    with run_query(lake, f"SELECT {ROWS} FROM {TABLE}") as result:
        rows = [str(value) for batch in result.batches() for row in batch for value in row]
    return {"rows": rows, "bytes": table_status(lake, TABLE).bytes}


def peer(name: str, source: str, target: str) -> dict[str, Any]:
    """A peer's load of an export, or its apply of landed objects to what it prepared in a folder."""
    return LOADS[name](source, target) if name in LOADS else APPLIES[name][1](source, target)


def prepare(name: str, export: str, folder: str) -> dict[str, Any]:
    """What a peer applies changes to."""
    APPLIES[name][0](export, folder)
    return {}


def read(warehouse: str, compacted: str) -> dict[str, Any]:
    """Reading all of `current`: seconds, best of five; `compacted`: "compacted" to fold its deletes in before."""
    with _lake(warehouse) as lake:
        if compacted == "compacted":
            compact_table(lake, TABLE, force=True)
        times = []
        for _ in range(5):
            started = time.monotonic()
            rows = _contents(lake)["rows"]
            times.append(time.monotonic() - started)
        return {"seconds": min(times), "rows": rows, "bytes": 0}


def freshness(landed: str, warehouse: str) -> dict[str, Any]:
    """From an object landed to its rows visible to a query, by `sync` in one process: seconds of each round."""
    times = []
    folder = Path(warehouse).parent / "fresh"
    with _lake(warehouse, {"changes": {"uri": str(folder)}}) as lake:
        for number, file in enumerate(sorted(Path(landed).rglob("*.gz"))):
            hour = folder / "2023/11/15/00"
            hour.mkdir(parents=True, exist_ok=True)
            started = time.monotonic()
            (hour / f"{number:06d}.gz").write_bytes(file.read_bytes())
            for _ in sync(lake):
                pass
            _contents(lake)
            times.append(time.monotonic() - started)
    return {"seconds": statistics.median(times), "p99": max(times), "rows": [], "bytes": 0}


def day(landed: str, warehouse: str) -> dict[str, Any]:
    """A day of micro-batches, one object each, compacting when the policy says so: bytes written for bytes added."""
    with _lake(warehouse) as lake:
        files = _over_a_day(sorted(Path(landed).rglob("*.gz")), Path(warehouse).parent / "day")
        started, written, known = time.monotonic(), 0, _sizes(warehouse)
        for file in files:
            apply_objects(lake, TABLE, [str(file)])
            if needs_compaction(lake, TABLE):
                compact_table(lake, TABLE)
            found = _sizes(warehouse)
            written += sum(size for path, size in found.items() if path not in known)
            known |= found
        seconds = time.monotonic() - started
        amplification = written / sum(file.stat().st_size for file in files)
        return {"seconds": seconds, **_contents(lake), "bytes": written, "amplification": amplification}


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
    figures = globals()[sys.argv[1]](*sys.argv[2:])
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    figures |= {"peak_mb": peak_mb(), "cpu": sum(u.ru_utime + u.ru_stime for u in used)}
    print(json.dumps(figures))
