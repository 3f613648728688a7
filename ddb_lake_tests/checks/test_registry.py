"""Every check is in the registry, has a question and advice, and is never green if it could not look."""

from __future__ import annotations

from typing import Any

import pytest

from ddb_lake.checks.check import Check, Subject
from ddb_lake.checks.registry import CHECKS, checks_of
from ddb_lake.config import parse_settings
from ddb_lake.errors import CheckFailed, DamagedError, ExportError, UnreachableError, UsageError

FOLDERS = {"key": ["k"], "export": {"bucket": "/exports"}, "changes": {"uri": "/landing"}}
EVALUATED = [check for check in CHECKS if check.evaluate is not None]


def names(**settings: Any) -> set[str]:
    table = parse_settings({"warehouse": "lake", "tables": [{"name": "t", **settings}]}, "test").table("t")
    return {f"{check.asset}/{check.name}" for check in checks_of(table)}


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: f"{check.asset}/{check.name}")
def test_check_has_a_question_and_advice(check: Check) -> None:
    assert check.question.startswith("whether ") and check.advice and check.compares


def test_names_are_unique() -> None:
    assert len({(check.asset, check.name) for check in CHECKS}) == len(CHECKS)


@pytest.mark.parametrize("check", EVALUATED, ids=lambda check: check.name)
@pytest.mark.parametrize(
    ("error", "state"),
    [
        (RuntimeError("a fault of ours"), "unknown"),
        (UsageError("not reachable"), "unknown"),
        (UnreachableError("not now"), "unknown"),
        (CheckFailed("two winners"), "fail"),
        (DamagedError("it is damaged"), "fail"),
        (ExportError("a file is missing"), "fail"),
    ],
    ids=lambda value: value if isinstance(value, str) else type(value).__name__,
)
def test_check_that_could_not_look_has_not_passed(check: Check, error: Exception, state: str) -> None:
    class Broken:
        def __getattr__(self, name: str) -> Any:
            raise error

    lake: Any = Broken()
    found = check.outcome(Subject(lake, lake, read_sensor=lambda now_us: lake.sensor))

    assert found.state == state


def test_lake_of_folders_has_no_check_that_reads_aws() -> None:
    assert names(**FOLDERS) == {
        "changes/continuity",
        "changes/quarantine_empty",
        "current/no_gaps",
        "current/objects_intact",
        "current/schema_unchanged",
        "current/sensor_ticks",
        "current/unique_keys",
        "current/up_to_date",
        "snapshot/rows_match_manifest",
        "snapshot/unique_keys",
    }


@pytest.mark.parametrize(
    "aws",
    [
        {"source": {"region": "eu-west-1"}},
        {"export": {"bucket": "exports"}},
        {"changes": {"uri": "s3://landing/"}},
        {"changes": {"streams": True}},
    ],
    ids=lambda settings: next(iter(settings)),
)
def test_table_that_names_something_in_aws_is_compared_with_its_source(aws: dict[str, Any]) -> None:
    assert "current/rows_match_source" in names(**FOLDERS | aws)
