import base64
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ddb_lake.sandbox.items import (
    canonical,
    encode_binary_again,
    key_of,
    number_text,
    same_item,
    size_bytes,
    with_bytes,
)

numbers = st.builds(
    lambda sign, number, exponent: f"{sign}{number}E{exponent}",
    st.sampled_from(["", "-"]),
    st.integers(0, 10**38 - 1),
    st.integers(-130, 87),
)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("12.50", "12.5"),
        ("0012", "12"),
        ("1E2", "100"),
        ("-0", "0"),
        ("0.000", "0"),
        ("1e-3", "0.001"),
        ("12345678901234567890123456789012345678", "12345678901234567890123456789012345678"),
        ("0.10000000000000000000000000000000000001", "0.10000000000000000000000000000000000001"),
    ],
)
def test_number_text_is_dynamodbs_spelling(text: str, expected: str) -> None:
    assert number_text(text) == expected


@given(numbers)
def test_number_text_keeps_the_value_and_is_settled(text: str) -> None:
    spelt = number_text(text)
    assert Decimal(spelt) == Decimal(text)
    assert number_text(spelt) == spelt


def test_size_bytes_counts_as_the_real_change_records_do() -> None:
    keys = {"device": {"S": "qux"}, "timestamp": {"S": "2024-07-12T01:17:42"}}
    image = {"humidity": {"N": "84.84"}, "temperature": {"N": "42.42"}} | keys
    assert (size_bytes(keys) + size_bytes(image), size_bytes(keys) + 2 * size_bytes(image)) == (99, 161)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ({"S": "é"}, 2),
        ({"N": "-1"}, 3),
        ({"B": "EgIIew=="}, 4),
        ({"BOOL": True}, 1),
        ({"NULL": True}, 1),
        ({"SS": ["ab", "c"]}, 3),
        ({"NS": ["1", "22"]}, 4),
        ({"BS": ["AA=="]}, 1),
        ({"L": [{"S": "a"}]}, 5),
        ({"M": {"k": {"S": "a"}}}, 6),
    ],
)
def test_size_bytes_of_each_type(value: dict[str, Any], expected: int) -> None:
    assert size_bytes({"a": value}) == 1 + expected


def test_encode_binary_again_doubles_binary_at_any_depth_and_nothing_else() -> None:
    item = {
        "b": {"B": "EgIIew=="},
        "s": {"S": "EgIIew=="},
        "m": {"M": {"l": {"L": [{"BS": ["EgIIew=="]}, {"N": "1"}]}}},
    }
    assert encode_binary_again(item) == {
        "b": {"B": "RWdJSWV3PT0="},
        "s": {"S": "EgIIew=="},
        "m": {"M": {"l": {"L": [{"BS": ["RWdJSWV3PT0="]}, {"N": "1"}]}}},
    }


def test_with_bytes_decodes_binary_at_any_depth() -> None:
    encoded = base64.b64encode(b"\xff").decode()
    item = {"b": {"B": encoded}, "l": {"L": [{"M": {"x": {"BS": [encoded]}}}]}}
    assert with_bytes(item) == {"b": {"B": b"\xff"}, "l": {"L": [{"M": {"x": {"BS": [b"\xff"]}}}]}}


def test_same_item_ignores_the_order_of_sets_only() -> None:
    assert same_item({"s": {"SS": ["a", "b"]}, "n": {"N": "1"}}, {"n": {"N": "1"}, "s": {"SS": ["b", "a"]}})
    assert not same_item({"l": {"L": [{"S": "a"}, {"S": "b"}]}}, {"l": {"L": [{"S": "b"}, {"S": "a"}]}})
    assert not same_item({"a": {"S": ""}}, None)
    assert same_item(None, None)


def test_key_of_spells_numbers_one_way() -> None:
    one, other = {"pk": {"S": "a"}, "sk": {"N": "1.0"}}, {"sk": {"N": "1"}, "pk": {"S": "a"}, "x": {"S": "y"}}
    assert key_of(one, ["pk", "sk"]) == key_of(other, ["pk", "sk"]) == (("pk", "S", "a"), ("sk", "N", "1"))


def test_canonical_sorts_sets_inside_lists_and_maps() -> None:
    assert canonical({"m": {"M": {"l": {"L": [{"NS": ["2", "1"]}]}}}}) == canonical(
        {"m": {"M": {"l": {"L": [{"NS": ["1", "2"]}]}}}}
    )
