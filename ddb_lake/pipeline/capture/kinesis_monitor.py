"""Noticing gaps of a Kinesis destination: switched off, another stream, another precision, records it could not take.

What was seen last is kept with the changelog, renewed when something changes and otherwise once an hour, so that a gap
begins at most that long before it did. A stream that is switched off and on between two looks goes unnoticed.
"""

from __future__ import annotations

from dataclasses import replace

from ddb_lake.aws.kinesis import failed_replications, observe_destination
from ddb_lake.core.capture.gaps import Gap, Observation, gap_between
from ddb_lake.errors import TerminalError
from ddb_lake.lake.state import changes_state
from ddb_lake.pipeline.capture.gap_log import open_gaps, record_gap, update_log
from ddb_lake.pipeline.open_lake import Lake
from ddb_lake.pipeline.read.replay import view

RENEWED_US = 3600 * 1_000_000
DELAY_US = 15 * 60 * 1_000_000
"""A record may fail long after its change: so much before the count of failures may be missing."""

CLOUDWATCH_DAYS = 14
DAY_US = 86_400 * 1_000_000


def watch(lake: Lake, name: str) -> tuple[Gap, ...]:
    """Look at the source's Kinesis destination, record the gaps that shows, and give all that are open.

    Only for tables whose changes arrive by way of Kinesis. Raises TerminalError if DynamoDB cannot be asked.
    """
    table, changes = lake.table(name), lake.changes(name)
    if changes is None or table.changes is None or table.changes.uri is None:
        return open_gaps(lake, name)
    now_us = int(lake.now().timestamp() * 1_000_000)
    before = changes_state(changes).observed
    after = observe_destination(table, now_us)
    if before is None and after.stream is None:
        return open_gaps(lake, name)  # changes come another way
    gap = gap_between(before, after) if before else None
    if gap is not None:
        record_gap(lake, name, gap)
    base = view(lake, name).state.base
    mended_us = base.export_us - table.clock_skew_us if base else 0
    since_us = max((before.failures_us if before else None) or now_us - CLOUDWATCH_DAYS * DAY_US, mended_us)
    try:
        failed = failed_replications(table, since_us, now_us)
    except TerminalError as error:
        lake.warn(f"{name}: {error}")
        failed, after = [], replace(after, failures_us=since_us)  # asked again from there once it can be asked
    else:
        after = replace(after, failures_us=max(since_us, now_us - DELAY_US))
    for from_us, to_us, count in failed:
        said = f"{count} change records could not be replicated to Kinesis; records near its limit of 1 MB are skipped"
        record_gap(lake, name, Gap("too_large", from_us - DELAY_US, to_us, said, now_us))
    _keep(lake, name, before, after)
    return open_gaps(lake, name)


def _keep(lake: Lake, name: str, before: Observation | None, after: Observation) -> None:
    """Remember what was seen. While the stream is off, the time stays that at which it was last seen running."""
    held = after
    if before is not None and not after.is_running and before.is_running:
        held = replace(held, seen_us=before.seen_us)
    elif before is not None and not after.is_running:
        held = replace(before, failures_us=held.failures_us)
    same = before is not None and (before.stream, before.status, before.precision) == (
        held.stream,
        held.status,
        held.precision,
    )
    if before is None or not same or after.seen_us - before.seen_us >= RENEWED_US:
        update_log(lake, name, lambda state: replace(state, observed=held))
