"""Compaction: when it is due, what it rewrites and what it leaves, and that contents never change."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from unittest import mock

import pytest
from pyiceberg.partitioning import PartitionField, PartitionSpec
from pyiceberg.schema import Schema
from pyiceberg.transforms import HourTransform

from ddb_lake.core.values.change_record import Item
from ddb_lake.errors import DamagedError
from ddb_lake.lake import compaction_policy, file_writer
from ddb_lake.lake.compaction_policy import compaction_reason
from ddb_lake.lake.scan import column_bounds, live_files, named_data_file
from ddb_lake.pipeline.apply.apply import apply_objects
from ddb_lake.pipeline.load.load import load_export
from ddb_lake.pipeline.maintain.compact import compact_table
from ddb_lake.pipeline.open_lake import Lake
from ddb_lake_tests.support.export_files import HOUR_US, MINUTE_US, T0_US, change, full, item, land, sorted_items
from ddb_lake_tests.support.iceberg_readers import assert_readers_agree
from ddb_lake_tests.support.iceberg_table import roll_back
from ddb_lake_tests.support.killed_steps import cleaning_at_once
from ddb_lake_tests.support.several_tables import dumped, lake_of, queried

pytestmark = pytest.mark.usefixtures("no_source")


@pytest.fixture
def lake(tmp_path: Path) -> Iterator[Lake]:
    with lake_of(tmp_path / "lake", {"name": "orders"}) as opened:
        yield opened


def why_compact(lake: Lake) -> str | None:
    return compaction_reason(lake.current("orders"), lake.changes("orders"))


def load(lake: Lake, items: list[Item]) -> None:
    load_export(lake, "orders", str(full(items).write(Path(lake.catalog.warehouse).parent / "export")))


def apply(lake: Lake, number: int, *records: Item, hour: int = 9, day: int = 1) -> None:
    name = f"2026/03/{day:02d}/{hour:02d}/{number}"
    apply_objects(lake, "orders", [land(Path(lake.catalog.warehouse).parent / "landing" / name, *records)])


def put(key: str, v: int, at_us: int = T0_US + MINUTE_US) -> Item:
    return change(at_us + v, item(key, v=v))


ITEMS = [item(f"key {number:02d}", v=0) for number in range(40)]


def test_nothing_is_due_without_tables_or_changes(lake: Lake) -> None:
    assert why_compact(lake) is None
    result = compact_table(lake, "orders", force=True)
    assert (result.skipped, result.files_before, result.files_after) == (False, 0, 0)
    load(lake, ITEMS)
    assert why_compact(lake) is None
    result = compact_table(lake, "orders")
    assert (result.skipped, result.reason) == (True, "within the policy")


@pytest.mark.parametrize(
    ("bound", "value", "reason"),
    (
        ("MAX_SMALL_FILES", 2, "3 small files"),
        ("MAX_DELETE_FILES", 1, "2 delete files of a data file"),
        ("MAX_DELETED_SHARE", 0.01, "5% of the rows are deleted"),
        ("MAX_FILES_OF_LATEST_HOUR", 1, "2 small files in days or hours of the changelog"),
    ),
)
def test_compaction_is_due_for_each_reason_and_settles_it(
    lake: Lake, monkeypatch: pytest.MonkeyPatch, bound: str, value: float, reason: str
) -> None:
    load(lake, ITEMS)
    apply(lake, 1, put("key 00", 1))
    apply(lake, 2, put("key 01", 2))
    assert why_compact(lake) is None
    monkeypatch.setattr(compaction_policy, bound, value)
    assert why_compact(lake) == reason
    before = dumped(lake)
    result = compact_table(lake, "orders")
    assert (result.skipped, result.reason) == (False, reason)
    assert why_compact(lake) is None
    assert dumped(lake) == before
    assert_readers_agree(lake, "orders")


@pytest.mark.parametrize("most_bytes", (1, 4000))
def test_slices_settle_what_a_whole_compaction_settles(
    lake: Lake, monkeypatch: pytest.MonkeyPatch, most_bytes: int
) -> None:
    load(lake, ITEMS)
    for number in range(6):
        apply(lake, number, *(put(f"key {key:02d}", number) for key in range(number)), hour=9 + number // 3)
    for bound in ("MAX_SMALL_FILES", "MAX_DELETE_FILES", "MAX_FILES_PER_HOUR", "MAX_FILES_OF_LATEST_HOUR"):
        monkeypatch.setattr(compaction_policy, bound, 1)
    before, records, slices = dumped(lake), sum(sizes(lake)), 0
    while not compact_table(lake, "orders", most_bytes=most_bytes).skipped:
        assert (dumped(lake), sum(sizes(lake))) == (before, records)
        slices += 1
        assert slices < 20
    assert why_compact(lake) is None
    assert_readers_agree(lake, "orders")
    assert slices > 1


def test_only_files_worth_it_are_rewritten_and_the_deletes_of_others_stay(
    lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compaction_policy, "SMALL_FILE_BYTES", 0)
    load(lake, ITEMS)
    apply(lake, 1, *(put(f"new {number:02d}", 1) for number in range(24)))
    apply(lake, 2, put("key 00", 2), *(put(f"new {number:02d}", 2) for number in range(22)))
    table = lake.current("orders")
    assert table is not None
    before, expected = live_files(table), dumped(lake)
    base = max(before.data, key=lambda file: file.record_count)
    result = compact_table(lake, "orders")
    assert result.retired_rows == 22
    table = lake.current("orders")
    assert table is not None
    after = live_files(table)
    assert base.file_path in after.paths, "one of forty rows is retired: it is not worth it"
    assert len(set(after.paths) & set(before.paths)) == 2
    assert (after.rows, after.deleted_rows, len(after.deletes)) == (64, 1, 1)
    assert dumped(lake) == expected
    assert_readers_agree(lake, "orders")
    apply(lake, 3, put("key 00", 3), put("new 00", 3), change(T0_US + HOUR_US, None, item("new 19")))
    assert len(dumped(lake)) == 63
    assert_readers_agree(lake, "orders")


def test_what_outgrew_small_files_is_not_rewritten_with_the_next(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compaction_policy, "MAX_SMALL_FILES", 2)
    monkeypatch.setattr(compaction_policy, "MAX_DELETED_SHARE", 1)
    load(lake, [item(f"key {number:04d}", text=f"{number * number}" * 20) for number in range(1000)])
    (base,) = paths(lake)
    for number in range(3):
        apply(lake, number, put(f"new {number}", number))
    assert why_compact(lake) == "3 small files"
    assert compact_table(lake, "orders").files_after == 2
    assert base in paths(lake)


def test_delete_files_alone_are_rewritten_alone(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compaction_policy, "MAX_DELETE_FILES", 1)
    load(lake, ITEMS)
    for number in range(2):
        apply(lake, number, put(f"key {number:02d}", number))
    before, expected = paths(lake), dumped(lake)
    assert compact_table(lake, "orders").retired_rows == 0
    assert paths(lake) == before
    assert why_compact(lake) is None
    assert dumped(lake) == expected
    assert_readers_agree(lake, "orders")


def test_merge_and_compaction_write_delete_files_of_one_data_file(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    """So that a reader of one of them reads no positions of another. Data files with few positions share a delete file."""
    monkeypatch.setattr(file_writer, "OWN_DELETE_FILE_ROWS", 3)
    monkeypatch.setattr(compaction_policy, "MAX_DELETED_SHARE", 1)
    load(lake, ITEMS)
    for number, prefix in enumerate(("first", "second", "third")):
        apply(lake, number, *(put(f"{prefix} {key:02d}", 1) for key in range(20)))
    changed = [("key", 4), ("first", 3), ("second", 1), ("third", 2)]
    apply(lake, 4, *(put(f"{prefix} {key:02d}", 2) for prefix, keys in changed for key in range(keys)))
    expected = dumped(lake)
    for _ in ("merge", "compaction"):
        table = lake.current("orders")
        assert table is not None
        deletes = live_files(table).deletes
        assert sorted((named_data_file(file) is not None, file.record_count) for file in deletes) == [
            (False, 3),
            (True, 3),
            (True, 4),
        ]
        assert_readers_agree(lake, "orders")
        monkeypatch.setattr(compaction_policy, "MAX_DELETE_FILES", 0)
        compact_table(lake, "orders")
        assert dumped(lake) == expected


def sizes(lake: Lake) -> list[int]:
    """How many records each file of the changelog has."""
    changes = lake.changes("orders")
    assert changes is not None
    return sorted(file.record_count for file in live_files(changes).data)


def paths(lake: Lake) -> set[str]:
    table = lake.current("orders")
    assert table is not None
    return set(live_files(table).paths)


def test_table_whose_rows_are_all_deleted_becomes_empty(lake: Lake) -> None:
    load(lake, ITEMS[:2])
    apply(lake, 1, *(change(T0_US + MINUTE_US, None, one) for one in ITEMS[:2]))
    result = compact_table(lake, "orders", force=True)
    assert (result.files_after, result.bytes_after, result.retired_rows) == (0, 0, 2)
    assert dumped(lake) == []
    apply(lake, 2, put("key 00", 1), change(T0_US, item("key 01", v=9)))
    assert dumped(lake) == sorted_items([item("key 00", v=1)]), "the removal of the other still counts"
    compact_table(lake, "orders", force=True)
    assert dumped(lake, as_of_us=T0_US) == sorted_items(ITEMS[:2])


def test_changelog_is_compacted_within_its_hours(lake: Lake) -> None:
    for number in range(6):
        apply(lake, number, put("a", number), hour=9 + number % 2)
    everything = "SELECT * FROM orders_changes ORDER BY record_id"
    before = queried(lake, everything)
    with mock.patch.object(compaction_policy, "MAX_FILES_PER_HOUR", 1):
        compact_table(lake, "orders")
        assert sizes(lake) == [1, 1, 1, 3], "more may come in the latest hour"
        with mock.patch.object(compaction_policy, "MAX_FILES_OF_LATEST_HOUR", 1):
            compact_table(lake, "orders")
    assert sizes(lake) == [3, 3]
    changes = lake.changes("orders")
    assert changes is not None
    files = live_files(changes).data
    for file in files:
        low, high = column_bounds(file, changes.schema(), "arrival_hour") or (0, 1)
        assert low == high, "a file spans two partitions"
    assert queried(lake, everything) == before
    apply(lake, 9, put("a", 3), put("a", 9))
    assert dumped(lake) == sorted_items([item("a", v=9)])
    assert_readers_agree(lake, "orders")


def test_past_days_of_the_changelog_become_one_file_each(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compaction_policy, "MAX_FILES_PER_DAY", 1)
    for number in range(6):
        apply(lake, number, put("a", number), hour=9 + number % 3)
    compact_table(lake, "orders")
    assert sizes(lake) == [1] * 6, "more may come in the latest day"
    apply(lake, 6, put("a", 6), day=2)
    everything = "SELECT * FROM orders_changes ORDER BY record_id"
    before = queried(lake, everything)
    compact_table(lake, "orders")
    assert sizes(lake) == [1, 6]
    assert queried(lake, everything) == before
    apply(lake, 7, put("a", 7), put("b", 1, T0_US - HOUR_US), day=1, hour=10)
    compact_table(lake, "orders")
    assert sizes(lake) == [1, 8], "the records of a late object join their day"
    apply(lake, 8, put("c", 1), change(T0_US + HOUR_US, None, item("b")), day=3)
    assert dumped(lake) == sorted_items([item("a", v=7), item("c", v=1)])
    assert_readers_agree(lake, "orders")


def test_changelog_in_hourly_partitions_gets_days(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    """As releases before this one made it. Its files stay in their partitions until they are merged."""
    monkeypatch.setattr("ddb_lake.pipeline.apply.changelog.changes_partitioning", hourly)
    for number in range(4):
        apply(lake, number, put("a", number), hour=9 + number)
    apply(lake, 4, put("a", 4), day=2)
    monkeypatch.undo()
    monkeypatch.setattr(compaction_policy, "MAX_FILES_PER_DAY", 1)
    before = queried(lake, "SELECT * FROM orders_changes ORDER BY record_id")
    compact_table(lake, "orders")
    changes = lake.changes("orders")
    assert changes is not None
    assert sorted((file.spec_id, file.record_count) for file in live_files(changes).data) == [(0, 1), (1, 4)]
    assert [field.name for field in changes.spec().fields] == ["arrival_hour_day"]
    assert queried(lake, "SELECT * FROM orders_changes ORDER BY record_id") == before
    apply(lake, 5, put("a", 5), day=2, hour=11)
    apply(lake, 6, put("b", 6), day=3)
    compact_table(lake, "orders")
    changes = lake.changes("orders")
    assert changes is not None
    assert sorted((file.spec_id, file.record_count) for file in live_files(changes).data) == [(1, 1), (1, 2), (1, 4)]
    assert len(changes.specs()) == 2
    assert dumped(lake) == sorted_items([item("a", v=5), item("b", v=6)])
    assert_readers_agree(lake, "orders")


def hourly(schema: Schema) -> PartitionSpec:
    source = schema.find_field("arrival_hour").field_id
    return PartitionSpec(PartitionField(source, 1000, HourTransform(), "arrival_hour_hour"))


def test_compaction_again_changes_no_content_and_no_column(lake: Lake) -> None:
    load(lake, [item("a", v=1, t={"S": "x"}), item("b", v={"N": "0.5"}, t={"NULL": True}, m={"M": {}})])
    apply(lake, 1, change(T0_US + MINUTE_US, item("c", v={"S": "text"}, m={"M": {"x": {"N": "1"}}})))
    columns = "SELECT column_name, column_type FROM (DESCRIBE orders)"
    compact_table(lake, "orders", force=True)
    first, expected = queried(lake, columns), dumped(lake)
    result = compact_table(lake, "orders", force=True)
    assert result.retyped == ()
    assert queried(lake, columns) == first
    assert dumped(lake) == expected


@pytest.mark.parametrize("suffix", ["", "_changes"])
@pytest.mark.parametrize("rewrites", [True, False])
def test_table_that_was_rolled_back_is_refused_and_keeps_its_snapshots(
    lake: Lake, monkeypatch: pytest.MonkeyPatch, suffix: str, rewrites: bool
) -> None:
    """Without its newest snapshots it could not be moved to them again. All old snapshots and orphans are due."""
    if not rewrites:
        monkeypatch.setattr("ddb_lake.pipeline.maintain.compact.compaction_reason", lambda *_: None)
    for number in range(4):
        apply(lake, number, put("a", number))
    expected, name = dumped(lake), "orders" + suffix
    table = lake.catalog.table(name)
    assert table is not None
    newest = table.current_snapshot()
    assert newest is not None
    roll_back(table, 2)
    with cleaning_at_once(), pytest.raises(DamagedError, match="rolled it back"):
        compact_table(lake, "orders")
    table = lake.catalog.table(name)
    assert table is not None
    with table.manage_snapshots() as manage:
        manage.set_current_snapshot(snapshot_id=newest.snapshot_id)
    assert dumped(lake) == expected
    assert_readers_agree(lake, "orders")
