"""Filters by the key: patterns of texts, of numbers by their canonical digits, and of binary."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ddb_lake.core.protection.key_filter import KeyFilter
from ddb_lake.core.protection.rules import Protection
from ddb_lake.core.schema.key_patterns import EntityRule, KeyPattern, entity_of
from ddb_lake.errors import ConfigError
from ddb_lake_tests.support.effort import examples


def patterns(**texts: str) -> dict[str, KeyPattern]:
    return {name: KeyPattern.parse(text) for name, text in texts.items()}


@pytest.mark.parametrize(
    ("value", "pattern", "kept"),
    [
        ({"S": "USER#ann"}, "USER#*", True),
        ({"S": "user#ann"}, "USER#*", False),
        ({"S": "USER#a\nb"}, "USER#*", True),
        ({"N": "1.50"}, "1.5", True),
        ({"N": "15E2"}, "1500", True),
        ({"N": "1.5"}, "1.50", False),
        ({"B": "VVNFUiM="}, "VVNFUiM=", False),
        ({"B": "VVNFUiM="}, "*", True),
    ],
)
def test_pattern_is_of_the_text_of_the_key(value: Any, pattern: str, kept: bool) -> None:
    assert KeyFilter(include=(patterns(PK=pattern),)).keeps({"PK": value}) is kept
    assert KeyFilter(exclude=(patterns(PK=pattern),)).keeps({"PK": value}) is not kept


@examples(50, 400)
@given(
    st.text("ab", min_size=1, max_size=4), st.text("ab", min_size=1, max_size=4), st.text("ab*", min_size=1, max_size=3)
)
def test_item_is_kept_if_one_includes_it_and_none_excludes_it(pk: str, sk: str, prefix: str) -> None:
    item = {"PK": {"S": pk}, "SK": {"S": sk}, "other": {"N": "1"}}
    start = prefix.replace("*", "a")
    found = KeyFilter((patterns(PK=f"{start}*"), patterns(SK="b*")), (patterns(PK="b*", SK="*a"),))
    expected = (pk.startswith(start) or sk.startswith("b")) and not (pk.startswith("b") and sk.endswith("a"))
    assert found.keeps(item) is expected
    assert Protection(key_filter=found).leaves_out(item) is not expected


def test_item_without_its_key_is_not_left_out() -> None:
    protection = Protection(key_filter=KeyFilter(include=(patterns(PK="a"),)))
    assert not protection.leaves_out({"other": {"S": "a"}})
    assert not protection.leaves_out({"PK": {"BOOL": True}})


def test_pattern_of_another_attribute_is_refused() -> None:
    protection = Protection(key_filter=KeyFilter(include=(patterns(PK="a"),)))
    protection.check_key(("PK", "SK"), "orders")
    with pytest.raises(ConfigError, match="filter: 'PK' is no key attribute; the key is id"):
        protection.check_key(("id",), "orders")


NAMES = ("one", "two", "rest")


@examples(60, 600)
@given(
    st.lists(st.text("ab*", min_size=1, max_size=3), min_size=2, max_size=2),
    st.sets(st.sampled_from(NAMES)),
    st.sets(st.sampled_from(NAMES)),
    st.text("ab", min_size=1, max_size=3),
)
def test_item_is_of_the_first_entity_that_matches(
    texts: list[str], include: set[str], exclude: set[str], pk: str
) -> None:
    rules = [
        EntityRule(name, patterns(PK=re.sub(r"\*+", "*", text)), {}) for name, text in zip(NAMES, texts, strict=False)
    ]
    rules.append(EntityRule("rest", {}, {}))
    found = KeyFilter(include_entities=frozenset(include), exclude_entities=frozenset(exclude), entities=tuple(rules))
    entity = entity_of(rules, {"PK": pk})
    assert entity is not None
    expected = (not include or entity.name in include) and entity.name not in exclude
    assert found.keeps({"PK": {"S": pk}, "other": {"N": "1"}}) is expected
    assert bool(found) is bool(include or exclude)


def test_text_of_a_filter_changes_with_what_decides_alone() -> None:
    user, order = EntityRule("user", patterns(PK="U*"), {}), EntityRule("order", patterns(PK="O*"), {})
    renamed = EntityRule("person", patterns(PK="U*"), {})
    other = EntityRule("user", patterns(PK="V*"), {})

    def text(named: str, *entities: EntityRule) -> str:
        return KeyFilter(exclude_entities=frozenset([named]), entities=entities).text

    assert text("user", user, order) == text("user", user) == text("person", renamed, order)
    assert len({text("user", user), text("user", other), text("order", user, order), text("order", order)}) == 4
    assert KeyFilter(include=(patterns(PK="a"),), entities=(user,)).text == '[[[["PK", "^(?s:a)$"]]], []]'
