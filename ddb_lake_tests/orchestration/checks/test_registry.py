"""Every check is in the registry, and has advice when it is not green."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import dagster as dg
import pytest

from ddb_lake.config import TableSettings
from ddb_lake.orchestration.checks.evaluation import GREEN, TODO, Check, Outcome
from ddb_lake.orchestration.checks.registry import CHECKS
from ddb_lake.orchestration.specs import LakeAsset, TableAssets
from ddb_lake_tests.support.dagster_folders import FolderLake

Make = Callable[..., FolderLake]


def steps(result: dg.AssetCheckResult) -> list[str]:
    """The advice of an evaluation."""
    table: Any = result.metadata[TODO]
    return [str(record.data["do"]) for record in table.records]


def test_every_check_of_a_lake_is_in_the_registry(folder_lake: Make) -> None:
    checks = {"sample": 3, "full": {}, "canary": {"key": {"customer": {"S": "c"}, "order_id": {"N": "0"}}}}
    changes = {"uri": "s3://landing/", "errors_uri": "s3://failed/", "streams": True}
    aurora = {"host": "db", "database": "d", "user": "u", "password_env": "P"}
    graph = folder_lake(orders={"checks": checks, "changes": changes, "aurora": aurora}).defs.resolve_asset_graph()

    listed = {dg.AssetCheckKey(dg.AssetKey([check.asset, "orders"]), check.name) for check in CHECKS}
    assert set(graph.asset_check_keys) == listed
    assert all(check.advice for check in CHECKS)


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: f"{check.asset}/{check.name}")
def test_red_check_has_its_advice_and_a_green_one_none(check: Check) -> None:
    asset = LakeAsset(check.asset, TableSettings(name="orders"))
    assets = TableAssets(asset.table, {check.asset: dg.AssetSpec(asset.key)})

    green, red = (check.result(assets, Outcome(state, "")) for state in ("pass", "fail"))

    assert (green.passed, red.passed) == (True, False)
    assert TODO not in (green.metadata or {})
    assert steps(red) == [step.format(table="orders") for step in check.advice]


def test_errors_and_failures_are_red() -> None:
    assert frozenset({"pass", "unknown"}) == GREEN
