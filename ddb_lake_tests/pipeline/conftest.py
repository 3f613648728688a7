"""Pipeline tests run without a source table: what the lake and its configuration do not state is unknown."""

from __future__ import annotations

import pytest

from ddb_lake_tests.support.memory_store import steps as steps
from ddb_lake_tests.support.no_source import no_source as no_source


@pytest.fixture(autouse=True)
def _without_source(no_source: None) -> None:
    """Every test of the pipeline."""
