"""What a lake of many tables costs Dagster: loading its definitions, a tick of its sensor, rows of its event log.

    python -m ddb_lake_tests.benchmarks.tables --tables 500

Processor time of this process, which other work on the machine does not lengthen. S3 is an emulator that counts LIST
requests and has nothing. The goals: definitions in under 5 s, a tick well within Dagster's 60 s.
"""

from __future__ import annotations

import argparse
import logging
import os
import tempfile
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import yaml

from ddb_lake.orchestration.sensor import arrivals_sensor

NOW = datetime(2026, 3, 4, 12, 30, tzinfo=UTC)
TICKS_A_DAY = 24 * 3600 // 30
CHECKS_A_DAY = 24


def configuration(tables: int, warehouse: Path) -> str:
    """The YAML attributes of a lake whose tables have exports and changes in S3."""
    one = {"key": ["pk", "sk"], "export": {"bucket": "exports", "schedule": "0 3 * * 0"}}
    named = [(f"table_{number:04d}", f"s3://landing/table_{number:04d}/") for number in range(tables)]
    listed = [{"name": name, **one, "changes": {"uri": uri, "layout": "hourly"}} for name, uri in named]
    return yaml.safe_dump({"warehouse": str(warehouse), "tables": listed})


@dataclass
class EmptyS3:
    """Buckets with nothing in them. `lists`: how many LIST requests there were."""

    lists: int = 0
    prefixes: list[str] = field(default_factory=list)

    def get_paginator(self, operation: str) -> EmptyS3:
        assert operation == "list_objects_v2"
        return self

    def paginate(self, *, Bucket: str, Prefix: str, **_: Any) -> Iterator[dict[str, Any]]:  # names of boto3
        self.lists += 1
        self.prefixes.append(f"s3://{Bucket}/{Prefix}")
        yield {}


@contextmanager
def timed(figures: dict[str, float], name: str) -> Iterator[None]:
    """Note the processor seconds of a block."""
    started = time.process_time()
    yield
    figures[name] = time.process_time() - started


def loaded(text: str, figures: dict[str, float]) -> Any:
    """Definitions from YAML, as Dagster's code server has them."""
    with timed(figures, "import of dagster"):
        import dagster as dg
    with timed(figures, "import of ddb_lake"):
        from ddb_lake import DynamoDBLakeComponent
    with timed(figures, "settings from YAML"):
        component = DynamoDBLakeComponent.resolve_from_yaml(text)
    with timed(figures, "definitions"):
        defs = dg.build_defs_for_component(component)
    with timed(figures, "repository"):
        defs.get_repository_def()
    return component, defs


def ticks(settings: Any) -> Iterator[tuple[str, float, int]]:
    """Name, processor seconds and LIST requests of ticks over quiet tables."""
    from ddb_lake.aws.objects import ObjectStore
    from ddb_lake.executors import EXECUTORS
    from ddb_lake.lake.catalog import LakeCatalog
    from ddb_lake.pipeline.open_lake import Lake
    from ddb_lake.pipeline.plan.cursor import SensorCursor
    from ddb_lake.pipeline.plan.planner import Planner, Tick

    cursor, now = None, NOW
    for name, later in (("first tick", 0), ("usual tick", 30), ("tick every ten minutes", 600)):
        s3, store = EmptyS3(), ObjectStore()
        store._s3 = s3
        now += timedelta(seconds=later)
        with LakeCatalog(settings) as catalog:
            lake = Lake(settings, catalog, EXECUTORS, store=store, now=lambda at=now: at)
            state, started = SensorCursor.load(cursor), time.process_time()
            plan = Planner(lake).tick(Tick(state, budget_s=3600))
            assert len(plan.examined) == len(settings.tables) and not plan.failed and not plan.work, plan
            cursor = state.dump(table.name for table in settings.tables)
        yield name, time.process_time() - started, s3.lists


def event_rows(tables: int, folder: Path) -> int:
    """Rows that one run of the hourly checks leaves in the event log."""
    import dagster as dg

    from ddb_lake import DynamoDBLakeComponent

    for number in range(tables):
        (folder / f"landing{number}").mkdir(parents=True)
    listed = [
        {"name": f"t{number}", "key": ["k"], "changes": {"uri": str(folder / f"landing{number}")}}
        for number in range(tables)
    ]
    defs = dg.build_defs_for_component(
        DynamoDBLakeComponent.resolve_from_dict({"warehouse": str(folder / "lake"), "tables": listed})
    )
    sensor = arrivals_sensor(defs)
    name = f"{sensor.name.removesuffix('_arrivals')}_checks_job"
    quiet = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}
    with dg.DagsterInstance.ephemeral() as instance:
        result = defs.resolve_job_def(name).execute_in_process(instance=instance, run_config=quiet)
        return len(instance.all_logs(result.run_id))


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tables", type=int, default=500)
    chosen = parser.parse_args()
    os.environ |= {"AWS_EC2_METADATA_DISABLED": "true", "AWS_MAX_ATTEMPTS": "1", "AWS_REGION": "eu-west-1"}
    warnings.simplefilter("ignore")
    logging.getLogger("dagster").setLevel(logging.CRITICAL)
    figures: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as scratch:
        component, _ = loaded(configuration(chosen.tables, Path(scratch) / "lake"), figures)
        print(f"A lake of {chosen.tables} tables (processor seconds)")
        for name, cpu_s in figures.items():
            print(f"  {name:24}{cpu_s:8.2f}")
        made = sum(cpu_s for name, cpu_s in figures.items() if not name.startswith("import"))
        print(f"  {'load, without imports':24}{made:8.2f}   (goal: below 5)")
        per_tick = 0
        for name, cpu_s, lists in ticks(component.settings):
            print(f"  {name:24}{cpu_s:8.2f}   {lists:,} LIST requests")
            per_tick = lists if name == "usual tick" else per_tick
        print(f"  a day of usual ticks: {per_tick * TICKS_A_DAY:,} LIST requests")
        few, more = (event_rows(count, Path(scratch) / f"rows{count}") for count in (2, 4))
        a_table = (more - few) / 2
        rows = CHECKS_A_DAY * (few + a_table * (chosen.tables - 2))
        print(
            f"  event log: {rows:,.0f} rows a day by the hourly checks ({a_table:.0f} a table and hour); none by ticks"
        )


if __name__ == "__main__":
    main()
