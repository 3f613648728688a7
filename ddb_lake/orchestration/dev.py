"""`python -m ddb_lake.orchestration.dev`: Dagster's UI on the demo's lake, with the table still alive.

The embedded AWS emulator keeps nothing, so the orders table is filled from the lake, which has it exactly, and CloudWatch's
counts of earlier hours are those of the lake's ledger. What the demo damaged on purpose is discarded from the quarantine, and
Firehose's transformation has no fault, so that the checks are green. They are evaluated when Dagster's sensor has ticked, and then the
address of the UI is printed. Orders are placed and changed, and Firehose delivers every half minute; Dagster's own daemon runs
the sensor.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

import dagster as dg

from ddb_lake.core.operations.count_text import count_text
from ddb_lake.core.operations.display_text import escape_controls
from ddb_lake.errors import TerminalError, UsageError
from ddb_lake.executors import open_lake
from ddb_lake.orchestration.assets.source import source_job_name
from ddb_lake.orchestration.checks import read_sensor_sign
from ddb_lake.orchestration.demo.home import TABLE, DemoHome, demo_definitions, surroundings
from ddb_lake.orchestration.demo.source import DemoSource
from ddb_lake.orchestration.in_process_daemon import Run, run_job
from ddb_lake.orchestration.sensor import arrivals_sensor, sensor_name
from ddb_lake.orchestration.web_server import serve_ui
from ddb_lake.pipeline.maintain.quarantine import EntrySelection, discard_quarantine
from ddb_lake.pipeline.open_lake import Lake
from ddb_lake.pipeline.plan.sightings import forget
from ddb_lake.pipeline.read.dump import dump_items
from ddb_lake.pipeline.read.quarantine import list_quarantine
from ddb_lake.pipeline.table_identity import source_id
from ddb_lake.pipeline.verify.conservation import ingested_records
from ddb_lake.sandbox import ExportOptions, Sandbox

WORKSPACE = Path("workspace.yaml")
MODELS = Path("dbt_project")
WRITE_EVERY_S = 5.0
BUFFER_S = 30.0
_TICK_S = 1.0
_FIRST_TICK_S = 120.0
_TOLERANCE = {"DDB_LAKE_COUNT_TOLERANCE": "0.1"}
"""The emulator counts items at once, and the small table grows by several percent before the new items are applied."""
DISCARDED_BY = "make dev"
DISCARDED_WHY = "the demo damaged these records on purpose, and the emulator that had their objects has ended"


def main(arguments: list[str] | None = None) -> int:
    """Serve until interrupted; the exit status of Dagster."""
    parser = argparse.ArgumentParser(prog="python -m ddb_lake.orchestration.dev", description=__doc__)
    parser.add_argument("--folder", type=Path, default=Path(".demo"), help="the demo's folder (default: .demo)")
    parser.add_argument("--port", type=int, default=3000, help="the port of the UI (default: 3000)")
    parser.add_argument("--quiet-table", action="store_true", help="write nothing to the table")
    parser.add_argument("--follow", action="store_true", help="run `ddb-lake follow --dagster` beside Dagster")
    options = parser.parse_args(arguments)
    try:
        home = DemoHome(options.folder)
        with living(home, writing=not options.quiet_table), following(home) if options.follow else nullcontext():
            return _dagster(home, options.port)
    except (UsageError, TerminalError) as error:
        print(escape_controls(f"Error: {error}"), file=sys.stderr)
        return 2


@contextmanager
def living(home: DemoHome, writing: bool = True) -> Iterator[DemoSource]:
    """The demo's table and all that is between it and S3, alive; the environment leads there.

    Raises UsageError if no demo has made the folder.
    """
    if not home.is_made or not home.lake.exists():
        raise UsageError(f"{home.folder} has no demo's lake: run `ddb-lake demo --folder {home.folder}` first")
    home.write_settings()
    with open_lake(home.settings()) as lake:
        items = [json.loads(line)["Item"] for line in dump_items(lake, TABLE)]
        counts = ingested_records(lake, lake.table(TABLE))
        forget(lake, TABLE)  # what landed in an earlier emulator and was not applied is gone with its changes
        _discard_damage(lake)
        known_id = source_id(lake, TABLE)
    sandbox = Sandbox(exports=ExportOptions(seconds=5.0))
    with sandbox, surroundings({**sandbox.environment(), **home.environment(), **_models(home), **_TOLERANCE}):
        source = DemoSource(sandbox, seed=int(time.time()), faulty=False)
        source.create(items, buffer_seconds=BUFFER_S)
        sandbox.count_earlier(TABLE, TABLE, counts)
        if known_id is not None:  # the same table, for the lake: its items are those of the earlier one
            sandbox.continue_table(TABLE, known_id)
        with _pumping(source, writing):
            yield source


@contextmanager
def following(home: DemoHome) -> Iterator[subprocess.Popen[bytes]]:
    """`ddb-lake follow --dagster` in a process of its own, which completes its commit and ends with the block."""
    command = [sys.executable, "-m", "ddb_lake.cli", "follow", "--dagster", "--config", str(home.config)]
    with subprocess.Popen(command, start_new_session=True) as process:  # Ctrl-C reaches this process alone
        try:
            yield process
        finally:
            process.terminate()


def _discard_damage(lake: Lake) -> None:
    """Discard what is in quarantine: the demo damages objects on purpose, and the objects are gone with their emulator."""
    reasons = [group.reason for group in list_quarantine(lake, TABLE)]
    if not reasons:
        return
    count = discard_quarantine(lake, TABLE, EntrySelection(reasons=reasons), DISCARDED_BY, DISCARDED_WHY)
    print(
        f"{count_text(count, 'entry of the quarantine is', 'entries of the quarantine are')} discarded, because {DISCARDED_WHY}."
        f" `ddb-lake quarantine list {TABLE} --discarded` shows them.",
        file=sys.stderr,
    )


def _models(home: DemoHome) -> dict[str, str]:
    """What names the dbt project to the definitions, where there is one and dbt is installed."""
    if not MODELS.is_dir() or importlib.util.find_spec("dagster_dbt") is None:
        return {}
    database = home.folder.resolve() / "lake_marts.duckdb"
    return {"DDB_LAKE_DBT_PROJECT": str(MODELS), "DDB_LAKE_DBT_DATABASE": str(database)}


@contextmanager
def _pumping(source: DemoSource, writing: bool) -> Iterator[None]:
    stop = threading.Event()
    thread = threading.Thread(target=_pump, args=(source, writing, stop), name="orders", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def _pump(source: DemoSource, writing: bool, stop: threading.Event) -> None:
    """Write some orders every `WRITE_EVERY_S` seconds; deliver and expire every second."""
    written = 0.0
    while not stop.wait(_TICK_S):
        if writing and time.monotonic() - written >= WRITE_EVERY_S:
            source.traffic.insert(1)
            source.traffic.run(2)
            written = time.monotonic()
        source.sandbox.expire(TABLE)
        source.sandbox.pump()


def _dagster(home: DemoHome, port: int) -> int:
    """Dagster's webserver and daemon, until they end or are interrupted."""
    code = ["-w", str(WORKSPACE)] if WORKSPACE.exists() else ["-f", str(home.write_definitions())]
    return serve_ui(code, port, {}, ready=_ready)


def _ready(url: str) -> None:
    """Evaluate the checks after the sensor's first tick, before which `sensor_ticks` cannot be green; print the address."""
    await_tick()
    evaluate_checks()
    observe_sources()
    print(f"Dagster's UI: {url}", file=sys.stderr)


def await_tick() -> bool:
    """Wait until the daemon's sensor ticks; False if it has not after `_FIRST_TICK_S`."""
    sensor = sensor_name(_lake_of(demo_definitions()))
    deadline = time.monotonic() + _FIRST_TICK_S
    with dg.DagsterInstance.get() as instance:
        while read_sensor_sign(instance, sensor, time.time_ns() // 1000).state != "pass":
            if time.monotonic() >= deadline:
                return False
            time.sleep(_TICK_S)
    return True


def evaluate_checks() -> Run:
    """Evaluate the hourly checks and the overview, so that the UI shows the lake as it is, and not as the demo left it."""
    definitions = demo_definitions()
    with dg.DagsterInstance.get() as instance:
        return run_job(definitions, instance, f"{_lake_of(definitions)}_checks_job", "the checks")


def observe_sources() -> Run:
    """Observe the source, so that the UI shows its state before the hourly schedule does."""
    definitions = demo_definitions()
    with dg.DagsterInstance.get() as instance:
        return run_job(definitions, instance, source_job_name(_lake_of(definitions)), "the source")


def _lake_of(definitions: dg.Definitions) -> str:
    """The name of the lake, as its sensor has it."""
    return arrivals_sensor(definitions).name.removesuffix(sensor_name(""))


if __name__ == "__main__":
    sys.exit(main())
