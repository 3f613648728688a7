"""Runs the benchmarks and prints their tables. See the package's docstring."""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ddb_lake_tests.benchmarks.data import make_changes, make_export
from ddb_lake_tests.benchmarks.peers import APPLIES, LOADS
from ddb_lake_tests.benchmarks.report import Report

OURS = "ddb-lake"
BARE = "DuckDB typed read_json"


@dataclass(frozen=True, slots=True)
class Size:
    """How much is measured. `peer_items`: tables that the slower peers are tried on as well."""

    loads: tuple[int, ...]
    sparse: int
    documents: int
    peer_items: int
    tables: tuple[int, ...]
    changes: tuple[int, ...]
    repeats: int
    objects: int
    rounds: int


SIZES = {
    "small": Size((20_000,), 2_000, 500, 20_000, (20_000,), (2_000,), 1, 50, 3),
    "medium": Size((1_000_000,), 250_000, 25_000, 1_000_000, (1_000_000,), (10_000, 100_000), 3, 2_000, 20),
    "full": Size(
        (1_000_000, 10_000_000),
        500_000,
        50_000,
        1_000_000,
        (1_000_000, 10_000_000),
        (1_000, 10_000, 100_000),
        3,
        10_000,
        40,
    ),
}


_SAID = {
    "orders": "orders of 600 bytes",
    "sparse": "items with a fifth of 60 attributes",
    "documents": "documents of 20 KB",
}


class Bench:
    """One run: its folder of inputs and results, its size and its report."""

    def __init__(self, work: Path, size: Size, report: Report) -> None:
        self.work, self.size, self.report = work, size, report

    def worker(self, *arguments: str | Path) -> dict[str, Any]:
        """The figures of one piece of work, done in a process of its own."""
        command = [sys.executable, "-W", "ignore", "-m", "ddb_lake_tests.benchmarks.worker", *map(str, arguments)]
        output = subprocess.run(command, check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL).stdout
        found: dict[str, Any] = json.loads(output.splitlines()[-1])
        return found

    def load(self) -> None:
        """Full loads of the same files: ours, DuckDB's bare parse in turn with it, and the others once."""
        for items in self.size.loads:
            self._load("orders", items, [name for name in LOADS if name != BARE and items <= self.size.peer_items])
        self._load("sparse", self.size.sparse)
        self._load("documents", self.size.documents)

    def _load(self, shape: str, items: int, peers: Sequence[str] = ()) -> None:
        export = make_export(self.work, items, shape)
        series = "load" if shape == "orders" else f"load-{shape}"
        table = self.report.table(f"Full load of {items:,} {_SAID[shape]}", series, items, "1.3 times the bare parse")
        runs: dict[str, list[dict[str, Any]]] = {BARE: [], OURS: []}
        for _ in range(self.size.repeats):
            shutil.rmtree(self.work / "lake-loaded", ignore_errors=True)
            runs[BARE].append(self.worker("peer", BARE, export, self.work / "peer"))
            runs[OURS].append(self.worker("load", export, self.work / "lake-loaded"))
        for name in peers:
            runs[name] = [self.worker("peer", name, export, self.work / "peer")]
        table.fill(runs, BARE)
        self._same_rows(runs)

    def apply(self) -> None:
        """The same landed objects, from the files to a committed table."""
        for items in self.size.tables:
            export = make_export(self.work, items)
            for name in APPLIES:
                self.worker("prepare", name, export, self.work)
            self._fresh_lake(items)
            batch = 0
            for changes in self.size.changes:
                for local in (False, True):
                    batch += 1
                    self._apply_once(items, changes, batch, local)

    def _apply_once(self, items: int, changes: int, batch: int, local: bool) -> None:
        landed = make_changes(self.work, items, changes, batch, local=local)
        kind = "of the last 2 % of the keys" if local else "random"
        table = self.report.table(
            f"{changes:,} changes ({kind}) into {items:,} rows",
            f"apply-{'local' if local else 'random'}-{changes}",
            items,
            "no more than DuckDB's native MERGE, a fifth of delta-rs",
        )
        runs = {OURS: [self.worker("apply", landed, self.work / f"lake-{items}")]}
        for name in APPLIES:
            runs[name] = [self.worker("peer", name, landed, self.work)]
        table.fill(runs, "DuckDB native MERGE INTO")
        self._same_rows(runs)

    def read(self) -> None:
        """What position deletes cost those who read, and what compaction gives back."""
        items = self.size.tables[0]
        self._fresh_lake(items)
        for batch in (91, 92, 93):
            landed = make_changes(self.work, items, max(self.size.changes), batch)
            self.worker("apply", landed, self.work / f"lake-{items}")
        table = self.report.table(f"Reading all of {items:,} rows", "read", items, "at most 1.3 times")
        lake = self.work / f"lake-{items}"
        runs = {"with deletes": [self.worker("read", lake, "as it is")]}
        runs["compacted"] = [self.worker("read", lake, "compacted")]
        table.fill(runs, "compacted")
        self._same_rows(runs)

    def small(self) -> None:
        """Many small objects in one batch."""
        items, objects = self.size.tables[0], self.size.objects
        records = objects * 14
        landed = make_changes(self.work, items, records, 81, objects=objects)
        self._fresh_lake(items)
        run = self.worker("apply", landed, self.work / f"lake-{items}")
        title = f"{objects:,} objects of 14 records each ({records / run['seconds']:,.0f} records a second)"
        self.report.table(title, "small", items, "30,000 records a second").fill({OURS: [run]})

    def freshness(self) -> None:
        """From an object landed to its rows visible."""
        items = self.size.tables[0]
        landed = make_changes(self.work, items, 100 * self.size.rounds, 71, objects=self.size.rounds)
        self._fresh_lake(items)
        run = self.worker("freshness", landed, self.work / f"lake-{items}")
        title = f"Landed to visible, sync in a loop: p50 {run['seconds']:.2f} s, longest {run['p99']:.2f} s"
        self.report.table(title, "freshness", items, "").fill({OURS: [run]})

    def day(self) -> None:
        """Micro-batches, compacted when the policy says so: bytes written for each byte that changed."""
        items = self.size.tables[0]
        batches = self.size.rounds * 4
        landed = make_changes(self.work, items, 500 * batches, 61, objects=batches)
        self._fresh_lake(items)
        run = self.worker("day", landed, self.work / f"lake-{items}")
        title = f"{batches} micro-batches of 500 changes: {run['amplification']:.1f} bytes written for a byte landed"
        self.report.table(title, "day", items, "5").fill({OURS: [run]})

    def _fresh_lake(self, items: int) -> None:
        lake = self.work / f"lake-{items}"
        shutil.rmtree(lake, ignore_errors=True)
        self.worker("load", make_export(self.work, items), lake)

    def _same_rows(self, runs: dict[str, list[dict[str, Any]]]) -> None:
        found = {name: run["rows"] for name, of_name in runs.items() for run in of_name if run["rows"]}
        distinct = {json.dumps([str(float(value)) for value in rows]) for rows in found.values()}
        assert len(distinct) <= 1, f"results differ: {found}"


PARTS: dict[str, Callable[[Bench], None]] = {
    name: getattr(Bench, name) for name in ("load", "apply", "read", "small", "freshness", "day")
}


def machine() -> str:
    """The machine, in words."""
    versions = f"Python {platform.python_version()}, {os.cpu_count()} processors, {platform.machine()}"
    load = ", ".join(f"{value:.1f}" for value in os.getloadavg())
    return f"{datetime.now(UTC):%Y-%m-%d}, {versions}, load averages {load} at the start"


def main() -> None:
    """Run the chosen benchmarks at one size."""
    parser = argparse.ArgumentParser(prog="python -m ddb_lake_tests.benchmarks", description=__doc__)
    parser.add_argument("--size", choices=SIZES, default="full")
    parser.add_argument("--only", default=",".join(PARTS), help="parts, with commas: " + ", ".join(PARTS))
    parser.add_argument("--folder", type=Path, help="keep the inputs here, to use them again")
    parser.add_argument("--docs", type=Path, help="also write a page and plots into this folder")
    chosen = parser.parse_args()
    report = Report(f"python -m ddb_lake_tests.benchmarks --size {chosen.size}", machine())
    with tempfile.TemporaryDirectory() as scratch:
        work = chosen.folder or Path(scratch)
        work.mkdir(parents=True, exist_ok=True)
        bench = Bench(work, SIZES[chosen.size], report)
        for part in chosen.only.split(","):
            PARTS[part](bench)
            if chosen.docs:
                report.write(chosen.docs)


if __name__ == "__main__":
    main()
