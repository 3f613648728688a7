"""A lake that the last release of format 1 made, with that release's own code, is upgraded and stays exact."""

from __future__ import annotations

import random
import shutil
from pathlib import Path

import pytest

from ddb_lake.pipeline.apply.ledger import read_ledger
from ddb_lake.pipeline.read.dump import dump_items
from ddb_lake.pipeline.read.status import table_status
from ddb_lake_tests.simulator import write
from ddb_lake_tests.support.earlier_release import LAST_OF_FORMAT_1, run_release, unpack
from ddb_lake_tests.support.effort import cases
from ddb_lake_tests.support.folder_lake import lake
from ddb_lake_tests.support.foreign_cleanup import remove_unreached_files
from ddb_lake_tests.support.history_steps import differences, run_step, steps
from ddb_lake_tests.support.lake_contents import small_scenario

pytestmark = pytest.mark.exhaustive


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return unpack(LAST_OF_FORMAT_1, tmp_path_factory.mktemp("release"))


@pytest.mark.parametrize("seed", cases(range(2), quick=(0,)))
@pytest.mark.parametrize("lost", [False, True], ids=["ledger kept", "ledger lost"])
def test_lake_of_format_1_is_upgraded_by_the_first_write_and_stays_exact(
    tmp_path: Path, package: Path, seed: int, lost: bool
) -> None:
    scenario, rnd = small_scenario(seed, keys=5, writes=20, objects=6), random.Random(seed)
    write(scenario, tmp_path)
    planned = steps(scenario, tmp_path, rnd)
    half = rnd.randint(1, len(planned) - 1)
    key = list(scenario.key_names)
    settings = {"warehouse": str(tmp_path / "lake"), "tables": [{"name": scenario.table, "key": key}]}
    assert run_release(package, settings, scenario.table, planned[:half]) is None
    with lake(tmp_path / "lake", scenario.table, scenario.key_names) as opened:
        before, objects = sorted(dump_items(opened, scenario.table)), table_status(opened, scenario.table).objects
        assert list(tmp_path.rglob("sidecar/*.parquet")) != []
        if lost:
            for folder in tmp_path.rglob("sidecar"):
                shutil.rmtree(folder)
        assert sorted(dump_items(opened, scenario.table)) == before, "it can be read before it is upgraded"
        for step in planned[half:]:
            run_step(opened, scenario.table, step)
            remove_unreached_files(opened, scenario.table)
        for step in planned:
            run_step(opened, scenario.table, step)
        ledger = read_ledger(opened, scenario.table)
        assert ledger.format_1 is None
        assert lost or ledger.rows >= objects
        assert differences(opened, scenario) == []
    refused = run_release(package, settings, scenario.table, planned[:half])
    if any(kind == "apply" for kind, _ in planned[:half]):
        assert refused is not None and "ValueError" in refused, "the earlier release works with the upgraded lake"
