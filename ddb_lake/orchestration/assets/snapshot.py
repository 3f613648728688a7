"""`snapshot/<table>`: finished exports into the lake."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import dagster as dg

from ddb_lake.checks.registry import ROWS_MATCH_MANIFEST, UNIQUE_SNAPSHOT_KEYS
from ddb_lake.core.verify.outcome import Outcome, judged
from ddb_lake.errors import CheckFailed, ExportError, UsageError
from ddb_lake.lake.state import CurrentState, current_state
from ddb_lake.orchestration.checks import check_result
from ddb_lake.orchestration.metadata import snapshot_metadata
from ddb_lake.orchestration.spark import launching
from ddb_lake.orchestration.specs import TableAssets
from ddb_lake.pipeline.load.load import LoadResult
from ddb_lake.pipeline.open_lake import Lake
from ddb_lake.pipeline.plan.exports_to_load import exports_to_load


class LoadConfig(dg.Config):
    """Which export to load; without `uri`, every finished one that is not loaded, the oldest first."""

    uri: str | None = None
    recreated: bool = False
    """The source was deleted and created again: the export replaces the items of the old table."""
    reject_to_quarantine: bool = False
    """Put lines that hold no valid item into the quarantine and load the rest; by default they are refused."""


def load_snapshot(
    context: dg.AssetExecutionContext, lake: Lake, assets: TableAssets, config: LoadConfig
) -> Iterator[dg.MaterializeResult[None] | dg.AssetCheckResult]:
    """Load the exports of `config`. The result of a failed check is yielded before its error is raised; nothing was committed."""
    key = assets.key("snapshot")
    selected = {check.name for check in context.selected_asset_check_keys if check.asset_key == key}
    result = None
    try:
        for uri in [config.uri] if config.uri else _due(lake, assets):
            result = launching.load(context, lake, assets.table, uri, config.recreated, config.reject_to_quarantine)
            for doubt in result.doubts:
                context.log.error(doubt)
    except (CheckFailed, ExportError) as error:
        failed = UNIQUE_SNAPSHOT_KEYS if isinstance(error, CheckFailed) else ROWS_MATCH_MANIFEST
        if failed.name in selected:
            yield check_result(failed, assets, judged(False, str(error)))
        raise
    if key in context.selected_asset_keys:
        yield dg.MaterializeResult(asset_key=key, metadata=_metadata(lake, assets, result))
    yield from (check for check in _results(lake, assets, result) if check.check_name in selected)


def _due(lake: Lake, assets: TableAssets) -> list[str]:
    due = list(exports_to_load(lake, assets.table))
    table = lake.current(assets.table.name)
    if not due and (table is None or not CurrentState.of(table).exports):
        export = assets.table.export
        bucket = export.bucket if export else "nowhere"
        raise UsageError(f"no finished export of {assets.table.source_name} in {bucket}: materialize its export first")
    return due


def _metadata(lake: Lake, assets: TableAssets, result: LoadResult | None) -> dict[str, Any]:
    if result is not None:
        return snapshot_metadata(lake, assets.table.name, result)
    table = lake.current(assets.table.name)
    state = current_state(table)
    newest = state.base if state is not None else None
    return {"already loaded": True, "export": newest.export_id if newest else "none"}


def _results(lake: Lake, assets: TableAssets, result: LoadResult | None) -> Iterator[dg.AssetCheckResult]:
    """The checks of what was loaded last; `result` is None if every export was loaded before."""
    yield check_result(ROWS_MATCH_MANIFEST, assets, _compared_with_manifest(lake, assets, result))
    items = result.items - result.quarantined if result else 0
    text = f"{items} items have {items} different keys." if result else "Checked when it was loaded."
    yield check_result(UNIQUE_SNAPSHOT_KEYS, assets, judged(True, text))


def _compared_with_manifest(lake: Lake, assets: TableAssets, result: LoadResult | None) -> Outcome:
    if result is None:
        return judged(True, "Every finished export was loaded before, and was compared with its manifest then.")
    rows = _rows_of_branch(lake, assets, result)
    if result.export_type == "FULL" and rows != result.items - result.quarantined:
        return judged(
            False,
            f"The branch of export {result.export_id} has {rows} rows and the quarantine {result.quarantined} of its"
            f" lines; its manifest says {result.items} items.",
        )
    text = f"{result.items} items in {result.files} data files, as the manifest of export {result.export_id} says."
    figures = {"manifest items": result.items, "data files": result.files}
    if result.quarantined:
        text += f" {result.quarantined} lines hold no valid item and are in the quarantine."
        figures["lines in quarantine"] = result.quarantined
    if rows is not None:
        figures["rows of the branch"] = rows
    return judged(True, text, figures)


def _rows_of_branch(lake: Lake, assets: TableAssets, result: LoadResult) -> int | None:
    """The rows of the export's own branch, from the table's metadata."""
    table = lake.current(assets.table.name)
    snapshot = table.snapshot_by_name(f"export-{result.export_id}") if table is not None else None
    if snapshot is None or snapshot.summary is None:
        return None
    return int(snapshot.summary["total-records"] or 0)
