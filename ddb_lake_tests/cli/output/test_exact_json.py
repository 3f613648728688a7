"""JSON without loss."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ddb_lake.cli.output.exact_json import encode_json, value_text

_SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(min_value=-(10**38), max_value=10**38)
    | st.decimals(allow_nan=False, allow_infinity=False, places=10, min_value=-(10**20), max_value=10**20)
    | st.text()
)


@dataclass(frozen=True, slots=True)
class Found:
    rows: int
    names: tuple[str, ...]
    raw: bytes = b""


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (Decimal("12345678901234567890123456789012345678"), "12345678901234567890123456789012345678"),
        (Decimal("10.50"), "10.50"),
        (Decimal("1E-10"), "0.0000000001"),
        (Decimal("NaN"), "null"),
        (10**38 - 1, "9" * 38),
        (-(2**127), "-170141183460469231731687303715884105728"),
        (float("nan"), "null"),
        (float("-inf"), "null"),
        (0.1, "0.1"),
        (True, "true"),
        (b"hello", '"aGVsbG8="'),
        (datetime(2024, 5, 14, 11, 14, 20, 608000), '"2024-05-14T11:14:20.608000"'),
        (datetime(2024, 5, 14, 11, 14, 20, tzinfo=UTC), '"2024-05-14T11:14:20+00:00"'),
        (date(2024, 5, 14), '"2024-05-14"'),
        (time(1, 2, 3), '"01:02:03"'),
        (timedelta(days=1, seconds=2), '"1 day, 0:00:02"'),
        (UUID(int=1), '"00000000-0000-0000-0000-000000000001"'),
        ((1, 2), "[1,2]"),
        ({1: [10**20]}, '{"1":[100000000000000000000]}'),
        ({b"k": None}, '{"aw==":null}'),
        ({"a": b"\x00", "b": 10**20}, '{"a":"AA==","b":100000000000000000000}'),
        ("lone \ud800", '"lone \\\\ud800"'),
        (Found(3, ("a",), b"x"), '{"rows":3,"names":["a"],"raw":"eA=="}'),
        ([Found(10**20, ())], '[{"rows":100000000000000000000,"names":[],"raw":""}]'),
    ],
)
def test_encode_writes_every_digit(value: Any, expected: str) -> None:
    assert encode_json(value).decode() == expected


@given(st.recursive(_SCALARS, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=8))
def test_encode_round_trips_exactly(value: Any) -> None:
    read = json.loads(encode_json(value), parse_float=Decimal)
    assert _comparable(read) == _comparable(value)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, None),
        ("a,b", "a,b"),
        ("", ""),
        (False, "false"),
        (10**38, "1" + "0" * 38),
        (Decimal("1E+3"), "1000"),
        (1e300, "1e+300"),
        (b"hello", "aGVsbG8="),
        (datetime(2024, 5, 14, 11, 14, 20), "2024-05-14T11:14:20"),
        ([1, "a", None], '[1,"a",null]'),
    ],
)
def test_text_is_json_without_the_quotes_of_a_string(value: Any, expected: str | None) -> None:
    assert value_text(value) == expected


def _comparable(value: Any) -> Any:
    """Numbers as Decimal: JSON readers do not distinguish 1 from 1.0."""
    if isinstance(value, bool) or value is None or isinstance(value, str):
        return value
    if isinstance(value, list):
        return [_comparable(member) for member in value]
    if isinstance(value, dict):
        return {name: _comparable(member) for name, member in value.items()}
    return Decimal(value)
