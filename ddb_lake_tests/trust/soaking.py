"""Hours of history compressed in time, with faults at random, which must end exact.

One round is one history: its exports and objects come in an order and grouping of chance, again and again, while
commits are lost or conflict, the catalog is away, the disk is full, objects are rewritten under the reader, processes
are killed and restarted, and tables are compacted. Then faults end, all input is given once more, and the lake is
compared with the truth: its items now and at each probe, the number of its records and of what is in quarantine.
"""

from __future__ import annotations

import errno
import random
import sqlite3
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest import mock

from pyiceberg.catalog.sql import SqlCatalog
from pyiceberg.exceptions import CommitFailedException, CommitStateUnknownException
from sqlalchemy.exc import OperationalError

from ddb_lake.aws.objects import ObjectStore
from ddb_lake.errors import UnreachableError
from ddb_lake.lake.file_writer import FileWriter
from ddb_lake.pipeline.apply.apply import apply_objects
from ddb_lake.pipeline.load.load import load_export
from ddb_lake.pipeline.maintain.compact import compact_table
from ddb_lake.pipeline.open_lake import Lake
from ddb_lake.pipeline.read.dump import dump_items
from ddb_lake_tests.simulator import Scenario, big_scenario, write
from ddb_lake_tests.support.failing_steps import explained, wrong
from ddb_lake_tests.support.folder_lake import lake


@dataclass
class Soak:
    """What was done, and what was found wrong. `lost`, `doubled` and `resurrected` are in `differences`."""

    histories: int = 0
    changes: int = 0
    stages: int = 0
    refused: int = 0
    faults: Counter[str] = field(default_factory=Counter)
    differences: list[str] = field(default_factory=list)
    seconds_of_history: float = 0.0

    def run(self, seed: int, keys: int = 12, changes: int = 60) -> None:
        """One history."""
        chance = random.Random(seed)
        scenario = big_scenario(seed=seed, keys=keys, changes=changes)
        with tempfile.TemporaryDirectory(prefix="soak-") as name:
            folder = Path(name)
            write(scenario, folder)
            steps = list(_steps(scenario, folder, chance))
            for step in steps:
                self._bad_times(scenario, folder, chance, step)
            self._calm(scenario, folder, steps)
        times = [change.time_us for change in scenario.history.changes]
        self.histories += 1
        self.changes += len(times)
        self.seconds_of_history += (max(times) - min(times)) / 1e6 if times else 0.0

    def _bad_times(self, scenario: Scenario, folder: Path, chance: random.Random, step: Step) -> None:
        """Run a step once while something may fail; the lake is opened again, as after a crash."""
        self.stages += 1
        with lake(folder / "lake", scenario.table, scenario.key_names) as opened, _trouble(chance, self.faults):
            try:
                step(opened)
            except Exception as error:  # whatever it is, a user must be able to act on it
                explained(error)
                self.refused += 1
            except _Killed:
                self.refused += 1

    def _calm(self, scenario: Scenario, folder: Path, steps: list[Step]) -> None:
        with lake(folder / "lake", scenario.table, scenario.key_names) as opened:
            for step in steps:
                step(opened)
            found = wrong(opened, scenario)
            for probe in scenario.probes:
                lines = (line.decode() for line in dump_items(opened, scenario.table, probe.time_us))
                found += [f"as of {probe.time_us}: {text}" for text in scenario.differences(lines, probe)]
        self.differences += found


Step = Callable[[Lake], Any]


def _steps(scenario: Scenario, folder: Path, chance: random.Random) -> Iterator[Step]:
    name = scenario.table
    found: list[Step] = []
    for number in range(len(scenario.exports)):
        found.append(lambda opened, n=number: load_export(opened, name, str(folder / "exports" / str(n))))  # type: ignore[misc]
    objects = [str(folder / "landing" / key) for key in scenario.objects]
    chance.shuffle(objects)
    while objects:
        size = chance.randint(1, max(1, len(objects) // 2))
        group, objects = objects[:size], objects[size:]
        found.append(lambda opened, uris=tuple(group): apply_objects(opened, name, uris))  # type: ignore[misc]
    found.append(lambda opened: compact_table(opened, name, force=True))
    found += chance.sample(found, k=min(2, len(found)))
    chance.shuffle(found)
    yield from found


class _Killed(BaseException):
    """The process is gone: no handler of ours runs, but those that any exception unwinds."""


@contextmanager
def _trouble(chance: random.Random, met: Counter[str]) -> Iterator[None]:
    """One fault, at one of the next calls of what it concerns; or none."""
    name = chance.choice((*_FAULTS, "none"))
    if name == "none":
        yield
        return
    owner, method, fail = _FAULTS[name]
    original, wait = getattr(owner, method), [chance.randint(0, 3)]

    def failing(*arguments: Any, **named: Any) -> Any:
        wait[0] -= 1
        if wait[0] != -1:
            return original(*arguments, **named)
        met[name] += 1
        return fail(original, *arguments, **named)

    with mock.patch.object(owner, method, failing):
        yield


def _lost_answer(original: Any, *arguments: Any, **named: Any) -> Any:
    original(*arguments, **named)
    raise CommitStateUnknownException("no answer")


def _raising(make: Callable[[], BaseException]) -> Callable[..., Any]:
    def fail(original: Any, *arguments: Any, **named: Any) -> Any:
        raise make()

    return fail


def _away() -> BaseException:
    return OperationalError("SELECT", {}, sqlite3.OperationalError("unable to open database file"))


_FAULTS: dict[str, tuple[Any, str, Callable[..., Any]]] = {
    "lost answer to a commit": (SqlCatalog, "commit_table", _lost_answer),
    "commit of unknown outcome that did not land": (
        SqlCatalog,
        "commit_table",
        _raising(lambda: CommitStateUnknownException("no answer")),
    ),
    "conflicting commit": (SqlCatalog, "commit_table", _raising(lambda: CommitFailedException("another was first"))),
    "catalog away": (SqlCatalog, "load_table", _raising(_away)),
    "disk full": (FileWriter, "write_paths", _raising(lambda: OSError(errno.ENOSPC, "No space left on device"))),
    "object changed under the reader": (ObjectStore, "fetch", _raising(lambda: UnreachableError("it was rewritten"))),
    "killed while writing": (FileWriter, "write_paths", _raising(_Killed)),
    "killed before the catalog is updated": (SqlCatalog, "commit_table", _raising(_Killed)),
}


def soak(seconds: float, seed: int = 1, told: Callable[[Soak], None] = lambda _: None) -> Soak:
    """Histories until the time is up; at least one."""
    done, deadline = Soak(), time.monotonic() + seconds
    while done.histories == 0 or time.monotonic() < deadline:
        done.run(seed + done.histories)
        told(done)
    return done
