"""Lakes stepped by hand, and no way to the real AWS."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import dagster as dg
import pytest

from ddb_lake_tests.support.dagster_folders import FolderLake
from ddb_lake_tests.support.dagster_runs import DAGSTERS_OWN
from ddb_lake_tests.support.dagster_runs import quiet_runs as quiet_runs
from ddb_lake_tests.support.dagster_runs import without_telemetry as without_telemetry
from ddb_lake_tests.support.memory_store import steps as steps


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.filterwarnings(*DAGSTERS_OWN))


@pytest.fixture(autouse=True)
def _isolated(without_telemetry: None, quiet_runs: None) -> None:
    """Every test of Dagster's definitions and runs."""


@pytest.fixture
def folder_lake(tmp_path: Path) -> Iterator[Callable[..., FolderLake]]:
    """`folder_lake(orders={…}, others=[…])`: a lake whose exports and change objects lie in folders."""
    with dg.DagsterInstance.ephemeral() as instance:
        yield lambda **options: FolderLake(tmp_path, instance, **options)
