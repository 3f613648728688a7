"""Applying objects: whose records they hold, TTL, and what a second time changes."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from ddb_lake.errors import ConfigError
from ddb_lake.lake.catalog import LakeCatalog
from ddb_lake.lake.state import CurrentState, changes_state
from ddb_lake.pipeline.apply.apply import apply_objects
from ddb_lake.pipeline.apply.ledger import read_ledger
from ddb_lake.pipeline.load.load import load_export
from ddb_lake.pipeline.maintain.compact import compact_table
from ddb_lake.pipeline.open_lake import Lake
from ddb_lake.pipeline.read.status import table_status
from ddb_lake_tests.support.export_files import HOUR_US, MINUTE_US, T0_US, change, full, item, land, sorted_items
from ddb_lake_tests.support.iceberg_readers import assert_readers_agree, count_rows
from ddb_lake_tests.support.several_tables import dumped, lake_of, queried

pytestmark = pytest.mark.usefixtures("no_source")

ORDERS = {"name": "orders"}


def test_object_with_records_of_several_tables_gives_each_its_share(tmp_path: Path) -> None:
    landed = land(
        tmp_path / "object",
        change(T0_US, item("a", v=1)),
        change(T0_US, item("a", w=2), table="prod-items"),
        change(T0_US, item("x"), table="unknown"),
        change(T0_US, item("y"), table="unknown"),
        change(T0_US, item("z"), table="Orders"),
    )
    with lake_of(tmp_path / "lake", ORDERS, {"name": "items", "source": {"table": "prod-items"}}) as lake:
        result = apply_objects(lake, "orders", [landed])
        assert result.other_tables == {"unknown": 2, "Orders": 1}
        assert (result.records, result.new, result.quarantined) == (2, 2, 0)
        assert {name: found.new for name, found in result.tables.items()} == {"orders": 1, "items": 1}
        assert {name: found.upserted for name, found in result.current.items()} == {"orders": 1, "items": 1}
        assert dumped(lake, "orders") == sorted_items([item("a", v=1)])
        assert dumped(lake, "items") == sorted_items([item("a", w=2)])
        again = apply_objects(lake, "items", [landed])
        assert (again.new, again.other_tables) == (0, {})
        assert {name: _ledger(lake, name) for name in ("orders", "items")} == {
            "orders": [("object", 5, 1, 0, 4, True)],
            "items": [("object", 5, 1, 0, 4, True)],
        }


def test_each_step_reads_a_table_of_the_lake_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: Counter[str] = Counter()
    load_table = LakeCatalog.table

    def counted(catalog: LakeCatalog, name: str) -> Any:
        read[name] += 1
        return load_table(catalog, name)

    with lake_of(tmp_path / "lake", ORDERS) as lake:
        load_export(lake, "orders", str(full([item("a", v=1)]).write(tmp_path / "export")))
        apply_objects(lake, "orders", [land(tmp_path / "1", change(T0_US, item("a", v=2)))])
        monkeypatch.setattr(LakeCatalog, "table", counted)
        apply_objects(lake, "orders", [land(tmp_path / "2", change(T0_US + 1, item("a", v=3)))])
    # which objects are new: ledger; their key: current; ingest: all but the quarantine; merge: current and changelog
    assert read == {"orders": 3, "orders_changes": 2, "orders_objects": 2, "orders_erasures": 1}


def test_first_commit_to_the_changelog_names_the_exports_of_current(tmp_path: Path) -> None:
    with lake_of(tmp_path / "lake", ORDERS) as lake:
        load_export(lake, "orders", str(full([item("a", v=1)]).write(tmp_path / "export")))
        apply_objects(lake, "orders", [land(tmp_path / "1", change(T0_US, item("a", v=2)))])
        current, changes = lake.current("orders"), lake.changes("orders")
        assert current is not None and changes is not None
        assert [e.export_id for e in changes_state(changes).exports] == [
            e.export_id for e in CurrentState.of(current).exports
        ]
        assert len(changes.snapshots()) == 1


def test_ledger_says_of_each_record_what_became_of_it(tmp_path: Path) -> None:
    twice = change(T0_US, item("a", v=1))
    land(tmp_path / "landed" / "1", twice, "\ngarbage\n", change(T0_US, item("x"), table="unknown"))
    land(tmp_path / "landed" / "2", twice, twice, change(T0_US + 1, item("b")))
    with lake_of(tmp_path / "lake", ORDERS) as lake:
        apply_objects(lake, "orders", [str(tmp_path / "landed")])
        assert _ledger(lake, "orders") == [("1", 3, 1, 1, 1, True), ("2", 3, 1, 0, 0, True)]


def _ledger(lake: Lake, name: str) -> list[tuple[Any, ...]]:
    """The ledger by object: records, new, rejected, of other tables, and whether its times are in order."""
    ledger = read_ledger(lake, name).sql()
    with lake.session() as session:
        return session.rows(
            "SELECT parse_filename(object), records, new, rejected, other_tables, landed_at <= ingested_at"
            f" FROM {ledger} ORDER BY 1"
        )


def test_object_without_a_record_of_the_table_is_known_all_the_same(tmp_path: Path) -> None:
    landed = land(tmp_path / "object", change(T0_US, item("a"), table="unknown"))
    with lake_of(tmp_path / "lake", ORDERS) as lake:
        assert apply_objects(lake, "orders", [landed]).other_tables == {"unknown": 1}
        again = apply_objects(lake, "orders", [landed])
        assert (again.objects, again.already_ingested, again.other_tables) == (1, 1, {})
        assert table_status(lake, "orders").objects == 1
        assert dumped(lake) == []


def test_objects_applied_again_or_named_twice_change_nothing(tmp_path: Path) -> None:
    first = land(tmp_path / "landed" / "1", change(T0_US, item("a", v=1)), "\ngarbage\n")
    with lake_of(tmp_path / "lake", ORDERS) as lake:
        result = apply_objects(lake, "orders", [first, str(tmp_path / "landed"), first, f"file://{first}"])
        assert (result.objects, result.already_ingested, result.new, result.quarantined) == (1, 0, 1, 1)
        before = table_status(lake, "orders")
        again = apply_objects(lake, "orders", [first, str(tmp_path / "landed")])
        assert (again.objects, again.already_ingested, again.new, again.quarantined) == (1, 1, 0, 0)
        assert again.current["orders"].changed == 0
        after = table_status(lake, "orders")
        assert (after.snapshot_id, after.snapshots) == (before.snapshot_id, before.snapshots)


def test_object_delivered_again_under_another_name_is_a_duplicate(tmp_path: Path) -> None:
    records = [change(T0_US, item("a", v=1)), change(T0_US + 1, item("a", v=2), item("a", v=1))]
    with lake_of(tmp_path / "lake", ORDERS) as lake:
        apply_objects(lake, "orders", [land(tmp_path / "1", *records)])
        again = apply_objects(lake, "orders", [land(tmp_path / "2", *records[::-1], records[0])])
        assert (again.records, again.new, again.duplicates) == (3, 0, 3)
        assert count_rows(lake, "orders_changes") == 2
        assert table_status(lake, "orders").objects == 2


def test_object_rewritten_under_its_name_brings_what_is_new_in_it(tmp_path: Path) -> None:
    old = change(T0_US, item("a", v=1))
    uri = land(tmp_path / "object", old)
    with lake_of(tmp_path / "lake", ORDERS) as lake:
        apply_objects(lake, "orders", [uri])
        land(tmp_path / "object", old, change(T0_US, item("b", v=2)))
        again = apply_objects(lake, "orders", [uri])
        assert (again.already_ingested, again.new, again.duplicates) == (0, 1, 1)
        assert dumped(lake) == sorted_items([item("a", v=1), item("b", v=2)])


def test_folder_that_does_not_exist_is_a_doubt_of_the_result(tmp_path: Path) -> None:
    with lake_of(tmp_path / "lake", ORDERS) as lake:
        result = apply_objects(lake, "orders", [str(tmp_path / "nowhere")])
        assert result.objects == 0 and "nowhere: nothing is there" in result.doubts[0]
        with pytest.raises(ConfigError, match="not configured"):
            apply_objects(lake, "nothing", [str(tmp_path)])


def test_empty_folder_is_nothing_to_do(tmp_path: Path) -> None:
    (tmp_path / "landed").mkdir()
    with lake_of(tmp_path / "lake", ORDERS) as lake:
        assert apply_objects(lake, "orders", [str(tmp_path / "landed")]).objects == 0
        assert dumped(lake) == []


def test_key_that_the_configuration_changes_is_refused(tmp_path: Path) -> None:
    landed = land(tmp_path / "object", change(T0_US, item("a", other=1)))
    with lake_of(tmp_path / "lake", ORDERS) as lake:
        apply_objects(lake, "orders", [landed])
    with lake_of(tmp_path / "lake", {"name": "orders", "key": ["other"]}) as lake:
        more = land(tmp_path / "more", change(T0_US, item("b", other=1)))
        with pytest.raises(ConfigError, match="a key cannot change"):
            apply_objects(lake, "orders", [more])


# --- Time to Live


def ttl_history(folder: Path) -> str:
    """`gone` expires; `back` expires and is written again; `deleted` is removed by a person."""
    return land(
        folder / "object",
        *(change(T0_US, item(key, v=1)) for key in ("gone", "back", "deleted")),
        change(T0_US + MINUTE_US, None, item("gone", v=1), ttl=True),
        change(T0_US + MINUTE_US, None, item("back", v=1), ttl=True),
        change(T0_US + MINUTE_US, None, item("deleted", v=1)),
        change(T0_US + HOUR_US, item("back", v=2)),
    )


def test_ttl_deletes_that_are_applied_remove_rows(tmp_path: Path) -> None:
    with lake_of(tmp_path / "lake", ORDERS) as lake:
        apply_objects(lake, "orders", [ttl_history(tmp_path)])
        assert dumped(lake) == sorted_items([item("back", v=2)])
        assert queried(lake, "SELECT id FROM orders") == [("back",)]
        assert queried(lake, "SELECT count(*) FROM orders_changes WHERE ttl") == [(2,)]


def test_ttl_deletes_that_are_kept_stay_as_rows_and_are_no_items(tmp_path: Path) -> None:
    with lake_of(tmp_path / "lake", {"name": "orders", "ttl_deletes": "keep"}) as lake:
        apply_objects(lake, "orders", [ttl_history(tmp_path)])
        expired = "SELECT id, v, epoch_us(_expired_at) FROM orders ORDER BY id"
        assert queried(lake, expired) == [("back", 2, None), ("gone", 1, T0_US + MINUTE_US)]
        assert dumped(lake) == sorted_items([item("back", v=2)])
        assert dumped(lake, as_of_us=T0_US + MINUTE_US) == []
        assert_readers_agree(lake, "orders")
        apply_objects(lake, "orders", [land(tmp_path / "late", change(T0_US + HOUR_US, item("gone", v=5)))])
        assert queried(lake, expired) == [("back", 2, None), ("gone", 5, None)]
        assert dumped(lake) == sorted_items([item("back", v=2), item("gone", v=5)])


@pytest.mark.parametrize(("first", "second"), (("keep", "apply"), ("apply", "keep")))
def test_ttl_setting_may_change_between_any_two_stages(tmp_path: Path, first: str, second: str) -> None:
    older = full([item("a", v=1), item("gone", v=1)]).write(tmp_path / "older")
    newer = full([item("a", v=2)], at_us=T0_US + 3 * HOUR_US).write(tmp_path / "newer")
    with lake_of(tmp_path / "lake", {"name": "orders", "ttl_deletes": first}) as lake:
        load_export(lake, "orders", str(older))
        apply_objects(lake, "orders", [ttl_history(tmp_path)])
    with lake_of(tmp_path / "lake", {"name": "orders", "ttl_deletes": second}) as lake:
        landed = land(tmp_path / "more", change(T0_US + 2 * HOUR_US, None, item("back", v=2), ttl=True))
        apply_objects(lake, "orders", [landed])
        assert dumped(lake) == sorted_items([item("a", v=1)])
        compact_table(lake, "orders", force=True)
        assert dumped(lake) == sorted_items([item("a", v=1)])
        load_export(lake, "orders", str(newer))
        assert dumped(lake) == sorted_items([item("a", v=2)])
        assert_readers_agree(lake, "orders")
