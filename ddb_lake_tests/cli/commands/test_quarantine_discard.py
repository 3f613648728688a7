"""Discarded entries: no longer open anywhere, kept with who discarded them and why, and never back by themselves."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from ddb_lake_tests.support.command_line import Run
from ddb_lake_tests.support.landed_files import EXPORT_US, change, order, write_changes


@pytest.fixture
def entries(run: Run, project: Path) -> list[dict[str, Any]]:
    """Two entries of one object and one of another."""
    good = change(1, EXPORT_US, order("ann", 1))
    write_changes(project / "a", json.dumps(good), '\n{"no": "envelope"}\n', "no JSON")
    write_changes(project / "b", '{"no": "envelope"}')
    run("apply", "orders", "a", "b")
    found: list[dict[str, Any]] = json.loads(run("quarantine", "show", "orders", "--json").stdout)["entries"]
    assert len(found) == 3
    return found


def opened(run: Run) -> tuple[int, int, int]:
    """How many entries `status`, `list` and `show` count as open."""
    status = json.loads(run("status", "orders", "--json").stdout)["quarantined"]
    listed = json.loads(run("quarantine", "list", "orders", "--json").stdout)["count"]
    return status, listed, len(json.loads(run("quarantine", "show", "orders", "--json").stdout)["entries"])


@pytest.mark.parametrize(("by", "left"), [("id", 2), ("object", 1), ("reason", 1)])
def test_entries_are_discarded_by_id_object_or_reason(
    run: Run, project: Path, entries: list[dict[str, Any]], by: str, left: int
) -> None:
    first = next(entry for entry in entries if b"envelope".decode() in entry["text"] and entry["object"].endswith("a"))
    named = {"id": first["quarantine_id"], "object": first["object"], "reason": first["reason"]}[by]

    done = run("quarantine", "discard", "orders", f"--{by}", named, "--why", "it's a test", "--by", "o'neil", "--json")

    assert done.exit_code == 0, done.stderr
    assert json.loads(done.stdout) == {"table": "orders", "discarded": 3 - left, "by": "o'neil", "why": "it's a test"}
    assert opened(run) == (left, left, left)
    kept = json.loads(run("quarantine", "list", "orders", "--discarded", "--json").stdout)
    assert kept["count"] == 3 - left
    assert {(one["discarded_by"], one["why"]) for one in kept["discarded"]} == {("o'neil", "it's a test")}
    assert "o'neil" in run("quarantine", "list", "orders", "--discarded").stdout
    again = run("quarantine", "discard", "orders", f"--{by}", named, "--why", "again")
    assert again.exit_code == 1 and "no open entry matches" in again.stderr


def test_discarded_entries_stay_so_whatever_is_read_again(
    run: Run, project: Path, entries: list[dict[str, Any]]
) -> None:
    run(
        "quarantine",
        "discard",
        "orders",
        *(part for e in entries for part in ("--id", e["quarantine_id"])),
        "--why",
        "x",
    )
    assert opened(run) == (0, 0, 0)
    assert run("quarantine", "list", "orders").stdout == "orders: nothing is quarantined.\n"
    assert run("quarantine", "replay", "orders").exit_code == 0
    (project / "a").touch()
    assert run("apply", "orders", "a", "--strict").exit_code == 0
    write_changes(project / "c", '{"no": "envelope"}', json.dumps(change(2, EXPORT_US, order("ben", 1))))
    run("apply", "orders", "c")
    assert opened(run) == (1, 1, 1)
    rows = json.loads(
        run("query", "SELECT count(*) AS n, count(discarded_at) AS d FROM orders_quarantine", "--json").stdout
    )
    assert rows == [{"n": 4, "d": 3}]


def test_discarding_needs_a_name_and_a_reason(run: Run, project: Path, entries: list[dict[str, Any]]) -> None:
    assert run("quarantine", "discard", "orders", "--why", "x").exit_code == 2
    assert run("quarantine", "discard", "orders", "--id", "x").exit_code == 2
    assert run("quarantine", "discard", "orders", "--id", "x", "--why", " ").exit_code == 2
    assert opened(run) == (3, 3, 3)
