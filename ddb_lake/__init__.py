"""Exact, fresh, queryable copies of Amazon DynamoDB tables in an Apache Iceberg lake, orchestrated by Dagster.

Importing this package is light: its public names, the Dagster component and `open` for notebooks and scripts, are
imported when they are asked for.
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
