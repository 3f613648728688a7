"""Runs the benchmarks and prints their tables. See the package's docstring."""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from ddb_lake_tests.benchmarks.data import make_changes, make_export

SIZES = {"small": ((20_000, 40_000), 2_000, 1), "full": ((1_000_000, 10_000_000), 100_000, 3)}


def run(*arguments: str) -> dict[str, Any]:
    """One worker's figures."""
    command = [sys.executable, "-m", "ddb_lake_tests.benchmarks.worker", *arguments]
    found: dict[str, Any] = json.loads(
        subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout.splitlines()[-1]
    )
    return found


def median(runs: list[dict[str, Any]], figure: str) -> float:
    return statistics.median(run[figure] for run in runs)


def line(name: str, runs: list[dict[str, Any]], base: float | None = None) -> None:
    ratio = f"{median(runs, 'seconds') / base:8.2f}" if base else "        "
    spread = f"{min(r['seconds'] for r in runs):.2f}–{max(r['seconds'] for r in runs):.2f}"
    size = median(runs, "bytes") / 1e6
    print(
        f"  {name:34}{median(runs, 'seconds'):9.2f}{spread:>16}{ratio}{size:10.1f}{median(runs, 'peak_mb'):9.0f}",
        flush=True,
    )


def header(title: str) -> None:
    print(f"\n{title}\n  {'':34}{'median s':>9}{'range':>16}{'ratio':>8}{'MB':>10}{'peak MB':>9}", flush=True)


def bench_load(work: Path, items: int, repeats: int) -> None:
    """Full load against DuckDB's bare parse of the same files, in turn."""
    export = make_export(work, items)
    ours: list[dict[str, Any]] = []
    bare: list[dict[str, Any]] = []
    lake = work / f"lake-{items}"
    for _ in range(repeats):
        shutil.rmtree(lake, ignore_errors=True)
        bare.append(run("bare", str(export), str(work / "bare.parquet")))
        ours.append(run("load", str(export), str(lake)))
        assert ours[-1]["rows"] == bare[-1]["rows"], (ours[-1]["rows"], bare[-1]["rows"])
    header(f"Full load of {items:,} items (goal: ratio at most 1.5)")
    line("DuckDB read_json to Parquet", bare)
    line("ddb-lake load", ours, median(bare, "seconds"))


def bench_apply(work: Path, sizes: tuple[int, ...], changes: int, repeats: int) -> None:
    """The same number of random changes into tables of different sizes."""
    header(f"Applying {changes:,} random changes (goal: the largest table at most 2 times the smallest)")
    base: float | None = None
    for items in sizes:
        runs = []
        for batch in range(1, repeats + 1):
            landed = make_changes(work, items, changes, batch)
            runs.append(run("apply", str(landed), str(work / f"lake-{items}")))
        line(f"into {items:,} rows", runs, base)
        print(f"  {'  of it: changelog to current':34}{median(runs, 'current'):9.2f}")
        base = base or median(runs, "seconds")


def main() -> None:
    """Run all benchmarks at one size."""
    parser = argparse.ArgumentParser(prog="python -m ddb_lake_tests.benchmarks", description=__doc__)
    parser.add_argument("--size", choices=SIZES, default="full")
    parser.add_argument("--folder", type=Path, help="keep the inputs here, to use them again")
    chosen = parser.parse_args()
    sizes, changes, repeats = SIZES[chosen.size]
    with tempfile.TemporaryDirectory() as scratch:
        work = chosen.folder or Path(scratch)
        work.mkdir(parents=True, exist_ok=True)
        for old in work.glob("lake-*"):
            shutil.rmtree(old)
        for items in sizes:
            bench_load(work, items, repeats)
        bench_apply(work, sizes, changes, repeats)


if __name__ == "__main__":
    main()
