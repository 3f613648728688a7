"""Rebuilds a table from its exports and landed objects, and replaces the lake's tables with the result.

    register    register tables that the catalog lost, with their newest metadata file
    build       load exports and apply landed objects, into working tables (`lake.working_catalog`)
    compare     stop if the former changelog has change records that are in no landed object
    replace     replace changelog, ledger and `current`, one commit each (`lake.replacement`); add entries to the quarantine
    entities    write the tables of entities again from `current`

The ordinary steps (`load_export`, `apply_refs`) build the working tables, so a rebuilt table is as exact as any other. They are
idempotent, and working tables stay until all tables are replaced, so a repeated call continues after a kill.

Other processes may write during a rebuild. An object that one of them ingests is also ingested here before the changelog is
replaced. A commit to the changelog between comparison and replacement is a conflict, after which both are repeated. The batch
numbers of the rebuilt changelog exceed all former ones by `BATCH_GAP`. So if a rebuild is killed after it replaced only the
changelog, all records count as not yet merged, and merging them again changes nothing.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import orjson
from duckdb import Error as DuckDBError
from pyiceberg.partitioning import PartitionSpec
from pyiceberg.schema import Schema
from pyiceberg.table import Table

from ddb_lake.aws.landing_writer import Landing
from ddb_lake.aws.objects import ObjectRef
from ddb_lake.core.decode.routing import Routes
from ddb_lake.core.layout.locations import is_within, spelled
from ddb_lake.core.layout.table_names import CHANGES, OBJECTS, QUARANTINE, REBUILD_FOLDER, REPAIRS_FOLDER, derived_names
from ddb_lake.core.operations.count_text import count_text
from ddb_lake.core.operations.retry_policy import retry_commit
from ddb_lake.engine.session import Session
from ddb_lake.errors import CheckFailed, DamagedError, UsageError
from ddb_lake.lake.catalog import LakeCatalog
from ddb_lake.lake.commit import Delta
from ddb_lake.lake.file_writer import FileWriter
from ddb_lake.lake.maintenance import referenced
from ddb_lake.lake.metadata_files import OPERATION
from ddb_lake.lake.replacement import (
    EARLIER,
    PLACEHOLDER,
    forget,
    newest_metadata,
    readable_files,
    register,
    replace_contents,
)
from ddb_lake.lake.scan import TableScan, scan_table
from ddb_lake.lake.schemas import current_schema
from ddb_lake.lake.state import ChangesState, CurrentState, changes_state
from ddb_lake.lake.working_catalog import WorkingCatalog
from ddb_lake.pipeline.apply.apply import apply_refs
from ddb_lake.pipeline.apply.changelog import ensure_changelog, ensure_quarantine
from ddb_lake.pipeline.apply.ledger import derive_ledger, read_ledger
from ddb_lake.pipeline.load.export_files import open_export
from ddb_lake.pipeline.load.load import load_export
from ddb_lake.pipeline.merge.current import update_current
from ddb_lake.pipeline.merge.entities import update_entities
from ddb_lake.pipeline.open_lake import Lake
from ddb_lake.pipeline.plan.arrivals import list_landed
from ddb_lake.pipeline.plan.exports_to_load import export_id, exports_of_place, is_export_of
from ddb_lake.pipeline.read.files import inventory
from ddb_lake.pipeline.table_key import table_key

BATCH_GAP = 1_000_000
"""A number greater than the number of batches that other writers commit during a rebuild."""

_OBSOLETE = "obsolete.json"
_PARTS_OF_ID = ("event_id", "event_name", "changed_at", "sequence_number", "asserted_at", "kinesis_sequence")
_EXPORTS = "AWSDynamoDB/"
_FIGURES = 5
"""The number of objects that a message names."""


@dataclass(frozen=True, slots=True)
class RebuildResult:
    """The result of a rebuild.

    Attributes:
        table: the table's name.
        registered: the Iceberg tables that were registered, because the catalog lacked them or their metadata was damaged.
        exports: the number of exports that were loaded.
        objects: the number of landed objects that were read.
        records: the number of change records of the changelog.
        dropped: the number of change records of the former changelog that are in no landed object and were left out.
        quarantined: the number of entries that were added to the quarantine.
        rows: the number of rows of `current`.
        notes: remarks for the user.
        seconds: the duration.
    """

    table: str
    registered: tuple[str, ...] = ()
    exports: int = 0
    objects: int = 0
    records: int = 0
    dropped: int = 0
    quarantined: int = 0
    rows: int = 0
    notes: tuple[str, ...] = ()
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Former:
    """The readable tables and states of a table before its rebuild.

    Attributes:
        current: its `current`; None if it is lost.
        changes: its changelog; None if it is lost.
        state: the state of `current`.
        log: the state of the changelog.
        is_newest: whether `state` is that of the newest commit. Else exports may be loaded that it does not name.
    """

    current: Table | None
    changes: Table | None
    state: CurrentState | None
    log: ChangesState | None
    is_newest: bool


@dataclass(slots=True)
class Rebuild:
    """A rebuild in progress.

    Attributes:
        lake: the open lake.
        name: the table.
        working: the lake of the working tables.
        exports: manifests of exports that the caller named.
        without_exports: whether the caller states that no full export was loaded, if the lake does not know it.
        notes: remarks for the user.
    """

    lake: Lake
    name: str
    working: Lake
    exports: Sequence[str]
    without_exports: bool = False
    notes: list[str] = field(default_factory=list)


@dataclass(slots=True)
class _WorkingLake(Lake):
    """A lake in which one table is rebuilt: records of other tables are left out."""

    rebuilt: str = ""
    origin: Lake | None = None

    def erasures(self, name: str) -> Table | None:
        """The erased keys of the lake itself: they must not come back from landing."""
        assert self.origin is not None, "the lake of a rebuild has the lake that it is for"
        return self.origin.erasures(name)

    def routes(self) -> Routes:
        """The routes to the rebuilt table, and the routes that several sources of one name share."""
        routes = Lake.routes(self)
        unique = {source: table for source, table in routes.unique.items() if table == self.rebuilt}
        return Routes(unique, routes.shared)


def rebuild_table(
    lake: Lake, name: str, exports: Sequence[str] = (), drop_unlanded: bool = False, without_exports: bool = False
) -> RebuildResult:
    """Rebuild a table from its exports and landed objects. After a kill, repeat the call.

    Readers see the former tables until each is replaced in one commit. Columns keep their names as far as the former state
    can be read. Gaps, and discarded entries of the quarantine, are kept as far as their tables can be read.

    Args:
        lake: the open lake.
        name: the table.
        exports: further exports, as for `pipeline.load.load.load_export`. The exports of the former state, or if it is lost those at
            the location in `export`, are always loaded.
        drop_unlanded: leave out change records of the former changelog that are in no landed object.
        without_exports: build from changes alone if the state of `current` is lost and no full export is found.

    Returns:
        The numbers of what was rebuilt.

    Raises:
        ConfigError: the table is not configured.
        UsageError: another rebuild of the table is running; or a loaded export is not found; or the state of `current` is lost,
            no full export is found, and `without_exports` is not set.
        CheckFailed: the former changelog has records that no landed object has, and `drop_unlanded` is not set. Nothing was
            replaced.
    """
    started = time.monotonic()
    lake.table(name)
    registered = register_lost(lake, name)
    with _working_lake(lake, name) as working:
        rebuild = Rebuild(lake, name, working, exports, without_exports)
        former = _former(lake, name)
        _begin(rebuild, former)
        loaded = _load_exports(rebuild, former)
        dropped = retry_commit(lambda: _build_changelog(rebuild, drop_unlanded))
        retry_commit(lambda: _replace(rebuild, OBJECTS))
        quarantined = retry_commit(lambda: _merge_quarantine(rebuild))
        state = CurrentState.of(_required(working.current(name)))
        applied = {"ddb_lake.applied-batch": str(state.applied_batch), OPERATION: "rebuild"}
        retry_commit(lambda: _replace(rebuild, "", applied))
        result = RebuildResult(
            name,
            registered=registered,
            exports=loaded,
            objects=read_ledger(working, name).rows,
            records=changes_state(working.changes(name)).records,
            dropped=dropped,
            quarantined=quarantined,
            notes=tuple(rebuild.notes),
        )
        _finish(rebuild)
    update_entities(lake, name, rewrite="the table was rebuilt")
    return replace(result, rows=update_current(lake, name).rows, seconds=time.monotonic() - started)


def rebuild_state(lake: Lake, name: str) -> RebuildResult:
    """Derive the ledger of a table from its changelog, and replace the ledger in one commit.

    Landed objects from which no record is in the changelog are then read once more. An object that was rewritten after it was
    ingested is not read again.

    Args:
        lake: the open lake.
        name: the table.

    Raises:
        ConfigError: the table is not configured.
        DamagedError: the changelog cannot be read; `rebuild_table` rebuilds it.
    """
    started = time.monotonic()
    lake.table(name)
    registered = register_lost(lake, name)
    objects = retry_commit(lambda: derive_ledger(lake, name))
    records = changes_state(lake.changes(name)).records
    return RebuildResult(name, registered, objects=objects, records=records, seconds=time.monotonic() - started)


# --- tables that the catalog lost


def register_lost(lake: Lake, name: str) -> tuple[str, ...]:
    """Register Iceberg tables that the catalog lacks, or whose metadata is damaged, with their newest metadata file.

    Args:
        lake: the open lake.
        name: the table.

    Returns:
        The names of the Iceberg tables that were registered. A table without a readable metadata file is removed from the
        catalog and is not among them.
    """
    registered = []
    for full_name in lake.table(name).iceberg_names:
        is_damaged = False
        try:
            if lake.catalog.table(full_name) is not None:
                continue
        except DamagedError as error:
            is_damaged = True
            lake.warn(str(error))
        found = newest_metadata(lake.catalog.file_io(), _metadata_files(lake, full_name))
        if found is not None:
            # if the catalog has the table, it names a later file, which is damaged or lost
            is_earlier = found.is_earlier or lake.catalog.identifier(full_name)[-1] in lake.catalog.names()
            register(lake.catalog, full_name, found.uri, is_earlier)
            registered.append(full_name)
        elif is_damaged:
            forget(lake.catalog, full_name)
    return tuple(registered)


def _metadata_files(lake: Lake, full_name: str) -> dict[str, int]:
    folders = [f"{location}/metadata/" for location in lake.catalog.possible_locations(full_name)]
    refs = [ref for folder in folders if lake.objects.reachable(folder) for ref in lake.objects.list(folder)]
    return {ref.uri: ref.modified_us for ref in refs}


def _former(lake: Lake, name: str) -> Former:
    current, changes = _readable(lake, name), _readable(lake, name + CHANGES)
    return Former(
        current,
        changes,
        # `CurrentState.of` refuses a table that was rolled back, which a rebuild repairs
        CurrentState.from_properties(current.properties) if current is not None else None,
        ChangesState.from_properties(changes.properties) if changes is not None else None,
        current is not None and current.current_snapshot() is not None and EARLIER not in current.properties,
    )


def _readable(lake: Lake, full_name: str) -> Table | None:
    with suppress(DamagedError):  # it has no readable metadata: `register_lost` warned of it
        return lake.catalog.table(full_name)
    return None


# --- the working lake


@contextmanager
def _rebuild_lock(folder: Path, name: str) -> Iterator[None]:
    """Create the working folder and lock it on this machine. Raises UsageError if a rebuild of the table is running."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UsageError(f"a rebuild is running, with its working tables in {folder}", table=name) from None
        yield


@contextmanager
def _working_lake(lake: Lake, name: str) -> Iterator[Lake]:
    """The lake in which a table is built. Its folder is removed at the end, unless an error interrupts the rebuild."""
    folder = _working_folder(lake, name)
    locations, place = _locations(lake, name), partial(_placed, lake)
    with _rebuild_lock(folder, name):
        _remove_leftovers(lake, folder)
        tables = folder / "tables"
        with WorkingCatalog(lake.settings, tables, locations, place) as catalog:
            is_whole = _is_whole(_working(lake, catalog, name), name)
        if not is_whole:  # in the lake's metadata they are orphans, which any tool may remove
            lake.warn(f"{name}: files of the interrupted rebuild were removed, so it begins again")
            shutil.rmtree(tables)
        with WorkingCatalog(lake.settings, tables, locations, place) as catalog:
            yield _working(lake, catalog, name)
        _remove_leftovers(lake, folder)
        shutil.rmtree(folder)


@contextmanager
def without_rebuild(lake: Lake, name: str) -> Iterator[None]:
    """Let no rebuild of a table run meanwhile on this machine. The working tables of one that was interrupted are removed.

    Raises UsageError if a rebuild is running.
    """
    folder = _working_folder(lake, name)
    with _rebuild_lock(folder, name):
        _remove_leftovers(lake, folder)
        shutil.rmtree(folder / "tables", ignore_errors=True)
        yield
        shutil.rmtree(folder)


def _working(lake: Lake, catalog: LakeCatalog, name: str) -> Lake:
    return _WorkingLake(
        settings=lake.settings.without_entities(),
        catalog=catalog,
        executors=lake.executors,
        store=lake.objects,
        progress=lake.progress,
        warn=lake.warn,
        now=lake.now,
        rebuilt=name,
        origin=lake,
    )


def _is_whole(working: Lake, name: str) -> bool:
    """Whether all files of the working tables are there."""
    try:
        found = [inventory(working, full_name) for full_name in derived_names(name, daily=False)]
    except DamagedError:
        return False
    return not any(known is not None and known.faults for known in found)


def _working_folder(lake: Lake, name: str) -> Path:
    """The folder of the working catalog: in a local warehouse, else in the user's state folder. It stays after a kill."""
    if lake.catalog.is_local:
        return Path(lake.catalog.warehouse) / REBUILD_FOLDER / name
    home = os.environ.get("XDG_STATE_HOME") or str(Path.home() / ".local" / "state")
    place = f"{lake.catalog.place} {lake.catalog.warehouse} {lake.settings.catalog.namespace}"
    return Path(home) / "ddb_lake" / REBUILD_FOLDER / hashlib.sha256(place.encode()).hexdigest()[:16] / name


def _locations(lake: Lake, name: str) -> dict[str, str]:
    """The locations of the lake's tables, by their names, as far as they are known before the tables exist."""
    tables = {full_name: _readable(lake, full_name) for full_name in derived_names(name, daily=False)}
    return {
        full_name: lake.catalog.location(full_name) if table is None else table.location()
        for full_name, table in tables.items()
        if table is not None or not lake.catalog.places_tables
    }


def _placed(lake: Lake, full_name: str, schema: Schema, spec: PartitionSpec) -> str:
    """The location of an Iceberg table that the lake lacks, in a catalog that decides it: the table is created without contents."""
    table = lake.catalog.create(full_name, schema, spec, {PLACEHOLDER: "true"})
    return str(table.location())


def _begin(rebuild: Rebuild, former: Former) -> None:
    """Create the working tables if they do not exist, and copy what exports and landing lack: columns, gaps, the last batch."""
    working, name, settings = rebuild.working, rebuild.name, rebuild.lake.table(rebuild.name)
    schema = former.state.schema if former.state is not None else None
    if schema is not None and schema.columns and working.current(name) is None:  # columns keep their names
        protection = rebuild.lake.protection(name)
        # values of another rule may need another column, or none; its name is known if it does
        schema = schema.with_columns(column for column in schema.columns if not protection.covers(column.path))
        properties = CurrentState(schema, protection=protection.stored).properties()
        working.catalog.create(name, current_schema(schema, settings.ttl_deletes == "keep"), properties=properties)
    key = former.log.key if former.log is not None and former.log.key else table_key(rebuild.lake, name)
    changes = ensure_changelog(working, name, key or ())
    state = changes_state(changes)
    log = former.log or ChangesState()
    applied = former.state.applied_batch if former.state is not None else 0
    state = replace(
        state,
        batch=max(state.batch, log.batch, applied) + BATCH_GAP,
        gaps=log.gaps or state.gaps,
        observed=log.observed or state.observed,
        balanced=log.balanced or state.balanced,
    )
    commit = working.commit(changes)
    commit.snapshot(Delta())
    commit.set_properties(state.properties())
    commit.run()


# --- exports


def _load_exports(rebuild: Rebuild, former: Former) -> int:
    """Load all exports into the working tables, the newest full one first: it becomes the base. Returns the number of exports."""
    manifests = _manifests(rebuild, former)
    opened = [open_export(rebuild.lake.objects, uri) for uri in manifests.values()]
    fulls = [export for export in opened if export.summary.export_type == "FULL"]
    increments = [export for export in opened if export.summary.export_type != "FULL"]
    fulls.sort(key=lambda export: (export.summary.as_of_us, export.summary.export_id), reverse=True)
    increments.sort(key=lambda export: export.summary.as_of_us)
    if not former.is_newest:
        _check_unknown(rebuild, len(fulls))
    # An export that was loaded before may have invalid lines, which are in the quarantine.
    known = {e.export_id for e in former.state.exports} if former.state is not None else set()
    for export in (*fulls, *increments):
        reject = export.summary.export_type != "FULL" or export.summary.export_id in known
        load_export(rebuild.working, rebuild.name, export.uri, recreated=True, reject=reject)
    return len(opened)


def _check_unknown(rebuild: Rebuild, fulls: int) -> None:
    """Note that it is not known which exports were loaded. Raises UsageError if none is found and the caller does not confirm it."""
    name, unknown = (
        rebuild.name,
        "the newest state of its current items is lost, so it is not known which exports were loaded",
    )
    if not fulls and not rebuild.without_exports:
        raise UsageError(
            f"{unknown}, and no full export is named or at the place of `export`. Nothing was replaced",
            table=name,
            hint="name each by `--export`; or, if none was ever loaded, say so by `--without-exports`",
        )
    rebuild.notes.append(
        f"{unknown}: {count_text(fulls, 'full export')} found. If another one was loaded, `ddb-lake load {name} --export URI` adds it"
    )


def _manifests(rebuild: Rebuild, former: Former) -> dict[str, str]:
    """The manifests by export id of the loaded exports, of those named, and of all if it is not known which were loaded.

    If the former state is lost, all exports at the location in `export` are loaded. Raises UsageError if an export of the former
    state is not found.
    """
    lake, settings = rebuild.lake, rebuild.lake.table(rebuild.name)
    placed: dict[str, str] = {}
    if settings.export is not None:
        for ref in exports_of_place(lake, settings.export):
            if is_export_of(lake, settings, ref):
                placed[export_id(ref.uri)] = ref.uri
    found: dict[str, str] = {}
    for uri in rebuild.exports:
        export = open_export(lake.objects, uri)
        found[export.summary.export_id] = export.uri
    loaded = {export.export_id: export.uri for export in former.state.exports} if former.state is not None else {}
    named = {export.export_id: export.uri for export in former.log.exports} if former.log is not None else {}
    if not (rebuild.without_exports and not former.is_newest):
        loaded = named | loaded
    loaded |= {export_id(manifest): manifest for manifest in _incremental_manifests(rebuild)}
    for identifier, manifest in loaded.items():
        if identifier in found:
            continue
        where = manifest if manifest is not None and lake.objects.exists(manifest) else placed.get(identifier)
        if where is None:
            raise UsageError(
                f"export {identifier}, which is loaded, is not at {manifest or 'the place that `export` names'}",
                table=rebuild.name,
                hint="name its folder by `--export`",
            )
        found[identifier] = where
    return found if former.is_newest else placed | found


def _incremental_manifests(rebuild: Rebuild) -> set[str]:
    """The manifests of the incremental exports in the former ledger, which has rows for their data files and their ids."""
    names = _former_objects(rebuild)
    ids = [name.removeprefix("export/") for name in names if name.startswith("export/")]
    roots = {name.partition(_EXPORTS)[0] + _EXPORTS for name in names if _EXPORTS in name}
    candidates = [f"{root}{identifier}/manifest-summary.json" for identifier in ids for root in roots]
    return {uri for uri in candidates if rebuild.lake.objects.exists(uri)}


# --- landed objects


def _former_objects(rebuild: Rebuild) -> set[str]:
    """The names of all objects in the ledger and the changelog before the rebuild, as far as they can be read."""
    names: set[str] = set()
    lake = rebuild.lake
    for full_name in (rebuild.name + OBJECTS, rebuild.name + CHANGES):
        table = _readable(lake, full_name)
        if table is not None:
            with lake.session() as session:
                rows = _rows(rebuild, session, table, lambda read: f"SELECT DISTINCT object FROM {read}")
                names |= {name for (name,) in rows or ()}
    return names


def _apply_landed(rebuild: Rebuild) -> None:
    """Apply the landed objects of the table to the working tables. Objects that were applied before are skipped."""
    lake, working, name = rebuild.lake, rebuild.working, rebuild.name
    settings = lake.table(name)
    own = {ref.uri: ref for ref in list_landed(lake, settings, "all")}
    repairs = f"{lake.landing}/{REPAIRS_FOLDER}/{name}"
    if lake.objects.reachable(repairs):
        own |= {ref.uri: ref for ref in lake.objects.list(repairs)}
    others: dict[str, dict[str, ObjectRef]] = {}
    former = _readable(lake, name + CHANGES)
    is_complete = former is not None and EARLIER not in former.properties and _is_readable(rebuild, CHANGES)
    for other in lake.settings.tables:
        if other.name == name:
            continue
        if not is_complete:  # records of the table may be in objects of other tables
            others[other.name] = {ref.uri: ref for ref in list_landed(lake, other, "all") if ref.uri not in own}
    for uri in sorted(_former_objects(rebuild) - own.keys()):
        if _EXPORTS in uri or not uri.startswith(("s3://", "/")) or not lake.objects.exists(uri):
            continue
        owner = next((o.name for o in lake.settings.tables if o.name != name and _lands_at(lake, o.name, uri)), name)
        refs = [ref for ref in lake.objects.list(uri) if ref.uri == uri]
        (own if owner == name else others.setdefault(owner, {})).update({ref.uri: ref for ref in refs})
    for owner, found in others.items():
        apply_refs(working, owner, list(found.values()))
    apply_refs(working, name, list(own.values()))


def _lands_at(lake: Lake, name: str, uri: str) -> bool:
    return any(is_within(uri, place) for place in lake.settings.change_uris(lake.table(name)))


# --- comparing with the former changelog, and replacing it


def _build_changelog(rebuild: Rebuild, drop_unlanded: bool) -> int:
    """Apply the landed objects, compare with the former changelog, and replace it. Returns the number of dropped records.

    Raises CommitConflict if another writer commits to the changelog before it is replaced.
    """
    former = _readable(rebuild.lake, rebuild.name + CHANGES)
    _apply_landed(rebuild)
    dropped = 0
    if former is not None:
        dropped, objects = _unlanded(rebuild, former)
        if dropped and not drop_unlanded:
            raise CheckFailed(
                f"{count_text(dropped, 'change record')} of the former changelog {'is' if dropped == 1 else 'are'} in no"
                f" landed object. Their objects: {', '.join(objects)}. Nothing was replaced",
                table=rebuild.name,
                hint="put these objects back, or leave the records out by `--drop-unlanded`",
            )
    _replace(rebuild, CHANGES, table=former)
    return dropped


def _unlanded(rebuild: Rebuild, former: Table) -> tuple[int, list[str]]:
    """The number of records of the former changelog that the working changelog lacks, and the names of some of their objects."""
    changes = _required(rebuild.working.changes(rebuild.name))
    built = scan_table(changes).sql()
    same = "n._key_hash = o._key_hash AND n.record_id = o.record_id"
    if (
        ChangesState.from_properties(changes.properties).protection
        != ChangesState.from_properties(former.properties).protection
    ):
        # the ids of records with protected images are others: all parts of an id but the images are compared
        same = "n._key_hash = o._key_hash AND " + " AND ".join(
            f"n.{part} IS NOT DISTINCT FROM o.{part}" for part in _PARTS_OF_ID
        )

    def query(read: str) -> str:
        return (
            f"SELECT o.keys, count(*), list(DISTINCT o.object) FROM {read} o ANTI JOIN {built} n ON {same} GROUP BY ALL"
        )

    protection = rebuild.lake.protection(rebuild.name)

    with rebuild.lake.session() as session:
        rows = _rows(rebuild, session, former, query)
    if rows is None:
        rebuild.notes.append(
            "the former changelog cannot be read, so its records were not compared with the landed ones"
        )
        return 0, []
    unlanded = [(count, objects) for keys, count, objects in rows if not protection.leaves_out(orjson.loads(keys))]
    names = {name for _, objects in unlanded for name in objects or ()}
    return sum(count for count, _ in unlanded), sorted(names)[:_FIGURES]


def _rows(rebuild: Rebuild, session: Session, table: Table, query: Callable[[str], str]) -> list[Any] | None:
    """The result of a query over the readable files of a table; None if it fails. `query` gets the relation as SQL."""
    scan = _readable_scan(rebuild, table)
    try:
        return session.rows(query(scan.sql()))
    except (DamagedError, DuckDBError):  # a file has the right size and other bytes
        return None


def _readable_scan(rebuild: Rebuild, table: Table) -> TableScan:
    return TableScan(table.schema(), readable_files(table, _listed(rebuild.lake, table)).paths)


def _listed(lake: Lake, table: Table) -> dict[str, int]:
    location = f"{table.location()}/"
    if not lake.objects.reachable(location):
        return {}
    return {spelled(ref.uri): ref.size_bytes for ref in lake.objects.list(location)}


def _is_readable(rebuild: Rebuild, suffix: str) -> bool:
    """Whether the table exists in the lake, with all its data files; not if this rebuild created it."""
    table = _readable(rebuild.lake, rebuild.name + suffix)
    if table is None or PLACEHOLDER in table.properties:
        return False
    return readable_files(table, _listed(rebuild.lake, table)).is_complete


def _replace(rebuild: Rebuild, suffix: str, summary: dict[str, str] | None = None, table: Table | None = None) -> None:
    """Replace an Iceberg table of the lake with the working table of the same name, if there is one."""
    lake, full_name = rebuild.lake, rebuild.name + suffix
    working = rebuild.working.catalog.table(full_name)
    if working is None:
        return
    table = table or _readable(lake, full_name)
    if table is None:
        table = lake.catalog.create(full_name, working.schema(), working.spec(), _shown_properties(working))
    replace_contents(table, working, summary or {OPERATION: "rebuild"})


def _shown_properties(working: Table) -> dict[str, str]:
    return {name: value for name, value in working.properties.items() if not name.startswith("ddb_lake.")}


# --- the quarantine


def _merge_quarantine(rebuild: Rebuild) -> int:
    """Add the entries that the quarantine lacks. If it cannot be read, replace it. Returns the number of added entries."""
    built = rebuild.working.quarantine(rebuild.name)
    if not rebuild.lake.keeps_rejected_bytes and _readable(rebuild.lake, rebuild.name + QUARANTINE) is not None:
        # its former entries may have bytes with values that are protected now
        built = ensure_quarantine(rebuild.working, rebuild.name)
        _replace(rebuild, QUARANTINE)
        rebuild.notes.append(
            "the quarantine was rebuilt without bytes, because the lake has protected attributes or a filter: entries that were"
            " discarded are open again"
        )
        return scan_table(built).live.rows
    if built is None:
        return 0
    if not _is_readable(rebuild, QUARANTINE):
        _replace(rebuild, QUARANTINE)
        rebuild.notes.append("the quarantine was rebuilt: entries that were discarded or replayed are open again")
        return scan_table(built).live.rows
    table = _required(rebuild.lake.quarantine(rebuild.name))
    with rebuild.lake.session() as session:
        known = scan_table(table).sql()
        writer = FileWriter.for_table(session.con, table)
        new = f"SELECT b.* FROM {scan_table(built).sql()} b ANTI JOIN {known} k ON k.quarantine_id = b.quarantine_id"
        added = writer.write(new, table.metadata)
    count: int = sum(file.record_count for file in added)
    if count:
        rebuild.lake.commit_delta(table, Delta(added=added))
    return count


# --- the end


def _finish(rebuild: Rebuild) -> None:
    """Write a list of the files that only the working tables name. The rebuild is complete then; `_remove_leftovers` removes them."""
    obsolete: set[str] = set()
    for full_name in derived_names(rebuild.name, daily=False):
        working, table = rebuild.working.catalog.table(full_name), rebuild.lake.catalog.table(full_name)
        if working is not None and table is not None:
            obsolete |= referenced(working) - referenced(table)
    landing = Landing(rebuild.lake.objects, str(_working_folder(rebuild.lake, rebuild.name)))
    landing.put(_OBSOLETE, orjson.dumps(sorted(obsolete)))


def _remove_leftovers(lake: Lake, folder: Path) -> None:
    """Remove the working tables of a rebuild that is complete, and the files that only they name."""
    noted = folder / _OBSOLETE
    if not noted.exists():
        return
    io = lake.catalog.file_io()
    for path in orjson.loads(noted.read_bytes()):
        with suppress(FileNotFoundError):  # it was removed before a kill
            io.delete(path)
    shutil.rmtree(folder / "tables", ignore_errors=True)  # a kill may have left a part of it
    noted.unlink()


def _required(table: Table | None) -> Table:
    assert table is not None, "the working tables are created before they are read"
    return table
