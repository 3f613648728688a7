from __future__ import annotations

import json

import pytest

from ddb_lake_tests.support.command_line import Run

TABLE = ("--items", 10_000_000, "--item-bytes", 800, "--changes-per-second", "50")


def test_cost_lists_every_way_without_a_configuration(run: Run) -> None:
    result = run("cost", *TABLE)
    assert result.exit_code == 0
    assert "KDS provisioned + Firehose           44.21" in result.stdout
    assert "third parties" in result.stderr
    assert "capture of changes" in run("cost", *TABLE, "--parts").stdout


def test_cost_as_json_has_parts_and_prices(run: Run) -> None:
    document = json.loads(run("cost", *TABLE, "--json").stdout)
    ways = {way["way"]: way for way in document["usd_per_month"]}
    assert ways["incremental exports every 15m"]["usd"] == pytest.approx(28.41, abs=0.01)
    assert sum(part["usd"] for part in ways["KDS on-demand + Firehose"]["parts"]) == pytest.approx(105.73, abs=0.01)
    assert document["prices"]["firehose"]["third_party"] is True


@pytest.mark.parametrize("rate", ["-1", "many", "nan"])
def test_rate_that_is_none_is_wrong_use(run: Run, rate: str) -> None:
    result = run("cost", "--items", 1, "--item-bytes", 1, "--changes-per-second", rate)
    assert (result.exit_code, result.stdout) == (2, "")
