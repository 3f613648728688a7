"""The setting `landing`: what ddb_lake writes beside the Iceberg tables is there, and nothing of it is in the warehouse."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ddb_lake.config import parse_settings
from ddb_lake.core.layout.table_names import ICEBERG_SUFFIXES
from ddb_lake.errors import ConfigError
from ddb_lake.executors import open_lake
from ddb_lake.pipeline.load.load import load_export
from ddb_lake.pipeline.read.daily_snapshots import daily_folder
from ddb_lake.pipeline.read.dump import dump_items
from ddb_lake.pipeline.verify.repair import repair_from_export
from ddb_lake_tests.support.export_files import HOUR_US, T0_US, full, item

TABLE_BUCKETS: dict[str, dict[str, Any]] = {
    "by its ARN": {
        "warehouse": "arn:aws:s3tables:eu-west-1:111122223333:bucket/lake",
        "catalog": {"type": "rest", "uri": "https://x"},
    },
    "by how requests are signed": {
        "warehouse": "s3://lake",
        "catalog": {"type": "rest", "uri": "https://x", "properties": {"rest.signing-name": "s3tables"}},
    },
}


def test_repairs_land_at_the_setting_and_the_warehouse_has_tables_only(tmp_path: Path) -> None:
    tables = [{"name": "orders", "key": ["id"], "changes": {"uri": str(tmp_path / "changes")}}]
    places = {"warehouse": str(tmp_path / "lake"), "landing": str(tmp_path / "own"), "tables": tables}
    with open_lake(parse_settings(places, "test")) as lake:
        load_export(lake, "orders", str(full([item("a", v=1)]).write(tmp_path / "first")))
        later = str(full([item("a", v=2)], at_us=T0_US + HOUR_US).write(tmp_path / "second"))
        result = repair_from_export(lake, "orders", [item("a")], later)
        assert [Path(uri).is_relative_to(tmp_path / "own/repairs/orders") for uri in result.objects] == [True]
        assert b'"N":"2"' in next(iter(dump_items(lake, "orders")))
        assert daily_folder(lake, "orders").startswith(str(tmp_path / "own"))
    warehouse = {path.name for path in (tmp_path / "lake").iterdir()}
    assert warehouse == {"catalog.db", "ddb_lake"}
    assert {path.name for path in (tmp_path / "lake/ddb_lake").iterdir()} <= {
        "orders" + suffix for suffix in ICEBERG_SUFFIXES
    }


@pytest.mark.parametrize("place", TABLE_BUCKETS)
def test_table_bucket_requires_the_setting(place: str) -> None:
    with pytest.raises(ConfigError, match="`landing` is required: the warehouse is a table bucket"):
        parse_settings({**TABLE_BUCKETS[place], "tables": []}, "test")
    assert (
        parse_settings({**TABLE_BUCKETS[place], "landing": "s3://own/lake", "tables": []}, "test").landing
        == "s3://own/lake"
    )


def test_landing_within_a_table_is_refused(tmp_path: Path) -> None:
    settings = {
        "warehouse": str(tmp_path),
        "landing": str(tmp_path / "ddb_lake/orders/own"),
        "tables": [{"name": "orders", "key": ["id"]}],
    }
    with pytest.raises(ConfigError, match="is within"):
        parse_settings(settings, "test")
