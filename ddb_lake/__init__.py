"""Exact, fresh, queryable copies of Amazon DynamoDB tables in an Apache Iceberg lake, orchestrated by Dagster.

Importing this package is light: the Dagster component, which is its public name, is imported when it is asked for.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ddb_lake.orchestration.component import DynamoDBLakeComponent

__all__ = ["DynamoDBLakeComponent"]


def __getattr__(name: str) -> Any:
    if name in __all__:
        return getattr(import_module("ddb_lake.orchestration.component"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
