"""The compaction job: rewrites files without changing contents, and clears away what no snapshot needs."""

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import asdict
from typing import Any

import dagster as dg
from pydantic import Field

from ddb_lake.errors import DdbLakeError
from ddb_lake.orchestration.failures import RETRIES, failures
from ddb_lake.orchestration.heartbeats import beating
from ddb_lake.orchestration.metadata import current_metadata
from ddb_lake.orchestration.run_requests import LAKE_TAG, compact_job_name, compact_op_name
from ddb_lake.orchestration.specs import TableAssets
from ddb_lake.pipeline.maintain.compact import CompactResult, compact_table
from ddb_lake.pipeline.open_lake import Lake

_LABELS = {"retired_rows": "deleted rows that were left out"}


class CompactConfig(dg.Config):
    """Which tables to compact (default: all). `force`: even those that need not be."""

    tables: list[str] = Field(default_factory=list)
    force: bool = False


def compact_job(
    lake: str, tables: Mapping[str, TableAssets], open_lake: Callable[[Any], AbstractContextManager[Lake]]
) -> dg.JobDefinition:
    """The job. A table that fails does not keep the others from being compacted; the run fails at the end."""

    @dg.op(
        name=compact_op_name(lake),
        retry_policy=RETRIES,
        description="Compacts the tables that need it, one after the other.",
    )
    def compact(context: dg.OpExecutionContext, config: CompactConfig) -> None:
        failed: dict[str, DdbLakeError] = {}
        with failures(), beating(context):
            with open_lake(context.log) as opened:
                for name in config.tables or list(tables):
                    try:
                        _tell(context, opened, tables[name], compact_table(opened, name, force=config.force))
                    except DdbLakeError as error:
                        failed[name] = error
                        context.log.error(f"{name}: {error}")
            if failed:
                raise next(iter(failed.values()))

    @dg.job(
        name=compact_job_name(lake),
        executor_def=dg.in_process_executor,
        tags={LAKE_TAG: lake},
        description="Rewrites small files and removes deleted rows, expires old snapshots, removes unreferenced files.",
    )
    def job() -> None:
        compact()

    return job


def _tell(context: dg.OpExecutionContext, lake: Lake, assets: TableAssets, result: CompactResult) -> None:
    """Say what was done where the table's other figures are."""
    if result.skipped:
        context.log.info(f"{result.table}: {result.reason}")
        return
    figures = {name: value for name, value in asdict(result).items() if isinstance(value, int | float)}
    done = {_LABELS.get(name, name.replace("_", " ")): round(value, 3) for name, value in figures.items()}
    done.pop("skipped", None)
    metadata = {**current_metadata(lake, result.table), **{f"compaction/{k}": v for k, v in done.items()}}
    metadata["compaction/reason"] = result.reason
    context.log_event(dg.AssetObservation(asset_key=assets.key("current"), metadata=metadata))
