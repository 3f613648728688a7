"""The guarantees, on histories: whatever lands, in whatever order and grouping, `dump` gives the true items.

The simulator (`ddb_lake_tests.simulator`) knows the truth; nothing here shares code with the implementation's merge.
"""

from __future__ import annotations

import os
import random
import tempfile
from contextlib import nullcontext
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ddb_lake.pipeline.maintain.compact import compact_table
from ddb_lake_tests.simulator import CORNERS, Scenario, big_scenario, scenarios, write
from ddb_lake_tests.support.effort import by_effort, cases
from ddb_lake_tests.support.folder_lake import lake
from ddb_lake_tests.support.history_steps import differences, run_step, steps
from ddb_lake_tests.support.iceberg_readers import assert_readers_agree
from ddb_lake_tests.support.merging_early import merging_early

EXAMPLES = int(os.environ.get("DDB_LAKE_HISTORIES", by_effort(10, 30, 120)))


def check(scenario: Scenario, seed: int, compacted: bool = False) -> None:
    rnd = random.Random(seed)
    with tempfile.TemporaryDirectory() as name, merging_early() if compacted else nullcontext():
        folder = Path(name)
        write(scenario, folder)
        with lake(folder / "lake", scenario.table, scenario.key_names) as opened:
            for step in steps(scenario, folder, rnd):
                run_step(opened, scenario.table, step)
                if compacted and rnd.random() < 0.3:
                    compact_table(opened, scenario.table, force=True)
            assert differences(opened, scenario) == []


@pytest.mark.parametrize("seed", cases((1, 2), quick=(1,), exhaustive=()))
@pytest.mark.parametrize("corner", sorted(CORNERS))
def test_corner_in_any_order_gives_the_true_items(corner: str, seed: int) -> None:
    check(CORNERS[corner](), seed)


@pytest.mark.more_examples
@settings(max_examples=EXAMPLES)
@given(scenario=scenarios(), seed=st.integers(0, 2**32))
def test_history_in_any_order_and_grouping_gives_the_true_items(scenario: Scenario, seed: int) -> None:
    check(scenario, seed)


@pytest.mark.more_examples
@settings(max_examples=max(EXAMPLES // 4, 1))
@given(scenario=scenarios(), seed=st.integers(0, 2**32))
def test_history_with_compactions_between_gives_the_true_items(scenario: Scenario, seed: int) -> None:
    check(scenario, seed, compacted=True)


@pytest.mark.more_examples
def test_history_of_many_changes_is_exact_and_every_reader_agrees(tmp_path: Path) -> None:
    scenario = big_scenario(seed=11, keys=by_effort(60, 300), changes=by_effort(400, 3_000))
    write(scenario, tmp_path)
    rnd = random.Random(5)
    with lake(tmp_path / "lake", scenario.table, scenario.key_names) as opened:
        for step in steps(scenario, tmp_path, rnd):
            run_step(opened, scenario.table, step)
            assert_readers_agree(opened, scenario.table)
        assert differences(opened, scenario) == []
        compact_table(opened, scenario.table, force=True)
        assert_readers_agree(opened, scenario.table)
        assert differences(opened, scenario) == []
