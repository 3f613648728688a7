"""Iceberg's own procedures in Spark, run on our tables by way of the lake's catalog."""

from __future__ import annotations

from pathlib import Path

import pytest

from ddb_lake.lake.metadata_files import listed_manifests
from ddb_lake.lake.scan import live_files
from ddb_lake.pipeline.apply.apply import apply_objects
from ddb_lake.pipeline.load.load import load_export
from ddb_lake.pipeline.maintain.compact import compact_table
from ddb_lake_tests.support.export_files import MINUTE_US, T0_US, change, full, item, land
from ddb_lake_tests.support.iceberg_spark import IcebergSpark
from ddb_lake_tests.support.merging_early import merging_early
from ddb_lake_tests.support.several_tables import dumped, lake_of

pytestmark = [pytest.mark.exhaustive, pytest.mark.needs("java")]


def test_spark_reads_and_rewrites_a_table_and_the_items_stay(tmp_path: Path, iceberg_spark: IcebergSpark) -> None:
    items = [item(f"key {number}", v=number) for number in range(20)]
    with lake_of(tmp_path / "lake", {"name": "orders"}) as lake:
        load_export(lake, "orders", str(full(items).write(tmp_path / "export")))
        changed = [change(T0_US + MINUTE_US + number, item(f"key {number}", v=100)) for number in range(5)]
        apply_objects(lake, "orders", [land(tmp_path / "landing" / "2026/03/01/09/a", *changed)])
        expected = dumped(lake)
        table = lake.current("orders")
        assert table is not None
        sums = "count(*), sum(v)"
        assert iceberg_spark.sql(f"SELECT {sums} FROM {iceberg_spark.view(table.metadata_location)}") == [(20, 680)]
        (rewritten,) = iceberg_spark.call(table, "rewrite_data_files", {"rewrite-all": "true"})
        assert rewritten[:2] == (2, 1)
        iceberg_spark.call(table.refresh(), "rewrite_manifests")
        expired = iceberg_spark.call(
            table.refresh(), "expire_snapshots", older_than="TIMESTAMP '2099-01-01'", retain_last="1"
        )
        assert expired[0][0] > 0, "no data file of an expired snapshot was deleted"
        stray = Path(table.location()) / "data" / "stray.parquet"
        stray.write_bytes(b"")
        assert str(stray) in iceberg_spark.remove_orphan_files(table.refresh())
        table = lake.current("orders")
        assert table is not None and len(live_files(table).data) == 1
        assert iceberg_spark.sql(f"SELECT {sums} FROM {iceberg_spark.view(table.metadata_location)}") == [(20, 680)]
        assert dumped(lake) == expected


def test_spark_reads_merged_files_and_manifests_and_a_commit_after_its_own_states_ranges_again(
    tmp_path: Path, iceberg_spark: IcebergSpark
) -> None:
    """Spark's manifest lists state no ranges of columns. The next apply reads its manifests, and is exact."""
    with lake_of(tmp_path / "lake", {"name": "orders"}) as lake, merging_early():
        records = [change(T0_US + number * MINUTE_US, item(f"key {number % 4}", v=number)) for number in range(6)]
        for number, changed in enumerate(records):
            name = f"2026/03/{1 + number // 3:02d}/{9 + number % 3:02d}/{number}"
            apply_objects(lake, "orders", [land(tmp_path / "landing" / name, changed)])
        compact_table(lake, "orders")
        expected, sums = dumped(lake), "count(*), count(DISTINCT record_id), sum(_batch)"
        for number, procedure in enumerate(("none", "rewrite_manifests", "rewrite_data_files")):
            changes = lake.changes("orders")
            assert changes is not None
            if procedure != "none":
                iceberg_spark.call(changes, procedure, {"rewrite-all": "true"} if "data" in procedure else None)
            changes = lake.changes("orders")
            assert changes is not None
            assert iceberg_spark.sql(f"SELECT {sums} FROM {iceberg_spark.view(changes.metadata_location)}") == [
                (6, 6, 21)
            ]
            again = apply_objects(lake, "orders", [land(tmp_path / f"landing/2026/03/02/13/{number}", *records)])
            assert (again.new, again.duplicates) == (0, 6)
            assert dumped(lake) == expected
        added = change(T0_US + MINUTE_US, item("key 3", v=9))
        apply_objects(lake, "orders", [land(tmp_path / "landing" / "2026/03/02/12/late", added)])
        assert dumped(lake) == expected, "a later record of the key is applied"
        changes = lake.changes("orders")
        snapshot = changes.current_snapshot() if changes is not None else None
        assert changes is not None and snapshot is not None
        listed = listed_manifests(changes.io, snapshot, "orders_changes")
        assert all(manifest.ranges and None not in manifest.ranges.values() for manifest in listed)
        assert sorted(changes.scan().to_arrow()["_batch"].to_pylist()) == [1, 2, 3, 4, 5, 6, 7]


def test_spark_does_not_overwrite_the_commit_of_another_writer(tmp_path: Path, iceberg_spark: IcebergSpark) -> None:
    with lake_of(tmp_path / "lake", {"name": "orders"}) as lake:
        load_export(lake, "orders", str(full([item("a", v=1)]).write(tmp_path / "export")))
        stale, table = lake.current("orders"), lake.current("orders")
        assert stale is not None and table is not None
        iceberg_spark.commit(table, "DELETE FROM {table} WHERE id = 'a'")
        with pytest.raises(RuntimeError, match="another writer has committed"):
            iceberg_spark.commit(stale, "DELETE FROM {table} WHERE id = 'a'")
        assert dumped(lake) == []
