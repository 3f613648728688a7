"""Run requests of planned work."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ddb_lake.config import parse_settings
from ddb_lake.orchestration.run_requests import Requests
from ddb_lake.orchestration.specs import base_spec, table_assets


def requests(*names: str, partitions: Mapping[str, Any] | None = None) -> Requests:
    tables = [
        {
            "name": name,
            "key": ["k"],
            "changes": {"uri": f"s3://b/{name}/", "partitions": dict(partitions or {})},
            "export": {"bucket": "e"},
        }
        for name in names
    ]
    settings = parse_settings({"warehouse": "lake", "tables": tables}, "test")
    made = {table.name: table_assets(table, lambda asset: base_spec(asset, settings)) for table in settings.tables}
    return Requests("lake", made)
