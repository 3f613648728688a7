"""The models in Dagster: keys, lineage column by column, checks; and nothing of it where it is not asked for."""

from __future__ import annotations

import importlib.util
import logging
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from ddb_lake.errors import ConfigError
from ddb_lake.orchestration import dbt as models
from ddb_lake.orchestration.component import DynamoDBLakeComponent
from ddb_lake.orchestration.dbt import manifest
from ddb_lake_tests.dbt.conftest import PROJECT, ROOT, TABLES, Built, lake_settings

pytestmark = [
    pytest.mark.filterwarnings("ignore"),  # notices between dagster-dbt, dbt and sqlglot
]
SELECT = "stg_orders stg_orders_changes orders_history order_status_steps"


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the project, for dbt to write into."""
    folder = tmp_path_factory.mktemp("project")
    for path in PROJECT.rglob("*"):
        if path.is_file() and "target" not in path.parts and "logs" not in path.parts:
            copy = folder / path.relative_to(PROJECT)
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_text(path.read_text().replace("../ddb_lake", str(ROOT / "ddb_lake")))
    return folder


def definitions(built: Built, **dbt: Any) -> dg.Definitions:
    attributes = lake_settings(built.folder)
    attributes["tables"][0]["changes"] = {"uri": str(built.folder / "landing")}
    return dg.build_defs_for_component(DynamoDBLakeComponent.resolve_from_dict({**attributes, "dbt": dbt}))


@pytest.fixture(scope="module")
def defs(built: Built, project: Path) -> dg.Definitions:
    return definitions(built, project=str(project), select=SELECT, schedule="5 * * * *")


@pytest.fixture(scope="module")
def run(defs: dg.Definitions, built: Built, project: Path) -> Iterator[dg.ExecuteInProcessResult]:
    database = shutil.copy(built.database, project / "lake_marts.duckdb")
    name = next(job.name for job in defs.jobs or () if job.name.endswith("_dbt"))
    with pytest.MonkeyPatch.context() as patch, dg.DagsterInstance.ephemeral() as instance:
        patch.setenv("DDB_LAKE_DBT_DATABASE", str(database))
        yield defs.resolve_job_def(name).execute_in_process(instance=instance)


def test_models_stand_downstream_of_the_lake(defs: dg.Definitions) -> None:
    graph = defs.resolve_asset_graph()
    parents = {
        key.to_user_string(): {parent.to_user_string() for parent in graph.get(key).parent_keys}
        for key in graph.get_all_asset_keys()
    }

    assert parents["staging/stg_orders"] == {"current/orders"}
    assert parents["staging/stg_orders_changes"] == {"changes/orders"}
    assert parents["marts/order_status_steps"] == {"history/orders_history"}
    assert graph.get(dg.AssetKey(["marts", "order_status_steps"])).group_name == "marts"
    checks = {key.name for key in graph.asset_check_keys if key.asset_key == dg.AssetKey(["history", "orders_history"])}
    assert {"intervals_disjoint_orders_history_customer__order_id", "unique_orders_history__version_id"} <= checks
    assert any(schedule.name.endswith("_dbt_schedule") for schedule in defs.schedules or ())


def test_run_builds_the_models_and_tells_their_tests(run: dg.ExecuteInProcessResult) -> None:
    assert run.success
    built = {event.asset_key.to_user_string() for event in run.get_asset_materialization_events() if event.asset_key}
    assert built == {
        "staging/stg_orders",
        "staging/stg_orders_changes",
        "history/orders_history",
        "marts/order_status_steps",
    }
    evaluations = run.get_asset_check_evaluations()
    assert len(evaluations) > 8
    assert all(evaluation.passed for evaluation in evaluations)


def test_columns_can_be_followed_from_the_mart_to_the_lake(run: dg.ExecuteInProcessResult) -> None:
    lineage: dict[str, Any] = {}
    for event in run.get_asset_materialization_events():
        found = event.materialization.metadata["dagster/column_lineage"]
        assert isinstance(found, dg.TableColumnLineageMetadataValue)
        lineage[event.materialization.asset_key.to_user_string()] = {
            column: {(dep.asset_key.to_user_string(), dep.column_name) for dep in deps}
            for column, deps in found.value.deps_by_column.items()
        }

    assert lineage["marts/order_status_steps"]["status"] == {("history/orders_history", "status")}
    status = lineage["history/orders_history"]["status"]
    assert {("staging/stg_orders", "status"), ("staging/stg_orders_changes", "_new_image")} <= status
    assert lineage["staging/stg_orders"]["status"] == {("current/orders", "status")}
    assert lineage["staging/stg_orders_changes"]["_new_image"] == {("changes/orders", "new_image")}


def test_nothing_without_a_project_or_without_dagster_dbt(
    built: Built, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, project: Path
) -> None:
    bare = definitions(built)
    assert not any(job.name.endswith("_dbt") for job in bare.jobs or ())

    real = importlib.util.find_spec
    monkeypatch.setattr(models.importlib.util, "find_spec", lambda name: None if name == "dagster_dbt" else real(name))
    with caplog.at_level(logging.WARNING):
        without = definitions(built, project=str(project))
    assert not any(job.name.endswith("_dbt") for job in without.jobs or ())
    assert "dagster-dbt is not installed" in caplog.text


def test_manifest_is_made_again_only_when_files_have_changed(
    defs: dg.Definitions, built: Built, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    parsed: list[Path] = []
    monkeypatch.setattr(manifest, "_parse", lambda folder, *_: parsed.append(folder))

    definitions(built, project=str(project), select=SELECT)
    assert parsed == []
    with pytest.raises(FileNotFoundError):  # what was parsed is put in place, and this parser makes nothing
        definitions(built, project=str(project), vars=TABLES, select=SELECT)
    assert parsed == [project]


def test_folder_without_a_project_is_a_fault_of_the_configuration(built: Built, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no dbt_project"):
        definitions(built, project=str(tmp_path))
