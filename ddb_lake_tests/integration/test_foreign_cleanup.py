"""After each step another tool deletes all files that Iceberg's metadata does not reach. The lake goes on, and stays exact."""

from __future__ import annotations

import random
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ddb_lake.core.layout.table_names import ICEBERG_SUFFIXES
from ddb_lake.pipeline.maintain.compact import compact_table
from ddb_lake.pipeline.open_lake import Lake
from ddb_lake_tests.simulator import Scenario, scenarios, write
from ddb_lake_tests.support.effort import by_effort
from ddb_lake_tests.support.folder_lake import lake
from ddb_lake_tests.support.foreign_cleanup import remove_unreached_files
from ddb_lake_tests.support.history_steps import differences, run_step, steps
from ddb_lake_tests.support.iceberg_spark import IcebergSpark
from ddb_lake_tests.support.lake_contents import small_scenario
from ddb_lake_tests.support.merging_early import merging_early

CleanUp = Callable[[Lake, str], object]


def check(scenario: Scenario, seed: int, clean_up: CleanUp) -> None:
    rnd = random.Random(seed)
    with tempfile.TemporaryDirectory() as name, merging_early():
        folder = Path(name)
        write(scenario, folder)
        with lake(folder / "lake", scenario.table, scenario.key_names) as opened:
            for step in steps(scenario, folder, rnd):
                run_step(opened, scenario.table, step)
                if rnd.random() < 0.2:
                    compact_table(opened, scenario.table, force=True)
                clean_up(opened, scenario.table)
            assert differences(opened, scenario) == []


@pytest.mark.more_examples
@settings(max_examples=by_effort(2, 12, 200))
@given(scenario=scenarios(), seed=st.integers(0, 2**32))
def test_history_with_a_clean_up_after_each_step_is_exact_now_and_as_of(scenario: Scenario, seed: int) -> None:
    check(scenario, seed, remove_unreached_files)


def test_no_step_leaves_a_file_that_the_clean_up_would_take(tmp_path: Path) -> None:
    """Steps that end remove what they do not commit."""
    scenario, rnd = small_scenario(seed=2, keys=5, writes=20, objects=4), random.Random(2)
    write(scenario, tmp_path)
    with lake(tmp_path / "lake", scenario.table, scenario.key_names) as opened:
        for step in steps(scenario, tmp_path, rnd):
            run_step(opened, scenario.table, step)
            assert remove_unreached_files(opened, scenario.table) == []


@pytest.mark.exhaustive
@pytest.mark.needs("java")
@pytest.mark.parametrize("seed", range(by_effort(2, 2, 5)))
def test_history_with_remove_orphan_files_of_iceberg_after_each_step_is_exact(
    seed: int, iceberg_spark: IcebergSpark
) -> None:
    def remove_orphan_files(opened: Lake, name: str) -> None:
        for full_name in (name + suffix for suffix in ICEBERG_SUFFIXES):
            table = opened.catalog.table(full_name)
            if table is not None and table.current_snapshot() is not None:
                iceberg_spark.remove_orphan_files(table)

    check(small_scenario(seed, keys=5, writes=20, objects=4), seed, remove_orphan_files)
