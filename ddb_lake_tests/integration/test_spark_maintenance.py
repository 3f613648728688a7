"""Spark's own maintenance of a lake's tables: row counts stay right, and branches of exports stay."""

from __future__ import annotations

from pathlib import Path

import pytest

from ddb_lake.lake.scan import live_files
from ddb_lake.lake.state import CurrentState
from ddb_lake.pipeline.apply.apply import apply_objects
from ddb_lake.pipeline.load.load import load_export
from ddb_lake.pipeline.maintain.compact import compact_table
from ddb_lake.pipeline.open_lake import Lake
from ddb_lake.pipeline.read.dump import dump_items
from ddb_lake.pipeline.read.files import check_files
from ddb_lake.pipeline.read.status import table_status
from ddb_lake_tests.support.export_files import MINUTE_US, T0_US, change, full, item, land
from ddb_lake_tests.support.folder_lake import lake
from ddb_lake_tests.support.iceberg_spark import IcebergSpark


def counted(opened: Lake) -> int:
    """The number of items, which `status` must state too."""
    items = len(list(dump_items(opened, "orders")))
    assert table_status(opened, "orders").rows == items
    return items


@pytest.mark.exhaustive
def test_rows_and_branches_are_right_after_rewriting_and_expiring_by_spark(
    tmp_path: Path, iceberg_spark: IcebergSpark
) -> None:
    with lake(tmp_path / "lake", "orders", ["id"]) as opened:
        load_export(
            opened, "orders", str(full([item(f"o{n:02d}", v=n) for n in range(40)]).write(tmp_path / "exports"))
        )
        for batch in range(2):
            records = [change(T0_US + MINUTE_US + 100 * batch + n, item(f"o{n:02d}", v=100)) for n in range(2)]
            removed = change(T0_US + MINUTE_US + batch, None, item(f"o{30 + batch}"))
            apply_objects(opened, "orders", [land(tmp_path / f"landing/2026/03/01/09/{batch}", *records, removed)])
        assert counted(opened) == 38
        table = opened.current("orders")
        assert table is not None
        iceberg_spark.commit(table, "ALTER TABLE {table} SET TBLPROPERTIES ('history.expire.max-ref-age-ms' = '1')")
        for procedure, options in (("rewrite_data_files", {"rewrite-all": "true"}), ("expire_snapshots", {})):
            table = opened.current("orders")
            assert table is not None
            iceberg_spark.call(table, procedure, options)
        table = opened.current("orders")
        assert table is not None
        assert live_files(table).dangling > 0, (
            "Spark leaves no position deletes of rewritten files: the test shows nothing"
        )
        assert counted(opened) == 38
        assert {export.branch for export in CurrentState.of(table).exports} <= set(table.metadata.refs)
        check_files(opened, "orders")

        apply_objects(
            opened,
            "orders",
            [land(tmp_path / "landing/2026/03/01/10/x", change(T0_US + 3 * MINUTE_US, item("new", v=1)))],
        )
        assert counted(opened) == 39
        compact_table(opened, "orders", force=True)
        table = opened.current("orders")
        assert table is not None and live_files(table).dangling == 0
        assert counted(opened) == 39
