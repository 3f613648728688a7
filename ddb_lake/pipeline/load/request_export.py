"""Requesting exports and waiting for them, for the command line and for the repair of a time range."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from ddb_lake.aws.export_requests import ExportState, start_first_unfailed, wait_for_export
from ddb_lake.config import TableSettings
from ddb_lake.core.capture.export_windows import SHORTEST_S, Window, split, token
from ddb_lake.errors import ConfigError, UsageError
from ddb_lake.pipeline.capture.incremental_exports import SETTLE_S, latest_end_us, start_due
from ddb_lake.pipeline.load.load import LoadResult, load_export
from ddb_lake.pipeline.open_lake import Lake

_TOKENS = 4


def export_increments(lake: Lake, name: str) -> list[LoadResult]:
    """Start the exports of the windows that are due, wait for those in progress, and load them. Does nothing if none is due."""
    increments = start_due(lake, name)
    return list(_load_when_finished(lake, name, (*increments.finished, *increments.under_way)))


def export_window(lake: Lake, name: str, from_us: int, to_us: int) -> list[LoadResult]:
    """Export the changes of [from_us, to_us) and load them. Then the lake has the state of every key that changed.

    Args:
        lake: the open lake.
        name: the table.
        from_us: the beginning (inclusive, UTC microseconds).
        to_us: the end (exclusive).

    Raises:
        UsageError: as `start_window`.
        ExportError: an export fails. The message has DynamoDB's reason.
    """
    return list(_load_when_finished(lake, name, start_window(lake, name, from_us, to_us)))


def start_window(lake: Lake, name: str, from_us: int, to_us: int) -> list[ExportState]:
    """Start the export of the changes of [from_us, to_us), without waiting for it.

    DynamoDB exports windows of 15 minutes to 24 hours
    (https://aws.amazon.com/blogs/database/introducing-incremental-export-from-amazon-dynamodb-to-amazon-s3/): a longer time range is
    exported in parts, a shorter one is extended. Begun seconds are exported as a whole. Repeating the call after a crash
    finds the exports that were started.

    Args:
        lake: the open lake.
        name: the table. It needs `export` settings; `changes.incremental_exports` decides the view, if it is set.
        from_us: the beginning (inclusive, UTC microseconds).
        to_us: the end (exclusive).

    Raises:
        ConfigError: the table has no `export` settings.
        UsageError: the time range is empty, or ends less than a minute ago.
        ExportError: DynamoDB refuses an export.
    """
    table = lake.table(name)
    if table.export is None:
        raise ConfigError("nowhere to export to", table=name, hint="add `export: {bucket: …}`")
    until_s = latest_end_us(lake) // 1_000_000
    wanted = Window(from_us // 1_000_000, -(-to_us // 1_000_000))
    if wanted.seconds <= 0 or wanted.to_s > until_s:
        raise UsageError(
            f"a stretch to export begins before it ends, and ends at least {SETTLE_S} s ago",
            table=name,
            hint="try again with other times, or later",
        )
    place = f"{table.export.bucket}/{table.export.prefix}"
    windows = split(wanted)
    if windows[-1].to_s > until_s:
        raise UsageError(
            f"DynamoDB exports windows of at least {SHORTEST_S} s: try again when that is over", table=name
        )
    return [_started(table, place, window) for window in windows]


def _started(table: TableSettings, place: str, window: Window) -> ExportState:
    """The export of exactly this window: a new one, or the one that was started before, unless it has failed."""
    named = f"{window.from_s}/{window.to_s}"
    tokens = (token(table.source_name, place, named, number) for number in range(_TOKENS))
    return start_first_unfailed(table, tokens, window=window)


def _load_when_finished(lake: Lake, name: str, exports: Iterable[ExportState]) -> Iterator[LoadResult]:
    table = lake.table(name)
    for export in exports:
        ended = wait_for_export(table, export, lambda s: lake.progress(f"{name}: seconds waited for DynamoDB", s))
        yield load_export(lake, name, ended.manifest_uri)
