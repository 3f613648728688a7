"""Tests of the comparison of dumped lines with true items: it misses nothing and complains of nothing else."""

from __future__ import annotations

import json
import random

import pytest
from hypothesis import given, settings

from ddb_lake.core.values.change_record import Item
from ddb_lake_tests.simulator import Scenario, same_items, scenarios
from ddb_lake_tests.simulator.envelopes import reordered

EXPECTED: Item = {
    "id": {"S": "k"},
    "n": {"N": "1"},
    "s": {"SS": ["a", "b"]},
    "l": {"L": [{"N": "1"}, {"N": "2"}]},
    "b": {"B": "YQ=="},
    "t": {"BOOL": True},
    "m": {"M": {"x": {"NS": ["1", "2"]}}},
}


@given(scenarios(garbage=False, exports="none"))
@settings(max_examples=50)
def test_same_items_in_another_order_are_the_same(scenario: Scenario) -> None:
    rng = random.Random(1)
    lines = [json.dumps({"Item": reordered(item, rng)}) for item in scenario.expected_items.values()]
    assert scenario.differences(lines[::-1]) == []
    assert same_items(lines, scenario.expected_items.values()) == []


@pytest.mark.parametrize(
    "change",
    [
        {"n": {"N": "1.0"}},
        {"n": {"S": "1"}},
        {"n": {"N": 1}},
        {"s": {"SS": ["a"]}},
        {"s": {"SS": ["a", "b", "b"]}},
        {"s": {"L": [{"S": "a"}, {"S": "b"}]}},
        {"l": {"L": [{"N": "2"}, {"N": "1"}]}},
        {"b": {"B": "YQ"}},
        {"t": {"BOOL": 1}},
        {"m": {"M": {"x": {"NS": ["1"]}}}},
        {"more": {"NULL": True}},
        {"id": {"S": "K"}},
    ],
)
def test_same_items_names_each_difference(change: Item) -> None:
    lines = [{"Item": {**EXPECTED, **change}}]
    assert same_items(lines, [EXPECTED], ["id"]) != []
    assert same_items(lines, [EXPECTED]) != []


def test_same_items_names_missing_attribute_and_repeated_or_extra_items() -> None:
    less = {name: value for name, value in EXPECTED.items() if name != "n"}
    assert same_items([{"Item": less}], [EXPECTED], ["id"]) == ['key {"id": {"S": "k"}}: attribute \'n\' is missing']
    assert same_items([], [EXPECTED], ["id"]) == ['key {"id": {"S": "k"}}: 0 items instead of one']
    assert same_items([{"Item": EXPECTED}] * 2, [EXPECTED], ["id"]) == [
        'key {"id": {"S": "k"}}: 2 items instead of one'
    ]
    assert same_items([{"Item": EXPECTED}], [], ["id"]) == ['key {"id": {"S": "k"}}: should not be there (1 times)']


@pytest.mark.parametrize("line", ["", "no", "[]", '{"item":{}}', '{"Item":{"id":{"S":"k"},"id":{"S":"k"}}}'])
def test_same_items_refuses_lines_of_another_shape(line: str) -> None:
    assert same_items([line], [], ["id"]) != []
