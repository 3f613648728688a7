"""The finished exports below a table's `export` place: those that are not loaded, and the newest full one.

The place may contain exports of other tables: each manifest is read once in a process to see whose it is.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ddb_lake.aws.objects import ObjectRef, join
from ddb_lake.config import ExportSettings, TableSettings
from ddb_lake.core.decode.routing import Source
from ddb_lake.errors import ExportError
from ddb_lake.lake.state import CurrentState, lost_exports
from ddb_lake.pipeline.apply.changelog import not_ingested
from ddb_lake.pipeline.load.export_files import list_manifests, open_export
from ddb_lake.pipeline.load.load import export_ref
from ddb_lake.pipeline.open_lake import Lake

_MANIFESTS_IN_MESSAGE = 20
_MOST_FOREIGN = 100_000
_FOREIGN: set[tuple[Source, str, str]] = set()
"""Manifests of other tables' exports, by (the asking table's source, URI, version). Manifests do not change."""


def exports_to_load(lake: Lake, table: TableSettings) -> Iterator[str]:
    """The manifests (URIs) of the table's finished exports that are not loaded, or whose branch was dropped, oldest first.

    An export that cannot be read is skipped with a warning.
    """
    if table.export is None:
        return
    current = lake.current(table.name)
    lost = lost_exports(current) if current else ()  # a load restores their branches
    loaded = {e.export_id for e in CurrentState.of(current).exports if e not in lost} if current else set()
    for ref in _not_in_ledger(lake, table, exports_of_place(lake, table.export)):
        try:
            is_due = export_id(ref.uri) not in loaded and is_export_of(lake, table, ref)
        except ExportError as error:
            lake.warn(f"{table.name}: {error}")
            continue
        if is_due:
            yield ref.uri


def newest_full_export(lake: Lake, table: TableSettings) -> str | None:
    """The manifest (URI) of the newest finished full export of the table, loaded or not; None if there is none."""
    finished = exports_of_place(lake, table.export) if table.export is not None else []
    for ref in sorted(
        finished, key=lambda ref: export_id(ref.uri), reverse=True
    ):  # an export's id begins with its time
        if is_export_of(lake, table, ref) and open_export(lake.objects, ref.uri).summary.export_type == "FULL":
            return ref.uri
    return None


def exports_of_place(lake: Lake, place: ExportSettings) -> list[ObjectRef]:
    """The manifests of all finished exports of a place, of any table."""
    return list_manifests(lake.objects, join(place.location, "AWSDynamoDB/"))


def is_export_of(lake: Lake, table: TableSettings, manifest: ObjectRef) -> bool:
    """Whether a manifest is of an export of this table. Raises ExportError if it cannot be read."""
    known = (table.identity, manifest.uri, manifest.version)
    if known in _FOREIGN:
        return False
    is_own = lake.settings.is_source_of(table, open_export(lake.objects, manifest.uri).summary.table_arn)
    if not is_own and len(_FOREIGN) < _MOST_FOREIGN:
        _FOREIGN.add(known)
    return is_own


def export_id(manifest_uri: str) -> str:
    """The id of an export, from its manifest's place."""
    return manifest_uri.split("/")[-2]


def missing_export(lake: Lake, table: TableSettings, place: ExportSettings) -> str | None:
    """Why a place has no export of the table, and the next step; None if it has one."""
    finished = exports_of_place(lake, place)
    where = f"`export`: {place.bucket}/{place.prefix}".rstrip("/")
    if not finished:
        return f"no finished export at {where}: correct the place, or start one with `ddb-lake export {table.name}`"
    if any(is_export_of(lake, table, ref) for ref in finished):
        return None
    newest = finished[-_MANIFESTS_IN_MESSAGE:]
    names = sorted({open_export(lake.objects, ref.uri).summary.table_name for ref in newest})
    return (
        f"the finished exports at {where} are of {', '.join(names)}, none is of {table.source_name}: correct the table's"
        " name, or name its source by `source: {table: ...}`"
    )


def _not_in_ledger(lake: Lake, table: TableSettings, manifests: Sequence[ObjectRef]) -> list[ObjectRef]:
    """Manifests without those of the incremental exports in the ledger: there may be many, and none has to be read."""
    if not manifests:
        return []
    entries = {export_ref(export_id(ref.uri)): ref for ref in manifests}
    with lake.session() as session:
        return [entries[entry] for entry in not_ingested(lake, session, table.name, list(entries))]
