"""Rules of protected attributes: idempotent, by the value alone, and nothing else changes."""

from __future__ import annotations

import copy

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ddb_lake.config.columns import ColumnSettings, protecting_rules
from ddb_lake.core.protection.rules import Drop, Hash, Mask, Protection, Rule, hashed, masked
from ddb_lake.core.values.attributes import canonical_value
from ddb_lake.core.values.change_record import AttributeValue, Item
from ddb_lake.errors import ConfigError
from ddb_lake_tests.support.effort import examples
from ddb_lake_tests.support.protected_items import COLUMNS, KEY, NEEDLES, bodies, expected, hidden_values
from ddb_lake_tests.support.strategies import items, names, values

RULES = protecting_rules({path: ColumnSettings.model_validate(column) for path, column in COLUMNS.items()})
PROTECTION = Protection(RULES, KEY.encode())


@examples(60, 300, 1000)
@given(bodies())
def test_protected_item_is_that_of_the_model_and_shows_nothing(item: Item) -> None:
    before = copy.deepcopy(item)
    found = PROTECTION.protect(item)
    assert found == expected(item)
    assert item == before
    assert not any(needle in repr(found) for needle in NEEDLES)
    assert PROTECTION.protect(found) == found


@examples(60, 300, 1000)
@given(items(), st.dictionaries(names(), st.sampled_from((Drop(), Hash(), Mask(0), Mask(3))), max_size=3))
def test_any_rule_on_any_item_is_idempotent_and_keeps_the_others(
    item: Item, rules: dict[str, Drop | Hash | Mask]
) -> None:
    protection = Protection(rules, KEY.encode())
    found = protection.protect(item)
    assert protection.protect(found) == found
    for name, value in item.items():
        above = any(path.startswith((f"{name}.", f"{name}[]")) for path in rules)
        if name not in rules and not above:
            assert found[name] is value
        if name in rules and isinstance(rules[name], Drop):
            assert name not in found


@examples(60, 300, 1000)
@given(values(), values())
def test_hashes_are_equal_for_equal_values_alone(one: AttributeValue, other: AttributeValue) -> None:
    key = KEY.encode()
    assert (hashed(one, key) == hashed(other, key)) == (canonical_value(one) == canonical_value(other))
    assert hashed(one, key) != hashed(one, key + b"!")


@pytest.mark.parametrize(
    ("value", "keep_last", "shown"),
    [
        ({"S": "4111111111111111"}, 4, "****1111"),
        ({"S": "1111"}, 4, "****"),
        ({"S": "11111"}, 4, "****1111"),
        ({"S": "Zoë 🦆 ünï"}, 3, "****ünï"),
        ({"S": "e\u0301e\u0301"}, 1, "****\u0301"),
        ({"N": "15E2"}, 2, "****00"),
        ({"N": "-1.50"}, 3, "****1.5"),
        ({"BOOL": True}, 4, "****"),
        ({"NULL": True}, 4, "****"),
        ({"L": [{"S": "secret"}]}, 4, "****"),
        ({"S": "ab**"}, 2, "****"),
        ({"S": "secret"}, 0, "****"),
    ],
)
def test_mask_shows_the_last_characters_alone(value: AttributeValue, keep_last: int, shown: str) -> None:
    assert masked(value, keep_last) == shown


@examples(40, 150, 400)
@given(hidden_values(), st.integers(0, 12))
def test_mask_of_a_mask_is_the_mask(value: AttributeValue, keep_last: int) -> None:
    once = masked(value, keep_last)
    assert masked({"S": once}, keep_last) == once


def test_hash_of_equal_numbers_and_sets_is_one() -> None:
    key = KEY.encode()
    assert hashed({"N": "1.50"}, key) == hashed({"N": "15E-1"}, key) != hashed({"S": "1.50"}, key)
    assert hashed({"SS": ["b", "a"]}, key) == hashed({"SS": ["a", "b"]}, key)


def test_rule_for_a_key_attribute_is_refused() -> None:
    with pytest.raises(ConfigError, match="email: hash is not possible for an attribute of the key"):
        PROTECTION.check_key(("email",), "orders")
    with pytest.raises(ConfigError, match=r"address\.street: drop is not possible"):
        PROTECTION.check_key(("id", "address"), "orders")
    with pytest.raises(ConfigError, match=r"phones\[\]: mask is not possible"):
        PROTECTION.check_key(("phones",), "orders")
    PROTECTION.check_key(("id", "street"), "orders")


@pytest.mark.parametrize(
    ("rules", "value", "expected"),
    [
        ({"a.b": Drop()}, {"S": "secret"}, None),
        ({"a.b": Drop(), "a.c.d": Drop()}, {"L": [{"S": "secret"}]}, None),
        ({"a.b": Drop(), "a.c": Hash()}, {"S": "secret"}, {"S": "****"}),
        ({"a.b": Mask(3)}, {"S": "secret"}, {"S": "****ret"}),
        ({"a.b": Mask(3), "a.c": Mask(2)}, {"S": "secret"}, {"S": "****"}),
        ({"a.b": Drop()}, {"NULL": True}, {"NULL": True}),
        ({"a[].b": Drop()}, {"M": {"b": {"S": "secret"}}}, None),
        ({"a[].b": Drop()}, {"L": [{"S": "secret"}, {"M": {"c": {"N": "1"}}}]}, {"L": [{"M": {"c": {"N": "1"}}}]}),
        ({"a[]": Drop()}, {"L": [{"S": "secret"}]}, {"L": []}),
        ({"a[]": Mask(0)}, {"SS": ["secret"]}, {"S": "****"}),
        ({"a[].b": Drop(), "a.b": Drop()}, {"M": {"b": {"S": "secret"}}}, {"M": {}}),
        ({"a.b[].c": Mask(0)}, {"M": {"b": {"S": "secret"}}}, {"M": {"b": {"S": "****"}}}),
    ],
    ids=str,
)
def test_value_above_a_rule_that_is_of_another_type_is_protected_as_a_whole(
    rules: dict[str, Rule], value: AttributeValue, expected: AttributeValue | None
) -> None:
    found = Protection(rules, KEY.encode()).protect({"a": value, "ab": {"S": "secret"}})
    assert found == {"ab": {"S": "secret"}} | ({} if expected is None else {"a": expected})


def test_rules_that_were_written_before_parents_were_protected_are_others() -> None:
    assert Protection({"a.b": Drop(), "c[]": Mask(2), "d": Drop()}).stored == {
        "a.b": "drop, or all above",
        "c[]": "mask 2, or all above",
        "d": "drop",
    }


def test_text_that_looks_like_a_hash_is_hashed() -> None:
    made_up = {"S": "0" * 80}
    assert Protection({"a": Hash()}, KEY.encode()).protect({"a": made_up}) != {"a": made_up}
