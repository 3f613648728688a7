"""Keeps the Iceberg tables of entities equal to the rows of `current` that belong to them.

An entity's table is derived from one snapshot of `current`, which its state names. `update_entities` reads the rows in which that
snapshot and the newest one differ (`lake.snapshot_diff`), and commits rows, deleted positions and the new snapshot's id in one commit.
So it does not matter by what `current` changed: changes, a repair, Time to Live, another base, compaction, or a commit that
another process made. Every step that commits to `current` calls `update_entities`; what a killed step left is done by the next.

The whole table is written again, in one commit, if the difference does not lead to its rows: the definition of its entity or of one
before it has changed, `current` has another base or was rebuilt, a column of `current` has another type, or the snapshot has expired.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import orjson
from pyiceberg.table import Table

from ddb_lake.config import TableSettings
from ddb_lake.core.layout.table_names import entity_table
from ddb_lake.core.operations.retry_policy import retry_commit
from ddb_lake.core.schema.key_patterns import EntityRule, part_path
from ddb_lake.core.schema.table_schema import (
    Column,
    NameCollision,
    SchemaOptions,
    TableSchema,
    name_collisions,
    new_collisions,
)
from ddb_lake.engine.entity_rows import (
    ROW_COLUMNS,
    check_rules,
    divided_rows_sql,
    entity_items_sql,
    keyed_entities_sql,
)
from ddb_lake.engine.inverse_projection import register_complete
from ddb_lake.engine.key_text import key_text_sql
from ddb_lake.engine.projection import Projection
from ddb_lake.engine.schema_fitting import SAMPLE_ROWS, SessionProjection, extend_schema, fit_schema, guess
from ddb_lake.engine.session import Session
from ddb_lake.engine.sql import carried, literal
from ddb_lake.errors import CheckFailed, DamagedError
from ddb_lake.lake.commit import Commit, Delta
from ddb_lake.lake.entity_state import EntityState
from ddb_lake.lake.file_writer import FileWriter, sorted_if_it_fits
from ddb_lake.lake.replacement import forget_snapshots
from ddb_lake.lake.scan import live_files, recorded_rows, scan_table
from ddb_lake.lake.schema_evolution import evolve_table
from ddb_lake.lake.schemas import current_schema
from ddb_lake.lake.snapshot_diff import diff_snapshots
from ddb_lake.pipeline.merge.entity_source import EntitySource, entity_tables
from ddb_lake.pipeline.merge.local_merge import SAMPLE_BYTES
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
    """

    table: str
    entity: str
    rows: int = 0
    added: int = 0
    deleted: int = 0
    rewritten: str | None = None
    name_collisions: tuple[NameCollision, ...] = ()


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
        CheckFailed: an attribute has the name of a part of the key in braces.
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
        register_complete(session)
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
        self._tables, self._done = tables, done

    def follow(self, snapshot_id: int, numbers: Sequence[int]) -> dict[int, str]:
        """Commit the difference between a snapshot and the newest one to the tables that were derived from the former.

        Returns:
            Why tables must be written as a whole instead, by entity.
        """
        source, session = self._source, self._session
        try:
            diff = diff_snapshots(session, source.table, snapshot_id, source.snapshot_id)
        except (
            DamagedError
        ) as error:  # a file of the former snapshot: if the newest one has it too, writing all rows fails too
            return dict.fromkeys(numbers, f"the snapshot that it was derived from cannot be read: {error.what}")
        if diff is None:
            return dict.fromkeys(numbers, "columns of current have other types")
        schema, rules = source.state.schema, source.rules
        session.keep("entity_removed", f"SELECT * FROM {keyed_entities_sql(diff.removed, schema, rules)}")
        self._check_names(diff.added)
        divided = divided_rows_sql(diff.added, schema, rules, source.keep_expired)
        session.keep("entity_added", f"SELECT * FROM {divided}", text="item")
        failed = {}
        for number in numbers:
            if not self._commit_difference(number):
                failed[number] = "its rows were not those of the snapshot that its state names"
        return failed

    def rewrite(self, reasons: Mapping[int, str], unread: bool) -> None:
        """Write the whole tables of some entities, each in one commit. `unread`: as `lake.commit.Delta.replace_unread`."""
        if not reasons:
            return
        source, session = self._source, self._session
        scan = scan_table(source.table, source.snapshot_id)
        self._check_names(scan.sql())
        divided = divided_rows_sql(scan.sql(), source.state.schema, source.rules, source.keep_expired)
        session.con.execute(f"CREATE OR REPLACE VIEW entity_rows_of_current AS SELECT * FROM {divided}")
        for number, reason in reasons.items():
            self._commit_whole(number, reason, unread)

    def _check_names(self, rows: str) -> None:
        """Raise CheckFailed if an attribute has the name under which a part of the key is in an entity's items."""
        source = self._source
        columns = {column.path[0] for column in source.state.schema.columns}
        for rule in source.rules:
            for (name,) in map(part_path, rule.parts):
                if name in columns or self._session.value(f"SELECT count(*) FROM {rows} WHERE {_rescues(name)}"):
                    raise CheckFailed(
                        f"an item has an attribute {name!r}, as entity {rule.name!r} spells a part of the key; the tables of"
                        " entities were not updated. Give the part another name",
                        table=source.settings.name,
                    )

    # --- commits

    def _commit_difference(self, number: int) -> bool:
        """Commit what changed in one entity. Returns false, without a commit, if its rows are not those that its state says."""
        source, session, table = self._source, self._session, self._tables[number]
        known = EntityState.of(table) if table is not None else None
        assert table is not None and known is not None, "a table without a state is written as a whole"
        removed = f"SELECT _key, _key_hash FROM entity_removed WHERE _entity = {number}"
        expected = session.value(f"SELECT count(*) FROM ({removed})")
        if expected:
            keyed = (
                f"SELECT h._file_path AS file_path, h._pos AS pos, {key_text_sql(known.schema)} AS _key"
                f" FROM {scan_table(table).sql(positions=True)} h SEMI JOIN ({removed}) k ON k._key_hash = h._key_hash"
            )
            session.keep(
                "entity_positions", f"SELECT file_path, pos FROM ({keyed}) r SEMI JOIN ({removed}) w ON w._key = r._key"
            )
            if session.value("SELECT count(*) FROM entity_positions") != expected:
                return False
        items, row_bytes = self._items("entity_added", number)
        schema, projection = known.schema, self._projection(number, items)
        if row_bytes:
            policy = self._source.settings.schema_evolution
            policy = "add_columns" if policy == "fail" else policy
            schema = extend_schema(schema, policy, projection, recorded_rows(table))
        commit = self._lake.commit(table)
        evolve_table(commit, table.schema(), known.schema, schema, source.keep_expired)
        metadata = commit.transaction.table_metadata
        writer = FileWriter.for_table(session.con, table, metadata)
        rows = f"SELECT * FROM {projection.relation}"
        added = writer.write(rows, metadata, split=True, row_bytes=row_bytes) if row_bytes else []
        deletes = writer.write_deletes_by_file("entity_positions") if expected else []
        result = EntityResult(
            table.name()[-1],
            source.rules[number].name,
            added=sum(file.record_count for file in added),
            deleted=expected,
            name_collisions=new_collisions(known.schema, schema),
        )
        self._run(number, commit, Delta(added=added, deletes=deletes), result, schema)
        return True

    def _commit_whole(self, number: int, reason: str, unread: bool) -> None:
        """Commit all rows of one entity, in place of those that its table has."""
        source, session = self._source, self._session
        table = self._tables[number] or self._create(number)
        state = EntityState.of(table)
        former = state.schema if state is not None else TableSchema(())
        is_same = state is not None and state.definition == source.definition(number)
        names = former if is_same else first_schema(source.state.schema, source.rules[number])
        items, row_bytes = self._items("entity_rows_of_current", number)
        projection = self._projection(number, items)
        schema = _fit(session, names, projection, items, row_bytes)
        commit = self._lake.commit(table)
        self._change_columns(commit, table, former, schema)
        metadata = commit.transaction.table_metadata
        writer = FileWriter.for_table(session.con, table, metadata)
        key = ", ".join(carried(c.name) for c in schema.columns if c.path in {(k,) for k in schema.key})
        rows = f"SELECT * FROM {projection.relation}"
        paths = sorted_if_it_fits(
            session, key, lambda order: writer.write_paths(rows + order, split=True, row_bytes=row_bytes), row_bytes
        )
        added = writer.entries(paths, metadata)
        result = EntityResult(
            table.name()[-1],
            source.rules[number].name,
            added=sum(file.record_count for file in added),
            rewritten=reason,
            name_collisions=name_collisions(schema),
        )
        self._run(number, commit, Delta(added=added, replace_all=not unread, replace_unread=unread), result, schema)

    def _run(self, number: int, commit: Commit, delta: Delta, result: EntityResult, schema: TableSchema) -> None:
        """Commit rows and state of one entity, and note the result."""
        source, table = self._source, self._tables[number]
        commit.snapshot(replace(delta, summary={"ddb_lake.current-snapshot": str(source.snapshot_id)}))
        if delta.replace_unread and table is not None:
            forget_snapshots(commit, table)
        commit.set_properties(source.state_of(number, schema).properties())
        self._done[number] = replace(result, rows=live_files(commit.run()).rows)

    def _create(self, number: int) -> Table:
        """The table of an entity for its first commit, without columns of items."""
        source, entity = self._source, self._source.rules[number].name
        name = entity_table(source.settings.name, entity)
        properties = {"comment": f"Items of {source.settings.source_name} that are of the entity {entity}"}
        return self._lake.catalog.create(
            name, current_schema(TableSchema(()), source.keep_expired), properties=properties
        )

    def _change_columns(self, commit: Commit, table: Table, former: TableSchema, schema: TableSchema) -> None:
        """Stage the columns of a table that is written as a whole. A new definition may give a name to another attribute or part."""
        keep, names = self._source.keep_expired, former.names
        owners = {name.lower(): identity for identity, name in names.items()}
        if any(
            owners.get(c.name.lower(), c.identity) != c.identity or names.get(c.identity, c.name) != c.name
            for c in schema.columns
        ):
            evolve_table(commit, table.schema(), former, TableSchema(schema.key), keep)
            former = TableSchema(schema.key)
        evolve_table(commit, commit.transaction.table_metadata.schema(), former, schema, keep)

    # --- rows

    def _items(self, divided: str, number: int) -> tuple[str, int]:
        source = self._source
        return _stage_items(self._session, entity_items_sql(divided, source.state.schema.key, source.rules, number))

    def _projection(self, number: int, items: str) -> SessionProjection:
        settings = self._source.settings
        return _projection(self._session, settings.entity_options(settings.entities[number]), items)


# --- rows of one entity


def _rescues(name: str) -> str:
    """SQL condition: `_rescued` has a value of an attribute, or of a member of it. `name`: has neither `~` nor `/`."""
    is_of_it = f"k = {literal(f'/{name}')} OR starts_with(k, {literal(f'/{name}/')})"
    return (
        f"contains(_rescued, {literal(f'/{name}')})"  # quick, and true for texts that contain it, too
        f" AND len(list_filter(json_keys(_rescued), lambda k: {is_of_it})) > 0"
    )


def past_entity(lake: Lake, session: Session, name: str, number: int, rows: tuple[TableSchema, str]) -> str:
    """The rows of an entity among rows of its table, in typed columns, which have the names that they have in its table.

    Args:
        lake: the open lake.
        session: the session of the rows.
        name: the table.
        number: the position of the entity in the configuration.
        rows: the columns of the table, and a relation of its rows.

    Returns:
        The name of a relation of the session.
    """
    settings, (schema, relation) = lake.table(name), rows
    rules = tuple(entity.rule for entity in settings.entities)
    check_rules(schema, rules)
    register_complete(session)
    divided = divided_rows_sql(relation, schema, rules, settings.ttl_deletes == "keep")
    items, row_bytes = _stage_items(session, entity_items_sql(divided, schema.key, rules, number))
    table = lake.readable(entity_table(name, rules[number].name))
    state = EntityState.of(table) if table is not None else None
    names = state.schema if state is not None else first_schema(schema, rules[number])
    projection = _projection(session, settings.entity_options(settings.entities[number]), items)
    _fit(session, names, projection, items, row_bytes)
    return projection.relation


def _stage_items(session: Session, items: str) -> tuple[str, int]:
    """Write items of one entity into the work folder. Returns the relation and the mean length of an item; 0 without items."""
    session.keep("entity_items", f"SELECT * FROM {items}", text="item")
    mean = session.value("SELECT avg(strlen(item))::BIGINT FROM (SELECT item FROM entity_items LIMIT 1000)")
    return "entity_items", int(mean or 0)


def _projection(session: Session, options: SchemaOptions, items: str) -> SessionProjection:
    def project(projection: Projection) -> str:
        session.keep("entity_projected", projection.select(items, ROW_COLUMNS))
        return "entity_projected"

    return SessionProjection(session, options, project)


def _fit(
    session: Session, names: TableSchema, projection: SessionProjection, items: str, row_bytes: int
) -> TableSchema:
    """Project the items onto the columns that fit them, and return the columns. `names`: columns whose names are kept."""
    most = max(1, min(SAMPLE_ROWS, SAMPLE_BYTES // max(1, row_bytes)))
    sample = session.rows(f"SELECT item FROM {items} LIMIT {most}")
    first, nulls = guess((orjson.loads(item) for (item,) in sample), names, projection.options)
    return fit_schema(first, names, nulls, projection)


def first_schema(table: TableSchema, rule: EntityRule) -> TableSchema:
    """The columns of an entity's table before its first item: those of the key, and of the parts of the key.

    They have their names already. So if an attribute of an item needs the name of a part, the attribute's column has a suffix.
    `table`: the columns of `current`.
    """
    columns = [column for column in table.columns if column.path in {(name,) for name in table.key}]
    for part in rule.parts:
        kind = rule.types.get(part, "string")
        columns.append(Column(part_path(part), "S" if kind == "string" else "N", part, kind))
    return TableSchema(table.key, tuple(columns))
