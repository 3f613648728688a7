"""The work that is due for a table: one function for each kind. The planner calls them for `sync` and for the sensor.

Whether a landed object has been applied is decided in `pipeline.plan.arrivals.unapplied`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import timedelta

from ddb_lake.aws.objects import ObjectRef
from ddb_lake.config import TableSettings
from ddb_lake.core.layout.firehose_paths import arrival_hour
from ddb_lake.core.operations.count_text import count_text
from ddb_lake.lake.compaction_policy import compaction_reason
from ddb_lake.lake.state import changes_state
from ddb_lake.pipeline.apply.apply import is_empty
from ddb_lake.pipeline.apply.ledger import read_ledger
from ddb_lake.pipeline.capture.incremental_exports import examine_windows, past_due, window_text
from ddb_lake.pipeline.capture.streams import stream_checkpoint
from ddb_lake.pipeline.merge.current import has_unmerged_changes
from ddb_lake.pipeline.open_lake import Lake
from ddb_lake.pipeline.plan.arrivals import Arrivals, has_landed
from ddb_lake.pipeline.plan.exports_to_load import export_id, exports_to_load, missing_export
from ddb_lake.pipeline.plan.work import Work, WorkKind, digest

LONGEST_SPAN = timedelta(days=7)
"""The hours that one run applies at most. It commits as it goes; this bounds what a failed run leaves to do again."""


def read_work(lake: Lake, table: TableSettings) -> Work | None:
    """The table's stream is read directly: its records are to be landed. Decided without a request to AWS."""
    if lake.settings.stream_landing(table) is None:
        return None
    return Work(table.name, "read", "what its stream has is not landed")


def load_work(lake: Lake, table: TableSettings) -> Iterator[Work]:
    """Finished exports that are not loaded, oldest first."""
    for uri in exports_to_load(lake, table):
        state = digest([uri])
        yield Work(table.name, "load", f"export {export_id(uri)} is not loaded", (uri,), digest=state, state=state)


def apply_work(lake: Lake, table: TableSettings, arrivals: Arrivals) -> Work | None:
    """Landed objects that are not applied, all of them."""
    if not arrivals.refs:
        return None
    return Work(
        table.name,
        "apply",
        f"{count_text(len(arrivals.refs), 'landed object is', 'landed objects are')} not applied",
        tuple(ref.uri for ref in arrivals.refs),
        tuple(sorted({hour for ref in arrivals.refs if (hour := arrival_hour(ref.uri))})),
        digest=digest(versions(arrivals.refs)),
        state=changelog_state(lake, table),
    )


def apply_hours_work(lake: Lake, table: TableSettings, arrivals: Arrivals, reason: str = "") -> Work:
    """The first stretch of hours to apply, for a run that lists them; what follows is due when that is done.

    Args:
        arrivals: some objects, or objects outside the folders of their hours (`outside_hours`).
        reason: replaces the number of objects where that is not known.
    """
    hours = tuple(hour for hour in arrivals.hours if hour - arrivals.hours[0] < LONGEST_SPAN)
    refs = arrivals.refs if arrivals.outside_hours else arrivals.in_hours(hours)
    state = changelog_state(lake, table)
    this_hour = lake.now().replace(minute=0, second=0, microsecond=0)
    return Work(
        table.name,
        "apply",
        reason or f"{count_text(len(arrivals.refs), 'landed object is', 'landed objects are')} not applied",
        hours=hours or (this_hour,),
        everything=arrivals.outside_hours > 0,
        digest=digest([*versions(refs), f"strays {arrivals.outside_hours}", f"changelog {state}"]),
        state=state,
    )


def merge_work(lake: Lake, table: TableSettings) -> Work | None:
    """The changelog has records that `current` lacks, or `current` has rows that its entities lack, because a run ended between the two
    or because the entities of the configuration changed."""
    if not has_unmerged_changes(lake, table.name):
        return None
    state = changelog_state(lake, table)
    return Work(table.name, "merge", "current is behind its changelog, or its entities are behind current", state=state)


def export_work(lake: Lake, table: TableSettings) -> Work | None:
    """The lake's incremental exports end so long ago that a window may be due. It calls no AWS service."""
    reason = past_due(lake, table)
    return None if reason is None else Work(table.name, "export", reason)


def window_work(lake: Lake, table: TableSettings) -> Iterator[Work]:
    """Windows of incremental exports to start, and the first finished one to load, as DynamoDB lists its exports."""
    if past_due(lake, table) is None:
        return
    windows = examine_windows(lake, table.name)
    if windows.due:
        reason = f"{len(windows.due)} incremental exports are due, from {window_text(windows.due[0])} on"
        state = str(windows.due[0].from_s)
        yield Work(table.name, "export", reason, state=state)
    for export in windows.finished[:1]:
        reason = f"the incremental export of {window_text(export.window)} is not loaded"
        state = digest([export.manifest_uri])
        yield Work(table.name, "load", reason, (export.manifest_uri,), digest=state, state=state)


def added_work(kind: WorkKind, lake: Lake, table: TableSettings) -> Work | None:
    """The work of an added kind. Raises DatabaseError or TransientError if its target does not answer."""
    reason = kind.due(lake, table) if kind.is_configured(table) else None
    if reason is None:
        return None
    state = changelog_state(lake, table)
    return Work(table.name, kind.name, reason, state=state)


def compaction_work(lake: Lake, table: TableSettings) -> Work | None:
    """Files to rewrite, by `lake.compaction_policy`."""
    reason = compaction_reason(lake.current(table.name), lake.changes(table.name))
    return None if reason is None else Work(table.name, "compact", reason, state=reason)


def missing_input(lake: Lake, table: TableSettings) -> list[str]:
    """Why nothing can be due for a table: places in its configuration where nothing has ever landed.

    A place that is empty now, but was not before, does not count: landed objects expire. Nothing will land of a table that
    `discover` does not find any more.
    """
    if table.source.missing_since is not None:
        return []
    problems = []
    if table.changes is None and table.export is None and is_empty(lake, table.name):
        problems.append(
            "neither `changes` nor `export` is configured, so that nothing can be due; add the place where its data lands"
        )
    log = changes_state(lake.changes(table.name))
    uri = table.changes.uri if table.changes is not None else None
    if uri is not None and not read_ledger(lake, table.name).rows and not has_landed(lake, table):
        problems.append(f"no object has landed at {uri}: correct `changes.uri`, or wait for the first delivery")
    if table.export is not None and lake.current(table.name) is None and not log.windows:
        problems += filter(None, [missing_export(lake, table, table.export)])
    return problems


def stream_state(lake: Lake, table: TableSettings) -> str:
    """When the table's stream was read last; while that is unchanged, a requested run has read nothing."""
    checkpoint = stream_checkpoint(lake, table)
    return "never" if checkpoint is None else str(checkpoint.read_us)


def changelog_state(lake: Lake, table: TableSettings) -> str:
    """The last batch of the changelog; while that is unchanged, a requested run has applied nothing."""
    changes = lake.changes(table.name)
    return str(changes_state(changes).batch) if changes is not None else "none"


def versions(refs: Sequence[ObjectRef]) -> list[str]:
    """Objects by name and version, for a digest."""
    return [f"{ref.uri}@{ref.version}" for ref in refs]
