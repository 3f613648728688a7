"""Quarantined bytes: why they are there, and how they come back exactly once."""

from __future__ import annotations

import json
from pathlib import Path

from ddb_lake.stages.apply import apply_objects
from ddb_lake.stages.dump import dump_items
from ddb_lake.stages.quarantine import list_quarantine, replay_quarantine, show_quarantine
from ddb_lake_tests.integration.lakes import lake
from ddb_lake_tests.integration.landings import T0_US, change, item, land, sorted_items
from ddb_lake_tests.integration.readers import assert_readers_agree, count_rows

FLATTENED = {"Event": "INSERT", "ingestion_timestamp": "2026-03-01T09:30:00", "id": "a", "v": 1}


def dumped(opened: object, name: str = "orders") -> list[str]:
    return sorted_items(json.loads(line)["Item"] for line in dump_items(opened, name))  # type: ignore[arg-type]


def test_flattened_record_becomes_readable_once_its_key_is_configured(tmp_path: Path) -> None:
    uri = land(tmp_path / "object", FLATTENED, "\n", {**FLATTENED, "id": "b"})
    with lake(tmp_path / "lake", "orders", []) as opened:
        apply_objects(opened, "orders", [uri])
        (group,) = list_quarantine(opened, "orders")
        assert group.count == 2
        assert "key" in group.reason
        assert [entry.object for entry in show_quarantine(opened, "orders")] == [uri, uri]
    with lake(tmp_path / "lake", "orders", ["id"]) as opened:
        result = replay_quarantine(opened, "orders")
        assert (result.replayed, result.still_quarantined, result.new, result.duplicates) == (2, 0, 2, 0)
        assert dumped(opened) == sorted_items([item("a", v=1), item("b", v=1)])
        assert count_rows(opened, "orders_quarantine") == 0
        assert_readers_agree(opened, "orders")


def test_replay_again_and_apply_again_change_nothing(tmp_path: Path) -> None:
    uri = land(tmp_path / "object", FLATTENED)
    with lake(tmp_path / "lake", "orders", []) as opened:
        apply_objects(opened, "orders", [uri])
    with lake(tmp_path / "lake", "orders", ["id"]) as opened:
        replay_quarantine(opened, "orders")
        again = replay_quarantine(opened, "orders")
        assert (again.replayed, again.still_quarantined, again.new) == (0, 0, 0)
        Path(uri).touch()  # the same object, written once more
        applied = apply_objects(opened, "orders", [uri])
        assert (applied.new, applied.duplicates, applied.quarantined) == (0, 1, 0)
        assert count_rows(opened, "orders_changes") == 1


def test_replay_in_vain_does_not_keep_a_later_one_from_working(tmp_path: Path) -> None:
    uri = land(tmp_path / "object", FLATTENED, "\n", change(T0_US, item("b", v=2)))
    with lake(tmp_path / "lake", "orders", []) as opened:
        apply_objects(opened, "orders", [land(tmp_path / "only-flattened", {**FLATTENED, "id": "c"})])
        for _ in range(2):
            result = replay_quarantine(opened, "orders")
            assert (result.replayed, result.still_quarantined, result.new) == (0, 1, 0)
    with lake(tmp_path / "lake", "orders", ["id"]) as opened:
        replay_quarantine(opened, "orders")
        apply_objects(opened, "orders", [uri])
        assert dumped(opened) == sorted_items([item("a", v=1), item("b", v=2), item("c", v=1)])
        assert count_rows(opened, "orders_quarantine") == 0


def test_record_without_the_tables_key_stays_as_it_is_however_often_it_is_replayed(tmp_path: Path) -> None:
    record = change(T0_US, item("a"))
    record["dynamodb"]["Keys"] = record["dynamodb"]["NewImage"] = {"other": {"S": "a"}}
    uri = land(tmp_path / "object", record, "\n", change(T0_US, item("b")))
    with lake(tmp_path / "lake", "orders", ["id"]) as opened:
        apply_objects(opened, "orders", [uri])
        before = show_quarantine(opened, "orders")
        assert [json.loads(entry.raw) for entry in before] == [record]
        for _ in range(2):
            result = replay_quarantine(opened, "orders")
            assert (result.replayed, result.still_quarantined, result.new) == (0, 1, 0)
            assert show_quarantine(opened, "orders") == before
        assert count_rows(opened, "orders_changes") == 1


def test_garbage_stays_and_what_is_mended_leaves(tmp_path: Path) -> None:
    uri = land(tmp_path / "object", "no record\n", FLATTENED, "\n{broken\n")
    with lake(tmp_path / "lake", "orders", []) as opened:
        apply_objects(opened, "orders", [uri])
        assert sum(group.count for group in list_quarantine(opened, "orders")) == 3
    with lake(tmp_path / "lake", "orders", ["id"]) as opened:
        result = replay_quarantine(opened, "orders")
        assert (result.replayed, result.still_quarantined, result.new) == (1, 2, 1)
        assert sorted(entry.raw for entry in show_quarantine(opened, "orders")) == [b"no record", b"{broken"]
        assert_readers_agree(opened, "orders")


def test_record_of_another_configured_table_is_replayed_into_that_table(tmp_path: Path) -> None:
    from ddb_lake.config import parse_settings
    from ddb_lake.stages.lake import open_lake

    record = change(T0_US, item("a", v=1), table="items")
    record["dynamodb"]["ApproximateCreationDateTimePrecision"] = "FORTNIGHT"
    settings = parse_settings(
        {
            "warehouse": str(tmp_path / "lake"),
            "tables": [{"name": "orders", "key": ["id"]}, {"name": "items", "key": ["id"]}],
        },
        "test",
    )
    with open_lake(settings) as opened:
        apply_objects(opened, "orders", [land(tmp_path / "object", record)])
        assert count_rows(opened, "orders_quarantine") == 1
        result = replay_quarantine(opened, "orders")
        assert (result.replayed, result.still_quarantined) == (0, 1)


def test_empty_quarantine_is_empty(tmp_path: Path) -> None:
    with lake(tmp_path / "lake", "orders", ["id"]) as opened:
        assert list_quarantine(opened, "orders") == []
        assert show_quarantine(opened, "orders") == []
        assert replay_quarantine(opened, "orders").replayed == 0
