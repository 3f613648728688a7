from __future__ import annotations

import json
from pathlib import Path

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


def test_prices_of_a_file_are_used_and_named(run: Run, tmp_path: Path) -> None:
    file = tmp_path / "region.toml"
    file.write_text("region = 'eu-west-1'\n[prices.export]\nusd = 0.2\n")
    document = json.loads(run("cost", *TABLE, "--prices", file, "--json").stdout)
    ways = {way["way"]: way for way in document["usd_per_month"]}
    assert ways["Streams read directly"]["first_export_usd"] == pytest.approx(1.49, abs=0.01)
    assert document["prices_region"] == "eu-west-1"
    assert run("cost", *TABLE, "--prices", file).stderr == ""
    file.write_text("[prices.export]\nusd = 'free'\n")
    assert run("cost", *TABLE, "--prices", file).exit_code == 2
