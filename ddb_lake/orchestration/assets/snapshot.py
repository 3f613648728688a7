"""`snapshot/<table>`: finished exports into the lake."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import dagster as dg

from ddb_lake.errors import CheckFailed, ExportError, UsageError
from ddb_lake.lake.state import CurrentState, current_state
from ddb_lake.orchestration.checks.advice import advised
from ddb_lake.orchestration.metadata import snapshot_metadata
from ddb_lake.orchestration.spark import launching
from ddb_lake.orchestration.specs import TableAssets
from ddb_lake.pipeline.load.load import LoadResult
from ddb_lake.pipeline.open_lake import Lake
from ddb_lake.pipeline.sync import plan_loads

UNIQUE_KEYS = "unique_keys"
MATCHES_MANIFEST = "rows_match_manifest"


class LoadConfig(dg.Config):
    """Which export to load; without `uri`, every finished one that is not loaded, the oldest first."""

    uri: str | None = None
    recreated: bool = False
    """The source was deleted and created again: the export replaces the items of the old table."""
    reject_to_quarantine: bool = False
    """Put lines that hold no valid item into the quarantine and load the rest; by default they are refused."""


def snapshot_checks(assets: TableAssets) -> list[dg.AssetCheckSpec]:
    """The checks that loading evaluates, before anything is committed."""
    key = assets.key("snapshot")
    return [
        dg.AssetCheckSpec(
            MATCHES_MANIFEST,
            asset=key,
            blocking=True,
            description="Data files, digests and number of items are those of the export's manifest.",
        ),
        dg.AssetCheckSpec(
            UNIQUE_KEYS,
            asset=key,
            blocking=True,
            description="Each item of the export has its key, and no key stands twice.",
        ),
    ]


def load_snapshot(
    context: dg.AssetExecutionContext, lake: Lake, assets: TableAssets, config: LoadConfig
) -> Iterator[dg.MaterializeResult[None] | dg.AssetCheckResult]:
    """Load what `config` says. A failed check is told, and then raised: nothing was committed."""
    key = assets.key("snapshot")
    wanted = {check.name for check in context.selected_asset_check_keys if check.asset_key == key}
    result = None
    try:
        for uri in [config.uri] if config.uri else _due(lake, assets):
            result = launching.load(context, lake, assets.table, uri, config.recreated, config.reject_to_quarantine)
            for doubt in result.doubts:
                context.log.error(doubt)
    except (CheckFailed, ExportError) as error:
        broken = UNIQUE_KEYS if isinstance(error, CheckFailed) else MATCHES_MANIFEST
        if broken in wanted:
            yield dg.AssetCheckResult(
                asset_key=key,
                check_name=broken,
                passed=False,
                description=str(error),
                metadata=advised(broken, assets.table, passed=False),
            )
        raise
    if key in context.selected_asset_keys:
        yield dg.MaterializeResult(asset_key=key, metadata=_metadata(lake, assets, result))
    yield from (check for check in _passed(lake, assets, result) if check.check_name in wanted)


def _due(lake: Lake, assets: TableAssets) -> list[str]:
    due = [uri for one in plan_loads(lake, assets.table) for uri in one.uris]
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


def _passed(lake: Lake, assets: TableAssets, result: LoadResult | None) -> Iterator[dg.AssetCheckResult]:
    key = assets.key("snapshot")
    loaded = _rows_of_branch(lake, assets, result)
    if result is not None and result.export_type == "FULL" and loaded != result.items - result.quarantined:
        said = (
            f"The branch of export {result.export_id} has {loaded} rows and the quarantine {result.quarantined} of its"
            f" lines; its manifest says {result.items} items."
        )
        yield dg.AssetCheckResult(asset_key=key, check_name=MATCHES_MANIFEST, passed=False, description=said)
    elif result is not None:
        said = f"{result.items} items in {result.files} data files, as the manifest of export {result.export_id} says."
        figures = {"manifest items": result.items, "data files": result.files}
        if result.quarantined:
            said += f" {result.quarantined} lines hold no valid item and are in the quarantine."
            figures["lines in quarantine"] = result.quarantined
        yield dg.AssetCheckResult(
            asset_key=key,
            check_name=MATCHES_MANIFEST,
            passed=True,
            description=said,
            metadata=figures | ({"rows of the branch": loaded} if loaded is not None else {}),
        )
    else:
        said = "Every finished export was loaded before, and was compared with its manifest then."
        yield dg.AssetCheckResult(asset_key=key, check_name=MATCHES_MANIFEST, passed=True, description=said)
    items = result.items - result.quarantined if result else 0
    keyed = f"{items} items have {items} different keys." if result else "Checked when it was loaded."
    yield dg.AssetCheckResult(asset_key=key, check_name=UNIQUE_KEYS, passed=True, description=keyed)


def _rows_of_branch(lake: Lake, assets: TableAssets, result: LoadResult | None) -> int | None:
    """Rows of the export's own branch, as the table's metadata has them."""
    table = lake.current(assets.table.name)
    snapshot = table.snapshot_by_name(f"export-{result.export_id}") if table is not None and result else None
    if snapshot is None or snapshot.summary is None:
        return None
    return int(snapshot.summary["total-records"] or 0)
