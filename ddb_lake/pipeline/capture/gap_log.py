"""The log of a table's gaps, in the changelog's state. The model of gaps is `core.capture.gaps`.

Detectors (`kinesis_monitor`, `streams`) call `record_gap`, loading an export calls `repair_by_export`, and `status` and the
checks read `open_gaps`. Gaps are repaired by `pipeline.verify.gap_repair`, which exports them and loads the exports.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from ddb_lake.config import TableSettings
from ddb_lake.core.capture.gaps import ALWAYS_US, Gap, add_gap, repaired_gaps
from ddb_lake.core.layout.export_manifest import ExportSummary
from ddb_lake.core.operations.retry_policy import retry_commit
from ddb_lake.lake.commit import Delta
from ddb_lake.lake.state import ChangesState, changes_state
from ddb_lake.pipeline.apply.changelog import ensure_changelog
from ddb_lake.pipeline.apply.ledger import upgraded
from ddb_lake.pipeline.open_lake import Lake
from ddb_lake.pipeline.table_key import table_key


def all_gaps(lake: Lake, table: str) -> tuple[Gap, ...]:
    """All recorded gaps of a table, open or repaired, by their beginning."""
    lake.table(table)
    return changes_state(lake.changes(table)).gaps


def open_gaps(lake: Lake, table: str) -> tuple[Gap, ...]:
    """The gaps that are not repaired."""
    return tuple(gap for gap in all_gaps(lake, table) if gap.is_open)


def record_gap(lake: Lake, table: str, gap: Gap) -> tuple[Gap, ...]:
    """Record a gap, and create the changelog if there is none. Idempotent: parts that were repaired stay repaired.

    Returns:
        All open gaps of the table.
    """
    log = update_log(lake, table, lambda state: replace(state, gaps=add_gap(state.gaps, gap)), create=True)
    return tuple(gap for gap in log.gaps if gap.is_open)


def record_repair(lake: Lake, table: str, from_us: int, to_us: int, repaired_by: str) -> tuple[Gap, ...]:
    """Record that an export repaired the time from `from_us` (inclusive) to `to_us` (exclusive). Idempotent.

    Args:
        lake: an open lake.
        table: the table's name.
        from_us: UTC microseconds; `core.capture.gaps.ALWAYS_US` for all time before `to_us`.
        to_us: UTC microseconds.
        repaired_by: the id of the export.

    Returns:
        The gaps that are still open.
    """
    log = update_log(lake, table, lambda s: replace(s, gaps=repaired_gaps(s.gaps, from_us, to_us, repaired_by)))
    return tuple(gap for gap in log.gaps if gap.is_open)


def repair_by_export(lake: Lake, settings: TableSettings, summary: ExportSummary) -> None:
    """Record what a loaded export repairs: a full one all time before it, an incremental one its window.

    An export's end may be off by up to the clock skew allowance, so the repaired time ends that much earlier. Its beginning
    is used as it is (see `core.capture.gaps.open_ranges`); `verify` finds what that misses.
    """
    begin = ALWAYS_US if summary.from_us is None else summary.from_us
    end = summary.as_of_us - settings.clock_skew_us
    if begin < end:
        record_repair(lake, settings.name, begin, end, summary.export_id)


def update_log(
    lake: Lake, table: str, change: Callable[[ChangesState], ChangesState], create: bool = False
) -> ChangesState:
    """Change the changelog's state in a commit of its own, if `change` changes anything; returns the new state.

    Without a changelog, it is created if `create` is set; otherwise nothing happens.
    """

    def attempt() -> ChangesState:
        changes = lake.changes(table)
        if changes is None:
            if not create:
                return ChangesState()
            changes = ensure_changelog(lake, table, table_key(lake, table))
        changes = upgraded(lake, table, changes)
        state = changes_state(changes)
        changed = change(state)
        if changed != state:
            lake.commit_delta(changes, Delta(), changed.properties())
        return changed

    return retry_commit(attempt)
