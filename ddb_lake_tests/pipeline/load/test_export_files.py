"""Exports that are incomplete, damaged, moved, old or not ours: what is refused, what it says, and what is left."""

from __future__ import annotations

import gzip
import json
import shutil
import tracemalloc
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from ddb_lake.core.layout.table_names import ICEBERG_SUFFIXES
from ddb_lake.errors import CheckFailed, ConfigError, ExportError, UsageError
from ddb_lake.pipeline.apply.apply import apply_objects
from ddb_lake.pipeline.load.load import LoadResult, load_export
from ddb_lake.pipeline.open_lake import Lake
from ddb_lake.pipeline.read.quarantine import show_quarantine
from ddb_lake.pipeline.read.status import table_status
from ddb_lake_tests.support.effort import cases
from ddb_lake_tests.support.export_files import (
    HOUR_US,
    MINUTE_US,
    T0_US,
    Export,
    change,
    full,
    increment,
    item,
    land,
    md5,
    sorted_items,
)
from ddb_lake_tests.support.fault_marks import fault
from ddb_lake_tests.support.folder_lake import lake
from ddb_lake_tests.support.iceberg_readers import assert_readers_agree, count_rows
from ddb_lake_tests.support.lake_contents import stray_files
from ddb_lake_tests.support.several_tables import dumped

ITEMS = [[item("a", v=1), item("b", v=2)], [item("c", v=3)], []]


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[Lake]:
    with lake(tmp_path / "lake", "orders", ["id"]) as opened:
        yield opened


def load(opened: Lake, export: Export | Path) -> LoadResult:
    folder = Path(opened.catalog.warehouse).parent / "exports"
    return load_export(opened, "orders", str(export if isinstance(export, Path) else export.write(folder)))


def assert_nothing_committed(opened: Lake) -> None:
    for suffix in ICEBERG_SUFFIXES:
        table = opened.catalog.table(f"orders{suffix}")
        assert table is None or table.current_snapshot() is None
    assert stray_files(opened, ["orders"]) == set()
    assert dumped(opened) == []


# --- damage


def without_data_file(folder: Path, export: Export) -> str:
    (folder / export.data_key(1)).unlink()
    return export.data_key(1)


def with_another_data_file(folder: Path, export: Export) -> str:
    (folder / export.data_key(1)).write_bytes(gzip.compress(b'{"Item":{"id":{"S":"z"}}}\n'))
    return export.data_key(1)


def without_manifest_files(folder: Path, export: Export) -> str:
    (folder / export.folder / "manifest-files.json").unlink()
    return f"{export.folder}/manifest-files.json"


def with_another_manifest_files(folder: Path, export: Export) -> str:
    path = folder / export.folder / "manifest-files.json"
    path.write_bytes(path.read_bytes().replace(b'"itemCount": 1', b'"itemCount": 2'))
    return f"{export.folder}/manifest-files.json"


def with_another_summary(folder: Path, export: Export) -> str:
    path = folder / export.folder / "manifest-summary.json"
    path.write_bytes(path.read_bytes().replace(b'"itemCount": 3', b'"itemCount": 4'))
    return f"{export.folder}/manifest-summary.json"


def with_a_summary_cut_short(folder: Path, export: Export) -> str:
    path = folder / export.folder / "manifest-summary.json"
    path.write_bytes(path.read_bytes()[:-40])
    (folder / export.folder / "manifest-summary.md5").unlink()
    return export.folder


DAMAGES = (
    without_data_file,
    with_another_data_file,
    without_manifest_files,
    with_another_manifest_files,
    with_another_summary,
    with_a_summary_cut_short,
)


@fault("an export is incomplete or damaged", "load", "increment", ending="refused")
@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("kind", ("full", "incremental"))
def test_damaged_export_is_refused_by_name_and_leaves_nothing(
    opened: Lake, tmp_path: Path, damage: Callable[[Path, Export], str], kind: str
) -> None:
    export = full(*ITEMS)
    if kind == "incremental":
        lines = [
            [{"Metadata": {"WriteTimestampMicros": {"N": str(T0_US)}}, "Keys": one, "NewImage": one} for one in file]
            for file in ITEMS
        ]
        lines = [[{**line, "Keys": {"id": line["Keys"]["id"]}} for line in file] for file in lines]
        export = Export(lines, at_us=T0_US + HOUR_US, window=T0_US)
    manifest = export.write(tmp_path / "exports")
    named = damage(tmp_path / "exports", export)
    with pytest.raises(ExportError) as raised:
        load(opened, manifest)
    assert named in str(raised.value)
    assert_nothing_committed(opened)


FAULTS = {
    "a data file has fewer lines than the manifest says": (full(*ITEMS, counts={0: 3}), 0),
    "a data file has more lines than the manifest says": (full(*ITEMS, counts={1: 0}), 1),
    "an empty data file should have a line": (full(*ITEMS, counts={2: 1}), 2),
    "the MD5 is another": (full(*ITEMS, digests={1: md5(b"")}), 1),
    "the total is another": (full(*ITEMS, total=4), None),
    "a data file is cut at the end of a line": (full(*ITEMS, pack=lambda text: cut_gzip(text, at_line_end=True)), 0),
    "a data file is cut within a line": (full(*ITEMS, pack=lambda text: cut_gzip(text, at_line_end=False)), 0),
    "a data file has a bad checksum": (full(*ITEMS, pack=lambda text: gzip.compress(text)[:-8] + bytes(8)), 0),
    "a line is no JSON": (Export([['{"Item":{"id":{"S":"a"}}}', "{oops"]]), 0),
    "a line is cut short": (Export([['{"Item":{"id":{"S":"a"}}}', '{"Item":{"id":{"S":"b"']]), 0),
    "a value has two types": (Export([['{"Item":{"id":{"S":"a"},"v":{"N":"1","S":"x"}}}']]), 0),
    "its format is unknown": (Export([['{"Item":{"id":{"S":"a"}}}']], summary={"outputFormat": "CSV"}), None),
    "a line in Ion has a float": (Export([["$ion_1_0 {Item:{id:\"a\",v:1e0}}"]], summary={"outputFormat": "ION"}), 0),
    "a line in Ion is cut short": (Export([["$ion_1_0 {Item:{id:\"a\""]], summary={"outputFormat": "ION"}), 0),
    "it says DynamoDB JSON and is ION": (Export([["$ion_1_0 {Item:{id:\"a\"}}"]]), 0),
}  # fmt: skip


def cut_gzip(text: bytes, at_line_end: bool) -> bytes:
    """A gzip file whose content ends after the first line, or in the middle of it, and which has no end itself."""
    length = text.find(b"\n") + 1 if at_line_end else len(text) // 3
    return gzip.compress(text[:length])[:-8] if text else gzip.compress(text)


@pytest.mark.parametrize("fault", FAULTS)
def test_faulty_export_is_refused_and_leaves_nothing(opened: Lake, fault: str) -> None:
    export, number = FAULTS[fault]
    with pytest.raises((ExportError, CheckFailed)) as raised:
        load(opened, export)
    assert (export.folder if number is None else export.data_key(number)) in str(raised.value)
    assert_nothing_committed(opened)
    folder = Path(opened.catalog.warehouse).parent
    shutil.rmtree(folder / "exports")
    load(opened, full(*ITEMS))
    assert len(dumped(opened)) == 3


def test_wrong_line_count_of_an_increment_names_the_file(opened: Lake) -> None:
    write = (T0_US, item("a", v=1), item("a"))
    export = increment(write, at_us=T0_US + HOUR_US, window=T0_US, counts={0: 2})
    with pytest.raises(ExportError, match="expected 2, found 1") as raised:
        load(opened, export)
    assert export.data_key(0) in str(raised.value)
    assert_nothing_committed(opened)


# --- the wrong key, or no key


def test_item_twice_is_refused(opened: Lake) -> None:
    with pytest.raises(CheckFailed, match="1 key occurs more than once"):
        load(opened, full([item("a", v=1)], [item("b"), item("a", v=2)]))
    assert_nothing_committed(opened)


def test_item_without_the_key_is_refused(opened: Lake) -> None:
    export = Export([['{"Item":{"id":{"S":"a"}}}', *['{"Item":{"v":{"N":"1"}}}'] * 7]])
    with pytest.raises(
        ExportError, match=r"7 lines .* line 2 \(byte 26\): .* at id; .*; and 2 more\. Is `key` right\?"
    ) as raised:
        load(opened, export)
    assert export.data_key(0) in str(raised.value)
    assert_nothing_committed(opened)


def test_items_without_the_key_go_to_quarantine_and_the_others_are_loaded(opened: Lake, tmp_path: Path) -> None:
    lines = ['{"Item":{"v":{"N":"1"}}}', '{"Item":{"id":{"S":"a"}}}', '{"Item":{"id":{"BOOL":true}}}', "{oops"]
    manifest = Export([lines, ['{"Item":{"id":{"S":"b"}}}']]).write(tmp_path / "export")
    result = load_export(opened, "orders", str(manifest), reject=True)
    assert (result.rows, result.quarantined) == (2, 3)
    assert len(dumped(opened)) == 2
    entries = [
        (entry.offset, entry.raw.decode(), entry.reason.endswith(" at id"))
        for entry in show_quarantine(opened, "orders")
    ]
    offsets = [sum(len(line) + 1 for line in lines[:number]) for number in (0, 2, 3)]
    assert entries == [(at, lines[n], n < 3) for at, n in zip(offsets, (0, 2, 3), strict=True)]
    assert stray_files(opened, ["orders"]) == set()


@pytest.mark.parametrize("line", ('{"Other":{"id":{"S":"b"}}}', '{"Keys":{"id":{"S":"a"}}}'))
def test_line_without_an_item_is_refused(opened: Lake, line: str) -> None:
    with pytest.raises(ExportError, match=r"line 2 \(byte 26\): no item"):
        load(opened, Export([['{"Item":{"id":{"S":"a"}}}', line]]))
    assert_nothing_committed(opened)


@pytest.mark.parametrize("key", (["v"], ["nowhere"], ["id", "nowhere"]))
def test_wrong_key_is_refused_and_the_right_one_loads(tmp_path: Path, key: list[str]) -> None:
    manifest = full([item("a", v=1), item("b", v=1)]).write(tmp_path / "export")
    with lake(tmp_path / "lake", "orders", key) as opened:
        with pytest.raises((CheckFailed, ExportError), match=r"(?i)is `key` right\?"):
            load(opened, manifest)
        with pytest.raises(CheckFailed, match=r"is `key` right\?"):
            load_export(opened, "orders", str(manifest), reject=True)
        assert_nothing_committed(opened)
    with lake(tmp_path / "lake", "orders", ["id"]) as opened:
        load(opened, manifest)
        assert len(dumped(opened)) == 2


def test_no_key_is_needed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from ddb_lake.aws.source import SourceTable

    monkeypatch.setattr("ddb_lake.pipeline.table_key.describe_source", lambda table: SourceTable())
    manifest = full(*ITEMS).write(tmp_path / "export")
    with lake(tmp_path / "lake", "orders", []) as opened:
        with pytest.raises(ConfigError, match="add `key:"):
            load(opened, manifest)
        assert_nothing_committed(opened)


# --- where it lies


def test_folder_with_several_exports_asks_for_one(opened: Lake, tmp_path: Path) -> None:
    first = full(*ITEMS).write(tmp_path / "exports")
    second = full(*ITEMS, at_us=T0_US + HOUR_US).write(tmp_path / "exports")
    with pytest.raises(UsageError, match="2 exports below it") as raised:
        load(opened, tmp_path / "exports")
    assert str(first) in str(raised.value)
    assert str(second) in str(raised.value)
    assert load(opened, second.parent).items == 3


def test_missing_data_file_is_named_once(opened: Lake, tmp_path: Path) -> None:
    summary = full(*ITEMS).write(tmp_path / "exports")
    missing = next((summary.parent / "data").iterdir())
    missing.unlink()
    with pytest.raises(ExportError) as raised:
        load(opened, tmp_path / "exports")
    said = f"{missing}: named by the manifest, but not there (No such file or directory); copy the export again"
    assert str(raised.value) == said


def test_folder_without_an_export_is_refused(opened: Lake, tmp_path: Path) -> None:
    full(*ITEMS).write(tmp_path / "exports").unlink()
    for place in ("exports", "nowhere"):
        with pytest.raises(ExportError, match=r"no manifest-summary\.json"):
            load(opened, tmp_path / place)
    with pytest.raises(ExportError, match="not there"):
        load(opened, tmp_path / "exports" / "manifest-summary.json")


@pytest.mark.parametrize("written", (None, "its/first prefix"))
def test_export_copied_to_another_prefix_loads(opened: Lake, tmp_path: Path, written: str | None) -> None:
    full(*ITEMS, prefix=written).write(tmp_path / "copied" / "to another" / "place")
    assert load(opened, tmp_path / "copied").items == 3
    assert len(dumped(opened)) == 3


def test_export_whose_folder_alone_was_copied_loads(opened: Lake, tmp_path: Path) -> None:
    manifest = full(*ITEMS, prefix="some/prefix").write(tmp_path / "exports")
    shutil.copytree(manifest.parent, tmp_path / "mine")
    shutil.rmtree(tmp_path / "exports")
    assert load(opened, tmp_path / "mine").items == 3
    assert len(dumped(opened)) == 3


@fault("a manifest names files outside its folder", "load", ending="refused")
def test_manifest_that_leads_out_of_its_folder_is_refused(opened: Lake, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("not for the lake")
    for key in ("AWSDynamoDB/../../../secret", str(secret), "secret"):
        shutil.rmtree(tmp_path / "exports", ignore_errors=True)
        export = full(*ITEMS)
        manifest = export.write(tmp_path / "exports")
        text = json.dumps({"itemCount": 3, "md5Checksum": md5(secret.read_bytes()), "etag": "", "dataFileS3Key": key})
        manifest.with_name("manifest-files.json").write_text(text)
        manifest.with_name("manifest-files.md5").unlink()
        with pytest.raises(ExportError):
            load(opened, manifest)
    assert_nothing_committed(opened)


def test_export_of_another_table_is_loaded_with_a_note(opened: Lake) -> None:
    result = load(opened, full(*ITEMS, table="orders-of-production"))
    assert result.notes == ("the export is of table orders-of-production, loaded as orders",)
    assert len(dumped(opened)) == 3


# --- nothing in it


def test_empty_export_is_an_empty_table(opened: Lake) -> None:
    result = load(opened, full([], []))
    assert (result.items, result.rows) == (0, 0)
    assert dumped(opened) == []
    assert_readers_agree(opened, "orders")
    with pytest.raises(UsageError, match="has no state of"):
        dumped(opened, as_of_us=T0_US - HOUR_US)
    apply_objects(opened, "orders", [land(Path(opened.catalog.warehouse).parent / "x", change(T0_US + 1, item("a")))])
    assert dumped(opened) == sorted_items([item("a")])
    load(opened, full([], at_us=T0_US + HOUR_US))
    assert dumped(opened) == []


def test_export_without_data_files_is_an_empty_table(opened: Lake) -> None:
    assert load(opened, full()).rows == 0
    assert dumped(opened) == []


@pytest.mark.parametrize("pack", (bytes, lambda text: text and gzip.compress(text)))
def test_data_files_may_have_no_bytes_or_no_compression(opened: Lake, pack: Callable[[bytes], bytes]) -> None:
    load(opened, full(*ITEMS, pack=pack))
    assert len(dumped(opened)) == 3
    writes = [(T0_US + 1, item("a", v=9), item("a"))]
    load(opened, increment(*writes, at_us=T0_US + HOUR_US, window=T0_US, pack=pack))
    load(opened, Export([[], []], at_us=T0_US + 2 * HOUR_US, window=T0_US + HOUR_US, pack=pack))
    assert dumped(opened) == sorted_items([item("a", v=9), item("b", v=2), item("c", v=3)])


PLAIN_HEADER = b"\x1f\x8b\x08"
GZIP_THAT_DUCKDB_REFUSES: dict[str, Callable[[bytes], bytes]] = {
    "zeros behind it": lambda text: gzip.compress(text) + bytes(5),
    "a comment": lambda text: (
        PLAIN_HEADER + b"\x10" + gzip.compress(text)[4:10] + b"a comment\0" + gzip.compress(text)[10:]
    ),
    "an extra field": lambda text: (
        PLAIN_HEADER + b"\x04" + gzip.compress(text)[4:10] + b"\4\0AB\0\0" + gzip.compress(text)[10:]
    ),
}


@pytest.mark.parametrize("pack", GZIP_THAT_DUCKDB_REFUSES.values(), ids=GZIP_THAT_DUCKDB_REFUSES)
def test_data_files_may_be_any_gzip(opened: Lake, pack: Callable[[bytes], bytes]) -> None:
    load(opened, full(*ITEMS, pack=pack))
    assert dumped(opened) == sorted_items([item("a", v=1), item("b", v=2), item("c", v=3)])


# --- again, and in another order


def test_older_export_after_a_newer_one_is_history_only(opened: Lake) -> None:
    newer = [item("a", v=2, n={"BOOL": True}), item("c", v=1)]
    older = [item("a", v=1, o={"S": "x"}), item("b", v=1)]
    load(opened, full(newer, at_us=T0_US + HOUR_US))
    assert load(opened, full(older)).rows == 2
    assert dumped(opened) == sorted_items(newer)
    assert dumped(opened, as_of_us=T0_US + MINUTE_US) == sorted_items(older)
    assert dumped(opened, as_of_us=T0_US + HOUR_US) == sorted_items(newer)
    assert table_status(opened, "orders").base_export_us == T0_US + HOUR_US
    assert_readers_agree(opened, "orders")


def test_same_export_twice_and_from_another_place_is_loaded_once(opened: Lake, tmp_path: Path) -> None:
    manifest = full(*ITEMS).write(tmp_path / "exports")
    opened.now = lambda: datetime(2026, 3, 2, tzinfo=UTC)
    assert not load(opened, manifest).already_loaded
    before = table_status(opened, "orders")
    shutil.copytree(tmp_path / "exports", tmp_path / "copy")
    for place in (manifest, tmp_path / "exports", tmp_path / "copy"):
        again = load(opened, place)
        assert (again.already_loaded, again.rows) == (True, 3)
    assert table_status(opened, "orders") == before


def windows(folder: Path) -> list[Path]:
    """Two increments that follow each other: `a` is changed in both, `b` removed in the first, `c` made in the second."""
    first = increment(
        (T0_US + MINUTE_US, item("a", v=2), item("a")),
        (T0_US + MINUTE_US, None, item("b")),
        at_us=T0_US + HOUR_US,
        window=T0_US,
    )
    second = increment(
        (T0_US + HOUR_US + MINUTE_US, item("a", v=3), item("a")),
        (T0_US + HOUR_US + MINUTE_US, item("c", v=1), item("c")),
        at_us=T0_US + 2 * HOUR_US,
        window=T0_US + HOUR_US,
    )
    return [first.write(folder / "first"), second.write(folder / "second")]


@pytest.mark.parametrize("order", ((0, 1, 2), (2, 1, 0), (1, 0, 2), (2, 0, 1, 1, 2, 0)))
def test_increments_twice_and_out_of_order_give_the_same_items(
    opened: Lake, tmp_path: Path, order: tuple[int, ...]
) -> None:
    exports = [full([item("a", v=1), item("b", v=1)]).write(tmp_path / "full"), *windows(tmp_path)]
    seen: set[int] = set()
    for number in order:
        assert load(opened, exports[number]).already_loaded == (number in seen)
        seen.add(number)
    assert dumped(opened) == sorted_items([item("a", v=3), item("c", v=1)])
    assert dumped(opened, as_of_us=T0_US + HOUR_US) == sorted_items([item("a", v=2)])
    assert count_rows(opened, "orders_changes") == 4


def test_increment_copied_elsewhere_adds_nothing(opened: Lake, tmp_path: Path) -> None:
    first, _ = windows(tmp_path)
    load(opened, first)
    shutil.copytree(tmp_path / "first", tmp_path / "copy")
    load(opened, tmp_path / "copy")
    assert count_rows(opened, "orders_changes") == 2


@pytest.mark.parametrize("before", cases((0, 300), quick=(300,)))
@pytest.mark.parametrize("window", (None, T0_US - HOUR_US))
def test_line_longer_than_any_item_is_named_and_never_in_memory_as_a_whole(
    opened: Lake, tmp_path: Path, before: int, window: int | None
) -> None:
    name = "Item" if window is None else "Keys"
    lines = [json.dumps({name: item(str(number))}) for number in range(before)]
    long_bytes = 200 << 20
    long = f'{{"{name}":{{"id":{{"S":"{"a" * long_bytes}"}}}}}}'
    manifest = Export([[*lines, long]], at_us=T0_US, window=window).write(tmp_path / "exports")
    del long
    tracemalloc.start()
    try:
        with pytest.raises(ExportError, match=rf"json\.gz: line {before + 1} is longer than 16 MiB"):
            load(opened, manifest)
        assert tracemalloc.get_traced_memory()[1] < long_bytes / 2
    finally:
        tracemalloc.stop()
    assert opened.current("orders") is None and opened.changes("orders") is None
