"""Each check in each situation in which it cannot look: the page on checks states the result, and it is never green."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ddb_lake.checks.check import Check, Subject
from ddb_lake.checks.registry import CHECKS
from ddb_lake.config import parse_settings
from ddb_lake.core.capture.health import Sign
from ddb_lake.executors import open_lake
from ddb_lake.pipeline.open_lake import Lake
from ddb_lake_tests.support.docs_blocks import DOCS

PAGE = DOCS / "explanation" / "checks.md"
NAMED = [f"{check.asset}/{check.name}" for check in CHECKS]
EVALUATED = [check for check in CHECKS if check.evaluate is not None]
EVERYTHING: dict[str, Any] = {
    "name": "t",
    "key": ["id"],
    "entities": [{"name": "rest"}],
    "source": {"region": "eu-west-1"},
    "export": {"bucket": "exports"},
    "changes": {
        "uri": "s3://landing/",
        "errors_uri": "s3://failed/",
        "streams": True,
        "delivery_stream": "hose",
    },
    "checks": {"full": {"against": "scan"}, "canary": {"key": {"id": {"S": "canary"}}}},
    "aurora": {"host": "127.0.0.1", "port": 9, "database": "d", "user": "u", "password_env": "WRONG"},
}


def rows() -> dict[str, list[str]]:
    """The rows of the page's table, by check."""
    lines = [line for line in PAGE.read_text(encoding="utf-8").splitlines() if line.startswith("| `")]
    cells = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines]
    return {row[0].strip("` "): row[1:] for row in cells}


@pytest.fixture
def lake(no_aws: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Lake]:
    """A lake with every kind of source, nothing in it, and no way to AWS or a database."""
    monkeypatch.setenv("WRONG", "x")
    with open_lake(parse_settings({"warehouse": str(tmp_path / "lake"), "tables": [EVERYTHING]}, "test")) as opened:
        yield opened


def state(lake: Lake, check: Check) -> str:
    def never(now_us: int) -> Sign:
        return Sign("the sensor", "unknown", f"no tick is known at {now_us}")

    return check.outcome(Subject(lake, lake.table("t"), read_sensor=never)).state


def test_page_has_a_row_for_every_check() -> None:
    assert sorted(rows()) == sorted(NAMED)


def test_table_with_every_setting_has_every_check(lake: Lake) -> None:
    assert [check.name for check in CHECKS if not check.applies(lake.table("t"))] == []


@pytest.mark.parametrize("check", EVALUATED, ids=lambda check: f"{check.asset}/{check.name}")
def test_check_without_a_table_and_without_aws_is_unknown(lake: Lake, check: Check) -> None:
    nothing, unreachable = rows()[f"{check.asset}/{check.name}"][:2]
    assert state(lake, check) == "unknown"
    assert nothing.startswith("unknown")
    assert unreachable.startswith("unknown") or check.reads_dagster
