"""`ddb-lake verify --continuity`: what is printed, and the exit status."""

from __future__ import annotations

import json
from pathlib import Path

from ddb_lake_tests.support.command_line import CONFIGURATION, Run
from ddb_lake_tests.support.image_trail import Trail


def test_missing_changes_are_named_by_their_keys(project: Path, run: Run) -> None:
    (project / "ddb_lake.yaml").write_text(CONFIGURATION.replace("[customer, order_id]", "[id]"))
    trail = Trail(project)
    unknown = run("verify", "orders", "--continuity")
    assert (unknown.exit_code, "unknown: " in unknown.stdout) == (1, True)
    for minute in (1, 2):
        trail.put("ann", minute, v=minute)
    assert run("apply", "orders", trail.land()).exit_code == 0
    assert run("verify", "orders", "--continuity").exit_code == 0
    trail.put("ann", 3, v=3, lost=True)
    trail.put("ann", 4, v=4)
    run("apply", "orders", trail.land())
    shown = run("verify", "orders", "--continuity")
    assert (shown.exit_code, "ann" in shown.stdout, "repair orders --gaps" in shown.stdout) == (1, True, True)
    document = json.loads(run("verify", "orders", "--continuity", "--json").stdout)
    assert (document["state"], document["missing"], document["breaks"][0]["key"]) == ("fail", 1, {"id": {"S": "ann"}})
    assert [gap["kind"] for gap in json.loads(run("status", "orders", "--json").stdout)["gaps"]] == ["discontinuous"]
    assert run("verify", "orders", "--continuity", "--full").exit_code == 2
