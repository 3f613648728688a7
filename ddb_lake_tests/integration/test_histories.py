"""The guarantees, on histories: whatever lands, in whatever order and grouping, `dump` gives the true items.

The simulator (`ddb_lake_tests.simulator`) knows the truth; nothing here shares code with the implementation's merge.
"""

from __future__ import annotations

import os
import random
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ddb_lake.pipeline.apply.apply import apply_objects
from ddb_lake.pipeline.load.load import load_export
from ddb_lake.pipeline.maintain.compact import compact_table
from ddb_lake.pipeline.open_lake import Lake
from ddb_lake.pipeline.read.dump import dump_items
from ddb_lake_tests.simulator import CORNERS, Scenario, big_scenario, scenarios, write
from ddb_lake_tests.support.folder_lake import lake
from ddb_lake_tests.support.iceberg_readers import assert_readers_agree, count_rows

EXAMPLES = int(os.environ.get("DDB_LAKE_HISTORIES", "120"))


def steps(scenario: Scenario, folder: Path, rnd: random.Random) -> list[tuple[str, list[str]]]:
    """Loads and applies of everything, objects grouped and all of it ordered at random, some of it repeated."""
    chosen = [("load", [str(folder / "exports" / str(number))]) for number in range(len(scenario.exports))]
    objects = [str(folder / "landing" / key) for key in scenario.objects]
    rnd.shuffle(objects)
    while objects:
        size = rnd.randint(1, len(objects))
        chosen.append(("apply", objects[:size]))
        objects = objects[size:]
    chosen += rnd.choices(chosen, k=rnd.randint(0, 3)) if chosen else []
    rnd.shuffle(chosen)
    return chosen


def run_step(opened: Lake, table: str, step: tuple[str, list[str]]) -> None:
    kind, uris = step
    if kind == "load":
        load_export(opened, table, uris[0])
    else:
        apply_objects(opened, table, uris)


def differences(opened: Lake, scenario: Scenario) -> list[str]:
    """How the lake differs from the truth: items now, items at each probe, and the count of records."""
    found = scenario.differences(line.decode() for line in dump_items(opened, scenario.table))
    for probe in scenario.probes:
        lines = (line.decode() for line in dump_items(opened, scenario.table, probe.time_us))
        found += [f"as of {probe.time_us}: {problem}" for problem in scenario.differences(lines, probe)]
    changes = count_rows(opened, f"{scenario.table}_changes", "kind <> 'incremental'")
    quarantined = count_rows(opened, f"{scenario.table}_quarantine")
    if (changes, quarantined) != (scenario.expected_records, scenario.expected_garbage):
        expected = (scenario.expected_records, scenario.expected_garbage)
        found.append(f"changelog and quarantine have {(changes, quarantined)} records, expected {expected}")
    return found


def check(scenario: Scenario, seed: int, compacted: bool = False) -> None:
    rnd = random.Random(seed)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write(scenario, folder)
        with lake(folder / "lake", scenario.table, scenario.key_names) as opened:
            for step in steps(scenario, folder, rnd):
                run_step(opened, scenario.table, step)
                if compacted and rnd.random() < 0.3:
                    compact_table(opened, scenario.table, force=True)
            assert differences(opened, scenario) == []


@pytest.mark.parametrize("seed", [1, 2])
@pytest.mark.parametrize("corner", sorted(CORNERS))
def test_corner_in_any_order_gives_the_true_items(corner: str, seed: int) -> None:
    check(CORNERS[corner](), seed)


@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck))
@given(scenario=scenarios(), seed=st.integers(0, 2**32))
def test_history_in_any_order_and_grouping_gives_the_true_items(scenario: Scenario, seed: int) -> None:
    check(scenario, seed)


@settings(max_examples=max(EXAMPLES // 4, 1), deadline=None, suppress_health_check=list(HealthCheck))
@given(scenario=scenarios(), seed=st.integers(0, 2**32))
def test_history_with_compactions_between_gives_the_true_items(scenario: Scenario, seed: int) -> None:
    check(scenario, seed, compacted=True)


def test_history_of_many_changes_is_exact_and_every_reader_agrees(tmp_path: Path) -> None:
    scenario = big_scenario(seed=11, keys=300, changes=3_000)
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
