"""Lakes with several tables, and what they hold, in short."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

from ddb_lake.config import parse_settings
from ddb_lake.executors import open_lake
from ddb_lake.pipeline.open_lake import Lake
from ddb_lake.pipeline.plan.planner import Planner
from ddb_lake.pipeline.plan.work import Work
from ddb_lake.pipeline.read.dump import dump_items
from ddb_lake.pipeline.read.query import QueryResult, run_query
from ddb_lake.pipeline.read.time_travel import run_query_as_of
from ddb_lake_tests.support.export_files import sorted_items


@contextmanager
def lake_of(folder: Path, *tables: dict[str, Any]) -> Iterator[Lake]:
    """An open lake in `folder`; tables have the key `id` unless they say otherwise."""
    settings = {"warehouse": str(folder), "tables": [{"key": ["id"], **table} for table in tables]}
    with open_lake(parse_settings(settings, "test")) as lake:
        yield lake


def dumped(lake: Lake, name: str = "orders", as_of_us: int | None = None) -> list[str]:
    """The items of a table, to be compared with `sorted_items`."""
    return sorted_items(json.loads(line)["Item"] for line in dump_items(lake, name, as_of_us))


def due_work(lake: Lake, *tables: str) -> list[Work]:
    """All work that is due for some tables (all by default)."""
    chosen = [lake.table(name) for name in tables] or lake.settings.tables
    return [work for table in chosen for work in Planner(lake).due(table)]


def queried(lake: Lake, sql: str, as_of_us: int | None = None) -> list[tuple[Any, ...]]:
    """All rows of a query of the lake as it is now, or as of an instant."""
    with query_result(lake, sql, as_of_us) as result:
        return [row for batch in result.batches() for row in batch]


def query_result(lake: Lake, sql: str, as_of_us: int | None = None) -> AbstractContextManager[QueryResult]:
    """The result of a query of the lake as it is now, or as of an instant."""
    return run_query(lake, sql) if as_of_us is None else run_query_as_of(lake, sql, as_of_us)
