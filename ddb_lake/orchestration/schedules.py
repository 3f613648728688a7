"""Schedules: exports, full checks and days where a table asks for them, checks and observations every hour, compaction at night; UTC.

`status` says whether Dagster starts a schedule by itself (`LakeSettings.run_automatically`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, date, timedelta
from typing import Any

import dagster as dg

from ddb_lake.checks.registry import CONTENT
from ddb_lake.config import DailyStatesSettings
from ddb_lake.errors import UnreachableError
from ddb_lake.orchestration.checks import OpenLake, check_spec
from ddb_lake.orchestration.run_requests import LAKE_TAG
from ddb_lake.orchestration.specs import TableAssets, python_name
from ddb_lake.pipeline.read.daily_snapshots import kept_days

CHECKS_CRON = "15 * * * *"
SOURCES_CRON = "45 * * * *"
COMPACTION_CRON = "30 2 * * *"
LOST_DAYS_CRON = "50 1 * * *"
"""When lost days are made again if `daily_states.schedule` is not set; Dagster's automation keeps the day before then."""

LOST_DAYS_AT_ONCE = 31
"""The most lost days that are requested at a time; the next tick requests further ones."""


def export_schedules(
    lake: str, tables: Iterable[TableAssets], status: dg.DefaultScheduleStatus
) -> Iterator[dg.ScheduleDefinition]:
    """For each table with `export.schedule`: take an export, load it, bring the current items up to date."""
    for one in tables:
        export = one.table.export
        if export is None or export.schedule is None:
            continue
        name = f"{lake}_export_{python_name(one.table.name)}"
        yield dg.ScheduleDefinition(
            name=name,
            job=dg.define_asset_job(
                name,
                selection=dg.AssetSelection.assets(*one.keys("export", "snapshot", "current", "aurora")),
                executor_def=dg.in_process_executor,
                tags={LAKE_TAG: lake},
                description=f"Takes a full export of {one.table.source_name} and loads it.",
            ),
            cron_schedule=export.schedule,
            execution_timezone="UTC",
            default_status=status,
        )


def content_schedules(
    lake: str, tables: Iterable[TableAssets], status: dg.DefaultScheduleStatus
) -> Iterator[dg.ScheduleDefinition]:
    """For each table with `checks.full.schedule`: compare every key with the source."""
    for one in tables:
        full = one.table.checks.full
        if full is None or full.schedule is None:
            continue
        name = f"{lake}_content_{python_name(one.table.name)}"
        yield dg.ScheduleDefinition(
            name=name,
            job=dg.define_asset_job(
                name,
                selection=dg.AssetSelection.checks(check_spec(CONTENT, one).key),
                executor_def=dg.in_process_executor,
                tags={LAKE_TAG: lake},
                description=f"Compares every key of {one.table.name} with its source.",
            ),
            cron_schedule=full.schedule,
            execution_timezone="UTC",
            default_status=status,
        )


def day_schedules(
    lake: str, tables: Iterable[TableAssets], open_lake: OpenLake, status: dg.DefaultScheduleStatus
) -> Iterator[dg.ScheduleDefinition]:
    """For each table with `daily_states`: make lost days again, and keep the day before if `daily_states.schedule` is set."""
    for one in tables:
        if one.table.daily_states is not None:
            yield _day_schedule(lake, one, one.table.daily_states, open_lake, status)


def _day_schedule(
    lake: str, one: TableAssets, days: DailyStatesSettings, open_lake: OpenLake, status: dg.DefaultScheduleStatus
) -> dg.ScheduleDefinition:
    name = f"{lake}_daily_{python_name(one.table.name)}"
    job = dg.define_asset_job(
        name,
        selection=dg.AssetSelection.assets(one.key("daily")),
        executor_def=dg.in_process_executor,
        tags={LAKE_TAG: lake},
        description=f"Keeps the items of {one.table.name} as of the end of a day.",
    )

    @dg.schedule(
        name=name,
        job=job,
        cron_schedule=days.schedule or LOST_DAYS_CRON,
        execution_timezone="UTC",
        default_status=status,
    )
    def due_days(context: dg.ScheduleEvaluationContext) -> list[dg.RunRequest] | dg.SkipReason:
        before = (context.scheduled_execution_time.astimezone(UTC) - timedelta(days=1)).date()
        requests = []
        if days.schedule is not None and before >= days.start:
            requests.append(dg.RunRequest(run_key=f"{name}/{before}", partition_key=f"{before}"))
        try:
            lost = _lost_days(context.instance, one, open_lake)
        except UnreachableError as error:  # the next tick looks again; the day before is requested now
            context.log.warning(f"{one.table.name}: whether files of days are gone is not known: {error}")
            lost = []
        for day in [day for day in lost if days.start <= day < before][:LOST_DAYS_AT_ONCE]:
            context.log.warning(f"{one.table.name}: the file of {day} is gone. It is made again.")
            requests.append(dg.RunRequest(run_key=f"{name}/{day}/again/{before}", partition_key=f"{day}"))
        return requests or dg.SkipReason("no day is due, and no file of a day is gone")

    return due_days


def _lost_days(instance: dg.DagsterInstance, one: TableAssets, open_lake: OpenLake) -> list[date]:
    """The days that Dagster made and whose files are gone, the newest first."""
    made = {date.fromisoformat(key) for key in instance.get_materialized_partitions(one.key("daily"))}
    if not made:
        return []
    with open_lake(None) as opened:
        return sorted(made - kept_days(opened, one.table.name), reverse=True)


def checks_schedule(
    lake: str,
    overview: dg.AssetsDefinition,
    checks: Sequence[dg.AssetChecksDefinition],
    status: dg.DefaultScheduleStatus,
) -> dg.ScheduleDefinition:
    """Evaluates the checks that must go red when no run comes, and brings the overview up to date."""
    name = f"{lake}_checks"
    return dg.ScheduleDefinition(
        name=name,
        job=dg.define_asset_job(
            f"{name}_job",
            selection=dg.AssetSelection.checks(*checks) | dg.AssetSelection.assets(overview.key),
            executor_def=dg.in_process_executor,
            tags={LAKE_TAG: lake},
            description="Evaluates the checks that must be red if no run happens, and brings the lake's overview up to date.",
        ),
        cron_schedule=CHECKS_CRON,
        execution_timezone="UTC",
        default_status=status,
    )


def sources_schedule(lake: str, job: Any, status: dg.DefaultScheduleStatus) -> dg.ScheduleDefinition:
    """Observes the source tables every hour."""
    return dg.ScheduleDefinition(
        name=f"{lake}_sources",
        job=job,
        cron_schedule=SOURCES_CRON,
        execution_timezone="UTC",
        default_status=status,
    )


def compaction_schedule(lake: str, job: Any, status: dg.DefaultScheduleStatus) -> dg.ScheduleDefinition:
    """Compacts what needs it and clears up, once a night; the sensor asks for it in between."""
    return dg.ScheduleDefinition(
        name=f"{lake}_compaction",
        job=job,
        cron_schedule=COMPACTION_CRON,
        execution_timezone="UTC",
        default_status=status,
    )
