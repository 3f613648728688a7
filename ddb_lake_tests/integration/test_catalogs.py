"""The same commands on each kind of catalog give the same lake, and writers that collide lose nothing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from ddb_lake.core.values.time_text import iso_text
from ddb_lake_tests.support.catalogs import CATALOGS
from ddb_lake_tests.support.command_line import Run, landing, run
from ddb_lake_tests.support.export_files import HOUR_US
from ddb_lake_tests.support.landed_files import EXPORT_US

__all__ = ["landing", "run"]

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
