"""Replays exports and change records, to find the items of a table now or as of an instant. It does not read `current`.

`dump --as-of`, queries as of an instant, restore and verification use this one replay.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

from pyiceberg.table import Table

from ddb_lake.core.capture.export_windows import chain_end
from ddb_lake.core.schema.table_schema import TableSchema
from ddb_lake.core.values.time_text import iso_text
from ddb_lake.engine.inverse_projection import item_sql
from ddb_lake.engine.key_text import key_text_sql
from ddb_lake.engine.merge_plan import MergeInput, MergePlan, MergeRules, empty_plan, plan_merge
from ddb_lake.engine.session import Session
from ddb_lake.errors import UsageError
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
    """The result of a replay: relations as SQL, valid in the session of the replay.

    Attributes:
        items: (_key, _key_hash, item, _rescued) of each existing item; `engine.inverse_projection.complete` makes the whole item.
        base_rows: the rows of the base before any change, with the columns `schema`; None without a base.
        base_files: the files that `base_rows` reads.
        base_items: the rows of the base, with the columns of `items`; None without a base.
        schema: the columns of `base_rows`.
        base: the export that the replay starts from; None without one.
        snapshot_cutoff_us: the snapshot cutoff of the base (inclusive), microseconds since the epoch.
        plan: the keys that changed since the base. Its tables last until the session's next plan.
    """

    items: str
    base_rows: str | None
    base_files: tuple[str, ...]
    base_items: str | None
    schema: TableSchema
    base: LoadedExport | None
    snapshot_cutoff_us: int | None
    plan: MergePlan


@dataclass(frozen=True, slots=True)
class View:
    """A table and its changelog at one moment. Later commits do not change it."""

    name: str
    table: Table | None
    changes: Table | None
    state: CurrentState
    log: ChangesState

    @property
    def applied(self) -> int:
        """The last batch of the changelog that is applied to the rows (inclusive)."""
        return self.state.applied_batch if self.table is not None else self.log.batch

    @property
    def watermark_us(self) -> int | None:
        """The greatest time of a change record, an export or a window of incremental exports; None if there is none."""
        base_us = self.state.base.export_us if self.state.base else None
        covered_us = None if base_us is None else chain_end(base_us // 1_000_000, self.log.windows) * 1_000_000
        return max((us for us in (self.log.last_change_us, base_us, covered_us) if us is not None), default=None)


def view(lake: Lake, name: str) -> View:
    """The table as it is now.

    The changelog is loaded after `current`, so it has at least the batches that are applied to `current`.

    Raises ConfigError if the table is not configured.
    """
    lake.table(name)
    table = lake.current(name)
    changes = lake.changes(name)
    log = changes_state(changes)
    state = CurrentState.of(table) if table else CurrentState(TableSchema(log.key))
    return View(name, table, changes, state, log)


def base_of(seen: View, as_of_us: int | None = None) -> LoadedExport | None:
    """The export from which a replay starts: the newest one of an instant or before. None if the table has no export.

    Args:
        seen: the table.
        as_of_us: the instant (inclusive), microseconds since the epoch; by default, now.

    Raises:
        UsageError: the instant is before the first export, or before the end of the scan in its place, so the state of the
            table is unknown.
    """
    state = seen.state
    base = state.base if as_of_us is None else state.base_at(as_of_us)
    if base is None and state.exports:
        first = min(state.exports, key=lambda e: e.exact_from_us)
        kind = "first snapshot is of" if first.scan_until_us is None else "first items are of a scan until"
        raise UsageError(
            f"the lake has no state of {iso_text(as_of_us or 0)}; its {kind} {iso_text(first.exact_from_us)}",
            table=seen.name,
        )
    return base


def replay(
    lake: Lake,
    session: Session,
    seen: View,
    as_of_us: int | None = None,
    compared_keys: str | None = None,
    keep_expired: bool = False,
) -> Replay:
    """Replay the changelog over the newest export of an instant or before.

    Args:
        lake: the open lake.
        session: the session in which the result is valid.
        seen: the table, from `view`.
        as_of_us: the instant (inclusive), microseconds since the epoch; by default, replay everything.
        compared_keys: a relation (_key, _key_hash) of keys, whose rows are compared with the replay: replay only these keys,
            up to the batch that `seen` has applied.
        keep_expired: whether items that Time to Live removed are among the new states of `plan`, with `_expired_at`, as in
            `current` with `ttl_deletes: keep`. They are never among `items`.

    Raises:
        UsageError: as `base_of`.
    """
    settings = lake.table(seen.name)
    table, changes, state, log = seen.table, seen.changes, seen.state, seen.log
    base = base_of(seen, as_of_us)
    cutoff_us = log.snapshot_cutoff_us(base.export_us, settings.clock_skew_us) if base else None
    base_rows = export_rows(table, base) if base and table else None
    rows = base_rows.rows.sql if base_rows else None
    schema = (base_rows.schema if base_rows else state.schema).with_names_of(state.schema)
    if changes is None:
        plan = empty_plan(session)
    else:
        known = known_records(changes, cutoff_us, keep_expired)
        naming = naming_records(known, cutoff_us, settings.clock_skew_us, keep_expired)

        def chosen_records(records: Relation) -> str:
            chosen = _chosen(_until(records.sql, as_of_us), compared_keys)
            return chosen if compared_keys is None else f"(SELECT * FROM {chosen} WHERE _batch <= {seen.applied})"

        current = NO_CURRENT_ROWS  # every key is decided over all its records, and no row is replaced
        if keep_expired and base_rows:
            current = keyed_rows(base_rows.scan, base_rows.schema).sql
        rules = MergeRules(
            snapshot_cutoff_us=cutoff_us,
            base_us=base.export_us if base else None,
            clock_skew_us=settings.clock_skew_us,
            time_ordered=set(log.sources) <= {"time"},
            redecide_all=True,
            keep_expired=keep_expired,
        )
        exports = [export for export in state.exports if as_of_us is None or export.exact_from_us <= as_of_us]
        inputs = MergeInput(
            seen.name,
            new_records=chosen_records(naming),
            changelog=lambda: chosen_records(known),
            current=current,
            rules=rules,
            base_images=partial(images_of, session, images_sql(rows, schema)) if rows else lambda _keys: {},
            exported_keys=lambda from_us: [keys.sql for keys in exported_keys(table, exports, from_us)],
        )
        plan = plan_merge(session, inputs)
    changed = f"SELECT _key, _key_hash, item, NULL::VARCHAR AS _rescued FROM {plan.new_states} WHERE item IS NOT NULL"
    if rows is None:
        return Replay(f"({changed})", None, (), None, schema, None, cutoff_us, plan)
    base_items = _keyed_items(rows, schema, compared_keys)
    unchanged = f"SELECT b.* FROM {base_items} b ANTI JOIN {plan.new_states} n ON n._key = b._key"
    files = base_rows.scan.files if base_rows else ()
    return Replay(f"({unchanged} UNION ALL {changed})", rows, files, base_items, schema, base, cutoff_us, plan)


def _keyed_items(rows: str, schema: TableSchema, keys: str | None) -> str:
    """(_key, _key_hash, item, _rescued) of typed rows; of the rows with one of `keys`, if it is given."""
    chosen = f"(SELECT r.* FROM {rows} r SEMI JOIN {keys} k ON k._key_hash = r._key_hash)" if keys else rows
    keyed = f"(SELECT {key_text_sql(schema)} AS _key, _key_hash, {item_sql(schema)} AS item, _rescued FROM {chosen})"
    return f"(SELECT i.* FROM {keyed} i SEMI JOIN {keys} k ON k._key = i._key)" if keys else keyed


def _chosen(records: str, keys: str | None) -> str:
    if keys is None:
        return records
    return f"(SELECT r.* FROM {records} r SEMI JOIN {keys} k ON k._key_hash = r._key_hash AND k._key = r._key)"


def _until(records: str, as_of_us: int | None) -> str:
    """The records up to an instant (inclusive). An assertion is about the last instant before the end of its window."""
    if as_of_us is None:
        return records
    changed = f"changed_at <= make_timestamp({as_of_us})"
    asserted = f"(asserted_at IS NULL OR asserted_at <= make_timestamp({as_of_us + 1}))"
    return f"(SELECT * FROM {records} WHERE {changed} AND {asserted})"
