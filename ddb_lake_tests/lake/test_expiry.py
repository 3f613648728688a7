"""Each commit expires old snapshots, and a table that another tool rolled back is noticed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyiceberg.table import Table
from pyiceberg.table.snapshots import Snapshot
from pyiceberg.table.update import update_table_metadata

from ddb_lake.config import SnapshotSettings
from ddb_lake.errors import DamagedError
from ddb_lake.lake.commit import Commit, Delta, check_newest_commit
from ddb_lake.lake.expiry import KEEP_SNAPSHOTS, RemoveSnapshots, snapshots_to_expire
from ddb_lake_tests.support.effort import examples
from ddb_lake_tests.support.iceberg_table import SCHEMA, catalog, commit, data_files, roll_back, rows

DAY_MS = 24 * 3600 * 1000


@pytest.fixture
def table(tmp_path: Path) -> Iterator[Table]:
    with catalog(tmp_path) as opened:
        yield opened.create("t", SCHEMA)


def test_commit_leaves_as_many_snapshots_as_are_kept_and_every_branch(table: Table) -> None:
    base = data_files(table, [(0, "x")])
    table = commit(table, Delta(added=base), (Delta(added=base), "export-1"))
    for number in range(8):
        made = Commit(table, SnapshotSettings(keep=3))
        made.snapshot(Delta(added=data_files(table, [(number, "y")])))
        table = made.run()
        on_main = {s.snapshot_id for s in table.snapshots()} - {table.metadata.refs["export-1"].snapshot_id}
        assert len(on_main) == min(number + 2, 3)
    assert len(rows(table)) == 9
    assert rows(table, table.metadata.refs["export-1"].snapshot_id) == [(0, "x")]


def test_commit_to_a_table_with_many_snapshots_leaves_a_hundred(table: Table) -> None:
    """Those of an earlier release, all in one commit. It compares no snapshot with each of the others."""
    table = commit(table, Delta(added=data_files(table, [(0, "x")])))
    head = table.current_snapshot()
    assert head is not None
    copies = [
        head.model_copy(update={"snapshot_id": head.snapshot_id - n, "sequence_number": 0}) for n in range(1, 5000)
    ]
    table.metadata = table.metadata.model_copy(update={"snapshots": [*copies, head]})
    expired = snapshots_to_expire(table.metadata, SnapshotSettings(), head.timestamp_ms)
    assert len(expired) == 4900
    after = update_table_metadata(table.metadata, (RemoveSnapshots(snapshot_ids=expired),))
    assert len(after.snapshots) == 100
    assert after.current_snapshot_id == head.snapshot_id


def test_commit_that_expires_snapshots_copies_none_and_leaves_the_former_metadata(
    table: Table, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = SnapshotSettings(keep=3)
    for number in range(4):
        made = Commit(table, kept)
        made.snapshot(Delta(added=data_files(table, [(number, "x")])))
        table = made.run()
    former, stated = table.metadata, table.metadata.model_dump_json()

    def refused(*_: object) -> None:
        raise AssertionError("a snapshot was copied")

    monkeypatch.setattr(Snapshot, "__deepcopy__", refused)
    made = Commit(table, kept)
    made.snapshot(Delta(added=data_files(table, [(4, "x")])))
    table = made.run()
    assert former.model_dump_json() == stated
    assert [s.sequence_number for s in table.metadata.snapshots] == [3, 4, 5]
    assert table.metadata == table.refresh().metadata
    with pytest.raises(AssertionError, match="copied"):
        update_table_metadata(table.metadata, ())


@pytest.fixture(scope="module")
def committed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Table]:
    with catalog(tmp_path_factory.mktemp("lake")) as opened:
        yield commit(opened.create("t", SCHEMA), Delta())


@given(data=st.data())
@examples(30, 300)
def test_snapshots_expire_by_count_and_by_age_but_never_a_head(committed: Table, data: st.DataObject) -> None:
    """Against a model that walks over the snapshots from the newest to the oldest."""
    table = committed
    head = table.current_snapshot()
    assert head is not None
    ages = sorted(data.draw(st.lists(st.integers(0, 20), min_size=1, max_size=30)), reverse=True)
    snapshots = [
        head.model_copy(
            update={"snapshot_id": n + 1, "sequence_number": n + 1, "timestamp_ms": head.timestamp_ms - age * DAY_MS}
        )
        for n, age in enumerate(ages)
    ]
    branch = data.draw(st.sampled_from(snapshots))
    main = table.metadata.refs["main"].model_copy(update={"snapshot_id": snapshots[-1].snapshot_id})
    refs = {"main": main, "export-1": main.model_copy(update={"snapshot_id": branch.snapshot_id})}
    metadata = table.metadata.model_copy(update={"snapshots": snapshots, "refs": refs})
    keep, days = data.draw(st.integers(1, 30)), data.draw(st.integers(0, 20))
    expired = snapshots_to_expire(metadata, SnapshotSettings(keep=keep, keep_for=f"{days}d"), head.timestamp_ms)

    kept: list[int] = []
    for snapshot, age in sorted(zip(snapshots, ages, strict=True), key=lambda pair: -pair[0].snapshot_id):
        if snapshot in (branch, snapshots[-1]):
            continue
        if len(kept) + 1 < keep and (len(kept) + 1 < KEEP_SNAPSHOTS or age <= days):
            kept.append(snapshot.snapshot_id)
    others = {s.snapshot_id for s in snapshots} - {branch.snapshot_id, snapshots[-1].snapshot_id}
    assert set(expired) == others - set(kept)
    after = update_table_metadata(metadata, (RemoveSnapshots(snapshot_ids=[*expired, 10**6]),))
    assert {s.snapshot_id for s in after.snapshots} == {s.snapshot_id for s in snapshots} - set(expired)


# --- a table that was rolled back


def test_table_that_was_rolled_back_is_damaged_until_it_is_moved_forward(table: Table) -> None:
    check_newest_commit(table)
    for number in range(3):
        table = commit(table, Delta(added=data_files(table, [(number, "x")])))
        check_newest_commit(table)
    for commits in (1, 2):
        table = roll_back(table, commits)
        with pytest.raises(DamagedError, match=r"another tool rolled it back.*ddb-lake rebuild t"):
            check_newest_commit(table)
        with pytest.raises(DamagedError, match="ddb-lake rebuild t"):
            commit(table, Delta())
        table = roll_back(table, 0)
        check_newest_commit(table)


def test_commits_of_other_tools_and_expired_snapshots_are_no_fault(table: Table) -> None:
    table = commit(table, Delta(added=data_files(table, [(1, "x")])))
    table.append(table.scan().to_arrow())
    check_newest_commit(table)
    head = table.current_snapshot()
    assert head is not None
    earlier = [s.snapshot_id for s in table.snapshots() if s != head]
    table.maintenance.expire_snapshots().by_ids(earlier).commit()
    assert [s.snapshot_id for s in table.refresh().snapshots()] == [head.snapshot_id]
    check_newest_commit(table)


def test_table_rolled_back_to_a_time_before_the_first_commit_with_an_id_is_damaged(table: Table) -> None:
    table.append(pa.table({"id": [1], "v": ["x"]}, schema=table.schema().as_arrow()))
    first = table.refresh()
    check_newest_commit(first)
    table = commit(first, Delta())
    with pytest.raises(DamagedError, match="rebuild"):
        check_newest_commit(roll_back(table, 1))


def test_commit_that_replaces_all_rows_of_a_table_that_was_rolled_back_is_the_cure(table: Table) -> None:
    for number in range(2):
        table = commit(table, Delta(added=data_files(table, [(number, "x")])))
    table = commit(roll_back(table, 1), Delta(added=data_files(table, [(9, "y")]), replace_all=True))
    check_newest_commit(table)
    assert rows(table) == [(9, "y")]
