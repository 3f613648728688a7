"""Files that may have some records are found by ranges in manifest lists, and none is missed."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyiceberg.manifest import DataFile
from pyiceberg.table import Table

from ddb_lake.errors import DamagedError
from ddb_lake.lake import metadata_files, scan, size_tiers
from ddb_lake.lake.catalog import LakeCatalog
from ddb_lake.lake.column_ranges import RANGES_HEADER, ColumnRanges, file_ranges, from_header, to_header
from ddb_lake.lake.commit import Delta
from ddb_lake.lake.file_writer import FileWriter
from ddb_lake.lake.scan import data_files, live_files
from ddb_lake.lake.schemas import CHANGES_COLUMNS, CHANGES_RANGES, changes_partitioning, duckdb_type, fixed_schema
from ddb_lake_tests.support.effort import examples
from ddb_lake_tests.support.iceberg_table import catalog, commit, connection

HOUR_US = 3_600_000_000
MINUTE_US = 60_000_000

_SCHEMA = fixed_schema(CHANGES_COLUMNS)
_FIELDS = [field for field in _SCHEMA.fields if field.name in CHANGES_RANGES]
_TEXT = {"event_name"}


def changelog(opened: LakeCatalog) -> Table:
    return opened.create("t_changes", _SCHEMA, changes_partitioning(_SCHEMA))


def record_files(table: Table, records: list[tuple[str, int, int | None, int]], hour: int) -> list[DataFile]:
    """A file of records: event name, minute of the change, minute of the assertion, batch."""
    rows = ", ".join(
        f"('{event}', make_timestamp({minute * MINUTE_US}),"
        f" {'NULL' if asserted is None else f'make_timestamp({asserted * MINUTE_US})'}, {batch})"
        for event, minute, asserted, batch in records
    )
    given = "event_name, changed_at, asserted_at, _batch"
    others = ", ".join(
        f"NULL::{duckdb_type(f.field_type)} AS {f.name}" for f in _SCHEMA.fields if f.name not in CHANGES_RANGES
    )
    query = (
        f"SELECT event_name, changed_at, asserted_at::TIMESTAMP AS asserted_at, _batch::BIGINT AS _batch,"
        f" make_timestamp({hour * HOUR_US}) AS arrival_hour, {others} FROM (VALUES {rows}) r({given})"
    )
    return FileWriter.for_table(connection(), table).write(query, table.metadata)


_RECORDS = st.tuples(
    st.sampled_from(["INSERT", "MODIFY", "REMOVE"]),
    st.integers(0, 200),
    st.none() | st.integers(0, 200),
    st.integers(1, 9),
)
_FILES = st.tuples(st.lists(_RECORDS, min_size=1, max_size=3), st.integers(0, 3))
_COMMITS = st.lists(st.lists(_FILES, max_size=3), min_size=1, max_size=12)
_QUERIES = st.lists(
    st.tuples(st.sampled_from(CHANGES_RANGES), st.none() | st.integers(0, 200), st.none() | st.integers(0, 200)),
    min_size=1,
    max_size=4,
)


@given(commits=_COMMITS, queries=_QUERIES, lost=st.sets(st.integers(0, 11)), removed=st.sets(st.integers(0, 11)))
@examples(8, 60, 150)
def test_files_found_by_ranges_are_those_that_each_file_alone_would_give(
    commits: list[Any], queries: list[Any], lost: set[int], removed: set[int]
) -> None:
    """`lost`: commits by a program that does not write ranges. `removed`: commits that also remove the first file."""
    with tempfile.TemporaryDirectory() as folder, catalog(Path(folder)) as opened, _tiers_of(3):
        table = changelog(opened)
        for number, files in enumerate(commits):
            added = [file for records, hour in files for file in record_files(table, records, hour)]
            live = live_files(table).paths
            gone = frozenset(live[:1]) if number in removed else frozenset[str]()
            with mock.patch("ddb_lake.lake.commit.CHANGES_RANGES", () if number in lost else CHANGES_RANGES):
                table = commit(table, Delta(added=added, removed=gone))
            for query in queries:
                matches = predicate(*query)
                expected = {f.file_path for f in live_files(table).data if matches(file_ranges(f, _SCHEMA))}
                assert {f.file_path for f in data_files(table, matches)} == expected


def predicate(column: str, low: int | None, high: int | None) -> Callable[[ColumnRanges], bool]:
    units = {"_batch": 1, "arrival_hour": HOUR_US, "event_name": 1}
    if column in _TEXT:
        return lambda ranges: ranges.overlaps(column, "REMOVE", "REMOVE")
    unit = units.get(column, MINUTE_US)
    limits = [None if limit is None else limit * unit for limit in (low, high)]
    return lambda ranges: ranges.overlaps(column, *limits)


def _tiers_of(size: int) -> Any:
    return mock.patch.object(size_tiers, "TIER_SIZE", size)


# --- what is opened


@pytest.fixture
def hours(tmp_path: Path) -> Iterator[Table]:
    """Eight commits of one file and one hour each."""
    with catalog(tmp_path) as opened, _tiers_of(1000):
        table = changelog(opened)
        for hour in range(8):
            records = [("INSERT", hour * 60 + 5, None, hour + 1)]
            table = commit(table, Delta(added=record_files(table, records, hour)))
        yield table


def test_manifests_without_such_records_are_not_opened(hours: Table, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = []
    monkeypatch.setattr(scan, "live_entries", lambda *args: opened.append(1) or metadata_files.live_entries(*args))
    assert len(data_files(hours, lambda ranges: ranges.overlaps("_batch", low=7))) == 2
    assert len(opened) == 2
    assert data_files(hours, lambda ranges: ranges.overlaps("asserted_at", low=0)) == []
    assert len(opened) == 2


def test_missing_file_is_an_error_if_it_is_needed(hours: Table) -> None:
    (path,) = (f.file_path for f in data_files(hours, lambda ranges: ranges.overlaps("_batch", high=1)))
    Path(path).unlink()
    assert len(data_files(hours, lambda ranges: ranges.overlaps("_batch", low=2))) == 7
    with pytest.raises(DamagedError):
        data_files(hours, lambda ranges: ranges.overlaps("_batch", low=1))


def test_ranges_of_another_number_of_manifests_are_damage() -> None:
    text = to_header(_FIELDS, [{}, {}])
    assert from_header(text, 2) == [{field.field_id: None for field in _FIELDS}] * 2
    with pytest.raises(ValueError, match="2 manifests, and it has 3"):
        from_header(text, 3)


def test_other_readers_ignore_the_ranges(hours: Table) -> None:
    snapshot = hours.current_snapshot()
    assert snapshot is not None
    assert RANGES_HEADER.encode() in Path(snapshot.manifest_list).read_bytes()
    assert sorted(hours.scan().to_arrow()["_batch"].to_pylist()) == list(range(1, 9))
