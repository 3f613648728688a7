"""A source table that cannot be reached."""

from __future__ import annotations

import pytest

from ddb_lake.aws.source import SourceTable
from ddb_lake.pipeline import table_key


@pytest.fixture
def no_source(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(table_key, "describe_source", lambda table: SourceTable(unreachable="there is none"))
