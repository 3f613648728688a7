"""Automation conditions: when Dagster requests assets that follow others, also if a person or another program materialized the others.

The sensor of arrivals (`orchestration.sensor`) requests what lands. These conditions request the rest: assets whose dependencies were
materialized by a run that did not include them, such as one that a person started.

https://docs.dagster.io/guides/automate/declarative-automation
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import dagster as dg

from ddb_lake.config import TableSettings, seconds
from ddb_lake.pipeline.plan.stages import Stage


def follows_dependencies() -> dg.AutomationCondition[Any]:
    """Requested once a dependency was materialized by a run without the asset. Two runs of the asset do not overlap.

    Dagster's `eager` waits until no dependency has a missing partition, and a changelog has days on which nothing landed.
    """
    condition = dg.AutomationCondition.any_deps_updated().since_last_handled() & ~dg.AutomationCondition.in_progress()
    return condition.with_label("follows its dependencies")


def keeps_days(table: TableSettings) -> dg.AutomationCondition[Any] | None:
    """Requested once an hour while the day before is missing, from the time at which it can be certain: `checks.max_lag` after its end.

    An idle table has days too, so this does not wait for a materialization of the items. None if `max_lag` is so long that a day
    is certain only after the end of the next one.
    """
    hour, minute = divmod(seconds(table.checks.max_lag) // 60 + 1, 60)
    if hour > 23:
        return None
    condition = (
        dg.AutomationCondition.in_latest_time_window()
        & dg.AutomationCondition.missing()
        & dg.AutomationCondition.cron_tick_passed(f"{minute} {hour}-23 * * *")
        & ~dg.AutomationCondition.in_progress()
    )
    return condition.with_label("keeps the day before")


def condition_of(stage: Stage, table: TableSettings, stages: Collection[Stage]) -> dg.AutomationCondition[Any] | None:
    """The condition of a table's asset; None for assets that the sensor of arrivals and schedules request alone.

    Args:
        stage: of the asset.
        table: its settings.
        stages: all stages of the table.
    """
    days = table.daily_states
    if stage == "daily":
        return keeps_days(table) if days is not None and days.schedule is None else None
    follows = stage == "aurora" or (stage == "current" and not {"changes", "snapshot"}.isdisjoint(stages))
    return follows_dependencies() if follows else None


def with_following_sensor(
    lake: str, definitions: dg.Definitions, tags: Mapping[str, str], status: dg.DefaultSensorStatus
) -> dg.Definitions:
    """The definitions of a lake, and the sensor that evaluates the conditions of their assets every 30 s, if there are any.

    Args:
        lake: the name with which the sensor's name begins.
        definitions: all of the lake's.
        tags: of the runs that it requests.
        status: whether Dagster starts it by itself.
    """
    specs = [
        spec for asset in definitions.assets or () if isinstance(asset, dg.AssetsDefinition) for spec in asset.specs
    ]
    keys = [spec.key for spec in specs if spec.automation_condition is not None]
    if not keys:
        return definitions
    sensor = dg.AutomationConditionSensorDefinition(
        f"{lake}_following",
        target=dg.AssetSelection.assets(*keys),
        default_status=status,
        run_tags=tags,
        description="Requests assets whose dependencies were materialized by a run without them: current items, replicas, dbt models"
        " without a schedule, and days that are not kept yet.",
    )
    return dg.Definitions.merge(definitions, dg.Definitions(sensors=[sensor]))
