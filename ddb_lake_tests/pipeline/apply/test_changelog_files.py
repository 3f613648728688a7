"""Files of the changelog that readers write have the rows that copying staged rows gives."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from unittest import mock

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ddb_lake.config import parse_settings
from ddb_lake.engine.native import reader
from ddb_lake.engine.native.library import load
from ddb_lake.executors import open_lake
from ddb_lake.lake.file_writer import FileWriter
from ddb_lake.lake.scan import scan_table
from ddb_lake.pipeline.apply import changelog, changelog_files, parallel_reader
from ddb_lake.pipeline.apply.apply import ApplyResult, apply_objects
from ddb_lake.pipeline.apply.changelog_files import LONGEST_TEXT_BYTES, ChangelogFormat
from ddb_lake.pipeline.local_executor import LocalExecutor
from ddb_lake.pipeline.maintain.erase import EraseRequest, erase_keys
from ddb_lake.pipeline.open_lake import Lake
from ddb_lake.pipeline.read.dump import dump_items
from ddb_lake.spark import changelog as spark_changelog
from ddb_lake.spark import object_reader
from ddb_lake.spark.executor import SparkExecutor
from ddb_lake_tests.support.effort import cases, examples
from ddb_lake_tests.support.iceberg_readers import assert_readers_agree
from ddb_lake_tests.support.inline_carrier import InlineCarrier
from ddb_lake_tests.support.kernel_objects import LEFT, TIME_US, line
from ddb_lake_tests.support.killed_steps import Job, Step
from ddb_lake_tests.support.staged_objects import record_kernel

pytestmark = pytest.mark.usefixtures("no_source")

TABLE = {"name": "orders", "key": ["id"]}
ADOPTED = "file of a reader adopted"


@dataclass(frozen=True)
class Landed:
    """An object: the hour in its path (None: no hour), and the numbers of its records. A record is the same wherever its number is."""

    hour: int | None
    numbers: tuple[int, ...]

    def write(self, folder: Path, name: str) -> None:
        """Write it below a folder."""
        place = folder if self.hour is None else folder / f"2023/11/14/{self.hour:02d}"
        place.mkdir(parents=True, exist_ok=True)
        (place / name).write_bytes(b"\n".join(map(record, self.numbers)))


def record(number: int) -> bytes:
    """A record. Some are left to Python, some have long texts, and some are no records."""
    kind = number % 10
    members: dict[str, Any] = {"n": {"N": str(number)}}
    if kind == 7:
        members |= LEFT[0]
    if kind == 8:
        members["long"] = {"S": "x" * (LONGEST_TEXT_BYTES * 2)}
    return b"garbage" if kind == 9 else line(number, members)


@contextmanager
def small_files() -> Iterator[None]:
    """Two threads, or several tasks, read any group of two objects; batches have five rows, and each may become a file."""
    with ExitStack() as stack:
        for owner, name, value in (
            (parallel_reader, "THREADS_BYTES", 1),
            (parallel_reader, "MOST_LEFT", 1.0),
            (parallel_reader, "cpu_count", lambda: 2),
            (changelog_files, "LEAST_ROWS", 1),
            (changelog_files, "MOST_FILES", 2),
            (reader, "BATCH_ROWS", 5),
            (object_reader, "LEAST_BYTES", 1),
            (spark_changelog, "ONE_TASK_ROWS", 3),
        ):
            stack.enter_context(mock.patch.object(owner, name, value))
        stack.enter_context(record_kernel("on"))
        yield


@contextmanager
def opened(folder: Path, *, tasks: bool = False) -> Iterator[Lake]:
    """A lake whose clock stands. `tasks`: the tasks of Spark do the work, without Spark."""
    with open_lake(parse_settings({"warehouse": str(folder), "tables": [TABLE]}, "test")) as lake:
        lake.now = lambda: datetime(2026, 3, 1, tzinfo=UTC)
        if tasks:
            lake.executors = {"duckdb": partial(SparkExecutor, carrier=InlineCarrier())}
        yield lake


@contextmanager
def adoptions() -> Iterator[list[str]]:
    """The files that are adopted in the block."""
    found: list[str] = []
    adopt = FileWriter.adopt

    def noted(self: FileWriter, path: Path) -> str:
        found.append(adopt(self, path))
        return found[-1]

    with mock.patch.object(FileWriter, "adopt", noted):
        yield found


def without_files() -> Any:
    """Readers stage all rows."""
    return mock.patch.object(ChangelogFormat, "of_next_commit", lambda *_: None)


def rows(lake: Lake, name: str) -> list[Any]:
    table = lake.catalog.table(name)
    if table is None:
        return []
    with lake.session() as session:
        return session.rows(f"SELECT * FROM {scan_table(table).sql()} ORDER BY ALL")


def contents(lake: Lake) -> list[Any]:
    """All rows of all tables."""
    return [*(rows(lake, f"orders{suffix}") for suffix in ("_changes", "_objects", "_quarantine")), items(lake)]


def items(lake: Lake) -> list[str]:
    return sorted(map(str, dump_items(lake, "orders"))) if lake.current("orders") is not None else []


def figures(result: ApplyResult) -> ApplyResult:
    """A result without times and snapshots."""
    current = {name: replace(one, seconds=0.0, snapshot_id=None) for name, one in result.current.items()}
    return replace(result, seconds=0.0, current=current)


def assert_bounds_hold(lake: Lake) -> None:
    """The bounds in the manifests contain every value of the file."""
    table = lake.changes("orders")
    if table is None:
        return
    with lake.session() as session:
        for task in table.scan().plan_files():
            lower, upper = task.file.lower_bounds or {}, task.file.upper_bounds or {}
            for field in table.schema().fields:
                if field.field_id in lower and str(field.field_type) == "string":
                    least, most = session.rows(
                        f'SELECT min("{field.name}"), max("{field.name}") FROM read_parquet(\'{task.file.file_path.removeprefix("file://")}\')'
                    )[0]
                    assert lower[field.field_id] <= least.encode(), field.name
                    assert field.field_id not in upper or most.encode() <= upper[field.field_id], field.name


NUMBERS = st.lists(st.integers(0, 39), max_size=14).map(tuple)
OBJECTS = st.builds(Landed, st.sampled_from([9, 9, 9, 10, None]), NUMBERS)


@examples(3, 10, 200)
@given(st.lists(st.lists(OBJECTS, min_size=2, max_size=4), min_size=1, max_size=3))
def test_files_of_readers_leave_the_lake_that_copying_leaves(rounds: list[list[Landed]]) -> None:
    with TemporaryDirectory() as name, small_files():
        folder = Path(name)
        with (
            opened(folder / "files") as files,
            opened(folder / "copies") as copies,
            opened(folder / "tasks", tasks=True) as tasks,
        ):
            for number, objects in enumerate(rounds):
                landing = folder / f"landing-{number}"
                for place, landed in enumerate(objects):
                    landed.write(landing, f"{place}")
                result = figures(apply_objects(files, "orders", [str(landing)]))
                assert figures(apply_objects(tasks, "orders", [str(landing)])) == result
                with without_files():
                    assert figures(apply_objects(copies, "orders", [str(landing)])) == result
            assert contents(files) == contents(tasks) == contents(copies)
            assert_bounds_hold(files)
            assert_bounds_hold(tasks)
            assert data_files_on_disk(folder / "tasks") == paths_of_changes(tasks)


def land(folder: Path, *objects: Landed) -> str:
    for place, landed in enumerate(objects):
        landed.write(folder, f"{place}")
    return str(folder)


def data_files_on_disk(warehouse: Path) -> set[Path]:
    """The Parquet files below the changelog's folder, those in scratch included."""
    return {path for folder in warehouse.rglob("orders_changes") for path in folder.rglob("*.parquet")}


def paths_of_changes(lake: Lake) -> set[Path]:
    """The data files of the changelog."""
    table = lake.changes("orders")
    tasks = table.scan().plan_files() if table is not None else ()
    return {Path(task.file.file_path.removeprefix("file://")) for task in tasks}


FEW = Landed(9, (0, 1, 2, 3))
MORE = Landed(9, (10, 11, 12, 13, 14, 15))


@pytest.mark.parametrize("tasks", [False, True], ids=["threads", "tasks"])
def test_files_of_new_records_become_files_of_the_changelog(tmp_path: Path, tasks: bool) -> None:
    with small_files(), opened(tmp_path / "lake", tasks=tasks) as lake, adoptions() as adopted:
        with mock.patch.object(FileWriter, "_copy", _only_current(FileWriter._copy)):
            apply_objects(lake, "orders", [land(tmp_path / "first", FEW, MORE)])
        assert len(adopted) == 2
        assert paths_of_changes(lake) == {Path(path.removeprefix("file://")) for path in adopted}
        assert_readers_agree(lake, "orders")

        # one record of the second object is known, so its file is copied, without the record
        apply_objects(lake, "orders", [land(tmp_path / "second", Landed(9, (4, 5)), Landed(9, (3, 16, 17)))])
        assert len(adopted) == 3 + tasks  # a task cannot know at once that the file will not be used
        assert len(rows(lake, "orders_changes")) == 14
        assert data_files_on_disk(tmp_path / "lake") == paths_of_changes(lake)


def _only_current(copy: Callable[..., Any]) -> Callable[..., Any]:
    def checked(self: FileWriter, query: str, target: str, options: str) -> Any:
        assert "orders_changes" not in target, "the changelog's rows are not copied"
        return copy(self, query, target, options)

    return checked


@pytest.mark.parametrize("executor", [LocalExecutor, SparkExecutor])
def test_rows_are_copied_if_another_writer_has_committed_since_they_were_read(tmp_path: Path, executor: Any) -> None:
    read = executor.read
    others = [land(tmp_path / "other", Landed(9, (1, 20)))]

    def overtaken(self: Any, *arguments: Any) -> Any:
        group = read(self, *arguments)
        if others:
            with opened(tmp_path / "lake") as other:
                apply_objects(other, "orders", [others.pop()])
        return group

    tasks = executor is SparkExecutor
    with small_files(), opened(tmp_path / "lake", tasks=tasks) as lake, adoptions() as adopted:
        with mock.patch.object(executor, "read", overtaken):
            result = apply_objects(lake, "orders", [land(tmp_path / "own", FEW, MORE)])
        assert len(adopted) == (2 if tasks else 0)  # tasks put files beside those of the changelog before it is known
        assert data_files_on_disk(tmp_path / "lake") == paths_of_changes(lake)
        assert (result.new, result.duplicates) == (9, 1)
        with lake.session() as session:
            scan = scan_table(lake.changes("orders")).sql()
            assert session.rows(f"SELECT _batch, count(*) FROM {scan} GROUP BY 1 ORDER BY 1") == [(1, 2), (2, 9)]
        assert len(items(lake)) == 11


def test_object_that_another_writer_has_ingested_since_it_was_read_has_no_rows(tmp_path: Path) -> None:
    """Its rows are in a file with those of an object that is new."""
    first, second = (Landed(9, (number, number + 1)) for number in (0, 10))
    landing = land(tmp_path / "landing", first, second, Landed(9, (20, 21)))
    not_in_ledger = changelog._not_in_ledger

    def without_first(*arguments: Any) -> Any:
        return not_in_ledger(*arguments)[1:]

    with small_files(), opened(tmp_path / "lake") as lake:
        with mock.patch.object(changelog, "_not_in_ledger", without_first):
            result = apply_objects(lake, "orders", [landing])
        assert result.new == 4
        assert apply_objects(lake, "orders", [landing]).new == 2
        assert len(items(lake)) == 6


@pytest.mark.parametrize("allows_recreation", [False, True])
def test_records_of_erased_keys_are_in_no_file(tmp_path: Path, allows_recreation: bool) -> None:
    found = []
    for name, how in (("files", ExitStack), ("copies", without_files)):
        with small_files(), opened(tmp_path / name) as lake, how():
            lake.now = lambda: datetime(
                2023, 11, 14, 22, 13, 20, 15, tzinfo=UTC
            )  # the records of numbers from 16 on are later
            apply_objects(lake, "orders", [land(tmp_path / "first" / name, FEW, MORE)])
            request = EraseRequest([{"id": {"S": "k1"}}], others_landing=True, allow_recreation=allows_recreation)
            erase_keys(lake, "orders", request)
            again = [line(16, {}).replace(b'"k16"', b'"k1"'), line(5, {}).replace(b'"k5"', b'"k1"')]
            landing = tmp_path / "again" / name / "2023/11/14/09"
            landing.mkdir(parents=True)
            for place, own in enumerate(again):
                (landing / f"{place}").write_bytes(b"\n".join([own, line(30 + place, {})]))
            result = apply_objects(lake, "orders", [str(landing)])
            columns = [(row[0], *row[2:15], row[16]) for row in rows(lake, "orders_changes")]
            found.append((result.new, result.refused, columns, items(lake)))
    assert found[0] == found[1]
    assert found[0][:2] == ((3, 1) if allows_recreation else (2, 2))


# --- a kill after each step, with the sizes of production


@pytest.fixture
def job(tmp_path: Path) -> Job:
    """An apply of two objects that threads read. The rows of each become a file."""
    chance = random.Random(1)
    folder = tmp_path / "landing" / "2023/11/14/09"
    folder.mkdir(parents=True)
    for place in range(2):
        numbers = range(place * 10_000, place * 10_000 + changelog_files.LEAST_ROWS)
        lines = [line(number, {"text": {"S": chance.randbytes(70).hex()}}) for number in numbers]
        (folder / f"{place}").write_bytes(b"\n".join(lines))
    return Job(tmp_path / "lake", (TABLE,), (Step("apply", "orders", (str(tmp_path / "landing"),)),))


@pytest.mark.parametrize("point", cases(range(20), quick=(4,)))
def test_apply_killed_after_any_step_and_run_again_has_each_record_once(job: Job, tmp_path: Path, point: int) -> None:
    names = replace(job, warehouse=tmp_path / "other").points(tmp_path / "told")
    if load().library is None:  # without the kernel, readers write no files of the changelog
        assert ADOPTED not in names
    else:
        assert names.count(ADOPTED) == 2
        assert names[3] == ADOPTED
    assert len(names) < 20, "each point has a case"
    job.killed_after(point)
    job.run()
    with job.lake() as lake:
        changes = rows(lake, "orders_changes")
        assert len(changes) == len({row[0] for row in changes}) == 2 * changelog_files.LEAST_ROWS
        assert len(items(lake)) == len(changes)
        assert min(row[4] for row in changes) == datetime.fromtimestamp(TIME_US / 1e6, UTC).replace(tzinfo=None)
        assert len(rows(lake, "orders_objects")) == 2
