"""What is due on a local folder with Firehose's layout: late, rewritten and failed objects, exports, compaction."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from ddb_lake.pipeline.apply import apply
from ddb_lake.pipeline.apply.apply import ApplyResult
from ddb_lake.pipeline.load.load import LoadResult
from ddb_lake.pipeline.open_lake import Lake
from ddb_lake.pipeline.plan.work import Work
from ddb_lake.pipeline.read.status import table_status
from ddb_lake.pipeline.sync import sync
from ddb_lake_tests.support.export_files import (
    HOUR_US,
    MINUTE_US,
    T0_US,
    change,
    full,
    increment,
    item,
    land,
    sorted_items,
)
from ddb_lake_tests.support.several_tables import due_work, dumped, lake_of

pytestmark = pytest.mark.usefixtures("no_source")

NOW = datetime(2026, 3, 1, 12, 30, tzinfo=UTC)


def firehose(folder: Path, hour: int, name: str, *pieces: Any) -> str:
    """Land an object where Firehose puts those of an hour of the day."""
    key = f"2026/03/01/{hour:02d}/stream-1-2026-03-01-{hour:02d}-31-00-{name * 8}-0000-4000-8000-000000000000"
    return land(folder / "landing" / key, *pieces)


def orders(folder: Path, **settings: Any) -> dict[str, Any]:
    changes = {"uri": str(folder / "landing"), "errors_uri": str(folder / "failed")}
    export = {"bucket": str(folder / "exports")}
    return {"name": "orders", "changes": changes, "export": export, **settings}


def due_but_compactions(lake: Lake) -> list[Work]:
    """What is due; a few rows are soon worth a compaction, which has a test of its own."""
    return [work for work in due_work(lake) if work.kind != "compact"]


def test_nothing_is_due_before_anything_has_landed(tmp_path: Path) -> None:
    with lake_of(tmp_path / "lake", orders(tmp_path)) as lake:
        assert due_work(lake) == []
        lake.now = lambda: NOW
        assert due_work(lake) == []
        assert sync(lake) == []


def test_landed_objects_are_due_once_by_their_hours(tmp_path: Path) -> None:
    first = firehose(tmp_path, 9, "a", change(T0_US, item("a", v=1)))
    second = firehose(tmp_path, 11, "b", change(T0_US + HOUR_US, item("b", v=1)))
    with lake_of(tmp_path / "lake", orders(tmp_path)) as lake:
        (due,) = due_but_compactions(lake)
        assert (due.table, due.kind, due.uris) == ("orders", "apply", (first, second))
        assert due.hours == (NOW.replace(hour=9, minute=0), NOW.replace(hour=11, minute=0))
        assert due_but_compactions(lake) == [due], "the same state has the same digest"
        (applied,) = sync(lake)
        assert isinstance(applied, ApplyResult)
        assert applied.new == 2
        assert due_but_compactions(lake) == []


def test_late_and_rewritten_objects_are_due(tmp_path: Path) -> None:
    firehose(tmp_path, 11, "b", change(T0_US + HOUR_US, item("b", v=1)))
    with lake_of(tmp_path / "lake", orders(tmp_path)) as lake:
        sync(lake)
        late = firehose(tmp_path, 9, "a", change(T0_US, item("a", v=1)))
        assert [due.uris for due in due_but_compactions(lake)] == [(late,)]
        sync(lake)
        rewritten = firehose(tmp_path, 11, "b", change(T0_US + HOUR_US, item("b", v=1)), change(T0_US, item("c")))
        assert [due.uris for due in due_but_compactions(lake)] == [(rewritten,)]
        sync(lake)
        assert due_but_compactions(lake) == []
        assert len(dumped(lake)) == 3


def test_failed_deliveries_are_due_where_they_lie(tmp_path: Path) -> None:
    failed = land(
        tmp_path / "failed" / "processing-failed" / "2026" / "03" / "01" / "09" / "x", change(T0_US, item("a"))
    )
    with lake_of(tmp_path / "lake", orders(tmp_path)) as lake:
        (due,) = due_but_compactions(lake)
        assert due.uris == (failed,)


def test_exports_are_due_before_objects_and_once(tmp_path: Path) -> None:
    full([item("a", v=1)]).write(tmp_path / "exports")
    window = (T0_US + MINUTE_US, item("a", v=2), item("a"))
    increment(window, at_us=T0_US + HOUR_US, window=T0_US).write(tmp_path / "exports")
    full([item("x")], table="other", at_us=T0_US + 2 * HOUR_US).write(tmp_path / "exports")
    firehose(tmp_path, 9, "a", change(T0_US + 2 * HOUR_US, item("b", v=1)))
    with lake_of(tmp_path / "lake", orders(tmp_path)) as lake:
        assert [due.kind for due in due_but_compactions(lake)] == ["load", "load", "apply"]
        results = sync(lake)
        assert [result.export_type for result in results if isinstance(result, LoadResult)] == ["FULL", "INCREMENTAL"]
        assert due_but_compactions(lake) == []
        assert dumped(lake) == sorted_items([item("a", v=2), item("b", v=1)])


def test_damaged_export_does_not_keep_the_rest_waiting(tmp_path: Path) -> None:
    broken = full([item("a", v=1)], summary={"outputFormat": "CSV"}).write(tmp_path / "exports")
    full([item("a", v=2)], at_us=T0_US + HOUR_US).write(tmp_path / "exports")
    firehose(tmp_path, 9, "a", change(T0_US + 2 * HOUR_US, item("b", v=1)))
    warned: list[str] = []
    with lake_of(tmp_path / "lake", orders(tmp_path)) as lake:
        lake.warn = warned.append
        assert [due.kind for due in due_but_compactions(lake)] == ["load", "apply"]
        sync(lake)
        assert dumped(lake) == sorted_items([item("a", v=2), item("b", v=1)])
    assert all("DYNAMODB_JSON" in warning and str(broken.parent) in warning for warning in warned)
    assert warned != []


def test_changelog_that_current_has_not_applied_is_due(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    firehose(tmp_path, 9, "a", change(T0_US, item("a", v=1)))
    with lake_of(tmp_path / "lake", orders(tmp_path)) as lake:
        with monkeypatch.context() as patched:
            patched.setattr(apply, "update_current", lambda lake, name: 1 / 0)
            with pytest.raises(ZeroDivisionError):
                sync(lake)
        (due,) = due_but_compactions(lake)
        assert (due.kind, due.uris) == ("merge", ())
        sync(lake)
        assert table_status(lake, "orders").pending_batches == 0
        assert due_but_compactions(lake) == []


def test_compaction_is_due_when_rows_are_retired(tmp_path: Path) -> None:
    full([item(f"key {number}", v=1) for number in range(12)]).write(tmp_path / "exports")
    with lake_of(tmp_path / "lake", orders(tmp_path)) as lake:
        sync(lake)
        firehose(tmp_path, 9, "a", change(T0_US + MINUTE_US, item("key 0", v=2)))
        sync(lake)
        assert due_work(lake) == [], "one of thirteen rows is retired"
        firehose(tmp_path, 9, "b", *(change(T0_US + MINUTE_US, item(f"key {n}", v=2)) for n in (1, 2, 3, 4)))
        sync(lake)
        assert [due.kind for due in due_work(lake)] == ["compact"], "five of seventeen are"
        sync(lake)
        assert due_work(lake) == []
        assert len(dumped(lake)) == 12


def test_tables_are_planned_by_name(tmp_path: Path) -> None:
    firehose(tmp_path, 9, "a", change(T0_US, item("a")))
    other = {"name": "other", "changes": {"uri": str(tmp_path / "landing")}}
    with lake_of(tmp_path / "lake", orders(tmp_path), other) as lake:
        lake.now = lambda: NOW + timedelta(hours=1)
        assert [due.table for due in due_work(lake, "other")] == ["other"]
        assert [due.table for due in due_work(lake)] == ["orders", "other"]
