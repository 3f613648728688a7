"""The same commands on each kind of catalog give the same lake, and writers that collide lose nothing."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

import pytest

from ddb_lake.config.files import load_settings
from ddb_lake.core.layout.table_names import ERASURES, derived_names
from ddb_lake.core.values.time_text import iso_text
from ddb_lake.executors import open_lake
from ddb_lake.lake.scan import live_files, scan_table
from ddb_lake.pipeline.read.dump import dump_items
from ddb_lake.pipeline.read.files import check_files
from ddb_lake_tests.support.catalogs import CATALOGS, catalog_settings
from ddb_lake_tests.support.command_line import Run, landing, run
from ddb_lake_tests.support.effort import by_effort
from ddb_lake_tests.support.export_files import HOUR_US
from ddb_lake_tests.support.landed_files import EXPORT_US, change, order, write_changes

__all__ = ["catalog_settings", "landing", "run"]

ROOT = Path(__file__).parents[2]
NAMES: Final = [name for name in derived_names("orders", daily=False) if not name.endswith(ERASURES)]
TABLE = {"name": "orders", "key": ["customer", "order_id"]}


@pytest.fixture
def config(catalog_settings: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A configuration of one table in the catalog; files are looked for in an empty working folder."""
    path = tmp_path / "ddb_lake.yaml"
    attributes = {**catalog_settings, "tables": [TABLE]}
    path.write_text(json.dumps({"type": "ddb_lake.DynamoDBLakeComponent", "attributes": attributes}))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))  # of rebuilds
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


@pytest.mark.parametrize("catalog_settings", CATALOGS, indirect=True)
def test_of_two_processes_that_commit_at_once_one_plans_again_and_nothing_is_lost(config: Path, tmp_path: Path) -> None:
    assert_one_plans_again(config, tmp_path, "orders_changes")


@pytest.mark.exhaustive
@pytest.mark.parametrize("catalog_settings", by_effort(CATALOGS[:1], CATALOGS[:1], CATALOGS), indirect=True)
def test_of_two_processes_that_merge_at_once_one_plans_again_and_nothing_is_lost(config: Path, tmp_path: Path) -> None:
    assert_one_plans_again(config, tmp_path, "orders")


def assert_one_plans_again(config: Path, tmp_path: Path, table_of_commit: str) -> None:
    """Both processes are the first to commit to the table, and their objects have other keys."""
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


LOSSES: Final = (
    "each table",
    pytest.param("a data file", marks=pytest.mark.exhaustive),
    pytest.param("the newest metadata", marks=pytest.mark.exhaustive),
)


def lose(config: Path, loss: str) -> None:
    """Drop the tables from the catalog, or remove a file of `orders`. SeaweedFS removes the files of a table that is dropped."""
    with open_lake(load_settings(config)) as lake:
        if loss == "each table":
            for name in NAMES:
                if lake.catalog.table(name) is not None:
                    lake.catalog.catalog.drop_table(lake.catalog.identifier(name))
            return
        table = lake.catalog.table("orders")
        assert table is not None
        lost = live_files(table).data[0].file_path if loss == "a data file" else table.metadata_location
        table.io.delete(lost)


@pytest.fixture
def lake_with_changes(config: Path, landing: Path, run: Run) -> list[str]:
    """A lake of an export, changes and rejected bytes in the catalog; its items."""
    attributes = json.loads(config.read_text())
    attributes["attributes"]["tables"] = [{**TABLE, "changes": {"uri": str(landing / "changes")}}]
    config.write_text(json.dumps(attributes))
    (landing / "changes/rejected").write_bytes(b'{"no": "record"}')
    for arguments in (("load", "orders", "--export", landing / "export"), ("apply", "orders", landing / "changes")):
        result = run(*arguments)
        assert result.exit_code in (0, 1), result.output
    items = sorted(run("dump", "orders").stdout.splitlines())
    assert len(items) == 3
    return items


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("catalog_settings", CATALOGS, indirect=True)
def test_rebuild_restores_the_lake_in_every_catalog(
    lake_with_changes: list[str], config: Path, landing: Path, run: Run, loss: str
) -> None:
    with open_lake(load_settings(config)) as lake:
        places = {name: table.location() for name in NAMES if (table := lake.catalog.table(name)) is not None}
    assert list(places) == NAMES
    lose(config, loss)
    rebuilt = run("rebuild", "orders", "--export", landing / "export")
    assert rebuilt.exit_code == 0, rebuilt.output
    assert sorted(run("dump", "orders").stdout.splitlines()) == lake_with_changes
    assert json.loads(run("quarantine", "list", "orders", "--json").stdout)["count"] == 1
    with open_lake(load_settings(config)) as lake:
        check_files(lake, "orders")
        for name, place in places.items():
            table = lake.catalog.table(name)
            assert table is not None and table.location() == place
            assert all(file.file_path.startswith(place) for file in live_files(table).data), "a file is elsewhere"
    again = run("apply", "orders", landing / "changes", "--json")
    assert json.loads(again.stdout)["new"] == 0, again.output


@pytest.mark.exhaustive
@pytest.mark.parametrize("catalog_settings", CATALOGS[1:], indirect=True)
def test_tables_that_a_catalog_lost_are_registered(lake_with_changes: list[str], config: Path, run: Run) -> None:
    """Not in table buckets, which remove the files of a table that is dropped."""
    lose(config, "each table")
    registered = run("rebuild", "orders", "--register", "--json")
    assert registered.exit_code == 0, registered.output
    assert json.loads(registered.stdout)["registered"] == NAMES
    assert sorted(run("dump", "orders").stdout.splitlines()) == lake_with_changes
    with open_lake(load_settings(config)) as lake:
        check_files(lake, "orders")
