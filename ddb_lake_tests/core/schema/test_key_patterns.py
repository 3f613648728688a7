"""Patterns of key attributes: what a pattern matches, which part is which, and which texts are no patterns."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ddb_lake.core.schema.key_patterns import (
    EntityRule,
    KeyPattern,
    beside_parts,
    entity_of,
    is_named_as_key,
    part_path,
)
from ddb_lake_tests.support.effort import examples
from ddb_lake_tests.support.entity_histories import matched_by_trying, pattern_texts


@pytest.mark.parametrize(
    ("pattern", "text", "parts"),
    [
        ("USER#*", "USER#ann", {}),
        ("USER#*", "USER#", {}),
        ("USER#*", "user#ann", None),
        ("USER#*", "XUSER#ann", None),
        ("PROFILE", "PROFILE", {}),
        ("PROFILE", "PROFILE\n", None),
        ("ORDER#{id}", "ORDER#17", {"id": "17"}),
        ("ORDER#{id}", "ORDER#", None),
        ("ORDER#{id}", "ORDER#a\nb", {"id": "a\nb"}),
        ("{a}#{b}", "x#y#z", {"a": "x", "b": "y#z"}),
        ("{a}#{b}#*", "x#y#z", {"a": "x", "b": "y"}),
        ("*#{b}", "x#y#z", {"b": "z"}),
        (r"\*\{a\}\\", "*{a}\\", {}),
        ("a.c", "abc", None),
        ("ключ#{é}".replace("é", "e"), "ключ#ü", {"e": "ü"}),
        ("{n}", "-1.5", {"n": "-1.5"}),
    ],
)
def test_match(pattern: str, text: str, parts: dict[str, str] | None) -> None:
    assert KeyPattern.parse(pattern).match(text) == parts


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "at least one character"),
        ("**", "touch"),
        ("{a}{b}", "touch"),
        ("{a}*", "touch"),
        ("{a", "a part is {name}"),
        ("{}", "a part is {name}"),
        ("{1}", "a part is {name}"),
        ("{_a}", "a part is {name}"),
        ("a}", "} without {"),
        ("a\\", "a backslash"),
        ("\\n", "a backslash"),
        ("{a}#{A}", "one name"),
    ],
)
def test_text_that_is_no_pattern(text: str, said: str) -> None:
    with pytest.raises(ValueError, match=re.escape(said)):
        KeyPattern.parse(text)


@examples(200, 1000, 3000)
@given(text=pattern_texts(), key=st.text("ab#{*\\\n.é", max_size=8))
def test_match_is_the_first_of_all_divisions(text: str, key: str) -> None:
    assert KeyPattern.parse(text).match(key) == matched_by_trying(text, key)


def test_first_entity_wins() -> None:
    rules = [
        EntityRule("profile", {"SK": KeyPattern.parse("PROFILE")}, {}),
        EntityRule("user", {"PK": KeyPattern.parse("USER#*")}, {}),
        EntityRule("rest", {}, {}),
    ]
    for key, name in (("PROFILE", "profile"), ("ORDER#1", "user")):
        found = entity_of(rules, {"PK": "USER#1", "SK": key})
        assert found is not None and found.name == name
    assert entity_of(rules[:2], {"PK": "X", "SK": "X"}) is None
    rest = entity_of(rules, {"PK": "X", "SK": "X"})
    assert rest is not None and rest.name == "rest"


NAMES = st.text("{}ab", min_size=1, max_size=6)


@examples(100, 2_000)
@given(parts=st.sets(st.sampled_from(["a", "b", "ab"])), names=st.sets(NAMES, max_size=20))
def test_attributes_have_names_of_their_own_beside_the_parts(parts: set[str], names: set[str]) -> None:
    given_names = [beside_parts(name, parts) for name in names]
    spelled = {part_path(part)[0] for part in parts}
    assert len(set(given_names)) == len(names) and spelled.isdisjoint(given_names)
    assert all(given_name == name for given_name, name in zip(given_names, names, strict=True) if "{" not in name)


@pytest.mark.parametrize(
    ("part", "key", "same"),
    [
        ("id", "id", True),
        ("order_id", "Order-ID", True),
        ("id", "{id}", True),
        ("id", "{{id}", True),
        ("id", "{id", False),
        ("id", "ids", False),
    ],
)
def test_part_that_would_have_the_column_of_a_key_attribute(part: str, key: str, same: bool) -> None:
    assert is_named_as_key(part, [key]) is same
