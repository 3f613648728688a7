"""The ledger: when an object is added, what a look-up reads, how many files there are, and lakes of format 1."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import orjson
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ddb_lake.aws.objects import ObjectRef
from ddb_lake.errors import UsageError
from ddb_lake.lake.commit import Commit
from ddb_lake.lake.lake_format import FORMAT
from ddb_lake.lake.size_tiers import groups_to_merge
from ddb_lake.pipeline.apply import changelog, ledger
from ddb_lake.pipeline.apply.apply import apply_objects
from ddb_lake.pipeline.apply.deduplication import Figures
from ddb_lake.pipeline.apply.ledger import add_objects, ledger_rows, read_ledger
from ddb_lake.pipeline.apply.object_reader import IngestedObject
from ddb_lake.pipeline.maintain.compact import compact_table
from ddb_lake.pipeline.maintain.quarantine import replay_quarantine
from ddb_lake.pipeline.merge.sources import applied_removals
from ddb_lake.pipeline.open_lake import Lake
from ddb_lake.pipeline.read.status import table_status
from ddb_lake_tests.support.effort import examples
from ddb_lake_tests.support.export_files import MINUTE_US, T0_US, change, item, land, sorted_items
from ddb_lake_tests.support.format_1 import make_format_1
from ddb_lake_tests.support.several_tables import dumped, lake_of, queried

pytestmark = pytest.mark.usefixtures("no_source")

ORDERS = {"name": "orders"}


@pytest.fixture
def lake(tmp_path: Path) -> Iterator[Lake]:
    with lake_of(tmp_path / "lake", ORDERS) as opened:
        yield opened


def objects_of(lake: Lake) -> list[tuple[Any, ...]]:
    """Name, records and new records of each object in the ledger."""
    return queried(lake, "SELECT parse_filename(object), records, new FROM orders_objects ORDER BY ALL")


def metadata_of(lake: Lake) -> str:
    """The newest metadata file of the changelog."""
    changes = lake.changes("orders")
    assert changes is not None
    return str(changes.metadata_location)


# --- the order of the commits


def test_records_are_committed_before_their_object_is_in_the_ledger(lake: Lake, tmp_path: Path) -> None:
    committed: list[str] = []
    original = Commit.run

    def run(commit: Commit) -> Any:
        committed.append(commit._table.name()[-1])
        return original(commit)

    with mock.patch.object(Commit, "run", run):
        apply_objects(lake, "orders", [land(tmp_path / "object", change(T0_US, item("a", v=1)), "\ngarbage\n")])
    assert committed == ["orders_quarantine", "orders_changes", "orders_objects", "orders"]


def test_object_of_a_run_that_ended_before_the_ledger_is_read_again_and_adds_nothing(
    lake: Lake, tmp_path: Path
) -> None:
    landed = land(tmp_path / "object", change(T0_US, item("a", v=1)), change(T0_US, item("b", v=1)))
    with mock.patch.object(changelog, "add_objects", side_effect=KeyboardInterrupt), pytest.raises(KeyboardInterrupt):
        apply_objects(lake, "orders", [landed])
    before = metadata_of(lake)
    assert (objects_of(lake), table_status(lake, "orders").changes) == ([], 2)
    again = apply_objects(lake, "orders", [landed])
    assert (again.new, again.duplicates) == (0, 2)
    assert objects_of(lake) == [("object", 2, 0)]
    assert metadata_of(lake) == before
    assert dumped(lake) == sorted_items([item("a", v=1), item("b", v=1)])


def test_object_without_a_new_record_changes_the_ledger_alone(lake: Lake, tmp_path: Path) -> None:
    record = change(T0_US, item("a", v=1))
    apply_objects(lake, "orders", [land(tmp_path / "first", record)])
    before = metadata_of(lake)
    apply_objects(lake, "orders", [land(tmp_path / "second", record, record)])
    assert metadata_of(lake) == before
    assert objects_of(lake) == [("first", 1, 1), ("second", 2, 0)]
    assert table_status(lake, "orders").pending_batches == 0


def test_entry_whose_replay_was_killed_before_the_ledger_is_not_ingested_with_other_bytes(
    lake: Lake, tmp_path: Path
) -> None:
    apply_objects(lake, "orders", [land(tmp_path / "object", "\ngarbage\n")])
    ((entry,),) = queried(lake, "SELECT quarantine_id FROM orders_quarantine")
    corrected = [orjson.dumps(change(T0_US, item("a", v=number))) for number in (1, 2)]
    with mock.patch.object(changelog, "add_objects", side_effect=KeyboardInterrupt), pytest.raises(KeyboardInterrupt):
        replay_quarantine(lake, "orders", {entry: corrected[0]})
    result = replay_quarantine(lake, "orders", {entry: corrected[1]})
    assert (result.replayed, result.new) == (1, 0)
    assert dumped(lake) == sorted_items([item("a", v=1)])
    assert queried(lake, "SELECT count(*) FROM orders_quarantine") == [(0,)]


def test_removals_of_a_batch_that_is_not_applied_are_left_out(lake: Lake, tmp_path: Path) -> None:
    for number, key in enumerate("ab"):
        removal = change(T0_US + number * MINUTE_US, None, item(key, v=1))
        apply_objects(lake, "orders", [land(tmp_path / key, removal)])
    changes = lake.changes("orders")
    assert changes is not None
    with lake.session() as session:
        for applied, from_us, found in ((2, T0_US, 2), (1, T0_US, 1), (0, T0_US, 0), (2, T0_US + 1, 1)):
            relation = applied_removals(changes, applied, from_us)
            assert session.value(f"SELECT count(*) FROM {relation.sql}") == found
        assert len(applied_removals(changes, 2, T0_US + 1).files) == 1, "the file of the earlier removal is read"


# --- what is in the ledger


def rows_of(lake: Lake, names: list[str]) -> pa.Table:
    objects = [IngestedObject(ObjectRef(name, "1", 9, T0_US), T0_US, 1) for name in names]
    return ledger_rows(lake, "orders", list(enumerate(objects)), Figures())


@given(st.lists(st.lists(st.text("abc/é", min_size=1, max_size=30), max_size=12), max_size=40))
@examples(5, 40, 100)
def test_ledger_has_each_object_once_in_few_files_from_any_writer(batches: list[list[str]]) -> None:
    """Against a set. Each second batch is added with the ledger as it was at the beginning, as a second writer does."""
    with tempfile.TemporaryDirectory() as folder, lake_of(Path(folder), ORDERS) as lake, lake.session() as session:
        first, model = read_ledger(lake, "orders"), set[str]()
        for number, batch in enumerate(batches):
            known = first if number % 2 else read_ledger(lake, "orders")
            fresh = sorted(set(batch) - known.ingested_names(session, batch))
            add_objects(lake, session, "orders", rows_of(lake, fresh), known)
            model.update(batch)
            now = read_ledger(lake, "orders")
            assert sorted(name for (name,) in session.rows(f"SELECT object FROM {now.sql()}")) == sorted(model)
            assert now.rows == len(model)
            groups = groups_to_merge(now.scan.live.data, lambda file: file.record_count)
            assert all(len(group) == 1 for group in groups)
            asked = [name for other in batches[:5] for name in other]
            assert now.ingested_names(session, asked) == model & set(asked)
            pairs = [(name, version) for name in asked for version in "12"]
            assert now.ingested(session, pairs) == {(name, "1") for name in model & set(asked)}


def test_look_up_reads_only_files_that_may_have_the_name(lake: Lake) -> None:
    prefix = "s3://a-bucket/a/prefix/of/more/than/sixteen/characters/"
    with lake.session() as session:
        for part in ("2026/01", "2026/02", "2026/03"):
            known = read_ledger(lake, "orders")
            add_objects(lake, session, "orders", rows_of(lake, [f"{prefix}{part}/{n}" for n in range(3)]), known)
    found = read_ledger(lake, "orders")
    assert len(found.scan.paths) == 3
    for names, files in (([f"{prefix}2026/02/1"], 1), ([f"{prefix}2026/02/9"], 0), (["z", f"{prefix}2026/03/0"], 1)):
        assert len(found.files_of(names)) == files


# --- lakes of other formats


@pytest.mark.parametrize("lost", [(), (0,), (0, 1)], ids=["kept", "one file lost", "lost"])
def test_first_write_moves_the_ledger_of_format_1(lake: Lake, tmp_path: Path, lost: tuple[int, ...]) -> None:
    warned: list[str] = []
    lake.warn = warned.append
    landed = [land(tmp_path / name, change(T0_US + n, item(name, v=1))) for n, name in enumerate("abcd")]
    empty = land(tmp_path / "empty", change(T0_US, item("a"), table="unknown"))
    apply_objects(lake, "orders", [*landed[:3], empty])
    before = queried(lake, "SELECT * FROM orders_objects ORDER BY object")
    files = make_format_1(lake, "orders")
    for number in lost:
        files[number].unlink()

    assert table_status(lake, "orders").objects == 4
    if not lost:
        assert apply_objects(lake, "orders", [*landed[:3], empty]).already_ingested == 4, "before the upgrade"
        assert read_ledger(lake, "orders").format_1 is not None
    result = apply_objects(lake, "orders", [*landed, empty])

    assert (result.new, read_ledger(lake, "orders").format_1) == (1, None)
    assert dumped(lake) == sorted_items([item(name, v=1) for name in "abcd"])
    after = queried(lake, "SELECT * FROM orders_objects WHERE object NOT LIKE '%/d' ORDER BY object")
    assert (warned != []) == bool(lost)
    assert [row[0] for row in after] == [row[0] for row in before]
    if not lost:
        assert after == before
    assert apply_objects(lake, "orders", [*landed, empty]).already_ingested == 5
    state = metadata_of(lake)
    compact_table(lake, "orders")
    assert metadata_of(lake) == state, "it is upgraded once"


def test_upgrade_that_was_killed_between_its_commits_is_completed(lake: Lake, tmp_path: Path) -> None:
    landed = [land(tmp_path / name, change(T0_US + n, item(name, v=1))) for n, name in enumerate("abc")]
    apply_objects(lake, "orders", landed[:2])
    make_format_1(lake, "orders")
    with mock.patch.object(ledger, "_state_format", side_effect=KeyboardInterrupt), pytest.raises(KeyboardInterrupt):
        apply_objects(lake, "orders", landed)
    assert apply_objects(lake, "orders", landed).new == 1
    assert objects_of(lake) == [("a", 1, 1), ("b", 1, 1), ("c", 1, 1)]
    changes = lake.changes("orders")
    assert changes is not None and changes.properties["ddb_lake.format"] == str(FORMAT)


def test_lake_of_a_later_format_is_refused_and_the_release_is_named(lake: Lake, tmp_path: Path) -> None:
    apply_objects(lake, "orders", [land(tmp_path / "object", change(T0_US, item("a")))])
    changes = lake.changes("orders")
    assert changes is not None
    with changes.transaction() as transaction:
        transaction.set_properties({"ddb_lake.format": str(FORMAT + 1), "ddb_lake.release": "9.1.0"})
    with pytest.raises(
        UsageError, match=r"orders_changes: ddb_lake 9\.1\.0 wrote it.*install ddb_lake 9\.1\.0 or later"
    ):
        apply_objects(lake, "orders", [land(tmp_path / "other", change(T0_US, item("b")))])
