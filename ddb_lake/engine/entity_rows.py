"""Divides the rows of `current` into entities by their keys, in SQL: what `core.schema.key_patterns` does for one key.

An entity's item is the whole item with a member `{name}` for each part of the key, so parts become columns as attributes do. An
attribute that is spelled like a part has one more brace there (`core.schema.key_patterns.beside_parts`). A part
whose declared type is a number is a number, or NULL if its text is none: the text is in the column of the key.
"""

from __future__ import annotations

import json
from collections.abc import Sequence

import orjson

from ddb_lake.core.schema.key_patterns import EntityRule, beside_parts, is_named_as_key, part_path
from ddb_lake.core.schema.table_schema import TableSchema
from ddb_lake.engine.inverse_projection import register_complete, whole_item_sql
from ddb_lake.engine.key_text import key_text_sql, key_value_sql
from ddb_lake.engine.session import Session
from ddb_lake.engine.sql import identifier, literal
from ddb_lake.errors import ConfigError

ROW_COLUMNS = ("_changed_at", "_source", "_key_hash", "_expired_at")
"""The columns of `current` that rows of entities have too, besides those of the item."""


def check_rules(schema: TableSchema, rules: Sequence[EntityRule]) -> None:
    """Raise ConfigError if a pattern does not fit the key: it names no attribute of the key, or describes the text of a binary one,
    or a part has the name of a key attribute's column."""
    for rule in rules:
        for part in rule.parts:
            if is_named_as_key(part, schema.key):
                raise ConfigError(
                    f"entity {rule.name!r}: {part!r} is a part of the key and a key attribute: rename the part"
                )
        for name, pattern in rule.patterns.items():
            if name not in schema.key:
                raise ConfigError(
                    f"entity {rule.name!r}: {name!r} is no key attribute; the key is {', '.join(schema.key)}"
                )
            column = schema.column((name,))
            if column is not None and column.tag == "B" and not pattern.is_any:
                raise ConfigError(
                    f"entity {rule.name!r}: the key attribute {name!r} is binary, which only the pattern * matches"
                )


def entity_number_sql(schema: TableSchema, rules: Sequence[EntityRule]) -> str:
    """SQL of the position in `rules` of the entity to which a row belongs; NULL if it belongs to none."""
    cases = " ".join(f"WHEN {_matches(schema, rule)} THEN {number}" for number, rule in enumerate(rules))
    return f"(CASE {cases} END)::INTEGER" if rules else "NULL::INTEGER"


def _matches(schema: TableSchema, rule: EntityRule) -> str:
    conditions = [
        f"regexp_matches({key_value_sql(schema, name)}, {literal(pattern.re2)})"
        for name, pattern in rule.patterns.items()
        if not pattern.is_any
    ]
    return " AND ".join(conditions) or "true"


def divided_rows_sql(rows: str, schema: TableSchema, rules: Sequence[EntityRule], keep_expired: bool) -> str:
    """A relation of rows of `current` with `item`, `_key`, `_entity` (`entity_number_sql`), `_value_<n>` (the text of the n-th key
    attribute) and `ROW_COLUMNS`.

    Args:
        rows: the rows, with the columns of `schema`.
        schema: the columns of the table.
        rules: the entities.
        keep_expired: whether the rows have `_expired_at`.
    """
    expired = "_expired_at" if keep_expired else "NULL::TIMESTAMP AS _expired_at"
    values = "".join(f", {key_value_sql(schema, name)} AS {_value(n)}" for n, name in enumerate(schema.key))
    return (
        f"(SELECT {whole_item_sql(schema)} AS item, {key_text_sql(schema)} AS _key,"
        f" {entity_number_sql(schema, rules)} AS _entity{values}, _changed_at, _source, _key_hash, {expired} FROM {rows})"
    )


def keyed_entities_sql(rows: str, schema: TableSchema, rules: Sequence[EntityRule]) -> str:
    """As `divided_rows_sql`, with `_key`, `_key_hash` and `_entity` only."""
    return (
        f"(SELECT {key_text_sql(schema)} AS _key, _key_hash, {entity_number_sql(schema, rules)} AS _entity FROM {rows})"
    )


def entity_items_sql(divided: str, key: Sequence[str], rules: Sequence[EntityRule], number: int) -> str:
    """A relation of the rows of one entity: `item` with the parts of the key, and `ROW_COLUMNS`. The session has
    `register_entity_functions`.

    Args:
        divided: a relation of `divided_rows_sql`.
        key: the key attributes, in the order of the table.
        rules: the entities.
        number: the position of the entity in `rules`.
    """
    rule = rules[number]
    members = [
        f"{literal(json.dumps(part_path(name)[0]) + ':')} || {_part_value(rule, name, _value(key.index(attribute)), group)}"
        for attribute, pattern in rule.patterns.items()
        for group, name in enumerate(pattern.parts, start=1)
    ]
    parts = "".join(f"{member} || ',' || " for member in members)
    item = f"'{{' || {parts}substr({_beside_parts(rule.parts)}, 2)" if members else "item"
    return f"(SELECT {item} AS item, {', '.join(ROW_COLUMNS)} FROM {divided} WHERE _entity = {number})"


def register_entity_functions(session: Session) -> None:
    """Create the functions that `divided_rows_sql` and `entity_items_sql` call in a session, unless the session has them."""
    register_complete(session)
    if not session.value("SELECT count(*) FROM duckdb_functions() WHERE function_name = 'ddb_beside_parts'"):
        session.con.create_function("ddb_beside_parts", _renamed, ["VARCHAR", "VARCHAR"], "VARCHAR")


def _renamed(item: str, parts: str) -> str:
    names = orjson.loads(parts)
    return orjson.dumps({beside_parts(name, names): value for name, value in orjson.loads(item).items()}).decode()


def _beside_parts(parts: Sequence[str]) -> str:
    """SQL of the item whose attributes have other names than the parts. Few items have such an attribute, or a text that is like one."""
    spelled = " OR ".join(f"contains(item, {literal(f'{{{part}}}')})" for part in parts)
    return f"CASE WHEN {spelled} THEN ddb_beside_parts(item, {literal(json.dumps(list(parts)))}) ELSE item END"


def positions_sql(rows: str, schema: TableSchema, removed: str) -> str:
    """A query (file_path, pos) of the rows that have some keys.

    Args:
        rows: rows of the table of an entity, with `_file_path` and `_pos`.
        schema: its columns.
        removed: a relation of the keys, with `_key` and `_key_hash`.
    """
    keyed = (
        f"SELECT h._file_path AS file_path, h._pos AS pos, {key_text_sql(schema)} AS _key"
        f" FROM {rows} h SEMI JOIN {removed} k ON k._key_hash = h._key_hash"
    )
    return f"SELECT file_path, pos FROM ({keyed}) r SEMI JOIN {removed} w ON w._key = r._key"


def _part_value(rule: EntityRule, name: str, value: str, group: int) -> str:
    """SQL of the DynamoDB JSON of a part of the key."""
    pattern = next(pattern for pattern in rule.patterns.values() if name in pattern.parts)
    text = f"regexp_extract({value}, {literal(pattern.re2)}, {group})"
    if rule.types.get(name, "string") == "string":
        return f"'{{\"S\":' || to_json({text})::VARCHAR || '}}'"
    number = f"ddb_canonical_number({text})"
    return f"CASE WHEN {number} IS NULL THEN '{{\"NULL\":true}}' ELSE '{{\"N\":\"' || {number} || '\"}}' END"


def _value(number: int) -> str:
    return identifier(f"_value_{number}")
