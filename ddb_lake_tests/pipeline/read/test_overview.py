"""What the report is made of, from a small lake."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

import pytest

from ddb_lake.pipeline.apply.apply import apply_objects
from ddb_lake.pipeline.load.load import load_export
from ddb_lake.pipeline.maintain.compact import compact_table
from ddb_lake.pipeline.read.overview import Volume, lake_overview, table_overview
from ddb_lake.pipeline.read.verification_report import Report, keep_report
from ddb_lake_tests.support.export_files import HOUR_US, T0_US, change, full, item, land
from ddb_lake_tests.support.several_tables import lake_of

pytestmark = pytest.mark.usefixtures("no_source")

DAY_US = 24 * HOUR_US


def test_volumes_rows_quarantine_and_verification(tmp_path: Path) -> None:
    one, two, three = (item(key, n=1) for key in "123")
    with lake_of(tmp_path / "lake", {"name": "orders"}, {"name": "idle"}) as lake:
        load_export(lake, "orders", str(full([one, two]).write(tmp_path / "exports")))
        records = [
            change(T0_US + HOUR_US, three),
            change(T0_US + HOUR_US + 1, item("1", n=2), one),
            change(T0_US + 2 * HOUR_US, None, two),
            change(T0_US + 2 * HOUR_US, None, three, ttl=True),
        ]
        apply_objects(lake, "orders", [land(tmp_path / "landing" / "x", *records, "garbage")])
        compact_table(lake, "orders")
        keep_report(lake, Report("orders", "full", "an export", "equal", compared=3))
        found, idle = lake_overview(lake)

    assert found.grain == "hour"
    ten, eleven = datetime(2026, 3, 1, 10), datetime(2026, 3, 1, 11)
    assert found.volumes == (
        *(Volume(ten, kind, 1) for kind in ("inserted", "modified")),
        *(Volume(eleven, kind, 1) for kind in ("deleted", "expired")),
    )
    assert found.rows[0].rows == 2
    assert found.rows[-1].rows == found.status.rows == 1
    assert [group.count for group in found.quarantine] == [1]
    assert found.verification is not None
    assert found.verification["outcome"] == "equal"
    assert (idle.volumes, idle.rows, idle.quarantine, idle.verification) == ((), (), (), None)


def test_changes_of_a_long_time_are_counted_by_day(tmp_path: Path) -> None:
    records = [change(T0_US + days * DAY_US, item("1", n=days), item("1", n=-1)) for days in (0, 1, 20)]
    with lake_of(tmp_path / "lake", {"name": "orders"}) as lake:
        apply_objects(lake, "orders", [land(tmp_path / "landing" / "x", *records)])
        found = table_overview(lake, "orders")

    assert found.grain == "day"
    assert [volume.start.day for volume in found.volumes] == [1, 2, 21]
