"""Failed deliveries: valid records are ingested; invalid ones are quarantined, corrected by hand, and ingested once."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest

from ddb_lake_tests.support.command_line import Run
from ddb_lake_tests.support.landed_files import EXPORT_US, Image, change, order, write_changes

CONFIGURATION = """\
warehouse: warehouse
tables:
  - name: orders
    key: [customer, order_id]
    changes: {uri: landing, errors_uri: failed}
"""


def failed(*records: bytes, code: str = "Lambda.FunctionTimedOut") -> str:
    """An object below Firehose's error prefix: one wrapper a line."""
    wrappers = [
        {
            "attemptsMade": 4,
            "arrivalTimestamp": EXPORT_US // 1000,
            "errorCode": code,
            "errorMessage": "The Lambda function timed out",
            "attemptEndingTimestamp": EXPORT_US // 1000 + 90_000,
            "rawData": base64.b64encode(record).decode(),
            "lambdaArn": "arn:aws:lambda:eu-west-1:111122223333:function:transform:$LATEST",
        }
        for record in records
    ]
    return "".join(json.dumps(wrapper) + "\n" for wrapper in wrappers)


def record(number: int) -> Image:
    return change(number, EXPORT_US + number, order("ann", number, note={"S": f"n{number}"}))


@pytest.fixture
def landing(project: Path) -> Path:
    """One delivered record; and of three failed deliveries a good one, one that is cut, and one with a wrong name."""
    (project / "ddb_lake.yaml").write_text(CONFIGURATION)
    write_changes(project / "landing/2024/05/14/12/a", record(1))
    good, cut = json.dumps(record(2)).encode(), json.dumps(record(3)).encode()[:-9]
    odd = json.dumps({**record(4), "eventName": "INSRT"}).encode()
    write_changes(project / "failed/processing-failed/2024/05/14/12/b", failed(good, cut, odd))
    return project


def dumped(run: Run) -> list[str]:
    return sorted(json.loads(line)["Item"]["order_id"]["N"] for line in run("dump", "orders").stdout.splitlines())


def mended(run: Run, folder: Path) -> Path:
    """The output of `quarantine show` with its two entries corrected, as a user would correct them."""
    document: dict[str, Any] = json.loads(run("quarantine", "show", "orders", "--json").stdout)
    for entry in document["entries"]:
        assert entry["reason"].startswith("Firehose error Lambda.FunctionTimedOut")
        number = 4 if "INSRT" in entry["text"] else 3
        entry["text"] = json.dumps(record(number))
    file = folder / "corrected.json"
    file.write_text(json.dumps(document))
    return file


def test_failed_deliveries_are_ingested_and_poison_comes_back_once_it_is_corrected(run: Run, landing: Path) -> None:
    assert run("sync", "orders").exit_code == 0
    assert dumped(run) == ["1", "2"]
    assert json.loads(run("quarantine", "list", "orders", "--json").stdout)["count"] == 2
    assert "2 records still quarantined" in run("quarantine", "replay", "orders").stderr
    file = mended(run, landing)
    result = json.loads(run("quarantine", "replay", "orders", "--from", file, "--json").stdout)
    assert (result["replayed"], result["new"], result["still_quarantined"]) == (2, 2, 0)
    assert dumped(run) == ["1", "2", "3", "4"]
    again = run("quarantine", "replay", "orders", "--from", file)
    assert again.exit_code == 0 and "2 entries of the file are not in quarantine" in again.stderr
    write_changes(landing / "landing/2024/05/14/13/late", record(3), record(4))
    assert json.loads(run("apply", "orders", landing / "landing", "--json").stdout)["duplicates"] == 2
    assert dumped(run) == ["1", "2", "3", "4"]


def test_corrected_file_that_does_not_exist_is_wrong_use(run: Run, landing: Path) -> None:
    (landing / "x.json").write_text("{oops")
    result = run("quarantine", "replay", "orders", "--from", landing / "x.json")
    assert result.exit_code == 2 and "x.json, line 1: no JSON" in result.stderr
