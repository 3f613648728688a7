from __future__ import annotations

import re
from typing import Any

import orjson
import pytest
from hypothesis import given, reject
from hypothesis import strategies as st

from ddb_lake.core.decode.fast_path import CANONICAL_ITEM_PATTERN, CANONICAL_KEY_PATTERN
from ddb_lake.core.values.attributes import check_item, with_sorted_sets
from ddb_lake.core.values.identity import canonical_json
from ddb_lake.core.values.primary_key import check_keys
from ddb_lake_tests.support import strategies

TAGS = st.sampled_from(["S", "N", "B", "M", "L", "SS", "NS", "BS", "BOOL", "NULL", "X"])
NEARLY_ITEMS = st.dictionaries(
    strategies.names(),
    st.one_of(
        strategies.values(),
        st.dictionaries(TAGS, strategies.json_values(), max_size=2),
        st.dictionaries(TAGS, st.lists(strategies.values() | strategies.numbers(), max_size=3), max_size=1),
        strategies.json_values(),
    ),
    max_size=4,
)


def text_of(item: Any) -> bytes:
    try:
        return orjson.dumps(item, option=orjson.OPT_SORT_KEYS)
    except TypeError:  # an integer that no decoded JSON holds
        reject()


@given(st.one_of(strategies.items(), NEARLY_ITEMS))
def test_what_looks_usual_is_an_item_without_binary_in_its_canonical_form(item: Any) -> None:
    text = text_of(item)
    if re.search(CANONICAL_ITEM_PATTERN, text.decode()):
        assert check_item(item) is False
        assert with_sorted_sets(text) == canonical_json(item)


@given(st.one_of(strategies.keys(), st.dictionaries(strategies.names(), strategies.values(), max_size=3), NEARLY_ITEMS))
def test_what_looks_like_a_usual_key_is_one(keys: Any) -> None:
    text = text_of(keys)
    if re.search(CANONICAL_KEY_PATTERN, text.decode()):
        assert check_keys(keys) is False
        assert re.search(CANONICAL_ITEM_PATTERN, text.decode())


@pytest.mark.parametrize(
    "value",
    [
        {"S": ""},
        {"S": '"}\\\n\u2028é'},
        {"N": "0"},
        {"N": "-1234567890.12345"},
        {"N": "0.001"},
        {"BOOL": False},
        {"NULL": True},
        {"SS": ["b", "a"]},
        {"NS": ["2", "-1.5"]},
        {"M": {}},
        {"L": []},
        {"L": [{"M": {"a": {"L": [{"N": "1"}, {"M": {"b": {"M": {"c": {"S": "x"}}}}}]}}}]},
    ],
)
def test_usual_values_look_usual(value: Any) -> None:
    assert re.search(CANONICAL_ITEM_PATTERN, text_of({"a": {"S": "x"}, 'odd {}":,': value}).decode())


@pytest.mark.parametrize(
    "value",
    [
        {"N": "1.0"},
        {"N": "01"},
        {"N": "-0"},
        {"N": 1},
        {"N": "9" * 39},
        {"B": "AA=="},
        {"NULL": False},
        {"SS": []},
        {"SS": ['"']},
        {"NS": ["1e3"]},
        {"S": None},
        {"S": "x", "N": "1"},
        {"M": [{"S": "x"}, 1]},
        {"M": {"a": "x"}},
        {"L": ["x"]},
        {"X": "x"},
        {},
        "x",
    ],
)
def test_what_needs_a_closer_look_does_not_look_usual(value: Any) -> None:
    assert not re.search(CANONICAL_ITEM_PATTERN, text_of({"a": {"S": "x"}, "b": value}).decode())
