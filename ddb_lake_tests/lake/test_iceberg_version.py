"""Tables have version 2 of Iceberg's format; version 3 is refused in the configuration, and where another program made it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ddb_lake.config import parse_settings
from ddb_lake.errors import ConfigError, UsageError
from ddb_lake.lake.commit import Delta
from ddb_lake_tests.support.iceberg_table import SCHEMA, catalog, commit, data_files


@pytest.mark.parametrize("version", [2, 3, "3"])
def test_setting_is_refused_with_the_reason(version: object) -> None:
    table = {"name": "orders", "key": ["id"], "format_version": version}
    with pytest.raises(ConfigError, match="version 3 is not written yet"):
        parse_settings({"warehouse": "lake", "tables": [table]}, "lake.yaml")


def test_table_that_was_upgraded_is_neither_read_nor_written(tmp_path: Path) -> None:
    with catalog(tmp_path) as lake:
        made = lake.create("t", SCHEMA)
        table = commit(made, Delta(added=data_files(made, [(1, "a")])))
        assert table.metadata.format_version == 2
        document = json.loads(Path(table.metadata_location).read_text(encoding="utf-8"))
        upgraded = Path(table.metadata_location).with_name("upgraded.metadata.json")
        upgraded.write_text(json.dumps({**document, "format-version": 3, "next-row-id": 1}), encoding="utf-8")
        lake.catalog.drop_table(lake.identifier("t"))
        lake.catalog.register_table(lake.identifier("t"), str(upgraded))

        with pytest.raises(UsageError, match="version 3") as refused:
            lake.table("t")
    assert refused.value.table == "t" and refused.value.hint
