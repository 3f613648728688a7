"""`ddb-lake query --output`: complete new files, and none that is replaced by accident."""

from __future__ import annotations

import json
import resource
import sys
from pathlib import Path

import duckdb
import pytest

from ddb_lake_tests.support.command_line import Run
from ddb_lake_tests.support.export_files import full, item

DIGITS = "12345678901234567890123456789012345678"
SQL = "SELECT customer, total, note FROM orders ORDER BY customer, order_id"


def test_output_writes_exact_rows_and_replaces_a_file_only_with_force(run: Run, project: Path, landing: Path) -> None:
    run("load", "orders", landing / "export")
    for suffix in ("parquet", "csv", "json"):
        result = run("query", "--output", f"rows.{suffix}", SQL)
        assert (result.exit_code, result.stdout) == (0, ""), result.stderr
        assert "3 rows" in result.stderr
    assert (project / "rows.csv").read_text() == run("query", "--csv", SQL).stdout
    assert json.loads((project / "rows.json").read_text()) == json.loads(run("query", "--json", SQL).stdout)
    assert DIGITS in (project / "rows.json").read_text()
    rows = duckdb.execute("SELECT customer, total::VARCHAR, note FROM 'rows.parquet'").fetchall()
    assert rows[1] == ("ann", "0.1", 'a,"b"\nc') and rows[2][1].startswith(DIGITS)

    before = (project / "rows.parquet").read_bytes()
    refused = run("query", "--output", "rows.parquet", "SELECT 1 AS one")
    assert (refused.exit_code, refused.stdout) == (2, "") and "--force" in refused.stderr
    failed = run("query", "--output", "rows.parquet", "--force", "SELECT error('no') FROM orders")
    assert failed.exit_code != 0
    assert (project / "rows.parquet").read_bytes() == before
    assert run("query", "--output", "rows.parquet", "--force", "SELECT 1 AS one").exit_code == 0
    assert duckdb.execute("FROM 'rows.parquet'").fetchall() == [(1,)]
    assert list(project.glob("*partial*")) == list(project.glob(".*partial*")) == []


def test_name_of_a_table_that_needs_quotes_is_shown_with_them(run: Run, project: Path, tmp_path: Path) -> None:
    (project / "ddb_lake.yaml").write_text("warehouse: warehouse\ntables: [{name: prod-users, key: [id]}]\n")
    run("load", "prod-users", full([item("ann")]).write(tmp_path / "exports"))
    for name in ("prod-users", "Prod-users_changes"):
        refused = run("query", f"SELECT id FROM {name} LIMIT 1")
        assert (refused.exit_code, refused.stdout) == (2, "")
        assert f'the name of the table {name.lower()} in double quotes: "{name.lower()}"' in refused.stderr
    assert run("query", "--csv", 'SELECT id FROM "prod-users"').stdout.splitlines() == ["id", "ann"]
    assert "double quotes" not in run("query", 'SELEC id FROM "prod-users"').stderr


def test_output_is_outside_of_the_lake(run: Run, project: Path, landing: Path) -> None:
    run("load", "orders", landing / "export")
    file = next((project / "warehouse").rglob("data/**/*.parquet"))
    (project / "link").symlink_to(file.parent)
    before = file.read_bytes()
    for output in (
        file,
        project / "link" / file.name,
        project / "warehouse/new.csv",
        project / "warehouse" / "new.json",
    ):
        refused = run("query", "--force", "--output", output, "SELECT 1 AS one")
        assert (refused.exit_code, refused.stdout) == (2, "") and "a folder of the lake" in refused.stderr
    assert file.read_bytes() == before


def test_memory_is_the_lakes_setting(run: Run, project: Path) -> None:
    file = project / "ddb_lake.yaml"
    file.write_text(file.read_text().replace("  tables:", "  memory: 320MB\n  tables:"))
    failed = run("query", "SELECT len(list(range)) FROM range(60_000_000)")
    assert failed.exit_code == 2 and "`memory`" in failed.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ("--output", "rows.txt", "SELECT 1"),
        ("--output", "nowhere/rows.csv", "SELECT 1"),
        ("--output", "rows.csv", "--json", "SELECT 1"),
        ("--output", "rows.csv"),
        ("--force", "SELECT 1"),
        ("--output", "rows.csv", "COPY orders TO 'rows.csv'"),
    ],
)
def test_wrong_output_is_wrong_use(run: Run, project: Path, arguments: tuple[str, ...]) -> None:
    result = run("query", *arguments)
    assert (result.exit_code, result.stdout) == (2, "")
    assert not (project / "rows.csv").exists()


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux limits the private memory of a process")
def test_value_that_duckdb_does_not_count_is_limited_by_memory(run: Run, project: Path, landing: Path) -> None:
    sql = "SELECT length(repeat('x', 4_000_000_000))"
    run("load", "orders", landing / "export")
    limits = resource.getrlimit(resource.RLIMIT_DATA)
    for options in ((), ("--output", "never.parquet")):
        refused = run("query", *options, sql)
        assert refused.exit_code == 2
        assert "memory" in refused.stderr and "more" in refused.stderr
    assert not (project / "never.parquet").exists()
    assert resource.getrlimit(resource.RLIMIT_DATA) == limits
    assert run("query", "--csv", "SELECT count(*) AS n FROM orders").stdout.split()[0] == "n"
