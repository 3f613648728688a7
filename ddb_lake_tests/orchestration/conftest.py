"""Lakes stepped by hand, and no way to the real AWS."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from ddb_lake.aws.session import session
from ddb_lake_tests.support.dagster_folders import FolderLake
from ddb_lake_tests.support.memory_store import Steps

DAGSTERS_OWN = (
    "ignore:.parse_obj_as. is deprecated:pydantic.PydanticDeprecatedSince20",
    "ignore::dagster_shared.utils.warnings.BetaWarning",
    "ignore:sqlglotrs is deprecated:DeprecationWarning",  # imported by dagster-dbt, where that is installed
)
"""What Dagster itself does when it loads components' YAML."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.filterwarnings(*DAGSTERS_OWN))


@pytest.fixture(autouse=True)
def no_aws(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """No credentials, and no long look for any; a home of its own for whatever asks for one."""
    for name in ("AWS_PROFILE", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_ENDPOINT_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "no-aws-config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "no-aws-credentials"))
    monkeypatch.setenv("AWS_REGION", "eu-west-1")
    monkeypatch.setenv("DAGSTER_DISABLE_TELEMETRY", "yes")
    session.cache_clear()
    yield
    session.cache_clear()


@pytest.fixture(autouse=True)
def quiet_runs() -> Iterator[None]:
    """Runs log to the terminal unless they are told not to."""
    logger = logging.getLogger("dagster")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    yield
    logger.setLevel(level)


@pytest.fixture
def steps(tmp_path: Path) -> Iterator[Callable[..., Steps]]:
    """`steps({"name": …}, …)`: a lake of these tables on a store in memory."""
    made: list[Steps] = []

    def make(*tables: dict[str, Any]) -> Steps:
        made.append(Steps(tmp_path / f"lake{len(made)}", *tables))
        return made[-1]

    yield make
    for one in made:
        one.catalog.close()


@pytest.fixture
def folder_lake(tmp_path: Path) -> Iterator[Callable[..., FolderLake]]:
    """`folder_lake(orders={…}, others=[…])`: a lake whose exports and change objects lie in folders."""
    with dg.DagsterInstance.ephemeral() as instance:
        yield lambda **options: FolderLake(tmp_path, instance, **options)
