import re
from collections.abc import Iterator
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
import yaml
from dagster.components.core.component_tree import ComponentTreeException
from dagster.components.testing import create_defs_folder_sandbox

from ddb_lake import DynamoDBLakeComponent
from ddb_lake.config import LakeSettings, load_settings
from ddb_lake.config.inventory import Inventory, InventoryTable, Search, inventory_file, write_inventory
from ddb_lake.orchestration.specs import LakeAsset, TableAssets
from ddb_lake.pipeline.open_lake import Lake

ORDERS: dict[str, Any] = {
    "name": "orders",
    "key": ["customer", "order_id"],
    "export": {"bucket": "exports", "schedule": "0 3 * * 0"},
    "changes": {"uri": "s3://landing/orders/"},
}


FULL_CHECK = {"full": {"schedule": "0 6 * * 0"}}


def attributes(*tables: dict[str, Any], **more: Any) -> dict[str, Any]:
    lake = {"warehouse": "lake", "tables": list(tables or [ORDERS]), **more}
    return {"type": "ddb_lake.DynamoDBLakeComponent", "attributes": lake}


def build(*tables: dict[str, Any], **more: Any) -> dg.Definitions:
    with create_defs_folder_sandbox() as sandbox:
        path = sandbox.scaffold_component(
            DynamoDBLakeComponent, defs_path="lake", defs_yaml_contents=attributes(*tables, **more)
        )
        with sandbox.load_component_and_build_defs(defs_path=path) as (component, defs):
            assert isinstance(component, DynamoDBLakeComponent)
            return defs


def keys(defs: dg.Definitions) -> set[str]:
    """The keys of the tables' assets, without the lake's overview."""
    found = {key.to_user_string() for key in defs.resolve_asset_graph().get_all_asset_keys()}
    return {key for key in found if not key.startswith("lake/")}


def test_scaffold_writes_a_starter_that_loads() -> None:
    with create_defs_folder_sandbox() as sandbox:
        path = sandbox.scaffold_component(
            DynamoDBLakeComponent,
            defs_path="lake",
            scaffold_params={"table": "items", "key": "id", "changes_uri": "s3://landing/items/"},
        )
        written = load_settings(path / "defs.yaml", {})
        with sandbox.load_component_and_build_defs(defs_path=path) as (component, defs):
            assert isinstance(component, DynamoDBLakeComponent)
            assert component.settings == written
            assert written.table("items").key == ("id",)
            assert keys(defs) == {"dynamodb/items", "changes/items", "current/items"}


def test_component_has_every_setting_of_a_lake(monkeypatch: pytest.MonkeyPatch) -> None:
    """A setting that the component does not have could be used on the command line only."""
    assert set(LakeSettings.model_fields) <= set(DynamoDBLakeComponent.model_fields)
    hashed = {**ORDERS, "columns": {"mail": {"hash": True}}}
    given = {"hash_key": {"env": "KEY"}, "landing": "landing", "snapshots": {"keep": 7}, "bucket_owner": "111122223333"}
    with create_defs_folder_sandbox() as sandbox:
        path = sandbox.scaffold_component(
            DynamoDBLakeComponent, defs_path="lake", defs_yaml_contents=attributes(hashed, **given)
        )
        with sandbox.load_component_and_build_defs(defs_path=path) as (component, _):
            assert isinstance(component, DynamoDBLakeComponent)
            assert component.settings == load_settings(path / "defs.yaml", {})
            assert (component.settings.landing, component.settings.snapshots.keep) == ("landing", 7)


def test_tables_of_a_pattern_are_those_of_the_file_beside_the_component() -> None:
    """Neither the definitions nor the command line call AWS. Settings, and overridden methods, apply to each table."""
    entry = {"match": "prod-{name}", "changes": {"uri": "s3://landing/{name}/"}, "tags": {"team": "shop"}}
    gone = datetime(2026, 3, 1, tzinfo=UTC)
    found = [
        InventoryTable(table=f"prod-{name}", arn=f"arn:{name}", key=("id",), key_types={"id": "S"}, missing_since=since)
        for name, since in (("carts", gone), ("users", None))
    ]
    with create_defs_folder_sandbox() as sandbox:
        path = sandbox.scaffold_component(
            DynamoDBLakeComponent, defs_path="lake", defs_yaml_contents=attributes(ORDERS, entry)
        )
        with pytest.raises(ComponentTreeException) as failed, sandbox.load_component_and_build_defs(defs_path=path):
            pass
        assert "defs.tables.json, which does not exist; run `ddb-lake discover --config" in str(failed.value.__cause__)
        inventory = Inventory(searches=(Search(match="prod-{name}"),), tables=tuple(found))
        write_inventory(inventory_file(path / "defs.yaml"), inventory)
        with sandbox.load_component_and_build_defs(defs_path=path) as (_, defs):
            tables = {key.rpartition("/")[2] for key in keys(defs)}
            assert tables == {one.name for one in load_settings(path / "defs.yaml", {}).tables}
            assert tables == {"orders", "carts", "users"}
            graph = defs.resolve_asset_graph()
            assert graph.get(dg.AssetKey(["changes", "users"])).metadata["landing"] == "s3://landing/users/"
            assert graph.get(dg.AssetKey(["current", "users"])).tags["team"] == "shop"
            since = {
                name: graph.get(dg.AssetKey(["dynamodb", name])).metadata.get("not found since") for name in tables
            }
            assert since == {"orders": None, "users": None, "carts": dg.MetadataValue.timestamp(gone)}


@pytest.mark.parametrize(
    ("given", "start"), [(None, date(2025, 2, 3)), ("2024-01-01", date(2024, 1, 1)), ("", datetime.now(UTC).date())]
)
def test_scaffolded_partitions_begin_with_the_first_change_in_a_local_folder(
    tmp_path: Path, given: str | None, start: date
) -> None:
    """Without a change, with the present day."""
    from ddb_lake.orchestration.scaffolder import ScaffoldParams, starter

    for hour in ("2025/02/04/00", "2025/02/03/23") if given != "" else ():
        (tmp_path / hour).mkdir(parents=True)
        (tmp_path / hour / "x").touch()
    params = ScaffoldParams(changes_uri=str(tmp_path), first_day=given)  # type: ignore[call-arg]

    changes = yaml.safe_load(starter("x.Y", params))["attributes"]["tables"][0]["changes"]

    assert changes == {"uri": str(tmp_path), "partitions": {"start": start}}


def test_scaffolded_text_is_yaml_for_any_parameters() -> None:
    from ddb_lake.orchestration.scaffolder import ScaffoldParams, starter

    params = ScaffoldParams(table='t"x', key="a b,ü", warehouse="C:\\lake: #1", export_bucket="e", changes_uri=None)
    lake = yaml.safe_load(starter("x.Y", params))["attributes"]

    assert lake["warehouse"] == params.warehouse
    assert lake["tables"][0]["key"] == ["a b", "ü"]


def test_table_has_the_assets_its_settings_call_for() -> None:
    defs = build(
        ORDERS,
        {"name": "exported", "key": ["k"], "export": {"bucket": "e"}},
        {"name": "streamed", "key": ["k"], "changes": {"uri": "s3://landing/streamed/"}},
        {"name": "by-hand", "key": ["k"]},
    )

    assert keys(defs) == {
        *(f"{stage}/orders" for stage in ("dynamodb", "export", "snapshot", "changes", "current")),
        *(f"{stage}/exported" for stage in ("dynamodb", "export", "snapshot", "current")),
        *(f"{stage}/streamed" for stage in ("dynamodb", "changes", "current")),
        *(f"{stage}/by-hand" for stage in ("dynamodb", "current")),
    }


def test_definitions_need_no_resources() -> None:
    defs = build()

    assert not defs.resources
    for name in ("lake_sync", "lake_compact", "lake_export_orders", "lake_checks_job"):
        assert defs.resolve_job_def(name).required_resource_keys <= {"io_manager"}


def test_two_lakes_live_in_one_project() -> None:
    with create_defs_folder_sandbox() as sandbox:
        for name in ("one", "two"):
            lake = attributes(warehouse=name, translation={"key_prefix": name})
            sandbox.scaffold_component(DynamoDBLakeComponent, defs_path=name, defs_yaml_contents=lake)
        with sandbox.build_all_defs() as defs:
            dg.Definitions.validate_loadable(defs)
            assert {sensor.name for sensor in defs.sensors or ()} == {
                f"{lake}_{name}" for lake in ("one", "two") for name in ("arrivals", "following")
            }


def test_translation_changes_what_dagster_shows() -> None:
    defs = build(
        translation={
            "key_prefix": "aws",
            "group_name": "lake",
            "owners": ["team:data"],
            "tags": {"domain": "{{ table }}-{{ stage }}"},
        }
    )

    current = defs.resolve_asset_graph().get(dg.AssetKey(["aws", "current", "orders"]))
    assert {key.to_user_string() for key in current.parent_keys} == {"aws/snapshot/orders", "aws/changes/orders"}
    assert (current.group_name, list(current.owners)) == ("lake", ["team:data"])
    assert current.tags["domain"] == "orders-current"
    assert current.tags["ddb_lake/table"] == "orders", "translation adds to the tags"


def test_get_asset_spec_and_execute_can_be_overridden(tmp_path: Path) -> None:
    class Mine(DynamoDBLakeComponent):
        def get_asset_spec(self, asset: LakeAsset) -> dg.AssetSpec:
            spec = super().get_asset_spec(asset)
            return spec.replace_attributes(key=spec.key.with_prefix("mine"))

        def execute(
            self, context: dg.AssetExecutionContext, lake: Lake, assets: TableAssets, config: dg.Config | None
        ) -> Iterator[dg.MaterializeResult[None] | dg.AssetCheckResult]:
            for result in super().execute(context, lake, assets, config):
                if isinstance(result, dg.MaterializeResult):
                    yield result._replace(metadata={**(result.metadata or {}), "mine": True})
                else:
                    yield result

    tables: Any = [{"name": "orders", "key": ["k"]}]
    defs = dg.build_defs_for_component(Mine(warehouse=str(tmp_path), tables=tables))
    key = dg.AssetKey(["mine", "current", "orders"])

    result = defs.resolve_implicit_global_asset_job_def().get_subset(asset_selection={key}).execute_in_process()

    (event,) = result.get_asset_materialization_events()
    assert event.materialization.metadata["mine"].value is True
    assert {dep.to_user_string() for dep in defs.resolve_asset_graph().get(key).parent_keys} == {"mine/dynamodb/orders"}


def test_unknown_attribute_fails_the_load_with_its_place() -> None:
    with pytest.raises(Exception, match="Error while loading") as caught:
        build({**ORDERS, "exprot": {}})

    assert re.search(r"tables\.0\.exprot at .*defs\.yaml:\d+", str(caught.value.__cause__))


def test_writers_of_a_table_share_a_pool_and_exports_do_not() -> None:
    defs = build()
    pools = {
        key.to_user_string(): assets.op.pool
        for assets in defs.assets or ()
        if isinstance(assets, dg.AssetsDefinition)
        for key in assets.keys
    }

    assert pools["changes/orders"] == pools["current/orders"] == pools["snapshot/orders"] == "ddb_lake_orders"
    assert pools["export/orders"] == "ddb_lake_export_orders"


def test_everything_that_can_be_started_has_a_description() -> None:
    defs = build({**ORDERS, "daily_states": {"start": "2026-03-01", "schedule": "30 1 * * *"}, "checks": FULL_CHECK})
    jobs = [defs.resolve_job_def(job.name) for job in defs.get_repository_def().get_all_jobs()]
    described = {job.name: job.description for job in jobs if not job.name.startswith("__")}
    described |= {sensor.name: sensor.description for sensor in defs.sensors or ()}
    graph = defs.resolve_asset_graph()
    described |= {str(key): graph.get_check_spec(key).description for key in graph.asset_check_keys}
    assert len(described) > 15 and [name for name, text in described.items() if not text] == []


def test_lake_without_tables_is_nothing() -> None:
    tables: Any = []
    assert not dg.build_defs_for_component(DynamoDBLakeComponent(warehouse="w", tables=tables)).assets


def test_executor_of_the_code_location_is_set_on_request_only() -> None:
    """Two lakes may set it; a project that sets another one leaves the setting out."""
    executors = [build(one_process_per_run=chosen).executor for chosen in (False, True)]
    assert executors == [None, dg.in_process_executor]
    lakes = [build(ORDERS, key_prefix=name, one_process_per_run=True) for name in ("one", "two")]
    assert dg.Definitions.merge(*lakes).executor is dg.in_process_executor
