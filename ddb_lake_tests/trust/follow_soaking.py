"""An hour of `ddb-lake follow` in real time: two processes that follow the same tables, with faults at random, which must end exact.

The tables are simulated (`support.streams_service`) in a process of their own; two are read from DynamoDB Streams, two from Kinesis.
Both followers are processes that are killed, stopped, paused and started again. Meanwhile streams throttle, shards are split and
merged, iterators expire, streams are switched off and on, the catalog is locked, the disk is full, object storage does not answer,
and answers to commits are lost. Every few minutes faults end, the followers catch up, and the lake is compared with the source: every
item, the number of records of each changelog, the quarantine, and that each landed object was applied.

For half of the time, the first follower is not ended, while the second is and all other faults go on: its memory must not grow.
"""

from __future__ import annotations

import errno
import faulthandler
import json
import multiprocessing
import os
import random
import resource
import signal
import sqlite3
import statistics
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from multiprocessing.managers import BaseManager
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any
from unittest import mock

from pyiceberg.catalog.sql import SqlCatalog
from pyiceberg.exceptions import CommitFailedException, CommitStateUnknownException

from ddb_lake.aws.landing_writer import Landing
from ddb_lake.cli.failures import error_text
from ddb_lake.cli.stopping import stopped_by
from ddb_lake.config import LakeSettings, parse_settings
from ddb_lake.errors import UnreachableError
from ddb_lake.executors import open_lake
from ddb_lake.lake.file_writer import FileWriter
from ddb_lake.lake.state import changes_state
from ddb_lake.pipeline.capture.streams import StreamReader
from ddb_lake.pipeline.follow import follower as follow
from ddb_lake.pipeline.follow.follower import Follower
from ddb_lake.pipeline.follow.leases import LeaseKeeper
from ddb_lake.pipeline.follow.table import FollowedTable, FollowOptions, Turn
from ddb_lake.pipeline.open_lake import Lake
from ddb_lake.pipeline.plan.arrivals import list_unapplied
from ddb_lake.pipeline.plan.work import Work
from ddb_lake.pipeline.read.dump import dump_items
from ddb_lake_tests.support.iceberg_readers import count_rows
from ddb_lake_tests.support.remote_stream import RemoteTable
from ddb_lake_tests.support.streams_service import SimulatedKinesis, SimulatedStreams, source_items

TABLES: Mapping[str, type[SimulatedStreams]] = {
    "orders": SimulatedStreams,
    "stock": SimulatedStreams,
    "carts": SimulatedKinesis,
    "visits": SimulatedKinesis,
}
KEYS = 300
CHANGES_PER_S = 60
STEP_S = 0.5
FAULT_EVERY_S = (2.0, 8.0)
CATCH_UP_S = 300.0
"""How long followers may take to apply all that was written, once faults have ended."""
STOPPING_S = 120.0
COMPACT_EVERY_S = 20.0
CLEAN_EVERY_S = 60.0
STACKS = "stacks"
"""The file to which a follower that does not end writes what its threads do."""

SPARED = 0.25, 0.75
"""The shares of the time between which the first follower is not ended."""
MOST_GROWTH = 1.25
"""The memory of a follower after some time, as a multiple of that before."""


class Service:
    """The simulated services of all tables, one call at a time. Their time is the machine's."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._tables = {name: kind(page_size=200, table_name=name) for name, kind in TABLES.items()}
        for name in self._tables:
            self.call(name, "enable", 2)

    def call(self, name: str, method: str, *arguments: Any) -> Any:
        """Call a method of a table's service."""
        with self._lock:
            service = self._tables[name]
            service.now_us = max(service.now_us + 1, time.time_ns() // 1000)
            service.calls.clear()
            return getattr(service, method)(*arguments)

    def write(self, name: str, changes: Sequence[tuple[int, int]]) -> None:
        """Write items (a negative value: remove)."""
        for key, value in changes:
            self.call(name, "write", key, value)

    def set(self, name: str, attribute: str, value: int) -> None:
        """Set how often a table's service throttles, or how many empty pages it gives."""
        with self._lock:
            setattr(self._tables[name], attribute, value)

    def truth(self, name: str) -> tuple[list[str], int]:
        """The table's items, as `source_items`, and the number of its changes."""
        with self._lock:
            service = self._tables[name]
            return source_items(service.items), len(service.changes)


class _Server(BaseManager):
    """Serves a `Service` in a process; each thread of a follower has a connection of its own."""


_Server.register("Service", Service)


def _settings(folder: Path) -> LakeSettings:
    tables = [
        {"name": name, "key": ["id"], "changes": {"kinesis": name} if kind is SimulatedKinesis else {"streams": True}}
        for name, kind in TABLES.items()
    ]
    return parse_settings({"warehouse": str(folder), "tables": tables}, "soak")


# --- the process of a follower


@dataclass
class _Journal:
    """A listener that appends what it receives to a file, one JSON document a line."""

    path: Path

    def turn(self, turn: Turn) -> None:
        landed = turn.streams.records if turn.streams is not None else 0
        throttled = turn.streams.throttled if turn.streams is not None else 0
        self.write(event="turn", table=turn.table, records=landed, throttled=throttled, lag_s=turn.lag_s)

    def work(self, work: Work, result: Any) -> None:
        self.write(event="work", kind=work.kind)

    def failed(self, table: str, error: Exception) -> None:
        self.write(event="failed", table=table, type=type(error).__name__, text=error_text(error))

    def ticked(self, lags_s: Mapping[str, float]) -> None:
        pass

    def holds(self, tables: Sequence[str], waiting: Sequence[str]) -> None:
        self.write(event="holds", tables=len(tables))

    def write(self, **facts: Any) -> None:
        with self.path.open("a", encoding="utf-8") as file:  # one short write, so that lines of two threads do not mix
            file.write(json.dumps(facts) + "\n")


@contextmanager
def _faults(board: Path, journal: _Journal) -> Iterator[None]:
    """Let calls fail while the folder `board` has a file with the fault's name."""

    def wrapped(fault: str, share: float, fail: Callable[..., Any], original: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **named: Any) -> Any:
            if (board / fault).exists() and random.random() < share:
                journal.write(event="fault", kind=fault)
                return fail(original, *arguments, **named)
            return original(*arguments, **named)

        return call

    with ExitStack() as stack:
        for fault, share, owner, method, fail in _INJECTED:
            changed = wrapped(fault, share, fail, getattr(owner, method))
            stack.enter_context(mock.patch.object(owner, method, changed))
        yield


def _raising(make: Callable[[], BaseException]) -> Callable[..., Any]:
    def fail(original: Any, *arguments: Any, **named: Any) -> Any:
        raise make()

    return fail


def _lost_answer(original: Any, *arguments: Any, **named: Any) -> Any:
    original(*arguments, **named)
    raise CommitStateUnknownException("no answer")


_full = _raising(lambda: OSError(errno.ENOSPC, "No space left on device"))
_away = _raising(lambda: UnreachableError("S3 does not answer"))

_INJECTED: Sequence[tuple[str, float, Any, str, Callable[..., Any]]] = (
    ("disk full", 1.0, Landing, "put", _full),
    ("disk full", 1.0, FileWriter, "write_paths", _full),
    ("objects away", 0.7, Landing, "put", _away),
    ("objects away", 0.7, Landing, "load", _away),
    ("objects away", 0.7, Landing, "replace", _away),
    ("lost answer to a commit", 0.5, SqlCatalog, "commit_table", _lost_answer),
    (
        "conflicting commit",
        0.5,
        SqlCatalog,
        "commit_table",
        _raising(lambda: CommitFailedException("another was first")),
    ),
    ("commit that did not arrive", 0.5, SqlCatalog, "commit_table", _raising(lambda: CommitStateUnknownException("?"))),
)
"""Fault, the share of calls that fail, and the function that fails."""


def _follow(folder: Path, service: Any, journal_path: Path) -> None:
    """Follow all tables until SIGTERM: what a follower's process does."""
    journal, stop = _Journal(journal_path), threading.Event()
    follow.COMPACT_EVERY_S, follow.CLEAN_EVERY_S = COMPACT_EVERY_S, CLEAN_EVERY_S
    with (
        (folder / STACKS).open("w", encoding="utf-8") as stacks,
        stopped_by(stop, signal.SIGTERM),
        _faults(folder / "faults", journal),
        open_lake(_settings(folder / "lake")) as lake,
    ):
        faulthandler.register(signal.SIGUSR1, stacks)
        _follower(lake, service, journal).run(stop)


def _follower(lake: Lake, service: Any, journal: _Journal) -> Follower:
    tables = {
        name: FollowedTable(lake, name, StreamReader.of(lake, name, RemoteTable(service, name))) for name in TABLES
    }
    return Follower(lake, tables, journal, FollowOptions(interval_s=2.0), LeaseKeeper(lake, list(TABLES)))


# --- the soak


@dataclass
class FollowSoak:
    """What was done, and what was found wrong.

    Attributes:
        faults: faults by kind, as they were begun.
        failed_calls: calls that failed in followers because of a fault of object storage, the disk or the catalog.
        refused: errors of followers by type; each was tried again.
        restarts: processes that were started after the first two.
        peak_mb: the greatest memory of a follower's process.
        memory_mb: the memory of the followers' processes, each minute, with the age of the process in seconds.
        spared_mb: the memory of the follower that was not ended for a long time, each minute.
        differences: what differs from the source.
    """

    changes: int = 0
    turns: int = 0
    records: int = 0
    restarts: int = 0
    comparisons: int = 0
    compactions: int = 0
    peak_mb: int = 0
    seconds: float = 0.0
    faults: Counter[str] = field(default_factory=Counter)
    failed_calls: Counter[str] = field(default_factory=Counter)
    refused: Counter[str] = field(default_factory=Counter)
    memory_mb: list[tuple[int, int]] = field(default_factory=list)
    spared_mb: list[int] = field(default_factory=list)
    differences: list[str] = field(default_factory=list)

    @property
    def growth(self) -> float:
        """The memory of the spared follower in the last third of its time, as a multiple of that in the first; 1 after short runs.

        The first three minutes are left out, and runs of less than nine minutes after them.
        """
        later = self.spared_mb[3:]
        third = len(later) // 3
        return statistics.median(later[-third:]) / statistics.median(later[:third]) if third >= 3 else 1.0

    def line(self) -> str:
        """The figures in one line."""
        return (
            f"{self.seconds / 60:.0f} minutes: {self.changes} changes, {self.turns} turns, {self.records} records landed,"
            f" {self.compactions} compactions, {self.faults.total()} faults of {len(self.faults)} kinds,"
            f" {self.restarts} restarts, {self.refused.total()} errors that were tried again, at most {self.peak_mb} MB,"
            f" {self.comparisons} comparisons, {len(self.differences)} differences"
        )


@dataclass
class _Process:
    """A follower's process, as the soak sees it."""

    name: str
    start: Callable[[str], BaseProcess]
    process: BaseProcess | None = None
    started_at: float = 0.0
    is_paused: bool = False

    def begin(self) -> None:
        self.process, self.started_at, self.is_paused = self.start(self.name), time.monotonic(), False

    def signal(self, number: signal.Signals) -> None:
        assert self.process is not None
        assert self.process.pid is not None
        os.kill(self.process.pid, number)
        self.is_paused = number == signal.SIGSTOP

    def end(self, number: signal.Signals, meanwhile: Callable[[], None] = lambda: None) -> int | None:
        """End the process by a signal; its exit status (None: it did not end). Calls `meanwhile` again and again until it has ended."""
        assert self.process is not None
        if self.is_paused:
            self.signal(signal.SIGCONT)
        self.signal(number)
        until = time.monotonic() + STOPPING_S
        while self.process.exitcode is None and time.monotonic() < until:
            self.process.join(STEP_S)
            meanwhile()
        status = self.process.exitcode
        if status is None:
            self.signal(signal.SIGUSR1)  # it writes what its threads do
            self.process.join(STEP_S)
            self.process.kill()
            self.process.join()
        return status

    @property
    def resident_mb(self) -> int:
        assert self.process is not None
        try:
            pages = int(Path(f"/proc/{self.process.pid}/statm").read_text(encoding="ascii").split()[1])
        except (OSError, IndexError):  # it has ended
            return 0
        return pages * resource.getpagesize() // 1024**2


@dataclass
class _Run:
    """One soak."""

    folder: Path
    service: Any
    chance: random.Random
    done: FollowSoak
    processes: list[_Process] = field(default_factory=list)
    is_sparing: bool = False
    _undo: list[tuple[float, Callable[[], None]]] = field(default_factory=list)
    _read: int = 0

    @property
    def journal(self) -> Path:
        return self.folder / "journal"

    def start(self, name: str) -> BaseProcess:
        context = multiprocessing.get_context("spawn")
        process = context.Process(target=_follow, args=(self.folder, self.service, self.journal), name=name)
        process.start()
        return process

    def begin(self) -> None:
        """Start both followers, and wait until each table is followed: streams of before that are not read."""
        for one in self.processes:
            one.begin()
        for name in TABLES:
            self.service.write(name, [(0, 0)])
        with open_lake(_settings(self.folder / "lake")) as lake:
            until = time.monotonic() + CATCH_UP_S
            while any(_records(lake, name) < 1 for name in TABLES):
                assert time.monotonic() < until, "the followers did not begin"
                self.look()
                time.sleep(STEP_S)

    # --- changes and faults

    def write(self, seconds: float) -> None:
        """Write as many changes as belong to a time."""
        for name in TABLES:
            count = round(CHANGES_PER_S * seconds / len(TABLES) * self.chance.choice((0, 1, 1, 2)))
            changes = [(self.chance.randrange(KEYS), self.chance.randint(-20, 999)) for _ in range(count)]
            self.service.write(name, [(key, max(value, -1)) for key, value in changes])

    def fault(self) -> None:
        """Begin one fault."""
        kind = self.chance.choice(list(_FAULTS))
        if _FAULTS[kind](self):
            self.done.faults[kind] += 1

    def end_faults(self, until: float) -> None:
        """End the faults whose time is over at a time of the monotonic clock."""
        over = [undo for end, undo in self._undo if end <= until]
        self._undo = [(end, undo) for end, undo in self._undo if end > until]
        for undo in over:
            undo()

    def end_all_faults(self) -> None:
        """End all faults at once."""
        self.end_faults(float("inf"))
        for name in TABLES:
            self.service.set(name, "throttles", 0)

    def later(self, seconds: float, undo: Callable[[], None]) -> None:
        self._undo.append((time.monotonic() + seconds, undo))

    def table(self) -> str:
        return self.chance.choice(list(TABLES))

    def victim(self) -> _Process:
        return self.processes[-1] if self.is_sparing else self.chance.choice(self.processes)

    def kill(self) -> bool:
        one = self.victim()
        one.end(signal.SIGKILL)
        self._restart(one)
        return True

    def terminate(self) -> bool:
        one = self.victim()
        self._stop(one)
        self._restart(one)
        return True

    def _stop(self, one: _Process) -> None:
        """End a process by SIGTERM. While it starts, the signal itself ends it; later it completes what is in progress.

        Faults whose time is over end meanwhile: a paused follower may have the catalog's lock.
        """
        status = one.end(signal.SIGTERM, lambda: self.end_faults(time.monotonic()))
        if status not in (0, -signal.SIGTERM):
            stacks = self.folder / STACKS
            doing = stacks.read_text(encoding="utf-8") if status is None and stacks.exists() else ""
            self.done.differences.append(f"after SIGTERM a follower ended with status {status}\n{doing}".strip())

    def _restart(self, one: _Process) -> None:
        one.begin()
        self.done.restarts += 1

    def pause(self) -> bool:
        running = [one for one in self.processes if not one.is_paused]
        if len(running) < len(self.processes):
            return False
        one = self.chance.choice(running)
        one.signal(signal.SIGSTOP)

        def proceed() -> None:
            if one.is_paused:
                one.signal(signal.SIGCONT)

        self.later(self.chance.uniform(5, 45), proceed)
        return True

    def throttle(self) -> bool:
        self.service.set(self.table(), "throttles", self.chance.randint(1, 30))
        return True

    def empty_pages(self) -> bool:
        self.service.set(self.table(), "empty_pages", self.chance.randint(0, 4))
        return True

    def reshard(self) -> bool:
        name, number = self.table(), self.chance.randrange(8)
        merges = TABLES[name] is SimulatedKinesis
        self.service.call(name, self.chance.choice(("split", "roll", *(("merge", "merge") if merges else ()))), number)
        return True

    def expire(self) -> bool:
        self.service.call(self.table(), "expire_iterators")
        return True

    def switch(self) -> bool:
        name = self.table()
        self.service.call(name, "disable")
        time.sleep(STEP_S)
        self.service.call(name, "enable")
        return True

    def lock_catalog(self) -> bool:
        """Lock the file of the catalog, as another process would."""
        connection = sqlite3.connect(self.folder / "lake" / "catalog.db", timeout=0.5, isolation_level=None)
        try:
            connection.execute("BEGIN EXCLUSIVE")
        except sqlite3.OperationalError:  # a follower commits at this moment
            connection.close()
            return False
        self.later(self.chance.uniform(2, 20), connection.close)
        return True

    def inject(self, kind: str) -> bool:
        """Let calls of followers fail for some time."""
        mark = self.folder / "faults" / kind
        mark.touch()
        self.later(self.chance.uniform(2, 15), lambda: mark.unlink(missing_ok=True))
        return True

    # --- what followers did

    def look(self) -> None:
        """Read what followers wrote into the journal, and that none of them ended by itself."""
        for one in self.processes:
            assert one.process is not None
            if one.process.exitcode is not None:
                self.done.differences.append(f"a follower ended by itself with status {one.process.exitcode}")
                self._restart(one)
            self.done.peak_mb = max(self.done.peak_mb, one.resident_mb)
        if not self.journal.exists():
            return
        with self.journal.open("rb") as file:
            file.seek(self._read)
            data = file.read()
        whole = data[: data.rfind(b"\n") + 1]
        self._read += len(whole)
        for line in whole.splitlines():
            try:
                self._count(json.loads(line))
            except json.JSONDecodeError:  # its process was killed in the middle of the line
                continue

    def _count(self, entry: Mapping[str, Any]) -> None:
        done = self.done
        if entry["event"] == "turn":
            done.turns += 1
            done.records += entry["records"]
        elif entry["event"] == "work":
            done.compactions += entry["kind"] == "compact"
        elif entry["event"] == "fault":
            done.failed_calls[entry["kind"]] += 1
        elif entry["event"] == "failed":
            done.refused[entry["type"]] += 1
            if entry["text"].startswith("unexpected"):
                done.differences.append(f"an error without a next step: {entry['text']}")

    # --- comparing

    def settle(self) -> None:
        """End all faults, wait until the followers have applied everything, and compare."""
        self.end_all_faults()
        with open_lake(_settings(self.folder / "lake")) as lake:
            truth = {name: self.service.truth(name) for name in TABLES}
            until = time.monotonic() + CATCH_UP_S
            while time.monotonic() < until and any(_records(lake, name) < truth[name][1] for name in TABLES):
                self.look()
                time.sleep(STEP_S)
            self.compare(lake)

    def compare(self, lake: Lake) -> None:
        """Compare the lake with the source. Nothing may be written meanwhile."""
        for name in TABLES:
            items, changes = self.service.truth(name)
            self._wait_for_merge(lake, name, items)
            found = _items(lake, name)
            if found != items:
                wrong = len(set(items) ^ set(found))
                self.done.differences.append(f"{name}: {wrong} of {len(items)} items differ")
            if (records := _records(lake, name)) != changes:
                self.done.differences.append(f"{name}: {records} records of {changes} changes")
            if count_rows(lake, f"{name}_quarantine"):
                self.done.differences.append(f"{name}: records are in quarantine")
        self.done.comparisons += 1

    def _wait_for_merge(self, lake: Lake, name: str, items: list[str]) -> None:
        """Wait until the last commit of the changelog is merged, or all is lost."""
        until = time.monotonic() + CATCH_UP_S / 10
        while _items(lake, name) != items and time.monotonic() < until:
            time.sleep(STEP_S)

    def finish(self) -> None:
        """End the followers; one more applies what is left. Each landed object must be applied then."""
        self.end_all_faults()
        for one in self.processes:
            self._stop(one)
        self.look_at_journal()
        with open_lake(_settings(self.folder / "lake")) as lake:
            _follower(lake, self.service, _Journal(self.journal)).once()
            self.compare(lake)
            for name in TABLES:
                if refs := list_unapplied(lake, lake.table(name)).refs:
                    self.done.differences.append(f"{name}: {len(refs)} landed objects are not applied")
        if self.done.growth > MOST_GROWTH:
            self.done.differences.append(f"the memory of a follower grew to {self.done.growth:.2f} times")

    def look_at_journal(self) -> None:
        """`look` after the processes ended."""
        processes, self.processes = self.processes, []
        self.look()
        self.processes = processes


_FAULTS: Mapping[str, Callable[[_Run], bool]] = {
    "killed (SIGKILL)": _Run.kill,
    "stopped (SIGTERM)": _Run.terminate,
    "paused (SIGSTOP) for 5 to 45 s": _Run.pause,
    "throttled": _Run.throttle,
    "empty pages": _Run.empty_pages,
    "shards split, merged or closed": _Run.reshard,
    "iterators expired": _Run.expire,
    "stream switched off and on": _Run.switch,
    "catalog locked for 2 to 20 s": _Run.lock_catalog,
    **{kind: (lambda run, kind=kind: run.inject(kind)) for kind in dict.fromkeys(one[0] for one in _INJECTED)},
}
"""What begins each fault; False: it was not possible now."""


def _records(lake: Lake, name: str) -> int:
    return changes_state(lake.changes(name)).records


def _items(lake: Lake, name: str) -> list[str]:
    if lake.current(name) is None:
        return []
    return sorted(json.dumps(json.loads(line)["Item"], sort_keys=True) for line in dump_items(lake, name))


def follow_soak(
    seconds: float,
    seed: int = 1,
    report: Callable[[FollowSoak], None] = lambda _: None,
    compare_every_s: float = 300.0,
) -> FollowSoak:
    """Follow for some time with faults at random, and compare at intervals and at the end.

    Args:
        seconds: the time, without that of the last comparison.
        seed: of the changes and faults. Where they meet the followers depends on the machine.
        report: called with the figures after each comparison.
        compare_every_s: the interval of comparisons.
    """
    done, began = FollowSoak(), time.monotonic()
    with (
        tempfile.TemporaryDirectory(prefix="follow-soak-") as name,
        _Server(ctx=multiprocessing.get_context("spawn")) as server,
    ):
        folder = Path(name)
        (folder / "faults").mkdir()
        run = _Run(folder, server.Service(), random.Random(seed), done)  # type: ignore[attr-defined]  # registered above
        run.processes = [_Process("first", run.start), _Process("second", run.start)]
        try:
            run.begin()
            _go_on(run, began + seconds, compare_every_s, report)
            run.finish()
        finally:
            for one in run.processes:
                if one.process is not None and one.process.exitcode is None:
                    one.process.kill()
        done.changes = sum(run.service.truth(name)[1] for name in TABLES)
    done.seconds = time.monotonic() - began
    report(done)
    return done


def _go_on(run: _Run, until: float, compare_every_s: float, report: Callable[[FollowSoak], None]) -> None:
    began = wrote_at = time.monotonic()
    fault_at, compare_at, sample_at = began + 15.0, began + compare_every_s, began + 60.0
    spared_from, spared_to = (began + share * (until - began) for share in SPARED)
    while (now := time.monotonic()) < until:
        run.is_sparing = spared_from <= now < spared_to
        run.write(min(5.0, now - wrote_at))
        wrote_at = now
        run.end_faults(now)
        run.look()
        if now >= fault_at:
            run.fault()
            fault_at = time.monotonic() + run.chance.uniform(*FAULT_EVERY_S)
        if now >= sample_at:
            run.done.memory_mb += [(round(now - one.started_at), one.resident_mb) for one in run.processes]
            run.done.spared_mb += [run.processes[0].resident_mb] if run.is_sparing else []
            sample_at = now + 60.0
        if now >= compare_at:
            run.settle()
            run.done.seconds = time.monotonic() - began
            run.done.changes = sum(run.service.truth(name)[1] for name in TABLES)
            report(run.done)
            wrote_at = time.monotonic()
            compare_at = wrote_at + compare_every_s
        time.sleep(STEP_S)
