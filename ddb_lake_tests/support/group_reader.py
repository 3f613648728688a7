"""A `GroupReader` without a lake: all its tables have the same definition."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from ddb_lake.core.decode.routing import Routes
from ddb_lake.core.values.json_schema import Validator
from ddb_lake.pipeline.apply.object_reader import GroupReader, ReadOptions, TableDefinition


def group_reader(
    folder: str | Path,
    table: str,
    key: tuple[str, ...] = ("id",),
    *,
    fast: bool = True,
    routes: Mapping[str, str] | None = None,
) -> GroupReader:
    """A reader of objects of `table`. `fast`: False keeps it from the fast path, by a JSON Schema that all records satisfy."""
    definition = TableDefinition(key, None if fast else Validator([]))
    return GroupReader(Path(folder), ReadOptions(table, Routes(routes or {table: table})), lambda _table: definition)
