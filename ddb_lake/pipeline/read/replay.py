"""The items computed from landed records and exports alone, now or as of a time, without reading `current`.

`dump --as-of`, queries as of a time, restoring and verification use this replay.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

from pyiceberg.table import Table

from ddb_lake.core.capture.export_windows import chain_end
from ddb_lake.core.merge.ordering import snapshot_cutoff_us
from ddb_lake.core.schema.table_schema import TableSchema
from ddb_lake.core.values.time_text import iso_text
from ddb_lake.engine.inverse_projection import item_sql
from ddb_lake.engine.key_text import key_text_sql
from ddb_lake.engine.merge_plan import MergeInput, MergePlan, MergeRules, empty_plan, plan_merge
from ddb_lake.engine.session import Session
from ddb_lake.errors import UsageError
from ddb_lake.lake.sidecar import TOMBSTONE_COLUMNS, Sidecar
from ddb_lake.lake.state import ChangesState, CurrentState, LoadedExport, changes_state
from ddb_lake.pipeline.merge.sources import (
    NO_CURRENT_ROWS,
    Relation,
    export_rows,
    exported_keys,
    images_of,
    images_sql,
    keyed_rows,
    known_records,
    naming_records,
)
from ddb_lake.pipeline.open_lake import Lake


@dataclass(frozen=True, slots=True)
class Replay:
    """Relations of a replay, as SQL, valid in the session that made them.

    `items`: (_key, _key_hash, item, _rescued) of each living item; complete it with `engine.inverse_projection.complete`.
    `base_rows`: the base's own rows, of the columns `schema`, before any change; None without a base.
    `base_items`: the same as `items` has them. `plan`: what changed since, in the session until its next plan.
    """

    items: str
    base_rows: str | None
    base_items: str | None
    schema: TableSchema
    base: LoadedExport | None
    snapshot_cutoff_us: int | None
    plan: MergePlan


@dataclass(frozen=True, slots=True)
class View:
    """A table and its changelog as they were at one moment, whatever is committed meanwhile."""

    table: Table | None
    changes: Table | None
    state: CurrentState
    log: ChangesState

    @property
    def applied(self) -> int:
        """The last batch of the changelog that the rows have."""
        return self.state.applied_batch if self.table is not None else self.log.batch

    @property
    def watermark_us(self) -> int | None:
        """The greatest instant up to which the lake has changes: of a record, or of an export."""
        base_us = self.state.base.export_us if self.state.base else None
        covered_us = None if base_us is None else chain_end(base_us // 1_000_000, self.log.windows) * 1_000_000
        return max((us for us in (self.log.last_change_us, base_us, covered_us) if us is not None), default=None)


def view(lake: Lake, name: str) -> View:
    """The table as it is now. The changelog is read after it: it has at least what the table has applied."""
    table = lake.current(name)
    changes = lake.changes(name)
    log = changes_state(changes)
    state = CurrentState.of(table) if table else CurrentState(TableSchema(log.key))
    return View(table, changes, state, log)


def replay(
    lake: Lake,
    session: Session,
    name: str,
    as_of_us: int | None = None,
    keys: str | None = None,
    seen: View | None = None,
    keep_expired: bool = False,
) -> Replay:
    """Replay the newest export before `as_of_us` (inclusive) and the changelog over it.

    Args:
        as_of_us: an instant; None for all that is known.
        keys: a relation (_key, _key_hash) of the keys that matter; None for all.
        seen: a view whose rows are to be compared: the changelog up to what they have applied. None for all of it.
        keep_expired: items that Time to Live removed are among the new states of `plan` too, with `_expired_at`, as in `current`
            with `ttl_deletes: keep`. `items` does not use this.

    Raises UsageError for an instant before the lake's first knowledge of the table.
    """
    settings = lake.table(name)
    found = seen or view(lake, name)
    table, changes, state, log = found.table, found.changes, found.state, found.log
    base = state.base if as_of_us is None else state.base_at(as_of_us)
    if base is None and state.exports:
        first = min(e.export_us for e in state.exports)
        raise UsageError(
            f"the lake knows nothing of {iso_text(as_of_us or 0)}; its first snapshot is of {iso_text(first)}",
            table=name,
        )
    cutoff_us = snapshot_cutoff_us(base.export_us, log.first_change_us, settings.clock_skew_us) if base else None
    based_on = export_rows(table, base) if base and table else None
    rows = based_on.rows.sql if based_on else None
    schema = (based_on.schema if based_on else state.schema).knowing(state.schema)
    if changes is None:
        plan = empty_plan(session)
    else:
        known = known_records(changes, cutoff_us, keep_expired)
        naming = naming_records(known, cutoff_us, settings.clock_skew_us, keep_expired)

        def seen_sql(records: Relation) -> str:
            chosen = _chosen(_until(records.sql, as_of_us), keys)
            return chosen if seen is None else f"(SELECT * FROM {chosen} WHERE _batch <= {seen.applied})"

        current = NO_CURRENT_ROWS  # every key is decided over all its records, and no row is replaced
        if keep_expired and based_on:
            current = keyed_rows(based_on.scan, based_on.schema).sql
        rules = MergeRules(
            snapshot_cutoff_us=cutoff_us,
            base_us=base.export_us if base else None,
            clock_skew_us=settings.clock_skew_us,
            time_ordered=set(log.sources) <= {"time"},
            redecide_all=True,
            keep_expired=keep_expired,
        )
        exports = [one for one in state.exports if as_of_us is None or one.export_us <= as_of_us]
        inputs = MergeInput(
            name,
            new_records=seen_sql(naming),
            changelog=seen_sql(known),
            current=current,
            tombstones=Sidecar().sql(TOMBSTONE_COLUMNS),
            rules=rules,
            base_images=partial(images_of, session, images_sql(rows, schema)) if rows else lambda _keys: {},
            exported_keys=lambda from_us: [keys.sql for keys in exported_keys(table, exports, from_us)],
        )
        plan = plan_merge(session, inputs)
    changed = f"SELECT _key, _key_hash, item, NULL::VARCHAR AS _rescued FROM {plan.new_states} WHERE item IS NOT NULL"
    if rows is None:
        return Replay(f"({changed})", None, None, schema, None, cutoff_us, plan)
    based = _keyed_items(rows, schema, keys)
    unchanged = f"SELECT b.* FROM {based} b ANTI JOIN {plan.new_states} n ON n._key = b._key"
    return Replay(f"({unchanged} UNION ALL {changed})", rows, based, schema, base, cutoff_us, plan)


def _keyed_items(rows: str, schema: TableSchema, keys: str | None) -> str:
    """(_key, _key_hash, item, _rescued) of a table's typed rows, of some keys only."""
    chosen = f"(SELECT r.* FROM {rows} r SEMI JOIN {keys} k ON k._key_hash = r._key_hash)" if keys else rows
    keyed = f"(SELECT {key_text_sql(schema)} AS _key, _key_hash, {item_sql(schema)} AS item, _rescued FROM {chosen})"
    return f"(SELECT i.* FROM {keyed} i SEMI JOIN {keys} k ON k._key = i._key)" if keys else keyed


def _chosen(records: str, keys: str | None) -> str:
    if keys is None:
        return records
    return f"(SELECT r.* FROM {records} r SEMI JOIN {keys} k ON k._key_hash = r._key_hash AND k._key = r._key)"


def _until(records: str, as_of_us: int | None) -> str:
    """Records up to an instant; an assertion speaks of the last instant before its window's end."""
    if as_of_us is None:
        return records
    changed = f"changed_at <= make_timestamp({as_of_us})"
    asserted = f"(asserted_at IS NULL OR asserted_at <= make_timestamp({as_of_us + 1}))"
    return f"(SELECT * FROM {records} WHERE {changed} AND {asserted})"
