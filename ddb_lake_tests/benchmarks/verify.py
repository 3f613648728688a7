"""Full verification of a table against the export that it was loaded from, beside loading it.

    python -m ddb_lake_tests.benchmarks.verify --items 1000000 --repeats 3

Each piece of work is a process of its own, in turn; imports are not in the figures. The goal is a ratio below 1.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from ddb_lake_tests.benchmarks.data import KEY, TABLE, make_export
from ddb_lake_tests.support.peak_memory import peak_mb


def work(what: str, export: str, warehouse: str) -> dict[str, float]:
    """Load or verify in this process."""
    import pyiceberg.catalog.sql  # noqa: F401  # opened on first use: an import, not work

    from ddb_lake.config import parse_settings
    from ddb_lake.executors import open_lake
    from ddb_lake.pipeline.load.load import load_export
    from ddb_lake.pipeline.verify.full import verify_export

    settings = parse_settings({"warehouse": warehouse, "tables": [{"name": TABLE, "key": list(KEY)}]}, "benchmark")
    with open_lake(settings) as lake:
        started, cpu = time.monotonic(), time.process_time()
        if what == "load":
            load_export(lake, TABLE, export)
        else:
            report = verify_export(lake, TABLE, export)
            assert (report.outcome, report.compared) == ("equal", report.rows)
        seconds, cpu_s = time.monotonic() - started, time.process_time() - cpu
    return {"seconds": seconds, "cpu_s": cpu_s, "peak_mb": peak_mb()}


def measure(what: str, export: Path, warehouse: Path) -> dict[str, float]:
    """One process's figures."""
    command = [sys.executable, "-m", "ddb_lake_tests.benchmarks.verify", "--work", what, str(export), str(warehouse)]
    found: dict[str, float] = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
    return found


def line(name: str, runs: list[dict[str, Any]], base: list[dict[str, Any]] | None = None) -> None:
    """Print the medians of some runs."""
    median = {figure: statistics.median(run[figure] for run in runs) for figure in runs[0]}
    ratio = f"{median['seconds'] / statistics.median(run['seconds'] for run in base):7.2f}" if base else " " * 7
    cpu = f"{median['cpu_s'] / statistics.median(run['cpu_s'] for run in base):9.2f}" if base else " " * 9
    print(f"  {name:10}{median['seconds']:8.2f}{ratio}{median['cpu_s']:8.2f}{cpu}{median['peak_mb']:9.0f}", flush=True)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--items", type=int, default=1_000_000)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--folder", type=Path, help="keep the inputs here, to use them again")
    parser.add_argument("--work", nargs=3, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.work:
        print(json.dumps(work(*chosen.work)))
        return
    loads: list[dict[str, Any]] = []
    verifications: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as scratch:
        export = make_export(chosen.folder or Path(scratch), chosen.items)
        for _ in range(chosen.repeats):
            lake = Path(scratch) / "lake"
            shutil.rmtree(lake, ignore_errors=True)
            loads.append(measure("load", export, lake))
            verifications.append(measure("verify", export, lake))
    print(f"Full verification of {chosen.items:,} items against an export (goal: ratio below 1)")
    print(f"  {'':10}{'wall s':>8}{'ratio':>7}{'cpu s':>8}{'cpu ratio':>9}{'peak MB':>9}")
    line("load", loads)
    line("verify", verifications, loads)


if __name__ == "__main__":
    main()
