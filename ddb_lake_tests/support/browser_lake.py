"""What the browser is shown: the lake of a demo, with a gap in its changes and a damaged object, which turn checks red and yellow."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import dagster as dg
import yaml

from ddb_lake.cli.demo_run import run_demo
from ddb_lake.core.capture.gaps import Gap
from ddb_lake.executors import open_lake
from ddb_lake.orchestration.demo.home import TABLE, DemoHome, demo_definitions
from ddb_lake.orchestration.dev import living
from ddb_lake.orchestration.in_process_daemon import run_job
from ddb_lake.pipeline.apply.apply import apply_objects
from ddb_lake.pipeline.capture.gap_log import record_gap

WITHOUT_A_QUEUE = {"run_coordinator": {"module": "dagster.core.run_coordinator", "class": "DefaultRunCoordinator"}}
"""The webserver starts runs itself: there is no daemon to take them from a queue."""


def prepare(home: DemoHome) -> None:
    """Run the demo in `home`, and let a gap be found. Raises AssertionError with what the demo said if it fails."""
    home.folder.mkdir()
    told: list[str] = []
    assert run_demo(home.folder, keep=True, emit=told.append, seed=1) == 0, "\n".join(told)
    break_stream(home)
    settings = home.dagster / "dagster.yaml"
    settings.write_text(yaml.safe_dump(yaml.safe_load(settings.read_text()) | WITHOUT_A_QUEUE))


def break_stream(home: DemoHome) -> None:
    """Record that the stream was off for ten minutes, apply a damaged object, and evaluate the hourly checks."""
    now = datetime.now(UTC)
    begin_us, end_us = (int((now - timedelta(minutes=m)).timestamp() * 1e6) for m in (40, 30))
    gap = Gap("stream_off", begin_us, end_us, "the Kinesis destination was disabled", int(now.timestamp() * 1e6))
    with living(home, writing=False):
        with open_lake(home.settings()) as lake:
            record_gap(lake, TABLE, gap)
            damaged = home.folder / "damaged"
            damaged.write_bytes(b"damaged")
            apply_objects(lake, TABLE, [str(damaged)])
        with dg.DagsterInstance.get() as instance:
            defs = demo_definitions()
            (sensor,) = defs.sensors or ()
            job = f"{sensor.name.removesuffix('_arrivals')}_checks_job"
            assert run_job(defs, instance, job, "the checks after a gap").success
