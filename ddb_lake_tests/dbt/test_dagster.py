"""The models in Dagster: keys, lineage column by column, checks; and none of these where dbt is not configured."""

from __future__ import annotations

import importlib.util
import json
import logging
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dagster as dg
import duckdb
import pytest

from ddb_lake.dbt.project import table_models, write_frame, write_models
from ddb_lake.errors import ConfigError
from ddb_lake.orchestration import dbt as models
from ddb_lake.orchestration.component import DynamoDBLakeComponent
from ddb_lake.orchestration.dbt import manifest
from ddb_lake.pipeline.apply.apply import apply_objects
from ddb_lake.pipeline.load.load import load_export
from ddb_lake_tests.support.automation_ticks import Ticks
from ddb_lake_tests.support.dbt_lake import DATABASE, dbt
from ddb_lake_tests.support.export_files import HOUR_US, T0_US, change, full, item, land
from ddb_lake_tests.support.several_tables import lake_of

pytestmark = [
    pytest.mark.filterwarnings("ignore"),  # notices between dagster-dbt, dbt and sqlglot
]
MART = "select status, count(*) as how_many from {{ ref('dim_orders_history') }} group by status"


@dataclass(frozen=True)
class Small:
    """A lake of one table, and the dbt project that `init-dbt` begins for it, with a mart."""

    folder: Path

    @property
    def project(self) -> Path:
        """The dbt project."""
        return self.folder / "models"

    @property
    def settings(self) -> dict[str, Any]:
        """The lake's configuration."""
        table = {"name": "orders", "key": ["id"], "changes": {"uri": str(self.folder / "landing")}}
        return {"warehouse": str(self.folder / "lake"), "tables": [table]}

    def definitions(self, **dbt: Any) -> dg.Definitions:
        """The component's definitions."""
        return dg.build_defs_for_component(DynamoDBLakeComponent.resolve_from_dict({**self.settings, "dbt": dbt}))


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Small:
    found = Small(tmp_path_factory.mktemp("small"))
    one, two = item("1", status="new"), item("2", status="new")
    with lake_of(found.folder / "lake", {"name": "orders"}) as lake:
        load_export(lake, "orders", str(full([one, two]).write(found.folder / "exports")))
        landed = land(found.folder / "landing" / "x", change(T0_US + HOUR_US, item("1", status="old"), one))
        apply_objects(lake, "orders", [landed])
        write_frame(found.project)
        write_models(found.project, table_models(lake, "orders"))
    mart = found.project / "models" / "marts" / "statuses.sql"
    mart.parent.mkdir(exist_ok=True)
    mart.write_text(MART)
    return found


@pytest.fixture(scope="module")
def defs(small: Small) -> dg.Definitions:
    return small.definitions(project=str(small.project), schedule="5 * * * *")


@pytest.fixture(scope="module")
def run(defs: dg.Definitions, small: Small) -> Iterator[dg.ExecuteInProcessResult]:
    name = next(job.name for job in defs.jobs or () if job.name.endswith("_dbt"))
    with pytest.MonkeyPatch.context() as patch, dg.DagsterInstance.ephemeral() as instance:
        patch.setenv("DDB_LAKE_DBT_DATABASE", str(small.folder / "lake_marts.duckdb"))
        yield defs.resolve_job_def(name).execute_in_process(instance=instance)


def test_models_stand_downstream_of_the_lake(defs: dg.Definitions) -> None:
    graph = defs.resolve_asset_graph()
    parents = {
        key.to_user_string(): {parent.to_user_string() for parent in graph.get(key).parent_keys}
        for key in graph.get_all_asset_keys()
    }

    assert parents["staging/stg_lake__orders"] == {"current/orders"}
    assert parents["staging/stg_lake__orders_changes"] == {"changes/orders"}
    assert parents["marts/statuses"] == {"marts/dim_orders_history"}
    assert graph.get(dg.AssetKey(["marts", "statuses"])).group_name == "marts"
    checks = {
        key.name for key in graph.asset_check_keys if key.asset_key == dg.AssetKey(["marts", "dim_orders_history"])
    }
    assert {"ddb_lake_intervals_disjoint_dim_orders_history_id", "unique_dim_orders_history__version_id"} <= checks
    assert any(schedule.name.endswith("_dbt_schedule") for schedule in defs.schedules or ())


def test_run_builds_the_models_and_reports_their_tests(run: dg.ExecuteInProcessResult, small: Small) -> None:
    assert run.success
    built = {event.asset_key.to_user_string() for event in run.get_asset_materialization_events() if event.asset_key}
    assert built == {
        "staging/stg_lake__orders",
        "staging/stg_lake__orders_changes",
        "marts/dim_orders_history",
        "marts/fct_orders_daily_changes",
        "marts/statuses",
    }
    evaluations = run.get_asset_check_evaluations()
    assert len(evaluations) > 8
    assert all(evaluation.passed for evaluation in evaluations)
    with duckdb.connect(str(small.folder / "lake_marts.duckdb"), read_only=True) as con:
        assert con.execute("FROM marts.statuses ORDER BY ALL").fetchall() == [("new", 2), ("old", 1)]


@pytest.fixture(scope="module")
def red(small: Small) -> Iterator[dg.ExecuteInProcessResult]:
    """A run on models that were built, in which a version of an item is there a second time. Without columns' lineage."""
    defs = small.definitions(project=str(small.project), column_lineage=False)
    database = small.folder / "broken" / DATABASE
    database.parent.mkdir()
    (database.parent / "lake.json").write_text(json.dumps(small.settings))
    dbt(database.parent, "run", project=small.project)
    with duckdb.connect(str(database)) as con:
        con.execute("INSERT INTO marts.dim_orders_history FROM marts.dim_orders_history WHERE id = '2'")
    name = next(job.name for job in defs.jobs or () if job.name.endswith("_dbt"))
    with pytest.MonkeyPatch.context() as patch, dg.DagsterInstance.ephemeral() as instance:
        patch.setenv("DDB_LAKE_DBT_DATABASE", str(database))
        yield defs.resolve_job_def(name).execute_in_process(instance=instance, raise_on_error=False)


@pytest.mark.exhaustive
def test_test_that_fails_is_a_red_check_of_its_model(red: dg.ExecuteInProcessResult) -> None:
    told = {(e.asset_key.to_user_string(), e.check_name): e for e in red.get_asset_check_evaluations()}
    failed = {place for place, evaluation in told.items() if not evaluation.passed}

    broken = ("marts/dim_orders_history", "unique_dim_orders_history__version_id")
    assert failed == {broken, ("marts/dim_orders_history", "ddb_lake_intervals_disjoint_dim_orders_history_id")}
    assert told[broken].severity is dg.AssetCheckSeverity.ERROR
    assert told[broken].metadata["dagster_dbt/failed_row_count"].value == 1
    assert len(told) > 8


@pytest.mark.exhaustive
def test_run_with_a_red_check_fails_and_builds_nothing_on_that_model(red: dg.ExecuteInProcessResult) -> None:
    built = {event.asset_key.to_user_string() for event in red.get_asset_materialization_events() if event.asset_key}

    assert not red.success
    assert "marts/statuses" not in built
    assert {"staging/stg_lake__orders", "marts/dim_orders_history", "marts/fct_orders_daily_changes"} <= built


def test_columns_can_be_followed_from_the_mart_to_the_lake(run: dg.ExecuteInProcessResult) -> None:
    lineage: dict[str, Any] = {}
    for event in run.get_asset_materialization_events():
        found = event.materialization.metadata["dagster/column_lineage"]
        assert isinstance(found, dg.TableColumnLineageMetadataValue)
        lineage[event.materialization.asset_key.to_user_string()] = {
            column: {(dep.asset_key.to_user_string(), dep.column_name) for dep in deps}
            for column, deps in found.value.deps_by_column.items()
        }

    mart = next(e for e in run.get_asset_materialization_events() if e.asset_key == dg.AssetKey(["marts", "statuses"]))
    shown = mart.materialization.metadata["columns made of"]
    assert "| status | `marts/dim_orders_history`.status |" in str(shown.value)
    assert lineage["marts/statuses"]["status"] == {("marts/dim_orders_history", "status")}
    status = lineage["marts/dim_orders_history"]["status"]
    assert {("staging/stg_lake__orders", "status"), ("staging/stg_lake__orders_changes", "_new_image")} <= status
    assert lineage["staging/stg_lake__orders"]["status"] == {("current/orders", "status")}
    assert lineage["staging/stg_lake__orders_changes"]["_new_image"] == {("changes/orders", "new_image")}


def test_every_test_of_dbt_says_what_it_tests(defs: dg.Definitions) -> None:
    graph = defs.resolve_asset_graph()
    of_models = [key for key in graph.asset_check_keys if key.asset_key.path[0] in ("staging", "marts")]
    said = {key.name: graph.get_check_spec(key).description for key in of_models}
    assert said and [name for name, text in said.items() if not text] == []


def test_models_follow_the_lake_unless_a_schedule_builds_them(defs: dg.Definitions, small: Small) -> None:
    with dg.DagsterInstance.ephemeral() as instance:
        scheduled, following = Ticks(defs, instance), Ticks(small.definitions(project=str(small.project)), instance)
        assert scheduled.tick() == following.tick() == {}
        instance.report_runless_asset_event(dg.AssetMaterialization(["current", "orders"]))
        assert scheduled.tick() == {}
        assert {"staging/stg_lake__orders", "marts/dim_orders_history", "marts/statuses"} == set(following.tick())
        instance.report_runless_asset_event(dg.AssetMaterialization(["changes", "orders"], partition="2025-02-03"))
        found = set(following.tick())
        assert {"current/orders", "staging/stg_lake__orders_changes", "marts/fct_orders_daily_changes"} == found


def test_nothing_without_a_project_or_without_dagster_dbt(
    small: Small, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    bare = small.definitions()
    assert not any(job.name.endswith("_dbt") for job in bare.jobs or ())

    real = importlib.util.find_spec
    monkeypatch.setattr(models.importlib.util, "find_spec", lambda name: None if name == "dagster_dbt" else real(name))
    with caplog.at_level(logging.WARNING):
        without = small.definitions(project=str(small.project))
    assert not any(job.name.endswith("_dbt") for job in without.jobs or ())
    assert "dagster-dbt is not installed" in caplog.text


def test_manifest_is_made_again_only_when_files_have_changed(
    defs: dg.Definitions, small: Small, monkeypatch: pytest.MonkeyPatch
) -> None:
    parsed: list[Path] = []
    monkeypatch.setattr(manifest, "_parse", lambda folder, *_: parsed.append(folder))

    small.definitions(project=str(small.project))
    assert parsed == []
    with pytest.raises(FileNotFoundError):  # what was parsed is put in place, and this parser makes nothing
        small.definitions(project=str(small.project), vars={"another": 1})
    assert parsed == [small.project]


@pytest.mark.exhaustive
def test_packages_are_installed_before_the_first_parse(small: Small, tmp_path: Path) -> None:
    project = tmp_path / "clone"
    shutil.copytree(small.project, project, ignore=shutil.ignore_patterns("dbt_packages", "target"))
    graph = small.definitions(project=str(project)).resolve_asset_graph()
    assert dg.AssetKey(["marts", "dim_orders_history"]) in graph.get_all_asset_keys()


def test_folder_without_a_project_is_a_fault_of_the_configuration(small: Small, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no dbt_project"):
        small.definitions(project=str(tmp_path))
