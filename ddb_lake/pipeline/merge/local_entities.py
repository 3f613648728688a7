"""The rows of entities that this process adds and removes, in one DuckDB session (`pipeline.executor.EntityRows`)."""

from __future__ import annotations

from collections.abc import Callable

import orjson
from pyiceberg.manifest import DataFile
from pyiceberg.schema import Schema
from pyiceberg.table import Table
from pyiceberg.table.metadata import TableMetadata

from ddb_lake.core.layout.table_names import entity_table
from ddb_lake.core.schema.misfits import Misfit
from ddb_lake.core.schema.table_schema import SchemaOptions, TableSchema
from ddb_lake.engine.entity_rows import (
    ROW_COLUMNS,
    check_rules,
    divided_rows_sql,
    entity_items_sql,
    keyed_entities_sql,
    positions_sql,
    register_entity_functions,
)
from ddb_lake.engine.misfits import count_misfits
from ddb_lake.engine.projection import Projection
from ddb_lake.engine.schema_fitting import SAMPLE_ROWS, SessionProjection, extend_schema, fit_schema, guess
from ddb_lake.engine.session import Session
from ddb_lake.engine.sql import carried
from ddb_lake.lake.entity_state import EntityState
from ddb_lake.lake.file_writer import FileWriter, sorted_if_it_fits
from ddb_lake.lake.scan import scan_table
from ddb_lake.lake.snapshot_diff import diff_snapshots
from ddb_lake.pipeline.merge.entity_source import OTHER_TYPES, EntitySource, first_schema
from ddb_lake.pipeline.merge.local_merge import SAMPLE_BYTES
from ddb_lake.pipeline.open_lake import Lake


class LocalEntityRows:
    """Rows in the step's session.

    Args:
        session: the session.
        source: `current`, and its entities.
        added: a relation of rows of `current`.
        removed: the same of rows to delete; None if the tables are written as a whole.
    """

    def __init__(self, session: Session, source: EntitySource, added: str, removed: str | None) -> None:
        self._session, self._source = session, source
        self._is_whole = removed is None
        self._expected = self._row_bytes = 0
        self._projected, self._schema = "", TableSchema(())
        register_entity_functions(session)
        schema, rules = source.state.schema, source.rules
        divided = f"SELECT * FROM {divided_rows_sql(added, schema, rules, source.keep_expired)}"
        if removed is None:
            session.con.execute(f"CREATE OR REPLACE VIEW entity_added AS {divided}")
        else:
            session.keep("entity_removed", f"SELECT * FROM {keyed_entities_sql(removed, schema, rules)}")
            session.keep("entity_added", divided, text="item")

    @classmethod
    def of(cls, session: Session, source: EntitySource, since: int | None) -> LocalEntityRows | str:
        """As `pipeline.executor.Executor.entity_rows`."""
        if since is None:
            return cls(session, source, scan_table(source.table, source.snapshot_id).sql(), None)
        diff = diff_snapshots(session, source.table, since, source.snapshot_id)
        return cls(session, source, diff.added, diff.removed) if diff is not None else OTHER_TYPES

    @property
    def misfits(self) -> tuple[Misfit, ...]:
        """Read the projected items."""
        return count_misfits(self._session, self._projected, self._schema.columns) if self._row_bytes else ()

    def find_removed(self, number: int, table: Table, schema: TableSchema) -> tuple[int, int]:
        """Join the table with the removed keys."""
        session, removed = self._session, f"(SELECT _key, _key_hash FROM entity_removed WHERE _entity = {number})"
        self._expected = session.value(f"SELECT count(*) FROM {removed}")
        if not self._expected:
            return 0, 0
        rows = scan_table(table).sql(positions=True)
        session.keep("entity_positions", positions_sql(rows, schema, removed))
        return self._expected, session.value("SELECT count(*) FROM entity_positions")

    def fit(
        self,
        number: int,
        table: Table,  # noqa: ARG002
        names: TableSchema,
        rows: int,
        iceberg: Callable[[TableSchema], Schema],  # noqa: ARG002
    ) -> TableSchema:
        """Project the items in the session. Field ids are needed only when rows are written."""
        source, session = self._source, self._session
        items, self._row_bytes = _stage_items(
            session, entity_items_sql("entity_added", source.state.schema.key, source.rules, number)
        )
        projection = _projection(session, source.options(number), items)
        if self._is_whole:
            schema = _fit(session, names, projection, items, self._row_bytes)
        else:
            schema = extend_schema(names, source.policy, projection, rows) if self._row_bytes else names
        self._projected, self._schema = projection.relation, schema
        return schema

    def write(self, table: Table, metadata: TableMetadata) -> tuple[list[DataFile], list[DataFile]]:
        """Write the projected items, and the positions that were found."""
        writer = FileWriter.for_table(self._session.con, table, metadata)
        rows, size = f"SELECT * FROM {self._projected}", self._row_bytes
        if self._is_whole:
            key = ", ".join(carried(c.name) for c in self._schema.key_columns)
            paths = sorted_if_it_fits(
                self._session, key, lambda order: writer.write_paths(rows + order, split=True, row_bytes=size), size
            )
            return writer.entries(paths, metadata), []
        added = writer.write(rows, metadata, split=True, row_bytes=size) if size else []
        return added, writer.write_deletes_by_file("entity_positions") if self._expected else []

    def close(self) -> None:
        """Do nothing: the rows are deleted with the session."""


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
    register_entity_functions(session)
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
