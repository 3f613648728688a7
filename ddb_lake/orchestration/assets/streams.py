"""`streams/<table>`: DynamoDB Streams read directly, and the job that reads them."""

from collections.abc import Iterator, Mapping
from typing import Any

import dagster as dg

from ddb_lake.orchestration.metadata import yes_or_no
from ddb_lake.orchestration.run_requests import LAKE_TAG, streams_job_name
from ddb_lake.orchestration.specs import TableAssets
from ddb_lake.pipeline.capture.stream_gaps import gap_text
from ddb_lake.pipeline.capture.streams import Budget, read_streams
from ddb_lake.pipeline.open_lake import Lake


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
            "caught up": yes_or_no(found.caught_up),
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
