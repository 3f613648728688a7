from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from boto3.dynamodb.types import TypeDeserializer
from hypothesis import given, settings

from ddb_lake.core.values.attributes import canonical_value
from ddb_lake.core.values.conversions import double_binary, undouble_binary
from ddb_lake.core.values.python_values import from_python, to_python
from ddb_lake.errors import UndecodableError
from ddb_lake_tests.support.strategies import items, storable


@settings(max_examples=50)
@given(items().map(storable))
def test_values_come_back(item: Any) -> None:
    for value in item.values():
        assert canonical_value(from_python(to_python(value))) == canonical_value(value)


def test_types_are_those_of_boto3() -> None:
    value: Any = {
        "M": {
            "n": {"N": "1.50"}, "s": {"S": "x"}, "t": {"BOOL": True}, "z": {"NULL": True}, "l": {"L": [{"N": "1"}]},
            "ss": {"SS": ["a", "b"]}, "ns": {"NS": ["1", "2"]}, "e": {"M": {}},
        }
    }  # fmt: skip
    assert to_python(value) == TypeDeserializer().deserialize(value)
    assert to_python({"B": "AAE="}) == b"\x00\x01"
    assert to_python({"BS": ["AAE="]}) == {b"\x00\x01"}


@pytest.mark.parametrize(
    "value",
    [1.5, set(), {"a", 1}, {True, Decimal(2)}, object(), [1.5], {"x": set()}, 10**5000, {1.5}],
    ids=lambda value: str(type(value)),
)
def test_value_without_a_type_of_dynamodb_is_an_error(value: Any) -> None:
    with pytest.raises(UndecodableError):
        from_python(value)


def test_value_within_itself_is_an_error() -> None:
    endless: list[Any] = []
    endless.append(endless)
    with pytest.raises(UndecodableError, match="nested deeper"):
        from_python(endless)


@settings(max_examples=50)
@given(items())
def test_binary_is_doubled_and_undoubled(item: Any) -> None:
    doubled = {name: double_binary(value) for name, value in item.items()}
    assert undouble_binary(doubled) == item
