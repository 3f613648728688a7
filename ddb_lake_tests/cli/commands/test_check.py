"""`ddb-lake check` evaluates the checks without Dagster; `status` counts what it found, the worst first."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ddb_lake_tests.support.command_line import Run

CONFIGURATION = """\
warehouse: warehouse
tables:
  - {name: orders, key: [customer, order_id], changes: {uri: LANDING, layout: flat}, checks: {max_lag: 0s}}
  - {name: idle, key: [id], changes: {uri: nowhere}}
"""


def colors(document: dict[str, Any]) -> dict[str, str]:
    return {result["check"]: result["color"] for result in document["checks"]["results"]}


def tables(run: Run, *arguments: object) -> dict[str, dict[str, Any]]:
    return {one["table"]: one for one in json.loads(run(*arguments, "--json").stdout)["tables"]}


def test_checks_are_evaluated_and_status_counts_them(run: Run, project: Path, landing: Path) -> None:
    (project / "ddb_lake.yaml").write_text(CONFIGURATION.replace("LANDING", str(landing / "changes")))
    assert "not evaluated" in run("status").stdout

    unapplied = run("check")
    assert unapplied.exit_code == 1 and "red     orders: up_to_date" in unapplied.stdout
    problems = [line for line in run("status").stdout.splitlines() if line.startswith(("red", "yellow"))]
    assert problems[0].startswith("red     orders: up_to_date") and "whether" in problems[1]

    assert run("sync", "orders").exit_code == 0
    assert run("check", "orders").exit_code == 0
    found = tables(run, "check")
    assert colors(found["orders"]) == {
        "changes/continuity": "yellow",
        "changes/quarantine_empty": "green",
        "current/no_gaps": "green",
        "current/objects_intact": "green",
        "current/up_to_date": "green",
    }
    assert set(colors(found["idle"]).values()) == {"yellow"}
    assert all(result["text"].startswith("unknown: whether ") for result in found["idle"]["checks"]["results"])
    assert (run("check").exit_code, run("check", "--strict").exit_code) == (0, 1)

    shown = tables(run, "status")
    assert colors(shown["orders"]).items() >= colors(found["orders"]).items()
    # Dagster alone evaluates these: until it does, they are unknown
    assert colors(shown["orders"])["current/unique_keys"] == "yellow"


def test_a_lake_without_tables_is_refused(run: Run, project: Path) -> None:
    (project / "ddb_lake.yaml").write_text("warehouse: warehouse\ntables: []\n")
    refused = run("check")
    assert refused.exit_code == 2 and "no table is configured, so that nothing can be checked" in refused.stderr
