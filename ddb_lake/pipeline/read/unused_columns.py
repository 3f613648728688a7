"""Settings in `columns` of attributes that no item has: they have no effect, and may be misspelled. Reads metadata only."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import dataclass

from pyiceberg.table import Table

from ddb_lake.config.columns import column_types
from ddb_lake.core.layout.table_names import entity_table
from ddb_lake.core.schema.table_schema import TableSchema
from ddb_lake.lake.entity_state import EntityState
from ddb_lake.lake.scan import live_files
from ddb_lake.lake.state import CurrentState
from ddb_lake.pipeline.open_lake import Lake


@dataclass(frozen=True, slots=True)
class UnusedColumn:
    """A setting in `columns` without an effect.

    Attributes:
        table: the Iceberg table, of the table or of an entity.
        attribute: the attribute, or the part of the key, as the configuration has it.
        similar: an attribute of the table, or a part of the key, with a similar name; None if there is none.
    """

    table: str
    attribute: str
    similar: str | None = None

    def __str__(self) -> str:
        guess = "" if self.similar is None else f"; did you mean {self.similar!r}?"
        return f"{self.table}: no item has a value of {self.attribute!r}, which `columns` names{guess}"


def find_unused_columns(lake: Lake, name: str) -> tuple[UnusedColumn, ...]:
    """The settings in `columns` of a table and of its entities that no item uses. A table without rows has none.

    Raises:
        ConfigError: the table is not configured.
    """
    settings = lake.table(name)
    table = lake.current(name)
    found = (
        list(_unused(name, column_types(settings.columns), CurrentState.of(table).schema, table))
        if table is not None
        else []
    )
    for entity in settings.entities:
        full_name = entity_table(name, entity.name)
        table = lake.readable(full_name)
        state = EntityState.of(table) if table is not None else None
        if table is not None and state is not None:
            parts = entity.rule.parts
            found += _unused(
                full_name,
                [column for column in column_types(entity.columns) if column not in parts],
                state.schema,
                table,
                parts,
            )
    return tuple(found)


def _unused(
    full_name: str, columns: Iterable[str], schema: TableSchema, table: Table, parts: Iterable[str] = ()
) -> Iterable[UnusedColumn]:
    wanted = list(columns)
    if not wanted or not live_files(table).rows:
        return
    paths = [path for path, _ in schema.names]
    known = {".".join(path[:length]) for path in paths for length in range(1, len(path) + 1)}
    for attribute in wanted:
        if attribute not in known:
            similar = difflib.get_close_matches(attribute, [*parts, *sorted(known)], n=1)
            yield UnusedColumn(full_name, attribute, similar[0] if similar else None)
