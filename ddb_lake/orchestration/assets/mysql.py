"""`aurora/<table>`: the current items in a MySQL-compatible database."""

from collections.abc import Iterator
from typing import Any

import dagster as dg

from ddb_lake.mysql.replication import ReplicateResult, rejected_text, replicate
from ddb_lake.orchestration.specs import TableAssets
from ddb_lake.pipeline.open_lake import Lake


class ReplicateConfig(dg.Config):
    """How to replicate. `full`: compare all rows, even if only some have changed. `replay`: try rejected rows again."""

    full: bool = False
    replay: bool = False


def replicate_table(
    context: dg.AssetExecutionContext, lake: Lake, assets: TableAssets, config: ReplicateConfig
) -> Iterator[dg.MaterializeResult[None]]:
    """Bring the database up to date."""
    result = replicate(lake, assets.table.name, full=config.full, replay=config.replay)
    context.log.info(f"{result.table}: {result.scope}, because {result.reason}")
    if rejected := rejected_text(result):
        context.log.error(rejected)
    yield dg.MaterializeResult(asset_key=assets.key("aurora"), metadata=_metadata(result))


def _metadata(result: ReplicateResult) -> dict[str, Any]:
    metadata: dict[str, Any] = {
        "dagster/row_count": result.rows,
        "dagster/table_name": result.target.replace("`", ""),
        "scope": result.scope,
        "reason": result.reason,
        "upserted": result.upserted,
        "removed": result.removed,
        "rejected": result.rejected,
        "snapshot": str(result.snapshot_id),  # as a number it would lose digits in the browser
        "seconds": round(result.seconds, 3),
    }
    if result.columns_added:
        metadata["columns added"] = ", ".join(result.columns_added)
    return metadata
