"""A lake's assets, checks, jobs, sensor and schedules, put together."""

from collections.abc import Iterator, Mapping
from typing import Any, Protocol, TypeAlias

import dagster as dg

from ddb_lake.checks.registry import HOURLY_OPS, ON_REQUEST_OP
from ddb_lake.config import LakeSettings
from ddb_lake.config.lake import Automation
from ddb_lake.orchestration.assets.changes import ApplyConfig
from ddb_lake.orchestration.assets.compaction import compact_job
from ddb_lake.orchestration.assets.incremental_exports import IncrementsConfig
from ddb_lake.orchestration.assets.lake_page import lake_page_asset
from ddb_lake.orchestration.assets.mysql import ReplicateConfig
from ddb_lake.orchestration.assets.snapshot import LoadConfig
from ddb_lake.orchestration.assets.source import source_assets, source_job
from ddb_lake.orchestration.assets.streams import StreamsConfig, streams_job
from ddb_lake.orchestration.checks import OpenLake, check_definitions, writer_check_specs
from ddb_lake.orchestration.failures import RETRIES, failures
from ddb_lake.orchestration.heartbeats import beating
from ddb_lake.orchestration.run_requests import (
    LAKE_TAG,
    apply_op_name,
    aurora_op_name,
    daily_op_name,
    export_op_name,
    increments_op_name,
    load_op_name,
    streams_op_name,
    sync_jobs,
)
from ddb_lake.orchestration.schedules import (
    checks_schedule,
    compaction_schedule,
    content_schedules,
    day_schedules,
    export_schedules,
    sources_schedule,
)
from ddb_lake.orchestration.sensor import planning_sensor
from ddb_lake.orchestration.specs import TableAssets
from ddb_lake.pipeline.open_lake import Lake
from ddb_lake.pipeline.plan.stages import Stage

Event: TypeAlias = dg.MaterializeResult[None] | dg.AssetCheckResult


class Execute(Protocol):
    """Does the work of one op."""

    def __call__(
        self, context: dg.AssetExecutionContext, lake: Lake, assets: TableAssets, config: dg.Config | None
    ) -> Iterator[Event]:
        """Yield a result for each selected asset and check."""


def lake_definitions(
    lake: str,
    tables: Mapping[str, TableAssets],
    open_lake: OpenLake,
    execute: Execute,
    settings: LakeSettings,
) -> dg.Definitions:
    """Return all definitions of a lake.

    Args:
        lake: the name with which jobs, the sensor and schedules begin.
        tables: the assets by table.
        open_lake: opens the lake; takes the run's log, or None in the sensor.
        execute: does the work of an op.
        settings: of the lake: what Dagster starts by itself, and the sensor's interval.
    """
    if not tables:
        return dg.Definitions()
    assets: list[Any] = [source_assets(lake, tables, open_lake)]
    for one in tables.values():
        assets += _writers(lake, one, open_lake, execute)
    hourly = check_definitions(lake, HOURLY_OPS, tables, open_lake)
    on_request = check_definitions(lake, [ON_REQUEST_OP], tables, open_lake)
    overview = lake_page_asset(lake, tables, open_lake, is_scheduled=settings.starts("checks"))
    observe = source_job(lake, tables)
    compact = compact_job(lake, tables, open_lake)
    jobs: list[Any] = [compact, observe]
    sync = _sync_jobs(lake, tables)
    jobs += sync
    if streams := streams_job(lake, tables):
        jobs.append(streams)

    def status(automation: Automation) -> dg.DefaultScheduleStatus:
        return dg.DefaultScheduleStatus.RUNNING if settings.starts(automation) else dg.DefaultScheduleStatus.STOPPED

    return dg.Definitions(
        assets=[*assets, overview],
        asset_checks=[*hourly, *on_request],
        jobs=jobs,
        sensors=[planning_sensor(lake, tables, jobs, lambda: open_lake(None), settings)] if sync else [],
        schedules=[
            *export_schedules(lake, tables.values(), status("exports")),
            *content_schedules(lake, tables.values(), status("content")),
            *day_schedules(lake, tables.values(), open_lake, status("daily")),
            checks_schedule(lake, overview, hourly, status("checks")),
            sources_schedule(lake, observe, status("sources")),
            compaction_schedule(lake, compact, status("compaction")),
        ],
    )


def _sync_jobs(lake: str, tables: Mapping[str, TableAssets]) -> list[Any]:
    """One process for all steps of a run: starting one a step would take longer than most steps."""
    stages: tuple[Stage, ...] = ("increments", "snapshot", "changes", "current", "aurora")
    by_name: dict[str, list[dg.AssetKey]] = {}
    for table, name in sync_jobs(lake, tables).items():
        if len(tables[table].specs) > 2:
            by_name.setdefault(name, []).extend(tables[table].keys(*stages))
    return [
        dg.define_asset_job(
            name,
            selection=dg.AssetSelection.assets(*keys),
            executor_def=dg.in_process_executor,
            tags={LAKE_TAG: lake},
            description="Loads finished exports and applies landed objects. The sensor requests the runs, with the hours that"
            " are due.",
        )
        for name, keys in by_name.items()
    ]


def _writers(lake: str, assets: TableAssets, open_lake: OpenLake, execute: Execute) -> Iterator[dg.AssetsDefinition]:
    if "export" in assets.specs:
        yield _export(lake, assets, open_lake, execute)
        yield _snapshot(lake, assets, open_lake, execute)
    if "increments" in assets.specs:
        yield _increments(lake, assets, open_lake, execute)
    if "streams" in assets.specs:
        yield _streams(lake, assets, open_lake, execute)
    yield _current(lake, assets, open_lake, execute)
    if "daily" in assets.specs:
        yield _daily(lake, assets, open_lake, execute)
    if "aurora" in assets.specs:
        yield _aurora(lake, assets, open_lake, execute)


def _export(lake: str, assets: TableAssets, open_lake: OpenLake, execute: Execute) -> dg.AssetsDefinition:
    """Waits for hours, so it has a pool of its own and does not keep the table's writers waiting."""

    @dg.multi_asset(
        name=export_op_name(lake, assets.table.name),
        specs=[assets.specs["export"]],
        pool=assets.pool("export"),
        retry_policy=RETRIES,
    )
    def export(context: dg.AssetExecutionContext) -> Iterator[Event]:
        with failures(), beating(context), open_lake(context.log) as opened:
            yield from execute(context, opened, assets, None)

    return export


def _increments(lake: str, assets: TableAssets, open_lake: OpenLake, execute: Execute) -> dg.AssetsDefinition:
    """Starts exports and leaves: it waits for nothing and writes nothing, so it shares the pool of exports."""

    @dg.multi_asset(
        name=increments_op_name(lake, assets.table.name),
        specs=[assets.specs["increments"]],
        pool=assets.pool("export"),
        retry_policy=RETRIES,
    )
    def increments(context: dg.AssetExecutionContext, config: IncrementsConfig) -> Iterator[Event]:
        with failures(), beating(context), open_lake(context.log) as opened:
            yield from execute(context, opened, assets, config)

    return increments


def _streams(lake: str, assets: TableAssets, open_lake: OpenLake, execute: Execute) -> dg.AssetsDefinition:
    """Reads and lands; it writes no table, so that no run waits for it. One reader a table is enough."""

    @dg.multi_asset(
        name=streams_op_name(lake, assets.table.name),
        specs=[assets.specs["streams"]],
        pool=assets.pool("streams"),
        retry_policy=RETRIES,
    )
    def streams(context: dg.AssetExecutionContext, config: StreamsConfig) -> Iterator[Event]:
        with failures(), beating(context), open_lake(context.log) as opened:
            yield from execute(context, opened, assets, config)

    return streams


def _snapshot(lake: str, assets: TableAssets, open_lake: OpenLake, execute: Execute) -> dg.AssetsDefinition:
    @dg.multi_asset(
        name=load_op_name(lake, assets.table.name),
        specs=[assets.specs["snapshot"]],
        check_specs=writer_check_specs(assets, "snapshot"),
        can_subset=True,
        pool=assets.pool(),
        retry_policy=RETRIES,
    )
    def snapshot(context: dg.AssetExecutionContext, config: LoadConfig) -> Iterator[Event]:
        with failures(), beating(context), open_lake(context.log) as opened:
            yield from execute(context, opened, assets, config)

    return snapshot


def _current(lake: str, assets: TableAssets, open_lake: OpenLake, execute: Execute) -> dg.AssetsDefinition:
    @dg.multi_asset(
        name=apply_op_name(lake, assets.table.name),
        specs=[
            *(spec for stage, spec in assets.specs.items() if stage in ("changes", "current")),
            *assets.entities.values(),
        ],
        check_specs=writer_check_specs(assets, "current"),
        can_subset=True,
        pool=assets.pool(),
        retry_policy=RETRIES,
        backfill_policy=dg.BackfillPolicy.single_run(),
    )
    def current(context: dg.AssetExecutionContext, config: ApplyConfig) -> Iterator[Event]:
        with failures(), beating(context), open_lake(context.log) as opened:
            yield from execute(context, opened, assets, config)

    return current


def _daily(lake: str, assets: TableAssets, open_lake: OpenLake, execute: Execute) -> dg.AssetsDefinition:
    """Reads the lake and writes files of its own, so that no writer of the table waits for it."""

    @dg.multi_asset(
        name=daily_op_name(lake, assets.table.name),
        specs=[assets.specs["daily"]],
        pool=assets.pool("daily"),
        retry_policy=RETRIES,
        backfill_policy=dg.BackfillPolicy.multi_run(),
    )
    def daily(context: dg.AssetExecutionContext) -> Iterator[Event]:
        with failures(), beating(context), open_lake(context.log) as opened:
            yield from execute(context, opened, assets, None)

    return daily


def _aurora(lake: str, assets: TableAssets, open_lake: OpenLake, execute: Execute) -> dg.AssetsDefinition:
    """Writes to the database alone, so that a slow database delays no writer of the lake."""

    @dg.multi_asset(
        name=aurora_op_name(lake, assets.table.name),
        specs=[assets.specs["aurora"]],
        pool=assets.pool("aurora"),
        retry_policy=RETRIES,
    )
    def aurora(context: dg.AssetExecutionContext, config: ReplicateConfig) -> Iterator[Event]:
        with failures(), beating(context), open_lake(context.log) as opened:
            yield from execute(context, opened, assets, config)

    return aurora
