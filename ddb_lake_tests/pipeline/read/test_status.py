"""Each figure of a table's status, before anything, between changelog and current, and after each stage."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from ddb_lake.errors import ConfigError
from ddb_lake.pipeline.apply import apply
from ddb_lake.pipeline.apply.apply import apply_objects
from ddb_lake.pipeline.load.load import load_export
from ddb_lake.pipeline.maintain.compact import compact_table
from ddb_lake.pipeline.read.status import TableStatus, table_status
from ddb_lake_tests.support.export_files import HOUR_US, MINUTE_US, T0_US, change, full, item, land
from ddb_lake_tests.support.several_tables import lake_of

pytestmark = pytest.mark.usefixtures("no_source")

ORDERS = {"name": "orders"}
NOW = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=T0_US + 2 * HOUR_US)


def test_status_of_an_empty_lake_is_empty(tmp_path: Path) -> None:
    with lake_of(tmp_path / "lake", ORDERS) as lake:
        assert table_status(lake, "orders") == TableStatus("orders")
    assert not (tmp_path / "lake").exists()


def test_status_of_a_table_that_is_not_configured_names_those_that_are(tmp_path: Path) -> None:
    with lake_of(tmp_path / "lake", ORDERS) as lake, pytest.raises(ConfigError, match="orders"):
        table_status(lake, "order")


def test_status_counts_rows_files_and_objects(tmp_path: Path) -> None:
    export = full([item("a", v=1), item("b", v=2), item("c", v=3)]).write(tmp_path / "export")
    landed = land(
        tmp_path / "object",
        change(T0_US + MINUTE_US, item("a", v=4), item("a", v=1)),
        change(T0_US + HOUR_US, None, item("b", v=2)),
        "\ngarbage\n",
    )
    with lake_of(tmp_path / "lake", ORDERS) as lake:
        lake.now = lambda: NOW
        load_export(lake, "orders", str(export))
        loaded = table_status(lake, "orders")
        assert (loaded.rows, loaded.files, loaded.delete_files, loaded.changes, loaded.objects) == (3, 1, 0, 0, 0)
        assert (loaded.base_export_us, loaded.horizon_us, loaded.watermark_us) == (T0_US, T0_US, T0_US)
        apply_objects(lake, "orders", [landed])
        applied = table_status(lake, "orders")
        assert (applied.rows, applied.deleted_rows) == (2, 2)
        assert (applied.files, applied.delete_files, applied.snapshots) == (2, 1, 3)
        assert (applied.changes, applied.quarantined, applied.objects, applied.pending_batches) == (2, 1, 1, 0)
        assert (applied.first_change_us, applied.last_change_us) == (T0_US + MINUTE_US, T0_US + HOUR_US)
        assert (applied.watermark_us, applied.lag_s) == (T0_US + HOUR_US, 3600.0)
        assert applied.exports == loaded.exports != ()
        compact_table(lake, "orders", force=True)
        compacted = table_status(lake, "orders")
        assert (compacted.rows, compacted.files, compacted.delete_files, compacted.deleted_rows) == (2, 1, 0, 0)
        assert compacted.watermark_us == applied.watermark_us
        assert compacted.snapshot_id != applied.snapshot_id


def test_status_without_current_up_to_date_has_no_watermark(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = land(tmp_path / "first", change(T0_US, item("a")))
    second = land(tmp_path / "second", change(T0_US + MINUTE_US, item("b")))
    with lake_of(tmp_path / "lake", ORDERS) as lake:
        apply_objects(lake, "orders", [first])
        with monkeypatch.context() as patched:
            patched.setattr(apply, "update_current", lambda lake, name: 1 / 0)
            with pytest.raises(ZeroDivisionError):
                apply_objects(lake, "orders", [second])
        behind = table_status(lake, "orders")
        assert (behind.rows, behind.changes, behind.pending_batches) == (1, 2, 1)
        assert (behind.watermark_us, behind.lag_s) == (None, None)
        apply_objects(lake, "orders", [second])
        assert table_status(lake, "orders").watermark_us == T0_US + MINUTE_US


def test_status_with_a_changelog_alone_says_what_waits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    landed = land(tmp_path / "object", change(T0_US, item("a")))
    with lake_of(tmp_path / "lake", ORDERS) as lake:
        with monkeypatch.context() as patched:
            patched.setattr(apply, "update_current", lambda lake, name: 1 / 0)
            with pytest.raises(ZeroDivisionError):
                apply_objects(lake, "orders", [landed])
        assert table_status(lake, "orders") == TableStatus(
            "orders", changes=1, first_change_us=T0_US, last_change_us=T0_US, pending_batches=1, objects=1
        )
