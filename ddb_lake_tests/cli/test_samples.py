"""Objects that real AWS services wrote, through the command line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ddb_lake_tests.support.command_line import Run

SAMPLES = Path(__file__).parents[3] / "shared" / "samples"

pytestmark = pytest.mark.skipif(not SAMPLES.is_dir(), reason="the samples are not here")

CONFIGURATION = """\
warehouse: warehouse
tables:
  - {name: S3ExportTest, key: [id]}
  - {name: table-testdrive, key: [device, timestamp]}
  - {name: streamed, key: [Id], source: {table: TestTable}}
  - {name: saver, key: [id]}
"""


@pytest.fixture(autouse=True)
def configured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "ddb_lake.yaml").write_text(CONFIGURATION)


def test_full_export_loads_and_dumps_exactly(run: Run) -> None:
    loaded = json.loads(run("load", "S3ExportTest", SAMPLES / "pitr_full_export", "--json").stdout)
    assert (loaded["export_id"], loaded["items"], loaded["rows"]) == ("01715685260608-c488b4e1", 3, 3)
    items = {json.loads(line)["Item"]["id"]["S"]: json.loads(line)["Item"] for line in _lines(run, "S3ExportTest")}
    assert items["foo"] == {"id": {"S": "foo"}, "bar": {"N": "42"}}
    assert items["K3TXQk84Si"]["f"] == {"M": {"h": {"NULL": True}, "i": {"BOOL": True}, "g": {"N": "9"}}}
    assert items["K3TXQk84Si"]["j"] == {"B": "aGVsbG8="}


def test_kinesis_records_in_microseconds_apply(run: Run) -> None:
    records = SAMPLES / "kds_records" / "lorrystream-microsecond.jsonl"
    applied = json.loads(run("apply", "table-testdrive", records, "--json").stdout)
    assert (applied["records"], applied["new"], applied["quarantined"]) == (3, 3, 0)
    assert applied["current"]["table-testdrive"]["rows"] == 1
    (line,) = _lines(run, "table-testdrive")
    assert json.loads(line)["Item"]["device"] == {"S": "qux"}
    sql = """SELECT count(*) AS n, max(changed_at) AS last FROM "table-testdrive_changes" """
    rows = json.loads(run("query", sql, "--json").stdout)
    assert rows == [{"n": 3, "last": "2024-07-11T23:58:41.848352"}]


def test_streams_events_are_all_accounted_for(run: Run) -> None:
    result = run("apply", "streamed", SAMPLES / "dynamodb_streams_events", "--json")
    assert result.exit_code == 0, result.stderr
    applied = json.loads(result.stdout)
    assert applied["new"] + applied["duplicates"] + applied["quarantined"] == applied["records"]
    assert applied["records"] + applied["other_tables"]["Example-Table"] == 9
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
