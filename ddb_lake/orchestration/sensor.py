"""The sensor: one for each lake. Each tick plans the due work of all tables and requests runs for it.

Dagster's daemon evaluates it at the interval `sensor_interval` of the settings:
https://docs.dagster.io/guides/automate/sensors
"""

import time
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import Any

import dagster as dg

from ddb_lake.config import LakeSettings
from ddb_lake.core.operations.error_text import error_text
from ddb_lake.orchestration.failures import is_unreachable
from ddb_lake.orchestration.run_requests import Requests
from ddb_lake.orchestration.specs import TableAssets
from ddb_lake.orchestration.work_kinds import WORK_KINDS
from ddb_lake.pipeline.follow.leases import working_followers
from ddb_lake.pipeline.open_lake import Lake
from ddb_lake.pipeline.plan.cursor import parse_cursor
from ddb_lake.pipeline.plan.notifications import receive_notifications
from ddb_lake.pipeline.plan.planner import BUDGET_S, Busy, Plan, Planner, Tick
from ddb_lake.pipeline.plan.sightings import Seen
from ddb_lake.pipeline.plan.work import digest

CLOCK_SLACK_S = 1
"""The daemon looks at its sensors every 5 s, and evaluates one if its interval has passed since the *start* of the last tick, which is
some milliseconds later than the look. Measured with Dagster 1.13.27 in two minutes: with intervals of 5 and 10 s, the ticks were 9.1 and
12.6 s apart on average, and with 4 and 9 s they were 5.0 and 10.1 s apart."""

SHOWN = 10
"""The most tables that the reason of a skipped tick names."""


def sensor_name(lake: str) -> str:
    """The name of a lake's sensor."""
    return f"{lake}_arrivals"


def arrivals_sensor(definitions: dg.Definitions) -> dg.SensorDefinition:
    """The sensor of a lake that `planning_sensor` made. Raises ValueError unless the definitions have exactly one."""
    (found,) = (sensor for sensor in definitions.sensors or () if sensor.name.endswith(sensor_name("")))
    assert isinstance(found, dg.SensorDefinition)
    return found


def planning_sensor(
    lake: str,
    tables: Mapping[str, TableAssets],
    jobs: Sequence[Any],
    open_lake: Callable[[], AbstractContextManager[Lake]],
    settings: LakeSettings,
) -> dg.SensorDefinition:
    """The sensor definition of a lake.

    Args:
        lake: the name with which its jobs begin.
        tables: its assets by table.
        jobs: the jobs that it may request.
        open_lake: opens the lake for one tick.
        settings: of the lake: its interval, and whether Dagster starts the sensor by itself.

    A tick examines tables for `BUDGET_S` seconds; the next one continues.
    """
    is_started = settings.starts("sensor")

    @dg.sensor(
        name=sensor_name(lake),
        jobs=jobs,
        minimum_interval_seconds=settings.sensor_interval_s - CLOCK_SLACK_S,
        default_status=dg.DefaultSensorStatus.RUNNING if is_started else dg.DefaultSensorStatus.STOPPED,
        description="Looks for landed objects that are not applied, finished exports that are not loaded, and files to"
        " compact, in all tables of the lake, and requests the runs. The listing is compared with the ledger, by name and"
        " version, so objects that arrive late or are rewritten are found too.",
    )
    def arrivals(context: dg.SensorEvaluationContext) -> dg.SensorResult:
        cursor, fault = parse_cursor(context.cursor)
        if fault is not None:
            context.log.warning(f"The sensor's cursor is not used: {fault}. Everything is listed again.")
        origin = context.code_location_origin
        location = origin.location_name if origin is not None else None
        with open_lake() as opened:
            requests = Requests(lake, tables, warehouse_digest(opened))
            busy, warnings = requests.busy(context.instance, time.time(), location)
            busy = _with_followed(busy, working_followers(opened))
            notifications = receive_notifications(opened)
            seen = Seen()
            plan = Planner(opened, WORK_KINDS, seen.add).tick(Tick(cursor, busy, notifications.hints, BUDGET_S))
            warnings += seen.remember(opened)
        skip_reason = _report(context, plan, busy)
        run_requests = list(requests.requests(plan.work))
        # Messages are deleted last: until then, an error leaves them in the queue and the next tick lists their places.
        for warning in (*warnings, *notifications.errors, *notifications.delete_handled(plan, busy)):
            context.log.warning(str(warning))
        return dg.SensorResult(
            run_requests=run_requests,
            skip_reason=None if run_requests else skip_reason,
            cursor=cursor.dump(tables),
        )

    return arrivals


def _with_followed(busy: Busy, followed: Collection[str]) -> Busy:
    """Leave reading and applying to the followers that work; when one stops, the sensor requests runs again."""
    return replace(busy, reading={*busy.reading, *followed}, applying={*busy.applying, *followed})


def warehouse_digest(lake: Lake) -> str:
    """A digest of the lake's place, which does not show the place."""
    return digest([lake.catalog.warehouse, lake.settings.catalog.namespace])


def _report(context: dg.SensorEvaluationContext, plan: Plan, busy: Busy) -> str:
    """Log the tables that could not be examined; returns the reason to show if nothing is requested.

    Raises the first error if every table failed, nothing is requested, and waiting does not help: then the tick fails.
    """
    all_failed = bool(plan.failed) and len(plan.failed) == len(plan.examined) and not plan.work
    if all_failed and all(is_unreachable(error) for error in plan.failed.values()):
        return f"AWS cannot be called: {error_text(next(iter(plan.failed.values())))}"
    for table, error in plan.failed.items():
        context.log.error(f"{table}: {error_text(error)}")
    if all_failed:
        raise next(iter(plan.failed.values()))
    if busy.runs:
        waiting = "; ".join(f"{table}: {text}" for table, text in sorted(busy.runs.items())[:SHOWN])
        more = f"; and {len(busy.runs) - SHOWN} more" if len(busy.runs) > SHOWN else ""
        idle = len(plan.examined - busy.runs.keys())
        return (
            f"Waiting for runs that are under way, tables: {len(busy.runs)} ({waiting}{more}). Nothing is due for the"
            f" other tables looked at: {idle}. Objects listed: {plan.listed}."
        )
    return f"Nothing is due. Tables looked at: {len(plan.examined)}. Objects listed: {plan.listed}."
