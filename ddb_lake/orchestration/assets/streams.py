"""`streams/<table>`: DynamoDB Streams read directly, and the check that nothing of them was missed."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from typing import Any

import dagster as dg

from ddb_lake.config import TableSettings
from ddb_lake.core.capture.shards import RETENTION_US
from ddb_lake.orchestration.checks.advice import advised
from ddb_lake.orchestration.failures import failures, said_of
from ddb_lake.orchestration.heartbeats import beating
from ddb_lake.orchestration.run_requests import LAKE_TAG, streams_job_name
from ddb_lake.orchestration.specs import TableAssets
from ddb_lake.pipeline.capture.gap_log import open_gaps
from ddb_lake.pipeline.capture.stream_gaps import gap_text
from ddb_lake.pipeline.capture.streams import Budget, read_streams, stream_checkpoint
from ddb_lake.pipeline.open_lake import Lake

STREAM_COMPLETE = "stream_complete"
LONGEST_UNREAD_S = 6 * 3600
"""The stream keeps records for 24 hours: time to find out why nobody reads it."""


class StreamsConfig(dg.Config):
    """How long to read. `follow`: until the time is up, instead of until nothing is left."""

    seconds: float = 60.0
    follow: bool = False


def land_streams(
    context: dg.AssetExecutionContext, lake: Lake, assets: TableAssets, config: StreamsConfig
) -> Iterator[dg.MaterializeResult[None]]:
    """Read the table's streams and land their records. Raises as `pipeline.capture.streams.read_streams`."""
    found = read_streams(lake, assets.table.name, Budget(config.seconds, follow=config.follow))
    for gap in found.gaps:
        context.log.error(gap_text(assets.table.name, gap))
    yield dg.MaterializeResult(
        asset_key=assets.key("streams"),
        metadata={
            "records landed": found.records,
            "objects landed": len(found.uris),
            "bytes of lines": found.line_bytes,
            "caught up": found.caught_up,
            "open gaps": len(found.gaps),
            "calls put off": found.throttled,
            "seconds": round(found.seconds, 1),
        },
    )


def streams_job(lake: str, tables: Mapping[str, TableAssets]) -> Any:
    """The job that reads streams; None if no table is read from its stream."""
    keys = [key for one in tables.values() for key in one.keys("streams")]
    if not keys:
        return None
    return dg.define_asset_job(
        streams_job_name(lake),
        selection=dg.AssetSelection.assets(*keys),
        executor_def=dg.in_process_executor,
        tags={LAKE_TAG: lake},
        description="Reads DynamoDB Streams and lands their records. The sensor asks for it again and again.",
    )


def stream_checks(
    lake: str, tables: Mapping[str, TableAssets], open_lake: Callable[[Any], AbstractContextManager[Lake]]
) -> list[dg.AssetChecksDefinition]:
    """The checks of all tables that are read from their streams, in one op; they run with each reading as well."""
    checked = {one.key("streams"): one.table for one in tables.values() if "streams" in one.specs}
    if not checked:
        return []
    specs = [
        dg.AssetCheckSpec(
            STREAM_COMPLETE,
            asset=key,
            description="No record of the stream was missed, but for gaps that an export has mended, and it is read.",
        )
        for key in checked
    ]

    @dg.multi_asset_check(name=f"{lake}_stream_checks", specs=specs, can_subset=True)
    def complete(context: dg.AssetCheckExecutionContext) -> Iterator[dg.AssetCheckResult]:
        with failures(), beating(context), open_lake(context.log) as opened:
            for check in context.selected_asset_check_keys:
                yield _evaluate(opened, checked[check.asset_key], check.asset_key)

    return [complete]


def _evaluate(lake: Lake, table: TableSettings, key: dg.AssetKey) -> dg.AssetCheckResult:
    try:
        passed, said, figures = stream_complete(lake, table)
    except Exception as error:  # whatever it is, it is this table's
        passed, said, figures = False, f"Not evaluated: {said_of(error)}", {}
    return dg.AssetCheckResult(
        asset_key=key,
        check_name=STREAM_COMPLETE,
        passed=passed,
        severity=dg.AssetCheckSeverity.ERROR,
        description=said,
        metadata=figures | advised(STREAM_COMPLETE, table, passed),
    )


def stream_complete(lake: Lake, table: TableSettings) -> tuple[bool, str, dict[str, Any]]:
    """Whether no gap is open and the stream was read lately; with what to do if not."""
    gaps, place = open_gaps(lake, table.name), stream_checkpoint(lake, table)
    if place is None:
        return False, "The stream was never read.", {"open gaps": len(gaps)}
    unread_s = max(0.0, lake.now().timestamp() - place.read_us / 1e6)
    figures = {"open gaps": len(gaps), "seconds since it was read": round(unread_s, 1)}
    if gaps:
        return False, " ".join(gap_text(table.name, gap) for gap in gaps[:5]), figures
    if unread_s > LONGEST_UNREAD_S:
        kept_h = RETENTION_US / 3_600_000_000
        return False, f"It was not read for {unread_s / 3600:.1f} h; records are kept for {kept_h:.0f} h.", figures
    return True, "Every record that the stream had has landed, or an export made up for it.", figures
