"""Verify, repair and restore on the command line, against the sandbox."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ddb_lake.aws.session import session
from ddb_lake.core.capture.gaps import Gap
from ddb_lake.pipeline.capture.gap_log import record_gap
from ddb_lake.pipeline.read.dump import dump_items
from ddb_lake.sandbox import ExportOptions, Sandbox, Traffic, create_orders_table
from ddb_lake_tests.support.command_line import Run
from ddb_lake_tests.support.corruptions import lose_row
from ddb_lake_tests.support.folder_lake import lake as open_lake
from ddb_lake_tests.support.sandbox_steps import make_bucket, scan

CONFIG = """\
warehouse: warehouse
tables:
  - name: orders
    export: {bucket: landing}
"""
MINUTE_US = 60_000_000


@pytest.fixture
def source(project: Path, monkeypatch: pytest.MonkeyPatch, run: Run) -> Iterator[Sandbox]:
    """A source with 60 orders, exported and loaded."""
    (project / "ddb_lake.yaml").write_text(CONFIG)
    with Sandbox(exports=ExportOptions(seconds=0)) as sandbox:
        for name, value in sandbox.environment().items():
            monkeypatch.setenv(name, value)
        session.cache_clear()
        create_orders_table(sandbox.client("dynamodb"))
        make_bucket(sandbox)
        Traffic(sandbox.client("dynamodb"), seed=3).insert(60)
        assert run("export", "orders").exit_code == 0
        yield sandbox
    session.cache_clear()


def lose_one(project: Path) -> dict[str, Any]:
    """Lose a row of the lake; gives its key."""
    with open_lake(project / "warehouse", "orders", ["customer", "order_id"]) as lake:
        item = json.loads(min(dump_items(lake, "orders")))["Item"]
        lose_row(lake, "orders", item)
    return {name: item[name] for name in ("customer", "order_id")}


def test_verify_names_a_lost_row_and_repair_repairs_it(project: Path, run: Run, source: Sandbox) -> None:
    clean = run("verify", "orders")
    assert clean.exit_code == 0, clean.output
    assert "orders: equal: 60 keys compared" in clean.stdout
    assert "read units from the source" in clean.stderr
    lost = lose_one(project)
    found = run("verify", "orders", "--full", "--scan", "--json")
    document = json.loads(found.stdout)
    assert found.exit_code == 1
    assert [d["key"] for d in document["differences"]] == [lost]
    assert document["kinds"] == {"missing": 1} and document["outcome"] == "different"
    shown = run("verify", "orders", "--full", "--scan").stdout
    assert "missing" in shown and lost["order_id"]["S"] in shown and "ddb-lake repair orders" in shown
    repaired = run("repair", "orders")
    assert repaired.exit_code == 0, repaired.output
    assert "1 key from orders read by key" in repaired.stdout and "now 60 rows" in repaired.stdout
    assert run("verify", "orders", "--full").exit_code == 0
    assert run("verify", "orders", "--sample", "0").exit_code == 0


def test_repair_takes_the_keys_of_a_report_and_refuses_what_is_none(project: Path, run: Run, source: Sandbox) -> None:
    never = run("repair", "orders")
    assert (never.exit_code, "ddb-lake verify orders" in never.stderr) == (2, True)
    lose_one(project)
    report = project / "report.json"
    report.write_text(run("verify", "orders", "--scan", "--json").stdout)
    result = run("repair", "orders", "--keys-from", report, "--json")
    assert (result.exit_code, json.loads(result.stdout)["present"]) == (0, 1)
    report.write_text(json.dumps({"table": "orders", "differences": [{"key": {"id": {"S": "x"}}}]}))
    wrong = run("repair", "orders", "--keys-from", report)
    assert (wrong.exit_code, "not a key of this table" in wrong.stderr) == (2, True), wrong.output
    report.write_text("[]")
    assert run("repair", "orders", "--keys-from", report).exit_code == 2
    assert run("repair", "orders", "--gaps", "--from-source").exit_code == 2
    assert run("verify", "orders", "--full", "--sample", "3").exit_code == 2


def test_restore_writes_and_reads_back_the_items_of_a_time(project: Path, run: Run, source: Sandbox) -> None:
    moment = json.loads(run("status", "orders", "--json").stdout)["base_export_us"]
    asked = run("restore", "orders", "--as-of", f"{moment}us", "--to", "copy")
    assert (asked.exit_code, "--yes" in asked.stderr) == (2, True)
    missing = run("restore", "orders", "--as-of", f"{moment}us", "--to", "copy", "--yes")
    assert (missing.exit_code, "--create" in missing.stderr) == (2, True)
    done = run("restore", "orders", "--as-of", f"{moment}us", "--to", "copy", "--create", "--yes", "--json")
    assert done.exit_code == 0, done.output
    document = json.loads(done.stdout)
    assert (document["items"], document["written"], document["verified"]) == (60, 60, 60)
    assert "write units" in done.stderr
    assert scan(source, "copy") == scan(source, "orders")
    again = run("restore", "orders", "--as-of", f"{moment}us", "--to", "copy", "--yes")
    assert (again.exit_code, "--into-existing" in again.stderr) == (2, True)
    itself = run("restore", "orders", "--as-of", f"{moment}us", "--to", "orders", "--yes")
    assert (itself.exit_code, "is the source itself" in itself.stderr) == (2, True)


def test_open_gaps_are_printed_with_the_time_of_the_next_repair(project: Path, run: Run, source: Sandbox) -> None:
    assert run("repair", "orders", "--gaps").stdout == "orders: no gaps.\n"
    now_us = source.clock.now_us()
    with open_lake(project / "warehouse", "orders", ["customer", "order_id"]) as lake:
        record_gap(lake, "orders", Gap("lost", now_us - MINUTE_US, now_us, "for a test", now_us))
    shown = json.loads(run("status", "orders", "--json").stdout)
    assert [gap["kind"] for gap in shown["gaps"]] == ["lost"]
    assert "1 open" in run("status", "orders").stdout
    left = run("repair", "orders", "--gaps")
    assert left.exit_code == 1
    assert "open: lost from" in left.stdout and "repair again then" in left.stdout
