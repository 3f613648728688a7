"""Catalog, disk, clock and landing on bad days: every stage ends exact, or says what to do and has lost nothing."""

from __future__ import annotations

import resource
import signal
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from ddb_lake.aws.objects import ObjectStore
from ddb_lake.core.operations.retry_policy import RetryPolicy
from ddb_lake.core.operations.system import DISK_FULL, is_disk_full
from ddb_lake.errors import CommitStateUnknown, TransientError, UnreachableError, UsageError
from ddb_lake.lake.file_writer import FileWriter
from ddb_lake.pipeline.apply.apply import apply_refs
from ddb_lake.pipeline.load.load import load_export
from ddb_lake_tests.support.effort import cases
from ddb_lake_tests.support.export_files import HOUR_US, T0_US, change, full, increment, item, land, sorted_items
from ddb_lake_tests.support.failing_steps import explained, through
from ddb_lake_tests.support.fault_marks import fault
from ddb_lake_tests.support.folder_lake import lake
from ddb_lake_tests.support.folder_scenario import Ground
from ddb_lake_tests.support.iceberg_readers import count_rows
from ddb_lake_tests.support.killed_steps import PROCESSES, ended
from ddb_lake_tests.support.lake_contents import missing_files
from ddb_lake_tests.support.local_faults import NEW, OLD, answers_lost, catalog_away, full_disk
from ddb_lake_tests.support.several_tables import dumped

STAGES = ("load", "apply", "increment", "compact")


@pytest.fixture
def ground(tmp_path: Path) -> Ground:
    return Ground(tmp_path)


# --- the catalog


@fault("the catalog cannot be reached", *STAGES, ending="refused")
def test_catalog_that_is_away_is_reported_and_nothing_is_lost(ground: Ground, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ddb_lake.core.operations.retry_policy.COMMIT", RetryPolicy(attempts=2, longest_wait_s=2.0))
    with ground.lake() as opened:
        for name, stage in ground.stages(opened).items():
            with catalog_away(), pytest.raises(TransientError) as raised:
                stage()
            assert "catalog" in explained(raised.value), name
            stage()
        assert ground.wrong(opened) == []


@fault("the answer to a commit is lost", *STAGES)
@pytest.mark.parametrize("landed", (True, False), ids=("it landed", "it did not"))
def test_lost_answer_to_a_commit_is_reported_and_running_again_is_exact(ground: Ground, landed: bool) -> None:
    with ground.lake() as opened:
        for name, stage in ground.stages(opened).items():
            with answers_lost(landed) as lost:
                for _ in range(6):
                    try:
                        stage()
                    except CommitStateUnknown as error:
                        assert "Look at `ddb-lake status`" in explained(error)
                        assert missing_files(opened, [ground.scenario.table]) == set(), name
                    else:
                        break
                else:
                    pytest.fail(f"{name} does not end")
            assert lost, name
        assert ground.wrong(opened) == []


# --- the disk


@fault("the disk is full", *STAGES, ending="refused")
def test_full_disk_is_reported_and_nothing_is_lost(ground: Ground) -> None:
    with ground.lake() as opened:
        for name, stage in ground.stages(opened).items():
            with mock.patch.object(FileWriter, "write_paths", full_disk), pytest.raises(OSError) as raised:
                stage()
            assert DISK_FULL in explained(raised.value), name
            stage()
        assert ground.wrong(opened) == []


def limited(ground: Ground, stage: str, most_bytes: int) -> None:
    """Run a stage in this process, which may write no file beyond so many bytes."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (most_bytes, most_bytes))
    with ground.lake() as opened:
        try:
            ground.stages(opened)[stage]()
        except Exception as error:
            explained(error)
            raise SystemExit(3 if is_disk_full(error) else 4) from None


@fault("the file system accepts no more bytes", "load", "apply")
@pytest.mark.parametrize(
    ("stage", "most_bytes"),
    cases([("load", 1), ("apply", 6_000), ("apply", 12_000)], quick=[("apply", 12_000)]),
)
def test_write_that_the_file_system_refuses_leaves_a_lake_that_goes_on(
    ground: Ground, stage: str, most_bytes: int
) -> None:
    with ground.lake() as opened:
        if stage != "load":
            ground.stages(opened)["load"]()
    process = PROCESSES.Process(target=limited, args=(ground, stage, most_bytes))
    process.start()
    assert ended(process) != 0
    with ground.lake() as opened:
        for again in ground.stages(opened).values():
            again()
        assert ground.wrong(opened) == []
        assert missing_files(opened, [ground.scenario.table]) == set()


# --- the clock


@fault("the clock is wrong by a day", *STAGES, "dump")
@pytest.mark.parametrize("days", (-1, 1))
def test_clock_that_is_wrong_by_a_day_changes_no_item(ground: Ground, days: int) -> None:
    with ground.lake() as opened:
        opened.now = lambda: datetime.now(UTC) + timedelta(days=days)
        for stage in ground.stages(opened).values():
            stage()
        assert ground.wrong(opened) == []
        opened.now = lambda: datetime.now(UTC) - timedelta(days=days)
        for stage in ground.stages(opened).values():
            stage()
        assert ground.wrong(opened) == []


# --- landing changes under us


@fault("an object is rewritten after it was listed", "apply")
def test_object_rewritten_after_listing_is_ingested_as_it_is_then(ground: Ground) -> None:
    with ground.lake() as opened:
        name = ground.scenario.table
        first, second = change(T0_US, item("a"), table=name), change(T0_US + 1, item("b"), table=name)
        (listed,) = opened.objects.list(land(ground.landing / "a", first))
        land(ground.landing / "a", first, second)
        with pytest.raises(UnreachableError, match="rewritten after it was listed"):
            apply_refs(opened, ground.scenario.table, [listed])
        assert opened.changes(ground.scenario.table) is None
        stages = ground.stages(opened)
        stages["apply"]()
        assert count_rows(opened, f"{ground.scenario.table}_changes") == ground.scenario.expected_records + 2


@fault("an object is removed after it was listed", "apply")
def test_object_removed_after_listing_is_reported_and_the_others_are_ingested(ground: Ground) -> None:
    with ground.lake() as opened:
        spare = ground.landing / "spare"
        land(spare, "\n")
        original, gone = ObjectStore.fetch, []

        def fetch(store: ObjectStore, ref: Any) -> bytes:
            if ref.uri == str(spare) and not gone:
                gone.append(spare.unlink())
            return original(store, ref)

        stages = ground.stages(opened)
        stages["load"]()
        with mock.patch.object(ObjectStore, "fetch", fetch):
            refused = through(stages["apply"], lambda: None)
        assert [said for said in refused if "removed after it was listed" in said] and gone
        stages["increment"]()
        assert ground.wrong(opened) == []


# --- another table under the same name


@fault("the source is deleted and created again", "load", "increment", ending="refused")
def test_export_of_a_table_created_again_is_refused_until_it_is_stated_to_replace_the_old(tmp_path: Path) -> None:
    with lake(tmp_path / "lake", "orders", ["id"]) as opened:
        before = full([item("a", v=1), item("b", v=1)]).write(tmp_path / "old")
        load_export(opened, "orders", str(before))
        day_us = T0_US + 24 * HOUR_US
        again = full([item("b", v=9)], at_us=day_us, summary={"tableId": NEW}).write(tmp_path / "new")
        window = {"at_us": day_us + HOUR_US, "window": day_us, "summary": {"tableId": NEW}}
        changed = increment((day_us + 5, item("c", v=1), item("c")), **window).write(tmp_path / "increment")
        for uri in (again, changed):
            with pytest.raises(UsageError, match=f"id {NEW}.*id {OLD}.*created again.*--recreated"):
                load_export(opened, "orders", str(uri))
        with pytest.raises(UsageError, match="Take a full export of the new table"):
            load_export(opened, "orders", str(changed), recreated=True)
        assert dumped(opened) == sorted_items([item("a", v=1), item("b", v=1)])
        load_export(opened, "orders", str(again), recreated=True)
        assert dumped(opened) == sorted_items([item("b", v=9)])
        load_export(opened, "orders", str(changed))
        assert dumped(opened) == sorted_items([item("b", v=9), item("c", v=1)])
        assert load_export(opened, "orders", str(before)).already_loaded
        assert dumped(opened, as_of_us=T0_US + HOUR_US) == sorted_items([item("a", v=1), item("b", v=1)])
