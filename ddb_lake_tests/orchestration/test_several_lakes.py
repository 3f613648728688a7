"""Two lakes with tables of the same name in one code location."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from dagster.components.testing import create_defs_folder_sandbox

from ddb_lake import DynamoDBLakeComponent
from ddb_lake.config import COMPONENT_TYPE, parse_settings
from ddb_lake.executors import open_lake
from ddb_lake.orchestration.in_process_daemon import InProcessDaemon
from ddb_lake.orchestration.specs import python_name
from ddb_lake_tests.support.dagster_folders import inserted
from ddb_lake_tests.support.landed_files import order, write_changes, write_export
from ddb_lake_tests.support.several_tables import dumped


def component(folder: Path, prefix: str) -> DynamoDBLakeComponent:
    (folder / "landing").mkdir(parents=True)
    (folder / "exports").mkdir()
    table: Any = {
        "name": "orders",
        "key": ["customer", "order_id"],
        "export": {"bucket": str(folder / "exports"), "schedule": "0 1 * * *"},
        "changes": {"uri": str(folder / "landing")},
        "daily_states": {"start": "2024-05-10", "schedule": "30 1 * * *"},
    }
    return DynamoDBLakeComponent(warehouse=str(folder / "lake"), key_prefix=prefix, tables=(table,))


def prefixed_attributes(folder: Path, prefix: str) -> dict[str, Any]:
    """What `component` makes, as a file of a project has it."""
    table = component(folder, prefix).tables[0].model_dump(mode="json", by_alias=True, exclude_unset=True)
    return {"warehouse": str(folder / "lake"), "key_prefix": prefix, "tables": [table]}


def names(defs: dg.Definitions) -> list[str]:
    """The names of everything that must be unique in a code location."""
    repository = defs.get_repository_def()
    parts: list[Any] = [*repository.get_all_jobs(), *repository.sensor_defs, *repository.schedule_defs]
    return [one.name for one in parts]


def test_lakes_of_one_code_location_load_tick_and_materialize(tmp_path: Path) -> None:
    lakes = {name: prefixed_attributes(tmp_path / name, name) for name in ("eu", "us")}
    with create_defs_folder_sandbox() as project:
        for name, attributes in lakes.items():
            contents = {"type": COMPONENT_TYPE, "attributes": attributes}
            project.scaffold_component(DynamoDBLakeComponent, defs_path=name, defs_yaml_contents=contents)
        with project.build_all_defs() as defs:
            dg.Definitions.validate_loadable(defs)
            bring_up_to_date(defs, tmp_path, list(lakes))
    for name, attributes in lakes.items():
        with open_lake(parse_settings(attributes, name)) as opened:
            found = "".join(dumped(opened))
        other = "us" if name == "eu" else "eu"
        assert f'"exported {name}"' in found and f'"{name}"' in found and f'"{other}"' not in found


def bring_up_to_date(defs: dg.Definitions, folder: Path, lakes: Sequence[str]) -> None:
    """Land an export and a change in each lake; tick each sensor, and materialize what it requests."""
    for number, name in enumerate(lakes):
        write_export(folder / name / "exports", "orders", [order(f"exported {name}", number)])
        write_changes(folder / name / "landing" / "2025/02/03/04/x", inserted(number + 1, customer=name))
    with dg.DagsterInstance.ephemeral() as instance:
        for name in lakes:
            ticker = InProcessDaemon(defs, instance, f"{name}_arrivals")
            runs = [run for _ in range(4) for run in ticker.tick().runs]
            assert runs and all(run.success for run in runs)
            written = {asset for run in runs for asset, _ in run.materialized}
            assert {f"{name}/snapshot/orders", f"{name}/changes/orders", f"{name}/current/orders"} <= written
            assert all(asset.startswith(f"{name}/") for asset in written)


def test_lakes_of_one_project_need_different_prefixes(tmp_path: Path) -> None:
    lakes = [dg.build_defs_for_component(component(tmp_path / name, "")) for name in ("eu", "us")]
    with pytest.raises(dg.DagsterInvalidDefinitionError, match="Duplicate asset key"):
        dg.Definitions.validate_loadable(dg.Definitions.merge(*lakes))


@pytest.mark.parametrize(
    ("attributes", "groups"),
    [
        ({}, {"orders", "b_2d_items", "overview"}),
        ({"key_prefix": "eu"}, {"eu_orders", "eu_b_2d_items", "eu_overview"}),
        ({"group_by": "stage"}, {"dynamodb", "changes", "current", "overview"}),
        ({"group_by": "stage", "key_prefix": "eu"}, {"eu_dynamodb", "eu_changes", "eu_current", "eu_overview"}),
    ],
)
def test_groups_are_by_table_or_by_stage(attributes: dict[str, Any], groups: set[str]) -> None:
    tables = [
        {"name": name, "key": ["id"], "changes": {"uri": f"s3://landing/{name}/"}} for name in ("orders", "b-items")
    ]
    lake = DynamoDBLakeComponent.resolve_from_dict({"warehouse": "lake", "tables": tables, **attributes})
    graph = dg.build_defs_for_component(lake).resolve_asset_graph()
    found = {graph.get(key).group_name for key in graph.get_all_asset_keys()}
    assert found == {name.replace("b_2d_items", python_name("b-items")) for name in groups}


def test_everything_that_dagster_names_has_the_prefix(tmp_path: Path) -> None:
    alone = dg.build_defs_for_component(component(tmp_path / "one", ""))
    prefixed = dg.build_defs_for_component(component(tmp_path / "two", "eu"))
    assert not set(names(alone)) & set(names(prefixed)) - {"__ASSET_JOB"}
    graph = prefixed.resolve_asset_graph()
    assert {key.path[0] for key in graph.get_all_asset_keys()} <= {"eu", "lake"}
    assert dg.AssetKey(["lake", "eu"]) in graph.get_all_asset_keys()
    for key in (
        dg.build_defs_for_component(component(tmp_path / "three", "")).resolve_asset_graph().get_all_asset_keys()
    ):
        assert len(key.path) == 2, "keys without a prefix have not changed"
    pools = {
        op.pool
        for asset in prefixed.assets or ()
        if isinstance(asset, dg.AssetsDefinition)
        for op in [asset.op]
        if op.pool is not None
    }
    assert pools == {"ddb_lake_eu_orders", "ddb_lake_eu_export_orders", "ddb_lake_eu_daily_orders"}


@pytest.mark.parametrize("prefix", ["a/b", "a-b", "x" * 51, "a b"])
def test_prefix_that_dagster_cannot_have_in_names_is_an_error(tmp_path: Path, prefix: str) -> None:
    with pytest.raises(ValueError, match="key_prefix"):
        component(tmp_path, prefix)
