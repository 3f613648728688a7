"""Compares the tables of entities with `current`, key by key, without regard to how they were kept up to date."""

from __future__ import annotations

from dataclasses import dataclass

from ddb_lake.core.layout.table_names import entity_table
from ddb_lake.core.schema.key_patterns import EntityRule, part_path
from ddb_lake.core.schema.table_schema import TableSchema
from ddb_lake.engine.entity_rows import check_rules, entity_number_sql
from ddb_lake.engine.key_text import key_text_sql
from ddb_lake.engine.session import Session
from ddb_lake.engine.sql import carried
from ddb_lake.lake.entity_state import EntityState
from ddb_lake.lake.scan import scan_table
from ddb_lake.lake.state import CurrentState
from ddb_lake.pipeline.merge.entity_source import entities_behind
from ddb_lake.pipeline.open_lake import Lake


@dataclass(frozen=True, slots=True)
class EntityComparison:
    """One entity compared with the newest snapshot of `current`.

    Attributes:
        entity: the entity's name.
        table: its Iceberg table.
        behind: whether its table was derived from an earlier snapshot, or by another definition. Differences are then no fault.
        expected: the items of `current` whose keys belong to the entity.
        rows: the living rows of the table; None if there is none.
        missing: items that the table does not have, or has of another version.
        extra: rows of items that `current` does not have in this entity, or has of another version.
        doubled: rows beyond the first of one key.
        unconverted: rows with a part of the key that is no value of its declared type, by the part.
    """

    entity: str
    table: str
    behind: bool
    expected: int
    rows: int | None
    missing: int = 0
    extra: int = 0
    doubled: int = 0
    unconverted: tuple[tuple[str, int], ...] = ()

    @property
    def differences(self) -> int:
        """The number of keys and rows that differ."""
        return self.missing + self.extra + self.doubled


@dataclass(frozen=True, slots=True)
class EntitiesComparison:
    """All entities of a table compared with `current`.

    Attributes:
        items: the items of `current`.
        in_none: those that belong to no entity.
        entities: each entity, in the order of the configuration.
    """

    items: int
    in_none: int
    entities: tuple[EntityComparison, ...]


def compare_entities(lake: Lake, name: str) -> EntitiesComparison | None:
    """Compare the tables of a table's entities with `current`; None if it has no entities or no `current`.

    Reads the keys of all rows.

    Raises:
        ConfigError: a pattern does not fit the key.
        DamagedError: a file of one of the tables is missing or damaged.
    """
    settings = lake.table(name)
    behind = set(entities_behind(lake, name))
    tables = [lake.readable(entity_table(name, entity.name)) for entity in settings.entities]
    current = lake.current(name)
    if current is None or not settings.entities:
        return None
    schema, rules = CurrentState.of(current).schema, tuple(entity.rule for entity in settings.entities)
    check_rules(schema, rules)
    with lake.session() as session:
        columns = f"{key_text_sql(schema)} AS _key, _changed_at, _source, {entity_number_sql(schema, rules)} AS _entity"
        session.keep("living_items", f"SELECT {columns} FROM {scan_table(current).sql()}")
        counts = dict(session.rows("SELECT _entity, count(*) FROM living_items GROUP BY 1"))
        compared = []
        for number, (rule, table) in enumerate(zip(rules, tables, strict=True)):
            full_name, is_behind = entity_table(name, rule.name), rule.name in behind
            expected = counts.get(number, 0)
            state = EntityState.of(table) if table is not None else None
            if table is None or state is None:
                compared.append(EntityComparison(rule.name, full_name, is_behind, expected, None, missing=expected))
                continue
            rows = scan_table(table).sql()
            session.keep(
                "entity_keys", f"SELECT {key_text_sql(state.schema)} AS _key, _changed_at, _source FROM {rows}"
            )
            compared.append(
                EntityComparison(
                    rule.name,
                    full_name,
                    is_behind,
                    expected,
                    *_differences(session, number),
                    unconverted=_unconverted(session, rows, state.schema, rule),
                )
            )
    return EntitiesComparison(sum(counts.values()), counts.get(None, 0), tuple(compared))


def _differences(session: Session, number: int) -> tuple[int, int, int, int]:
    """The rows of `entity_keys`, and how many are missing, extra and doubled, by `living_items`."""
    living = f"(SELECT * FROM living_items WHERE _entity = {number})"
    same = "a._key = b._key AND a._changed_at = b._changed_at AND a._source = b._source"
    rows, keys = session.rows("SELECT count(*), count(DISTINCT _key) FROM entity_keys")[0]
    missing = session.value(f"SELECT count(*) FROM {living} a ANTI JOIN entity_keys b ON {same}")
    extra = session.value(f"SELECT count(*) FROM entity_keys a ANTI JOIN {living} b ON {same}")
    return rows, missing, extra, rows - keys


def _unconverted(session: Session, rows: str, schema: TableSchema, rule: EntityRule) -> tuple[tuple[str, int], ...]:
    """The rows with a part that is no value of its declared type. A part has a character at least, so its column is NULL only then."""
    found = []
    for part, kind in rule.types.items():
        if kind != "string":
            column = schema.column(part_path(part))
            missing = "true" if column is None else f"{carried(column.name)} IS NULL"
            count = session.value(f"SELECT count(*) FROM {rows} WHERE {missing}")
            found += [(part, count)] if count else []
    return tuple(found)
