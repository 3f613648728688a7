from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ddb_lake.core.values import json_text
from ddb_lake.core.values.attributes import canonical_value
from ddb_lake.core.values.plain_json import from_plain, loads_exact, loads_strict, plain_object, plain_text, plain_value
from ddb_lake.errors import UndecodableError
from ddb_lake_tests.support.strategies import items, values


@given(values())
def test_plain_text_is_json_of_the_plain_value(value: Any) -> None:
    text = plain_text(value)
    assert json.loads(text, parse_float=Decimal) == plain_value(value)
    again = from_plain(loads_exact(text))
    if not _hides_types(value):
        assert canonical_value(again) == canonical_value(value)


def _hides_types(value: Any) -> bool:
    ((tag, payload),) = value.items()
    inner = payload.values() if tag == "M" else payload if tag == "L" else ()
    return tag in ("B", "SS", "NS", "BS") or any(map(_hides_types, inner))


@given(items())
def test_plain_object_has_the_attributes_in_order(item: Any) -> None:
    assert list(json.loads(plain_object(item))) == list(item)


@given(st.binary(max_size=12) | st.text(alphabet='{}[]":,1eE+-. \nnulNaI\\ud8', max_size=14).map(str.encode))
def test_loads_strict_takes_what_the_lake_takes(data: bytes) -> None:
    try:
        found = loads_strict(data)
    except UndecodableError:
        return
    if isinstance(found, dict):
        assert found == json_text.loads(data) or "\\ud8" in data.decode()


@pytest.mark.parametrize(
    "data", [b'{"a":1,"a":2}', b'{"a":NaN}', b'{"a":-Infinity}', b"{}{}", b"", b"\xff", b'{"a":' * 100_000, b"1" * 9999]
)
def test_loads_strict_refuses(data: bytes) -> None:
    with pytest.raises(UndecodableError):
        loads_strict(data)
