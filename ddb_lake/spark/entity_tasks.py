"""Tasks that divide rows of `current` into entities: write the rows that the tables get, find those that they lose.

Each task is a dataclass that is pickled, and a function that a worker calls with it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import orjson
from pyiceberg.schema import Schema

from ddb_lake.core.schema.inference import Inference
from ddb_lake.core.schema.key_patterns import EntityRule
from ddb_lake.core.schema.table_schema import Path, SchemaOptions, TableSchema
from ddb_lake.engine.entity_rows import (
    ROW_COLUMNS,
    divided_rows_sql,
    entity_items_sql,
    keyed_entities_sql,
    positions_sql,
    register_entity_functions,
)
from ddb_lake.engine.misfits import unheld_values
from ddb_lake.engine.projection import Projection
from ddb_lake.engine.session import Session, with_memory
from ddb_lake.engine.sql import carried
from ddb_lake.lake.file_writer import FileWriter, sorted_if_it_fits
from ddb_lake.lake.scan import TableScan
from ddb_lake.spark.access import TableAccess
from ddb_lake.spark.export_tasks import Written, describe_written
from ddb_lake.spark.scratch import BUCKET, ScratchFolder, ScratchRows, write_buckets

KEYS = {"_key": "VARCHAR", "_key_hash": "BIGINT"}
"""The columns of removed keys in scratch files. Their bucket is the number of the entity."""

_SCRATCH_ROWS = 100_000
"""Rows that pass to a scratch file at once."""

_SAMPLE_BATCH = 100


@dataclass(frozen=True, slots=True)
class EntityPart:
    """Some rows of `current`, and how they are divided.

    Attributes:
        rows: the rows, as SQL.
        schema: the columns of their items.
        rules: the entities.
        keep_expired: whether the rows have `_expired_at`.
    """

    rows: str
    schema: TableSchema
    rules: tuple[EntityRule, ...]
    keep_expired: bool

    def items_sql(self, number: int) -> str:
        """`engine.entity_rows.entity_items_sql` of an entity, by the position in `rules`."""
        divided = divided_rows_sql(self.rows, self.schema, self.rules, self.keep_expired)
        return entity_items_sql(divided, self.schema.key, self.rules, number)


@dataclass(frozen=True, slots=True)
class SampleEntity:
    """Look at some items of an entity.

    Attributes:
        access: how the task reaches files.
        part: the rows.
        number: the entity, by its position in the rules.
        options: how its attributes become columns.
        items: the most items.
        size: no more items are read when these have as many bytes.
    """

    access: TableAccess
    part: EntityPart
    number: int
    options: SchemaOptions
    items: int
    size: int


@dataclass(frozen=True, slots=True)
class WriteEntity:
    """Write the items of an entity among some rows.

    Attributes:
        access: how the task reaches the files of the entity's table.
        part: the rows.
        number: the entity, by its position in the rules.
        options: how its attributes become columns.
        schema: its columns.
        nulls: the paths where NULL values are expected.
        iceberg: the Iceberg schema of its table.
        is_sorted: whether to sort the rows by the key, if sorting fits in memory.
    """

    access: TableAccess
    part: EntityPart
    number: int
    options: SchemaOptions
    schema: TableSchema
    nulls: frozenset[Path]
    iceberg: Schema
    is_sorted: bool


@dataclass(frozen=True, slots=True)
class ScanRemoved:
    """Write the keys of some rows by entity."""

    access: TableAccess
    scratch: ScratchFolder
    part: EntityPart


@dataclass(frozen=True, slots=True)
class FindPositions:
    """Find the rows that an entity loses, among those of some files of its table.

    Attributes:
        access: how the task reaches files.
        scratch: the folder for the positions.
        scan: a scan of the files.
        schema: the columns of the table.
        removed: the removed keys of all entities.
        number: the entity.
        delete_parts: the number of buckets of the positions.
    """

    access: TableAccess
    scratch: ScratchFolder
    scan: TableScan
    schema: TableSchema
    removed: ScratchRows
    number: int
    delete_parts: int


def sample_entity(task: SampleEntity) -> Inference:
    """What columns some of the items need."""
    seen, left = Inference(task.options), task.size
    with task.access.session() as session:
        register_entity_functions(session)
        cursor = session.con.execute(f"SELECT item FROM {task.part.items_sql(task.number)} LIMIT {task.items}")
        while left > 0 and (batch := cursor.fetchmany(_SAMPLE_BATCH)):
            for (item,) in batch:
                seen.observe(orjson.loads(item))
                left -= len(item)
    return seen


def write_entity(task: WriteEntity) -> Written:
    """Project the items, and write them."""
    access = task.access
    with access.session() as session:
        register_entity_functions(session)
        session.keep("entity_items", f"SELECT * FROM {task.part.items_sql(task.number)}", text="item")
        size = session.value("SELECT avg(strlen(item))::BIGINT FROM (SELECT item FROM entity_items LIMIT 1000)") or 0
        projection = Projection(task.schema, task.nulls)
        projection.register(session.con)
        session.keep("entity_projected", projection.select("entity_items", ROW_COLUMNS))
        writer = FileWriter(session.con, access.io, access.location, task.iceberg)

        def write(order: str) -> list[str]:
            return writer.write_paths(f"SELECT * FROM entity_projected{order}", split=True, row_bytes=size)

        if task.is_sorted:
            key = ", ".join(carried(column.name) for column in task.schema.key_columns)
            paths = sorted_if_it_fits(session, key, write, size)
        else:
            paths = with_memory(session, lambda: write(""))
        unheld = unheld_values(session, "entity_projected", task.schema.columns)
        return replace(describe_written(session, paths, task.schema, task.iceberg, task.options), unheld=unheld)


def scan_removed(task: ScanRemoved) -> tuple[str | None, dict[int, int]]:
    """Write the keys. Returns the name of the file, None if no row is of an entity; and the number of keys of each entity."""
    part = task.part
    with task.access.session() as session:
        keyed = keyed_entities_sql(part.rows, part.schema, part.rules)
        session.keep("removed", f"SELECT *, _entity AS {BUCKET} FROM {keyed} WHERE _entity IS NOT NULL")
        counts = dict(session.rows("SELECT _entity, count(*) FROM removed GROUP BY 1"))
        return _written(session, f"SELECT {', '.join(KEYS)}, {BUCKET} FROM removed", task.scratch), counts


def find_positions(task: FindPositions) -> tuple[str | None, int]:
    """Write the positions. Returns the name of the file, None if there are none; and their number."""
    with task.access.session() as session:
        removed = task.removed.sql(KEYS, task.number)
        session.keep("positions", positions_sql(task.scan.sql(positions=True), task.schema, removed))
        bucket = f"(md5_number(file_path) % {task.delete_parts})::INTEGER AS {BUCKET}"
        found: int = session.value("SELECT count(*) FROM positions")
        return _written(session, f"SELECT file_path, pos, {bucket} FROM positions", task.scratch), found


def _written(session: Session, query: str, scratch: ScratchFolder) -> str | None:
    rows: Any = session.con.sql(query)
    return write_buckets(rows.to_arrow_reader(_SCRATCH_ROWS), scratch)
