"""A short run of the comparison of the two readers of items."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pytest

from ddb_lake_tests.trust import readers
from ddb_lake_tests.trust.readers import GROUP, WIDTHS, canonical, compare


def test_export_and_change_give_the_same_items_and_reject_the_same_texts() -> None:
    found = compare(7, count=1)
    assert found.differences == []
    assert found.inputs == GROUP * len(WIDTHS)
    assert min(found.accepted, found.rejected) > found.inputs / 4, "hardly anything was tried"


@pytest.mark.exhaustive
def test_line_that_is_wrongly_accepted_is_a_difference(monkeypatch: pytest.MonkeyPatch) -> None:
    def all_valid(_: Any, lines: Any) -> pa.Array:
        return pa.array([True] * len(lines), pa.bool_())

    monkeypatch.setattr(readers, "WIDTHS", {"looked up": 0})
    monkeypatch.setattr(readers.Recording, "_valid", all_valid)
    assert compare(7, count=1).differences


@pytest.mark.parametrize(
    ("one", "other", "equal"),
    [
        ('{"a":{"N":"1E+2"}}', '{"a":{"N":"100.0"}}', True),
        ('{"a":{"N":"-0"}}', '{"a":{"N":"0.00"}}', True),
        ('{"a":{"N":"1"}}', '{"a":{"N":"-1"}}', False),
        ('{"a":{"N":"' + "1" * 39 + '"}}', '{"a":{"N":"' + "1" * 38 + '2"}}', False),
        ('{"a":{"SS":["b","a","b"]}}', '{"a":{"SS":["a","b"]}}', True),
        ('{"a":{"NS":["1","2"]}}', '{"a":{"NS":["2.0","1e0"]}}', True),
        ('{"a":{"L":[{"S":"b"},{"S":"a"}]}}', '{"a":{"L":[{"S":"a"},{"S":"b"}]}}', False),
        ('{"a":{"B":"AB=="}}', '{"a":{"B":"AA=="}}', True),
        ('{"a":{"NULL":false}}', '{"a":{"NULL":true}}', False),
        ('{"a":{"S":"1"},"b":{"S":"2"}}', '{"b":{"S":"2"},"a":{"S":"1"}}', True),
    ],
)
def test_canonical_form_is_equal_for_equal_items_only(one: str, other: str, equal: bool) -> None:
    assert (canonical(one.encode()) == canonical(other.encode())) is equal
