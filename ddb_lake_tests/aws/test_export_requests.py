"""Requests of exports that fail before DynamoDB is called."""

from __future__ import annotations

import pytest

from ddb_lake.aws import export_requests
from ddb_lake.aws.source import SourceTable
from ddb_lake.config import TableSettings
from ddb_lake.errors import ConfigError


def test_export_of_a_table_that_cannot_be_reached_names_the_next_step(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        export_requests, "describe_source", lambda table: SourceTable(unreachable="Unable to locate credentials")
    )
    table = TableSettings.model_validate({"name": "orders", "key": ["id"], "export": {"bucket": "my-exports"}})

    with pytest.raises(ConfigError) as raised:
        export_requests.start_export(table)

    assert str(raised.value) == (
        "table orders: the source table orders cannot be reached (Unable to locate credentials);"
        " correct `source` in the configuration, or the AWS variables; `ddb-lake doctor` examines both"
    )
