"""`lake/<name>`: one page for the operator on call: every table, how fresh it is, and its checks that are not green.

It reads the tables' metadata, the last results of the checks and of a verification, and a listing of the recent hours: two
or three LIST requests a table. It reads no items.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import dagster as dg

from ddb_lake.config import TableSettings
from ddb_lake.core.capture.leases import Lease
from ddb_lake.core.operations.count_text import count_text
from ddb_lake.core.operations.display_text import escape_markdown
from ddb_lake.core.operations.error_text import error_text
from ddb_lake.core.values.time_text import microseconds, time_text
from ddb_lake.core.verify.outcome import Color, urgency
from ddb_lake.orchestration.failures import failures
from ddb_lake.orchestration.heartbeats import beating
from ddb_lake.orchestration.metadata import markdown_table
from ddb_lake.orchestration.specs import TableAssets
from ddb_lake.pipeline.follow.leases import working_followers
from ddb_lake.pipeline.open_lake import Lake
from ddb_lake.pipeline.plan.arrivals import list_landed
from ddb_lake.pipeline.read.check_results import CheckResult, check_results, count_colors, summary_text
from ddb_lake.pipeline.read.status import TableStatus, table_status
from ddb_lake.pipeline.read.verification_report import last_report

GROUP = "overview"
HEADERS = ("table", "checks", "state")
"""Few columns, of short words: at 1,280 pixels, Dagster leaves about 30 characters for a value of an asset's metadata."""

OVERDUE = timedelta(hours=3)
"""Two hourly runs are missing."""

SHOWN = 200
"""The most tables on the page, the worst first: an operator cannot read a page of thousands of rows."""

SHOWN_PROBLEMS, TEXT_CHARACTERS = 30, 200
"""The most checks that the page describes, the worst first, and the length of a description."""

WORD_CHARACTERS = 24
"""Longer words of a description, such as URIs, are shortened in the middle, because they do not wrap. The check has them entirely."""

_MARKS: Mapping[Color, str] = {"green": "✓", "yellow": "⚠", "red": "✗"}


@dataclass(frozen=True, slots=True)
class TableSummary:
    """One table on the page. Times are UTC microseconds, None if there are none.

    `landed_us`: when the newest object of the recent hours was written. `checks`: the last results, the worst first.
    `lease`: that of the follower that works on the table; None without one. `fault`: why the table could not be examined.
    """

    table: str
    status: TableStatus | None = None
    landed_us: int | None = None
    checks: tuple[CheckResult, ...] = ()
    verified: Mapping[str, Any] | None = None
    lease: Lease | None = None
    fault: str | None = None

    @property
    def color(self) -> Color:
        """The worst color of the checks. Yellow if the table could not be examined, or no check was evaluated."""
        colors: list[Color] = [result.color for result in self.checks]
        colors += ["yellow"] if self.fault is not None or not self.checks else []
        return min(colors, key=urgency)


def lake_page_asset(
    lake: str,
    tables: Mapping[str, TableAssets],
    open_lake: Callable[[Any], AbstractContextManager[Lake]],
    is_scheduled: bool,
) -> dg.AssetsDefinition:
    """The asset. A run examines all tables; an error in one does not affect the others.

    `is_scheduled`: Dagster brings it up to date every hour, with the checks.
    """

    prefixes = {assets.key_prefix for assets in tables.values() if assets.key_prefix}

    @dg.asset(
        key=dg.AssetKey(["lake", lake]),
        group_name="_".join([*prefixes, GROUP]),
        op_tags={"dagster/priority": "-1"},  # the results of the checks in the same run are there before it
        kinds={"iceberg"},
        freshness_policy=dg.FreshnessPolicy.time_window(fail_window=OVERDUE) if is_scheduled else None,
        description="All tables at a glance: how fresh they are, and which checks are not green, the worst first. Brought up to date"
        " with the hourly checks; materialize it to see it now.",
    )
    def overview(context: dg.AssetExecutionContext) -> dg.MaterializeResult[None]:
        with failures(), beating(context), open_lake(context.log) as opened:
            followers = working_followers(opened)
            found = [
                replace(examine_table(opened, assets.table), lease=followers.get(name))
                for name, assets in tables.items()
            ]
            return dg.MaterializeResult(metadata=overview_metadata(found, opened.now()))

    return overview


def examine_table(lake: Lake, table: TableSettings) -> TableSummary:
    """Examine one table. An error is part of the result."""
    found = TableSummary(table.name)
    try:
        found = replace(found, checks=check_results(lake, table.name), verified=last_report(lake, table.name))
        found = replace(found, status=table_status(lake, table.name))
        landed = [ref.modified_us for ref in list_landed(lake, table, "recent")]
    except Exception as error:  # whatever it is, it is this table's
        return replace(found, fault=error_text(error))
    return replace(found, landed_us=max(landed, default=None))


def overview_metadata(found: Sequence[TableSummary], now: datetime) -> dict[str, Any]:
    """The page, and figures to plot. The lag is that of tables with changes."""
    lags = [one.status.lag_s for one in found if one.status is not None and one.status.lag_s is not None]
    statuses = [one.status for one in found if one.status is not None]
    counts = count_colors([result for one in found for result in one.checks])
    return {
        "overview": dg.MetadataValue.md(overview_page(found, now)),
        "tables": len(found),
        "tables with problems": sum(one.color != "green" for one in found),
        **{f"{color} checks": count for color, count in counts.items()},
        "open gaps": sum(len(status.gaps) for status in statuses),
        "quarantined": sum(status.quarantined for status in statuses),
        "rows": sum(status.rows for status in statuses),
        "bytes": sum(status.bytes for status in statuses),
        **({"greatest lag seconds": round(max(lags), 3)} if lags else {}),
    }


def overview_page(found: Sequence[TableSummary], now: datetime) -> str:
    """The page as Markdown: the number of checks by color, a row for each table, and the checks that are not green.

    The worst is first in the table and in the list.
    """
    worst = sorted(found, key=lambda one: (urgency(one.color), -_not_green(one), one.table))
    results = [result for one in found for result in one.checks]
    head = (
        f"**{_verdict(len(found), sum(one.color != 'green' for one in found))}**"
        + f" Checks: {summary_text(results)}. Seen {time_text(microseconds(now), unit='min')}. *lag*: age of the newest"
        " change that is applied; it grows while a table has no changes."
    )
    rows = markdown_table(HEADERS, [_row(one, now) for one in worst[:SHOWN]])
    rest = f"\n\nand {count_text(len(found) - SHOWN, 'more table')}" if len(found) > SHOWN else ""
    return f"{head}\n\n{rows}{rest}{_problems(found)}"


def _verdict(tables: int, bad: int) -> str:
    if bad:
        return f"{bad} of {count_text(tables, 'table')} {'needs' if bad == 1 else 'need'} a look."
    return f"All {tables} tables are green." if tables > 1 else "The table is green."


def _not_green(one: TableSummary) -> int:
    return sum(result.color != "green" for result in one.checks)


def _problems(found: Sequence[TableSummary]) -> str:
    """The checks that are not green, and the tables that could not be examined, the worst first."""
    problems = [(urgency("yellow"), one.table, "-", f"cannot be examined: {one.fault}") for one in found if one.fault]
    problems += [
        (urgency(result.color), one.table, result.check, result.text)
        for one in found
        for result in one.checks
        if result.color != "green"
    ]
    if not problems:
        return ""
    colors = {urgency(color): f"{mark} {color}" for color, mark in _MARKS.items()}
    lines = [
        f"- {colors[place]}: {escape_markdown(f'{table} {check}: {_shortened(text)}')}"
        for place, table, check, text in sorted(problems)[:SHOWN_PROBLEMS]
    ]
    more = len(problems) - SHOWN_PROBLEMS
    rest = f"\n\nand {count_text(more, 'more check')}" if more > 0 else ""
    return "\n\n" + "\n".join(lines) + rest


def _shortened(text: str) -> str:
    """A description of at most `TEXT_CHARACTERS`, in words that wrap."""
    half = WORD_CHARACTERS // 2
    words = [word if len(word) <= WORD_CHARACTERS else f"{word[:half]}…{word[-half:]}" for word in text.split()]
    short = " ".join(words)
    return short if len(short) <= TEXT_CHARACTERS else f"{short[:TEXT_CHARACTERS]}…"


def _row(one: TableSummary, now: datetime) -> list[str]:
    status = one.status or TableStatus(one.table)
    landed = _time(one.landed_us, now) if one.landed_us is not None else "none lately"
    return [
        one.table,
        f"{_MARKS[one.color]} {summary_text(one.checks)}",
        f"lag {_span(status.lag_s)}, landed {landed}, applied {_time(status.watermark_us, now)},"
        f" verified {_verified(one.verified, now)}{_followed(one.lease)}",
    ]


def _followed(lease: Lease | None) -> str:
    """The follower of a table: its host, and how far the lake is behind the source."""
    if lease is None:
        return ""
    behind = f", {_span(lease.lag_s)} behind" if lease.lag_s is not None else ""
    return f", followed by {escape_markdown(_shortened(lease.holder))}{behind}"


def _verified(document: Mapping[str, Any] | None, now: datetime) -> str:
    if document is None:
        return "never"
    return f"{document.get('outcome')} ({document.get('strength')}) {_time(document.get('read_to_us'), now)}"


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
