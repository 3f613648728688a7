"""Each guide of `guides/seeds` runs by its own commands, from an empty sandbox to a lake that has the table's items."""

from __future__ import annotations

import json
from datetime import timedelta
from itertools import product
from pathlib import Path

import pytest

from ddb_lake.mysql.connection import Server
from ddb_lake_tests.support.docs_blocks import DOCS, ROOT, blocks
from ddb_lake_tests.support.effort import cases
from ddb_lake_tests.support.mariadb import MariaDb
from ddb_lake_tests.support.seed_guides import GuideRun

PACES = {"at-once": None, "each-second": timedelta(0), "slow": timedelta(minutes=11)}
"""Readers: one whose commands come before the sandbox's next second, one for whom each second comes, and one who reads between commands."""


def run_guide(name: str, folder: Path, pace: str, **replaced: str) -> GuideRun:
    page = f"guides/seeds/{name}.md"
    guide = GuideRun(blocks((DOCS / page).read_text(encoding="utf-8"), page), folder, PACES[pace])
    guide.run({"~/ddb-lake": str(ROOT), **replaced})
    return guide


@pytest.mark.parametrize(
    ("name", "pace"),
    cases(
        product(("cross-account", "kinesis-firehose", "replicate", "change-sources"), PACES),
        quick=[("cross-account", "each-second")],
        exhaustive=[("kinesis-firehose", "at-once"), ("replicate", "slow"), ("change-sources", "each-second")],
    ),
)
def test_guide_runs_by_its_own_commands_at_any_pace(name: str, pace: str, tmp_path: Path) -> None:
    run_guide(name, tmp_path, pace)


@pytest.mark.parametrize("pace", cases(PACES, quick=(), exhaustive=("slow",)))
def test_guide_of_aurora_runs_by_its_own_commands_at_any_pace(tmp_path: Path, mariadb: MariaDb, pace: str) -> None:
    try:
        guide = run_guide("streams-to-aurora", tmp_path, pace, **{"33306": str(mariadb.port)})
        database = mariadb.open(Server("127.0.0.1", "Demo", "demo_loader", mariadb.port), "dbPassword")
        rows = database.rows("SELECT page_id, activity_dt, hits FROM WebAnalytics")
        database.close()
    finally:
        mariadb.drop("Demo", "demo_loader")
    (items,) = guide.items.values()
    assert sorted(rows) == sorted(
        (item["page_id"]["S"], item["activity_dt"]["S"], json.loads(item["payload"]["S"])["Hits"]) for item in items
    )


def test_every_guide_is_run() -> None:
    run = (Path(__file__)).read_text(encoding="utf-8")
    assert [path.stem for path in (DOCS / "guides/seeds").glob("*.md") if f'"{path.stem}"' not in run] == []
