"""`dynamodb/<table>`: the source tables as observable sources, and the job that observes them."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from typing import Any

import dagster as dg

from ddb_lake.core.operations.display_text import escape_controls, escape_markdown
from ddb_lake.orchestration.failures import failures
from ddb_lake.orchestration.heartbeats import beating
from ddb_lake.orchestration.run_requests import LAKE_TAG
from ddb_lake.orchestration.specs import TableAssets
from ddb_lake.pipeline.capture.source_state import DESTINATION, NEWEST_CHANGE, SOURCE, SourceState, read_source_state
from ddb_lake.pipeline.open_lake import Lake

_VIEWS = {
    "NEW_AND_OLD_IMAGES": "on, with new and old images",
    "NEW_IMAGE": "on, with new images",
    "OLD_IMAGE": "on, with old images only: no change can be applied",
    "KEYS_ONLY": "on, with keys only: no change can be applied",
}
_UNKNOWN = "unknown"


def source_assets(
    lake: str, tables: Mapping[str, TableAssets], open_lake: Callable[[Any], AbstractContextManager[Lake]]
) -> dg.AssetsDefinition:
    """The source tables. An observation reads no item and changes nothing; without AWS its figures are `unknown`, and it succeeds."""

    def observe_sources(context: dg.AssetExecutionContext) -> Iterator[dg.ObserveResult]:
        with failures(), beating(context), open_lake(context.log) as opened:
            for one in tables.values():
                if one.key("dynamodb") in context.selected_asset_keys:
                    found = read_source_state(opened, one.table)
                    yield dg.ObserveResult(asset_key=one.key("dynamodb"), metadata=source_metadata(found))

    observable: Any = dg.multi_observable_source_asset  # its type hints have no result
    specs = [one.specs["dynamodb"] for one in tables.values()]
    found: dg.AssetsDefinition = observable(name=f"{lake}_observe_sources", specs=specs, can_subset=True)(
        observe_sources
    )
    return found


def source_job_name(lake: str) -> str:
    """The job that observes the source tables of a lake."""
    return f"{lake}_observe"


def source_job(lake: str, tables: Mapping[str, TableAssets]) -> Any:
    """The job that observes the source tables."""
    return dg.define_asset_job(
        source_job_name(lake),
        selection=dg.AssetSelection.assets(*(one.key("dynamodb") for one in tables.values())),
        executor_def=dg.in_process_executor,
        tags={LAKE_TAG: lake},
        description="Observes the source tables: items, streams, and the newest change in the lake. Reads no item.",
    )


def source_metadata(state: SourceState) -> dict[str, Any]:
    """The state of a source table for people."""
    is_known = SOURCE not in state.unknown
    metadata: dict[str, Any] = {
        "item count": _UNKNOWN if state.items is None else state.items,
        "table status": _words(state.status),
        "DynamoDB stream": _VIEWS.get(state.stream_view or "", state.stream_view or "off") if is_known else _UNKNOWN,
        "Kinesis destination": _UNKNOWN if not is_known or DESTINATION in state.unknown else _destination(state),
        "newest change in the lake": _newest(state),
    }
    if state.unknown:
        lines = (f"- {name}: {escape_markdown(escape_controls(reason))}" for name, reason in state.unknown.items())
        metadata["why unknown"] = dg.MetadataValue.md("\n".join(lines))
    return metadata


def _destination(state: SourceState) -> str:
    status = _words(state.destination_status)
    return status if state.destination is None else f"{status}: {escape_controls(state.destination)}"


def _newest(state: SourceState) -> Any:
    if state.newest_change_us is not None:
        return dg.MetadataValue.timestamp(state.newest_change_us / 1e6)
    return _UNKNOWN if NEWEST_CHANGE in state.unknown else "none yet"


def _words(status: str | None) -> str:
    return _UNKNOWN if status is None else escape_controls(status).lower().replace("_", " ")
