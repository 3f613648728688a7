"""Repairing gaps: the time in which change records may be missing is exported from the source, and loaded."""

from __future__ import annotations

from dataclasses import dataclass

from ddb_lake.aws.export_requests import start_export, wait_for_export
from ddb_lake.aws.source import restorable_since_s
from ddb_lake.core.capture.export_windows import SHORTEST_S
from ddb_lake.core.capture.gaps import Gap, open_ranges
from ddb_lake.pipeline.capture.gap_log import open_gaps
from ddb_lake.pipeline.capture.incremental_exports import SETTLE_S
from ddb_lake.pipeline.load.load import load_export
from ddb_lake.pipeline.load.request_export import export_window
from ddb_lake.pipeline.open_lake import Lake

SECOND_US = 1_000_000


@dataclass(frozen=True, slots=True)
class GapsResult:
    """The result of a repair. `exports`: the ids of those loaded. `left`: gaps still open; `again_us`: when to repair again."""

    table: str
    exports: tuple[str, ...] = ()
    left: tuple[Gap, ...] = ()
    again_us: int | None = None


def repair_gaps(lake: Lake, name: str) -> GapsResult:
    """Repair every open gap, by incremental exports of the gap and of the clock skew allowance after it.

    If point-in-time recovery no longer reaches back to a gap, a new full export replaces everything before it. Exports end a
    minute ago at the latest, and their ends may be off by the clock skew allowance: the part of a gap after that stays open.

    Args:
        lake: an open lake.
        name: the table's name.

    Raises:
        ExportError: DynamoDB refuses or fails an export (see `pipeline.load.request_export.export_window`).
    """
    table = lake.table(name)
    loaded: list[str] = []
    unrepaired = open_ranges(open_gaps(lake, name), table.clock_skew_us)
    earliest_s = restorable_since_s(table) if unrepaired else None
    if unrepaired and earliest_s is not None and unrepaired[0][0] < earliest_s * SECOND_US:
        state = wait_for_export(
            table, start_export(table), lambda s: lake.progress(f"{name}: seconds waited for DynamoDB", s)
        )
        loaded.append(load_export(lake, name, state.manifest_uri).export_id)
        unrepaired = open_ranges(open_gaps(lake, name), table.clock_skew_us)
    latest = (int(lake.now().timestamp()) - SETTLE_S) * SECOND_US
    for low, high in unrepaired:
        until = min(high, latest)
        low = max(low, (earliest_s or 0) * SECOND_US)
        if low < until and low + SHORTEST_S * SECOND_US <= latest:
            loaded += [found.export_id for found in export_window(lake, name, low, until)]
    left = open_gaps(lake, name)
    repairable_us = [max(gap.to_us + table.clock_skew_us, gap.from_us + SHORTEST_S * SECOND_US) for gap in left]
    again_us = max(repairable_us) + SETTLE_S * SECOND_US if left else None
    return GapsResult(name, tuple(loaded), left, again_us)
