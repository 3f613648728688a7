"""Checks as asset checks of Dagster; and `content`: every key against an export or the source, on request."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from ddb_lake import DynamoDBLakeComponent
from ddb_lake.checks.check import Check
from ddb_lake.checks.registry import CHECKS
from ddb_lake.config import TableSettings, parse_settings
from ddb_lake.core.verify.outcome import Outcome, judged, unknown
from ddb_lake.errors import ConfigError
from ddb_lake.orchestration.checks import TODO, check_result
from ddb_lake.orchestration.specs import LakeAsset, TableAssets
from ddb_lake.pipeline.read.verification_report import last_report
from ddb_lake.pipeline.verify.repair import repair_from_export
from ddb_lake.sandbox import Sandbox, Traffic
from ddb_lake_tests.support.corruptions import double_row, lose_row, put_row
from ddb_lake_tests.support.dagster_folders import FolderLake, inserted
from ddb_lake_tests.support.landed_files import EXPORT_ID, order
from ddb_lake_tests.support.sandbox_lake import BUCKET, orders_source

Make = Callable[..., FolderLake]
KEY = dg.AssetCheckKey(dg.AssetKey(["current", "orders"]), "content")


def evaluate(defs: dg.Definitions, instance: dg.DagsterInstance) -> dg.AssetCheckEvaluation:
    """Evaluate the check alone, as its button in the UI does."""
    job = dg.define_asset_job("asked_for", selection=dg.AssetSelection.checks(KEY), executor_def=dg.in_process_executor)
    made = dg.Definitions(assets=defs.assets, asset_checks=defs.asset_checks, jobs=[job])
    (found,) = made.resolve_job_def("asked_for").execute_in_process(instance=instance).get_asset_check_evaluations()
    return found


def table(evaluation: dg.AssetCheckEvaluation, name: str) -> list[dict[str, Any]]:
    value: Any = evaluation.metadata[name]
    return [dict(record.data) for record in value.records]


def steps(result: dg.AssetCheckResult) -> list[str]:
    """The advice of an evaluation."""
    advice: Any = result.metadata[TODO]
    return [str(record.data["do"]) for record in advice.records]


def test_every_check_of_the_registry_is_in_dagster(folder_lake: Make) -> None:
    checks = {"sample": 3, "full": {}, "canary": {"key": {"customer": {"S": "c"}, "order_id": {"N": "0"}}}}
    changes = {"uri": "s3://landing/", "errors_uri": "s3://failed/", "streams": True}
    aurora = {"host": "db", "database": "d", "user": "u", "password_env": "P"}
    orders = {"checks": checks, "changes": changes, "aurora": aurora, "entities": [{"name": "rest"}]}
    graph = folder_lake(orders=orders).defs.resolve_asset_graph()

    listed = {dg.AssetCheckKey(dg.AssetKey([check.asset, "orders"]), check.name) for check in CHECKS}
    assert set(graph.asset_check_keys) == listed


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: f"{check.asset}/{check.name}")
def test_only_what_passed_is_green_and_the_rest_has_advice(check: Check) -> None:
    asset = LakeAsset(check.asset, TableSettings(name="orders"))
    assets = TableAssets(asset.table, {check.asset: dg.AssetSpec(asset.key)})

    def result(outcome: Outcome) -> dg.AssetCheckResult:
        return check_result(check, assets, outcome)

    green, red, yellow = result(judged(True, "")), result(judged(False, "")), result(unknown("AWS does not answer"))
    doubtful = result(judged(False, "", certain=False))

    assert [found.passed for found in (green, red, yellow, doubtful)] == [True, False, False, False]
    assert yellow.severity == doubtful.severity == dg.AssetCheckSeverity.WARN
    assert red.severity == dg.AssetCheckSeverity("WARN" if check.severity == "warning" else "ERROR")
    assert yellow.description == f"unknown: {check.question}, because AWS does not answer."
    assert TODO not in (green.metadata or {})
    assert steps(red) == steps(yellow) == [step.format(table="orders").replace("`", '"') for step in check.advice]


@pytest.fixture
def loaded(folder_lake: Make) -> FolderLake:
    """Five orders of an export and one that came later, and a full check against the newest export."""
    lake = folder_lake(orders={"checks": {"full": {}}})
    lake.export(*(order("ann", number, note={"S": "secret"}) for number in range(5)))
    lake.land("2025/02/03/04/a", inserted(9))
    lake.settle()
    return lake


def test_equal_lake_is_green_and_the_report_is_kept(loaded: FolderLake) -> None:
    found = evaluate(loaded.defs, loaded.instance)
    assert (found.passed, found.description) == (
        True,
        f"The rows of 5 keys were compared with export {EXPORT_ID}: all are equal. 1 more have a change that explains a difference.",
    )
    assert found.metadata["changed meanwhile"].value == 1
    assert TODO not in found.metadata
    with loaded.opened() as lake:
        kept = last_report(lake, "orders")
        assert kept is not None and (kept["strength"], kept["outcome"]) == ("full", "equal")


def test_spoiled_lake_is_red_and_says_how_many_keys_differ_how_and_which(loaded: FolderLake) -> None:
    with loaded.opened() as lake:
        lose_row(lake, "orders", order("ann", 0))
        lose_row(lake, "orders", order("ann", 1))
        double_row(lake, "orders", order("ann", 2, note={"S": "secret"}))
        put_row(lake, "orders", order("ann", 3, note={"S": "other secret"}))
    found = evaluate(loaded.defs, loaded.instance)
    assert not found.passed and found.severity == dg.AssetCheckSeverity.ERROR
    assert found.description == (
        f"4 keys differ from export {EXPORT_ID}: 2 missing, 1 doubled, 1 wrong. 1 more have a change that explains a difference."
        " `ddb-lake repair orders` repairs them."
    )
    assert {row["difference"]: row["keys"] for row in table(found, "kinds")} == {"missing": 2, "doubled": 1, "wrong": 1}
    assert all(row["meaning"] for row in table(found, "kinds"))
    keys = table(found, "first keys at fault")
    assert sorted(row["difference"] for row in keys) == ["doubled", "missing", "missing", "wrong"]
    assert "secret" not in str(found) and "ann" not in json.dumps(keys)
    assert "ddb-lake repair orders" in table(found, TODO)[0]["do"]
    with loaded.opened() as lake:
        kept = last_report(lake, "orders")
        assert kept is not None
        faulty = [difference["key"] for difference in kept["differences"]]
        repair_from_export(lake, "orders", faulty, str(loaded.folder / "exports"))
    assert evaluate(loaded.defs, loaded.instance).passed


def test_export_that_cannot_be_read_is_never_called_equal(loaded: FolderLake) -> None:
    (data,) = (loaded.folder / "exports").rglob("*.json.gz")
    data.unlink()
    found = evaluate(loaded.defs, loaded.instance)
    assert not found.passed and found.severity == dg.AssetCheckSeverity.ERROR
    assert data.name in (found.description or "")


def test_table_without_an_export_warns_and_says_how_to_get_one(folder_lake: Make) -> None:
    lake = folder_lake(orders={"checks": {"full": {}}})
    lake.land("2025/02/03/04/a", inserted(1))
    lake.settle()
    found = evaluate(lake.defs, lake.instance)
    assert not found.passed and found.severity == dg.AssetCheckSeverity.WARN
    assert "ddb-lake export orders" in (found.description or "")


def test_check_is_there_only_where_it_is_configured_and_not_among_the_hourly_ones(folder_lake: Make) -> None:
    asked = folder_lake(orders={"checks": {"full": {"schedule": "0 6 * * 0"}}}, others=[{"name": "idle", "key": ["k"]}])
    graph = asked.defs.resolve_asset_graph()
    assert [key for key in graph.asset_check_keys if key.name == "content"] == [KEY]
    hourly = asked.defs.resolve_job_def(f"{asked.name}_checks_job").execute_in_process(instance=asked.instance)
    names = {found.check_name for found in hourly.get_asset_check_evaluations()}
    assert "up_to_date" in names and "content" not in names
    schedules = {s.name: s for s in asked.defs.schedules or () if isinstance(s, dg.ScheduleDefinition)}
    weekly = schedules[f"{asked.name}_content_orders"]
    assert weekly.cron_schedule == "0 6 * * 0"
    ran = asked.defs.resolve_job_def(weekly.job_name).execute_in_process(instance=asked.instance)
    assert [found.check_name for found in ran.get_asset_check_evaluations()] == ["content"]


@pytest.mark.parametrize(
    "settings",
    [
        {"checks": {"full": {}}},
        {"checks": {"full": {"against": "nothing"}}},
        {"checks": {"full": {"against": "scan", "settle": "soon"}}},
    ],
)
def test_full_check_that_cannot_be_is_reported_at_once(settings: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        parse_settings({"warehouse": "lake", "tables": [{"name": "orders", **settings}]}, "test")


# --- against the source


@pytest.fixture
def source(monkeypatch: pytest.MonkeyPatch) -> Iterator[Sandbox]:
    with orders_source(monkeypatch) as sandbox:
        Traffic(sandbox.client("dynamodb"), seed=3).insert(20)
        yield sandbox


@pytest.mark.parametrize(("against", "compared"), [("scan", "scan of orders"), ("new_export", "export ")])
def test_source_is_scanned_or_exported_for_the_check(
    source: Sandbox, tmp_path: Path, against: str, compared: str
) -> None:
    settings: Any = {"name": "orders", "export": {"bucket": BUCKET}, "checks": {"full": {"against": against}}}
    component = DynamoDBLakeComponent(warehouse=str(tmp_path / "lake"), tables=(settings,))
    defs = dg.build_defs_for_component(component)
    with dg.DagsterInstance.ephemeral() as instance:
        export = [asset for asset in defs.assets or () if isinstance(asset, dg.AssetsDefinition)]
        loading = [a for a in export if a.keys & {dg.AssetKey([s, "orders"]) for s in ("export", "snapshot")}]
        assert dg.materialize(loading, instance=instance).success
        found = evaluate(defs, instance)
        assert found.passed and compared in (found.description or "")
        assert found.metadata["keys compared"].value == 20
        source.client("dynamodb").put_item(
            TableName="orders", Item={"customer": {"S": "eve"}, "order_id": {"S": "new"}}
        )
        found = evaluate(defs, instance)
        assert not found.passed and found.metadata["differences"].value == 1
