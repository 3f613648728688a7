"""The stages of a table: which of its steps the settings require. Each is an asset in Dagster."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal, TypeAlias

from ddb_lake.config import TableSettings

Stage: TypeAlias = Literal[
    "dynamodb", "export", "increments", "streams", "snapshot", "changes", "current", "daily", "aurora"
]


def stages_of(table: TableSettings) -> Iterator[Stage]:
    """The stages that a table's settings require, upstream first."""
    yield "dynamodb"
    if table.export is not None:
        yield "export"
        if table.changes is not None and table.changes.incremental_exports is not None:
            yield "increments"
        yield "snapshot"
    if table.changes is not None:
        if table.changes.reads_stream:
            yield "streams"
        yield "changes"
    yield "current"
    if table.daily_states is not None:
        yield "daily"
    if table.aurora is not None:
        yield "aurora"
