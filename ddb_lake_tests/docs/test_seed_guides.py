"""Each guide of `guides/seeds` runs by its own commands, from an empty sandbox to a lake that has the table's items."""

from __future__ import annotations

from pathlib import Path

import pytest

from ddb_lake_tests.support.docs_blocks import DOCS, ROOT, blocks
from ddb_lake_tests.support.mariadb import MariaDb
from ddb_lake_tests.support.seed_guides import GuideRun


def run_guide(name: str, folder: Path, **replaced: str) -> GuideRun:
    page = f"guides/seeds/{name}.md"
    guide = GuideRun(blocks((DOCS / page).read_text(encoding="utf-8"), page), folder)
    guide.run({"~/ddb-lake": str(ROOT), **replaced})
    return guide


@pytest.mark.parametrize("name", ["kinesis-firehose", "cross-account", "replicate", "change-sources"])
def test_guide_runs_by_its_own_commands(name: str, tmp_path: Path) -> None:
    run_guide(name, tmp_path)


def test_guide_of_aurora_runs_by_its_own_commands(tmp_path: Path, mariadb: MariaDb) -> None:
    try:
        guide = run_guide("streams-to-aurora", tmp_path, **{"33306": str(mariadb.port)})
    finally:
        mariadb.drop("Demo", "demo_loader")
    assert guide
