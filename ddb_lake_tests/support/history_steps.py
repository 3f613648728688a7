"""Steps of a history, run on a lake, and how the lake then differs from the model."""

from __future__ import annotations

import random
from pathlib import Path

from ddb_lake.pipeline.apply.apply import apply_objects
from ddb_lake.pipeline.load.load import load_export
from ddb_lake.pipeline.open_lake import Lake
from ddb_lake.pipeline.read.dump import dump_items
from ddb_lake_tests.simulator import Scenario
from ddb_lake_tests.support.iceberg_readers import count_rows


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
