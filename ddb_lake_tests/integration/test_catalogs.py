"""The same commands on each kind of catalog give the same lake, and writers that collide lose nothing."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from ddb_lake.config.files import load_settings
from ddb_lake.core.values.time_text import iso_text
from ddb_lake.executors import open_lake
from ddb_lake.lake.scan import scan_table
from ddb_lake.pipeline.read.dump import dump_items
from ddb_lake_tests.support.catalogs import CATALOGS, catalog_settings
from ddb_lake_tests.support.command_line import Run, landing, run
from ddb_lake_tests.support.export_files import HOUR_US
from ddb_lake_tests.support.landed_files import EXPORT_US, change, order, write_changes

__all__ = ["catalog_settings", "landing", "run"]

ROOT = Path(__file__).parents[2]
TABLE = {"name": "orders", "key": ["customer", "order_id"]}


@pytest.fixture
def config(catalog_settings: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A configuration of one table in the catalog; files are looked for in an empty working folder."""
    path = tmp_path / "ddb_lake.yaml"
    attributes = {**catalog_settings, "tables": [TABLE]}
    path.write_text(json.dumps({"type": "ddb_lake.DynamoDBLakeComponent", "attributes": attributes}))
    monkeypatch.chdir(tmp_path)
    return path


@pytest.mark.parametrize("catalog_settings", CATALOGS, indirect=True)
def test_every_command_works_on_every_catalog(config: Path, landing: Path, run: Run) -> None:
    def command(*arguments: object) -> list[str]:
        result = run(*arguments)
        assert result.exit_code == 0, result.output
        return result.stdout.splitlines()

    command("load", "orders", "--export", landing / "export")
    exported = command("dump", "orders")
    command("apply", "orders", landing / "changes")
    items = sorted(command("dump", "orders"))
    assert len(items) == 3 and len(exported) == 3 and set(items) & set(exported)
    assert '"total":{"N":"11"}' in items[0] and '"SS":["x","y"]' in items[2]
    command("apply", "orders", landing / "changes")
    command("compact", "orders", "--force")
    assert sorted(command("dump", "orders")) == items
    assert sorted(command("dump", "orders", "--as-of", iso_text(EXPORT_US + HOUR_US))) == sorted(exported)
    verified = run("verify", "orders", "--export", landing / "export")
    assert "3 " in verified.stdout, verified.output
    counted = json.loads("".join(command("query", "SELECT count(*) AS n FROM orders", "--json")))
    assert counted[0]["n"] == 3
    assert json.loads("".join(command("status", "orders", "--json")))["rows"] == 3
    doctor = run("doctor")
    assert "0 failed" in doctor.output, doctor.output


@pytest.mark.parametrize("table_of_commit", ["orders_changes", pytest.param("orders", marks=pytest.mark.exhaustive)])
@pytest.mark.parametrize("catalog_settings", CATALOGS, indirect=True)
def test_of_two_processes_that_commit_at_once_one_plans_again_and_nothing_is_lost(
    config: Path, tmp_path: Path, table_of_commit: str
) -> None:
    """Both are the first to commit to the table, and their objects have other keys."""
    meeting = tmp_path / "meeting"
    meeting.mkdir()
    landed = [tmp_path / f"landing{number}" for number in (1, 2)]
    times = (EXPORT_US + HOUR_US, EXPORT_US + 2 * HOUR_US)
    for number, (folder, time_us) in enumerate(zip(landed, times, strict=True)):
        write_changes(folder / "2024/05/14/12/one", change(number, time_us, order("ann", number)))
    module = [sys.executable, "-W", "ignore", "-m", "ddb_lake_tests.support.colliding_writer"]
    writers = [
        subprocess.Popen(
            [*module, config, "orders", folder, table_of_commit, meeting],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for folder in landed
    ]
    ended = [writer.communicate(timeout=600) for writer in writers]
    assert [writer.returncode for writer in writers] == [0, 0], "\n".join(errors for _, errors in ended)
    assert sorted(int(printed) for printed, _ in ended) == [0, 1], "one commit succeeds, the other is a conflict"
    with open_lake(load_settings(config)) as lake:
        assert len(list(dump_items(lake, "orders"))) == 2
        changes = lake.changes("orders")
        assert changes is not None and scan_table(changes).live.rows == 2
