"""Each trap of DuckDB and pyiceberg that was measured, sprung on purpose: nothing rounds, vanishes or is made up."""

from __future__ import annotations

import gzip
import json
import re
from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from pyiceberg.exceptions import CommitFailedException
from pyiceberg.manifest import ManifestContent

from ddb_lake.core.values.change_record import Item
from ddb_lake.errors import CommitConflict, ExportError
from ddb_lake.lake.commit import Commit, Delta
from ddb_lake.lake.file_writer import FileWriter
from ddb_lake.lake.scan import live_files
from ddb_lake.pipeline.apply.apply import apply_objects
from ddb_lake.pipeline.load.load import load_export
from ddb_lake.pipeline.maintain.compact import compact_table
from ddb_lake.pipeline.open_lake import Lake
from ddb_lake.pipeline.read.quarantine import show_quarantine
from ddb_lake_tests.support.export_files import (
    HOUR_US,
    MINUTE_US,
    T0_US,
    change,
    full,
    item,
    land,
    sorted_items,
    text_of,
)
from ddb_lake_tests.support.folder_lake import lake
from ddb_lake_tests.support.iceberg_readers import assert_readers_agree, count_rows
from ddb_lake_tests.support.several_tables import dumped, queried


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[Lake]:
    with lake(tmp_path / "lake", "orders", ["id"]) as opened:
        yield opened


def load(opened: Lake, items: list[Item], hours: int = 0) -> None:
    export = full(items, at_us=T0_US + hours * HOUR_US)
    load_export(opened, "orders", str(export.write(Path(opened.catalog.warehouse).parent / f"export-{hours}")))


def apply(opened: Lake, *pieces: Any, name: str = "object", pack: Callable[[bytes], bytes] = bytes) -> Any:
    landed = land(Path(opened.catalog.warehouse).parent / "landing" / name, *pieces, pack=pack)
    return apply_objects(opened, "orders", [landed])


def applied(items: list[Item], at_us: int = T0_US + MINUTE_US) -> list[Item]:
    return [change(at_us, one) for one in items]


# --- TRY_CAST rounds silently

BESIDE: dict[str, list[str]] = {
    "long": ["1", "-7", "9223372036854775807"],
    "decimal(38,2)": ["1.25", "3", "-0.5"],
    "decimal(38,30)": ["0.000000000000000000000000000001", "12345678"],
}
ROUNDED = ("1.5", "1.005", "0.00499", "1E-130", "-1E-130", "9.9E+125", "9223372036854775808", "0.1234567890123456789")


@pytest.mark.parametrize("column", BESIDE)
def test_number_that_a_column_would_round_stays_exact(opened: Lake, column: str) -> None:
    held = [item(f"held {number}", n={"N": text}) for number, text in enumerate(BESIDE[column])]
    rounded = [item(f"odd {number}", n={"N": text}) for number, text in enumerate(ROUNDED)]
    load(opened, held)
    assert f"n {column}".upper() == "N " + queried(opened, "SELECT upper(typeof(n)) FROM orders LIMIT 1")[0][0].replace(
        "BIGINT", "LONG"
    )
    apply(opened, *applied(rounded))
    assert dumped(opened) == sorted_items(held + rounded)
    wrong = "SELECT count(*) FROM orders WHERE id LIKE 'odd%' AND n IS NOT NULL AND _rescued IS NOT NULL"
    assert queried(opened, wrong) == [(0,)], "a column holds another value than the item"
    compact_table(opened, "orders", force=True)
    assert dumped(opened) == sorted_items(held + rounded)
    load(opened, held + rounded, hours=1)
    assert dumped(opened) == sorted_items(held + rounded)
    assert_readers_agree(opened, "orders")


def test_set_of_numbers_that_a_column_would_round_stays_exact(opened: Lake) -> None:
    held = [item("a", n={"NS": ["1", "2"]}), item("b", n={"NS": ["3"]})]
    rounded = [item("c", n={"NS": ["1", "1.5"]}), item("d", n={"NS": ["1E-130", "9.9E+125"]})]
    load(opened, held)
    apply(opened, *applied(rounded))
    assert dumped(opened) == sorted_items(held + rounded)
    compact_table(opened, "orders", force=True)
    assert dumped(opened) == sorted_items(held + rounded)


def test_key_that_a_column_would_round_is_its_own_key(tmp_path: Path) -> None:
    def keyed(number: str, v: int) -> Item:
        return {"id": {"N": number}, "v": {"N": str(v)}}

    first = [keyed("1", 1), keyed("2", 1)]
    second = [keyed("1.5", 2), keyed("2.00000000000000000000000000000000001", 2), keyed("1E-130", 2), keyed("2", 2)]
    with lake(tmp_path / "lake", "orders", ["id"]) as opened:
        load(opened, first)
        apply(opened, *applied(second))
        third = [change(T0_US + HOUR_US, keyed("1.5", 3)), change(T0_US + HOUR_US, None, keyed("1E-130", 2))]
        apply(opened, *third, name="third")
        expected = [first[0], second[1], second[3], keyed("1.5", 3)]
        assert dumped(opened) == sorted_items(expected)
        compact_table(opened, "orders", force=True)
        apply(opened, change(T0_US + 2 * HOUR_US, keyed("1.5", 4)), name="fourth")
        assert dumped(opened) == sorted_items([*expected[:3], keyed("1.5", 4)])


# --- DuckDB accepts a gzip that is cut at the end of a record, and checks no CRC


def without_end(text: bytes) -> bytes:
    """Half of the lines, compressed, without gzip's end."""
    lines = text.splitlines(keepends=True)
    if len(lines) == 1:
        return gzip.compress(text)
    return gzip.compress(b"".join(lines[: len(lines) // 2]))[:-8]


def test_export_file_cut_at_the_end_of_a_line_is_refused_by_name_though_its_md5_is_right(opened: Lake) -> None:
    export = full([item(f"key {number}") for number in range(3_000)], [item("z")], pack=without_end)
    manifest = export.write(Path(opened.catalog.warehouse).parent / "export")
    with pytest.raises(ExportError, match=re.escape(export.data_key(0))):
        load_export(opened, "orders", str(manifest))
    assert opened.current("orders") is None


def test_landed_object_cut_short_gives_what_can_be_saved_and_one_entry_of_quarantine(opened: Lake) -> None:
    records = [change(T0_US + number, item(f"key {number}", v=number)) for number in range(50)]
    text = text_of(*(piece for record in records for piece in (record, "\n")))
    whole = gzip.compress(text)
    result = apply(opened, whole[: len(whole) * 3 // 4])
    assert 0 < result.new < 50
    entries = show_quarantine(opened, "orders", 10)
    assert [entry.reason for entry in entries if "truncated" in entry.reason] != []
    assert result.quarantined == len(entries) <= 2, "the object, and at most the record that broke off"
    assert len(dumped(opened)) == result.new
    apply(opened, whole, name="the object, delivered again")
    assert dumped(opened) == sorted_items(record["dynamodb"]["NewImage"] for record in records)
    assert count_rows(opened, "orders_changes") == 50


def test_landed_object_cut_at_the_end_of_a_record_is_known_to_be_cut(opened: Lake) -> None:
    records = [change(T0_US + number, item(f"key {number}")) for number in range(4)]
    result = apply(opened, gzip.compress(text_of(*records))[:-8])
    assert (result.new, result.quarantined) == (4, 1)


# --- a malformed tail fails a whole read


@pytest.mark.parametrize("separator", ("", "\n"))
@pytest.mark.parametrize("at", (0, 1, 3))
def test_bad_piece_in_a_landed_object_costs_no_record(opened: Lake, separator: str, at: int) -> None:
    records: list[Any] = [change(T0_US + number, item(f"key {number}")) for number in range(3)]
    pieces = [piece for record in records for piece in (record, separator)]
    cut = json.dumps(change(T0_US, item("cut")))[:-20]
    pieces.insert(2 * at, f"\n{cut}\n")
    result = apply(opened, *pieces)
    assert (result.new, result.quarantined) == (3, 1)
    assert dumped(opened) == sorted_items(record["dynamodb"]["NewImage"] for record in records)
    (entry,) = show_quarantine(opened, "orders")
    assert entry.raw == cut.encode()


# --- decimal scale


def test_column_whose_scale_grows_keeps_every_value(opened: Lake) -> None:
    two = [item(f"two {number}", n={"N": f"{number}.25"}) for number in range(3)]
    nine = [item("nine", n={"N": "0.123456789"}), item("large", n={"N": "12345678901234567890123456789"})]
    load(opened, two)
    before = opened.current("orders").schema().find_field("n")  # type: ignore[union-attr]
    apply(opened, *applied(nine))
    assert dumped(opened) == sorted_items(two + nine)
    assert compact_table(opened, "orders", force=True).retyped == ("n",)
    after = opened.current("orders").schema().find_field("n")  # type: ignore[union-attr]
    assert (str(before.field_type), str(after.field_type)) == ("decimal(38, 2)", "decimal(38, 9)")
    assert before.field_id != after.field_id, "the same id would reinterpret the digits of old files"
    values = dict(queried(opened, "SELECT id, n FROM orders"))
    assert values["two 1"] == Decimal("1.25")
    assert values["nine"] == Decimal("0.123456789")
    assert dumped(opened) == sorted_items(two + nine)
    assert dumped(opened, as_of_us=T0_US) == sorted_items(two)
    load(opened, two + nine, hours=1)
    assert dumped(opened) == sorted_items(two + nine)
    assert dumped(opened, as_of_us=T0_US) == sorted_items(two)
    assert_readers_agree(opened, "orders")


def test_column_whose_scale_shrinks_with_a_new_snapshot_keeps_every_value(opened: Lake) -> None:
    nine, two = [item("a", n={"N": "0.123456789"})], [item("a", n={"N": "1.25"}), item("b", n={"N": "7"})]
    load(opened, nine)
    load(opened, two, hours=1)
    assert dumped(opened) == sorted_items(two)
    assert dumped(opened, as_of_us=T0_US) == sorted_items(nine)
    assert_readers_agree(opened, "orders")


# --- names: ID beside id, renames, fields by id


def test_names_that_differ_by_case_only_keep_their_values(opened: Lake) -> None:
    both = [item("a", ID={"S": "A"}, Id={"N": "1"}), item("b", iD={"S": "B"})]
    load(opened, both)
    assert dumped(opened) == sorted_items(both)
    more = [item("c", ID={"S": "C"}), item("d", Id={"N": "2"}, m={"M": {"K": {"S": "1"}, "k": {"S": "2"}}})]
    apply(opened, *applied(more))
    assert dumped(opened) == sorted_items(both + more)
    compact_table(opened, "orders", force=True)
    assert dumped(opened) == sorted_items(both + more)
    assert_readers_agree(opened, "orders")


def test_column_keeps_its_name_when_another_attribute_wants_it(opened: Lake) -> None:
    """`v` arrives first and has the column `v`; `V` gets a suffix, in old files and in new ones."""
    first = [item("a", v={"N": "1"}), item("b", v={"N": "2"})]
    load(opened, first)
    apply(opened, *applied([item("c", V={"N": "30"}), item("d", v={"N": "4"}, V={"N": "40"})]))
    columns = {name: doc for name, doc in _docs(opened).items() if name.lower().startswith("v")}
    assert sorted(columns.values()) == ["V (N)", "v (N)"]
    (old,) = (name for name, doc in columns.items() if doc == "v (N)")
    (new,) = (name for name, doc in columns.items() if doc == "V (N)")
    assert old == "v"
    assert new.startswith("V_")
    assert queried(opened, f'SELECT id, "{old}", "{new}" FROM orders ORDER BY id') == [
        ("a", 1, None),
        ("b", 2, None),
        ("c", None, 30),
        ("d", 4, 40),
    ]
    everything = [*first, item("c", V={"N": "30"}), item("d", v={"N": "4"}, V={"N": "40"})]
    assert dumped(opened) == sorted_items(everything)
    assert dumped(opened, as_of_us=T0_US) == sorted_items(first)
    assert_readers_agree(opened, "orders")
    compact_table(opened, "orders", force=True)
    assert dumped(opened) == sorted_items(everything)
    assert_readers_agree(opened, "orders")


def _docs(opened: Lake) -> dict[str, str]:
    return {field.name: str(field.doc) for field in opened.current("orders").schema().fields}  # type: ignore[union-attr]


def test_union_by_name_is_never_used() -> None:
    package = Path(load_export.__code__.co_filename).parents[1]
    assert [path for path in package.rglob("*.py") if "union_by_name" in path.read_text(encoding="utf-8")] == []


# --- JSON


def test_name_twice_in_a_record_goes_to_quarantine(opened: Lake) -> None:
    text = json.dumps(change(T0_US, item("a", v=1)))
    twice = text.replace('"v": {"N": "1"}', '"v": {"N": "1"}, "v": {"N": "2"}')
    result = apply(opened, twice, "\n", change(T0_US, item("b")))
    assert (result.new, result.quarantined) == (1, 1)
    assert dumped(opened) == sorted_items([item("b")])


def test_item_of_400_kb_of_control_characters_survives(opened: Lake) -> None:
    text = "".join(chr(code) for code in range(1, 32)) * 13_000
    huge = [item("a", text={"S": text}), item("b", l={"L": [{"S": text[: 1 << 18]}]})]
    load(opened, huge[:1])
    apply(opened, *applied(huge[1:]))
    assert dumped(opened) == sorted_items(huge)
    compact_table(opened, "orders", force=True)
    assert dumped(opened) == sorted_items(huge)


# --- one commit


def test_position_deletes_come_in_the_commit_of_their_data(opened: Lake) -> None:
    load(opened, [item("a", v=1), item("b", v=1), item("c", v=1)])
    before = opened.current("orders").current_snapshot()  # type: ignore[union-attr]
    apply(opened, change(T0_US + 1, item("a", v=2)), change(T0_US + 1, None, item("b")))
    table = opened.current("orders")
    assert table is not None
    assert before is not None
    snapshot = table.current_snapshot()
    assert snapshot is not None
    assert snapshot.parent_snapshot_id == before.snapshot_id
    added = {m.content for m in snapshot.manifests(table.io) if m.added_snapshot_id == snapshot.snapshot_id}
    assert added == {ManifestContent.DATA, ManifestContent.DELETES}
    assert snapshot.summary is not None
    assert snapshot.summary["added-records"] == "1"
    assert snapshot.summary["added-position-deletes"] == "2"
    assert live_files(table).rows == 2
    assert_readers_agree(opened, "orders")


def test_load_over_a_changelog_deletes_rows_of_the_files_it_adds(opened: Lake) -> None:
    apply(opened, change(T0_US + 1, item("a", v=2)), change(T0_US + 1, None, item("b")))
    load(opened, [item("a", v=1), item("b", v=1), item("c", v=1)])
    table = opened.current("orders")
    assert table is not None
    assert live_files(table).deleted_rows == 2
    assert dumped(opened) == sorted_items([item("a", v=2), item("c", v=1)])
    assert_readers_agree(opened, "orders")


@pytest.mark.parametrize("retries", ("0", "4"))
def test_pyiceberg_does_not_commit_a_stale_plan_again(opened: Lake, retries: str) -> None:
    """Even a table whose properties ask for retries: positions are void against another snapshot."""
    load(opened, [item("a", v=1), item("b", v=1)])
    table = opened.current("orders")
    assert table is not None
    with table.transaction() as transaction:
        transaction.set_properties({"commit.retry.num-retries": retries, "commit.retry.min-wait-ms": "1"})
    stale = opened.current("orders")
    assert stale is not None
    with opened.session() as session:
        writer = FileWriter.for_table(session.con, stale)
        (path,) = live_files(stale).paths
        deletes = writer.write_deletes(f"SELECT '{path}' AS file_path, 0 AS pos")
    commit = Commit(stale)
    commit.snapshot(Delta(deletes=deletes))
    apply(opened, change(T0_US + 1, item("a", v=2)))
    with pytest.raises(CommitConflict) as raised:
        commit.run()
    assert isinstance(raised.value.__cause__, CommitFailedException)
    assert dumped(opened) == sorted_items([item("a", v=2), item("b", v=1)])
    assert_readers_agree(opened, "orders")
