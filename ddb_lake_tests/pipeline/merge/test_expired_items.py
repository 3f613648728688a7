"""`ttl_deletes: keep`: the rows that Time to Live removed, against the simulator's own rule for them."""

from __future__ import annotations

import os
import random
import tempfile
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyiceberg.table import Table

from ddb_lake.core.values.change_record import Item
from ddb_lake.engine.inverse_projection import complete, item_sql
from ddb_lake.engine.session import Session
from ddb_lake.lake.scan import scan_table
from ddb_lake.lake.state import CurrentState
from ddb_lake.pipeline.local_executor import LocalExecutor
from ddb_lake.pipeline.maintain.compact import compact_table
from ddb_lake.pipeline.merge.sources import MergeSources
from ddb_lake.pipeline.open_lake import Lake
from ddb_lake.pipeline.read.replay import view
from ddb_lake.pipeline.read.time_travel import past_rows
from ddb_lake.pipeline.verify.full import verify_export
from ddb_lake.spark import merge
from ddb_lake.spark.merge import SparkMerge
from ddb_lake_tests.simulator import CORNERS, Scenario, read_export, read_landing, reference_expired, scenarios, write
from ddb_lake_tests.simulator.model import item_text, key_of, key_text
from ddb_lake_tests.support.effort import by_effort, cases
from ddb_lake_tests.support.export_files import HOUR_US, T0_US, change, full, increment, item, land, sorted_items
from ddb_lake_tests.support.folder_lake import lake
from ddb_lake_tests.support.history_steps import differences, run_step, steps
from ddb_lake_tests.support.iceberg_readers import assert_readers_agree
from ddb_lake_tests.support.inline_carrier import InlineCarrier
from ddb_lake_tests.support.several_tables import dumped, queried

EXAMPLES = int(os.environ.get("DDB_LAKE_HISTORIES", by_effort(12, 30, 120)))


def expired_rows(opened: Lake, table: str, as_of_us: int | None = None) -> list[tuple[Item, int]]:
    """Item and time of each row with `_expired_at`, as `query` has them."""
    current = opened.current(table)
    if current is None:
        return []
    with opened.session() as session:
        if as_of_us is None:
            schema = CurrentState.of(current).schema
            rows = scan_table(current).sql()
        else:
            schema, query = past_rows(opened, session, view(opened, table), as_of_us)
            rows = f"({query.sql})"
        found = session.rows(
            f"SELECT {item_sql(schema)}, _rescued, epoch_us(_expired_at) FROM {rows} WHERE _expired_at IS NOT NULL"
        )
    return [(orjson.loads(complete(image, rescued)), us) for image, rescued, us in found]


def expired_differences(opened: Lake, scenario: Scenario, as_of_us: int | None = None) -> list[str]:
    """How the expired rows differ from those of the reference."""
    exports = [read_export(export) for export in scenario.exports]
    records = read_landing(scenario.objects).of_table(scenario.table)
    names = scenario.key_names
    wanted = reference_expired(exports, records, scenario.clock_skew_us, names, as_of_us)
    found: dict[str, tuple[str | None, int]] = {}
    problems = []
    for image, us in expired_rows(opened, scenario.table, as_of_us):
        text = key_text(key_of(image, names))
        problems += [f"{text}: two rows"] if text in found else []
        found[text] = (item_text(image), us)
    for text in wanted.keys() | found.keys():
        allowed = wanted.get(text, {None})
        if found.get(text) not in allowed:
            problems.append(f"as of {as_of_us}: {text} is kept as {found.get(text)}, not as {allowed}")
    return problems


def check(scenario: Scenario, seed: int) -> None:
    rnd = random.Random(seed)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write(scenario, folder)
        with lake(folder / "lake", scenario.table, scenario.key_names, ttl_deletes="keep") as opened:
            for step in steps(scenario, folder, rnd):
                run_step(opened, scenario.table, step)
                if rnd.random() < 0.2:
                    compact_table(opened, scenario.table, force=True)
            assert differences(opened, scenario) == []
            assert expired_differences(opened, scenario) == []
            for probe in scenario.probes:
                if opened.current(scenario.table) is not None:
                    assert expired_differences(opened, scenario, probe.time_us) == []


WITH_EXPIRY = sorted(name for name, make in CORNERS.items() if any(one.ttl for one in make().history.changes))


@pytest.mark.parametrize("corner", WITH_EXPIRY)
def test_corner_in_any_order_keeps_the_expired_rows(corner: str) -> None:
    check(CORNERS[corner](), 3)


@pytest.mark.more_examples
@settings(max_examples=max(EXAMPLES // 6, 1))
@given(scenario=scenarios(), seed=st.integers(0, 2**32))
def test_history_in_any_order_keeps_the_expired_rows(scenario: Scenario, seed: int) -> None:
    check(scenario, seed)


# --- by hand

E0_US, E1_US, E2_US, E3_US = (T0_US + hours * HOUR_US for hours in (0, 10, 20, 30))


def exports_of(folder: Path) -> list[tuple[str, list[str]]]:
    """Four weekly exports, as it were: `again` and `forgotten` are in the second though no record says so."""
    first = [item(key, v=1) for key in ("kept", "back", "deleted", "again", "forgotten", "imageless", "lost", "stays")]
    contents = {
        E0_US: first,
        E1_US: [item("stays", v=1), item("back", v=2), item("again", v=2), item("forgotten", v=2)],
        E2_US: [item("stays", v=1), item("back", v=2), item("again", v=2)],
        E3_US: [item("stays", v=1), item("back", v=2), item("again", v=2)],
    }
    return [("load", [str(full(items, at_us=us).write(folder / f"export-{us}"))]) for us, items in contents.items()]


def records_of(folder: Path) -> list[tuple[str, list[str]]]:
    """What the stream says of them, in two objects."""
    expired_us = E0_US + HOUR_US
    expired = [
        change(expired_us, None, item(key, v=1), ttl=True) for key in ("kept", "back", "deleted", "again", "forgotten")
    ]
    imageless = change(expired_us, None, item("imageless", v=1), ttl=True)
    del imageless["dynamodb"]["OldImage"]
    later = [
        change(E0_US + 2 * HOUR_US, item("back", v=2)),
        change(E0_US + 2 * HOUR_US, item("deleted", v=2)),
        change(E0_US + 3 * HOUR_US, None, item("deleted", v=2)),
    ]
    return [
        ("apply", [land(folder / "first", *expired[::2], later[2], imageless)]),
        ("apply", [land(folder / "second", *expired[1::2], *later[:2])]),
    ]


EXPIRED = [("kept", 1, E0_US + HOUR_US)]
ALL_ROWS = [("again", 2, None), ("back", 2, None), *EXPIRED, ("stays", 1, None)]


def shown(opened: Lake, as_of_us: int | None = None) -> list[tuple[Any, ...]]:
    return queried(opened, "SELECT id, v, epoch_us(_expired_at) FROM orders ORDER BY id", as_of_us)


@pytest.mark.parametrize("seed", cases(range(8), quick=(0, 1)))
def test_expired_row_survives_any_number_of_full_exports_in_any_order(tmp_path: Path, seed: int) -> None:
    order = [*exports_of(tmp_path), *records_of(tmp_path)]
    if seed:
        random.Random(seed).shuffle(order)
    with lake(tmp_path / "lake", "orders", ["id"], ttl_deletes="keep") as opened:
        for step in order:
            run_step(opened, "orders", step)
        assert shown(opened) == ALL_ROWS
        assert [item_text(found) for found, _ in expired_rows(opened, "orders")] == [item_text(item("kept", v=1))]
        compact_table(opened, "orders", force=True)
        assert shown(opened) == ALL_ROWS == shown(opened, E3_US)
        assert dumped(opened) == sorted_items([item("again", v=2), item("back", v=2), item("stays", v=1)])
        for step in order:  # everything again changes nothing
            run_step(opened, "orders", step)
        assert shown(opened) == ALL_ROWS
        assert_readers_agree(opened, "orders")
        assert shown(opened, E0_US + HOUR_US)[:2] == [("again", 1, E0_US + HOUR_US), ("back", 1, E0_US + HOUR_US)]


def test_late_record_of_an_absent_item_decides_whether_it_is_kept(tmp_path: Path) -> None:
    """Records at or before the snapshot cutoff change no item, and yet say what became of one."""
    with lake(tmp_path / "lake", "orders", ["id"], ttl_deletes="keep") as opened:
        for step in exports_of(tmp_path):
            run_step(opened, "orders", step)
        first, second = records_of(tmp_path)
        run_step(opened, "orders", second)
        assert shown(opened) == [("again", 2, None), ("back", 2, None), ("stays", 1, None)]
        run_step(opened, "orders", first)
        assert shown(opened) == ALL_ROWS
        written = land(tmp_path / "late", change(E0_US + 4 * HOUR_US, item("kept", v=3)))
        run_step(opened, "orders", ("apply", [written]))  # it lived again, and how it went is not known
        assert shown(opened) == [row for row in ALL_ROWS if row not in EXPIRED]
        again = land(tmp_path / "later", change(E0_US + 5 * HOUR_US, None, item("kept", v=3), ttl=True))
        run_step(opened, "orders", ("apply", [again]))
        assert ("kept", 3, E0_US + 5 * HOUR_US) in shown(opened)


def test_absence_that_an_incremental_export_or_a_repair_asserts_keeps_the_expired_row(tmp_path: Path) -> None:
    first, second = records_of(tmp_path)
    expired_us = E0_US + HOUR_US
    lines = [(expired_us, None, {"id": {"S": key}}) for key in ("kept", "stays")]
    window = increment(*lines, at_us=E0_US + 9 * HOUR_US, window=E0_US)
    with lake(tmp_path / "lake", "orders", ["id"], ttl_deletes="keep") as opened:
        run_step(opened, "orders", exports_of(tmp_path)[0])
        run_step(opened, "orders", first)
        run_step(opened, "orders", second)
        run_step(opened, "orders", ("load", [str(window.write(tmp_path / "window"))]))
        kept = [row for row in shown(opened) if row[0] in ("kept", "stays")]
        assert kept == EXPIRED  # `stays` is gone: no record says how


def test_expired_rows_are_no_items_for_verification(tmp_path: Path) -> None:
    steps = exports_of(tmp_path)
    with lake(tmp_path / "lake", "orders", ["id"], ttl_deletes="keep") as opened:
        for step in (*steps, *records_of(tmp_path)):
            run_step(opened, "orders", step)
        report = verify_export(opened, "orders", steps[-1][1][0])
        assert (report.outcome, report.rows, report.compared) == ("equal", 3, 3)


# --- the tasks of a merge on Spark, run here without it


class MergingBySparkTasks(LocalExecutor):
    def plan_merge(self, session: Session, table: Table | None, sources: MergeSources) -> Any:
        merge = SparkMerge(self._lake, session, self._settings, table, InlineCarrier(), sources)
        merge.plan()
        return merge


@pytest.mark.parametrize("seed", cases(range(3), quick=(1,)))
def test_tasks_of_a_merge_on_spark_keep_the_same_rows(
    tmp_path: Path, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(merge, "LEAST_RECORDS", 2)
    order = [*exports_of(tmp_path), *records_of(tmp_path)]
    if seed:
        random.Random(seed).shuffle(order)
    with lake(tmp_path / "lake", "orders", ["id"], ttl_deletes="keep") as opened:
        opened.executors = {"duckdb": MergingBySparkTasks}
        for step in order:
            run_step(opened, "orders", step)
        assert shown(opened) == ALL_ROWS
