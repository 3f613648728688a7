"""The record of gaps: kept with the changelog, in the same commits as its rows.

Detectors call `record_gap`; loading an export calls `record_repair`; `status` and the checks read `open_gaps`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from ddb_lake.config import TableSettings
from ddb_lake.core.capture.gaps import (
    ALWAYS_US,
    Gap,
    add_gap,
    repaired_gaps,
)
from ddb_lake.core.layout.export_manifest import ExportSummary
from ddb_lake.core.operations.retry_policy import retry_commit
from ddb_lake.lake.commit import Commit, Delta
from ddb_lake.lake.state import ChangesState, changes_state
from ddb_lake.pipeline.apply.changelog import ensure_changelog
from ddb_lake.pipeline.open_lake import Lake
from ddb_lake.pipeline.table_key import table_key


def all_gaps(lake: Lake, table: str) -> tuple[Gap, ...]:
    """Every gap ever recorded of a table, mended or not, by their beginning."""
    lake.table(table)
    changes = lake.changes(table)
    return changes_state(changes).gaps


def open_gaps(lake: Lake, table: str) -> tuple[Gap, ...]:
    """The gaps that nothing has mended."""
    return tuple(gap for gap in all_gaps(lake, table) if gap.is_open)


def record_gap(lake: Lake, table: str, gap: Gap) -> tuple[Gap, ...]:
    """Record a stretch of which records may be missing; gives the open gaps afterwards.

    Idempotent: what is recorded already, or was mended, is left as it is. Makes the changelog if there is none.
    """
    found = update_log(lake, table, lambda state: replace(state, gaps=add_gap(state.gaps, gap)), make=True)
    return tuple(g for g in found.gaps if g.is_open)


def record_repair(lake: Lake, table: str, from_us: int, to_us: int, repaired_by: str) -> tuple[Gap, ...]:
    """Record that [from_us, to_us) was mended, by an export of that id; gives the open gaps afterwards.

    `core.capture.gaps.ALWAYS_US` as the beginning stands for all time before `to_us`. Idempotent.
    """
    found = update_log(lake, table, lambda s: replace(s, gaps=repaired_gaps(s.gaps, from_us, to_us, repaired_by)))
    return tuple(g for g in found.gaps if g.is_open)


def repair_by_export(lake: Lake, settings: TableSettings, summary: ExportSummary) -> None:
    """Close what a loaded export mends: a full one all before it, an incremental one its window.

    An export's end may be off by up to the snapshot margin, so what it mends ends that far before it. Its beginning is
    taken for exact (`core.capture.gaps.stretches` says why); `verify` finds what that misses.
    """
    begin = ALWAYS_US if summary.from_us is None else summary.from_us
    end = summary.as_of_us - settings.clock_skew_us
    if begin < end:
        record_repair(lake, settings.name, begin, end, summary.export_id)


def update_log(
    lake: Lake, table: str, change: Callable[[ChangesState], ChangesState], make: bool = False
) -> ChangesState:
    """Change the changelog's state in a commit of its own; gives the state afterwards.

    No commit if `change` changes nothing. Without a changelog, nothing happens unless `make`.
    """
    lake.table(table)

    def attempt() -> ChangesState:
        changes = lake.changes(table)
        if changes is None:
            if not make:
                return ChangesState()
            changes = ensure_changelog(lake, table, table_key(lake, table))
        state = changes_state(changes)
        wanted = change(state)
        if wanted != state:
            commit = Commit(changes)
            commit.snapshot(Delta())
            commit.set_properties(wanted.properties())
            commit.run()
        return wanted

    return retry_commit(attempt)
