"""How a table is: rows, freshness, files, and what waits."""

from __future__ import annotations

from dataclasses import dataclass

from ddb_lake.core.capture.export_windows import chain_end
from ddb_lake.core.capture.gaps import Gap
from ddb_lake.core.schema.table_schema import NameCollision, name_collisions
from ddb_lake.lake.inventory import check_sidecars
from ddb_lake.lake.scan import live_files
from ddb_lake.lake.state import CurrentState, changes_state
from ddb_lake.pipeline.maintain.quarantine import count_open
from ddb_lake.pipeline.open_lake import Lake


@dataclass(frozen=True, slots=True)
class TableStatus:
    """A table's figures. Times are UTC microseconds since the epoch, None where there is nothing yet.

    `watermark_us`: greatest change time that `current` has, or the end of its incremental exports. `lag_s`: now
    less the watermark. `pending_batches`:
    commits of the changelog that `current` has not applied. `deleted_rows`: rows deleted by position and not yet removed by compaction.
    `gaps`: periods whose change records may be missing and that are not repaired yet. `name_collisions`: columns whose
    names have a suffix, because another attribute has the name.
    """

    table: str
    rows: int = 0
    tombstones: int = 0
    changes: int = 0
    quarantined: int = 0
    files: int = 0
    delete_files: int = 0
    deleted_rows: int = 0
    bytes: int = 0
    columns: int = 0
    base_export_us: int | None = None
    horizon_us: int | None = None
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


def table_status(lake: Lake, name: str) -> TableStatus:
    """The figures of one table, from its tables' metadata alone.

    Raises DamagedError if a manifest is missing or damaged or, in a local warehouse, if any file of the table's newest
    snapshot is missing or has another size. Objects in S3 are not looked for: `ddb-lake doctor` does that.
    """
    lake.table(name)
    changes = lake.changes(name)
    log = changes_state(changes)
    gaps = tuple(gap for gap in log.gaps if gap.is_open)
    quarantined = count_open(lake.quarantine(name))
    table = lake.current(name)
    for found in (table, changes):
        if found is not None:
            check_sidecars(found, local_only=True)
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
            objects=log.ledger.rows,
            gaps=gaps,
        )
    state = CurrentState.of(table)
    live = live_files(table)
    snapshot = table.current_snapshot()
    base_us = state.base.export_us if state.base else None
    covered_us = None if base_us is None else chain_end(base_us // 1_000_000, log.windows) * 1_000_000
    known = [us for us in (log.last_change_us, base_us, covered_us) if us is not None]
    watermark = max(known, default=None) if state.applied_batch >= log.batch else None
    now_us = int(lake.now().timestamp() * 1_000_000)
    return TableStatus(
        name,
        rows=live.rows,
        tombstones=state.tombstones.rows,
        changes=log.records,
        quarantined=quarantined,
        files=len(live.data),
        delete_files=len(live.deletes),
        deleted_rows=live.deleted_rows,
        bytes=live.bytes,
        columns=len(table.schema().fields),
        base_export_us=state.base.export_us if state.base else None,
        horizon_us=state.snapshot_cutoff_us,
        first_change_us=log.first_change_us,
        last_change_us=log.last_change_us,
        watermark_us=watermark,
        lag_s=(now_us - watermark) / 1e6 if watermark is not None else None,
        pending_batches=log.batch - state.applied_batch,
        objects=log.ledger.rows,
        exports=tuple(e.export_id for e in state.exports),
        snapshots=len(table.snapshots()),
        snapshot_id=snapshot.snapshot_id if snapshot else None,
        last_commit_us=snapshot.timestamp_ms * 1000 if snapshot else None,
        gaps=gaps,
        name_collisions=name_collisions(state.schema),
    )
