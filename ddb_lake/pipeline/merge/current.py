"""Merges the changelog into `current`, which has the latest image of each existing item.

`update_current` opens the two tables and commits; the table's executor plans the merge and writes the rows. If another
writer commits first, the merge is planned again. Loading a full export (`pipeline.load.load`) replaces the base of `current`
with functions of this module.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise

import pyarrow as pa
from pyiceberg.manifest import DataFile
from pyiceberg.schema import Schema
from pyiceberg.table import Table

from ddb_lake.config import TableSettings
from ddb_lake.core.operations.retry_policy import retry_commit
from ddb_lake.core.protection.rules import Protection
from ddb_lake.core.schema.misfits import KnownMisfits, Misfit, sum_misfits
from ddb_lake.core.schema.table_schema import NameCollision, TableSchema, new_collisions
from ddb_lake.engine.merge_plan import MergeRules, version_us
from ddb_lake.engine.session import Session
from ddb_lake.errors import CheckFailed, CommitConflict
from ddb_lake.lake.commit import Commit, Delta
from ddb_lake.lake.lake_format import format_of
from ddb_lake.lake.scan import live_files, recorded_rows
from ddb_lake.lake.schema_evolution import evolve_table
from ddb_lake.lake.schemas import current_schema
from ddb_lake.lake.state import ChangesState, CurrentState, changes_state, current_state
from ddb_lake.pipeline.agreement import agreeing_tables
from ddb_lake.pipeline.executor import PlannedMerge
from ddb_lake.pipeline.merge.entities import EntityResult, update_entities
from ddb_lake.pipeline.merge.entity_source import entities_behind
from ddb_lake.pipeline.merge.local_merge import LocalMerge
from ddb_lake.pipeline.merge.sources import (
    MergeSources,
    Relation,
    applied_removals,
    current_rows,
    export_rows,
    exported_keys,
    known_records,
    records_sql,
    scan_records,
)
from ddb_lake.pipeline.open_lake import Lake


@dataclass(frozen=True, slots=True)
class CurrentResult:
    """The result of an update of `current`.

    Attributes:
        table: the table's name.
        changed: the number of keys whose row was added, replaced or removed.
        upserted: the number of keys that have a new row.
        removed: the number of keys whose item is absent now.
        winners: the number of records that decided these keys.
        late: the number of conflicting keys (`engine.merge_plan`), such as those with late records.
        ties: the number of keys with several latest records, between which the trail of images decided.
        rows: the number of living rows after the update.
        snapshot_id: the Iceberg snapshot after the update; None if `current` has none.
        horizon_us: the snapshot cutoff after the update; None without a full export.
        seconds: the duration.
        notes: remarks for the user.
        name_collisions: new columns whose names have a suffix, because several attributes need the same column name.
        entities: the entities whose tables were updated.
        misfits: the attributes of the new rows with values that no column holds.
    """

    table: str
    changed: int = 0
    upserted: int = 0
    removed: int = 0
    winners: int = 0
    late: int = 0
    ties: int = 0
    rows: int = 0
    snapshot_id: int | None = None
    horizon_us: int | None = None
    seconds: float = 0.0
    notes: tuple[str, ...] = ()
    name_collisions: tuple[NameCollision, ...] = ()
    entities: tuple[EntityResult, ...] = ()
    misfits: tuple[Misfit, ...] = ()

    def __add__(self, later: CurrentResult) -> CurrentResult:
        return replace(
            later,
            changed=self.changed + later.changed,
            upserted=self.upserted + later.upserted,
            removed=self.removed + later.removed,
            winners=self.winners + later.winners,
            late=self.late + later.late,
            ties=self.ties + later.ties,
            seconds=self.seconds + later.seconds,
            notes=(*self.notes, *later.notes),
            name_collisions=(*self.name_collisions, *later.name_collisions),
            entities=(*self.entities, *later.entities),
            misfits=sum_misfits((*self.misfits, *later.misfits)),
        )


def update_current(lake: Lake, name: str, redecide_keys: Sequence[tuple[str, int]] = ()) -> CurrentResult:
    """Apply the records of the changelog that `current` does not have yet.

    Args:
        lake: the open lake.
        name: the table.
        redecide_keys: keys (`_key`, `_key_hash`) that are decided again afterwards, over all their records in the changelog
            and without regard to their rows. A key without records there keeps its row.

    Raises:
        CheckFailed: the rows cannot be merged, for example because of `schema_evolution: fail`, or the written files do not
            have one row for each changed key that has an item. Nothing was committed.
        ConfigError: the table is not configured.
        DamagedError: as `pipeline.agreement.agreeing_tables`.
        TransientError: another writer committed first in each attempt.
    """
    started = time.monotonic()
    result = retry_commit(lambda: _update(lake, name))
    if redecide_keys:
        result += retry_commit(lambda: _update(lake, name, redecide_keys))
    entities = update_entities(lake, name)
    return replace(result, entities=entities, seconds=time.monotonic() - started)


def has_unmerged_changes(lake: Lake, name: str) -> bool:
    """Whether the changelog has records that `current` does not have, or `current` has rows that its entities do not have, because a
    step ended between the commits.

    Raises DamagedError as `pipeline.agreement.agreeing_tables`.
    """
    tables = agreeing_tables(lake, name)
    if tables.state is None:
        return tables.log.records > 0
    return tables.state.applied_batch < tables.log.batch or bool(entities_behind(lake, name))


def newest_cutoff_us(settings: TableSettings, state: CurrentState | None, log: ChangesState) -> int | None:
    """The snapshot cutoff of the newest full export, given the first change in the changelog; None without an export."""
    base = state.base if state else None
    return log.snapshot_cutoff_us(base.export_us, settings.clock_skew_us) if base else None


@dataclass(frozen=True, slots=True)
class _Tables:
    """The changelog and `current` as one attempt read them. `table` and `state` are None before the first commit."""

    settings: TableSettings
    changes: Table
    log: ChangesState
    table: Table | None
    state: CurrentState | None
    cutoff_us: int | None

    @property
    def known(self) -> CurrentState:
        """The state of `current`; before the first commit, the state of an empty table."""
        return self.state or CurrentState(TableSchema(self.log.key))

    @property
    def cutoff_moved(self) -> bool:
        """Whether keys must be decided again because the snapshot cutoff has changed since the last update."""
        return self.state is not None and self.cutoff_us != self.state.snapshot_cutoff_us

    @property
    def has_work(self) -> bool:
        """Whether an update would change anything."""
        if self.state is None:
            return self.log.records > 0
        return self.state.applied_batch < self.log.batch or self.cutoff_moved


def _update(lake: Lake, name: str, redecide_keys: Sequence[tuple[str, int]] = ()) -> CurrentResult:
    """One attempt. Raises CommitConflict if another writer committed since it began."""
    read, settings = agreeing_tables(lake, name), lake.table(name)
    table, changes, state, log = read.current, read.changes, read.state, read.log
    if changes is None:
        return _unchanged(name, table, state)
    if state is not None:
        changes, log = _with_names(lake, changes, log, state)
    tables = _Tables(settings, changes, log, table, state, newest_cutoff_us(settings, state, log))
    if not tables.has_work and not (redecide_keys and state is not None):
        return _unchanged(name, table, state)
    target = table or ensure_current(lake, settings)
    tables = replace(tables, state=state or first_state(target, log.key, lake.protection(name)))
    with lake.session() as session:
        sources = _sources(session, tables, redecide_keys)
        if redecide_keys:  # the keys are few, and in a relation that only this session can read
            merge: PlannedMerge = LocalMerge.of(session, settings, sources)
        else:
            merge = lake.executor(name).plan_merge(session, target, sources)
        return _commit(lake, target, tables, merge)


def name_exports(lake: Lake, name: str) -> None:
    """Name the exports of `current` in the changelog, so the loss of `current` is noticed. Without a changelog, nothing happens.

    An update names exports that were loaded before the changelog existed, or by an earlier release.
    """

    def attempt() -> None:
        changes = lake.changes(name)
        state = current_state(lake.current(name)) if changes is not None else None
        if state is not None and changes is not None:
            _with_names(lake, changes, changes_state(changes), state)

    retry_commit(attempt)


def _with_names(lake: Lake, changes: Table, log: ChangesState, state: CurrentState) -> tuple[Table, ChangesState]:
    """The changelog and its state after it names the exports of `current`. A changelog of format 1 is upgraded by an ingest first."""
    named = log.naming(state.exports)
    if named == log or format_of(changes.properties) == 1:
        return changes, log
    return lake.commit_delta(changes, Delta(), named.properties()), named


def _sources(session: Session, tables: _Tables, redecide_keys: Sequence[tuple[str, int]]) -> MergeSources:
    """The input of the merge. A merge decides the keys of new records; so all records of `redecide_keys` count as new."""
    settings, table, known = tables.settings, tables.table, tables.known
    keep_expired = settings.ttl_deletes == "keep"
    new_records = _new_records(tables)
    if redecide_keys:
        new_records = _with_records_of(session, tables.changes, new_records, redecide_keys)
    base = known.base
    return MergeSources(
        new_records,
        partial(known_records, tables.changes, tables.cutoff_us, keep_expired),
        current_rows(table, known.schema),
        export_rows(table, base) if table is not None and base is not None else None,
        MergeRules(
            tables.cutoff_us,
            base.export_us if base else None,
            settings.clock_skew_us,
            time_ordered=set(tables.log.sources) <= {"time"},
            redecide_all=tables.cutoff_moved or bool(redecide_keys),
            keep_expired=keep_expired,
        ),
        partial(exported_keys, table, known.exports),
        partial(applied_removals, tables.changes, known.applied_batch),
    )


def _new_records(tables: _Tables) -> Relation:
    """Records that `current` does not have. If the cutoff became earlier, also those between the new and the old cutoff."""
    changes, known, cutoff_us = tables.changes, tables.known, tables.cutoff_us
    condition = f"_batch > {known.applied_batch}"
    if known.snapshot_cutoff_us is None or cutoff_us is None or cutoff_us >= known.snapshot_cutoff_us:
        scan = scan_records(changes, after_batch=known.applied_batch)
    else:
        scan = scan_records(changes)
        time_us = version_us(tables.settings.clock_skew_us)
        condition += f" OR {time_us} BETWEEN {cutoff_us + 1} AND {known.snapshot_cutoff_us}"
    return Relation(scan.paths, lambda paths: f"(SELECT * FROM {scan.sql(paths)} WHERE {condition})")


def _with_records_of(session: Session, changes: Table, records: Relation, keys: Sequence[tuple[str, int]]) -> Relation:
    """`records`, and every record of some keys. A record may occur twice; the merge counts it once."""
    columns = {"_key": [key for key, _ in keys], "_key_hash": pa.array([h for _, h in keys], type=pa.int64())}
    session.con.register("redecide_keys", pa.table(columns))
    of_keys = (
        f"SELECT r.* FROM {records_sql(changes)} r"
        " SEMI JOIN redecide_keys k ON k._key_hash = r._key_hash AND k._key = r._key"
    )
    return Relation(records.files, lambda files: f"(SELECT * FROM {records.read(files)} UNION ALL {of_keys})")


def _commit(lake: Lake, table: Table, tables: _Tables, merge: PlannedMerge) -> CurrentResult:
    """Write the planned rows, then commit rows, deleted positions and state in one commit."""
    settings, known = tables.settings, tables.known
    keep_expired = settings.ttl_deletes == "keep"
    schema = merge.fit(
        known.schema, recorded_rows(table), lambda new: iceberg_schema(table, [known.schema, new], keep_expired)
    )
    commit = open_commit(lake, table, (known.schema, schema), keep_expired)
    added, deletes = merge.write(table, commit.transaction.table_metadata)
    merge.close()
    counts, upserted = merge.counts, sum(file.record_count for file in added)
    if upserted + counts.removed != counts.changed:
        raise CheckFailed(
            "the written files do not have one row for each changed key that has an item; nothing was committed",
            table=settings.name,
            expected=counts.changed - counts.removed,
            found=upserted,
        )
    state = replace(
        known,
        schema=schema,
        applied_batch=tables.log.batch,
        snapshot_cutoff_us=tables.cutoff_us,
        misfits=misfits_after(known, merge, deletes),
    )
    commit.snapshot(Delta(added=added, deletes=deletes, summary={"ddb_lake.applied-batch": str(state.applied_batch)}))
    commit.set_properties(state.properties())
    return replace(
        _unchanged(settings.name, commit.run(), state),
        changed=counts.changed,
        upserted=upserted,
        removed=counts.removed,
        winners=counts.winners,
        late=counts.late,
        ties=counts.ties,
        name_collisions=new_collisions(known.schema, schema),
        misfits=merge.misfits,
    )


def misfits_after(state: CurrentState, merge: PlannedMerge, deletes: Sequence[DataFile]) -> KnownMisfits | None:
    """What is known of the values that no column holds after a merge into rows of a state."""
    return None if state.misfits is None else state.misfits.after(merge.misfits, deletes=bool(deletes))


def _unchanged(name: str, table: Table | None, state: CurrentState | None) -> CurrentResult:
    """The result of an update that changes nothing."""
    snapshot = table.current_snapshot() if table is not None else None
    return CurrentResult(
        name,
        rows=live_files(table).rows if table is not None else 0,
        snapshot_id=snapshot.snapshot_id if snapshot else None,
        horizon_us=state.snapshot_cutoff_us if state else None,
    )


# --- the table


def ensure_current(lake: Lake, settings: TableSettings) -> Table:
    """The table `current` for its first commit, which is created without columns of items if it does not exist.

    It must exist before files are written, because the catalog decides where they are. Readers do not see it before its
    first commit (`pipeline.open_lake.Lake.current`).

    Raises:
        CommitConflict: another writer made the first commit.
    """
    table = lake.catalog.table(settings.name)
    if table is None:
        properties = {"comment": f"Latest image of each existing item of {settings.source_name}"}
        no_columns = current_schema(TableSchema(()), settings.ttl_deletes == "keep")
        table = lake.catalog.create(settings.name, no_columns, properties=properties)
    if table.current_snapshot() is not None:
        raise CommitConflict("another writer made the first commit at the same time", table=settings.name)
    return table


def first_state(table: Table, key: tuple[str, ...], protection: Protection) -> CurrentState:
    """The state of `current` before its first commit. If a rebuild has created it with columns, they keep their names."""
    state = CurrentState.of(table)
    schema = state.schema if state.schema.columns else TableSchema(key)
    return replace(state, schema=schema, protection=protection.stored, misfits=KnownMisfits({}))


def open_commit(lake: Lake, table: Table, step: tuple[TableSchema, TableSchema], keep_expired: bool) -> Commit:
    """Begin a commit of `current` that changes its columns. `step`: the columns that it has, and those that it gets.

    Raises:
        CheckFailed: a column would get another name; this is a fault of the program.
    """
    commit = lake.commit(table)
    evolve_table(commit, table.schema(), *step, keep_expired)
    return commit


def iceberg_schema(table: Table, steps: Sequence[TableSchema], keep_expired: bool) -> Schema:
    """The Iceberg schema, with its field ids, of `current` after its columns went through `steps`. The first are those it has."""
    commit, schema = Commit(table), table.schema()
    for old, new in pairwise(steps):
        evolve_table(commit, schema, old, new, keep_expired)
        schema = commit.transaction.table_metadata.schema()
    return schema
