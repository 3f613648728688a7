"""`lake/<name>`: one page for the operator on call: every table, how fresh it is, and its problems.

It reads the tables' metadata, the last verification, and a listing of the recent hours: two or three LIST requests a
table. It reads no items.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

import dagster as dg

from ddb_lake.config import TableSettings, seconds
from ddb_lake.core.operations.error_text import error_text
from ddb_lake.core.values.time_text import microseconds, time_text
from ddb_lake.orchestration.failures import failures
from ddb_lake.orchestration.heartbeats import beating
from ddb_lake.orchestration.metadata import markdown_table
from ddb_lake.orchestration.specs import TableAssets
from ddb_lake.pipeline.open_lake import Lake
from ddb_lake.pipeline.plan.arrivals import list_landed, unapplied
from ddb_lake.pipeline.read.status import TableStatus, table_status
from ddb_lake.pipeline.verify.report import last_report

GROUP = "overview"
HEADERS = ("table", "state", "lag", "landed", "applied", "gaps", "quarantined", "verified")
SHOWN = 200
"""The most tables on the page, the worst first: an operator cannot read a page of thousands of rows."""

_GOOD = "✓ fresh"


@dataclass(frozen=True, slots=True)
class TableSummary:
    """One table on the page. Times are UTC microseconds, None if there are none.

    `landed_us`: when the newest object of the recent hours was written. `waiting_s`: for how long the oldest object that is
    not applied has waited. `fault`: why the table could not be examined.
    """

    table: str
    max_lag_s: float
    status: TableStatus | None = None
    landed_us: int | None = None
    waiting_s: float = 0.0
    verified: Mapping[str, Any] | None = None
    fault: str | None = None

    @property
    def has_unmerged_changes(self) -> bool:
        """Whether a landed object has waited for longer than `max_lag`."""
        return self.waiting_s > self.max_lag_s

    @property
    def problems(self) -> tuple[str, ...]:
        """The problems, the worst first."""
        if self.status is None:
            return (f"cannot be looked at: {self.fault}",)
        found = [f"{len(self.status.gaps)} gaps: changes may be missing"] if self.status.gaps else []
        if self.verified is not None and self.verified.get("outcome") == "different":
            found.append("differs from its source")
        if self.has_unmerged_changes:
            found.append(f"what landed waits for {_span(self.waiting_s)}")
        elif self.status.pending_batches:
            found.append("current is behind its changelog")
        if self.fault is not None:
            found.append(f"landing cannot be listed: {self.fault}")
        if self.status.quarantined:
            found.append("something is quarantined")
        return tuple(found)


def lake_page_asset(
    lake: str, tables: Mapping[str, TableAssets], open_lake: Callable[[Any], AbstractContextManager[Lake]]
) -> dg.AssetsDefinition:
    """The asset. A run examines all tables; an error in one does not affect the others."""

    @dg.asset(
        key=dg.AssetKey(["lake", lake]),
        group_name=GROUP,
        kinds={"iceberg"},
        description="All tables at a glance: how fresh they are and what is wrong, the worst first. Brought up to date"
        " with the hourly checks; materialize it to see it now.",
    )
    def overview(context: dg.AssetExecutionContext) -> dg.MaterializeResult[None]:
        with failures(), beating(context), open_lake(context.log) as opened:
            found = [examine_table(opened, assets.table) for assets in tables.values()]
            return dg.MaterializeResult(metadata=overview_metadata(found, opened.now()))

    return overview


def examine_table(lake: Lake, table: TableSettings) -> TableSummary:
    """Examine one table. An error is part of the result."""
    found = TableSummary(table.name, seconds(table.checks.max_lag))
    try:
        found = replace(found, status=table_status(lake, table.name), verified=last_report(lake, table.name))
        refs = list(list_landed(lake, table, "recent"))
        oldest_us = unapplied(lake, table, refs).oldest_us
    except Exception as error:  # whatever it is, it is this table's
        return replace(found, fault=error_text(error))
    waiting_s = 0.0 if oldest_us is None else max(0.0, lake.now().timestamp() - oldest_us / 1e6)
    return replace(found, landed_us=max((ref.modified_us for ref in refs), default=None), waiting_s=waiting_s)


def overview_metadata(found: Sequence[TableSummary], now: datetime) -> dict[str, Any]:
    """The page, and figures to plot. The lag is that of tables with changes."""
    lags = [one.status.lag_s for one in found if one.status is not None and one.status.lag_s is not None]
    statuses = [one.status for one in found if one.status is not None]
    return {
        "overview": dg.MetadataValue.md(overview_page(found, now)),
        "tables": len(found),
        "tables with problems": sum(bool(one.problems) for one in found),
        "tables behind": sum(one.has_unmerged_changes for one in found),
        "open gaps": sum(len(status.gaps) for status in statuses),
        "quarantined": sum(status.quarantined for status in statuses),
        "rows": sum(status.rows for status in statuses),
        "bytes": sum(status.bytes for status in statuses),
        **({"greatest lag seconds": round(max(lags), 3)} if lags else {}),
    }


def overview_page(found: Sequence[TableSummary], now: datetime) -> str:
    """The page as Markdown: one sentence, then a row for each table, the worst first."""
    worst = sorted(found, key=lambda one: (not one.problems, -_severity(one), one.table))
    bad = sum(bool(one.problems) for one in found)
    head = (
        (f"**All {len(found)} tables are fresh.**" if not bad else f"**{bad} of {len(found)} tables need a look.**")
        + f" Seen {time_text(microseconds(now), unit='min')}. *lag*: age of the newest change that is applied; an idle table's grows."
    )
    rows = markdown_table(HEADERS, [_row(one, now) for one in worst[:SHOWN]], cut=None)
    rest = f"\n\nand {len(found) - SHOWN} more tables" if len(found) > SHOWN else ""
    return f"{head}\n\n{rows}{rest}"


def _severity(one: TableSummary) -> int:
    """The urgency: 2 for data in doubt, 1 for a backlog, 0 for the rest."""
    if one.status is None or one.status.gaps or (one.verified or {}).get("outcome") == "different":
        return 2
    return 1 if one.has_unmerged_changes or one.status.pending_batches else 0


def _row(one: TableSummary, now: datetime) -> list[str]:
    state = "; ".join(one.problems) or _GOOD
    status = one.status or TableStatus(one.table)
    return [
        one.table,
        state if state == _GOOD else f"**{state}**",
        _span(status.lag_s),
        _time(one.landed_us, now) if one.landed_us is not None else "none lately",
        _time(status.watermark_us, now),
        str(len(status.gaps)),
        str(status.quarantined),
        _verified(one.verified, now),
    ]


def _verified(document: Mapping[str, Any] | None, now: datetime) -> str:
    if document is None:
        return "never"
    return f"{document.get('outcome')} {_time(document.get('read_to_us'), now)}"


def _time(time_us: int | None, now: datetime) -> str:
    """An instant in UTC, to the minute; of the day of `now` the time of day alone."""
    shown = time_text(time_us, unit="min")
    return shown.removeprefix(f"{now.astimezone(UTC):%Y-%m-%d} ")


def _span(span_s: float | None) -> str:
    """A duration in its two largest units."""
    if span_s is None:
        return "-"
    parts: Iterator[tuple[int, str]] = zip(_divided(max(0, round(span_s))), ("d", "h", "min", "s"), strict=True)
    shown = [f"{count} {unit}" for count, unit in parts if count]
    return " ".join(shown[:2]) or "0 s"


def _divided(span_s: int) -> tuple[int, int, int, int]:
    minutes, left_s = divmod(span_s, 60)
    hours, minutes = divmod(minutes, 60)
    return hours // 24, hours % 24, minutes, left_s
