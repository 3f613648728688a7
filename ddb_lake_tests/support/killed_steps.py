"""Stages in processes of their own, which may kill themselves after any step that leaves something on disk.

What is on disk before a step is what the step before it left, so a kill after each step, and one before the first,
visit every state that a crash can leave between two steps. Kills within a step come from outside (`test_crash`).

The processes are forked from a server that has imported everything and has neither threads nor DuckDB connections.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any
from unittest import mock

from pyiceberg.catalog.sql import SqlCatalog
from pyiceberg.io.pyarrow import PyArrowFileIO

from ddb_lake.aws.landing_writer import Landing
from ddb_lake.config import LakeSettings, SnapshotSettings, parse_settings
from ddb_lake.executors import open_lake
from ddb_lake.lake import expiry
from ddb_lake.lake.catalog import LakeCatalog
from ddb_lake.lake.commit import Commit, _DeltaProducer
from ddb_lake.lake.file_writer import FileWriter
from ddb_lake.pipeline.apply.apply import apply_objects
from ddb_lake.pipeline.load.load import load_export
from ddb_lake.pipeline.maintain import compact
from ddb_lake.pipeline.maintain.compact import compact_table
from ddb_lake.pipeline.maintain.quarantine import replay_quarantine
from ddb_lake.pipeline.open_lake import Lake
from ddb_lake.pipeline.verify.repair import repair_from_export
from ddb_lake_tests.support.merging_early import merging_early

PROCESSES = multiprocessing.get_context("forkserver")
PROCESSES.set_forkserver_preload([__name__])

UNCOMMITTED = "metadata written, catalog not updated"
"""The point in the middle of a commit: all its files exist, and no reader can see them."""

WITHIN_S = 120
"""How long a process may take before the test gives up on it."""


@dataclass(frozen=True)
class Step:
    """One stage to run: load, apply, compact, clean (compaction where it is due), replay or repair, with what it takes.

    `uris`: what is loaded or applied; for a repair, an export and the keys to repair as JSON.
    """

    kind: str
    table: str
    uris: tuple[str, ...] = ()

    def run(self, lake: Lake) -> None:
        """Run it."""
        if self.kind == "load":
            load_export(lake, self.table, self.uris[0])
        elif self.kind == "apply":
            apply_objects(lake, self.table, self.uris)
        elif self.kind == "compact":
            compact_table(lake, self.table, force=True)
        elif self.kind == "clean":
            compact_table(lake, self.table)
        elif self.kind == "repair":
            repair_from_export(lake, self.table, [json.loads(key) for key in self.uris[1:]], self.uris[0])
        else:
            replay_quarantine(lake, self.table)


@dataclass(frozen=True)
class Job:
    """Some steps on the lake in `warehouse`. `hasty`: compaction keeps nothing back, neither snapshots nor orphans."""

    warehouse: Path
    tables: tuple[dict[str, Any], ...]
    steps: tuple[Step, ...] = ()
    hasty: bool = False

    @property
    def settings(self) -> LakeSettings:
        """The lake's settings."""
        return parse_settings({"warehouse": str(self.warehouse), "tables": self.tables}, "test")

    @contextmanager
    def lake(self) -> Iterator[Lake]:
        """The open lake."""
        with open_lake(self.settings) as lake, cleaning_at_once() if self.hasty else ExitStack():
            yield lake

    def run(self, rounds: int = 1) -> None:
        """Run the steps."""
        with self.lake() as lake:
            for _ in range(rounds):
                for step in self.steps:
                    step.run(lake)

    def start(self, rounds: int = 1, kill_after: int | None = None, told: Path | None = None) -> Any:
        """Start the job in a process of its own, as `_run_instrumented`."""
        process = PROCESSES.Process(target=_run_instrumented, args=(self, rounds, kill_after, told))
        process.start()
        return process

    def points(self, told: Path) -> list[str]:
        """The names of the points that the job passes, in order; it is run for that."""
        assert ended(self.start(told=told)) == 0
        names: list[str] = json.loads(told.read_text())
        return names

    def killed_after(self, point: int) -> bool:
        """Run the job and kill it after the `point`-th point (0: before anything); whether it got there."""
        exit_code = ended(self.start(kill_after=point))
        assert exit_code in (0, -signal.SIGKILL), f"the process ended with {exit_code}"
        return exit_code != 0


def ended(process: Any) -> int:
    """Wait for a process; gives its exit code."""
    process.join(WITHIN_S)
    assert process.exitcode is not None, "the process hangs"
    exit_code: int = process.exitcode
    process.close()
    return exit_code


@contextmanager
def cleaning_at_once() -> Iterator[None]:
    """Let compaction expire all but the newest snapshot, merge any two files, and remove orphans however young they are."""
    with (
        merging_early(),
        mock.patch.object(expiry, "KEEP_SNAPSHOTS", 1),
        mock.patch.object(SnapshotSettings, "keep_for_s", 0),
        mock.patch.object(compact, "ORPHAN_GRACE", timedelta(seconds=-1)),
    ):
        yield


@dataclass
class _Points:
    """Counts the points that are passed; kills the process after one of them."""

    kill_after: int | None
    names: list[str] = field(default_factory=list)

    def passed(self, name: str) -> None:
        self.names.append(name)
        if len(self.names) == self.kill_after:
            os.kill(os.getpid(), signal.SIGKILL)


def _run_instrumented(job: Job, rounds: int, kill_after: int | None, told: Path | None) -> None:
    tempfile.tempdir = str(job.warehouse.parent)  # a killed process cannot remove its work folder
    if kill_after == 0:
        os.kill(os.getpid(), signal.SIGKILL)
    points = _Points(kill_after)
    with instrumented(points.passed):
        job.run(rounds)
    if told is not None:
        told.write_text(json.dumps(points.names))


@contextmanager
def instrumented(passed: Callable[[str], None]) -> Iterator[None]:
    """Call `passed` after each step that writes to disk or removes something from it."""
    with ExitStack() as stack:
        for owner, name, what in _STEPS:
            stack.enter_context(_told_after(owner, name, what, passed))
        yield


_Describe = Callable[..., str]

LANDED = "object landed"

_STEPS: Sequence[tuple[Any, str, _Describe]] = (
    (Landing, "put", lambda *_: LANDED),
    (LakeCatalog, "create", lambda catalog, name, *_, **__: f"{name} created"),
    (FileWriter, "write_paths", lambda *_, **__: "data files written"),
    (FileWriter, "adopt", lambda *_: "file of a reader adopted"),
    (FileWriter, "write_deletes", lambda *_: "position deletes written"),
    (_DeltaProducer, "commit", lambda producer: f"snapshot staged on {producer._target_branch}"),
    (SqlCatalog, "_write_metadata", lambda *_, **__: UNCOMMITTED),
    (Commit, "run", lambda commit: f"{commit._table.name()[-1]} committed"),
    (compact, "expire_snapshots", lambda table, *_: f"snapshots of {table.name()[-1]} expired"),
    (PyArrowFileIO, "delete", lambda *_: "file removed"),
)


@contextmanager
def _told_after(owner: Any, name: str, what: _Describe, passed: Callable[[str], None]) -> Iterator[None]:
    original = getattr(owner, name)
    is_static = isinstance(owner, type) and any(isinstance(c.__dict__.get(name), staticmethod) for c in owner.__mro__)

    def telling(*arguments: Any, **named: Any) -> Any:
        result = original(*arguments, **named)
        passed(what(*arguments, **named))
        return result

    with mock.patch.object(owner, name, staticmethod(telling) if is_static else telling):
        yield
