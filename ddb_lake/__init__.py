"""Exact, fresh, queryable copies of Amazon DynamoDB tables in an Apache Iceberg lake, orchestrated by Dagster.

Public names: `open`, `OpenLake` and `LakeTable` for notebooks and scripts, `DynamoDBLakeComponent` for Dagster, the classes of
errors (`errors` has their tree), and `__version__`. They are imported on first use, so `import ddb_lake` is fast.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from ddb_lake import errors
from ddb_lake.errors import (
    CheckFailed,
    CommitConflict,
    CommitStateUnknown,
    ConfigError,
    DamagedError,
    DatabaseError,
    DdbLakeError,
    DeniedError,
    ExportError,
    MemoryLimitError,
    TerminalError,
    TransientError,
    UndecodableError,
    UnreachableError,
    UsageError,
)

if TYPE_CHECKING:
    from ddb_lake.api import LakeTable, OpenLake, open
    from ddb_lake.orchestration.component import DynamoDBLakeComponent

    __version__: str

_HOMES = {
    "DynamoDBLakeComponent": "ddb_lake.orchestration.component",
    "LakeTable": "ddb_lake.api",
    "OpenLake": "ddb_lake.api",
    "open": "ddb_lake.api",
}

__all__ = [
    "CheckFailed",
    "CommitConflict",
    "CommitStateUnknown",
    "ConfigError",
    "DamagedError",
    "DatabaseError",
    "DdbLakeError",
    "DeniedError",
    "DynamoDBLakeComponent",
    "ExportError",
    "LakeTable",
    "MemoryLimitError",
    "OpenLake",
    "TerminalError",
    "TransientError",
    "UndecodableError",
    "UnreachableError",
    "UsageError",
    "__version__",
    "errors",
    "open",
]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    if name == "__version__":
        from ddb_lake.core.operations.release import release  # start-up time

        return release()
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
