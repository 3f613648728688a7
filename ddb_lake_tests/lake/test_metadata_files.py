"""Manifests are parsed once for the same bytes, and examined each time."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyiceberg.avro.file import AvroFile
from pyiceberg.table import Table
from pyiceberg.utils.singleton import Singleton

from ddb_lake.errors import DamagedError
from ddb_lake.lake import metadata_files
from ddb_lake.lake.commit import Delta
from ddb_lake.lake.metadata_files import ParsedFiles, live_entries, snapshot_manifests
from ddb_lake.lake.scan import live_files
from ddb_lake_tests.support.effort import examples
from ddb_lake_tests.support.iceberg_table import SCHEMA, catalog, commit, data_files


@pytest.fixture
def table(tmp_path: Path) -> Iterator[Table]:
    with catalog(tmp_path) as opened:
        table = opened.create("t", SCHEMA)
        yield commit(table, Delta(added=data_files(table, [(0, "x")])))


def test_second_scan_parses_nothing_and_finds_the_same_files(table: Table, monkeypatch: pytest.MonkeyPatch) -> None:
    first = live_files(table)

    def refused(*_: object) -> None:
        raise AssertionError("a file was parsed again")

    monkeypatch.setattr(metadata_files, "AvroFile", refused)
    monkeypatch.setattr("pyiceberg.manifest.AvroFile", refused)
    assert live_files(table) == first
    later = commit(table, Delta(added=first.data))
    with pytest.raises(DamagedError, match="AssertionError"):  # a new file is parsed
        live_files(later)


def test_reading_manifests_keeps_nothing_in_pyiceberg(table: Table) -> None:
    def read_another(number: int) -> int:
        nonlocal table
        table = commit(table, Delta(added=data_files(table, [(number, "x")])))
        assert len(live_files(table).data) == number + 1
        return len(Singleton._instances)

    first = read_another(1)
    assert [read_another(number) for number in range(2, 6)] == [first] * 4


@pytest.mark.parametrize("which", ["list", "manifest"])
@pytest.mark.parametrize("damage", ["missing", "cut short", "another"])
def test_file_that_is_damaged_after_it_was_read_is_an_error(table: Table, which: str, damage: str) -> None:
    live_files(table)
    snapshot = table.current_snapshot()
    assert snapshot is not None
    (manifest,) = snapshot_manifests(table.io, snapshot, "t")
    path = Path(snapshot.manifest_list if which == "list" else manifest.manifest_path)
    if damage == "missing":
        path.unlink()
    elif damage == "cut short":
        path.write_bytes(path.read_bytes()[:-20])
    else:
        later = commit(table, Delta(added=data_files(table, [(1, "y"), (2, "z")])))
        head = later.current_snapshot()
        assert head is not None
        other = next(m for m in snapshot_manifests(later.io, head, "t") if m.manifest_path != manifest.manifest_path)
        live_entries(later.io, other, "t")
        path.write_bytes(Path(head.manifest_list if which == "list" else other.manifest_path).read_bytes())
    with pytest.raises(DamagedError):
        live_entries(table.io, snapshot_manifests(table.io, snapshot, "t")[0], "t")


@pytest.mark.parametrize("missing", [1, 2, 16, 17])
def test_list_without_its_last_bytes_is_an_error_even_if_they_are_zero(table: Table, missing: int) -> None:
    snapshot = table.current_snapshot()
    assert snapshot is not None
    path = Path(snapshot.manifest_list)
    with AvroFile(table.io.new_input(str(path))) as opened:
        sync = opened.header.sync
    data = path.read_bytes().replace(sync, bytes(range(1, 15)) + b"\0\0")
    path.write_bytes(data)
    assert len(snapshot_manifests(table.io, snapshot, "t")) == 1
    path.write_bytes(data[:-missing])
    with pytest.raises(DamagedError, match="cut short"):
        snapshot_manifests(table.io, snapshot, "t")


@given(reads=st.lists(st.tuples(st.integers(0, 9), st.integers(0, 1)), max_size=40))
@examples(50, 500)
def test_kept_entries_are_limited_and_those_of_the_same_bytes_and_context(reads: list[tuple[int, int]]) -> None:
    """Against the results themselves, and a model of the last reads that fit. A file counts as one entry more than it has."""
    parsed, used = ParsedFiles(limit=8), []
    for size, context in reads:
        calls: list[int] = []

        def parse(size: int = size, context: int = context, calls: list[int] = calls) -> tuple[int, ...]:
            calls.append(context)
            return (context,) * size

        assert parsed.rows(bytes([size]), context, parse) == (context,) * size
        assert bool(calls) == ((size, context) not in used)
        used = [entry for entry in used if entry != (size, context)]
        used += [(size, context)] if size < 8 else []
        while sum(kept + 1 for kept, _ in used) > 8:
            used.pop(0)
