"""Detecting gaps of a Kinesis destination: switched off, another stream, another precision, records that it rejected.

The last observation is stored with the changelog. It is renewed when something changes, and otherwise once an hour, so that
a gap is recorded as beginning at most an hour too early. A destination that is switched off and on again between two
observations is not detected.
"""

from __future__ import annotations

from dataclasses import replace

from ddb_lake.aws.kinesis import failed_replications, observe_destination
from ddb_lake.core.capture.gaps import Gap, Observation, gap_between
from ddb_lake.core.operations.count_text import count_text
from ddb_lake.errors import TerminalError
from ddb_lake.lake.state import base_export, changes_state
from ddb_lake.pipeline.capture.gap_log import open_gaps, record_gap, update_log
from ddb_lake.pipeline.open_lake import Lake

RENEWED_US = 3600 * 1_000_000
DELAY_US = 15 * 60 * 1_000_000
"""A record may be counted as failed long after its change; the last counts before now may be incomplete for that time."""

CLOUDWATCH_DAYS = 14
DAY_US = 86_400 * 1_000_000


def watch(lake: Lake, name: str) -> tuple[Gap, ...]:
    """Observe the source's Kinesis destination and record the gaps that this shows.

    Args:
        lake: an open lake.
        name: a table. One whose changes do not arrive by Kinesis is not observed.

    Returns:
        All open gaps of the table.

    Raises:
        TerminalError: DynamoDB or CloudWatch cannot be read. What could be read of the two is recorded; the records that were
            not replicated are counted from the same time by the next observation.
    """
    table, changes = lake.table(name), lake.changes(name)
    if changes is None or table.changes is None or (table.changes.uri is None and table.changes.kinesis is None):
        return open_gaps(lake, name)
    now_us = int(lake.now().timestamp() * 1_000_000)
    before = changes_state(changes).observed
    after = observe_destination(table, now_us)
    if before is None and after.stream is None:
        return open_gaps(lake, name)  # changes arrive in another way
    gap = gap_between(before, after) if before else None
    if gap is not None:
        record_gap(lake, name, gap)
    base = base_export(lake.current(name))
    repaired_us = base.export_us - table.clock_skew_us if base else 0
    since_us = max((before.failures_us if before else None) or now_us - CLOUDWATCH_DAYS * DAY_US, repaired_us)
    try:
        failed = failed_replications(table, since_us, now_us)
    except TerminalError:
        _store(lake, name, before, replace(after, failures_us=since_us))
        raise
    after = replace(after, failures_us=max(since_us, now_us - DELAY_US))
    for from_us, to_us, count in failed:
        reason = f"{count_text(count, 'change record')} could not be replicated to Kinesis; records near its limit of 1 MB are skipped"
        record_gap(lake, name, Gap("too_large", from_us - DELAY_US, to_us, reason, now_us))
    _store(lake, name, before, after)
    return open_gaps(lake, name)


def observation(lake: Lake, name: str) -> Observation | None:
    """The last stored observation of the source's Kinesis destination; None without one."""
    return changes_state(lake.changes(name)).observed


def _store(lake: Lake, name: str, before: Observation | None, after: Observation) -> None:
    """Store an observation. While the destination is off, its time stays that of the last one that was on."""
    stored = after
    if before is not None and not after.is_running and before.is_running:
        stored = replace(stored, seen_us=before.seen_us)
    elif before is not None and not after.is_running:
        stored = replace(before, failures_us=stored.failures_us)
    is_same = before is not None and (before.stream, before.status, before.precision) == (
        stored.stream,
        stored.status,
        stored.precision,
    )
    if before is None or not is_same or after.seen_us - before.seen_us >= RENEWED_US:
        update_log(lake, name, lambda state: replace(state, observed=stored))
