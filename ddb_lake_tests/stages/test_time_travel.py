"""Queries as of a time give what `dump --as-of` gives, in the table's columns."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from ddb_lake.errors import UsageError
from ddb_lake.stages.apply import apply_objects
from ddb_lake.stages.lake import Lake
from ddb_lake.stages.load import load_export
from ddb_lake.stages.query import run_query
from ddb_lake_tests.integration.landings import HOUR_US, T0_US, change, full, item, land
from ddb_lake_tests.stages.lakes import dumped, lake_of


def past(lake: Lake, sql: str, as_of_us: int) -> list[tuple[Any, ...]]:
    with run_query(lake, sql, as_of_us) as result:
        return [row for batch in result.batches() for row in batch]


def test_query_as_of_shows_the_table_and_its_changes_as_they_were(tmp_path: Path) -> None:
    items = [item("a", n=1), item("b", n=2), item("c", n=3)]
    with lake_of(tmp_path / "lake", {"name": "orders"}, {"name": "others"}) as lake:
        load_export(lake, "orders", str(full(items).write(tmp_path / "export")))
        changed = item("a", n=10, note="new")
        records = [
            change(T0_US + HOUR_US, changed, items[0]),
            change(T0_US + 2 * HOUR_US, None, items[1]),
            change(T0_US + 3 * HOUR_US, item("d", n={"N": "4.5"})),
        ]
        apply_objects(lake, "orders", [land(tmp_path / "landing/one", *records)])
        sql = "SELECT id, n::DOUBLE FROM orders ORDER BY id"
        assert past(lake, sql, T0_US) == [("a", 1.0), ("b", 2.0), ("c", 3.0)]
        assert past(lake, sql, T0_US + HOUR_US) == [("a", 10.0), ("b", 2.0), ("c", 3.0)]
        assert past(lake, sql, T0_US + 2 * HOUR_US) == [("a", 10.0), ("c", 3.0)]
        ids = past(lake, "SELECT id FROM ORDERS ORDER BY 1", T0_US + 9 * HOUR_US)
        assert ids == [("a",), ("c",), ("d",)]
        assert sorted(json.loads(line)["id"]["S"] for line in dumped(lake, "orders", T0_US + 9 * HOUR_US)) == [
            "a",
            "c",
            "d",
        ]
        assert past(lake, "SELECT note FROM orders WHERE id = 'a'", T0_US + HOUR_US) == [("new",)]
        assert past(lake, "SELECT count(*) FROM orders_changes", T0_US + 2 * HOUR_US) == [(2,)]
        with pytest.raises(UsageError, match="first snapshot"):
            past(lake, sql, T0_US - HOUR_US)
        assert past(lake, "SELECT 1", T0_US - HOUR_US) == [(1,)]


def test_query_as_of_without_a_snapshot_rests_on_the_changelog_alone(tmp_path: Path) -> None:
    with lake_of(tmp_path / "lake", {"name": "orders"}) as lake:
        first, second = item("a", n=1), item("a", n=2)
        records = [change(T0_US, first), change(T0_US + HOUR_US, second, first)]
        apply_objects(lake, "orders", [land(tmp_path / "landing/one", *records)])
        assert past(lake, "SELECT id, n FROM orders", T0_US) == [("a", 1)]
        assert past(lake, "SELECT id, n FROM orders", T0_US - 1) == []
