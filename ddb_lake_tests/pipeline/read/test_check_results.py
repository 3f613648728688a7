"""The kept results of checks: replaced one by one, too old ones unknown, the worst first."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from ddb_lake.config import parse_settings
from ddb_lake.core.verify.outcome import Color
from ddb_lake.executors import open_lake
from ddb_lake.pipeline.open_lake import Lake
from ddb_lake.pipeline.read.check_results import CheckResult, check_results, keep_results, summary_text

LATE = CheckResult("current", "late", "whether objects wait", valid_s=3600)
WRITTEN = CheckResult("current", "written", "whether rows were written")
KNOWN = (LATE, WRITTEN)


@pytest.fixture
def lake(tmp_path: Path) -> Iterator[Lake]:
    settings = parse_settings({"warehouse": str(tmp_path), "tables": [{"name": "t", "key": ["k"]}]}, "test")
    with open_lake(settings) as opened:
        yield opened


def found(lake: Lake, check: CheckResult, color: Color) -> CheckResult:
    return replace(check, color=color, text="Compared.", at_us=int(lake.now().timestamp() * 1_000_000))


def colors(lake: Lake) -> dict[str, Color]:
    return {result.check: result.color for result in check_results(lake, "t")}


def test_table_without_results_has_none(lake: Lake) -> None:
    assert check_results(lake, "t") == () and summary_text(()) == "not evaluated"


def test_check_that_was_never_evaluated_is_unknown_and_not_green(lake: Lake) -> None:
    keep_results(lake, "t", KNOWN, [found(lake, WRITTEN, "green")])

    late, written = check_results(lake, "t")

    assert (late.color, written.color) == ("yellow", "green")
    assert (
        late.text
        == "unknown: whether objects wait, because the check was never evaluated; a run in Dagster evaluates it."
    )


def test_result_replaces_that_of_its_check_alone_and_the_worst_is_first(lake: Lake) -> None:
    keep_results(lake, "t", KNOWN, [found(lake, check, "green") for check in KNOWN])
    keep_results(lake, "t", KNOWN, [found(lake, WRITTEN, "red")])

    assert list(colors(lake).items()) == [("written", "red"), ("late", "green")]
    assert summary_text(check_results(lake, "t")) == "1 red, 1 green"


def test_check_that_is_no_longer_configured_is_dropped(lake: Lake) -> None:
    keep_results(lake, "t", KNOWN, [found(lake, check, "red") for check in KNOWN])
    keep_results(lake, "t", [LATE], [])

    assert colors(lake) == {"late": "red"}


@pytest.mark.parametrize(("color", "later"), [("green", "yellow"), ("yellow", "yellow"), ("red", "red")])
def test_result_that_is_too_old_is_never_green(lake: Lake, color: Color, later: Color) -> None:
    now = lake.now()
    lake.now = lambda: now
    keep_results(lake, "t", KNOWN, [found(lake, check, color) for check in KNOWN])

    lake.now = lambda: now + timedelta(seconds=3600)
    assert colors(lake) == {"late": color, "written": color}
    lake.now = lambda: now + timedelta(seconds=3602)
    assert colors(lake) == {"late": later, "written": color}
