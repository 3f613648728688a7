"""The tables of entities that tasks on Spark write, here without Spark: those of one machine, after any history."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ddb_lake.lake import snapshot_diff
from ddb_lake.pipeline.executor import ExecutorFactory
from ddb_lake.pipeline.local_executor import LocalExecutor
from ddb_lake.pipeline.maintain.compact import compact_table
from ddb_lake.pipeline.merge.entities import update_entities
from ddb_lake.spark import entities
from ddb_lake.spark.executor import SparkExecutor
from ddb_lake_tests.support.effort import SHARED_FIXTURE, by_effort, examples
from ddb_lake_tests.support.entity_walks import History, check, contents_of, run_history
from ddb_lake_tests.support.inline_carrier import InlineCarrier
from ddb_lake_tests.support.no_source import no_source as no_source

pytestmark = pytest.mark.usefixtures("no_source", "many_tasks")


def tasks(carrier: InlineCarrier) -> ExecutorFactory:
    """The executor whose tasks a carrier runs."""
    return partial(SparkExecutor, carrier=carrier)


@pytest.mark.exhaustive
@examples(1, 8, 60, suppress=SHARED_FIXTURE)
@given(seed=st.integers(0, 10**9))
def test_tasks_complete_the_entities_after_any_history(seed: int) -> None:
    with TemporaryDirectory() as folder:
        run_history(Path(folder), seed, 3, tasks(InlineCarrier()))


@examples(1, 6, 40, suppress=SHARED_FIXTURE)
@given(seed=st.integers(0, 10**9))
def test_tasks_leave_the_entities_of_one_machine(seed: int) -> None:
    found, carrier = [], InlineCarrier()
    for executor in (LocalExecutor, tasks(carrier)):
        with TemporaryDirectory() as folder:
            history = History(Path(folder), seed, executor)
            with history.lake() as lake:
                for step in (history.changes, history.export, history.changes, *by_effort((), (history.changes,) * 3)):
                    step(lake)
                check(lake)
            found.append(contents_of(history))
            assert [*Path(folder).rglob("scratch/**/*.parquet")] == []
    assert found[1] == found[0]
    assert {"write_entity", "sample_entity", "scan_removed"} <= {name for name, _ in carrier.tasks}


def test_compaction_writes_no_row_of_an_entity(tmp_path: Path) -> None:
    history = History(tmp_path, 3, tasks(carrier := InlineCarrier()))
    with history.lake() as lake:
        for step in (history.export, history.changes, history.changes):
            step(lake)
        carrier.tasks.clear()
        compact_table(lake, "app", force=True)
        assert "rewrite_files" in {name for name, _ in carrier.tasks}
        assert sum(count for name, count in carrier.tasks if name in ("write_entity", "scan_removed")) == 0
        check(lake)


@pytest.mark.parametrize(
    ("executor", "rewritten"),
    [(LocalExecutor, None), pytest.param(tasks(InlineCarrier()), entities.REWRITTEN, marks=pytest.mark.exhaustive)],
)
def test_files_that_another_engine_rewrote(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, executor: ExecutorFactory, rewritten: str | None
) -> None:
    history = History(tmp_path, 3, executor)
    with history.lake() as lake:
        for step in (history.changes, history.changes, history.changes):
            step(lake)
        monkeypatch.setattr(snapshot_diff, "COMPACTION", "no compaction of ours")
        monkeypatch.setattr("ddb_lake.pipeline.maintain.compact.update_entities", lambda *_: ())
        compact_table(lake, "app", force=True)
        assert {one.rewritten for one in update_entities(lake, "app")} == {rewritten}
        check(lake)
