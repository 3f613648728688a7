"""Housekeeping after any series of commits: what is named stays readable, what is not named is found."""

from __future__ import annotations

import random
import sqlite3
import tempfile
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from unittest import mock

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyiceberg.exceptions import CommitFailedException
from pyiceberg.table import Table
from pyiceberg.table.statistics import StatisticsFile
from sqlalchemy.exc import OperationalError

from ddb_lake.config import SnapshotSettings
from ddb_lake.lake import expiry
from ddb_lake.lake.catalog import LakeCatalog
from ddb_lake.lake.commit import Delta
from ddb_lake.lake.maintenance import expire_snapshots, referenced, unnamed
from ddb_lake.lake.scan import live_files
from ddb_lake_tests.support.effort import examples
from ddb_lake_tests.support.iceberg_table import (
    SCHEMA,
    Rows,
    catalog,
    commit,
    data_files,
    delete_files,
    rows,
)

LATER = datetime.now(UTC) + timedelta(days=1)
AT_ONCE = SnapshotSettings(keep_for="0s")
LATER_US = int(LATER.timestamp() * 1_000_000)
ACTIONS = ("append", "retire", "replace rows", "compact", "start anew", "branch", "lose files", "clean up")


@dataclass
class Series:
    """Random commits to a table, and what each snapshot must show."""

    table: Table
    rnd: random.Random
    lake_catalog: LakeCatalog
    places: dict[tuple[str, int], tuple[int, str]] = field(default_factory=dict)
    retired: set[tuple[str, int]] = field(default_factory=set)
    history: dict[int, Rows] = field(default_factory=dict)
    branches: dict[str, Rows] = field(default_factory=dict)
    ids: int = 0

    def act(self, action: str) -> None:
        """One commit, or a clean-up."""
        getattr(self, "_" + action.replace(" ", "_"))()
        snapshot = self.table.current_snapshot()
        if snapshot is not None:
            self.history[snapshot.snapshot_id] = self.expected()

    def expected(self) -> Rows:
        """The rows that main must have."""
        return sorted(row for place, row in self.places.items() if place not in self.retired)

    def _new(self) -> Rows:
        size = self.rnd.randint(1, 4)
        self.ids += size
        return [(number, self.rnd.choice("xyz")) for number in range(self.ids - size, self.ids)]

    def _write(self, new: Rows) -> Delta:
        (file,) = data_files(self.table, new)
        self.places |= {(file.file_path, number): row for number, row in enumerate(new)}
        return Delta(added=[file])

    def _commit(self, *deltas: Delta | tuple[Delta, str]) -> None:
        self.table = commit(self.table, *deltas)

    def _append(self) -> None:
        self._commit(self._write(self._new()))

    def _some(self) -> list[tuple[str, int]]:
        living = sorted(set(self.places) - self.retired)
        return self.rnd.sample(living, self.rnd.randint(0, len(living)))

    def _retire(self) -> None:
        chosen = self._some()
        self._commit(Delta(deletes=delete_files(self.table, *chosen)))
        self.retired |= set(chosen)

    def _replace_rows(self) -> None:
        chosen = self._some()
        added = self._write(self._new())
        self._commit(Delta(added=added.added, deletes=delete_files(self.table, *chosen)))
        self.retired |= set(chosen)

    def _compact(self) -> None:
        files = sorted({path for path, _ in self.places})
        gone = frozenset(self.rnd.sample(files, self.rnd.randint(0, len(files))))
        moved = sorted(row for (path, _), row in self._living() if path in gone)
        self.places = {place: row for place, row in self.places.items() if place[0] not in gone}
        self.retired = {place for place in self.retired if place[0] not in gone}
        added = self._write(moved).added if moved else []
        deletes = delete_files(self.table, *sorted(self.retired))
        self._commit(Delta(added, deletes, removed=gone, drop_deletes=True))

    def _living(self) -> list[tuple[tuple[str, int], tuple[int, str]]]:
        return [(place, row) for place, row in self.places.items() if place not in self.retired]

    def _start_anew(self) -> None:
        self.places, self.retired = {}, set()
        self._commit(Delta(self._write(self._new()).added, replace_all=True))

    def _branch(self) -> None:
        new = self._new()
        added = self._write(new).added
        name = f"export-{len(self.branches)}"
        self._commit(Delta(added), (Delta(added), name))
        self.branches[name] = sorted(new)

    def _lose_files(self) -> None:
        """A writer that dies before its commit, and one that dies just before the catalog's commit."""
        data_files(self.table, self._new())
        stale = self.lake_catalog.table("t")
        assert stale is not None
        with (
            mock.patch.object(type(stale.catalog), "commit_table", side_effect=InterruptedError),
            pytest.raises(InterruptedError),
        ):
            commit(stale, Delta(added=data_files(stale, self._new())))

    def _clean_up(self) -> None:
        with mock.patch.object(expiry, "KEEP_SNAPSHOTS", self.rnd.randint(1, 3)):
            expire_snapshots(self.table, AT_ONCE, LATER)
        there = files_of(self.table)
        fresh = self.lake_catalog.table("t")
        assert fresh is not None
        for path in unnamed([(path, 0) for path in there], referenced(fresh), LATER_US):
            Path(path).unlink()
        self.table = fresh
        assert files_of(fresh) == referenced(fresh), "what is left is what is named, and all of it"

    def check(self) -> None:
        """All snapshots that are left show what they did, and so does each branch."""
        assert rows(self.table) == self.expected()
        for snapshot in self.table.snapshots():
            if snapshot.snapshot_id in self.history:
                assert rows(self.table, snapshot.snapshot_id) == self.history[snapshot.snapshot_id]
        for name, expected in self.branches.items():
            head = self.table.snapshot_by_name(name)
            assert head is not None
            assert rows(self.table, head.snapshot_id) == expected


def files_of(table: Table) -> set[str]:
    """All files in the table's folder."""
    return {str(path) for path in Path(table.location()).rglob("*") if path.is_file()}


@examples(5, 20)
@given(seed=st.integers(0, 2**32), actions=st.lists(st.sampled_from(ACTIONS), min_size=1, max_size=9))
def test_cleaning_up_after_any_commits_removes_no_file_that_is_named(seed: int, actions: list[str]) -> None:
    with tempfile.TemporaryDirectory() as folder, catalog(Path(folder)) as lake_catalog:
        table = lake_catalog.create("t", SCHEMA)
        series = Series(table, random.Random(seed), lake_catalog)
        for action in (*actions, "clean up"):
            series.act(action)
        series.check()


def test_snapshots_expire_by_age_but_the_newest_and_the_branches(tmp_path: Path) -> None:
    with catalog(tmp_path) as lake_catalog, mock.patch.object(expiry, "KEEP_SNAPSHOTS", 2):
        table = lake_catalog.create("t", SCHEMA)
        base = data_files(table, [(0, "x")])
        table = commit(table, Delta(added=base), (Delta(added=base), "export"))
        for _ in range(4):
            table = commit(table, Delta())
        assert expire_snapshots(table, AT_ONCE, datetime(2020, 1, 1, tzinfo=UTC)) == 0
        assert expire_snapshots(table, AT_ONCE, LATER) == 3
        now = lake_catalog.table("t")
        assert now is not None
        assert len(now.snapshots()) == 3
        assert now.snapshot_by_name("export") is not None
        assert expire_snapshots(now, AT_ONCE, LATER) == 0


def test_expiry_that_another_writer_beats_expires_nothing(tmp_path: Path) -> None:
    with catalog(tmp_path) as lake_catalog, mock.patch.object(expiry, "KEEP_SNAPSHOTS", 1):
        table = commit(commit(lake_catalog.create("t", SCHEMA), Delta()), Delta())
        with mock.patch.object(type(table.catalog), "commit_table", side_effect=CommitFailedException):
            assert expire_snapshots(table, AT_ONCE, LATER) == 0


def test_expiry_of_what_another_writer_has_expired_changes_nothing(tmp_path: Path) -> None:
    with catalog(tmp_path) as lake_catalog, mock.patch.object(expiry, "KEEP_SNAPSHOTS", 1):
        commit(commit(lake_catalog.create("t", SCHEMA), Delta()), Delta())
        first, second = lake_catalog.table("t"), lake_catalog.table("t")
        assert first is not None
        assert second is not None
        assert expire_snapshots(first, AT_ONCE, LATER) == 1
        assert expire_snapshots(second, AT_ONCE, LATER) == 1, "as it knows the table"
        now = lake_catalog.table("t")
        assert now is not None and len(now.snapshots()) == 1


def test_expiry_while_the_catalog_is_locked_is_left_for_another_time(tmp_path: Path) -> None:
    locked = OperationalError("UPDATE", {}, sqlite3.OperationalError("database is locked"))
    with catalog(tmp_path) as lake_catalog, mock.patch.object(expiry, "KEEP_SNAPSHOTS", 1):
        table = commit(commit(lake_catalog.create("t", SCHEMA), Delta()), Delta())
        with mock.patch.object(type(table.catalog), "commit_table", side_effect=locked):
            assert expire_snapshots(table, AT_ONCE, LATER) == 0


def test_young_orphans_are_left_alone(tmp_path: Path) -> None:
    with catalog(tmp_path) as lake_catalog:
        table = lake_catalog.create("t", SCHEMA)
        named = data_files(table, [(0, "x")])
        orphans = data_files(table, [(1, "y")])
        table = commit(table, Delta(added=named))
        found = [(f"file://{path}", 1_000) for path in files_of(table)]
        assert unnamed(found, referenced(table), 1_000) == []
        assert unnamed(found, referenced(table), 1_001) == [f"file://{file.file_path}" for file in orphans]


def test_files_of_the_current_snapshot_are_named(tmp_path: Path) -> None:
    with catalog(tmp_path) as lake_catalog:
        table = lake_catalog.create("t", SCHEMA)
        assert referenced(table) == files_of(table)
        added = data_files(table, [(0, "x"), (1, "y")])
        table = commit(table, Delta(added=added))
        table = commit(table, Delta(deletes=delete_files(table, (added[0].file_path, 0))))
        live = live_files(table)
        assert {f.file_path for f in (*live.data, *live.deletes)} < referenced(table) == files_of(table)


def test_statistics_of_other_engines_are_named(tmp_path: Path) -> None:
    with catalog(tmp_path) as opened:
        table = opened.create("t", SCHEMA)
        table = commit(table, Delta(added=data_files(table, [(1, "a")])))
        snapshot = table.current_snapshot()
        assert snapshot is not None
        path = f"{table.location()}/metadata/theta.stats"
        with table.update_statistics() as update:
            update.set_statistics(
                StatisticsFile(
                    snapshot_id=snapshot.snapshot_id,
                    statistics_path=path,
                    file_size_in_bytes=1,
                    file_footer_size_in_bytes=1,
                    blob_metadata=[],
                )
            )
        assert unnamed([(path, 0)], referenced(table), LATER_US) == []
