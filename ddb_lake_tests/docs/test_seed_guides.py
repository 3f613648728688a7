"""Each guide of `guides/seeds` runs by its own commands, from an empty sandbox to a lake that has the table's items."""

from __future__ import annotations

from pathlib import Path

import pytest

from ddb_lake_tests.support.docs_blocks import DOCS, blocks
from ddb_lake_tests.support.seed_guides import GuideRun

GUIDES = sorted(path.stem for path in (DOCS / "guides/seeds").glob("*.md"))


def run_guide(name: str, folder: Path, **replaced: str) -> GuideRun:
    page = f"guides/seeds/{name}.md"
    guide = GuideRun(blocks((DOCS / page).read_text(encoding="utf-8"), page), folder)
    guide.run(replaced)
    return guide


@pytest.mark.parametrize("name", GUIDES)
def test_guide_runs_by_its_own_commands(name: str, tmp_path: Path) -> None:
    run_guide(name, tmp_path)
