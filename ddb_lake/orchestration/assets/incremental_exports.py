"""`increments/<table>`: starts the windows of incremental exports that are due."""

from __future__ import annotations

from collections.abc import Iterator

import dagster as dg

from ddb_lake.orchestration.specs import TableAssets
from ddb_lake.pipeline.capture.incremental_exports import start_due, window_text
from ddb_lake.pipeline.open_lake import Lake


class IncrementsConfig(dg.Config):
    """The most windows to start; all that are due by default."""

    most: int | None = None


def start_increments(
    context: dg.AssetExecutionContext, lake: Lake, assets: TableAssets, config: IncrementsConfig
) -> Iterator[dg.MaterializeResult[None]]:
    """Start what is due, and leave: the sensor has it loaded once it is written.

    A run that is started twice, or beside another, starts nothing twice. Raises as `pipeline.capture.incremental_exports.start_due`.
    """
    found = start_due(lake, assets.table.name, config.most)
    for one in found.under_way:
        context.log.info(f"Under way: {window_text(one.window)}, {one.arn}")
    yield dg.MaterializeResult(
        asset_key=assets.key("increments"),
        metadata={
            "covered until": dg.MetadataValue.timestamp(float(found.covered_s)),
            "windows under way": dg.MetadataValue.json([[window_text(one.window), one.arn] for one in found.under_way]),
            "windows to load": len(found.finished),
        },
    )
