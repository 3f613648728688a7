"""Runs the benchmarks and prints their tables. See the package's docstring."""

from __future__ import annotations

import argparse
import os
import platform
import shlex
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from ddb_lake_tests.benchmarks.goals import goals
from ddb_lake_tests.benchmarks.page import write_page
from ddb_lake_tests.benchmarks.parts import PARTS, Bench, Size
from ddb_lake_tests.benchmarks.peers import APPLIES
from ddb_lake_tests.benchmarks.readme_table import write_speed
from ddb_lake_tests.benchmarks.report import Report, Table

README = Path(__file__).parents[2] / "README.md"
MILLION = 1_000_000
CHANGES = (1_000, 10_000, 100_000, MILLION)
SIZES = {
    "small": Size((20_000,), 2_000, 500, 20_000, (20_000,), (2_000,), 1, 20, 1, 1, 3, (12, 24), 1, 2_000, 3),
    "medium": Size((MILLION,), 250_000, 25_000, MILLION, (MILLION,), (10_000, 100_000), 3, 2_000, 40, 3, 80),
    "full": Size(
        (MILLION, 10 * MILLION), 500_000, 50_000, MILLION, (MILLION, 10 * MILLION), CHANGES, 3, 10_000, 200, 20, 160
    ),
    "huge": Size((50 * MILLION,), 0, 0, 0, (100 * MILLION,), CHANGES, 1, 10_000, 40, 10, 160),
}


def machine() -> str:
    """The machine, in words."""
    versions = f"Python {platform.python_version()}, {os.cpu_count()} processors, {platform.machine()}"
    load = ", ".join(f"{value:.1f}" for value in os.getloadavg())
    return f"{datetime.now(UTC):%Y-%m-%d}, {versions}, load averages {load} at the start"


def numbers(text: str) -> tuple[int, ...]:
    """Numbers with commas between them."""
    return tuple(map(int, text.split(",")))


def print_goals(tables: Sequence[Table]) -> None:
    """The goals on which the tables have figures, with limit, figures and verdict."""
    print("\nGoals")
    for what, limit, found, met in (goal.cells() for goal in goals(tables) if goal.found):
        print(f"  {what:72}{limit:>12}  {met:8}{found}")


def main() -> int:
    """Run the chosen benchmarks at one size; 1 if a peer failed."""
    parser = argparse.ArgumentParser(prog="python -m ddb_lake_tests.benchmarks", description=__doc__)
    parser.add_argument("--size", choices=SIZES, default="full")
    parser.add_argument("--only", default=",".join(PARTS), help="parts, with commas: " + ", ".join(PARTS))
    parser.add_argument("--loads", type=numbers, help="items of the loads, with commas, instead of the size's")
    parser.add_argument("--tables", type=numbers, help="rows of the tables, with commas, instead of the size's")
    parser.add_argument("--changes", type=numbers, help="change records, with commas, instead of the size's")
    parser.add_argument("--peers", help="who else applies changes, with commas, instead of all: " + ", ".join(APPLIES))
    parser.add_argument("--repeats", type=int, help="runs of what is run several times, instead of the size's")
    parser.add_argument("--folder", type=Path, help="keep the inputs here, to use them again")
    parser.add_argument(
        "--docs",
        type=Path,
        help="also keep the results, and write a page and plots into this folder and the table Speed into the README",
    )
    chosen = parser.parse_args()
    given = {name: getattr(chosen, name) for name in ("loads", "tables", "changes", "repeats") if getattr(chosen, name)}
    told = [f"--{name} {','.join(map(str, v)) if isinstance(v, tuple) else v}" for name, v in given.items()]
    only = [f"--only {shlex.quote(chosen.only)}"] if chosen.only != parser.get_default("only") else []
    peers = tuple(chosen.peers.split(",")) if chosen.peers else tuple(APPLIES)
    if unknown := set(peers) - set(APPLIES):
        parser.error(f"--peers: {', '.join(unknown)}: none of {', '.join(APPLIES)}")
    told += [f"--peers {shlex.quote(chosen.peers)}"] if chosen.peers else []
    report = Report(" ".join([f"{parser.prog} --size {chosen.size}", *only, *told]), machine())
    with tempfile.TemporaryDirectory() as scratch:
        work = (chosen.folder or Path(scratch)).resolve()
        work.mkdir(parents=True, exist_ok=True)
        bench = Bench(work, replace(SIZES[chosen.size], **given), report, peers)
        for part in chosen.only.split(","):
            PARTS[part](bench)
            if chosen.docs:
                tables = report.keep()
                write_page(chosen.docs, tables)
                write_speed(README, tables)
    print_goals(report.tables)
    for failure in bench.failed:
        print(failure, file=sys.stderr)
    return int(bool(bench.failed))


if __name__ == "__main__":
    sys.exit(main())
