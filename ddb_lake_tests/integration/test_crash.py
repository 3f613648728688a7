"""G2 and G6 under SIGKILL: a stage that is killed anywhere and run again leaves what it leaves undisturbed."""

from __future__ import annotations

import os
import random
import shutil
import time
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import pytest

from ddb_lake.aws.source import SourceTable
from ddb_lake.pipeline.maintain.compact import compact_table
from ddb_lake_tests.simulator import write
from ddb_lake_tests.support.effort import by_effort, cases
from ddb_lake_tests.support.export_files import land
from ddb_lake_tests.support.fault_marks import fault
from ddb_lake_tests.support.iceberg_readers import assert_readers_agree
from ddb_lake_tests.support.killed_steps import UNCOMMITTED, Job, Step, ended
from ddb_lake_tests.support.lake_contents import contents, faults, missing_files, small_scenario, stray_files

OTHER = "orders-other"
NAMES = ("orders", OTHER)
STAGES = ("first apply", "load", "second apply", "load of an increment", "compaction")


class Course:
    """Stages run one after the other on a small scenario, with the lake as it was before each of them.

    Iceberg's metadata names files by absolute paths, so a lake is always put back to where it was.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.scenario = small_scenario(seed=4)
        write(self.scenario, folder)
        objects = tuple(str(folder / "landing" / key) for key in self.scenario.objects)
        half = len(objects) // 2
        exports = {export.kind: (str(folder / "exports" / str(n)),) for n, export in enumerate(self.scenario.exports)}
        self.steps = (
            Step("apply", "orders", objects[:half]),
            Step("load", "orders", exports["full"]),
            Step("apply", "orders", objects[half:]),
            Step("load", "orders", exports["incremental"]),
            Step("compact", "orders"),
        )
        key = list(self.scenario.key_names)
        self.job = Job(folder / "lake", tuple({"name": name, "key": key} for name in NAMES))
        self.after = [self._run(number) for number in range(len(self.steps))]

    def stage(self, number: int) -> Job:
        """A stage alone. The first knows of one table only, which is half as many commits."""
        tables = self.job.tables[:1] if number == 0 else self.job.tables
        return replace(self.job, steps=(self.steps[number],), tables=tables, hasty=self.steps[number].kind == "compact")

    def _run(self, number: int) -> dict[str, Any]:
        self.keep(number)
        self.stage(number).run()
        return self.contents()

    def keep(self, number: int) -> None:
        """Keep the lake as it is before a stage."""
        self.job.warehouse.mkdir(exist_ok=True)
        shutil.copytree(self.job.warehouse, self.folder / f"before-{number}")

    def put_back(self, number: int) -> None:
        """Put the lake back to what it was before a stage."""
        shutil.rmtree(self.job.warehouse)
        shutil.copytree(self.folder / f"before-{number}", self.job.warehouse)

    def contents(self) -> dict[str, Any]:
        """All that the lake holds."""
        with self.job.lake() as lake:
            return contents(lake, NAMES)

    @cached_property
    def everything(self) -> Job:
        """All stages."""
        return replace(self.job, steps=self.steps)


@pytest.fixture(scope="module")
def course(tmp_path_factory: pytest.TempPathFactory) -> Course:
    return Course(tmp_path_factory.mktemp("course"))


def test_stages_without_a_crash_give_the_true_items(course: Course) -> None:
    course.put_back(len(STAGES) - 1)
    course.everything.run()
    with course.job.lake() as lake:
        assert faults(lake, course.scenario) == []
        assert_readers_agree(lake, "orders")
    assert len(course.after[2][OTHER]["changes"]) > 0, "no crash between two tables would be tried"


@pytest.mark.more_examples
@fault("SIGKILL after any step", "load", "increment", "apply", "compact")
@pytest.mark.parametrize("number", range(len(STAGES)), ids=STAGES)
def test_stage_killed_after_any_step_and_run_again_leaves_what_it_always_leaves(course: Course, number: int) -> None:
    job = course.stage(number)
    course.put_back(number)
    names = job.points(course.folder / "told")
    for point in telling_points(names):
        course.put_back(number)
        where = f"killed after {names[point - 1] if point else 'nothing'} ({point} of {len(names)})"
        assert job.killed_after(point), where
        job.run()
        assert course.contents() == course.after[number], where


def telling_points(names: list[str]) -> list[int]:
    """The points after which the files lie there and the catalog does not know, those around removals, and the last.

    Whatever is written for a commit lies there at the first kind of point, and so does what was committed before it:
    all other points leave a state like one of these with fewer orphans. `DDB_LAKE_CRASHES=all` also visits them. `make
    test` visits the last point of the first kind alone, which has the most files.
    """
    points = range(len(names) + 1)
    if os.environ.get("DDB_LAKE_CRASHES") == "all":
        return list(points)
    passed = dict(enumerate(names, start=1))
    removals = [point for point in points if passed.get(point) == "file removed"]
    chosen = [point for point in points if passed.get(point) == UNCOMMITTED] + removals[:1] + removals[-1:]
    last_uncommitted = max((point for point in points if passed.get(point) == UNCOMMITTED), default=len(names))
    return by_effort([last_uncommitted], sorted({*chosen, len(names)}))


@pytest.mark.parametrize("number", cases((1, 2, 4), quick=(2,)))
def test_orphans_of_a_killed_stage_are_removed_and_no_live_file_is(course: Course, number: int) -> None:
    course.put_back(number)
    job = course.stage(number)
    names = job.points(course.folder / "told")
    last_written = max(n for n, name in enumerate(names, start=1) if name == UNCOMMITTED)
    course.put_back(number)
    assert job.killed_after(last_written)
    with replace(course.job, hasty=True).lake() as lake:
        left = list(stray_files(lake, ["orders"]))
        assert left, "the killed process left nothing behind"
        compact_table(lake, "orders")
        assert [path for path in left if Path(path).exists()] == []
        assert missing_files(lake, NAMES) == set()
        course.everything.run()
        assert faults(lake, course.scenario) == []
        assert_readers_agree(lake, "orders")


@pytest.mark.more_examples
@fault("SIGKILL after any step", "replay")
def test_replay_killed_after_any_step_and_run_again_brings_each_record_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A flattened record is undecodable until the table's key is configured."""
    monkeypatch.setattr("ddb_lake.pipeline.table_key.describe_source", lambda table: SourceTable())
    flattened = {"Event": "INSERT", "ingestion_timestamp": "2026-03-01T09:30:00", "id": "a"}
    landed = land(tmp_path / "object", flattened, "\n", {**flattened, "id": "b"}, "\ngarbage\n")
    without_key = Job(tmp_path / "lake", ({"name": "orders"},), (Step("apply", "orders", (landed,)),))
    job = Job(tmp_path / "lake", ({"name": "orders", "key": ["id"]},), (Step("replay", "orders"),))
    without_key.run()
    shutil.copytree(job.warehouse, tmp_path / "before")
    names = job.points(tmp_path / "told")
    with job.lake() as lake:
        undisturbed = contents(lake, ["orders"])
    assert [len(undisturbed["orders"][what]) for what in ("items", "changes", "quarantine")] == [2, 2, 1]
    for point in telling_points(names):
        shutil.rmtree(job.warehouse)
        shutil.copytree(tmp_path / "before", job.warehouse)
        assert job.killed_after(point)
        job.run()
        with job.lake() as lake:
            assert contents(lake, ["orders"]) == undisturbed, f"killed after {names[point - 1]}"


@fault("SIGKILL at any moment", "load", "increment", "apply", "compact")
def test_process_killed_at_random_times_leaves_a_lake_that_ends_exact(course: Course) -> None:
    rnd = random.Random(2)
    shutil.rmtree(course.job.warehouse)
    job = replace(course.everything, hasty=True)
    killed = 0
    for _ in range(4):
        process = job.start(rounds=100)
        time.sleep(rnd.uniform(0.15, 1.2))
        process.kill()
        killed += ended(process) != 0
        with course.job.lake() as lake:
            assert missing_files(lake, NAMES) == set()
            assert_readers_agree(lake, "orders")
    assert killed == 4
    job.run()
    with job.lake() as lake:
        assert faults(lake, course.scenario) == []
        assert stray_files(lake, ["orders"]) == set()
        assert_readers_agree(lake, "orders")
