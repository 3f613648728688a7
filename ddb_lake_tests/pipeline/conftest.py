"""Fixtures of the pipeline's tests."""

from __future__ import annotations

from ddb_lake_tests.support.memory_store import steps as steps
from ddb_lake_tests.support.no_source import no_source as no_source
