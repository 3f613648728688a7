"""Days without a file: files of kept days that a clean-up deleted are named, and made again they have the same rows."""

from __future__ import annotations

from datetime import date, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from ddb_lake.cli.doctor.table_values import examine_days
from ddb_lake.pipeline.apply.apply import apply_objects
from ddb_lake.pipeline.load.load import load_export
from ddb_lake.pipeline.maintain.daily_snapshots import keep_day
from ddb_lake.pipeline.read.daily_snapshots import daily_folder, missing_days
from ddb_lake.pipeline.read.query import run_query
from ddb_lake_tests.support.export_files import HOUR_US, T0_US, change, full, item, land
from ddb_lake_tests.support.folder_lake import lake

FIRST = date(2026, 3, 1)
DAYS = [FIRST + timedelta(days=number) for number in range(4)]


def rows(opened: Any) -> list[tuple[Any, ...]]:
    """All kept days."""
    with run_query(opened, "SELECT * FROM orders_daily ORDER BY ALL") as result:
        return [row for batch in result.batches() for row in batch]


def test_deleted_days_are_named_and_made_again_as_they_were(tmp_path: Path) -> None:
    options = {"changes": {"uri": str(tmp_path / "landing")}, "daily_states": {"start": str(FIRST)}}
    records = [change(T0_US + n * 20 * HOUR_US, item("a", v=n), item("a", v=n - 1)) for n in range(1, 5)]
    with lake(tmp_path / "lake", "orders", ["id"], **options) as opened:
        subject: Any = SimpleNamespace(settings=opened.table("orders"), lake=SimpleNamespace(settings=opened.settings))
        load_export(opened, "orders", str(full([item("a", v=0), item("b", v=7)], at_us=T0_US).write(tmp_path / "e")))
        apply_objects(opened, "orders", [land(tmp_path / "landing/2026/03/05/01/x", *records)])
        assert len(missing_days(opened, "orders")) > len(DAYS)  # nothing is kept
        for day in DAYS:
            keep_day(opened, "orders", day)
        before, folder = rows(opened), Path(daily_folder(opened, "orders"))
        assert len(before) == 2 * len(DAYS) and missing_days(opened, "orders") == []
        assert [found.state for found in examine_days(subject)] == ["ok"]
        for lost in (DAYS[:1], DAYS[1:3]):
            for day in lost:
                (folder / f"{day}.parquet").unlink()
            (folder / "notes.txt").write_text("no day")
            assert missing_days(opened, "orders") == lost
            (finding,) = examine_days(subject)
            assert finding.state == "warn" and all(str(day) in finding.found for day in lost)
            for day in lost:
                keep_day(opened, "orders", day)
            assert rows(opened) == before
