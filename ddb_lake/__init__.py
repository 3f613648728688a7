"""Exact, fresh, queryable copies of Amazon DynamoDB tables in an Apache Iceberg lake, orchestrated by Dagster.

Public names: `open`, `OpenLake` and `LakeTable` for notebooks and scripts, and `DynamoDBLakeComponent` for Dagster. They are
imported on first use, so `import ddb_lake` is fast. `ddb_lake.errors` has the exceptions.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ddb_lake.api import LakeTable, OpenLake, open
    from ddb_lake.orchestration.component import DynamoDBLakeComponent

_HOMES = {
    "DynamoDBLakeComponent": "ddb_lake.orchestration.component",
    "LakeTable": "ddb_lake.api",
    "OpenLake": "ddb_lake.api",
    "open": "ddb_lake.api",
}

__all__ = ["DynamoDBLakeComponent", "LakeTable", "OpenLake", "open"]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
