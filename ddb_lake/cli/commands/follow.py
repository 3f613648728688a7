"""`ddb-lake follow`: keep reading changes, and apply them within seconds."""

from __future__ import annotations

import json
import signal
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from threading import Event
from typing import TYPE_CHECKING, Any

import click

from ddb_lake.cli.command import command, emf_option, options_object, tables_argument
from ddb_lake.cli.commands.apply import print_apply_remarks
from ddb_lake.cli.failures import error_text, print_doubts
from ddb_lake.cli.invocation import Invocation, pass_invocation
from ddb_lake.cli.output.metrics import MetricsTarget
from ddb_lake.cli.output.progress import note, warn
from ddb_lake.cli.output.quantities import duration_text
from ddb_lake.cli.output.terminal import echo
from ddb_lake.cli.parameter_types import Duration
from ddb_lake.cli.stopping import stopped_by
from ddb_lake.core.operations.count_text import count_text

if TYPE_CHECKING:
    from ddb_lake.core.capture.gaps import Gap
    from ddb_lake.orchestration.follower_reports import FollowerReports
    from ddb_lake.pipeline.apply.apply import ApplyResult
    from ddb_lake.pipeline.follow.table import Turn
    from ddb_lake.pipeline.load.load import LoadResult
    from ddb_lake.pipeline.metrics import LakeMetrics
    from ddb_lake.pipeline.open_lake import Lake
    from ddb_lake.pipeline.plan.work import Work


@dataclass(frozen=True, slots=True)
class FollowCommandOptions:
    """The options of `ddb-lake follow`."""

    once: bool
    interval_s: float
    list_every_s: float
    metrics: str | None
    as_emf: bool
    dagster: bool
    as_json: bool


@command(
    "follow",
    "Keep reading changes, and apply them within seconds.",
    "ddb-lake follow",
    "ddb-lake follow orders customers --interval 2s",
    "ddb-lake follow --json --metrics :9464",
    "ddb-lake follow --dagster",
    "ddb-lake follow --once",
)
@tables_argument
@click.option("--once", is_flag=True, help="Read to the present end of the streams, apply everything, and end.")
@click.option(
    "--interval",
    "interval_s",
    type=Duration(),
    default="5s",
    show_default=True,
    help="Least time between two commits of a table.",
)
@click.option(
    "--list-every",
    "list_every_s",
    type=Duration(),
    default="10s",
    show_default=True,
    help="Interval of listing objects that Firehose or another service landed.",
)
@click.option(
    "--metrics", metavar="[HOST]:PORT", help="Serve metrics for Prometheus at this address, for example :9464."
)
@emf_option
@click.option(
    "--dagster",
    is_flag=True,
    help="Report materializations and checks to the Dagster of DAGSTER_HOME, once a minute for each table at most.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document for each event, one on each line.")
@options_object(FollowCommandOptions)
@pass_invocation
def follow(invocation: Invocation, tables: tuple[str, ...], options: FollowCommandOptions) -> None:
    """Follow the TABLEs (default: all) until SIGTERM or Ctrl-C: land what their streams have, apply it, compact.

    A table that is read from a stream (`changes: {streams: true}` or `{kinesis: …}`) is committed every few seconds while
    it changes. For other tables, landed objects are found by listing, or sooner by notifications. Several followers may
    run: a table is followed by one of them, and another takes over within 30 seconds. The exit status is 1 if a table
    failed last, if change records may be missing, or if all records of an object went to quarantine; 2, at once, if a
    table that was not followed yet cannot be followed with the configuration. With --emf, metrics are printed each minute.
    """
    from ddb_lake.mysql.replication import REPLICATION
    from ddb_lake.pipeline.follow.follower import follower
    from ddb_lake.pipeline.follow.table import FollowOptions

    chosen = FollowOptions(options.interval_s, list_every_s=options.list_every_s)
    stop = Event()
    with (
        invocation.lake(*tables, bars=False) as lake,
        stopped_by(stop, signal.SIGTERM, signal.SIGINT),
        _reports(lake, options.dagster) as reports,
    ):
        target = MetricsTarget(None, options.as_emf)
        printer = _Printer(lake, options.as_json, _metrics(target, options.metrics), target, reports)
        process = follower(lake, tables, printer, chosen, (REPLICATION,))
        if printer.metrics is not None:
            printer.metrics.set_step_age(process.step_age_s)
        if options.once:
            process.once()
        else:
            process.run(stop)
        printer.stopped()
    if printer.status:
        click.get_current_context().exit(printer.status)


def _metrics(target: MetricsTarget, address: str | None) -> LakeMetrics | None:
    """Metrics that are exported to a target or served at an address; None without either. Raises UsageError."""
    metrics = target.metrics()
    if address is None:
        return metrics
    from ddb_lake.pipeline.metrics import LakeMetrics

    metrics = metrics or LakeMetrics()
    note(f"metrics are served at port {metrics.serve(address)}")
    return metrics


def _reports(lake: Lake, wanted: bool) -> AbstractContextManager[FollowerReports | None]:
    """The reports to Dagster, if they are wanted. Raises UsageError if Dagster's instance is not known."""
    if not wanted:
        return nullcontext()
    from ddb_lake.orchestration.follower_reports import follower_reports

    return follower_reports(lake)


@dataclass(slots=True)
class _Printer:
    """Prints what a follower does: lines for people, or JSON. Keeps which tables are in doubt."""

    lake: Lake
    as_json: bool
    metrics: LakeMetrics | None = None
    target: MetricsTarget = field(default_factory=lambda: MetricsTarget(None, as_emf=False))
    reports: FollowerReports | None = None
    _failed: set[str] = field(default_factory=set)
    _open_gaps: dict[str, tuple[Gap, ...]] = field(default_factory=dict)
    _doubted: bool = False

    @property
    def status(self) -> int:
        """The exit status: 1 if a table failed last, or has a gap, or if records all went to quarantine."""
        return int(bool(self._failed or any(self._open_gaps.values()) or self._doubted))

    def turn(self, turn: Turn) -> None:
        """See `Listener`."""
        from ddb_lake.core.capture.gaps import new_gaps
        from ddb_lake.pipeline.capture.stream_gaps import gap_text

        self._failed.discard(turn.table)
        if self.metrics is not None:
            self.metrics.add_turn(self.lake.table(turn.table), turn, self.lake.now().timestamp())
        for gap in new_gaps(self._open_gaps.get(turn.table, ()), turn.gaps):
            warn(gap_text(turn.table, gap))
        self._open_gaps[turn.table] = turn.gaps
        if turn.applied is not None:
            if self.reports is not None:
                self.reports.add(turn.applied)
            print_apply_remarks(turn.applied)
            self._doubt(turn.applied)
        if self.as_json:
            self._write("turn", turn.table, **turn_figures(turn))
        else:
            echo(turn_text(turn))

    def work(self, work: Work, result: Any) -> None:
        """See `Listener`."""
        from ddb_lake.cli.commands.sync import result_lines
        from ddb_lake.pipeline.apply.apply import ApplyResult
        from ddb_lake.pipeline.load.load import LoadResult

        self._failed.discard(work.table)
        if self.metrics is not None:
            self.metrics.add(work.table, result)
        lines = result_lines(result)
        if isinstance(result, ApplyResult | LoadResult):
            self._doubt(result)
        if isinstance(result, ApplyResult) and self.reports is not None:
            self.reports.add(result)
        if self.as_json:
            self._write("work", work.table, kind=work.kind, reason=work.reason, result=lines)
        else:
            for line in lines:
                echo(line)

    def _doubt(self, result: ApplyResult | LoadResult) -> None:
        if print_doubts(result.doubts, result.quarantined, strict=False):
            self._doubted = True

    def failed(self, table: str, error: Exception) -> None:
        """See `Listener`."""
        self._failed.add(table)
        if self.metrics is not None:
            self.metrics.add_failure(table)
        if self.reports is not None:
            self.reports.add_failure(table, error)
        if self.as_json:
            self._write("failed", table, error=error_text(error))
        else:
            warn(f"{table or 'the follower'}: {error_text(error)}")

    def ticked(self, lags_s: Mapping[str, float]) -> None:
        """See `Listener`."""
        try:
            if self.reports is not None:
                self.reports.report()
            if self.metrics is not None:
                for name, lag_s in lags_s.items():
                    self.metrics.set_lag(self.lake.table(name), lag_s)
                self.target.export(self.metrics, self.lake, list(lags_s))
        except Exception as error:  # whatever it is: following goes on without them, and the counter shows it
            self.failed("", error)

    def holds(self, tables: Sequence[str], waiting: Sequence[str]) -> None:
        """See `Listener`."""
        if self.metrics is not None:
            self.metrics.set_followed(tables, waiting)
        if self.as_json:
            self._write("holds", "", tables=list(tables), waiting=list(waiting))
            return
        if tables:
            note(f"following {', '.join(tables)}")
        if waiting:
            note(f"another follower has {', '.join(waiting)}; this one waits")

    def stopped(self) -> None:
        """The follower has ended: nothing is in progress. What was not reported to Dagster is reported."""
        try:
            if self.reports is not None:
                self.reports.report(at_once=True)
        except Exception as error:  # whatever it is: the lake has all, and the exit status shows it
            self.failed("", error)
        if self.as_json:
            self._write("stopped", "", status=self.status)
        else:
            note("stopped; nothing is in progress")

    def _write(self, event: str, table: str, **facts: Any) -> None:
        document = {"at": self.lake.now().isoformat(), "event": event, "table": table or None, **facts}
        echo(json.dumps(document, default=str))


def turn_figures(turn: Turn) -> dict[str, Any]:
    """The figures of a turn, for programs."""
    streams, applied = turn.streams, turn.applied
    landed = {} if streams is None else {"landed_records": streams.records, "line_bytes": streams.line_bytes}
    faults = {} if streams is None else {"throttled": streams.throttled, "conflicts": streams.conflicts}
    done: dict[str, Any] = {}
    if applied is not None:
        rows = {name: current.rows for name, current in applied.current.items()}
        done = {
            "new": applied.new,
            "duplicates": applied.duplicates,
            "quarantined": applied.quarantined,
            "rows": rows.get(turn.table),
        }
    times = {"lag_s": round(turn.lag_s, 3), "seconds": round(turn.seconds, 3)}
    return {**landed, **done, **faults, "gaps": len(turn.gaps), **times}


def turn_text(turn: Turn) -> str:
    """A turn in one line, for people."""
    parts = []
    if turn.streams is not None:
        parts.append(f"{count_text(turn.streams.records, 'record')} landed")
    if (applied := turn.applied) is not None:
        parts.append(f"{applied.new:,} new, {count_text(applied.duplicates, 'duplicate')}")
        if applied.quarantined:
            parts.append(f"{applied.quarantined:,} to quarantine")
        if turn.table in applied.current:
            parts.append(f"now {count_text(applied.current[turn.table].rows, 'row')}")
    return f"{turn.table}: {'; '.join(parts)}; {duration_text(turn.lag_s)} behind ({duration_text(turn.seconds)})."
