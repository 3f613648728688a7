"""Queries as of a time give what `dump --as-of` gives, in the table's columns."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from ddb_lake.errors import UsageError
from ddb_lake.pipeline.apply.apply import apply_objects
from ddb_lake.pipeline.load.load import load_export
from ddb_lake.pipeline.open_lake import Lake
from ddb_lake.pipeline.read.replay import view
from ddb_lake.pipeline.read.time_travel import past_rows, run_query_as_of
from ddb_lake_tests.support.effort import by_effort
from ddb_lake_tests.support.export_files import HOUR_US, T0_US, change, full, item, land
from ddb_lake_tests.support.several_tables import dumped, lake_of

pytestmark = pytest.mark.usefixtures("no_source")


def past(lake: Lake, sql: str, as_of_us: int) -> list[tuple[Any, ...]]:
    with run_query_as_of(lake, sql, as_of_us) as result:
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


def test_query_as_of_without_a_snapshot_uses_the_changelog_alone(tmp_path: Path) -> None:
    with lake_of(tmp_path / "lake", {"name": "orders"}) as lake:
        first, second = item("a", n=1), item("a", n=2)
        records = [change(T0_US, first), change(T0_US + HOUR_US, second, first)]
        apply_objects(lake, "orders", [land(tmp_path / "landing/one", *records)])
        assert past(lake, "SELECT id, n FROM orders", T0_US) == [("a", 1)]
        assert past(lake, "SELECT id, n FROM orders", T0_US - 1) == []


@pytest.mark.more_examples
def test_table_with_the_name_of_a_relation_of_ours_is_read_as_it_was(tmp_path: Path) -> None:
    with lake_of(tmp_path / "first", {"name": "orders"}) as lake:
        apply_objects(lake, "orders", [land(tmp_path / "landing/orders", change(T0_US, item("a", n=1)))])
        with lake.session() as session:
            past_rows(lake, session, view(lake, "orders"), T0_US)
            relations = [
                name
                for kind in ("table", "view")
                for (name,) in session.rows(f"SELECT {kind}_name FROM duckdb_{kind}s() WHERE NOT internal")
            ]
    names = sorted({*relations, "as_of_1", "past_rows_0", "past_keys_1"} - {n for n in relations if ":" in n})
    assert {"new_states", "projected_rows", "winners", "changed_keys"} <= set(names)
    names = names[:: by_effort(6, 1)]
    with lake_of(tmp_path / "lake", *({"name": name} for name in names)) as lake:
        for number, name in enumerate(names):
            first, second = item(name, n=number), item(name, n=-number - 1)
            records = [change(T0_US, first, table=name), change(T0_US + HOUR_US, second, first, table=name)]
            apply_objects(lake, name, [land(tmp_path / f"landing/{name}", *records)])
        sql = " UNION ALL ".join(f'SELECT id, n FROM "{name}"' for name in names)
        assert sorted(past(lake, sql, T0_US)) == [(name, number) for number, name in enumerate(names)]
        logs = " UNION ALL ".join(f'SELECT count(*) FROM "{name}_changes"' for name in names)
        assert past(lake, logs, T0_US) == [(1,)] * len(names)


def test_query_as_of_asks_nothing_of_a_table_whose_name_is_a_part_of_a_word(tmp_path: Path) -> None:
    with lake_of(tmp_path / "lake", {"name": "orders"}, {"name": "order"}) as lake:
        load_export(lake, "orders", str(full([item("a", n=1)]).write(tmp_path / "one")))
        later = full([item("z")], at_us=T0_US + HOUR_US, table="order")
        load_export(lake, "order", str(later.write(tmp_path / "two")))
        assert past(lake, "SELECT n FROM orders", T0_US) == [(1,)]
