"""`snapshot/<table>`: finished exports into the lake."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import dagster as dg

from ddb_lake.checks.check import Check
from ddb_lake.checks.registry import ROWS_MATCH_MANIFEST, UNIQUE_SNAPSHOT_KEYS
from ddb_lake.core.operations.count_text import count_text
from ddb_lake.core.verify.outcome import Outcome, judged, unknown
from ddb_lake.engine.key_counts import KeyCounts
from ddb_lake.errors import CheckFailed, ExportError, UsageError
from ddb_lake.lake.state import CurrentState, LoadedExport, current_state
from ddb_lake.orchestration.checks import writer_results
from ddb_lake.orchestration.metadata import snapshot_metadata
from ddb_lake.orchestration.spark import launching
from ddb_lake.orchestration.specs import TableAssets
from ddb_lake.pipeline.load.load import LoadResult
from ddb_lake.pipeline.open_lake import Lake
from ddb_lake.pipeline.plan.exports_to_load import exports_to_load
from ddb_lake.pipeline.verify.snapshot_keys import count_keys


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
            yield from writer_results(lake, assets, {failed: judged(False, str(error))})
        raise
    if key in context.selected_asset_keys:
        yield dg.MaterializeResult(asset_key=key, metadata=_metadata(lake, assets, result))
    outcomes = _outcomes(lake, assets, result)
    yield from writer_results(
        lake, assets, {check: found for check, found in outcomes.items() if check.name in selected}
    )


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


def _outcomes(lake: Lake, assets: TableAssets, result: LoadResult | None) -> dict[Check, Outcome]:
    """The checks of the export that was loaded last; `result` is None if every export was loaded before."""
    state = current_state(lake.current(assets.table.name))
    export = None if state is None else (state.exports[-1] if state.exports else None)
    if result is not None and result.export_type != "FULL":
        return {ROWS_MATCH_MANIFEST: _lines(result), UNIQUE_SNAPSHOT_KEYS: _no_keys(result)}
    if result is not None and state is not None:
        export = next((known for known in state.exports if known.export_id == result.export_id), None)
    if export is None:
        nothing = unknown("no full export is in the lake")
        return {ROWS_MATCH_MANIFEST: nothing, UNIQUE_SNAPSHOT_KEYS: nothing}
    return {
        ROWS_MATCH_MANIFEST: _compared_with_manifest(export, _rows_of_branch(lake, assets, export), result),
        UNIQUE_SNAPSHOT_KEYS: _distinct_keys(export, count_keys(lake, assets.table.name, export)),
    }


def _compared_with_manifest(export: LoadedExport, rows: int | None, result: LoadResult | None) -> Outcome:
    if rows is None:
        return unknown(f"the branch of export {export.export_id} is not in the table any more")
    files = (
        ""
        if result is None
        else f" in {count_text(result.files, 'data file')}, whose digests and lines were compared with it"
    )
    quarantined = (
        f", and {count_text(export.rejected, 'line')} without a valid item in the quarantine" if export.rejected else ""
    )
    absent = f"; {count_text(export.left_out, 'item')} left out by `filter`" if export.left_out else ""
    absent += f"; {count_text(export.erased, 'item')} erased" if export.erased else ""
    text = (
        f"The manifest of export {export.export_id} names {count_text(export.items, 'item')}{files}; the export's branch has"
        f" {count_text(rows, 'row')}{quarantined}{absent}."
    )
    figures = {"manifest items": export.items, "rows of the branch": rows, "lines in quarantine": export.rejected}
    if export.left_out:
        figures["items left out by `filter`"] = export.left_out
    if export.erased:
        figures["erased items"] = export.erased
    found = rows + export.rejected + export.left_out + export.erased
    return judged(found == export.items, text, figures)


def _distinct_keys(export: LoadedExport, found: KeyCounts | None) -> Outcome:
    """What the branch has. The load has compared the same before its commit (`pipeline.load.snapshot_writer`)."""
    if found is None:
        return unknown(f"the branch of export {export.export_id} is not in the table any more")
    text = (
        f"The branch of export {export.export_id} was queried: it has {count_text(found.rows, 'row')}, {found.keyed} of them"
        f" with a key, and {count_text(found.distinct, 'distinct key')}."
    )
    return judged(found.is_unique, text, {"rows of the branch": found.rows, "distinct keys": found.distinct})


def _lines(result: LoadResult) -> Outcome:
    """An incremental export has no rows of its own: its lines are in the changelog."""
    text = (
        f"The manifest of incremental export {result.export_id} names {count_text(result.items, 'line')} in"
        f" {count_text(result.files, 'data file')}; their"
        " digests and numbers of lines were compared with it before the commit."
    )
    return judged(True, text, {"manifest items": result.items, "data files": result.files})


def _no_keys(result: LoadResult) -> Outcome:
    text = f"Export {result.export_id} is incremental: its lines went into the changelog, and it added no rows of a snapshot."
    return judged(True, text)


def _rows_of_branch(lake: Lake, assets: TableAssets, export: LoadedExport) -> int | None:
    """The rows of the export's own branch, from the metadata of the table's files."""
    table = lake.current(assets.table.name)
    snapshot = table.snapshot_by_name(export.branch) if table is not None else None
    if snapshot is None or snapshot.summary is None:
        return None
    return int(snapshot.summary["total-records"] or 0)
