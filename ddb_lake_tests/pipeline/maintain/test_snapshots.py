"""Iceberg snapshots of a lake: how many stay, and what commands report if another tool rolled a table back."""

from __future__ import annotations

from pathlib import Path

import pytest

from ddb_lake.config import parse_settings
from ddb_lake.errors import DamagedError
from ddb_lake.executors import open_lake
from ddb_lake.pipeline.apply.apply import apply_objects
from ddb_lake.pipeline.load.load import load_export
from ddb_lake.pipeline.read.status import table_status
from ddb_lake_tests.support.export_files import MINUTE_US, T0_US, change, full, item, land, sorted_items
from ddb_lake_tests.support.iceberg_table import roll_back
from ddb_lake_tests.support.several_tables import dumped, lake_of

pytestmark = pytest.mark.usefixtures("no_source")


def test_every_table_of_a_lake_keeps_as_many_snapshots_as_configured_and_all_exports(tmp_path: Path) -> None:
    settings = {
        "warehouse": str(tmp_path / "lake"),
        "snapshots": {"keep": 2},
        "tables": [{"name": "orders", "key": ["id"]}],
    }
    with open_lake(parse_settings(settings, "test")) as lake:
        load_export(lake, "orders", str(full([item("a", v=1)]).write(tmp_path / "export")))
        for number in range(4):
            landed = land(
                tmp_path / str(number), change(T0_US + MINUTE_US + number, item("a", v=number)), "\ngarbage\n"
            )
            apply_objects(lake, "orders", [landed])
            for name in ("orders", "orders_changes", "orders_objects", "orders_quarantine"):
                table = lake.catalog.table(name)
                assert table is not None
                branches = {ref.snapshot_id for branch, ref in table.metadata.refs.items() if branch != "main"}
                assert len({s.snapshot_id for s in table.snapshots()} - branches) <= 2
        assert dumped(lake, as_of_us=T0_US) == sorted_items([item("a", v=1)])


@pytest.mark.parametrize("name", ["orders", "orders_changes"])
def test_commands_on_a_lake_that_was_rolled_back_name_the_repair(tmp_path: Path, name: str) -> None:
    with lake_of(tmp_path / "lake", {"name": "orders"}) as lake:
        landed = [land(tmp_path / str(n), change(T0_US + n, item("a", v=n))) for n in range(3)]
        for uri in landed[:2]:
            apply_objects(lake, "orders", [uri])
        table = lake.catalog.table(name)
        assert table is not None
        roll_back(table, 1)
        for command in (
            lambda: apply_objects(lake, "orders", [landed[2]]),
            lambda: table_status(lake, "orders"),
            lambda: dumped(lake, as_of_us=T0_US),
        ):
            with pytest.raises(DamagedError, match="ddb-lake rebuild orders"):
                command()
