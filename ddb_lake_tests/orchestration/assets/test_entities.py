"""The entities of a table are assets below `current`, which the step that writes `current` materializes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from ddb_lake_tests.support.dagster_folders import FolderLake
from ddb_lake_tests.support.landed_files import EXPORT_US, change, order

ENTITIES = [{"name": "ann", "key": {"customer": "a{name}"}}, {"name": "rest"}]
MINUTE_US = 60_000_000


@pytest.fixture
def lake(tmp_path: Path) -> Any:
    with dg.instance_for_test() as instance:
        yield FolderLake(tmp_path, instance, {"entities": ENTITIES})


def _rows(lake: FolderLake, entity: str) -> int:
    """The rows that the newest materialization of an entity states."""
    event = lake.instance.get_latest_materialization_event(dg.AssetKey(["current", "orders", entity]))
    assert event is not None and event.asset_materialization is not None
    return int(event.asset_materialization.metadata["dagster/row_count"].value)  # type: ignore[arg-type]


@pytest.mark.exhaustive
def test_runs_of_the_sensor_materialize_entities(lake: FolderLake) -> None:
    graph = lake.defs.resolve_asset_graph()
    node = graph.get(dg.AssetKey(["current", "orders", "ann"]))
    assert node.parent_keys == {dg.AssetKey(["current", "orders"])}
    lake.export(order("ann", 1), order("bob", 1))
    assert all(run.success for run in lake.settle())
    assert (_rows(lake, "ann"), _rows(lake, "rest")) == (1, 1)
    lake.land("2025/02/03/04/x", change(1, EXPORT_US + 30 * MINUTE_US, order("amy", 2)))
    assert all(run.success for run in lake.settle())
    assert (_rows(lake, "ann"), _rows(lake, "rest")) == (2, 1)
    assert lake.run("current/orders/rest").success
