"""Every kind of commit, read back through three readers; and what a stale or unlucky one raises."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from pyiceberg.exceptions import CommitStateUnknownException
from pyiceberg.manifest import ManifestContent
from pyiceberg.table import Table
from pyiceberg.table.snapshots import Operation
from sqlalchemy.exc import OperationalError

from ddb_lake.errors import CommitConflict, CommitStateUnknown, TransientError
from ddb_lake.lake import commit as commits
from ddb_lake.lake import size_tiers
from ddb_lake.lake.catalog import LakeCatalog
from ddb_lake.lake.commit import Commit, Delta
from ddb_lake.lake.scan import live_files
from ddb_lake_tests.support.iceberg_table import SCHEMA, catalog, commit, data_files, delete_files, rows

A, B, C, D = (1, "a"), (2, "b"), (3, "c"), (4, "d")


@pytest.fixture
def lake_catalog(tmp_path: Path) -> Iterator[LakeCatalog]:
    with catalog(tmp_path) as opened:
        yield opened


@pytest.fixture
def table(lake_catalog: LakeCatalog) -> Table:
    made = lake_catalog.create("t", SCHEMA)
    return commit(made, Delta(added=data_files(made, [A, B], [C])))


def path_of(table: Table, row: tuple[int, str]) -> str:
    """The data file of the fixture that holds a row."""
    first, second = sorted(live_files(table).data, key=lambda f: -f.record_count)
    return second.file_path if row == C else first.file_path


def operation(table: Table) -> Operation:
    snapshot = table.current_snapshot()
    assert snapshot is not None
    assert snapshot.summary is not None
    return snapshot.summary.operation


def test_appended_rows_join_those_that_are_there(table: Table) -> None:
    table = commit(table, Delta(added=data_files(table, [D])))
    assert rows(table) == [A, B, C, D]
    assert operation(table) == Operation.APPEND


def test_rows_deleted_by_position_are_gone_and_the_others_stay(table: Table) -> None:
    places = ((path_of(table, A), 1), (path_of(table, C), 0))
    table = commit(table, Delta(deletes=delete_files(table, *places)))
    assert rows(table) == [A]
    assert operation(table) == Operation.OVERWRITE
    live = live_files(table)
    assert (live.rows, live.deleted_rows, len(live.deletes)) == (1, 2, 1)


def test_retiring_and_adding_in_one_commit_replaces_rows(table: Table) -> None:
    replaced = (2, "B")
    delta = Delta(added=data_files(table, [replaced]), deletes=delete_files(table, (path_of(table, B), 1)))
    table = commit(table, delta)
    assert rows(table) == [A, replaced, C]
    assert len(table.snapshots()) == 2


def test_rows_added_and_retired_in_one_commit_were_never_there(table: Table) -> None:
    added = data_files(table, [D, (5, "e")])
    table = commit(table, Delta(added=added, deletes=delete_files(table, (added[0].file_path, 0))))
    assert rows(table) == [A, B, C, (5, "e")]


def test_several_delete_files_add_up(table: Table) -> None:
    for position in (0, 1):
        table = commit(table, Delta(deletes=delete_files(table, (path_of(table, A), position))))
    assert rows(table) == [C]
    assert len(live_files(table).deletes) == 2


def test_removed_file_leaves_the_others_of_its_manifest(table: Table) -> None:
    table = commit(table, Delta(removed=frozenset([path_of(table, A)])))
    assert rows(table) == [C]
    table = commit(table, Delta(added=data_files(table, [D])))
    assert rows(table) == [C, D]


def test_swap_of_files_with_their_deletes_dropped_keeps_rows(table: Table) -> None:
    """What compaction does: one file rewritten without its deleted row, and the deletes of the other one rewritten."""
    big, small = path_of(table, A), path_of(table, C)
    table = commit(table, Delta(deletes=delete_files(table, (big, 0), (small, 0))))
    delta = Delta(
        added=data_files(table, [B]),
        deletes=delete_files(table, (small, 0)),
        removed=frozenset([big]),
        drop_deletes=True,
    )
    table = commit(table, delta)
    assert rows(table) == [B]
    live = live_files(table)
    assert (len(live.data), len(live.deletes), live.deleted_rows) == (2, 1, 1)


def test_replacing_everything_leaves_only_what_is_added(table: Table) -> None:
    table = commit(table, Delta(deletes=delete_files(table, (path_of(table, A), 0))))
    table = commit(table, Delta(added=data_files(table, [D]), replace_all=True))
    assert rows(table) == [D]
    assert live_files(table).deletes == ()
    assert rows(commit(table, Delta(replace_all=True))) == []


def test_empty_commit_is_a_snapshot_of_the_same_rows(table: Table) -> None:
    before = table.current_snapshot()
    table = commit(table, Delta(), properties={"mark": "1"})
    assert rows(table) == [A, B, C]
    assert table.properties["mark"] == "1"
    assert table.current_snapshot() != before
    assert rows(commit(table, Delta(added=data_files(table, [])))) == [A, B, C]


def test_first_commit_of_a_table_may_be_empty(lake_catalog: LakeCatalog) -> None:
    assert rows(commit(lake_catalog.create("empty", SCHEMA), Delta())) == []


def test_branch_holds_its_own_rows_whatever_becomes_of_main(table: Table) -> None:
    base = data_files(table, [D])
    table = commit(table, Delta(added=base, replace_all=True), (Delta(added=base), "export-1"))
    assert rows(table) == [D]
    table = commit(table, Delta(deletes=delete_files(table, (base[0].file_path, 0))))
    table = commit(table, Delta(added=data_files(table, [A]), replace_all=True))
    head = table.snapshot_by_name("export-1")
    assert head is not None
    assert rows(table, head.snapshot_id) == [D]
    assert rows(table) == [A]


def test_many_commits_leave_few_manifests_of_files_and_of_deletes(
    table: Table, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(size_tiers, "TIER_SIZE", 3)
    expected = [A, B, C]
    earlier = {}
    for number in range(10, 25):
        (added,) = data_files(table, [(number, "a"), (number, "b")])
        table = commit(table, Delta(added=[added], deletes=delete_files(table, (added.file_path, 1))))
        expected = [*expected, (number, "a")]
        assert rows(table) == expected
        snapshot = table.current_snapshot()
        assert snapshot is not None
        earlier[snapshot.snapshot_id] = expected
        contents = [m.content for m in snapshot.manifests(table.io)]
        assert all(contents.count(content) <= 2 * 2 + 1 for content in ManifestContent), "two tiers, and the new one"
    assert {number: rows(table, number) for number in earlier} == earlier


def test_merged_manifests_have_a_limited_number_of_files(table: Table, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(size_tiers, "TIER_SIZE", 2)
    monkeypatch.setattr(commits, "LARGE_MANIFEST_FILES", 4)
    for number in range(10, 22):
        table = commit(table, Delta(added=data_files(table, [(number, "a")])))
        snapshot = table.current_snapshot()
        assert snapshot is not None
        sizes = [(m.added_files_count or 0) + (m.existing_files_count or 0) for m in snapshot.manifests(table.io)]
        assert max(sizes) <= 4
        assert sum(size < 4 for size in sizes) <= 3
    assert rows(table) == [A, B, C, *((number, "a") for number in range(10, 22))]


def test_every_older_snapshot_stays_readable(table: Table) -> None:
    expected = {table.current_snapshot().snapshot_id: [A, B, C]}  # type: ignore[union-attr]
    table = commit(table, Delta(deletes=delete_files(table, (path_of(table, C), 0))))
    expected[table.current_snapshot().snapshot_id] = [A, B]  # type: ignore[union-attr]
    table = commit(table, Delta(removed=frozenset([path_of(table, A)]), drop_deletes=True))
    expected[table.current_snapshot().snapshot_id] = [C]  # type: ignore[union-attr]
    assert {number: rows(table, number) for number in expected} == expected


def test_totals_in_the_summary_follow_the_files(table: Table) -> None:
    table = commit(table, Delta(added=data_files(table, [D]), deletes=delete_files(table, (path_of(table, C), 0))))
    summary = table.current_snapshot().summary  # type: ignore[union-attr]
    assert summary is not None
    found = {name: summary[name] for name in ("total-data-files", "total-delete-files", "total-position-deletes")}
    assert found == {"total-data-files": "3", "total-delete-files": "1", "total-position-deletes": "1"}
    assert (summary["added-data-files"], summary["total-records"]) == ("1", "4")


# --- conflicts


def test_stale_commit_of_any_kind_is_a_conflict_and_leaves_nothing(lake_catalog: LakeCatalog, table: Table) -> None:
    stale = [lake_catalog.table("t") for _ in range(4)]
    deltas = [Delta(), Delta(added=data_files(table, [D])), Delta(replace_all=True), Delta(drop_deletes=True)]
    table = commit(table, Delta(added=data_files(table, [(5, "e")])), properties={"mark": "first"})
    for handle, delta in zip(stale, deltas, strict=True):
        assert handle is not None
        with pytest.raises(CommitConflict):
            commit(handle, delta, properties={"mark": "second"})
    now = lake_catalog.table("t")
    assert now is not None
    assert now.properties["mark"] == "first"
    assert rows(now) == [A, B, C, (5, "e")]


def test_removing_a_file_that_is_gone_is_a_conflict(table: Table) -> None:
    path, added = path_of(table, A), data_files(table, [D], [(5, "e")])
    live = added[0].file_path
    table = commit(table, Delta(removed=frozenset([path])))
    table = commit(table, Delta(added=added))
    before = set(Path(table.location()).rglob("*"))
    with pytest.raises(CommitConflict, match="no longer in the table"):
        commit(table, Delta(removed=frozenset([path, live])))
    assert set(Path(table.location()).rglob("*")) == before, "no manifest is written for a commit that fails"


def test_stale_change_of_columns_is_a_conflict(lake_catalog: LakeCatalog, table: Table) -> None:
    stale = lake_catalog.table("t")
    assert stale is not None
    commit(table, Delta())
    made = Commit(stale)
    made.change_schema(lambda update: update.rename_column("v", "w"))
    made.snapshot(Delta())
    with pytest.raises(CommitConflict):
        made.run()


def test_main_must_be_staged_first_and_always(table: Table) -> None:
    with pytest.raises(AssertionError, match="main first"):
        Commit(table).snapshot(Delta(), branch="other")
    with pytest.raises(AssertionError, match="main"):
        Commit(table).run()


@pytest.mark.parametrize(
    ("raised", "expected"),
    (
        (CommitStateUnknownException("no answer"), CommitStateUnknown),
        (OperationalError("UPDATE", {}, sqlite3.OperationalError("database is locked")), TransientError),
        (OperationalError("COMMIT", {}, sqlite3.OperationalError("disk I/O error")), CommitStateUnknown),
    ),
)
def test_what_the_catalog_raises_is_distinguished(table: Table, raised: Exception, expected: type[Exception]) -> None:
    def refuse(*arguments: Any, **named: Any) -> Any:
        raise raised

    added = data_files(table, [D])
    with mock.patch.object(type(table.catalog), "commit_table", refuse), pytest.raises(expected):
        commit(table, Delta(added=added))
    assert Path(added[0].file_path).exists(), "its outcome may be unknown"


def test_staging_derives_the_metadata_once_for_each_update(table: Table) -> None:
    delta = Delta(added=data_files(table, [D]))
    with mock.patch.object(commits, "update_table_metadata", wraps=commits.update_table_metadata) as derived:
        staged = Commit(table)
        staged.snapshot(delta)
        staged.set_properties({"a": "b"})
        assert staged.transaction.table_metadata.properties["a"] == "b"
    updates = [tuple(call.args[1]) for call in derived.call_args_list]
    assert len(updates) == len(set(map(len, updates))) <= 3
