"""A source table that cannot be reached."""

from __future__ import annotations

import pytest

from ddb_lake.aws.source import SourceTable
from ddb_lake.pipeline import open_lake


@pytest.fixture
def no_source(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(open_lake, "describe_source", lambda table: SourceTable(unreachable="there is none"))
