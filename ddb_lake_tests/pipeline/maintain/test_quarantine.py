"""Quarantined bytes: why they are there, and how they come back exactly once."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from ddb_lake.lake.schemas import QUARANTINE_COLUMNS
from ddb_lake.pipeline.apply import changelog
from ddb_lake.pipeline.apply.apply import apply_objects
from ddb_lake.pipeline.load.load import load_export
from ddb_lake.pipeline.maintain import quarantine as stage
from ddb_lake.pipeline.maintain.quarantine import replay_quarantine
from ddb_lake.pipeline.read.dump import dump_items
from ddb_lake.pipeline.read.quarantine import list_quarantine, show_quarantine
from ddb_lake_tests.support.export_files import HOUR_US, T0_US, Export, change, full, item, land, sorted_items, text_of
from ddb_lake_tests.support.folder_lake import lake
from ddb_lake_tests.support.iceberg_readers import assert_readers_agree, count_rows
from ddb_lake_tests.support.several_tables import queried

pytestmark = pytest.mark.usefixtures("no_source")

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


def test_replay_without_effect_does_not_keep_a_later_one_from_working(tmp_path: Path) -> None:
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


def test_garbage_stays_and_what_is_corrected_leaves(tmp_path: Path) -> None:
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
    from ddb_lake.executors import open_lake

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


def test_corrected_bytes_replace_those_of_their_entry_exactly_once(tmp_path: Path) -> None:
    good, bad = change(T0_US, item("a", v=1)), change(T0_US + 1, item("b", v=2))
    broken = json.dumps(bad).replace('"eventName": "INSERT"', '"eventName": "UNKNOWN"')
    uri = land(tmp_path / "object", good, "\n", broken, "\n", "no record")
    with lake(tmp_path / "lake", "orders", ["id"]) as opened:
        apply_objects(opened, "orders", [uri])
        first, second = show_quarantine(opened, "orders")
        mended = {first.quarantine_id: json.dumps(bad).encode()}
        result = replay_quarantine(opened, "orders", mended)
        assert (result.replayed, result.still_quarantined, result.new, result.absent) == (1, 0, 1, 0)
        again = replay_quarantine(opened, "orders", mended)
        assert (again.replayed, again.new, again.absent) == (0, 0, 1)
        assert dumped(opened) == sorted_items([item("a", v=1), item("b", v=2)])
        assert show_quarantine(opened, "orders") == [second]


def test_crash_before_the_entry_leaves_does_not_ingest_it_twice_however_it_is_corrected_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    uri = land(tmp_path / "object", "no record")
    with lake(tmp_path / "lake", "orders", ["id"]) as opened:
        apply_objects(opened, "orders", [uri])
        (entry,) = show_quarantine(opened, "orders")
        with monkeypatch.context() as patch:
            patch.setattr(stage, "_remove_entries", lambda *_: sys.exit("the process dies"))
            with pytest.raises(SystemExit):
                replay_quarantine(opened, "orders", {entry.quarantine_id: text_of(change(T0_US, item("a", v=1)))})
        assert show_quarantine(opened, "orders") == [entry]
        result = replay_quarantine(opened, "orders", {entry.quarantine_id: text_of(change(T0_US, item("z", v=9)))})
        assert (result.replayed, result.new) == (1, 0)
        assert dumped(opened) == sorted_items([item("a", v=1)])
        assert show_quarantine(opened, "orders") == []


def test_entry_whose_object_was_corrected_in_place_leaves_and_its_records_are_there_once(tmp_path: Path) -> None:
    good, bad = change(T0_US, item("a", v=1)), change(T0_US + 1, item("b", v=2))
    uri = land(tmp_path / "object", good, "\n{broken\n")
    with lake(tmp_path / "lake", "orders", ["id"]) as opened:
        apply_objects(opened, "orders", [uri])
        land(tmp_path / "object", good, "\n", bad)
        for applied_before in (False, True):
            if applied_before:
                apply_objects(opened, "orders", [uri])
            result = replay_quarantine(opened, "orders")
            assert (result.rewritten, result.still_quarantined) == (0 if applied_before else 1, 0)
        assert dumped(opened) == sorted_items([item("a", v=1), item("b", v=2)])
        assert count_rows(opened, "orders_changes") == 2


def test_entry_stays_when_its_object_was_cut_or_only_touched_or_is_gone(tmp_path: Path) -> None:
    uri = land(tmp_path / "object", change(T0_US, item("a", v=1)), "\n{broken\n", change(T0_US, item("b")))
    with lake(tmp_path / "lake", "orders", ["id"]) as opened:
        apply_objects(opened, "orders", [uri])
        before = show_quarantine(opened, "orders")
        Path(uri).touch()
        assert replay_quarantine(opened, "orders").still_quarantined == 1
        land(tmp_path / "object", change(T0_US, item("c", v=1)))
        assert replay_quarantine(opened, "orders").still_quarantined == 1
        Path(uri).unlink()
        assert replay_quarantine(opened, "orders").still_quarantined == 1
        assert show_quarantine(opened, "orders") == before


def test_line_of_an_incremental_export_is_replayed_as_of_the_end_of_its_window(tmp_path: Path) -> None:
    line = {"Keys": {"id": {"S": "a"}}, "NewImage": item("a", v=2)}
    faulty = {**line, "Metadata": {"WriteTimestampMicros": {"N": "later"}}}
    mended = {**line, "Metadata": {"WriteTimestampMicros": {"N": str(T0_US + 5)}}}
    export = Export([[faulty]], at_us=T0_US + HOUR_US, window=T0_US)
    with lake(tmp_path / "lake", "orders", ["id"]) as opened:
        load_export(opened, "orders", str(full([item("a", v=1)]).write(tmp_path / "full")))
        load_export(opened, "orders", str(export.write(tmp_path / "increment")), reject=True)
        (entry,) = show_quarantine(opened, "orders")
        assert entry.asserted_us == T0_US + HOUR_US
        replay_quarantine(opened, "orders", {entry.quarantine_id: text_of(mended)})
        assert dumped(opened) == sorted_items([item("a", v=2)])
        rows = queried(opened, "SELECT event_name, epoch_us(asserted_at) FROM orders_changes")
        assert rows == [("UPSERT", T0_US + HOUR_US)]


def test_schema_offender_is_replayed_once_the_schema_is_corrected(tmp_path: Path) -> None:
    strict = tmp_path / "schema.json"
    strict.write_text(json.dumps({"type": "object", "properties": {"v": {"type": "string"}}, "required": ["v"]}))
    uri = land(tmp_path / "object", change(T0_US, item("a", v=1)), change(T0_US + 1, item("b", v="text")))
    with lake(tmp_path / "lake", "orders", ["id"], validate={"schema": str(strict)}) as opened:
        apply_objects(opened, "orders", [uri, uri])
        assert [group.count for group in list_quarantine(opened, "orders")] == [1]
        assert replay_quarantine(opened, "orders").still_quarantined == 1
    strict.write_text(json.dumps({"type": "object", "required": ["v"]}))
    with lake(tmp_path / "lake", "orders", ["id"], validate={"schema": str(strict)}) as opened:
        for replayed in (1, 0):
            assert replay_quarantine(opened, "orders").replayed == replayed
        assert dumped(opened) == sorted_items([item("a", v=1), item("b", v="text")])
        assert count_rows(opened, "orders_changes") == 2


def test_quarantine_of_an_earlier_release_gets_the_column_it_lacks(tmp_path: Path) -> None:
    with lake(tmp_path / "lake", "orders", ["id"]) as opened:
        with pytest.MonkeyPatch.context() as patch:
            earlier = {name: column for name, column in QUARANTINE_COLUMNS.items() if name != "asserted_at"}
            patch.setattr(changelog, "QUARANTINE_COLUMNS", earlier)
            apply_objects(opened, "orders", [land(tmp_path / "one", "{one")])
        (entry,) = show_quarantine(opened, "orders")
        assert entry.asserted_us is None
        apply_objects(opened, "orders", [land(tmp_path / "two", "{two")])
        assert len(show_quarantine(opened, "orders")) == 2
        assert_readers_agree(opened, "orders")


def test_records_of_a_longer_key_than_configured_wait_until_it_is_corrected(tmp_path: Path) -> None:
    def put(serial: str) -> dict[str, object]:
        keys = {"tenant": {"S": "t"}, "serial": {"S": serial}}
        body = {"ApproximateCreationDateTime": 1_700_000_000_000, "Keys": keys, "NewImage": keys}
        return {"eventID": serial, "eventName": "INSERT", "tableName": "orders", "dynamodb": body}

    uri = land(tmp_path / "object", put("1"), "\n", put("2"))
    with lake(tmp_path / "lake", "orders", ["tenant"]) as opened:
        apply_objects(opened, "orders", [uri])
        (group,) = list_quarantine(opened, "orders")
        assert group.count == 2
        assert "the record's key is serial, tenant, that of the table tenant" in group.reason
        assert dumped(opened) == []
    with lake(tmp_path / "lake", "orders", ["tenant", "serial"]) as opened:
        assert replay_quarantine(opened, "orders").new == 2
        assert len(dumped(opened)) == 2
        assert_readers_agree(opened, "orders")
