"""Histories loaded and applied by the tasks of Spark, here without Spark: many small tasks and buckets, the same lakes."""

from __future__ import annotations

import random
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyiceberg.io.pyarrow import PyArrowFileIO

from ddb_lake.engine.session import connect
from ddb_lake.pipeline.local_executor import LocalExecutor
from ddb_lake.pipeline.maintain.compact import compact_table
from ddb_lake.pipeline.maintain.rebuild import rebuild_table
from ddb_lake.pipeline.read.files import check_files
from ddb_lake.spark import scratch
from ddb_lake.spark.executor import SparkExecutor
from ddb_lake.spark.scratch import BUCKET, ScratchFolder, ScratchRows, names_of, write_buckets
from ddb_lake_tests.simulator import CORNERS, Scenario, scenarios, write
from ddb_lake_tests.support.effort import SHARED_FIXTURE, cases, examples
from ddb_lake_tests.support.folder_lake import lake
from ddb_lake_tests.support.history_steps import differences, run_step, steps
from ddb_lake_tests.support.inline_carrier import InlineCarrier
from ddb_lake_tests.support.lake_contents import contents, small_scenario
from ddb_lake_tests.support.lost_files import LOSSES


def check(scenario: Scenario, seed: int) -> None:
    """All steps in any order by both executors: the lakes are equal, as the model says, and no scratch file is left."""
    held = {}
    carrier = InlineCarrier()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write(scenario, folder)
        executors: dict[str, Callable[..., object]] = {
            "one machine": LocalExecutor,
            "tasks": partial(SparkExecutor, carrier=carrier),
        }
        for engine, executor in executors.items():
            with lake(folder / engine, scenario.table, scenario.key_names) as opened:
                opened.executors = {"duckdb": executor}
                for step in steps(scenario, folder, random.Random(seed)):
                    run_step(opened, scenario.table, step)
                assert differences(opened, scenario) == []
                for _ in range(2):  # the first one may give columns other types, which the driver does
                    compact_table(opened, scenario.table, force=True)
                    assert differences(opened, scenario) == []
                held[engine] = contents(opened, [scenario.table])[scenario.table]
        assert [*folder.rglob("scratch/**/*.parquet")] == []
    if held["tasks"]["items"]:
        assert "rewrite_files" in {name for name, _ in carrier.tasks}
    assert held["tasks"] == held["one machine"]


@pytest.mark.usefixtures("many_tasks")
@pytest.mark.parametrize("corner", cases(CORNERS, quick=()))
def test_tasks_leave_the_lakes_of_one_machine_at_a_corner(corner: str) -> None:
    check(CORNERS[corner](), 3)


@pytest.mark.usefixtures("many_tasks")
@pytest.mark.parametrize("seed", cases(range(4), quick=(0,)))
def test_tasks_leave_the_lake_of_one_machine(seed: int) -> None:
    check(small_scenario(seed, keys=5, writes=20, objects=4), seed)


@pytest.mark.usefixtures("many_tasks")
def test_tasks_rebuild_a_lake_that_lost_a_file() -> None:
    scenario, carrier = small_scenario(seed=5, keys=5, writes=20, objects=4), InlineCarrier()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name).resolve()
        write(scenario, folder)
        changes = {"uri": str(folder / "landing")}
        with lake(folder / "lake", scenario.table, scenario.key_names, changes=changes) as opened:
            for step in steps(scenario, folder, random.Random(5)):
                run_step(opened, scenario.table, step)
            LOSSES["lose_data_file"](opened, scenario.table, random.Random(5))
        with lake(folder / "lake", scenario.table, scenario.key_names, changes=changes) as opened:
            opened.executors = {"duckdb": partial(SparkExecutor, carrier=carrier)}
            exports = [str(folder / "exports" / str(number)) for number in range(len(scenario.exports))]
            rebuild_table(opened, scenario.table, exports, without_exports=not exports)
            assert differences(opened, scenario) == []
            check_files(opened, scenario.table)
        assert [*folder.rglob("scratch/**/*.parquet")] == []
    assert carrier.tasks, "tasks did the work"


@pytest.mark.usefixtures("many_tasks")
@examples(1, 6, 15, suppress=SHARED_FIXTURE)
@given(scenario=scenarios(), seed=st.integers(0, 2**32))
def test_tasks_leave_the_lakes_of_one_machine_for_any_history(scenario: Scenario, seed: int) -> None:
    check(scenario, seed)


ROWS = st.lists(st.tuples(st.integers(0, 3), st.text(max_size=3)), max_size=12)


@examples(15, 50, 100, suppress=SHARED_FIXTURE)
@given(tasks=st.lists(ROWS, max_size=3), batch_rows=st.integers(1, 5), held_bytes=st.sampled_from([1, 100, 10_000]))
def test_each_bucket_has_its_rows_of_all_tasks(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    tasks: list[list[tuple[int, str]]],
    batch_rows: int,
    held_bytes: int,
) -> None:
    monkeypatch.setattr(scratch, "HELD_BYTES", held_bytes)
    monkeypatch.setattr(scratch, "GROUP_BYTES", held_bytes)
    folder = ScratchFolder.below(PyArrowFileIO(), f"file://{tmp_path}")

    def batches(rows: list[tuple[int, str]]) -> list[pa.RecordBatch]:
        buckets = pa.array([bucket for bucket, _ in rows], pa.int32())
        table = pa.table({"text": pa.array([text for _, text in rows], pa.string()), BUCKET: buckets})
        return table.to_batches(max_chunksize=batch_rows)

    written = ScratchRows(folder, names_of(write_buckets(batches(rows), folder) for rows in tasks))
    assert len(written.names) == sum(bool(rows) for rows in tasks)
    with connect(threads=1) as session:
        for bucket in range(4):
            found = session.rows(f"SELECT text FROM {written.sql({'text': 'VARCHAR'}, bucket)} ORDER BY ALL")
            assert found == sorted((text,) for rows in tasks for number, text in rows if number == bucket)
        mixed = (
            f"SELECT count(*) FROM parquet_metadata('{folder.location}/*.parquet')"
            f" WHERE path_in_schema = '{BUCKET}' AND stats_min <> stats_max"
        )
        assert not written.names or session.value(mixed) == 0, "a reader of a bucket skips the groups of others"
    folder.delete(written.names)
