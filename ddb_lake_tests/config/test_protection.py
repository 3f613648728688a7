"""Settings of protected attributes: what is accepted, and what a person reads after a mistake."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from ddb_lake.config import load_settings, parse_settings
from ddb_lake.core.protection.rules import Drop, Hash, Mask
from ddb_lake.errors import ConfigError


def document(columns: dict[str, Any], **table: Any) -> dict[str, Any]:
    one = {"name": "orders", "key": ["id"], "columns": columns, **table}
    return {"warehouse": "w", "hash_key": {"env": "K"}, "tables": [one]}


def test_rules_are_read_by_attribute() -> None:
    columns = {
        "a": {"drop": True},
        "b": {"hash": True},
        "c.d": {"mask": True},
        "e": {"mask": {"keep_last": 4}},
        "f": {"drop": False, "hash": False, "mask": False},
        "g": "long",
    }
    found = parse_settings(document(columns), "test").tables[0]
    assert found.protecting_rules == {"a": Drop(), "b": Hash(), "c.d": Mask(0), "e": Mask(4)}
    assert found.schema_options.overrides == {"g": "long"}


@pytest.mark.parametrize(
    ("columns", "said"),
    [
        ({"a": {"drop": True, "hash": True}}, "drop and hash: an attribute has one rule"),
        ({"a": {"mask": True, "type": "long"}}, "type and mask: a dropped attribute has no column"),
        ({"id.name": {"hash": True}}, "columns.id.name: hash is not possible for an attribute of the key"),
        ({"id": {"mask": True}}, "columns.id: mask is not possible for an attribute of the key"),
        ({"a": {"mask": {"keep_last": -1}}}, "greater than or equal to 0"),
        ({"a": {"mask": {"keep_lst": 4}}}, "unknown setting 'keep_lst' (did you mean 'keep_last'?)"),
        ({"a": {"hsh": True}}, "unknown setting 'hsh' (did you mean 'hash'?)"),
    ],
    ids=str,
)
def test_mistake_is_reported_with_what_is_possible(tmp_path: Path, columns: dict[str, Any], said: str) -> None:
    path = tmp_path / "lake.yaml"
    path.write_text(yaml.safe_dump(document(columns)))
    with pytest.raises(ConfigError) as raised:
        load_settings(path, {})
    assert said in str(raised.value) and "line " in str(raised.value)


def test_filter_is_a_mapping_or_a_list_of_them() -> None:
    one = parse_settings(
        document({}, filter={"include": {"id": "a*"}, "exclude": [{"id": "ab"}, {"id": "ac"}]}), "test"
    )
    assert [key for key in ("a", "ab", "ac", "abc", "b") if one.tables[0].key_filter.keeps({"id": {"S": key}})] == [
        "a",
        "abc",
    ]
    assert not parse_settings(document({}), "test").tables[0].key_filter


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({}, "give `include`, `exclude` or both"),
        ({"include": [{}]}, "include: a mapping without a pattern matches every item"),
        ({"include": {"id": "{"}}, "id: '{': a part is {name}"),
        ({"exclude": {"other": "a"}}, "filter: 'other' is no key attribute; the key is id"),
        ({"exclude_entities": "usr"}, "filter: 'usr' is no entity of the table (did you mean 'user'?)"),
        ({"inclde": {"id": "a"}}, "unknown setting 'inclde' (did you mean 'include'?)"),
    ],
    ids=str,
)
def test_mistake_in_a_filter_is_reported(tmp_path: Path, given: dict[str, Any], said: str) -> None:
    path = tmp_path / "lake.yaml"
    path.write_text(yaml.safe_dump(document({}, filter=given, entities=[{"name": "user"}])))
    with pytest.raises(ConfigError) as raised:
        load_settings(path, {})
    assert said in str(raised.value) and "line " in str(raised.value)


def test_rule_of_an_entity_is_refused() -> None:
    entities = [{"name": "rest", "columns": {"a": {"drop": True}}}]
    with pytest.raises(ConfigError, match="a: drop is a setting of the table's `columns`"):
        parse_settings(document({}, entities=entities), "test")


@pytest.mark.parametrize("given", [{}, {"env": "A", "secret": "b"}, {"env": "not a name"}])
def test_key_of_hashes_is_in_one_place(given: dict[str, str]) -> None:
    with pytest.raises(ConfigError, match="hash_key"):
        parse_settings({**document({}), "hash_key": given}, "test")


def test_hash_needs_a_key() -> None:
    with pytest.raises(
        ConfigError, match=r"table 'orders': columns\.a: hash needs a key: add `hash_key: \{env: NAME\}`"
    ):
        parse_settings({**document({"a": {"hash": True}}), "hash_key": None}, "test")
