"""Freshness by Dagster's sensor: a real daemon and code location on a lake whose changes land in a local folder.

    python -m ddb_lake_tests.benchmarks.sensor LANDED WAREHOUSE

The sensor has its shortest interval. One object at a time is dropped, at a chance moment between two ticks, when the last one's run
has ended. It is visible when a query of another process finds its rows; the lake is queried four times a second. Prints the rounds as JSON.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import dagster as dg
import yaml

from ddb_lake.config import load_settings
from ddb_lake.config.lake import SHORTEST_SENSOR_S
from ddb_lake.executors import open_lake
from ddb_lake.orchestration.open_project import dagster_home, write_code
from ddb_lake.orchestration.run_requests import LAKE_TAG, UNFINISHED, sync_job_name
from ddb_lake.orchestration.sensor import sensor_name
from ddb_lake.orchestration.web_server import Interrupts, end_group
from ddb_lake.pipeline.open_lake import Lake
from ddb_lake_tests.benchmarks.data import KEY, TABLE
from ddb_lake_tests.benchmarks.worker import values

LOOK_EVERY_S = 0.25
WAIT_S = 300.0
_SENSOR = sensor_name("")
STARTS = ("RUN_STARTING", "RUN_START", "STEP_START")


def main(landed: str, warehouse: str) -> None:
    """Measure and print."""
    place = Path(warehouse).parent / "sensor"
    landing = place / "landing"
    landing.mkdir(parents=True, exist_ok=True)
    file = place / "lake.yaml"
    table = {"name": TABLE, "key": list(KEY), "changes": {"uri": str(landing)}}
    file.write_text(
        yaml.safe_dump(
            {
                "warehouse": warehouse,
                "run_automatically": True,
                "sensor_interval": f"{SHORTEST_SENSOR_S}s",
                "tables": [table],
            }
        ),
        encoding="utf-8",
    )
    os.environ.pop("DAGSTER_HOME", None)
    home = dagster_home(place)
    os.environ |= {"DAGSTER_HOME": str(home), "DAGSTER_DISABLE_TELEMETRY": "yes", "AWS_EC2_METADATA_DISABLED": "true"}
    objects = sorted(Path(landed).rglob("*.gz"))
    # two processes that create Dagster's storage at the same time can leave it damaged, so it exists before the daemon starts
    with dg.DagsterInstance.get() as instance, _daemon(home, file), open_lake(load_settings(file)) as lake:
        _until(lambda: _ticks(instance, after=0.0), "the sensor has not ticked")
        rounds = [_round(instance, lake, landing, number, path) for number, path in enumerate(objects)]
    print(json.dumps(rounds))


@contextmanager
def _daemon(home: Path, file: Path) -> Iterator[None]:
    """Dagster's daemon, which starts the code location, with its output in `home`."""
    daemon = str(Path(sys.executable).parent / "dagster-daemon")
    command = [daemon, "run", "-f", str(write_code(home, file)), "--log-level", "warning"]
    with (home / "daemon.log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)
        try:
            yield
        finally:
            end_group(process, Interrupts())


def _round(instance: dg.DagsterInstance, lake: Lake, landing: Path, number: int, file: Path) -> dict[str, Any]:
    """Drop one object and wait until its rows are there: seconds, and where they went."""
    time.sleep(random.Random(number).uniform(0, SHORTEST_SENSOR_S))
    hour = landing / datetime.now(UTC).strftime("%Y/%m/%d/%H")
    hour.mkdir(parents=True, exist_ok=True)
    before, state = _changed(lake), _state(lake)
    landed = time.time()
    part = hour / f".{number:06d}.part"
    part.write_bytes(file.read_bytes())
    part.rename(hour / f"{number:06d}.gz")
    while _changed(lake) == before:
        seen = state
        _until(lambda: _state(lake) != seen, "the object is not visible")  # noqa: B023  # asked at once
        state, committed = _state(lake), time.time()
    visible = time.time()
    parts = _where_it_went(instance, landed, committed, visible)
    under_way = dg.RunsFilter(tags={LAKE_TAG: _lake_name(instance)}, statuses=UNFINISHED)
    _until(lambda: not instance.get_runs(under_way), "the run has not ended")
    return {"seconds": visible - landed, "parts": parts, "rows": [], "bytes": 0, "peak_mb": 0.0, "cpu": 0.0}


def _changed(lake: Lake) -> str:
    return values(lake, "sum(quantity::BIGINT)")[0]


def _state(lake: Lake) -> str:
    current = lake.catalog.table(TABLE)
    assert current is not None, "it has been loaded"
    return str(current.metadata_location)


def _where_it_went(instance: dg.DagsterInstance, landed: float, committed: float, visible: float) -> dict[str, float]:
    """Seconds of each stretch of a round, from Dagster's ticks and the events of the newest run of the sync job."""
    job = dg.RunsFilter(job_name=sync_job_name(_lake_name(instance)))
    record = instance.get_run_records(job, limit=1)[0]
    run_id = record.dagster_run.run_id
    tick = next(tick for tick in _ticks(instance, after=landed) if run_id in tick.run_ids)
    first: dict[str, float] = {}
    for event in instance.all_logs(run_id):
        if event.dagster_event is not None:
            first.setdefault(event.dagster_event.event_type.name, event.timestamp)
    moments = [landed, tick.timestamp, record.create_timestamp.timestamp(), *(first[name] for name in STARTS)]
    moments += [committed, visible]
    names = (
        "until the next tick",
        "the tick: list, plan, ask for a run",
        "until the queue launches the run",
        "the run's process starts: imports, definitions",
        "until its step begins",
        "the work: read, ingest, current",
        "the query",
    )
    return {name: moments[n + 1] - moments[n] for n, name in enumerate(names)}


def _sensors(instance: dg.DagsterInstance) -> list[Any]:
    return [state for state in instance.all_instigator_state() if state.instigator_name.endswith(_SENSOR)]


def _lake_name(instance: dg.DagsterInstance) -> str:
    return str(_sensors(instance)[0].instigator_name.removesuffix(_SENSOR))


def _ticks(instance: dg.DagsterInstance, after: float) -> list[Any]:
    """The ticks of the lake's sensor that began after this time in epoch seconds."""
    sensors = [(state.instigator_origin_id, state.selector_id) for state in _sensors(instance)]
    return [tick for sensor in sensors for tick in instance.get_ticks(*sensor, after=after)]


def _until(done: Any, otherwise: str) -> None:
    deadline = time.monotonic() + WAIT_S
    while not done():
        if time.monotonic() > deadline:
            raise TimeoutError(f"{otherwise} after {WAIT_S:.0f} s")
        time.sleep(LOOK_EVERY_S)


if __name__ == "__main__":
    main(*sys.argv[1:])
