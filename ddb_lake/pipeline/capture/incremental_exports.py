"""Capturing changes by incremental exports: which windows are due, under way or finished, and starting the due ones.

No state is kept between runs. The windows that are loaded are in the changelog's state, those that are exported in DynamoDB's
list of exports, and both give the beginning of the next (`core.capture.export_windows`). A run may end at any point, and
several may run at once: a window is started once, because all runs request it with the same ClientToken.
https://docs.aws.amazon.com/amazondynamodb/latest/APIReference/API_ExportTableToPointInTime.html
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from ddb_lake.aws.export_requests import ExportState, describe_export, list_exports, start_export
from ddb_lake.aws.source import restorable_since_s
from ddb_lake.config import ExportSettings, IncrementalExportSettings, TableSettings, seconds
from ddb_lake.core.capture.export_windows import Window, chain_end, due_windows, token
from ddb_lake.core.operations.retry_policy import retry_commit
from ddb_lake.core.values.time_text import iso_text
from ddb_lake.errors import ConfigError, ExportError
from ddb_lake.lake.state import base_export, changes_state
from ddb_lake.pipeline.open_lake import Lake

SETTLE_S = 60
"""A window is requested so long after its end: DynamoDB's clock may differ from ours by up to a minute."""


@dataclass(frozen=True, slots=True)
class Increments:
    """The incremental exports of a table.

    `covered_s`: until when (exclusive, seconds since the epoch) the lake has them without a gap. `under_way`: started
    and not ended; `finished`: ended and not loaded; `failed`: ended without files. `due`: windows to start.
    """

    table: str
    covered_s: int
    under_way: tuple[ExportState, ...] = ()
    finished: tuple[ExportState, ...] = ()
    failed: tuple[ExportState, ...] = ()
    due: tuple[Window, ...] = ()


def wanted_increments(table: TableSettings) -> IncrementalExportSettings | None:
    """The settings of the table's incremental exports; None if changes come another way."""
    return table.changes.incremental_exports if table.changes is not None else None


def covered_until_s(lake: Lake, table: TableSettings) -> int | None:
    """The end (exclusive, epoch seconds) of the changes since the base that incremental exports cover; None without a base."""
    base_s = _base_s(lake, table)
    return None if base_s is None else chain_end(base_s, _loaded(lake, table))


def past_due(lake: Lake, table: TableSettings) -> str | None:
    """Why windows may be due, from the lake's state alone; None if none can be. It calls no AWS service."""
    wanted = wanted_increments(table)
    loaded_s = covered_until_s(lake, table) if wanted is not None else None
    if wanted is None or loaded_s is None or _until_s(lake) - loaded_s < seconds(wanted.every):
        return None
    return f"changes since {_text(loaded_s)} are not loaded"


def examine_windows(lake: Lake, name: str) -> Increments:
    """The windows that are loaded, exported and due. Reads the lake and DynamoDB's list of exports.

    Raises:
        ConfigError: the table has no place to export to.
        ExportError: no full export is loaded, or point-in-time recovery no longer reaches back to the next window.
    """
    table = lake.table(name)
    place, wanted, base_s = _required(lake, table)
    loaded, earliest_s = _loaded(lake, table), restorable_since_s(table)
    covered_s = chain_end(base_s, loaded)
    found = [export for export in _exports_since(table, place, covered_s) if not _is_loaded(export, loaded)]
    taken = [export.window for export in found if export.window is not None and export.status != "FAILED"]
    due = tuple(due_windows(base_s, _until_s(lake), seconds(wanted.every), [*loaded, *taken]))
    first_s = min((window.from_s for window in due), default=None)
    if first_s is not None and earliest_s is not None and first_s < earliest_s:
        raise ExportError(
            f"the next incremental export begins at {_text(first_s)}, and DynamoDB's point-in-time recovery "
            f"reaches back to {_text(earliest_s)} only: what changed between is not to be had that way",
            table=name,
            hint=f"take a new full export: `ddb-lake export {name}`",
        )
    status = {state: tuple(e for e in found if e.status == state) for state in ("IN_PROGRESS", "COMPLETED", "FAILED")}
    return Increments(name, covered_s, status["IN_PROGRESS"], status["COMPLETED"], status["FAILED"], due)


def start_due(lake: Lake, name: str, most: int | None = None) -> Increments:
    """Start every window that is due, or the first `most`, without waiting for them.

    Returns:
        The windows after that; the started ones are under way.

    Raises:
        ConfigError: as `examine_windows`.
        ExportError: as `examine_windows`, or DynamoDB refuses an export or has failed it; with the next step.
    """

    def attempt() -> Increments:
        # Another run may have started a window with the same beginning. DynamoDB then refuses the token; plan again.
        found = examine_windows(lake, name)
        return _start(lake, lake.table(name), replace(found, due=found.due[:most]))

    return retry_commit(attempt)


def _start(lake: Lake, table: TableSettings, found: Increments) -> Increments:
    started = []
    for window in found.due:
        earlier = [export for export in found.failed if export.window and export.window.from_s == window.from_s]
        if earlier:
            lake.warn(f"{table.name}: {window_text(window)} failed before and is tried again: {earlier[-1].failure}")
        state = start_export(table, token=_token(table, window, len(earlier)), window=window)
        if state.status == "FAILED":
            raise ExportError(f"the export of {window_text(window)} failed: {state.failure}", table=table.name)
        started.append(state)
    return Increments(table.name, found.covered_s, (*found.under_way, *started), found.finished, found.failed)


def _token(table: TableSettings, window: Window, attempt: int) -> str:
    assert table.export is not None, "examine_windows requires it"
    place = f"{table.export.bucket}/{table.export.prefix}"
    return token(table.source_name, place, str(window.from_s), attempt)


def _required(lake: Lake, table: TableSettings) -> tuple[ExportSettings, IncrementalExportSettings, int]:
    base_s = _base_s(lake, table)
    if table.export is None:
        raise ConfigError("nowhere to export to", table=table.name, hint="add `export: {bucket: …}`")
    if base_s is None:
        raise ExportError(
            "incremental exports follow a full one, and none is loaded",
            table=table.name,
            hint=f"run `ddb-lake export {table.name}` first",
        )
    return table.export, wanted_increments(table) or IncrementalExportSettings(), base_s


def _base_s(lake: Lake, table: TableSettings) -> int | None:
    current = lake.current(table.name)
    base = base_export(current)
    return base.export_us // 1_000_000 if base is not None else None


def _loaded(lake: Lake, table: TableSettings) -> tuple[Window, ...]:
    changes = lake.changes(table.name)
    return changes_state(changes).windows


def _exports_since(table: TableSettings, place: ExportSettings, covered_s: int) -> list[ExportState]:
    """The incremental exports to our place that are started after `covered_s`: those of later windows all are."""
    found = [e for e in list_exports(table, since_s=covered_s) if e.export_type == "INCREMENTAL_EXPORT"]
    described = [describe_export(table, e.arn) for e in found if e.started_s is None or e.started_s >= covered_s]
    return [export for export in described if export.goes_to(place)]


def _is_loaded(export: ExportState, loaded: Sequence[Window]) -> bool:
    window = export.window
    return window is not None and any(w.from_s <= window.from_s and window.to_s <= w.to_s for w in loaded)


def full_export_time(lake: Lake, table: TableSettings) -> datetime | None:
    """The instant of a new full export; None where DynamoDB may choose it.

    With incremental exports, the end of the last window, so that the chain of windows continues from it. Before the first
    window, a whole second, because windows begin at one.
    """
    if wanted_increments(table) is None:
        return None
    earliest_s = restorable_since_s(table) or 0
    last_s = max((window.to_s for window in _loaded(lake, table)), default=0)
    return datetime.fromtimestamp(last_s if last_s >= max(earliest_s, 1) else max(_until_s(lake), earliest_s), UTC)


def latest_end_us(lake: Lake) -> int:
    """The latest end of a window that DynamoDB accepts in any case (UTC microseconds, a whole second)."""
    return _until_s(lake) * 1_000_000


def window_text(window: Window | None) -> str:
    """A window as text: `[start, end)`."""
    return "" if window is None else f"[{_text(window.from_s)}, {_text(window.to_s)})"


def _until_s(lake: Lake) -> int:
    return int(lake.now().timestamp()) - SETTLE_S


def _text(at_s: int) -> str:
    return str(iso_text(at_s * 1_000_000))
