"""Each entity of a table has a source and a staging model, which dbt builds, with the Dagster asset of the entity."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import duckdb
import pytest
import yaml

from ddb_lake.dbt.project import table_models, write_frame, write_models
from ddb_lake.errors import UsageError
from ddb_lake.pipeline.load.load import load_export
from ddb_lake_tests.support.entity_histories import item
from ddb_lake_tests.support.export_files import full
from ddb_lake_tests.support.several_tables import lake_of

ENTITIES = [{"name": "user", "key": {"SK": "PROFILE"}}, {"name": "order", "key": {"SK": "ORDER#{number}"}}]
ITEMS = [item("USER#a", "PROFILE", created=1), item("USER#a", "ORDER#7", created="2026-01-01")]


def settings(folder: Path) -> dict[str, Any]:
    return {"warehouse": str(folder / "lake"), "tables": [{"name": "app", "key": ["PK", "SK"], "entities": ENTITIES}]}


def test_entities_have_sources_and_staging_models(tmp_path: Path) -> None:
    with lake_of(tmp_path / "lake", settings(tmp_path)["tables"][0] | {"entities": []}) as lake:
        load_export(lake, "app", str(full(ITEMS, table="app").write(tmp_path / "export")))
    with lake_of(tmp_path / "lake", settings(tmp_path)["tables"][0]) as lake:
        with pytest.raises(UsageError, match="was not written yet"):
            table_models(lake, "app")
        load_export(lake, "app", str(full(ITEMS, table="app", at_us=1_772_457_400_000_000).write(tmp_path / "later")))
        files = table_models(lake, "app").files()
    described = yaml.safe_load(files["models/staging/lake/app/_stg_lake__app_order.yml"])
    ((source,), (model,)) = described["sources"][0]["tables"], described["models"]
    assert source["config"]["meta"]["dagster"]["asset_key"] == ["current", "app", "order"]
    assert [column["name"] for column in model["columns"]][:4] == ["PK", "SK", "created", "number"]
    assert model["columns"][3]["description"] == "Attribute {number} (S)"
    assert "from {{ source('lake', 'app_order') }}" in files["models/staging/lake/app/stg_lake__app_order.sql"]


@pytest.mark.exhaustive
def test_dbt_builds_staging_models_of_entities(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from dbt.adapters.duckdb.connections import DuckDBConnectionManager
    from dbt.cli.main import dbtRunner

    (tmp_path / "lake.json").write_text(json.dumps(settings(tmp_path)))
    monkeypatch.chdir(tmp_path)
    for name, value in {
        "DDB_LAKE_CONFIG": "lake.json",
        "DDB_LAKE_DBT_DATABASE": "built.duckdb",
        "AWS_EC2_METADATA_DISABLED": "true",
    }.items():
        monkeypatch.setitem(os.environ, name, str(tmp_path / value) if "." in value else value)
    with lake_of(tmp_path / "lake", settings(tmp_path)["tables"][0]) as lake:
        load_export(lake, "app", str(full(ITEMS, table="app").write(tmp_path / "export")))
        write_frame(tmp_path / "project")
        write_models(tmp_path / "project", table_models(lake, "app"))
    project = ["--project-dir", str(tmp_path / "project"), "--profiles-dir", str(tmp_path / "project")]
    (tmp_path / "project/models/orders.sql").write_text(
        "{{ config(materialized='table') }} select number, created from {{ ref('stg_lake__app_order') }}"
    )
    done = dbtRunner().invoke(["--no-use-colors", "build", "--select", "stg_lake__app_user", "+orders", *project])
    DuckDBConnectionManager.close_all_connections()
    assert done.success, done.exception or done.result
    with duckdb.connect(str(tmp_path / "built.duckdb"), read_only=True) as con:
        assert con.execute("SELECT * FROM marts.orders").fetchall() == [("7", "2026-01-01")]
