"""The records of an hour of arrival are counted, also in files that compaction merged from several hours."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from ddb_lake.lake import compaction_policy
from ddb_lake.lake.scan import column_bounds, live_files
from ddb_lake.orchestration.metadata import rows_by_hour
from ddb_lake.pipeline.apply.apply import apply_objects
from ddb_lake.pipeline.maintain.compact import compact_table
from ddb_lake_tests.support.export_files import T0_US, change, item, land
from ddb_lake_tests.support.folder_lake import lake


def hour(day: int, of_day: int) -> datetime:
    return datetime(2026, 3, day, of_day, tzinfo=UTC)


def test_records_are_counted_by_hour_before_and_after_a_merge(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compaction_policy, "MAX_FILES_PER_DAY", 1)
    counts = {hour(1, 4): 2, hour(1, 6): 3, hour(2, 6): 1}
    with lake(tmp_path / "lake", "orders", ["id"]) as opened:
        for at, count in counts.items():
            records = [change(T0_US, item(f"{at:%d%H}-{number}")) for number in range(count)]
            apply_objects(opened, "orders", [land(tmp_path / f"landing/{at:%Y/%m/%d/%H}/a", *records)])
        asked = [*counts, hour(1, 5)]
        expected = [*counts.values(), 0]
        assert [rows_by_hour(opened, "orders", asked)[at] for at in asked] == expected
        compact_table(opened, "orders", force=True)
        changes = opened.changes("orders")
        assert changes is not None
        ranges = [column_bounds(file, changes.schema(), "arrival_hour") for file in live_files(changes).data]
        assert any(found is not None and found[0] != found[1] for found in ranges)  # a file has several hours
        assert [rows_by_hour(opened, "orders", asked)[at] for at in asked] == expected
        assert rows_by_hour(opened, "orders", []) == {}
