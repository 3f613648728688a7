"""`ddb-lake demo`: the complete pipeline on the embedded AWS emulator, step by step.

It has a DynamoDB table with traffic, a point-in-time export, changes through Kinesis and Firehose to S3 with their
usual faults, Dagster's sensor, runs and checks. At the end the lake is compared with the table, item by item.
"""

from __future__ import annotations

import json
import logging
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import dagster as dg

from ddb_lake.core.operations.count_text import count_text
from ddb_lake.executors import open_lake
from ddb_lake.orchestration.demo.home import (
    EXPORT_BUCKET,
    LANDING_BUCKET,
    TABLE,
    DemoHome,
    demo_definitions,
    surroundings,
)
from ddb_lake.orchestration.demo.source import DemoSource, canonical_text
from ddb_lake.orchestration.in_process_daemon import InProcessDaemon, Run, run_job
from ddb_lake.orchestration.sensor import arrivals_sensor, sensor_name
from ddb_lake.pipeline.read.dump import dump_items
from ddb_lake.pipeline.read.quarantine import list_quarantine
from ddb_lake.pipeline.read.query import run_query
from ddb_lake.pipeline.read.status import table_status
from ddb_lake.sandbox import ExportOptions, Sandbox, StreamFaults

HOURS = 3
"""The hours in which the table changes, before the present one. `conservation` judges whole hours after the first one that has an
object, 20 minutes after their end: with three, there is such an hour at any minute.
"""
_EXACT = {"DDB_LAKE_COUNT_TOLERANCE": "0"}  # the emulator counts items at once, DynamoDB every six hours
_DEV = "ddb_lake.orchestration.dev"
_FAULTS = StreamFaults(duplicates=0.05, reordering=0.10)


@dataclass(frozen=True, slots=True)
class DemoSize:
    """How much traffic a demo has: items before the export, and steps of traffic in each of the hours after it."""

    items: int = 400
    steps: int = 120


def run_demo(folder: Path, keep: bool, emit: Callable[[str], None], seed: int, size: DemoSize = DemoSize()) -> int:
    """Run the demo.

    Args:
        folder: where the lake is stored.
        keep: the folder is kept; print commands to look at the lake.
        emit: prints a line.
        seed: of the generated orders.
        size: the traffic of the orders table.

    Returns:
        The exit status: 1 if the lake differs from the table, or a run or check failed; else 0.

    Raises:
        UsageError: `folder` has a lake that no demo wrote, or another sandbox runs in this process.
    """
    home = DemoHome(folder)
    start = datetime.now(UTC) - timedelta(hours=HOURS)
    home.clear(start.date())
    sandbox = Sandbox(start=start, faults=_FAULTS, exports=ExportOptions(seconds=1.0))
    with sandbox, surroundings({**sandbox.environment(), **home.environment(), **_EXACT}), _quiet_libraries():
        return _Demo(home, DemoSource(sandbox, seed), emit, size).run(keep)


@contextmanager
def _quiet_libraries() -> Iterator[None]:
    """Suppress log messages and warnings of libraries."""
    loggers = [logging.getLogger(name) for name in ("dagster", "alembic", "werkzeug")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


class _Demo:
    """One run of the demo. `_failed` lists the faults."""

    def __init__(self, home: DemoHome, source: DemoSource, emit: Callable[[str], None], size: DemoSize) -> None:
        self._home, self._source, self._emit, self._size = home, source, emit, size
        self._failed: list[str] = []
        self._step = 0
        self._duplicates = 0

    def run(self, keep: bool) -> int:
        started = time.monotonic()
        self._emit("ddb_lake: an exact copy of a DynamoDB table, made on this machine")
        self._make_source()
        with dg.DagsterInstance.get() as instance:
            defs = demo_definitions()
            lake = arrivals_sensor(defs).name.removesuffix(sensor_name(""))
            self._export_and_load(defs, instance, lake)
            self._change_source()
            self._follow_changes(InProcessDaemon(defs, instance, f"{lake}_arrivals"))
            self._run_checks(defs, instance, lake)
        self._show_tables()
        self._compare()
        self._end(keep, time.monotonic() - started)
        return 1 if self._failed else 0

    # --- the source

    def _make_source(self) -> None:
        self._heading("A DynamoDB table, with point-in-time recovery and a Kinesis stream")
        self._source.create()
        self._source.traffic.insert(self._size.items)
        self._source.traffic.run(self._size.steps // 4)
        self._source.write_corners()
        self._print(
            f"{TABLE}: {count_text(self._count(), 'item')} with maps, sets, lists, binary, 38-digit numbers, empty strings"
        )
        self._print(
            f"its changes go through Kinesis and Firehose (gzip) to s3://{LANDING_BUCKET}/orders/yyyy/MM/dd/HH/"
        )
        self._print(
            f"{_FAULTS.duplicates:.0%} of them come twice and {_FAULTS.reordering:.0%} out of order, on purpose"
        )

    def _export_and_load(self, defs: dg.Definitions, instance: dg.DagsterInstance, lake: str) -> None:
        self._heading(f"A full export to s3://{EXPORT_BUCKET}, taken and loaded by Dagster")
        self._print_run(run_job(defs, instance, f"{lake}_export_{TABLE}", "a new export"))

    def _change_source(self) -> None:
        self._heading("The table changes: inserts, updates, deletes, moves, bursts within a millisecond, expiry")
        for _ in range(HOURS):
            self._source.live_on(self._size.steps)
            self._source.an_hour_later()
        self._source.live_on(self._size.steps)
        self._source.delivery.flush()
        self._print(
            f"{count_text(self._count(), 'item')} now; {count_text(len(self._source.landed()), 'object has', 'objects have')} landed"
        )
        self._damage_delivery()

    def _damage_delivery(self) -> None:
        """Delay, truncate, repeat and corrupt delivered objects."""
        delivered = [key for key in self._source.landed() if key.startswith("orders/")]
        late, truncated, repeated = delivered[1], delivered[-1], delivered[0]
        self._source.hold_back(late)
        self._source.put(f"{repeated.rpartition('/')[0]}/delivered-again.gz", self._source.read(repeated))
        data = self._source.read(truncated)
        self._source.held[truncated] = data
        self._source.put(truncated, data[: len(data) // 2])
        self._source.put(f"{truncated.rpartition('/')[0]}/garbage", b'{"dynamodb": {"Keys": {}}}\nnot a record\x00\xff')
        failed = sum(key.startswith("orders-failed/") for key in self._source.landed())
        self._print("1 object is late, 1 is truncated, 1 is delivered twice, 1 is garbage;")
        self._print(f"{failed} hold records on which Firehose's transformation failed")

    # --- Dagster

    def _follow_changes(self, ticker: InProcessDaemon) -> None:
        self._heading("Dagster's sensor finds objects that are not applied, and requests runs")
        self._tick(ticker, "first tick")
        arrived = self._source.let_arrive()
        self._print(
            f"the late object arrives, in an earlier hour; the truncated one is rewritten ({count_text(len(arrived), 'object')})"
        )
        self._tick(ticker, "next tick")
        tick = ticker.tick()
        self._print(f"last tick: {tick.skipped}")
        if tick.runs:
            self._fail("the sensor still requests runs")

    def _tick(self, ticker: InProcessDaemon, name: str) -> None:
        ticker.cursor = None  # list everything, as after hours without a tick
        tick = ticker.tick()
        if not tick.runs:
            self._fail(f"{name}: the sensor requested no run: {tick.skipped}")
        for run in tick.runs:
            self._print(f"{name}: {run.reason}")
            self._print_run(run)

    def _run_checks(self, defs: dg.Definitions, instance: dg.DagsterInstance, lake: str) -> None:
        self._heading("The checks that run every hour")
        self._print_run(run_job(defs, instance, f"{lake}_checks_job", "the checks"))

    def _print_run(self, run: Run) -> None:
        if not run.success:
            self._fail(f"the run for {run.reason} failed; Dagster has the reason")
        days = list(dict.fromkeys(partition for _, partition in run.materialized if partition))
        assets = dict.fromkeys(asset for asset, _ in run.materialized)
        if assets:
            span = f" ({', '.join(days)})" if days else ""
            self._print(f"materialized {', '.join(assets)}{span}")
        if counts := run.metadata.get(f"changes/{TABLE}"):
            self._duplicates += counts["duplicates"]
            self._print(
                f"{count_text(counts['records'], 'record')}: {counts['new']:,} new, {counts['duplicates']:,} known already"
            )
        for check in run.checks:
            mark = "✓" if check.passed else "!" if check.severity == dg.AssetCheckSeverity.WARN else "✗"
            self._print(f"  {mark} {check.asset_key.to_user_string()} {check.check_name}: {check.description}")
            if mark == "✗":
                self._fail(f"check {check.check_name} failed")

    # --- the lake

    def _show_tables(self) -> None:
        self._heading("The lake")
        with open_lake(self._home.settings()) as lake:
            status = table_status(lake, TABLE)
            self._print(
                f"{count_text(status.rows, 'row')}; {count_text(status.changes, 'distinct change record')} from"
                f" {count_text(status.objects, 'object')},"
                f" {count_text(self._duplicates, 'duplicate')} left out;"
                f" {count_text(status.quarantined, 'entry', 'entries')} in quarantine:"
            )
            for group in list_quarantine(lake, TABLE):
                self._print(f"  quarantined: {group.count} × {group.reason}")
            query = (
                "SELECT status, count(*) AS orders, sum(total) AS total, max(_changed_at) AS last_change"
                f" FROM {TABLE} WHERE customer <> 'c-corner' GROUP BY ALL ORDER BY orders DESC, status LIMIT 8"
            )
            self._print(query)
            with run_query(lake, query) as result:
                rows = [[str(value) for value in row] for batch in result.batches() for row in batch]
            for line in _columns(result.columns, rows):
                self._print(f"  {line}")

    def _compare(self) -> None:
        self._heading("The lake against the table, item by item, every attribute and digit")
        expected = sorted(canonical_text(item) for item in self._source.items())
        with open_lake(self._home.settings()) as lake:
            actual = sorted(canonical_text(json.loads(line)["Item"]) for line in dump_items(lake, TABLE))
        missing, extra = len(set(expected) - set(actual)), len(set(actual) - set(expected))
        if expected == actual:
            self._print(
                f"✓ {count_text(len(expected), 'item')} in DynamoDB, {len(actual):,} in the lake, all of them equal"
            )
        else:
            self._print(f"✗ {count_text(len(expected), 'item')} in DynamoDB, {len(actual):,} in the lake:")
            self._fail(f"{count_text(missing, 'item is', 'items are')} missing or stale in the lake, {extra} are extra")

    def _count(self) -> int:
        return sum(1 for _ in self._source.items())

    # --- output

    def _end(self, keep: bool, seconds: float) -> None:
        self._emit("")
        if self._failed:
            self._emit("FAILED: " + "; ".join(self._failed))
        else:
            self._emit(f"Done in {seconds:.0f} s: the lake equals the table.")
        if keep:
            config = self._home.config
            program = called_as(Path(sys.executable), Path.cwd())
            self._emit(f"  {program} query --config {config} 'SELECT * FROM {TABLE} LIMIT 5'")
            self._emit(f"  {program} status --config {config}")
            self._emit(f"  {program} quarantine show {TABLE} --config {config}")
            dev = "make dev" if self._home.folder == Path(".demo") else f"python -m {_DEV} --folder {self._home.folder}"
            self._emit(f"  {dev}   # Dagster's UI on this lake, while the table keeps changing")

    def _heading(self, title: str) -> None:
        self._step += 1
        self._emit("")
        self._emit(f"{self._step}. {title}")

    def _print(self, text: str) -> None:
        self._emit(f"   {text}")

    def _fail(self, fault: str) -> None:
        self._failed.append(fault)
        self._print(f"✗ {fault}")


def called_as(python: Path, folder: Path) -> str:
    """The command for `ddb-lake` in a folder: its path if the environment is below the folder, else its name."""
    program = python.with_name("ddb-lake")
    return str(program.relative_to(folder)) if program.is_relative_to(folder) else program.name


def _columns(names: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """The lines of a table in columns."""
    widths = [max(map(len, column)) for column in zip(names, *rows, strict=True)]
    for row in (names, *rows):
        yield "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
