"""`ddb-lake sync`: all work that is due, once or at an interval, in this process."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ddb_lake.cli.command import (
    command,
    emf_option,
    json_option,
    metrics_file_option,
    options_object,
    strict_option,
    tables_argument,
)
from ddb_lake.cli.commands.apply import apply_lines, print_apply_remarks
from ddb_lake.cli.commands.aurora import replication_text
from ddb_lake.cli.commands.compact import compact_lines
from ddb_lake.cli.commands.load import load_text, print_load_remarks
from ddb_lake.cli.commands.streams import print_stream_remarks, streams_text
from ddb_lake.cli.failures import ADD_A_TABLE, error_text, exit_status, print_doubts, print_error
from ddb_lake.cli.invocation import Invocation, pass_invocation
from ddb_lake.cli.output.exact_json import encode_json
from ddb_lake.cli.output.metrics import MetricsTarget
from ddb_lake.cli.output.quantities import duration_text
from ddb_lake.cli.output.terminal import echo
from ddb_lake.cli.output.writers import write_document, write_lines
from ddb_lake.cli.parameter_types import Duration
from ddb_lake.cli.stopping import stopped_by
from ddb_lake.errors import UsageError

if TYPE_CHECKING:
    from ddb_lake.pipeline.capture.incremental_exports import Increments
    from ddb_lake.pipeline.metrics import LakeMetrics
    from ddb_lake.pipeline.open_lake import Lake
    from ddb_lake.pipeline.plan.work import Work


@dataclass(frozen=True, slots=True)
class SyncOptions:
    """The options of `ddb-lake sync`. `every`: seconds from the start of a pass to the next; None: one pass."""

    dry_run: bool
    every: float | None
    strict: bool
    metrics_file: Path | None
    as_emf: bool
    as_json: bool


@command(
    "sync", "Do all work that is due.", "ddb-lake sync", "ddb-lake sync orders --dry-run", "ddb-lake sync --every 1m"
)
@tables_argument
@click.option("--dry-run", is_flag=True, help="Only list the work that is due.")
@click.option(
    "--every",
    type=Duration(),
    help="Do it again at this interval until Ctrl-C; with --json, print one line for each pass.",
)
@strict_option
@metrics_file_option
@emf_option
@json_option
@options_object(SyncOptions)
@pass_invocation
def sync(invocation: Invocation, tables: tuple[str, ...], options: SyncOptions) -> None:
    """Do all work that is due for the TABLEs (default: all): new exports, landed objects, compactions.

    It is the work that the Dagster sensor requests. If a table fails, the work of the others continues, and the exit
    status is 1. It is also 1 if all records went to quarantine, or if nothing is due for a table because the locations
    in its configuration do not exist.

    With --every, a failed pass does not end the command: the next one does what is still due. Ctrl-C and SIGTERM end it
    after the pass in progress; its exit status is that of the last pass.
    """
    metrics = MetricsTarget(options.metrics_file, options.as_emf).metrics()

    def work() -> int:
        return _pass(invocation, tables, options, metrics)

    status = work() if options.every is None else _repeat(invocation, options.every, work)
    if status:
        click.get_current_context().exit(status)


def _pass(invocation: Invocation, tables: tuple[str, ...], options: SyncOptions, metrics: LakeMetrics | None) -> int:
    """Do all work that is due, print the results, and export the metrics. Returns the exit status."""
    with invocation.lake(*tables) as lake:
        run = _SyncRun(lake, invocation.debug, options.dry_run, options.strict, quiet=options.as_json, metrics=metrics)
        names = list(tables) or [table.name for table in lake.settings.tables]
        for name in names:
            run.table(name)
        if metrics is not None:
            MetricsTarget(options.metrics_file, options.as_emf).export(metrics, lake, names)
        if not lake.settings.tables:
            run.add_doubts([f"no table is configured: {ADD_A_TABLE}"])
    if options.as_json:
        document = {"due": run.due, "results": run.results, "doubts": run.doubts}
        write_document(document) if options.every is None else write_lines([encode_json(document)])
    elif not run.due and not run.status and options.every is None:
        echo("Nothing is due.")
    return run.status


def _repeat(invocation: Invocation, every_s: float, work: Callable[[], int]) -> int:
    """Do a pass at each interval until a signal. A wrong configuration ends the first pass with its error."""
    stop, first, status = threading.Event(), True, 0
    echo(
        f"All work that is due is done every {duration_text(every_s)}; Ctrl-C ends this after the pass in progress.",
        err=True,
    )
    with stopped_by(stop, signal.SIGTERM, signal.SIGINT):
        while not stop.is_set():
            began = time.monotonic()
            try:
                status = work()
            except Exception as error:
                if first and isinstance(error, UsageError):
                    raise
                status = exit_status(error)
                print_error(error, invocation.debug)
            first = False
            stop.wait(max(0.0, every_s - (time.monotonic() - began)))
    return status


@dataclass(slots=True)
class _SyncRun:
    """One pass over the tables.

    Args:
        dry: only list the work that is due.
        strict: a quarantined record makes the exit status 1.
        quiet: print nothing on stdout.
        status: the greatest exit status of an error so far.
        metrics: receives the results; None: no metrics are exported.
    """

    lake: Lake
    debug: bool
    dry: bool
    strict: bool
    quiet: bool
    due: list[dict[str, Any]] = field(default_factory=list)
    results: list[dict[str, Any]] = field(default_factory=list)
    doubts: list[str] = field(default_factory=list)
    status: int = 0
    metrics: LakeMetrics | None = None

    def table(self, name: str) -> None:
        """Plan and do the work that is due for one table, up to the first failure."""
        from ddb_lake.mysql.replication import REPLICATION
        from ddb_lake.pipeline.plan.due import missing_input
        from ddb_lake.pipeline.plan.planner import Planner

        planner, table = Planner(self.lake, (REPLICATION,)), self.lake.table(name)
        step = "read"
        try:
            for work in planner.reads(table):
                self._do(work)
            step = "plan"
            planned = list(planner.due(table))
            missing = [f"{name}: {place}" for place in missing_input(self.lake, table)]
            if planned:
                for place in missing:
                    self.lake.warn(place)
            else:
                self.add_doubts(missing)
            for work in planned:
                step = _step(work)
                self._do(work)
        except Exception as error:  # the work of the other tables continues after any error
            self._failed(name, step, error)

    def add_doubts(self, doubts: Sequence[str], quarantined: int = 0) -> None:
        """Print doubts about a result; they make the exit status 1."""
        self.doubts += doubts
        self.status = max(self.status, print_doubts(doubts, quarantined, self.strict))

    def _do(self, work: Work) -> None:
        from ddb_lake.mysql.replication import REPLICATION, ReplicateResult, rejected_text
        from ddb_lake.pipeline.apply.apply import ApplyResult
        from ddb_lake.pipeline.capture.streams import StreamsResult
        from ddb_lake.pipeline.load.load import LoadResult
        from ddb_lake.pipeline.sync import run_work

        self.due.append(_document(work))
        if self.dry:
            self._echo([f"{work.table}: {_step(work)} is due: {work.reason}"])
            return
        result = run_work(self.lake, work, (REPLICATION,))
        if self.metrics is not None:
            self.metrics.add(work.table, result)
        self.results.append({"table": work.table, "kind": _step(work), "result": asdict(result)})
        if isinstance(result, StreamsResult) and result.gaps:
            self.status = max(self.status, 1)  # data is in doubt; landed objects are applied nevertheless
        self._echo(result_lines(result))
        if isinstance(result, LoadResult | ApplyResult):
            self.add_doubts(result.doubts, result.quarantined)
        if isinstance(result, ReplicateResult) and (rejected := rejected_text(result)):
            self.add_doubts([rejected])

    def _failed(self, name: str, step: str, error: Exception) -> None:
        self.status = max(self.status, exit_status(error))
        if self.metrics is not None:
            self.metrics.add_failure(name)
        self.results.append(
            {"table": name, "kind": step, "error": error_text(error), "exit_status": exit_status(error)}
        )
        print_error(error, self.debug, f"{name}, {step}: ")

    def _echo(self, lines: Sequence[str]) -> None:
        if not self.quiet:
            for line in lines:
                echo(line)


def _step(work: Work) -> str:
    """The name of a step of `sync`: that of the command which does the same."""
    return "apply" if work.kind == "merge" else work.kind


def _document(work: Work) -> dict[str, Any]:
    """What is due, as `--json` has it."""
    return {
        "table": work.table,
        "kind": _step(work),
        "reason": work.reason,
        "uris": work.uris,
        "hours": [hour.isoformat() for hour in work.hours],
        "digest": work.digest,
    }


def result_lines(result: Any) -> list[str]:
    """The lines about a result for stdout. Prints its remarks on stderr."""
    from ddb_lake.mysql.replication import ReplicateResult
    from ddb_lake.pipeline.apply.apply import ApplyResult
    from ddb_lake.pipeline.capture.incremental_exports import Increments
    from ddb_lake.pipeline.capture.streams import StreamsResult
    from ddb_lake.pipeline.load.load import LoadResult

    if isinstance(result, StreamsResult):
        print_stream_remarks(result)
        return [streams_text(result)]
    if isinstance(result, ReplicateResult):
        return [replication_text(result)]
    if isinstance(result, Increments):
        return export_lines(result)
    if isinstance(result, LoadResult):
        print_load_remarks(result)
        return [load_text(result)]
    if isinstance(result, ApplyResult):
        print_apply_remarks(result)
        return apply_lines(result)
    return compact_lines(result)


def export_lines(increments: Increments) -> list[str]:
    """The incremental exports that are running, one in each line."""
    from ddb_lake.pipeline.capture.incremental_exports import window_text

    windows = [window_text(export.window) for export in increments.under_way]
    return [
        f"{increments.table}: changes of {window} are being exported; a later sync loads them." for window in windows
    ]
