"""`daily/<table>`: the items as of the end of each day, a partition a day."""

from collections.abc import Iterator
from datetime import date
from typing import Any

import dagster as dg

from ddb_lake.core.operations.count_text import count_text
from ddb_lake.orchestration.specs import TableAssets
from ddb_lake.pipeline.maintain.daily_snapshots import DayResult, keep_day
from ddb_lake.pipeline.open_lake import Lake


def keep_days(
    context: dg.AssetExecutionContext, lake: Lake, assets: TableAssets
) -> Iterator[dg.MaterializeResult[None]]:
    """Keep the day of the run's partition. Raises UsageError for one that is not certain, which fails the run."""
    result = keep_day(lake, assets.table.name, date.fromisoformat(context.partition_key))
    context.log.info(f"{result.table}: {count_text(result.rows, 'item')} as of the end of {result.day}")
    yield dg.MaterializeResult(asset_key=assets.key("daily"), metadata=_metadata(result))


def _metadata(result: DayResult) -> dict[str, Any]:
    metadata: dict[str, Any] = {
        "dagster/partition_row_count": result.rows,
        "dagster/uri": result.uri,
        "bytes": result.bytes,
        "as of": dg.MetadataValue.timestamp(result.as_of_us / 1e6),
        "export": result.base or "none",
        "seconds": round(result.seconds, 3),
    }
    if result.covered_us is not None:
        metadata["changelog up to"] = dg.MetadataValue.timestamp(result.covered_us / 1e6)
    return metadata
