"""G6 with two writers: whatever runs at once, one re-plans, nothing is lost or doubled, and the readers agree.

Two threads with a lake handle each plan against one snapshot and are held until both want to commit; a few tests use
processes and leave it to chance. The catalog is SQLite.
"""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from sqlalchemy.exc import OperationalError

from ddb_lake.aws import objects
from ddb_lake.aws.objects import ObjectRef
from ddb_lake.lake.catalog import LakeCatalog
from ddb_lake.lake.commit import Commit
from ddb_lake.pipeline.apply import changelog
from ddb_lake.pipeline.apply.apply import apply_objects
from ddb_lake.pipeline.maintain import compact
from ddb_lake.pipeline.merge.current import update_current
from ddb_lake.pipeline.read.dump import dump_items
from ddb_lake.pipeline.read.status import table_status
from ddb_lake_tests.simulator import write
from ddb_lake_tests.support.commits import commits_to, held
from ddb_lake_tests.support.effort import cases
from ddb_lake_tests.support.export_files import HOUR_US, MINUTE_US, T0_US, change, full, item, land, sorted_items
from ddb_lake_tests.support.fault_marks import fault
from ddb_lake_tests.support.iceberg_readers import assert_readers_agree
from ddb_lake_tests.support.killed_steps import Job, Step, cleaning_at_once, ended
from ddb_lake_tests.support.lake_contents import faults, missing_files, small_scenario


class Ground:
    """A scenario's stages, and a lake that can be put back to empty or to half of it applied."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.scenario = small_scenario(seed=1)
        write(self.scenario, folder)
        objects = tuple(str(folder / "landing" / key) for key in self.scenario.objects)
        half = len(objects) // 2
        self.first, self.second = Step("apply", "orders", objects[:half]), Step("apply", "orders", objects[half:])
        exports = {
            e.kind: Step("load", "orders", (str(folder / "exports" / str(n)),))
            for n, e in enumerate(self.scenario.exports)
        }
        self.load, self.increment = exports["full"], exports["incremental"]
        self.compact = Step("compact", "orders")
        self.clean = Step("clean", "orders")
        self.job = Job(folder / "lake", ({"name": "orders", "key": list(self.scenario.key_names)},))
        replace(self.job, steps=(self.first,)).run()
        shutil.copytree(self.job.warehouse, folder / "half")

    def half(self) -> None:
        """The first half of the objects is applied, nothing is loaded."""
        shutil.rmtree(self.job.warehouse)
        shutil.copytree(self.folder / "half", self.job.warehouse)

    def empty(self) -> None:
        """No lake at all."""
        shutil.rmtree(self.job.warehouse)

    def run(self, *steps: Step) -> None:
        """Run steps with a lake handle of their own."""
        replace(self.job, steps=steps).run()

    def at_once(self, *steps: Step) -> None:
        """Run each step in a thread with a lake handle of its own."""
        with ThreadPoolExecutor(len(steps)) as pool:
            for done in [pool.submit(self.run, step) for step in steps]:
                done.result()

    def assert_exact(self, readers: bool = False) -> None:
        """Once everything has run, the lake has the truth; with `readers`, all of them say the same."""
        self.run(self.first, self.second, self.load, self.increment)
        with self.job.lake() as lake:
            assert faults(lake, self.scenario) == []
            assert missing_files(lake, ["orders"]) == set()
            if readers:
                assert_readers_agree(lake, "orders")


@pytest.fixture(scope="module")
def ground(tmp_path_factory: pytest.TempPathFactory) -> Ground:
    return Ground(tmp_path_factory.mktemp("ground"))


@fault("another writer commits first", "apply")
@pytest.mark.parametrize("table", cases(("orders_quarantine", "orders_changes", "orders"), quick=("orders",)))
def test_two_applies_of_the_same_objects_at_once_count_them_once(ground: Ground, table: str) -> None:
    ground.half()
    with commits_to(table) as conflicts:
        ground.at_once(ground.second, ground.second)
    assert len(conflicts) >= 1
    ground.assert_exact(readers=True)


def test_an_apply_that_finds_its_objects_ingested_has_no_doubt(ground: Ground) -> None:
    ground.half()

    def ingest(*arguments: Any) -> Any:
        patched.stop()
        ground.run(ground.second)
        return changelog.ingest(*arguments)

    patched = mock.patch("ddb_lake.pipeline.apply.apply.ingest", ingest)
    patched.start()
    with ground.job.lake() as lake:
        result = apply_objects(lake, "orders", ground.second.uris)
    assert (result.records, result.new, result.duplicates, result.quarantined, result.doubts) == (0, 0, 0, 0, ())
    ground.assert_exact()


def test_two_applies_of_different_objects_at_once_keep_both(ground: Ground) -> None:
    ground.empty()
    with commits_to("orders_changes") as conflicts:
        ground.at_once(ground.first, ground.second)
    assert len(conflicts) >= 1
    with ground.job.lake() as lake:
        status = table_status(lake, "orders")
    assert (status.changes, status.pending_batches) == (ground.scenario.expected_records, 0)
    ground.assert_exact()


@pytest.mark.parametrize("table", cases(("orders_changes", "orders"), quick=("orders",)))
def test_apply_during_compaction_loses_neither(ground: Ground, table: str) -> None:
    ground.half()
    with mock.patch("ddb_lake.lake.compaction_policy.MAX_FILES_PER_HOUR", 0), commits_to(table) as conflicts:
        ground.at_once(ground.compact, ground.second)
    assert len(conflicts) >= 1
    ground.assert_exact(readers=True)


def test_load_during_apply_loses_neither(ground: Ground) -> None:
    ground.half()
    with commits_to("orders") as conflicts:
        ground.at_once(ground.load, ground.second)
    assert len(conflicts) >= 1
    ground.assert_exact(readers=True)


def test_load_during_compaction_loses_neither(ground: Ground) -> None:
    ground.half()
    with commits_to("orders") as conflicts:
        ground.at_once(ground.load, ground.compact)
    assert len(conflicts) >= 1
    ground.assert_exact()


@fault("another writer commits first", "load", "increment")
def test_increment_during_load_loses_neither(ground: Ground) -> None:
    ground.half()
    with commits_to("orders") as conflicts:
        ground.at_once(ground.load, ground.increment)
    assert len(conflicts) >= 1
    ground.assert_exact()


@fault("another writer commits first", "load")
def test_two_loads_of_one_export_at_once_load_it_once(ground: Ground) -> None:
    ground.half()
    with commits_to("orders") as conflicts:
        ground.at_once(ground.load, ground.load)
    assert len(conflicts) >= 1
    with ground.job.lake() as lake:
        assert len(table_status(lake, "orders").exports) == 1
    ground.assert_exact()


@fault("another writer commits first", "compact")
def test_two_compactions_at_once_leave_the_same_rows(ground: Ground) -> None:
    ground.half()
    with commits_to("orders") as conflicts:
        ground.at_once(ground.compact, ground.compact)
    assert len(conflicts) >= 1
    ground.assert_exact()


def test_two_cleanups_at_once_remove_each_orphan_once(ground: Ground) -> None:
    ground.half()
    orphans = [
        ground.job.warehouse / "ddb_lake" / "orders" / "data" / f"orphan-{number}.parquet" for number in range(3)
    ]
    for orphan in orphans:
        orphan.touch()
    with cleaning_at_once(), held(compact, "unnamed", lambda *_: True):
        ground.at_once(ground.clean, ground.clean)
    assert [orphan for orphan in orphans if orphan.exists()] == []
    ground.assert_exact()


def test_cleanup_while_another_writer_removes_files_of_its_own_leaves_the_rest_for_later(ground: Ground) -> None:
    ground.half()
    orphan = ground.job.warehouse / "ddb_lake" / "orders" / "data" / "orphan.parquet"
    orphan.touch()
    original = objects._file_ref

    def vanishing(path: str, status: os.stat_result) -> ObjectRef:
        if path == str(orphan):
            orphan.unlink()
        return original(path, status)

    with cleaning_at_once(), mock.patch.object(objects, "_file_ref", vanishing):
        ground.run(ground.clean)
    ground.assert_exact()


def test_update_that_read_current_before_another_writer_applied_more_plans_again(tmp_path: Path) -> None:
    """Else `current` would say that it has less of the changelog than it has, and take its snapshot cutoff from that."""
    export = full([item("a", v=1)]).write(tmp_path / "export")
    newer = land(tmp_path / "newer", change(T0_US + MINUTE_US, item("b", v=1)))
    older = land(tmp_path / "older", change(T0_US - HOUR_US, item("c", v=1)))
    job = Job(tmp_path / "lake", ({"name": "orders", "key": ["id"]},))
    replace(job, steps=(Step("load", "orders", (str(export),)), Step("apply", "orders", (newer,)))).run()
    with job.lake() as lake:
        early = [lake.current("orders")]
        replace(job, steps=(Step("apply", "orders", (older,)),)).run()
        before = table_status(lake, "orders")
        original = LakeCatalog.table

        def read_early(self: LakeCatalog, name: str) -> Any:
            return early.pop() if name == "orders" and early else original(self, name)

        with mock.patch.object(LakeCatalog, "table", read_early):
            update_current(lake, "orders")
        after = table_status(lake, "orders")
    assert early == []
    assert (after.pending_batches, after.horizon_us, after.rows) == (0, before.horizon_us, 2)


@pytest.mark.parametrize(
    "other", cases(("load", "apply", "half a load", "half an apply"), quick=("load", "half an apply"))
)
def test_table_that_another_writer_makes_in_the_midst_keeps_what_each_brings(tmp_path: Path, other: str) -> None:
    """What the two bring has different columns. `half`: the other made the table and has not committed to it."""
    export = full([item("a", v=1, only_in_export="x"), item("b", v=2)]).write(tmp_path / "export")
    landed = land(tmp_path / "landed", change(T0_US + MINUTE_US, item("a", v=3, only_in_change=4)))
    load, apply = Step("load", "orders", (str(export),)), Step("apply", "orders", (landed,))
    mine, theirs = (apply, load) if "load" in other else (load, apply)
    job = Job(tmp_path / "lake", ({"name": "orders", "key": ["id"]},))
    with table_made_in_the_midst(
        lambda: run_half(job, theirs) if "half" in other else replace(job, steps=(theirs,)).run()
    ):
        replace(job, steps=(mine,)).run()
    replace(job, steps=(load, apply)).run()
    with job.lake() as lake:
        items = [json.loads(line)["Item"] for line in dump_items(lake, "orders")]
        assert sorted_items(items) == sorted_items([item("a", v=3, only_in_change=4), item("b", v=2)])
        assert table_status(lake, "orders").exports != ()
        assert_readers_agree(lake, "orders")


@contextmanager
def table_made_in_the_midst(interloper: Callable[[], None]) -> Iterator[None]:
    """Just before a writer creates `orders`, the interloper does."""
    original = LakeCatalog.create
    came: list[bool] = []

    def create(self: LakeCatalog, name: str, *arguments: Any, **named: Any) -> Any:
        if name == "orders" and not came:
            came.append(True)
            interloper()
        return original(self, name, *arguments, **named)

    with mock.patch.object(LakeCatalog, "create", create):
        yield
    assert came


def run_half(job: Job, step: Step) -> None:
    """Run a step until it would commit to `orders`."""
    original = Commit.run

    def run(commit: Commit) -> Any:
        if commit._table.name()[-1] == "orders":
            raise InterruptedError
        return original(commit)

    with mock.patch.object(Commit, "run", run), suppress(InterruptedError):
        replace(job, steps=(step,)).run()


@fault("several processes create the lake at once", "load", "apply")
def test_lake_opened_first_by_several_processes_at_once_is_made_once(ground: Ground) -> None:
    ground.empty()
    jobs = [replace(ground.job, steps=(step,)) for step in (ground.first, ground.second, ground.load)]
    assert [ended(process) for process in [job.start() for job in jobs]] == [0, 0, 0]
    ground.assert_exact()


def test_processes_that_do_everything_at_once_again_and_again_end_exact(ground: Ground) -> None:
    ground.half()
    everything = (ground.second, ground.load, ground.increment, ground.first)
    jobs = [
        replace(ground.job, steps=everything),
        replace(ground.job, steps=everything[::-1]),
        replace(ground.job, steps=(ground.compact,), hasty=False),
    ]
    assert [ended(process) for process in [job.start(rounds=2) for job in jobs]] == [0, 0, 0]
    ground.assert_exact(readers=True)


# --- the catalog is locked


@fault("the catalog is locked for a while", "apply")
def test_catalog_locked_for_a_while_is_waited_for(ground: Ground) -> None:
    ground.half()
    with sqlite_lock(ground.job.warehouse / "catalog.db") as release:
        timer = threading.Timer(0.5, release)
        timer.start()
        ground.run(ground.second)
        timer.join()
    ground.assert_exact()


def test_commit_that_finds_the_catalog_locked_is_planned_again(ground: Ground) -> None:
    ground.half()
    refused: list[str] = []
    with ground.job.lake() as lake:
        catalog = type(lake.catalog.catalog)
        original = catalog.commit_table

        def locked_once(self: Any, table: Any, *arguments: Any) -> Any:
            if table.name()[-1] not in refused:
                refused.append(table.name()[-1])
                raise OperationalError("UPDATE", {}, sqlite3.OperationalError("database is locked"))
            return original(self, table, *arguments)

        with mock.patch.object(catalog, "commit_table", locked_once):
            apply_objects(lake, "orders", ground.second.uris)
    assert {"orders_changes", "orders"} <= set(refused)
    ground.assert_exact()


@contextmanager
def sqlite_lock(path: Path) -> Iterator[Callable[[], None]]:
    """Lock the database for all other connections until the returned function is called, from any thread."""
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    connection.execute("BEGIN EXCLUSIVE")
    try:
        yield lambda: connection.execute("ROLLBACK") and None
    finally:
        connection.close()
