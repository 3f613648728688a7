"""Keeps the Iceberg tables of entities equal to the rows of `current` that belong to them.

An entity's table is derived from one snapshot of `current`, which its state names. `update_entities` reads the rows in which that
snapshot and the newest one differ (`lake.snapshot_diff`), and commits rows, deleted positions and the new snapshot's id in one commit.
So it does not matter by what `current` changed: changes, a repair, Time to Live, another base, compaction, or a commit that
another process made. Every step that commits to `current` calls `update_entities`; what a killed step left is done by the next.

The whole table is written again, in one commit, if the difference does not lead to its rows: the definition of its entity or of one
before it has changed, `current` has another base or was rebuilt, a column of `current` has another type, or the snapshot has expired.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

from pyiceberg.schema import Schema
from pyiceberg.table import Table

from ddb_lake.config import TableSettings
from ddb_lake.core.layout.table_names import entity_table
from ddb_lake.core.operations.retry_policy import retry_commit
from ddb_lake.core.schema.misfits import KnownMisfits, Misfit, without_parts
from ddb_lake.core.schema.table_schema import NameCollision, TableSchema, name_collisions, new_collisions
from ddb_lake.engine.entity_rows import check_rules
from ddb_lake.engine.session import Session
from ddb_lake.errors import DamagedError
from ddb_lake.lake.commit import Commit, Delta
from ddb_lake.lake.entity_state import EntityState
from ddb_lake.lake.replacement import forget_snapshots
from ddb_lake.lake.scan import live_files, recorded_rows
from ddb_lake.lake.schema_evolution import evolve_table
from ddb_lake.lake.schemas import current_schema
from ddb_lake.pipeline.executor import EntityRows
from ddb_lake.pipeline.merge.entity_source import EntitySource, entity_tables, first_schema
from ddb_lake.pipeline.open_lake import Lake


@dataclass(frozen=True, slots=True)
class EntityResult:
    """The result of an update of one entity's table.

    Attributes:
        table: the table's name.
        entity: the entity's name.
        rows: the number of living rows after the update.
        added: rows that were written.
        deleted: rows that were deleted or replaced.
        rewritten: why the whole table was written again; None if it was not.
        name_collisions: columns whose names have a suffix, because several attributes or parts of the key need the same name.
        misfits: the attributes of the rows that were written with values that no column holds.
    """

    table: str
    entity: str
    rows: int = 0
    added: int = 0
    deleted: int = 0
    rewritten: str | None = None
    name_collisions: tuple[NameCollision, ...] = ()
    misfits: tuple[Misfit, ...] = ()


def update_entities(lake: Lake, name: str, rewrite: str | None = None) -> tuple[EntityResult, ...]:
    """Bring the tables of a table's entities up to date with `current`.

    Args:
        lake: the open lake.
        name: the table.
        rewrite: a reason to write all of them again, without reading the files that they have. By default, only those tables are
            written again to whose rows the difference does not lead.

    Returns:
        The results of the entities whose tables were behind, in the order of the configuration.

    Raises:
        ConfigError: the table is not configured, or a pattern does not fit its key.
        DamagedError: a file of `current` is missing or damaged.
        TransientError: another writer committed first in each attempt.
    """
    settings = lake.table(name)
    if not settings.entities:
        return ()
    done: dict[int, EntityResult] = {}

    def attempt() -> None:
        _update(lake, settings, rewrite, done)

    retry_commit(attempt)
    return tuple(done[number] for number in sorted(done))


# --- one attempt


def _update(lake: Lake, settings: TableSettings, rewrite: str | None, done: dict[int, EntityResult]) -> None:
    """One attempt, which adds its results to `done`. Raises CommitConflict if another writer committed since it began."""
    tables = entity_tables(lake, settings)
    current = lake.current(settings.name)
    if current is None:
        return
    source = EntitySource.of(settings, current)
    reasons = {
        number: source.reason_to_rewrite(table, number) or (rewrite if number not in done else None)
        for number, table in enumerate(tables)
    }
    behind = [n for n, table in enumerate(tables) if reasons[n] or not source.is_up_to_date(table, n)]
    if not behind:
        return
    check_rules(source.state.schema, source.rules)
    with lake.session() as session:
        update = _Update(lake, session, source, tables, done)
        snapshots: dict[int, list[int]] = {}
        for number in behind:
            table = tables[number]
            state = EntityState.of(table) if table is not None else None
            if state is not None and not reasons[number]:
                snapshots.setdefault(state.snapshot_id, []).append(number)
        for snapshot_id, numbers in snapshots.items():
            reasons |= update.follow(snapshot_id, numbers)
        update.rewrite({n: reason for n, reason in reasons.items() if reason and n in behind}, rewrite is not None)


class _Update:
    """The update of the entities that are behind, in one session."""

    def __init__(
        self,
        lake: Lake,
        session: Session,
        source: EntitySource,
        tables: Sequence[Table | None],
        done: dict[int, EntityResult],
    ) -> None:
        self._lake, self._session, self._source = lake, session, source
        self._executor = lake.executor(source.settings.name)
        self._tables, self._done = tables, done

    def follow(self, snapshot_id: int, numbers: Sequence[int]) -> dict[int, str]:
        """Commit the difference between a snapshot and the newest one to the tables that were derived from the former.

        Returns:
            Why tables must be written as a whole instead, by entity.
        """
        try:
            rows = self._executor.entity_rows(self._session, self._source, snapshot_id)
        except (
            DamagedError
        ) as error:  # a file of the former snapshot: if the newest one has it too, writing all rows fails too
            return dict.fromkeys(numbers, f"the snapshot that it was derived from cannot be read: {error.what}")
        if isinstance(rows, str):
            return dict.fromkeys(numbers, rows)
        failed = {}
        for number in numbers:
            if not self._commit_difference(number, rows):
                failed[number] = "its rows were not those of the snapshot that its state names"
        rows.close()
        return failed

    def rewrite(self, reasons: Mapping[int, str], unread: bool) -> None:
        """Write the whole tables of some entities, each in one commit. `unread`: as `lake.commit.Delta.replace_unread`."""
        if not reasons:
            return
        rows = self._executor.entity_rows(self._session, self._source, None)
        assert not isinstance(rows, str), "all rows of a snapshot are no difference"
        for number, reason in reasons.items():
            self._commit_whole(number, reason, unread, rows)
        rows.close()

    # --- commits

    def _commit_difference(self, number: int, rows: EntityRows) -> bool:
        """Commit what changed in one entity. Returns false, without a commit, if its rows are not those that its state says."""
        source, table = self._source, self._tables[number]
        known = EntityState.of(table) if table is not None else None
        assert table is not None and known is not None, "a table without a state is written as a whole"
        removed, found = rows.find_removed(number, table, known.schema)
        if found != removed:
            return False
        change = partial(_evolve, source, table, known.schema)
        schema = rows.fit(
            number, table, known.schema, recorded_rows(table), lambda new: _schema_after(Commit(table), change, new)
        )
        commit = self._lake.commit(table)
        change(commit, schema)
        added, deletes = rows.write(table, commit.transaction.table_metadata)
        result = EntityResult(
            table.name()[-1],
            source.rules[number].name,
            added=sum(file.record_count for file in added),
            deleted=removed,
            name_collisions=new_collisions(known.schema, schema),
            misfits=without_parts(rows.misfits, source.rules[number]),
        )
        self._run(number, commit, Delta(added=added, deletes=deletes), result, schema)
        return True

    def _commit_whole(self, number: int, reason: str, unread: bool, rows: EntityRows) -> None:
        """Commit all rows of one entity, in place of those that its table has."""
        source = self._source
        table = self._tables[number] or self._create(number)
        state = EntityState.of(table)
        former = state.schema if state is not None else TableSchema(())
        is_same = state is not None and state.definition == source.definition(number)
        names = former if is_same else first_schema(source.state.schema, source.rules[number])
        change = partial(_change_columns, source, table, former)
        schema = rows.fit(number, table, names, 0, lambda new: _schema_after(Commit(table), change, new))
        commit = self._lake.commit(table)
        change(commit, schema)
        added, _ = rows.write(table, commit.transaction.table_metadata)
        result = EntityResult(
            table.name()[-1],
            source.rules[number].name,
            added=sum(file.record_count for file in added),
            rewritten=reason,
            name_collisions=name_collisions(schema),
            misfits=without_parts(rows.misfits, source.rules[number]),
        )
        self._run(number, commit, Delta(added=added, replace_all=not unread, replace_unread=unread), result, schema)

    def _run(self, number: int, commit: Commit, delta: Delta, result: EntityResult, schema: TableSchema) -> None:
        """Commit rows and state of one entity, and note the result."""
        source, table = self._source, self._tables[number]
        commit.snapshot(replace(delta, summary={"ddb_lake.current-snapshot": str(source.snapshot_id)}))
        if delta.replace_unread and table is not None:
            forget_snapshots(commit, table)
        known = EntityState.of(table) if table is not None and result.rewritten is None else None
        before = KnownMisfits({}) if result.rewritten is not None else known.misfits if known is not None else None
        misfits = None if before is None else before.after(result.misfits, deletes=result.deleted > 0)
        commit.set_properties(replace(source.state_of(number, schema), misfits=misfits).properties())
        self._done[number] = replace(result, rows=live_files(commit.run()).rows)

    def _create(self, number: int) -> Table:
        """The table of an entity for its first commit, without columns of items."""
        source, entity = self._source, self._source.rules[number].name
        name = entity_table(source.settings.name, entity)
        properties = {"comment": f"Items of {source.settings.source_name} that are of the entity {entity}"}
        return self._lake.catalog.create(
            name, current_schema(TableSchema(()), source.keep_expired), properties=properties
        )


# --- columns


def _evolve(source: EntitySource, table: Table, former: TableSchema, commit: Commit, schema: TableSchema) -> None:
    """Stage new columns of a table."""
    evolve_table(commit, table.schema(), former, schema, source.keep_expired)


def _change_columns(
    source: EntitySource, table: Table, former: TableSchema, commit: Commit, schema: TableSchema
) -> None:
    """Stage the columns of a table that is written as a whole. A new definition may give a name to another attribute or part."""
    keep, names = source.keep_expired, former.names
    owners = {name.lower(): identity for identity, name in names.items()}
    if any(
        owners.get(c.name.lower(), c.identity) != c.identity or names.get(c.identity, c.name) != c.name
        for c in schema.columns
    ):
        evolve_table(commit, table.schema(), former, TableSchema(schema.key), keep)
        former = TableSchema(schema.key)
    evolve_table(commit, commit.transaction.table_metadata.schema(), former, schema, keep)


def _schema_after(commit: Commit, change: Callable[[Commit, TableSchema], None], schema: TableSchema) -> Schema:
    """The Iceberg schema, with its field ids, to which a change of columns leads."""
    change(commit, schema)
    return commit.transaction.table_metadata.schema()
