"""Each guide of `guides/seeds` runs by its own commands, from an empty sandbox to a lake that has the table's items."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ddb_lake.mysql.connection import Server
from ddb_lake_tests.support.docs_blocks import DOCS, ROOT, blocks
from ddb_lake_tests.support.mariadb import MariaDb
from ddb_lake_tests.support.seed_guides import GuideRun


def run_guide(name: str, folder: Path, **replaced: str) -> GuideRun:
    page = f"guides/seeds/{name}.md"
    guide = GuideRun(blocks((DOCS / page).read_text(encoding="utf-8"), page), folder)
    guide.run({"~/ddb-lake": str(ROOT), **replaced})
    return guide


@pytest.mark.parametrize(
    "name",
    [
        "cross-account",
        pytest.param("kinesis-firehose", marks=pytest.mark.exhaustive),
        pytest.param("replicate", marks=pytest.mark.exhaustive),
        pytest.param("change-sources", marks=pytest.mark.exhaustive),
    ],
)
def test_guide_runs_by_its_own_commands(name: str, tmp_path: Path) -> None:
    run_guide(name, tmp_path)


@pytest.mark.exhaustive
def test_guide_of_aurora_runs_by_its_own_commands(tmp_path: Path, mariadb: MariaDb) -> None:
    try:
        guide = run_guide("streams-to-aurora", tmp_path, **{"33306": str(mariadb.port)})
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
