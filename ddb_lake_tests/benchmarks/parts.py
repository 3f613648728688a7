"""The parts of a run: what is measured, against whom, and in which order. Each piece of work is a process of its own."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ddb_lake_tests.benchmarks.data import make_changes, make_export
from ddb_lake_tests.benchmarks.goals import GROWTH_LIMIT, OURS, load_limit
from ddb_lake_tests.benchmarks.peers import APPLIES, BARE, LOADS, NATIVE, ApplyPeer
from ddb_lake_tests.benchmarks.report import Report, median

Runs = dict[str, list[dict[str, Any]]]
_PACKAGE = "ddb_lake_tests.benchmarks"
_SAID = {
    "orders": "orders of 600 bytes",
    "sparse": "items with a fifth of 60 attributes",
    "documents": "documents of 20 KB",
}


@dataclass(frozen=True, slots=True)
class Size:
    """How much is measured; 0 leaves a thing out. Everything but load and apply is done on the first of `tables`.

    `peer_items`: the largest load that the slower peers also run. `rounds` and `ticks`: objects dropped for
    freshness, by `sync` and by the sensor. `batches`: of a day. `commits`: objects of a table that are applied one by one.
    `starts`: runs of each command that does little but start. `history`: files of a changelog that a small apply is added to, so many
    times as `growth_applies` says.
    """

    loads: tuple[int, ...]
    sparse: int
    documents: int
    peer_items: int
    tables: tuple[int, ...]
    changes: tuple[int, ...]
    repeats: int
    objects: int
    rounds: int
    ticks: int
    batches: int
    commits: tuple[int, ...] = (20, 1_000)
    starts: int = 5
    history: int = 100_000
    growth_applies: int = 20


class Bench:
    """One run: its folder of inputs and results, its size and its report. `failed`: what peers could not do.

    `peers`: the only ones that changes are applied by; NATIVE, which all are compared with, always is.
    """

    def __init__(self, work: Path, size: Size, report: Report, peers: Sequence[str] = tuple(APPLIES)) -> None:
        self.work, self.size, self.report, self.peers = work, size, report, {NATIVE, *peers}
        self.failed: list[str] = []

    def program(self, module: str, *arguments: str | Path) -> Any:
        """The figures of one piece of work, done by a program of this package."""
        command = [sys.executable, "-W", "ignore", "-m", f"{_PACKAGE}.{module}", *map(str, arguments)]
        done = subprocess.run(command, capture_output=True, check=False)
        if done.returncode:
            raise RuntimeError(f"{command[4:]} failed:\n{done.stderr.decode()[-4000:]}")
        return json.loads(done.stdout.splitlines()[-1])

    def load(self) -> None:
        """Full loads of the same files: ours, DuckDB's bare parse in turn with it, and the others once."""
        for items in self.size.loads:
            self._load("orders", items, [name for name in LOADS if name != BARE and items <= self.size.peer_items])
        self._load("sparse", self.size.sparse)
        self._load("documents", self.size.documents)

    def _load(self, shape: str, items: int, peers: Sequence[str] = ()) -> None:
        if not items:
            return
        export = make_export(self.work, items, shape)
        series = "load" if shape == "orders" else f"load-{shape}"
        goal = f"{load_limit(series, items):g} times the bare parse, 1.5 GB of memory"
        table = self.report.table(f"Full load of {items:,} {_SAID[shape]}", series, items, goal)
        runs: Runs = {BARE: [], OURS: []}
        for _ in range(self.size.repeats):
            shutil.rmtree(self.work / "lake-loaded", ignore_errors=True)
            runs[BARE].append(self.program("peers", "load", BARE, export, self.work / "peer"))
            runs[OURS].append(self.program("worker", "load", export, self.work / "lake-loaded"))
        for name in peers:
            runs[name] = [self.program("peers", "load", name, export, self.work / "peer")]
        shutil.rmtree(self.work / "lake-loaded")
        table.fill(runs, BARE)
        _same_rows(runs)

    def apply(self) -> None:
        """The same landed objects, from the files to a committed table."""
        for items in self.size.tables:
            self._apply(items)

    def _apply(self, items: int) -> None:
        """Rounds of all steps: the first has all contestants, the others only the quick ones. A step continues from the step before it."""
        export, lake = make_export(self.work, items), self._fresh_lake(items)
        folder = self.work / f"peers-{items}"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        taking_part = [name for name, peer in APPLIES.items() if name in self.peers and _is_able(peer, items)]
        for name in taking_part:
            self.program("peers", "prepare", name, export, folder)
        steps = [(changes, local) for local in (True, False) for changes in self.size.changes]
        runs: dict[tuple[int, bool], Runs] = {step: {OURS: [], **{name: [] for name in taking_part}} for step in steps}
        for number in range(self.size.repeats):
            for place, step in enumerate(steps):
                landed = make_changes(self.work, items, step[0], 1 + place + number * len(steps), local=step[1])
                now = {OURS: [self.program("worker", "apply", landed, lake)]}
                for name in [name for name in taking_part if number == 0 or APPLIES[name].quick]:
                    try:
                        now[name] = [self.program("peers", "apply", name, landed, folder)]
                    except RuntimeError as error:  # reported at the end, so the figures of the others are kept
                        taking_part.remove(name)
                        self.failed.append(f"{name}, {step[0]:,} changes into {items:,} rows: {error}")
                _same_rows(now)
                for name, run in now.items():
                    runs[step][name] += run
                took = ", ".join(f"{name} {run[0]['seconds']:.2f}" for name, run in now.items())
                print(f"  {items:,} rows, {step[0]:,} changes: {took}", file=sys.stderr, flush=True)
        for step in steps:
            self._tell(items, *step, {name: of_name for name, of_name in runs[step].items() if of_name})
        shutil.rmtree(folder)
        shutil.rmtree(lake)

    def _tell(self, items: int, changes: int, local: bool, runs: Runs) -> None:
        kind = "of the last 2 % of the keys" if local else "random"
        table = self.report.table(
            f"{changes:,} changes ({kind}) into {items:,} rows",
            f"apply-{'local' if local else 'random'}-{changes}",
            items,
            "no more than DuckDB's native MERGE, a fifth of delta-rs",
        )
        once = [name for name, of_name in runs.items() if len(of_name) < self.size.repeats]
        if once:
            table.notes.append(f"{self.size.repeats} runs, of {', '.join(once)} one.")
        for name, peer in APPLIES.items():
            if not _is_able(peer, items):
                table.notes.append(f"{name} is not tried on more than {peer.most_rows:,} rows.")
            elif name not in runs:
                table.notes.append(f"{name} failed." if name in self.peers else f"{name} was left out of this run.")
        table.fill(runs, NATIVE)

    def read(self) -> None:
        """What position deletes cost those who read when compaction is all but due, and what it gives back."""
        items = self.size.tables[0]
        lake = self._fresh_lake(items)
        for batch, share in ((91, 10), (92, 10), (93, 20)):  # retires 19 % of the rows; at 25 % they are compacted
            self.program("worker", "apply", make_changes(self.work, items, items // share, batch), lake)
        table = self.report.table(f"Reading all of {items:,} rows", "read", items, "at most 1.3 times")
        runs: Runs = {"with deletes": self.program("worker", "read", lake, "as it is")}
        runs["compacted"] = self.program("worker", "read", lake, "compacted")
        table.notes.append(
            "A scan of five columns with 19 % of the rows deleted by position, in three delete files: at 25 % the policy compacts."
        )
        table.fill(runs, "compacted")
        _same_rows(runs)

    def small(self) -> None:
        """Many small objects in one batch."""
        items, objects = self.size.tables[0], self.size.objects
        records, lake = objects * 14, self._fresh_lake(items)
        runs = []
        for number in range(self.size.repeats):
            landed = make_changes(self.work, items, records, 81 + number, objects=objects)
            runs.append(self.program("worker", "apply", landed, lake))
        a_second = records / median(runs, "seconds")
        title = f"{objects:,} objects of 14 records each ({a_second:,.0f} records a second)"
        self.report.table(title, "small", items, "60,000 records a second", a_second).fill({OURS: runs})

    def freshness(self) -> None:
        """From an object landed to its rows visible, by `sync` in a loop."""
        self._freshness("worker", ("freshness",), self.size.rounds, "freshness", "`sync` in a loop")

    def sensor(self) -> None:
        """The same by Dagster's daemon, which runs the sensor and launches runs."""
        shutil.rmtree(self.work / "sensor", ignore_errors=True)
        self._freshness("sensor", (), self.size.ticks, "freshness-sensor", "Dagster's sensor")

    def _freshness(self, module: str, work: tuple[str, ...], rounds: int, series: str, by: str) -> None:
        items = self.size.tables[0]
        landed = make_changes(self.work, items, 100 * rounds, 71, objects=rounds)
        found = self.program(module, *work, landed, self._fresh_lake(items))
        table = self.report.table(f"Landed to visible by {by}, {rounds} objects", series, items, "")
        runs: Runs = {"landed to visible": found}
        for part in found[0]["parts"]:
            runs[f"  {part}"] = [{"seconds": one["parts"][part]} for one in found]
        table.fill(runs, p99=True)

    def day(self) -> None:
        """Micro-batches, compacted when the policy says so: bytes written for each byte that changed."""
        items, batches = self.size.tables[0], self.size.batches
        landed = make_changes(self.work, items, 500 * batches, 61, objects=batches)
        run = self.program("worker", "day", landed, self._fresh_lake(items))
        written = run["amplification"]
        title = f"{batches} micro-batches of 500 changes: {written:.1f} bytes written for a byte landed"
        self.report.table(title, "day", items, "5", written).fill({OURS: [run]})

    def state(self) -> None:
        """One more object of one record, alone, to a table that has few and many commits. The seconds are processor time."""
        found = {}
        for objects in self.size.commits:
            shutil.rmtree(self.work / "state", ignore_errors=True)
            found[f"object {objects:,}"] = self.program("state", self.work / "state", str(objects))
        for what, figure in (("apply", "apply_cpu_ms"), ("commits", "commits_cpu_ms")):
            title = f"One object of one record: {'its three commits' if what == 'commits' else 'the whole apply'}"
            table = self.report.table(title, f"state-{what}", 0, "at most 1.2 times")
            table.notes.append("Seconds of processor time, means of the last ten objects. No compaction runs.")
            runs: Runs = {name: [{"seconds": figures[figure] / 1000}] for name, figures in found.items()}
            table.fill(runs, next(iter(runs)))

    def growth(self) -> None:
        """A small apply to a fresh lake and to one with a long history. The seconds are processor time."""
        shutil.rmtree(self.work / "growth", ignore_errors=True)
        sizes = ("--files", str(self.size.history), "--applies", str(self.size.growth_applies))
        found = self.program("growth", self.work / "growth", *sizes)
        shutil.rmtree(self.work / "growth")
        title = f"A small apply after {self.size.history:,} files of the changelog"
        table = self.report.table(title, "growth", self.size.history, f"at most {GROWTH_LIMIT:g} times", found["ratio"])
        table.notes.append(
            "Seconds of processor time, medians. The old lake also has 10,000 objects in the ledger and 100 snapshots."
        )
        runs: Runs = {name: [{"seconds": found[f"{name}_cpu_ms"] / 1000}] for name in ("fresh", "grown")}
        table.fill(runs, "fresh")

    def startup(self) -> None:
        """Commands that do little but start, and the import of the library."""
        items = self.size.tables[0]
        runs = self.program("startup", self._fresh_lake(items), str(self.size.starts))
        table = self.report.table("Starting", "startup", items, "0.15 s for `--help`, 0.6 s for `status`")
        table.notes.append("Whole processes, with Python's start and all imports.")
        table.fill(runs)

    def _fresh_lake(self, items: int) -> Path:
        lake = self.work / f"lake-{items}"
        shutil.rmtree(lake, ignore_errors=True)
        self.program("worker", "load", make_export(self.work, items), lake)
        return lake


def _is_able(peer: ApplyPeer, items: int) -> bool:
    return peer.most_rows is None or items <= peer.most_rows


def _same_rows(runs: Runs) -> None:
    found = {name: run["rows"] for name, of_name in runs.items() for run in of_name if run["rows"]}
    if len({json.dumps(rows) for rows in found.values()}) > 1:
        raise AssertionError(f"results differ: {found}")


PARTS: dict[str, Callable[[Bench], None]] = {
    name: getattr(Bench, name)
    for name in ("load", "apply", "read", "small", "freshness", "sensor", "day", "state", "growth", "startup")
}
