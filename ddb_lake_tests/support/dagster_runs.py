"""What tests of Dagster runs share: its own warnings, and its log."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest

DAGSTERS_OWN = (
    "ignore:.parse_obj_as. is deprecated:pydantic.PydanticDeprecatedSince20",
    "ignore::dagster_shared.utils.warnings.BetaWarning",
    "ignore:sqlglotrs is deprecated:DeprecationWarning",  # imported by dagster-dbt, where that is installed
)
"""What Dagster itself does when it loads components' YAML."""


@pytest.fixture
def quiet_runs() -> Iterator[None]:
    """Runs log to the terminal unless they are configured not to."""
    logger = logging.getLogger("dagster")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    yield
    logger.setLevel(level)


@pytest.fixture
def without_telemetry(no_aws: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Dagster without AWS and without telemetry. The Region is set because clients need one."""
    monkeypatch.setenv("AWS_REGION", "eu-west-1")
    monkeypatch.setenv("DAGSTER_DISABLE_TELEMETRY", "yes")
