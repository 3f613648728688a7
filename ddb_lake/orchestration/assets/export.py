"""`export/<table>`: start a full export and wait for it, or wait for the one that is under way."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator
from datetime import datetime

import dagster as dg

from ddb_lake.aws.export_requests import (
    ExportState,
    describe_export,
    list_exports,
    start_first_unfailed,
    wait_for_export,
)
from ddb_lake.config import TableSettings
from ddb_lake.orchestration.specs import TableAssets
from ddb_lake.pipeline.capture.incremental_exports import full_export_time
from ddb_lake.pipeline.load.export_files import open_export
from ddb_lake.pipeline.open_lake import Lake

_TOKENS = uuid.UUID("6b1f6f0e-6d6e-5c3d-9c0c-2f0f3a7f9a51")
_MOST_TOKENS = 8


def export_table(
    context: dg.AssetExecutionContext, lake: Lake, assets: TableAssets
) -> Iterator[dg.MaterializeResult[None]]:
    """Start a full export and wait for it.

    A run that ended while it waited may be started again: it finds its export, by its token or among those under way.

    Raises:
        ExportError: the export fails, with DynamoDB's reason and the next step.
    """
    table, started = assets.table, time.monotonic()
    state = under_way(table)
    if state is None:
        state = _started(table, context.run.root_run_id or context.run.run_id, full_export_time(lake, table))
    context.log.info(f"Waiting for export {state.arn}")
    state = wait_for_export(table, state, lambda _: None)
    summary = open_export(lake.objects, state.manifest_uri).summary
    yield dg.MaterializeResult(
        asset_key=assets.key("export"),
        metadata={
            "dagster/uri": state.manifest_uri,
            "dagster/row_count": summary.item_count,
            "export": state.arn,
            "export time": dg.MetadataValue.timestamp(summary.as_of_us / 1e6),
            "billed bytes": summary.billed_size_bytes,
            "seconds waited": round(time.monotonic() - started, 1),
        },
    )


def under_way(table: TableSettings) -> ExportState | None:
    """The newest full export of the table to its bucket that has not ended."""
    for found in reversed(list_exports(table)):
        if found.status == "IN_PROGRESS" and found.export_type == "FULL_EXPORT":
            state = describe_export(table, found.arn)
            if table.export is not None and state.bucket == table.export.bucket:
                return state
    return None


def _started(table: TableSettings, run: str, at: datetime | None = None) -> ExportState:
    """The export of this run: a new one, or the one it started before it died.

    For 8 hours, DynamoDB returns the same export for the same ClientToken, also one that failed; another attempt has
    another token. `at`: the instant to export, if DynamoDB is not to choose it.
    https://docs.aws.amazon.com/amazondynamodb/latest/APIReference/API_ExportTableToPointInTime.html
    """
    instant = f"/{at.isoformat()}" if at is not None else ""
    tokens = (str(uuid.uuid5(_TOKENS, f"{run}/{table.name}/{number}{instant}")) for number in range(_MOST_TOKENS))
    return start_first_unfailed(table, tokens, at=at)
