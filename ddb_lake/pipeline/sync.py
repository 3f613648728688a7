"""Whatever is due, once: what the sensor asks Dagster to do, planned and run in process."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ddb_lake.aws.objects import ObjectRef, join
from ddb_lake.config import ExportSettings, TableSettings
from ddb_lake.core.decode.routing import Source
from ddb_lake.core.layout.firehose_paths import arrival_hour
from ddb_lake.errors import DatabaseError, ExportError, TransientError
from ddb_lake.lake.state import CurrentState, changes_state
from ddb_lake.mysql.replication import ReplicateResult, replicate, replication_due
from ddb_lake.pipeline.apply.apply import ApplyResult, apply_objects, is_empty
from ddb_lake.pipeline.apply.changelog import not_ingested
from ddb_lake.pipeline.capture.incremental_exports import Increments, overdue, start_due
from ddb_lake.pipeline.capture.streams import StreamsResult, read_streams
from ddb_lake.pipeline.load.export_files import SUMMARY, open_export
from ddb_lake.pipeline.load.load import LoadResult, export_ref, load_export
from ddb_lake.pipeline.maintain.compact import CompactResult, compact_table, needs_compaction
from ddb_lake.pipeline.merge.current import has_unmerged_changes
from ddb_lake.pipeline.open_lake import Lake
from ddb_lake.pipeline.plan.arrivals import has_landed, waiting
from ddb_lake.pipeline.plan.work import Due, digest


def plan_due(lake: Lake, tables: Sequence[str] | None = None) -> list[Due]:
    """What is due for some tables (all by default): finished exports, landed objects, windows to export, compaction."""
    chosen = [lake.table(name) for name in tables] if tables else list(lake.settings.tables)
    return [due for table in chosen for due in plan_table(lake, table)]


def plan_reads(lake: Lake, tables: Sequence[str] | None = None) -> list[Due]:
    """The streams to read, before anything else is planned: what is read lands, and is due then."""
    chosen = [lake.table(name) for name in tables] if tables else list(lake.settings.tables)
    reason = "what its stream has is not landed"
    return [Due(table.name, "read", reason) for table in chosen if lake.settings.stream_landing(table)]


def plan_table(lake: Lake, table: TableSettings) -> Iterator[Due]:
    """What is due for one table; all landed objects are looked at."""
    first = [*plan_loads(lake, table), *filter(None, [plan_apply(lake, table)])]
    yield from first
    if table.aurora is not None and (reason := "it follows what is applied" if first else _unreplicated(lake, table)):
        yield Due(table.name, "replicate", reason)
    if reason := overdue(lake, table):
        yield Due(table.name, "export", reason)
    if reason := needs_compaction(lake, table.name):
        yield Due(table.name, "compact", reason)


def _unreplicated(lake: Lake, table: TableSettings) -> str | None:
    """Why a table's counterpart in a database is not up to date. One that cannot be asked keeps nothing else waiting."""
    try:
        return replication_due(lake, table)
    except (DatabaseError, TransientError) as error:
        return f"the database cannot be asked ({error})"


def plan_loads(lake: Lake, table: TableSettings) -> Iterator[Due]:
    """Finished exports below `export` that the lake has not loaded. One that cannot be read is warned of, and left."""
    if table.export is None:
        return
    current = lake.current(table.name)
    loaded = {e.export_id for e in CurrentState.of(current).exports} if current else set()
    for ref in _not_loaded(lake, table, _finished(lake, table.export)):
        export_id = _export_id(ref)
        try:
            ours = export_id not in loaded and _is_of(lake, table, ref)
        except ExportError as error:
            lake.warn(f"{table.name}: {error}")
            continue
        if ours:
            yield Due(table.name, "load", f"export {export_id} is not loaded", (ref.uri,), (), digest([ref.uri]))


def unfound(lake: Lake, table: TableSettings) -> list[str]:
    """The reasons why nothing can be due for a table: places in its configuration where nothing has ever landed.

    A place that is empty now, but was not before, does not count: landed objects expire.
    """
    found = []
    if table.changes is None and table.export is None and is_empty(lake, table.name):
        found.append(
            "neither `changes` nor `export` is configured, so that nothing can be due; add the place where its data lands"
        )
    changes = lake.changes(table.name)
    log = changes_state(changes)
    uri = table.changes.uri if table.changes is not None else None
    if uri is not None and not log.ledger.rows and not has_landed(lake, table):
        found.append(f"no object has landed at {uri}: correct `changes.uri`, or wait for the first delivery")
    if table.export is not None and lake.current(table.name) is None and not log.windows:
        found += _no_export(lake, table, table.export)
    return found


def _no_export(lake: Lake, table: TableSettings, place: ExportSettings) -> list[str]:
    finished = _finished(lake, place)
    where = f"`export`: {place.bucket}/{place.prefix}".rstrip("/")
    if not finished:
        return [f"no finished export at {where}: correct the place, or start one with `ddb-lake export {table.name}`"]
    if any(_is_of(lake, table, ref) for ref in finished):
        return []
    names = sorted({open_export(lake.objects, ref.uri).summary.table_name for ref in finished[-20:]})
    return [
        f"the finished exports at {where} are of {', '.join(names)}, none is of {table.source_name}: correct the table's"
        " name, or name its source by `source: {table: ...}`"
    ]


def newest_export(lake: Lake, table: TableSettings) -> str | None:
    """The newest finished full export of the table below `export`, loaded or not; None if there is none."""
    finished = _finished(lake, table.export) if table.export is not None else []
    for ref in sorted(finished, key=_export_id, reverse=True):  # an export's id begins with its time
        if _is_of(lake, table, ref) and open_export(lake.objects, ref.uri).summary.export_type == "FULL":
            return ref.uri
    return None


def _finished(lake: Lake, place: ExportSettings) -> list[ObjectRef]:
    """The manifests of the exports that have ended, of whatever table."""
    root = f"{place.bucket}/{place.prefix}".rstrip("/")
    uri = root if "://" in root or root.startswith("/") else f"s3://{root}"
    return [ref for ref in _listed(lake, join(uri, "AWSDynamoDB/")) if ref.uri.endswith(f"/{SUMMARY}")]


def _not_loaded(lake: Lake, table: TableSettings, summaries: Sequence[ObjectRef]) -> list[ObjectRef]:
    """Those that are no incremental export which the ledger names: there may be many, and none of them is read."""
    if not summaries:
        return []
    markers = {export_ref(_export_id(ref)): ref for ref in summaries}
    with lake.session() as session:
        return [markers[marker] for marker in not_ingested(lake, session, table.name, list(markers))]


def _export_id(summary: ObjectRef) -> str:
    return summary.uri.split("/")[-2]


def plan_apply(lake: Lake, table: TableSettings) -> Due | None:
    """Landed objects that the changelog has not ingested, or none but what `current` has not applied of it."""
    fresh = waiting(lake, table).refs
    if not fresh and has_unmerged_changes(lake, table.name):
        return Due(table.name, "apply", "current is behind its changelog")
    if not fresh:
        return None
    hours = sorted({hour.isoformat() for ref in fresh if (hour := arrival_hour(ref.uri))})
    marks = [f"{ref.uri}@{ref.version}" for ref in fresh]
    reason = f"{len(fresh)} objects are not applied"
    return Due(table.name, "apply", reason, tuple(ref.uri for ref in fresh), tuple(hours), digest(marks))


def _listed(lake: Lake, uri: str) -> Iterator[ObjectRef]:
    return lake.objects.list(uri) if lake.objects.reachable(uri) else iter(())


def _is_of(lake: Lake, table: TableSettings, summary: ObjectRef) -> bool:
    """Whether the manifest is of an export of this table. Of others it is read once in a process: manifests stay."""
    manifest = (table.identity, summary.uri, summary.version)
    if manifest in _FOREIGN:
        return False
    ours = lake.settings.is_source_of(table, open_export(lake.objects, summary.uri).summary.table_arn)
    if not ours and len(_FOREIGN) < _MOST_FOREIGN:
        _FOREIGN.add(manifest)
    return ours


_MOST_FOREIGN = 100_000
_FOREIGN: set[tuple[Source, str, str]] = set()


def run_due(
    lake: Lake, due: Due
) -> LoadResult | ApplyResult | CompactResult | Increments | ReplicateResult | StreamsResult:
    """Do one piece of work."""
    if due.kind == "load":
        return load_export(lake, due.table, due.uris[0])
    if due.kind == "read":
        return read_streams(lake, due.table)
    if due.kind == "export":
        return start_due(lake, due.table)
    if due.kind == "replicate":
        return replicate(lake, due.table)
    if due.kind == "apply":
        return apply_objects(lake, due.table, due.uris)
    return compact_table(lake, due.table)


def sync(
    lake: Lake, tables: Sequence[str] | None = None
) -> list[LoadResult | ApplyResult | CompactResult | Increments | ReplicateResult | StreamsResult]:
    """Plan and do what is due, once."""
    read = [run_due(lake, due) for due in plan_reads(lake, tables)]
    return read + [run_due(lake, due) for due in plan_due(lake, tables)]
