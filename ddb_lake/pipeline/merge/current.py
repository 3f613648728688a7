"""The changelog into `current`: the latest image of each living item."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

import pyarrow as pa
from pyiceberg.manifest import DataFile
from pyiceberg.schema import Schema, assign_fresh_schema_ids
from pyiceberg.table import Table

from ddb_lake.config import TableSettings
from ddb_lake.core.merge.ordering import snapshot_cutoff_us
from ddb_lake.core.operations.retry_policy import retry_commit
from ddb_lake.core.schema.table_schema import NameCollision, TableSchema, new_collisions
from ddb_lake.engine.merge_plan import (
    MergeCounts,
    version_us,
)
from ddb_lake.engine.session import Session
from ddb_lake.errors import CommitConflict
from ddb_lake.lake.commit import Commit, Delta
from ddb_lake.lake.inventory import check_sidecars
from ddb_lake.lake.scan import current_or_conflict, live_files
from ddb_lake.lake.schema_evolution import evolve_table
from ddb_lake.lake.schemas import current_schema
from ddb_lake.lake.state import ChangesState, CurrentState, changes_state, current_state
from ddb_lake.pipeline.merge.inputs import (
    Merge,
    Relation,
    Sources,
    evolved_schema,
)
from ddb_lake.pipeline.merge.local_merge import LocalMerge
from ddb_lake.pipeline.merge.rows import (
    all_rows,
    export_rows,
    known_records,
    records_sql,
    scan_records,
    shown_keys,
)
from ddb_lake.pipeline.open_lake import Lake


@dataclass(frozen=True, slots=True)
class CurrentResult:
    """What bringing `current` up to the changelog did.

    `changed`: keys whose row was put, replaced or removed. `late`: keys whose new records were not simply the newest.
    `rows`: living rows afterwards. `name_collisions`: new columns whose names carry a suffix.
    """

    table: str
    changed: int = 0
    upserted: int = 0
    removed: int = 0
    late: int = 0
    ties: int = 0
    rows: int = 0
    snapshot_id: int | None = None
    horizon_us: int | None = None
    seconds: float = 0.0
    notes: tuple[str, ...] = ()
    name_collisions: tuple[NameCollision, ...] = ()

    def __add__(self, later: CurrentResult) -> CurrentResult:
        return replace(
            later,
            changed=self.changed + later.changed,
            upserted=self.upserted + later.upserted,
            removed=self.removed + later.removed,
            late=self.late + later.late,
            ties=self.ties + later.ties,
            seconds=self.seconds + later.seconds,
            notes=(*self.notes, *later.notes),
            name_collisions=(*self.name_collisions, *later.name_collisions),
        )


def update_current(lake: Lake, name: str, again: Sequence[tuple[str, int]] = ()) -> CurrentResult:
    """Apply to `current` what the changelog has and it has not. Does nothing if it has all of it.

    `again`: keys (`_key`, `_key_hash`) whose rows are decided anew over all their records in the changelog, whatever
    rows they have; a key without records there keeps its rows.
    """
    started = time.monotonic()
    result = retry_commit(lambda: _attempt(lake, name))
    if again:
        result += retry_commit(lambda: _attempt(lake, name, again))
    return replace(result, seconds=time.monotonic() - started)


def is_behind(lake: Lake, name: str) -> bool:
    """Whether the changelog has records that `current` has not: a stage was broken off between the two."""
    changes, table = lake.changes(name), lake.current(name)
    if changes is None:
        return False
    log = changes_state(changes)
    if table is None:
        return log.records > 0
    return CurrentState.of(table).applied_batch < log.batch


def _attempt(lake: Lake, name: str, again: Sequence[tuple[str, int]] = ()) -> CurrentResult:
    changes = lake.changes(name)
    table = lake.current(name)
    state = current_state(table)
    if changes is None:
        return _unchanged(name, table, state)
    log = changes_state(changes)
    if state is not None and state.applied_batch > log.batch:
        raise CommitConflict("another writer added to the changelog and applied it since it was read")
    settings = lake.table(name)
    cutoff_us = settled_until(settings, state, log)
    moved = state is not None and cutoff_us != state.snapshot_cutoff_us
    if (state.applied_batch if state else 0) >= log.batch and not moved and not again:
        return _unchanged(name, table, state)
    if state is None and log.records == 0:
        return _unchanged(name, table, state)
    if table is not None:
        with current_or_conflict(table):
            check_sidecars(table, local_only=True)
    with lake.session() as session:
        return _apply(lake, session, settings, changes, log, table, state, cutoff_us, again)


def settled_until(settings: TableSettings, state: CurrentState | None, log: ChangesState) -> int | None:
    """The snapshot cutoff of the newest export, as what the stream covers now makes it; None without one."""
    base = state.base if state else None
    return snapshot_cutoff_us(base.export_us, log.first_change_us, settings.clock_skew_us) if base else None


def _unchanged(name: str, table: Table | None, state: CurrentState | None) -> CurrentResult:
    rows = live_files(table).rows if table is not None else 0
    snapshot = table.current_snapshot() if table is not None else None
    return CurrentResult(
        name,
        rows=rows,
        snapshot_id=snapshot.snapshot_id if snapshot else None,
        horizon_us=state.snapshot_cutoff_us if state else None,
    )


def _apply(
    lake: Lake,
    session: Session,
    settings: TableSettings,
    changes: Table,
    log: ChangesState,
    table: Table | None,
    state: CurrentState | None,
    cutoff_us: int | None,
    again: Sequence[tuple[str, int]],
) -> CurrentResult:
    held = state or CurrentState(TableSchema(log.key))
    keep = settings.ttl_deletes == "keep"
    sources = Sources(
        fresh=_fresh(changes, held, cutoff_us, settings.clock_skew_us),
        changelog=known_records(changes, cutoff_us, keep),
        current=all_rows(table, held.schema),
        tombstones=held.tombstones,
        base=export_rows(table, held.base) if table is not None and held.base is not None else None,
        snapshot_cutoff_us=cutoff_us,
        base_us=held.base.export_us if held.base else None,
        clock_skew_us=settings.clock_skew_us,
        simple=set(log.sources) <= {"time"},
        recheck=held.snapshot_cutoff_us != cutoff_us or bool(again),
        keep_expired=keep,
        shown=partial(shown_keys, table, held.exports),
    )
    if again:
        sources = replace(sources, fresh=_with_records_of(session, changes, sources.fresh, again))
    merge: Merge = LocalMerge(session, settings) if again else lake.executor(settings.name).merge(session, table)
    counts = merge.plan(sources)

    def iceberg(schema: TableSchema) -> Schema:
        return iceberg_schema(table, [held.schema, schema], keep)

    schema = merge.fit(held.schema, iceberg)
    if table is None:
        wanted = iceberg(schema)
        table = create_current(lake, settings, schema)
        if table.current_snapshot() is not None or table.schema() != wanted:
            raise CommitConflict("another writer made the table meanwhile")
    commit = Commit(table)
    evolve_table(commit, table.schema(), held.schema if state else schema, schema, keep)
    added, deletes = merge.write(table, commit.transaction.table_metadata)
    tombstones = merge.bury(table, held.tombstones)
    snapshot = changes.current_snapshot()
    fresh_state = replace(
        held,
        schema=schema,
        applied_batch=log.batch,
        applied_snapshot=snapshot.snapshot_id if snapshot else None,
        snapshot_cutoff_us=cutoff_us,
        tombstones=tombstones,
    )
    result = commit_current(merge.changed, settings.name, commit, added, deletes, fresh_state, counts)
    return replace(result, name_collisions=new_collisions(held.schema, schema))


def iceberg_schema(table: Table | None, steps: Sequence[TableSchema], keep_expired: bool) -> Schema:
    """The Iceberg schema, with its field ids, of a table whose columns go through `steps`; a new one has the last."""
    if table is None:
        return assign_fresh_schema_ids(current_schema(steps[-1], keep_expired))
    return evolved_schema(table, steps, keep_expired)


def _fresh(changes: Table, held: CurrentState, cutoff_us: int | None, clock_skew_us: int) -> Relation:
    """Records that `current` has not seen; those between the old snapshot cutoff and the new too, if it moved back."""
    unseen = f"_batch > {held.applied_batch}"
    if held.snapshot_cutoff_us is None or cutoff_us is None or cutoff_us >= held.snapshot_cutoff_us:
        scan = scan_records(changes, after_batch=held.applied_batch)
    else:
        scan = scan_records(changes)
        unseen += f" OR {version_us(clock_skew_us)} BETWEEN {cutoff_us + 1} AND {held.snapshot_cutoff_us}"
    return Relation(scan.paths, lambda paths: f"(SELECT * FROM {scan.sql(paths)} WHERE {unseen})")


def _with_records_of(session: Session, changes: Table, fresh: Relation, keys: Sequence[tuple[str, int]]) -> Relation:
    """`fresh`, and every record of some keys; the merge takes a record that is in both for one."""
    columns = {"_key": [key for key, _ in keys], "_key_hash": pa.array([h for _, h in keys], type=pa.int64())}
    session.con.register("keys_again", pa.table(columns))
    theirs = f"SELECT r.* FROM {records_sql(changes)} r SEMI JOIN keys_again k ON k._key_hash = r._key_hash AND k._key = r._key"
    return Relation(fresh.files, lambda some: f"(SELECT * FROM {fresh.read(some)} UNION ALL {theirs})")


def create_current(lake: Lake, settings: TableSettings, schema: TableSchema) -> Table:
    """The table of living items, empty."""
    keep = settings.ttl_deletes == "keep"
    properties = {
        "comment": f"Latest image of each living item of {settings.source_name}",
        **CurrentState(schema).properties(),
    }
    return lake.catalog.create(settings.name, current_schema(schema, keep), properties=properties)


def commit_current(
    changed: int,
    name: str,
    commit: Commit,
    added: Sequence[DataFile],
    deletes: Sequence[DataFile],
    state: CurrentState,
    counts: MergeCounts,
) -> CurrentResult:
    """Commit one step of `current`."""
    upserted = sum(f.record_count for f in added)
    commit.snapshot(Delta(added=added, deletes=deletes, summary={"ddb_lake.applied-batch": str(state.applied_batch)}))
    commit.set_properties(state.properties())
    table = commit.run()
    snapshot = table.current_snapshot()
    return CurrentResult(
        name,
        changed=changed,
        upserted=upserted,
        removed=changed - upserted,
        late=counts.late,
        ties=counts.ties,
        rows=live_files(table).rows,
        snapshot_id=snapshot.snapshot_id if snapshot else None,
        horizon_us=state.snapshot_cutoff_us,
    )
