"""The status of a table: rows, freshness, files, and pending work. Reads metadata only."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from ddb_lake.core.capture.export_windows import chain_end
from ddb_lake.core.capture.gaps import Gap
from ddb_lake.core.layout.table_names import entity_table
from ddb_lake.core.schema.misfits import Misfit, without_parts
from ddb_lake.core.schema.table_schema import NameCollision, name_collisions
from ddb_lake.lake.entity_state import EntityState
from ddb_lake.lake.erasure_state import UnfinishedErasure, unfinished_erasures
from ddb_lake.lake.scan import live_files
from ddb_lake.lake.state import CurrentState, changes_state
from ddb_lake.pipeline.apply.ledger import read_ledger
from ddb_lake.pipeline.former_entities import former_entities
from ddb_lake.pipeline.merge.entity_source import entities_behind
from ddb_lake.pipeline.open_lake import Lake
from ddb_lake.pipeline.protection import changed_rules
from ddb_lake.pipeline.read.quarantine import count_open
from ddb_lake.pipeline.read.unused_columns import UnusedColumn, find_unused_columns


@dataclass(frozen=True, slots=True)
class EntityStatus:
    """The table of one entity: its name, its living rows, and whether the rows of `current` are newer or another definition holds.

    `misfits` and `misfits_exact`: as of `TableStatus`.
    """

    entity: str
    table: str
    rows: int
    behind: bool
    misfits: tuple[Misfit, ...] | None = None
    misfits_exact: bool = False


@dataclass(frozen=True, slots=True)
class TableStatus:
    """The status of a table. Times are microseconds since the epoch (UTC), and None if there is nothing yet.

    Attributes:
        changes: the number of change records.
        quarantined: the number of open quarantine entries.
        files: the number of data files of `current`.
        deleted_rows: rows that are deleted by position and not compacted yet.
        columns: the number of columns, with those of metadata.
        base_export_us: the instant of the newest export.
        horizon_us: the snapshot cutoff of that export (inclusive).
        scan_until_us: if the base is a scan, the instant from which the lake has the table's state.
        catching_up: the base is a scan, and no change after `scan_until_us` is applied: items may be of different instants.
        watermark_us: the greatest time of an applied change record, or the end of the incremental exports if that is
            later; None while batches are pending.
        lag_s: the time from the watermark to now, in seconds.
        pending_batches: commits of the changelog that are not applied to `current`.
        objects: the number of ingested objects.
        gaps: intervals whose change records may be missing and that are not repaired.
        name_collisions: columns whose names have a suffix, because another attribute has the name.
        entities: the tables of entities.
        misfits: the attributes with values that no column holds, as the commits counted them; None if they did not.
        misfits_exact: whether `misfits` are so many values, and not at most so many.
        changed_rules: attributes whose rule (`drop`, `hash`, `mask`) is another one than that by which the files were begun.
        former_entities: the tables of entities that are not in the configuration any more; None if the tables of the catalog
            were not listed, because that is a request. `ddb-lake doctor` lists them.
        unused_columns: settings in `columns` of attributes that no item has.
        unfinished_erasures: the erasures that began and are not complete, the oldest first: files may have their items. None if
            an earlier release erased last, and did not state it; `ddb-lake doctor` reads the rows.
        source_missing_since_us: since when `ddb-lake discover` does not find the table; None if it does, or never looked.
    """

    table: str
    rows: int = 0
    changes: int = 0
    quarantined: int = 0
    files: int = 0
    delete_files: int = 0
    deleted_rows: int = 0
    bytes: int = 0
    columns: int = 0
    base_export_us: int | None = None
    horizon_us: int | None = None
    scan_until_us: int | None = None
    catching_up: bool = False
    first_change_us: int | None = None
    last_change_us: int | None = None
    watermark_us: int | None = None
    lag_s: float | None = None
    pending_batches: int = 0
    objects: int = 0
    exports: tuple[str, ...] = ()
    snapshots: int = 0
    snapshot_id: int | None = None
    last_commit_us: int | None = None
    gaps: tuple[Gap, ...] = ()
    name_collisions: tuple[NameCollision, ...] = ()
    entities: tuple[EntityStatus, ...] = ()
    changed_rules: tuple[str, ...] = ()
    misfits: tuple[Misfit, ...] | None = ()
    misfits_exact: bool = True
    former_entities: tuple[str, ...] | None = None
    unused_columns: tuple[UnusedColumn, ...] = ()
    unfinished_erasures: tuple[UnfinishedErasure, ...] | None = ()
    source_missing_since_us: int | None = None


def table_status(lake: Lake, name: str) -> TableStatus:
    """The status of one table, from the metadata of its Iceberg tables.

    Raises:
        ConfigError: the table is not configured.
        DamagedError: a manifest is missing or damaged; or, in a local warehouse, a file of the newest snapshot is missing or
            has another size. `pipeline.read.files.check_files` checks all files, also in S3.
    """
    missing_since = lake.table(name).source.missing_since
    missing_since_us = None if missing_since is None else int(missing_since.timestamp() * 1_000_000)
    changes = lake.changes(name)
    log = changes_state(changes)
    gaps = tuple(gap for gap in log.gaps if gap.is_open)
    quarantined = count_open(lake.quarantine(name))
    table = lake.current(name)
    if changes is not None:
        live_files(changes)
    if table is None:
        return TableStatus(
            name,
            changes=log.records,
            quarantined=quarantined,
            first_change_us=log.first_change_us,
            last_change_us=log.last_change_us,
            pending_batches=log.batch if log.records else 0,
            objects=read_ledger(lake, name).rows,
            gaps=gaps,
            changed_rules=changed_rules(lake, name),
            unfinished_erasures=unfinished_erasures(lake.erasures(name)),
            source_missing_since_us=missing_since_us,
        )
    state = CurrentState.of(table)
    live = live_files(table)
    snapshot = table.current_snapshot()
    base_us = state.base.export_us if state.base else None
    covered_us = None if base_us is None else chain_end(base_us // 1_000_000, log.windows) * 1_000_000
    known = [us for us in (log.last_change_us, base_us, covered_us) if us is not None]
    watermark = max(known, default=None) if state.applied_batch >= log.batch else None
    scan_until_us = state.base.scan_until_us if state.base else None
    now_us = int(lake.now().timestamp() * 1_000_000)
    return TableStatus(
        name,
        rows=live.rows,
        changes=log.records,
        quarantined=quarantined,
        files=len(live.data),
        delete_files=len(live.deletes),
        deleted_rows=live.deleted_rows,
        bytes=live.bytes,
        columns=len(table.schema().fields),
        base_export_us=state.base.export_us if state.base else None,
        horizon_us=state.snapshot_cutoff_us,
        scan_until_us=scan_until_us,
        catching_up=scan_until_us is not None and (watermark is None or watermark <= scan_until_us),
        first_change_us=log.first_change_us,
        last_change_us=log.last_change_us,
        watermark_us=watermark,
        lag_s=(now_us - watermark) / 1e6 if watermark is not None else None,
        pending_batches=log.batch - state.applied_batch,
        objects=read_ledger(lake, name).rows,
        exports=tuple(e.export_id for e in state.exports),
        snapshots=len(table.snapshots()),
        snapshot_id=snapshot.snapshot_id if snapshot else None,
        last_commit_us=snapshot.timestamp_ms * 1000 if snapshot else None,
        gaps=gaps,
        name_collisions=name_collisions(state.schema),
        entities=tuple(_entities(lake, name)),
        changed_rules=changed_rules(lake, name),
        misfits=None if state.misfits is None else state.misfits.misfits(state.schema.columns),
        misfits_exact=state.misfits is not None and state.misfits.exact,
        former_entities=former_entities(lake, name) if lake.catalog.has_own_database else None,
        unused_columns=find_unused_columns(lake, name),
        unfinished_erasures=unfinished_erasures(lake.erasures(name)),
        source_missing_since_us=missing_since_us,
    )


def _entities(lake: Lake, name: str) -> Iterator[EntityStatus]:
    behind = entities_behind(lake, name)
    for entity in lake.table(name).entities:
        full_name = entity_table(name, entity.name)
        table = lake.readable(full_name)
        if table is None:
            yield EntityStatus(entity.name, full_name, 0, entity.name in behind)
            continue
        state = EntityState.of(table)
        known = state.misfits if state is not None else None
        misfits = (
            without_parts(known.misfits(state.schema.columns), entity.rule)
            if state is not None and known is not None
            else None
        )
        exact = known is not None and known.exact
        yield EntityStatus(entity.name, full_name, live_files(table).rows, entity.name in behind, misfits, exact)
