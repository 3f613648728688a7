"""Rebuilds: whatever a lake has lost, it is then the one that the model demands."""

from __future__ import annotations

import fcntl
import os
import random
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import orjson
import pytest
from click.testing import CliRunner
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pyiceberg.table import Table

from ddb_lake.cli.app import cli
from ddb_lake.config import parse_settings
from ddb_lake.errors import CheckFailed, DamagedError, UsageError
from ddb_lake.executors import open_lake
from ddb_lake.lake.replacement import replace_contents
from ddb_lake.pipeline.agreement import agreeing_tables
from ddb_lake.pipeline.apply.apply import apply_objects
from ddb_lake.pipeline.load.load import load_export
from ddb_lake.pipeline.maintain import rebuild
from ddb_lake.pipeline.maintain.compact import compact_table
from ddb_lake.pipeline.maintain.rebuild import rebuild_state, rebuild_table, register_lost
from ddb_lake.pipeline.merge.current import has_unmerged_changes, update_current
from ddb_lake.pipeline.open_lake import Lake
from ddb_lake.pipeline.plan.arrivals import list_unapplied
from ddb_lake.pipeline.read.dump import dump_items
from ddb_lake.pipeline.read.files import check_files
from ddb_lake.pipeline.sync import sync
from ddb_lake_tests.simulator import Scenario, write
from ddb_lake_tests.support.crashing_lake import Crash
from ddb_lake_tests.support.effort import by_effort
from ddb_lake_tests.support.export_files import HOUR_US, MINUTE_US, T0_US, change, full, item, land
from ddb_lake_tests.support.folder_lake import lake
from ddb_lake_tests.support.format_1 import make_format_1
from ddb_lake_tests.support.history_steps import differences, run_step, steps
from ddb_lake_tests.support.killed_steps import instrumented
from ddb_lake_tests.support.lake_contents import small_scenario
from ddb_lake_tests.support.lost_files import LOSSES

ONE_LOSS = ("lose_data_file",)


def rebuilt(scenario: Scenario, losses: list[str], seed: int) -> None:
    """Load and apply a scenario, lose something, rebuild, and compare with the model."""
    rnd = random.Random(seed)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name).resolve()
        write(scenario, folder)
        table = scenario.table
        options = {
            "changes": {"uri": str(folder / "landing")},
            "snapshot_margin": f"{scenario.clock_skew_us // 1_000_000}s",
        }
        with lake(folder / "lake", table, scenario.key_names, **options) as opened:
            for step in steps(scenario, folder, rnd):
                run_step(opened, table, step)
            lost = [LOSSES[loss](opened, table, rnd) for loss in losses]
        exports = [str(folder / "exports" / str(number)) for number in range(len(scenario.exports))]
        with lake(folder / "lake", table, scenario.key_names, **options) as opened:
            result = rebuild_table(opened, table, exports, without_exports=not exports)
            assert differences(opened, scenario) == [], f"lost {lost}; {result}"
            check_files(opened, table)
            again = rebuild_table(opened, table)
            assert (again.rows, again.records, again.registered) == (result.rows, result.records, ())
            assert differences(opened, scenario) == []


@pytest.mark.exhaustive
@pytest.mark.parametrize("loss", LOSSES)
def test_lake_that_lost_something_is_rebuilt_exactly(loss: str) -> None:
    rebuilt(small_scenario(seed=3, keys=5, writes=14, objects=3), [loss], seed=len(loss))


@pytest.mark.exhaustive
@settings(max_examples=by_effort(1, 5, 60))
@example(0, ["damage_metadata"], 4701)  # the newest metadata file is cut short
@given(
    st.integers(0, 10_000), st.lists(st.sampled_from(sorted(LOSSES)), min_size=1, max_size=2), st.integers(0, 10_000)
)
def test_any_history_that_lost_anything_is_rebuilt_exactly(history: int, losses: list[str], seed: int) -> None:
    rebuilt(small_scenario(history, keys=8, writes=30, objects=5), losses, seed)


@pytest.mark.exhaustive
@pytest.mark.parametrize("loss", by_effort(ONE_LOSS, ONE_LOSS, (*ONE_LOSS, "lose_catalog")))
def test_rebuild_that_is_killed_at_any_point_ends_exactly_and_readers_are_never_wrong(
    loss: str, tmp_path: Path
) -> None:
    """The first run dies after its first step, the second one after its second, and so on; a step may be one of an earlier run."""
    scenario = small_scenario(seed=5, keys=4, writes=10, objects=2)
    write(scenario, tmp_path)
    settings = {"changes": {"uri": str(tmp_path / "landing")}}
    exports = [str(tmp_path / "exports" / str(number)) for number in range(len(scenario.exports))]
    with lake(tmp_path / "lake", scenario.table, scenario.key_names, **settings) as opened:
        for step in steps(scenario, tmp_path, random.Random(1)):
            run_step(opened, scenario.table, step)
        LOSSES[loss](opened, scenario.table, random.Random(2))
    kills = 0
    while True:
        passed = 0

        def step_passed(_name: str, last: int = kills + 1) -> None:
            nonlocal passed
            passed += 1
            if passed == last:
                raise Crash

        with lake(tmp_path / "lake", scenario.table, scenario.key_names, **settings) as opened:
            try:
                with instrumented(step_passed):
                    rebuild_table(opened, scenario.table, exports, without_exports=not exports)
            except Crash:
                kills += 1
            else:
                break
    assert kills > 5
    with lake(tmp_path / "lake", scenario.table, scenario.key_names, **settings) as opened:
        assert differences(opened, scenario) == []
        check_files(opened, scenario.table)


@contextmanager
def orders(folder: Path, **settings: Any) -> Iterator[Lake]:
    with lake(folder / "lake", "orders", ["id"], changes={"uri": str(folder / "landing")}, **settings) as opened:
        yield opened


def made(opened: Lake, folder: Path) -> str:
    """A lake of one export and two applied objects; the export's manifest."""
    manifest = str(full([item(f"o{n}", v=n) for n in range(4)]).write(folder / "exports"))
    load_export(opened, "orders", manifest)
    for number in (1, 2):
        record = change(T0_US + number * MINUTE_US, item(f"o{number}", v=10 * number))
        apply_objects(opened, "orders", [land(folder / f"landing/2026/03/01/09/{number}", record)])
    return manifest


def items(opened: Lake) -> list[bytes]:
    return sorted(dump_items(opened, "orders"))


def test_records_that_no_landed_object_has_stop_the_rebuild_and_are_dropped_on_request(tmp_path: Path) -> None:
    with orders(tmp_path) as opened:
        made(opened, tmp_path)
        before = items(opened)
        (tmp_path / "landing/2026/03/01/09/2").unlink()
        with pytest.raises(
            CheckFailed, match="1 change record of the former changelog is in no landed object"
        ) as raised:
            rebuild_table(opened, "orders")
        assert "landing/2026/03/01/09/2" in raised.value.what
        assert items(opened) == before
        result = rebuild_table(opened, "orders", drop_unlanded=True)
        assert (result.dropped, result.records, result.rows) == (1, 1, 4)
        assert items(opened) != before


def test_export_that_is_loaded_and_not_found_stops_the_rebuild(tmp_path: Path) -> None:
    with orders(tmp_path) as opened:
        made(opened, tmp_path)
        before = items(opened)
        (tmp_path / "exports").rename(tmp_path / "moved")
        with pytest.raises(UsageError, match="name its folder by `--export`"):
            rebuild_table(opened, "orders")
        assert rebuild_table(opened, "orders", [str(tmp_path / "moved")]).exports == 1
        assert items(opened) == before


def metadata(opened: Lake, name: str) -> list[Path]:
    """The metadata files of an Iceberg table, the newest last."""
    return sorted(Path(opened.catalog.location(name), "metadata").glob("*.metadata.json"))


def drop(opened: Lake, name: str) -> None:
    """Drop an Iceberg table with its files, as `DROP TABLE` of Athena does."""
    table = opened.catalog.table(name)
    assert table is not None
    opened.catalog.catalog.drop_table(table.name())
    shutil.rmtree(table.location())


@pytest.mark.parametrize("kept", [0, 1])
def test_rebuild_whose_exports_are_not_known_stops_until_they_are_named(kept: int, tmp_path: Path) -> None:
    """The metadata that names the export is lost: all of it, or all but the first file. The changelog names it too."""
    with orders(tmp_path) as opened:
        manifest = made(opened, tmp_path)
        before = items(opened)
        for name in ("orders", "orders_changes"):
            for path in metadata(opened, name)[kept:]:
                path.unlink()
        for _ in range(2):
            with pytest.raises(UsageError, match="not known which exports were loaded, and no full export is named"):
                rebuild_table(opened, "orders")
        assert "1 full export found" in " ".join(rebuild_table(opened, "orders", [manifest]).notes)
        assert items(opened) == before
        check_files(opened, "orders")
        assert rebuild_table(opened, "orders").notes == ()


def test_rebuild_of_a_lake_without_any_file_continues_after_it_was_interrupted(tmp_path: Path) -> None:
    with orders(tmp_path) as opened:
        manifest = made(opened, tmp_path)
        before = items(opened)
    shutil.rmtree(tmp_path / "lake")
    with orders(tmp_path) as opened:
        with pytest.raises(UsageError):
            rebuild_table(opened, "orders")
        assert metadata(opened, "orders_changes"), "working tables are at the location of the lost ones"
        rebuild_table(opened, "orders", [manifest])
        assert items(opened) == before


@pytest.mark.parametrize("loss", ["newest metadata", "table"])
def test_changelog_that_lost_commits_is_reported_and_takes_no_records(loss: str, tmp_path: Path) -> None:
    """Else new records would get numbers of batches that are applied already, and would never be merged."""
    with orders(tmp_path) as opened:
        made(opened, tmp_path)
        if loss == "table":
            drop(opened, "orders_changes")
        else:
            metadata(opened, "orders_changes")[-1].unlink()
            assert register_lost(opened, "orders") == ("orders_changes",)
        with pytest.raises(DamagedError, match=r"its last commits are (lost|missing).*ddb-lake rebuild orders`"):
            check_files(opened, "orders")
        new = land(tmp_path / "landing/2026/03/01/10/3", change(T0_US + HOUR_US, item("new", v=1)))
        for _ in range(2):
            with pytest.raises(DamagedError, match="its last commits are lost"):
                apply_objects(opened, "orders", [new])
            with pytest.raises(DamagedError, match="its last commits are lost"):
                has_unmerged_changes(opened, "orders")
        rebuild_table(opened, "orders")
        check_files(opened, "orders")
        assert {b'"v":{"N":"10"}' in line for line in items(opened) if b'"o1"' in line} == {True}
        assert any(b'"new"' in line for line in items(opened))


def test_current_that_lost_its_newest_metadata_is_reported_until_it_is_rebuilt(tmp_path: Path) -> None:
    with orders(tmp_path) as opened:
        manifest = made(opened, tmp_path)
        before = items(opened)
        metadata(opened, "orders")[-1].unlink()
        register_lost(opened, "orders")
        assert update_current(opened, "orders").changed
        assert items(opened) == before
        with pytest.raises(DamagedError, match="registered by an earlier metadata file"):
            check_files(opened, "orders")
        rebuild_table(opened, "orders", [manifest])
        check_files(opened, "orders")


@pytest.mark.parametrize("cure", ["rebuild", "load"])
def test_current_that_was_dropped_is_not_built_from_changes_alone(cure: str, tmp_path: Path) -> None:
    """One export was loaded before the changelog existed, one after. Nothing but the changelog names them any more."""
    with orders(tmp_path) as opened:
        manifest = made(opened, tmp_path)
        newer = full([item("newer", v=1)], at_us=T0_US + HOUR_US).write(tmp_path / "exports")
        load_export(opened, "orders", str(newer))
        before = items(opened)
        drop(opened, "orders")
        new = land(tmp_path / "landing/2026/03/01/12/3", change(T0_US + 3 * HOUR_US, item("new", v=1)))
        lost = r"does not have exports that were loaded \(.*manifest-summary.json, .*manifest-summary.json\)"
        for attempt in (check_files, sync_of, has_unmerged_changes, update_current):
            with pytest.raises(DamagedError, match=lost):
                attempt(opened, "orders")
        with pytest.raises(DamagedError, match=lost):
            apply_objects(opened, "orders", [new])
        if cure == "rebuild":
            assert rebuild_table(opened, "orders").exports == 2
        else:
            load_export(opened, "orders", str(newer))
            with pytest.raises(DamagedError, match="does not have exports"):
                check_files(opened, "orders")
            load_export(opened, "orders", manifest)
        sync_of(opened, "orders")
        check_files(opened, "orders")
        new_item = [line for line in items(opened) if b'"new"' in line]
        assert len(new_item) == 1 and sorted(before + new_item) == items(opened)


def sync_of(opened: Lake, name: str) -> None:
    sync(opened, [name])


def test_named_export_that_is_gone_is_left_out_on_request(tmp_path: Path) -> None:
    with orders(tmp_path) as opened:
        made(opened, tmp_path)
        drop(opened, "orders")
        shutil.rmtree(tmp_path / "exports")
        with pytest.raises(UsageError, match="which is loaded, is not at"):
            rebuild_table(opened, "orders")
        assert rebuild_table(opened, "orders", without_exports=True).rows == 2
        check_files(opened, "orders")


@pytest.mark.parametrize("loss", ["removed", "damaged"])
def test_catalog_and_newest_metadata_of_current_that_are_lost_at_once_are_reported(loss: str, tmp_path: Path) -> None:
    """The last commit loaded an export. Without it, `current` looks like one to which no other export was loaded."""
    with orders(tmp_path) as opened:
        made(opened, tmp_path)
        newer = full([item("newer", v=1)], at_us=T0_US + HOUR_US).write(tmp_path / "exports")
        load_export(opened, "orders", str(newer))
        before = items(opened)
        newest = metadata(opened, "orders")[-1]
    (tmp_path / "lake/catalog.db").unlink()
    newest.unlink() if loss == "removed" else newest.write_bytes(newest.read_bytes()[:-9])
    with orders(tmp_path) as opened:
        assert "orders" in register_lost(opened, "orders")
        reported = "does not have exports" if loss == "removed" else "registered by an earlier metadata file"
        with pytest.raises(DamagedError, match=reported):
            check_files(opened, "orders")
        rebuild_table(opened, "orders")
        check_files(opened, "orders")
        assert items(opened) == before


def test_export_that_another_writer_loads_meanwhile_is_not_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with orders(tmp_path) as opened:
        made(opened, tmp_path)
        stale = opened.current("orders")
        newer = full([item("newer", v=1)], at_us=T0_US + HOUR_US).write(tmp_path / "exports")
        load_export(opened, "orders", str(newer))
        reads = [stale]
        fresh = Lake.current
        monkeypatch.setattr(Lake, "current", lambda lake, name: reads.pop() if reads else fresh(lake, name))
        tables = agreeing_tables(opened, "orders")
        assert not reads and tables.state is not None and len(tables.state.exports) == len(tables.log.exports) == 2


def test_ledger_files_of_an_earlier_release_that_are_deleted_are_reported_until_they_are_derived(
    tmp_path: Path,
) -> None:
    with orders(tmp_path) as opened:
        made(opened, tmp_path)
        files = make_format_1(opened, "orders")
        check_files(opened, "orders")
        files[0].unlink()
        with pytest.raises(DamagedError, match="of the ledger that an earlier release wrote"):
            check_files(opened, "orders")
        rebuild_state(opened, "orders")
        check_files(opened, "orders")


def test_quarantine_that_was_dropped_is_reported_until_it_is_rebuilt(tmp_path: Path) -> None:
    with orders(tmp_path) as opened:
        made(opened, tmp_path)
        check_files(opened, "orders")
        apply_objects(opened, "orders", [land(tmp_path / "landing/2026/03/01/10/3", b'{"no": "record"}')])
        check_files(opened, "orders")
        drop(opened, "orders_quarantine")
        with pytest.raises(DamagedError, match="ledger counts records that were put into it"):
            check_files(opened, "orders")
        assert rebuild_table(opened, "orders").quarantined == 1
        check_files(opened, "orders")


def test_object_that_is_applied_while_a_table_is_rebuilt_is_in_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another writer applies one object before each commit that replaces a table: each such commit is a conflict first."""
    with orders(tmp_path) as opened:
        made(opened, tmp_path)
        applied: list[str] = []

        def overtaken(table: Table, working: Table, summary: dict[str, str]) -> Table:
            name = table.name()[-1]
            if name not in applied:
                applied.append(name)
                record = change(T0_US + HOUR_US + len(applied), item(f"late {name}", v=1))
                apply_objects(opened, "orders", [land(tmp_path / f"landing/2026/03/01/10/{len(applied)}", record)])
            return replace_contents(table, working, summary)

        monkeypatch.setattr(rebuild, "replace_contents", overtaken)
        rebuild_table(opened, "orders")
        assert applied == ["orders_changes", "orders_objects", "orders"]
        expected = {b"o0", b"o1", b"o2", b"o3", *(f"late {name}".encode() for name in applied)}
        assert {orjson.loads(line)["Item"]["id"]["S"].encode() for line in items(opened)} == expected
        found = items(opened)
        again = apply_objects(
            opened, "orders", [str(tmp_path / "landing")]
        )  # what was added to the former ledger is read again
        assert (again.new, again.objects - again.already_ingested) == (0, 1)
        assert items(opened) == found
        check_files(opened, "orders")


def test_columns_keep_their_names(tmp_path: Path) -> None:
    """Two attributes compete for one name; the one that came first has it, also after a rebuild in another order."""
    with orders(tmp_path) as opened:
        apply_objects(
            opened, "orders", [land(tmp_path / "landing/2026/03/01/11/b", change(T0_US + HOUR_US, item("b", Size="x")))]
        )
        apply_objects(
            opened, "orders", [land(tmp_path / "landing/2026/03/01/09/a", change(T0_US, item("a", size="y")))]
        )
        table = opened.current("orders")
        assert table is not None
        names = {field.name: field.doc for field in table.schema().fields}
        rebuild_table(opened, "orders")
        table = opened.current("orders")
        assert table is not None and {field.name: field.doc for field in table.schema().fields} == names
        assert "Size" in names and "size" not in names


def test_ledger_is_derived_from_the_changelog(tmp_path: Path) -> None:
    with orders(tmp_path) as opened:
        made(opened, tmp_path)
        before = items(opened)
        ledger = opened.ledger("orders")
        assert ledger is not None
        shutil.rmtree(ledger.location())
        result = rebuild_state(opened, "orders")
        assert (result.objects, result.records) == (2, 2)
        check_files(opened, "orders")
        assert not list_unapplied(opened, opened.table("orders")).refs
        assert apply_objects(opened, "orders", [str(tmp_path / "landing")]).new == 0
        assert items(opened) == before


def test_records_of_other_tables_stay_in_theirs(tmp_path: Path) -> None:
    """Two tables whose records land in one folder. One of the tables is rebuilt."""
    tables = [
        {"name": name, "key": ["id"], "changes": {"uri": str(tmp_path / "landing")}} for name in ("orders", "users")
    ]
    settings = parse_settings({"warehouse": str(tmp_path / "lake"), "tables": tables}, "test")
    with open_lake(settings) as opened:
        for number in range(2):
            records = [
                change(T0_US + number, item(f"{name} {number}", v=number), table=name) for name in ("orders", "users")
            ]
            uri = land(tmp_path / f"landing/2026/03/01/09/{number}", *records)
            apply_objects(opened, "orders" if number else "users", [uri])
        users, snapshot = sorted(dump_items(opened, "users")), opened.changes("users")
        before = items(opened)
        assert len(before) == len(users) == 2
        LOSSES["lose_folder"](opened, "orders", random.Random(1))
        rebuild_table(opened, "orders", without_exports=True)
        assert items(opened) == before
        assert sorted(dump_items(opened, "users")) == users
        changes = opened.changes("users")
        assert changes is not None and snapshot is not None
        assert changes.metadata_location == snapshot.metadata_location


def test_rebuild_says_what_it_did(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "ddb_lake.yaml").write_text(
        "type: ddb_lake.DynamoDBLakeComponent\nattributes:\n  warehouse: lake\n  tables:\n"
        "    - {name: orders, key: [id], changes: {uri: landing}}\n"
    )
    with orders(tmp_path) as opened:
        made(opened, tmp_path)
    (tmp_path / "lake/catalog.db").unlink()
    run = CliRunner().invoke
    lost = run(cli, ["status"])
    assert lost.exit_code == 1 and "ddb-lake rebuild" in lost.stderr
    registered = run(cli, ["rebuild", "orders", "--register"])
    assert "orders, orders_changes, orders_objects" in registered.stdout
    assert run(cli, ["status"]).exit_code == 0
    document = orjson.loads(run(cli, ["rebuild", "orders", "--json"]).stdout)
    assert (document["rows"], document["exports"], document["objects"], document["records"]) == (4, 1, 2, 2)
    assert run(cli, ["rebuild", "orders", "--state", "--register"]).exit_code == 2
    assert "2 landed objects" in run(cli, ["rebuild", "orders", "--state"]).stdout


def test_two_rebuilds_of_a_table_exclude_each_other(tmp_path: Path) -> None:
    with orders(tmp_path) as opened:
        made(opened, tmp_path)
        folder = tmp_path / "lake/rebuild/orders"
        folder.mkdir(parents=True)
        with (folder / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            with pytest.raises(UsageError, match="a rebuild is running"):
                rebuild_table(opened, "orders")


def test_files_of_a_rebuild_under_way_are_no_orphans_and_those_of_an_interrupted_one_are(tmp_path: Path) -> None:
    with orders(tmp_path) as opened:
        made(opened, tmp_path)
        (tmp_path / "landing/2026/03/01/09/1").rename(tmp_path / "kept")
        with pytest.raises(CheckFailed):
            rebuild_table(opened, "orders")
        (tmp_path / "kept").rename(tmp_path / "landing/2026/03/01/09/1")
        location = Path(opened.catalog.location("orders"))
        there = set(location.rglob("*.parquet"))
        now = datetime.now(UTC)
        opened.now = lambda: now + timedelta(hours=2)
        os.utime(max(there, key=lambda path: path.stat().st_mtime), (0, 0))
        assert any("a rebuild that may be under way" in doubt for doubt in compact_table(opened, "orders").orphans_left)
        assert set(location.rglob("*.parquet")) >= there
        opened.now = lambda: now + timedelta(days=3)
        result = compact_table(opened, "orders")
        assert result.orphans_left == () and result.orphans_removed > 0
        check_files(opened, "orders")
        opened.now = lambda: datetime.now(UTC)
        before, warnings = items(opened), list[str]()
        opened.warn = warnings.append
        rebuild_table(opened, "orders")  # it does not continue with the working tables, whose files are gone
        assert [warning for warning in warnings if "it begins again" in warning]
        assert items(opened) == before
        check_files(opened, "orders")
