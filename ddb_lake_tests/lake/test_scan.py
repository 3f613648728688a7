"""Scans of a table's snapshots."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ddb_lake.errors import DamagedError
from ddb_lake.lake import file_writer
from ddb_lake.lake.catalog import TABLE_PROPERTIES
from ddb_lake.lake.commit import Delta
from ddb_lake.lake.scan import named_data_file, scan_table
from ddb_lake_tests.support.effort import SHARED_FIXTURE, examples
from ddb_lake_tests.support.iceberg_table import (
    SCHEMA,
    catalog,
    commit,
    connection,
    data_files,
    delete_files,
    rows,
    writer,
)


def test_snapshot_that_the_table_does_not_have_is_an_error_and_not_empty(tmp_path: Path) -> None:
    with catalog(tmp_path) as opened:
        table = opened.create("t", SCHEMA)
        with pytest.raises(DamagedError, match="no snapshot 12345") as raised:
            scan_table(table, 12345)
    assert raised.value.table == table.name()[-1]


def test_table_without_a_snapshot_has_no_rows(tmp_path: Path) -> None:
    with catalog(tmp_path) as opened:
        scan = scan_table(opened.create("t", SCHEMA))
    assert (scan.paths, scan.deletes) == ((), ())


@pytest.mark.parametrize("one_file", [True, False])
def test_deletes_of_files_that_another_engine_rewrote_are_not_counted(tmp_path: Path, one_file: bool) -> None:
    """The other engine is pyiceberg, which replaces a data file and leaves the position deletes of it."""
    with catalog(tmp_path) as opened:
        table = opened.create("t", SCHEMA)
        files = data_files(table, [(1, "a"), (2, "b"), (3, "c")], [(4, "d"), (5, "e")])
        table = commit(table, Delta(added=files))
        places = [(files[0].file_path, 0), (files[0].file_path, 2), *([] if one_file else [(files[1].file_path, 1)])]
        table = commit(table, Delta(deletes=delete_files(table, *places)))
        live = scan_table(table).live
        assert (live.rows, live.deleted_rows, live.dangling) == (5 - len(places), len(places), 0)

        (rewritten,) = data_files(table, [(2, "b")])
        with table.transaction() as transaction, transaction.update_snapshot().overwrite() as overwrite:
            overwrite.delete_data_file(next(f for f in live.data if f.file_path == files[0].file_path))
            overwrite.append_data_file(rewritten)
        table = table.refresh()
        live = scan_table(table).live
        assert live.dangling == 2
        assert len(rows(table)) == live.rows == (3 if one_file else 2)
        table = commit(table, Delta(added=data_files(table, [(9, "x")])))
        assert scan_table(table).live.dangling == 2, "a commit of ours keeps them"
        assert len(rows(table)) == (4 if one_file else 3)
        kept = [] if one_file else [(files[1].file_path, 1)]
        table = commit(table, Delta(deletes=delete_files(table, *kept), drop_deletes=True))
        assert scan_table(table).live.dangling == 0
        assert len(rows(table)) == (4 if one_file else 3)


def test_delete_files_are_read_only_if_another_engine_may_have_left_deletes(tmp_path: Path) -> None:
    with catalog(tmp_path) as opened:
        table = opened.create("t", SCHEMA)
        files = data_files(table, [(1, "a"), (2, "b")], [(3, "c")])
        table = commit(table, Delta(added=files))
        deletes = delete_files(table, (files[0].file_path, 0), (files[1].file_path, 0))
        table = commit(table, Delta(deletes=deletes))
        table = commit(table, Delta(added=data_files(table, [(4, "d")])))
        size = Path(deletes[0].file_path).stat().st_size
        Path(deletes[0].file_path).write_bytes(b"?" * size)
        assert scan_table(table).live.rows == 2


def test_deleted_positions_have_the_paths_of_a_location_with_a_scheme(tmp_path: Path) -> None:
    """DuckDB spells the path of a local file without `file://`; a reader compares the path with that in the manifest."""
    with catalog(tmp_path / "lake") as opened:
        opened.catalog.create_namespace("ns")
        location = f"file://{tmp_path}/elsewhere"
        table = opened.catalog.create_table(("ns", "t"), SCHEMA, location, properties=TABLE_PROPERTIES)
        table = commit(table, Delta(added=data_files(table, [(1, "a"), (2, "b"), (3, "c")])))
        scan = scan_table(table)
        assert all(path.startswith(f"{location}/data/") for path in scan.paths)
        places = connection().execute(f"SELECT _file_path, _pos FROM {scan.sql(positions=True)} WHERE id = 2")
        table = commit(table, Delta(deletes=delete_files(table, *places.fetchall())))
        assert rows(table) == [(1, "a"), (3, "c")]


POSITIONS = st.sets(st.tuples(st.integers(0, 3), st.integers(0, 5)), max_size=16)


@examples(8, 60, suppress=SHARED_FIXTURE)
@given(groups=st.lists(POSITIONS, max_size=3), own=st.integers(1, 4), chosen=st.sets(st.integers(0, 3)))
def test_part_of_a_scan_reads_the_delete_files_of_its_data_files(
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
    groups: list[set[tuple[int, int]]],
    own: int,
    chosen: set[int],
) -> None:
    """Four data files of six rows each, and commits of position deletes, by data file if it has `own` of them or more."""
    monkeypatch.setattr(file_writer, "OWN_DELETE_FILE_ROWS", own)
    with catalog(tmp_path_factory.mktemp("lake")) as opened:
        table = opened.create("t", SCHEMA)
        files = data_files(table, *([(10 * file + pos, "x") for pos in range(6)] for file in range(4)))
        table = commit(table, Delta(added=files))
        deleted: set[tuple[int, int]] = set()
        for group in groups:
            new = group - deleted
            deleted |= new
            values = (
                ", ".join(f"('{files[file].file_path}', {pos}::BIGINT)" for file, pos in sorted(new)) or "(NULL, NULL)"
            )
            positions = f"(SELECT * FROM (VALUES {values}) v(file_path, pos) WHERE pos IS NOT NULL)"
            written = writer(table).write_deletes_by_file(positions)
            counts = Counter(file for file, _ in new)
            single = {files[file].file_path for file, rows in counts.items() if rows >= own or len(counts) == 1}
            assert {named for one in written if (named := named_data_file(one))} >= single
            table = commit(table, Delta(deletes=written)) if written else table
        scan = scan_table(table)
        assert scan.live.deleted_rows == len(deleted)
        paths = [files[file].file_path for file in sorted(chosen)]
        found = sorted(number for number, _ in connection().execute(f"FROM {scan.sql(paths)}").fetchall())
        assert found == [10 * file + pos for file in sorted(chosen) for pos in range(6) if (file, pos) not in deleted]
        for one in scan.live.deletes:
            named = named_data_file(one)
            assert named is None or (one.file_path in scan.deletes_of(paths)) == (named in paths)
        opened_by = [len(scan.deletes_of([file.file_path])) for file in files]
        assert max(opened_by) <= scan.live.most_delete_files <= len(scan.deletes)
