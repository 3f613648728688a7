"""Objects in the shape in which AWS services write them, through the command line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ddb_lake_tests.support.command_line import Run
from ddb_lake_tests.support.samples import SAMPLES

CONFIGURATION = """\
warehouse: warehouse
tables:
  - {name: parts, key: [id]}
  - {name: readings, key: [device, timestamp]}
  - {name: streamed, key: [Id], source: {table: things}}
  - {name: saver, key: [id]}
"""


@pytest.fixture(autouse=True)
def configured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "ddb_lake.yaml").write_text(CONFIGURATION)


def test_full_export_loads_and_dumps_exactly(run: Run) -> None:
    loaded = json.loads(run("load", "parts", SAMPLES / "pitr_full_export", "--json").stdout)
    assert (loaded["export_id"], loaded["items"], loaded["rows"]) == ("01772439300608-5f21c0d7", 3, 3)
    items = {json.loads(line)["Item"]["id"]["S"]: json.loads(line)["Item"] for line in _lines(run, "parts")}
    assert items["a"] == {"id": {"S": "a"}, "n": {"N": "42"}}
    assert items["every-type"]["f"] == {"M": {"h": {"NULL": True}, "i": {"BOOL": True}, "g": {"N": "9"}}}
    assert items["every-type"]["j"] == {"B": "b3Vycw=="}


def test_kinesis_records_in_microseconds_apply(run: Run) -> None:
    records = SAMPLES / "kds_records" / "microsecond.jsonl"
    applied = json.loads(run("apply", "readings", records, "--json").stdout)
    assert (applied["records"], applied["new"], applied["quarantined"]) == (3, 3, 0)
    assert applied["current"]["readings"]["rows"] == 1
    (line,) = _lines(run, "readings")
    assert json.loads(line)["Item"]["device"] == {"S": "pump-2"}
    sql = """SELECT count(*) AS n, max(changed_at) AS last FROM "readings_changes" """
    rows = json.loads(run("query", sql, "--json").stdout)
    assert rows == [{"n": 3, "last": "2026-03-02T08:17:01.848352"}]


def test_streams_events_are_all_accounted_for(run: Run) -> None:
    result = run("apply", "streamed", SAMPLES / "dynamodb_streams_events", "--json")
    assert result.exit_code == 0, result.stderr
    applied = json.loads(result.stdout)
    assert applied["new"] + applied["duplicates"] + applied["quarantined"] == applied["records"]
    assert applied["records"] + applied["other_tables"]["valves"] == 9
    assert applied["new"] == 5


def test_firehose_error_records_go_to_quarantine(run: Run) -> None:
    result = run("apply", "saver", SAMPLES / "firehose_error_records")
    assert result.exit_code == 1, "all of them"
    assert "Warning: saver: 5 records went to quarantine" in result.stderr
    listed = json.loads(run("quarantine", "list", "saver", "--json").stdout)
    assert listed["count"] == 5
    assert all(group["reason"].startswith("Firehose error Lambda.") for group in listed["groups"])


def _lines(run: Run, table: str) -> list[str]:
    result = run("dump", table)
    assert result.exit_code == 0, result.stderr
    return result.stdout.splitlines()
