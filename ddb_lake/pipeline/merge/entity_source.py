"""What the tables of entities are derived from: the snapshot of `current`, and the definitions. Reads metadata only."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pyiceberg.table import Table

from ddb_lake.config import TableSettings
from ddb_lake.core.layout.table_names import entity_table
from ddb_lake.core.schema.key_patterns import EntityRule, part_path
from ddb_lake.core.schema.table_schema import Column, SchemaOptions, TableSchema
from ddb_lake.errors import DamagedError
from ddb_lake.lake.commit import check_newest_commit
from ddb_lake.lake.entity_state import EntityState
from ddb_lake.lake.state import CurrentState
from ddb_lake.pipeline.open_lake import Lake

if TYPE_CHECKING:  # `ddb-lake status` reads metadata only, and needs no DuckDB
    from ddb_lake.engine.schema_fitting import Policy

OTHER_TYPES = "columns of current have other types"
"""Why the difference of two snapshots does not lead to the rows of entities."""


def entities_behind(lake: Lake, name: str) -> tuple[str, ...]:
    """The entities whose tables are not derived from the newest snapshot of `current`, or by another definition."""
    settings = lake.table(name)
    if not settings.entities:
        return ()
    tables = entity_tables(lake, settings)
    current = lake.current(name)
    if current is None:
        return ()
    source = EntitySource.of(settings, current)
    return tuple(
        entity.name
        for number, entity in enumerate(settings.entities)
        if not source.is_up_to_date(tables[number], number)
    )


@dataclass(frozen=True, slots=True)
class EntitySource:
    """`current` as one attempt reads it, and the entities into which it is divided."""

    settings: TableSettings
    table: Table
    state: CurrentState
    snapshot_id: int
    rules: tuple[EntityRule, ...]

    @classmethod
    def of(cls, settings: TableSettings, table: Table) -> EntitySource:
        """The newest snapshot of `current`, which has one. Raises DamagedError if another tool rolled it back."""
        snapshot = table.current_snapshot()
        assert snapshot is not None, "Lake.current has a commit"
        rules = tuple(entity.rule for entity in settings.entities)
        return cls(settings, table, CurrentState.of(table), snapshot.snapshot_id, rules)

    @property
    def keep_expired(self) -> bool:
        """Whether `current` has the column `_expired_at`."""
        return any(field.name == "_expired_at" for field in self.table.schema().fields)

    @property
    def policy(self) -> Policy:
        """What new attributes do to the tables of entities: if they fail, they have failed to come into `current`."""
        policy: Policy = self.settings.schema_evolution
        return "add_columns" if policy == "fail" else policy

    def options(self, number: int) -> SchemaOptions:
        """How the attributes of an entity become columns."""
        return self.settings.entity_options(self.settings.entities[number])

    def state_of(self, number: int, schema: TableSchema) -> EntityState:
        """The state of an entity's table that has the rows of this snapshot."""
        base = self.state.base
        return EntityState(
            schema,
            str(self.table.metadata.table_uuid),
            self.snapshot_id,
            base.export_id if base else None,
            self.definition(number),
        )

    def definition(self, number: int) -> str:
        """A digest of all that decides which rows an entity has and which columns they have, apart from the rows of `current`."""
        entities = self.settings.entities[: number + 1]
        options = self.settings.entity_options(entities[-1])
        document = [
            [[entity.name, sorted(entity.key.items())] for entity in entities],
            [options.nested, options.depth, sorted(options.overrides.items())],
            [list(self.state.schema.key), self.keep_expired],
        ]
        return hashlib.sha256(json.dumps(document).encode()).hexdigest()[:16]

    def is_up_to_date(self, table: Table | None, number: int) -> bool:
        """Whether an entity's table has the rows of this snapshot."""
        state = EntityState.of(table) if table is not None else None
        return (
            table is not None
            and state is not None
            and state == self.state_of(number, state.schema)
            and _is_newest(table)
        )

    def reason_to_rewrite(self, table: Table | None, number: int) -> str | None:
        """Why the difference of the snapshots does not lead to the rows of an entity; None if it does, as far as the states say."""
        state = EntityState.of(table) if table is not None and table.current_snapshot() is not None else None
        if table is None or state is None:
            return "it is new"
        wanted = self.state_of(number, state.schema)
        if state.definition != wanted.definition:
            return "its definition has changed"
        if state.current != wanted.current or self.table.snapshot_by_id(state.snapshot_id) is None:
            return "the snapshot of current that it was derived from has expired"
        if state.base != wanted.base:
            return "current has another base"
        return None if _is_newest(table) else "another tool rolled it back"


def _is_newest(table: Table) -> bool:
    try:
        check_newest_commit(table)
    except DamagedError:
        return False
    return True


def entity_tables(lake: Lake, settings: TableSettings) -> list[Table | None]:
    """The tables of the entities. They are loaded before `current`, which is then no older than what they were derived from."""
    return [lake.catalog.table(entity_table(settings.name, entity.name)) for entity in settings.entities]


def first_schema(table: TableSchema, rule: EntityRule) -> TableSchema:
    """The columns of an entity's table before its first item: those of the key, and of the parts of the key.

    They have their names already. So if an attribute of an item needs the name of a part, the attribute's column has a suffix.
    `table`: the columns of `current`.
    """
    columns = [*table.key_columns]
    for part in rule.parts:
        kind = rule.types.get(part, "string")
        columns.append(Column(part_path(part), "S" if kind == "string" else "N", part, kind))
    return TableSchema(table.key, tuple(columns))
