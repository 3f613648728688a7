"""A scan is read page by page while the table changes; with the stream's changes it is the table exactly."""

from __future__ import annotations

import gzip
import json
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ddb_lake.aws.items import TableItems
from ddb_lake.aws.objects import ObjectStore
from ddb_lake.aws.source import SourceTable
from ddb_lake.core.layout.export_manifest import parse_summary
from ddb_lake.core.layout.scan_files import ScanPart, last_parts
from ddb_lake.core.merge.ordering import ABSENT, Version, snapshot_cutoff_us, winner
from ddb_lake.core.operations.rate_limit import RateLimit
from ddb_lake.errors import ExportError, UsageError
from ddb_lake.pipeline.apply.apply import apply_objects
from ddb_lake.pipeline.load.load import load_export
from ddb_lake.pipeline.load.scan import (
    LAG_US,
    ScannedTable,
    ScanOptions,
    ScanRun,
    begin_scan,
    page_limit,
    scan_units,
    unfinished_scan,
)
from ddb_lake.pipeline.open_lake import Lake
from ddb_lake.pipeline.read.dump import dump_items
from ddb_lake.pipeline.read.status import table_status
from ddb_lake_tests.support import scanned_table
from ddb_lake_tests.support.effort import examples
from ddb_lake_tests.support.folder_lake import lake as open_folder_lake
from ddb_lake_tests.support.landed_files import Image, write_changes

BEGIN_US = 1_715_685_260_000_000
SECOND_US = scanned_table.SECOND_US
SOURCE = SourceTable(("customer", "order_id"), scanned_table.ARN, scanned_table.TABLE_ID, 10, size_bytes=1000)
NAME = scanned_table.TABLE

VALUES = st.one_of(st.none(), st.integers(0, 3))
WRITES = st.lists(st.tuples(st.sampled_from("abcdef"), VALUES, st.integers(1, 200 * SECOND_US)), max_size=6)
DURING = st.lists(st.lists(st.tuples(st.sampled_from("abcdef"), VALUES), max_size=3), min_size=7, max_size=7)


def run_scan(table: scanned_table.ScannedTable, place: Path, **options: Any) -> ScannedTable:
    """Scan the table into files below a folder, one item a page."""
    items = TableItems(table, NAME, RateLimit(None), sleep=lambda _: None)
    objects, limit = ObjectStore(), options.pop("limit", 1)
    chosen = ScanOptions(**options)
    start = None if chosen.restart else unfinished_scan(objects, str(place), SOURCE)
    start = start or begin_scan(objects, str(place), SOURCE, items, chosen)
    return ScanRun(items, objects, str(place), start, limit=limit).finish()


@dataclass
class History:
    """A table before, during and after a scan."""

    table: scanned_table.ScannedTable
    stream_from_us: int
    during: list[list[tuple[str, int | None]]]
    after: list[tuple[str, int | None, int]]
    lags: list[int] = field(default_factory=list)

    def scan(self, place: Path) -> ScannedTable:
        pages = iter(self.during)
        lags = iter(self.lags)

        def before_page() -> None:
            for key, value in next(pages, ()):
                self.table.write(key, value)

        self.table.before_page, self.table.lag_us = before_page, lambda: next(lags, 0)
        scanned = run_scan(self.table, place)
        for key, value, later_us in self.after:
            self.table.write(key, value, later_us)
        self.table.write("last", 1, 10 * SECOND_US)  # a change after the end of the scan
        return scanned


@st.composite
def histories(draw: st.DrawFn) -> History:
    """Writes before and after the beginning of the stream, between pages and after the scan; reads that lag up to 50 s."""
    table = scanned_table.ScannedTable(BEGIN_US)
    for key, value, later_us in draw(WRITES):
        table.write(key, value, later_us)
    table.now_us += SECOND_US
    stream_from_us = table.now_us
    for key, value, later_us in draw(WRITES):
        table.write(key, value, later_us)
    table.now_us = max(table.now_us, stream_from_us + LAG_US) + SECOND_US
    for key, value, later_us in draw(WRITES):
        table.write(key, value, later_us // 20)  # less than 60 s before the scan, which may not see it
    lags = draw(st.lists(st.sampled_from([0, 20 * SECOND_US, 50 * SECOND_US]), min_size=7, max_size=7))
    return History(table, stream_from_us, draw(DURING), draw(WRITES), lags)


def lines(scanned: ScannedTable) -> Iterator[Image]:
    for path in sorted(Path(scanned.manifest_uri).parent.glob("data/*.json.gz")):
        yield from (json.loads(line)["Item"] for line in gzip.decompress(path.read_bytes()).splitlines())


def image(item: Image | None) -> bytes:
    return ABSENT if item is None else json.dumps(item, sort_keys=True).encode()


@examples(15, 300, 1000)
@given(history=histories(), clock_skew_s=st.sampled_from([0, 60, 300]))
def test_scan_and_the_changes_since_are_the_table(history: History, clock_skew_s: int) -> None:
    assert_exact(history, clock_skew_s)


@pytest.mark.parametrize("clock_skew_s", [0, 300])
def test_change_that_a_lagging_read_does_not_see_comes_from_the_stream(clock_skew_s: int) -> None:
    table = scanned_table.ScannedTable(BEGIN_US)
    table.write("a", 1)
    table.write("b", 1, 100 * SECOND_US)
    table.now_us += 10 * SECOND_US
    assert_exact(History(table, BEGIN_US + 2, [], [], lags=[20 * SECOND_US] * 9), clock_skew_s)


def assert_exact(history: History, clock_skew_s: int) -> None:
    """By the rules of the order alone: the winner of each key's records, or what the scan has of the key."""
    with tempfile.TemporaryDirectory() as folder:
        scanned = history.scan(Path(folder))
        summary = parse_summary(Path(scanned.manifest_uri).read_bytes())
        base = {item["customer"]["S"]: item for item in lines(scanned)}
    assert summary.scan_until_us == scanned.until_us
    records = history.table.records(history.stream_from_us)
    times = [record["dynamodb"]["ApproximateCreationDateTime"] for record in records]
    cutoff_us = snapshot_cutoff_us(summary.as_of_us, min(times, default=None), clock_skew_s * SECOND_US)
    versions: dict[str, list[Version]] = {}
    for record, time_us in zip(records, times, strict=True):
        body = record["dynamodb"]
        if time_us > cutoff_us:
            after, before = image(body.get("NewImage")), image(body.get("OldImage"))
            key = body["Keys"]["customer"]["S"]
            versions.setdefault(key, []).append(Version(record["eventID"], time_us, after, before))
    found = {key: image(item) for key, item in base.items()}
    for key, known in versions.items():
        found[key] = winner(known, lambda key=key: image(base.get(key))).after
    expected = {key: image(item) for key, item in history.table.state().items()}
    assert {key: item for key, item in found.items() if item != ABSENT} == expected


def items_of(lake: Lake, as_of_us: int | None = None) -> dict[str, Image]:
    items = [json.loads(line)["Item"] for line in dump_items(lake, NAME, as_of_us)]
    return {item["customer"]["S"]: item for item in items}


@examples(1, 15, 40)
@given(history=histories(), data=st.data())
def test_lake_is_the_table_whatever_arrives_first(history: History, data: st.DataObject) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        scanned = history.scan(folder / "exports")
        records = data.draw(st.permutations(history.table.records(history.stream_from_us)[:-1]))
        early = data.draw(st.integers(0, len(records)))
        with open_folder_lake(folder / "lake", NAME, ["customer", "order_id"]) as lake:
            if records[:early]:
                apply_objects(lake, NAME, [str(write_changes(folder / "early", *records[:early]))])
            load_export(lake, NAME, scanned.manifest_uri)
            if records[early:]:
                apply_objects(lake, NAME, [str(write_changes(folder / "late", *records[early:]))])
            last = history.table.records()[-1]
            apply_objects(lake, NAME, [str(write_changes(folder / "last", last))])
            assert not table_status(lake, NAME).catching_up
            assert items_of(lake) == history.table.state()
            assert items_of(lake, scanned.until_us) == history.table.state(scanned.until_us)
            with pytest.raises(UsageError, match="its first items are of a scan until"):
                items_of(lake, scanned.until_us - 1)


def test_lake_reports_that_it_is_catching_up_until_a_later_change_is_applied(tmp_path: Path) -> None:
    table = scanned_table.ScannedTable(BEGIN_US)
    table.write("a", 1)
    scanned = run_scan(table, tmp_path / "exports")
    changes = {"changes": {"uri": str(tmp_path / "landing")}}
    (tmp_path / "landing").mkdir()
    with open_folder_lake(tmp_path / "lake", NAME, ["customer", "order_id"], **changes) as lake:
        result = load_export(lake, NAME, scanned.manifest_uri)
        assert result.scan_until_us == scanned.until_us
        assert [note for note in result.notes if "exact once the changes up to" in note]
        status = table_status(lake, NAME)
        assert (status.catching_up, status.scan_until_us) == (True, scanned.until_us)
        for later_us, behind in ((0, True), (10 * SECOND_US, False)):
            table.write("a", 2 + later_us, later_us)
            path = write_changes(tmp_path / "landing" / str(later_us), table.records()[-1])
            apply_objects(lake, NAME, [str(path)])
            assert table_status(lake, NAME).catching_up is behind
        assert load_export(lake, NAME, scanned.manifest_uri).already_loaded


def test_without_a_stream_the_load_states_that_items_are_of_different_instants(tmp_path: Path) -> None:
    table = scanned_table.ScannedTable(BEGIN_US)
    table.write("a", 1)
    with open_folder_lake(tmp_path / "lake", NAME, ["customer", "order_id"]) as lake:
        result = load_export(lake, NAME, run_scan(table, tmp_path / "exports").manifest_uri)
    assert [note for note in result.notes if "without `changes` they stay of different instants" in note]


def filled(count: int = 40) -> scanned_table.ScannedTable:
    table = scanned_table.ScannedTable(BEGIN_US)
    for number in range(count):
        table.write(f"k{number}", number)
    return table


@pytest.mark.parametrize("consistent", [False, True])
def test_segments_are_read_in_parallel_and_units_are_counted(tmp_path: Path, consistent: bool) -> None:
    table = filled()
    scanned = run_scan(table, tmp_path, segments=5, consistent=consistent, limit=3)
    assert {item["customer"]["S"]: item for item in lines(scanned)} == table.state()
    assert (scanned.items, scanned.resumed_items) == (40, 0)
    assert scanned.read_units >= 20
    assert table.strong_pages == (table.pages if consistent else 0)
    summary = parse_summary(Path(scanned.manifest_uri).read_bytes())
    assert summary.as_of_us <= BEGIN_US + 40 - LAG_US + 1000 < scanned.started_us < scanned.until_us


def test_interrupted_scan_continues_and_reads_no_page_twice(tmp_path: Path) -> None:
    whole = filled()
    run_scan(whole, tmp_path / "whole", segments=2)
    table = filled()
    table.fail_at_page = 11
    with pytest.raises(ConnectionError):
        run_scan(table, tmp_path / "broken", segments=2)
    assert unfinished_scan(ObjectStore(), str(tmp_path / "broken"), SOURCE) is not None
    for number in range(40):
        table.write(f"k{number}", None if number % 3 else number + 100)  # the first start still counts
    scanned = run_scan(table, tmp_path / "broken", segments=7)
    assert 0 < scanned.resumed_items <= 11
    assert scanned.started_us < BEGIN_US + SECOND_US
    with open_folder_lake(tmp_path / "lake", NAME, ["customer", "order_id"]) as lake:
        load_export(lake, NAME, scanned.manifest_uri)
        table.write("last", 1, 100 * SECOND_US)
        apply_objects(lake, NAME, [str(write_changes(tmp_path / "changes", *table.records(BEGIN_US)))])
        assert items_of(lake) == table.state()
    assert unfinished_scan(ObjectStore(), str(tmp_path / "broken"), SOURCE) is None


def test_restart_begins_again_and_another_tables_scan_is_not_continued(tmp_path: Path) -> None:
    table = filled(4)
    table.fail_at_page = 1
    with pytest.raises(ConnectionError):
        run_scan(table, tmp_path, segments=1)
    other = SourceTable(SOURCE.key, SOURCE.arn, "another id", 10, size_bytes=1000)
    assert unfinished_scan(ObjectStore(), str(tmp_path), other) is None
    assert run_scan(table, tmp_path, restart=True, segments=1).resumed_items == 0


def test_second_process_on_one_scan_is_an_error(tmp_path: Path) -> None:
    table = filled(4)
    items = TableItems(table, NAME, RateLimit(None))
    start = begin_scan(ObjectStore(), str(tmp_path), SOURCE, items, ScanOptions(segments=1))

    part = ScanPart(0, 0, 1, "data/of-another.json.gz", "", {"id": {"S": "a"}}, 0.5)
    table.before_page = lambda: (tmp_path / start.folder / part.progress_name).write_bytes(part.to_json())
    (tmp_path / start.folder / "scan").mkdir()
    with pytest.raises(UsageError, match="another process continues this scan"):
        ScanRun(items, ObjectStore(), str(tmp_path), start).finish()


def test_missing_progress_file_is_an_error() -> None:
    def part(segment: int, number: int, last: bool = False) -> ScanPart:
        return ScanPart(segment, number, 1, "data/x", "", None if last else {"id": {"S": "a"}}, 0.5)

    assert last_parts([part(0, 0), part(0, 1, last=True), part(1, 0)], 2, "x") == {0: part(0, 1, True), 1: part(1, 0)}
    for parts in ([part(0, 1)], [part(0, 0, last=True), part(0, 1)], [part(2, 0)]):
        with pytest.raises(ExportError, match="not complete"):
            last_parts(parts, 2, "x")
    assert ScanPart.from_json(part(0, 0).to_json(), "x") == part(0, 0)
    with pytest.raises(ExportError, match="no description of a scan"):
        ScanPart.from_json(b"{}", "x")


@pytest.mark.parametrize(
    ("size", "consistent", "units"),
    [(0, False, 0), (1, True, 1), (4097, True, 2), (4097, False, 1), (10**9, False, 122070.5)],
)
def test_units_are_half_of_those_of_consistent_reads(size: int, consistent: bool, units: float) -> None:
    assert scan_units(size, consistent) == units


def test_pages_cost_about_a_seconds_units() -> None:
    items = TableItems(filled(1), NAME, RateLimit(None))
    start = begin_scan(ObjectStore(), tempfile.mkdtemp(), SOURCE, items, ScanOptions(segments=4))
    source = SourceTable(SOURCE.key, SOURCE.arn, "id", 1000, size_bytes=2048 * 1000)
    assert page_limit(source, None, start) is None
    assert page_limit(source, 100, start) == 100  # 25 units a segment, 8 KB each, 2 KB an item
    assert page_limit(source, 0.1, start) == 1
    assert page_limit(source, 100_000, start) is None
