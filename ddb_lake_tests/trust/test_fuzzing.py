"""A short run of the fuzzer, and what it once found."""

from __future__ import annotations

import os
from typing import Any

import pytest

from ddb_lake_tests.support import envelopes
from ddb_lake_tests.trust.fuzzing import fuzz, staged

INPUTS = int(os.environ.get("DDB_LAKE_FUZZED", "200"))

ODD_SETS = ({"SS": ['q"']}, {"SS": []}, {"NS": ["1.0"]}, {"BS": ["AA=="]}, {"L": [{"SS": ["\\"]}]})
NO_VALUES: tuple[Any, ...] = (
    1,
    None,
    "x",
    [],
    {},
    {"N": 5},
    {"Q": "x"},
    {"S": 1},
    {"M": {"a": 1}},
    {"L": [1]},
    {"SS": 1},
)


def change(table: str, image: dict[str, Any], keys: Any = None) -> bytes:
    keys = {"id": {"S": "a"}} if keys is None else keys
    body = {"ApproximateCreationDateTime": 1_700_000_000_000, "Keys": keys, "NewImage": {**keys, **image}}
    return envelopes.compact({"eventID": "1", "eventName": "INSERT", "tableName": table, "dynamodb": body})


def test_fast_path_stages_what_reading_with_all_checks_stages() -> None:
    found = fuzz(7, count=INPUTS)
    assert (found.differences, found.unexpected) == ([], [])
    assert found.inputs >= INPUTS and found.rows > INPUTS / 2 and found.rejected > INPUTS / 2, (
        "hardly anything was tried"
    )


@pytest.mark.parametrize("odd", ODD_SETS)
@pytest.mark.parametrize("table", ("orders", "other", "third"))
def test_odd_set_beside_what_is_no_value_is_quarantined_and_blocks_nothing(odd: Any, table: str) -> None:
    good = change("orders", {"x": {"S": "good"}})
    bad = [change(table, {"a": odd, "b": no_value}) for no_value in NO_VALUES]
    fast = staged([b"\n".join([*bad, good])], ("id",), True)
    assert fast == staged([b"\n".join([*bad, good])], ("id",), False)
    assert (fast.rows, fast.rejected, fast.unexpected) == (1, len(bad), 0)


def test_table_whose_only_record_is_damaged_is_not_staged() -> None:
    data = [change("other", {"x": {"S": 1}})]
    fast = staged(data, ("id",), True)
    assert fast == staged(data, ("id",), False)
    assert list(fast.tables) == ["orders"], "the record is in the quarantine of the table that is applied"


def test_damaged_record_of_a_table_that_is_not_configured_is_quarantined() -> None:
    data = [b"\n".join([change("third", {"x": {"S": 1}}), change("third", {"x": {"S": "x"}})])]
    fast = staged(data, ("id",), True)
    assert fast == staged(data, ("id",), False)
    assert (fast.rows, fast.rejected, fast.rest[1]) == (0, 1, {"third": 1})
