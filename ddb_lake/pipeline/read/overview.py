"""The overview of a lake's tables for the report: status, volumes over time, quarantine, checks, and the last verification."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from pyiceberg.table import Table

from ddb_lake.engine.session import Session
from ddb_lake.lake.metadata_files import has_no_dangling_deletes
from ddb_lake.lake.scan import live_files
from ddb_lake.lake.state import changes_state
from ddb_lake.pipeline.merge.sources import records_sql
from ddb_lake.pipeline.open_lake import Lake
from ddb_lake.pipeline.read.check_results import CheckResult, check_results
from ddb_lake.pipeline.read.quarantine import QuarantineGroup, list_quarantine
from ddb_lake.pipeline.read.status import TableStatus, table_status
from ddb_lake.pipeline.read.verification_report import last_report

HOURLY_SPAN_US = 14 * 86_400 * 1_000_000
"""Changes of a longer period are counted by day."""

KINDS = ("inserted", "modified", "deleted", "expired", "asserted")
"""`expired`: deleted by Time to Live. `asserted`: a line of an incremental export, or of a repair."""


@dataclass(frozen=True, slots=True)
class Volume:
    """The number of change records of one kind in the hour or day that begins at `start` (UTC, inclusive)."""

    start: datetime
    kind: str
    records: int


@dataclass(frozen=True, slots=True)
class RowsAt:
    """The number of living rows after a commit, and its time (microseconds since the epoch)."""

    time_us: int
    rows: int


@dataclass(frozen=True, slots=True)
class TableOverview:
    """The overview of one table.

    Attributes:
        grain: the period that each volume counts.
        verification: the report of the last `verify`; None without one.
        checks: the last results of the checks, the worst first; none if none was ever evaluated.
    """

    status: TableStatus
    grain: Literal["hour", "day"] = "hour"
    volumes: tuple[Volume, ...] = ()
    rows: tuple[RowsAt, ...] = ()
    quarantine: tuple[QuarantineGroup, ...] = ()
    verification: dict[str, Any] | None = None
    checks: tuple[CheckResult, ...] = ()


def lake_overview(lake: Lake) -> list[TableOverview]:
    """The overviews of all configured tables.

    Reads the metadata of tables and two columns of the changelogs. It reads no items and sends requests to no other AWS
    service than the lake's.
    """
    overviews = []
    for number, settings in enumerate(lake.settings.tables):
        lake.progress("tables", number, len(lake.settings.tables))
        overviews.append(table_overview(lake, settings.name))
    lake.progress("tables", len(overviews), len(overviews))
    return overviews


def table_overview(lake: Lake, name: str) -> TableOverview:
    """The overview of one table."""
    changes, table = lake.changes(name), lake.current(name)
    status = table_status(lake, name)
    grain: Literal["hour", "day"] = "hour"
    volumes: Sequence[Volume] = ()
    if changes is not None:
        log = changes_state(changes)
        if (log.last_change_us or 0) - (log.first_change_us or 0) > HOURLY_SPAN_US:
            grain = "day"
        with lake.session() as session:
            volumes = _volumes(session, changes, grain)
    return TableOverview(
        status,
        grain,
        tuple(volumes),
        tuple(rows_over_time(table)) if table is not None else (),
        tuple(list_quarantine(lake, name)) if status.quarantined else (),
        last_report(lake, name),
        check_results(lake, name),
    )


def _volumes(session: Session, changes: Table, grain: str) -> list[Volume]:
    kind = (
        "CASE WHEN asserted_at IS NOT NULL THEN 'asserted' WHEN event_name = 'INSERT' THEN 'inserted'"
        " WHEN event_name = 'MODIFY' THEN 'modified' WHEN ttl THEN 'expired' ELSE 'deleted' END"
    )
    rows = session.rows(
        f"SELECT date_trunc('{grain}', changed_at), {kind}, count(*) FROM {records_sql(changes)} GROUP BY ALL ORDER BY ALL"
    )
    return [Volume(*row) for row in rows]


def rows_over_time(table: Table) -> list[RowsAt]:
    """The number of living rows after each commit of `current` whose snapshot is not expired, from its summary.

    If another engine left deletes of files that it rewrote, the summary counts too many, and the files are read.
    """
    counts = []
    for entry in table.history():
        snapshot = table.snapshot_by_id(entry.snapshot_id)
        if snapshot is None or snapshot.summary is None:
            continue
        total = int(snapshot.summary["total-records"] or 0)
        deleted = int(snapshot.summary["total-position-deletes"] or 0)
        is_counted = not deleted or has_no_dangling_deletes(snapshot)
        rows = total - deleted if is_counted else live_files(table, snapshot.snapshot_id).rows
        counts.append(RowsAt(entry.timestamp_ms * 1000, rows))
    return counts
