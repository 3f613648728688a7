"""The continuity of a changelog: processor time for each million change records.

    python -m ddb_lake_tests.benchmarks.continuity --items 50000 --versions 20

The first examination compares all records. The next one, without new records, is what an hour without changes costs. Then one
object is removed before it is applied, so that its keys break and their images are judged in Python.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

from ddb_lake.config import parse_settings
from ddb_lake.executors import open_lake
from ddb_lake.pipeline.apply.apply import apply_objects
from ddb_lake.pipeline.open_lake import Lake
from ddb_lake.pipeline.verify.continuity import DAY_US, examine_continuity
from ddb_lake_tests.benchmarks.data import KEY, TABLE, make_trails
from ddb_lake_tests.support.peak_memory import peak_mb


def examine(lake: Lake, what: str) -> None:
    """Examine eight days, and print the figures."""
    started, cpu = time.monotonic(), time.process_time()
    found = examine_continuity(lake, TABLE, 8 * DAY_US)
    seconds, cpu_s = time.monotonic() - started, time.process_time() - cpu
    million = found.records / 1e6
    print(
        f"  {what:24}{found.records:>10,} records{found.missing:>8,} breaks{seconds:8.2f} s{cpu_s:8.2f} CPU s"
        f"{cpu_s / million:8.2f} CPU s a million{peak_mb():8.0f} MB",
        flush=True,
    )


def main() -> None:
    """Apply, examine and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--items", type=int, default=50_000)
    parser.add_argument("--versions", type=int, default=20)
    parser.add_argument("--folder", type=Path, help="keep the inputs here, to use them again")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        objects = sorted(make_trails(chosen.folder or Path(scratch), chosen.items, chosen.versions).rglob("*.gz"))
        lost = objects[len(objects) // 2]
        for name, applied in (("complete", objects), ("without one object", [o for o in objects if o != lost])):
            settings = {"warehouse": f"{scratch}/{name}", "tables": [{"name": TABLE, "key": list(KEY)}]}
            with open_lake(parse_settings(settings, "benchmark")) as lake:
                apply_objects(lake, TABLE, [str(path) for path in applied])
                examine(lake, name)
                examine(lake, f"{name}, again")


if __name__ == "__main__":
    main()
