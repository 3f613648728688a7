"""One sensor a lake: sees what is due for all its tables and asks for runs."""

import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from typing import Any

import dagster as dg

from ddb_lake.orchestration.failures import is_unreachable, said_of
from ddb_lake.orchestration.run_requests import Requests
from ddb_lake.orchestration.s3_notifications import listen
from ddb_lake.orchestration.specs import TableAssets
from ddb_lake.pipeline.open_lake import Lake
from ddb_lake.pipeline.plan.cursor import SensorMemory
from ddb_lake.pipeline.plan.planner import (
    BUDGET_S,
    Busy,
    Plan,
    Planner,
)
from ddb_lake.pipeline.plan.work import digest

INTERVAL_S = 30
SHOWN = 10
"""The most tables that the reason of a skipped tick names."""


def sensor_name(lake: str) -> str:
    """The name of a lake's sensor."""
    return f"{lake}_arrivals"


def planning_sensor(
    lake: str,
    tables: Mapping[str, TableAssets],
    jobs: list[Any],
    open_lake: Callable[[], AbstractContextManager[Lake]],
    budget_s: float = BUDGET_S,
) -> dg.SensorDefinition:
    """The sensor. `jobs`: those of `requests`; `open_lake` opens the lake for a tick."""

    @dg.sensor(
        name=sensor_name(lake),
        jobs=jobs,
        minimum_interval_seconds=INTERVAL_S,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Looks for landed objects that are not applied, finished exports that are not loaded, and files to"
        " compact, in all tables of the lake, and asks for the runs. Compares content, so late, earlier-sorting and"
        " rewritten objects are found.",
    )
    def arrivals(context: dg.SensorEvaluationContext) -> dg.SensorResult:
        memory = SensorMemory.load(context.cursor)
        origin = context.code_location_origin
        with open_lake() as opened:
            requests = Requests(lake, tables, warehouse_digest(opened))
            location = origin.location_name if origin is not None else None
            busy, distrusted = requests.busy(context.instance, time.time(), location)
            heard = listen(opened)
            plan = Planner(opened, memory, busy, budget_s, hints=heard.hints).plan()
        reason = _tell(context, plan, busy)
        wanted = list(requests.requests(plan.work))
        for warning in (*distrusted, *heard.silent, *heard.forget(plan, busy)):
            context.log.warning(str(warning))
        return dg.SensorResult(
            run_requests=wanted,
            skip_reason=None if wanted else reason,
            cursor=memory.dump(tables),
        )

    return arrivals


def warehouse_digest(lake: Lake) -> str:
    """A digest of the lake's place, which does not show the place."""
    return digest([lake.catalog.warehouse, lake.settings.catalog.namespace])


def _tell(context: dg.SensorEvaluationContext, plan: Plan, busy: Busy) -> str:
    """Log the tables that could not be looked at; gives the reason to say when nothing is asked for.

    Raises the first fault if there is one in every table, nothing is to be asked for, and somebody must mend it.
    """
    in_vain = bool(plan.failed) and len(plan.failed) == plan.looked_at and not plan.work
    if in_vain and all(is_unreachable(error) for error in plan.failed.values()):
        return f"AWS cannot be asked: {said_of(next(iter(plan.failed.values())))}"
    for table, error in plan.failed.items():
        context.log.error(f"{table}: {said_of(error)}")
    if in_vain:
        raise next(iter(plan.failed.values()))
    if busy.runs:
        waiting = "; ".join(f"{table}: {text}" for table, text in sorted(busy.runs.items())[:SHOWN])
        more = f"; and {len(busy.runs) - SHOWN} more" if len(busy.runs) > SHOWN else ""
        idle = plan.looked_at - len(busy.runs.keys() & plan.looked)
        return (
            f"Waiting for runs that are under way, tables: {len(busy.runs)} ({waiting}{more}). Nothing is due for the"
            f" other tables looked at: {idle}. Objects listed: {plan.listed}."
        )
    return f"Nothing is due: {plan.looked_at} tables looked at, {plan.listed} objects listed."
