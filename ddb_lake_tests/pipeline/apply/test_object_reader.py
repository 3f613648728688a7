"""The fast path, with validation by batch, and the record kernel stage the same rows as strict reading."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ddb_lake.core.decode.objects import read_object
from ddb_lake.engine import staging
from ddb_lake_tests.support import envelopes, mutated_records, strategies
from ddb_lake_tests.support.effort import cases, examples
from ddb_lake_tests.support.staged_objects import WAYS, staged
from ddb_lake_tests.trust.mutating import mutants

pytestmark = pytest.mark.usefixtures("no_source")

SPOILED = st.one_of(strategies.json_values(), st.dictionaries(strategies.names(), strategies.json_values(), max_size=3))


@st.composite
def lines(draw: st.DrawFn) -> bytes:
    """A change as Kinesis carries it, or one of whose members something is put that need not be there."""
    change = envelopes.kds(draw(envelopes.changes()))
    if draw(st.booleans()):
        body = change["dynamodb"]
        place = draw(
            st.sampled_from([body, change, body["Keys"], body.get("NewImage") or body.get("OldImage") or body])
        )
        place[draw(st.sampled_from([*place, "tableName", "SequenceNumber"]))] = draw(SPOILED)
    return json.dumps(change, separators=(",", ":"), ensure_ascii=draw(st.booleans())).encode()


def assert_staged_alike(objects: Sequence[bytes], key: tuple[str, ...]) -> None:
    strict, *others = (staged(objects, key, way) for way in WAYS)
    for found in others:
        assert found == strict


@examples(20, 100)
@given(st.lists(st.lists(lines(), max_size=3), min_size=1, max_size=2), st.sampled_from([(), ("id",)]), st.booleans())
@example([[b'{"eventName":"INSERT","tableName":"orders","dynamodb":{"Keys":{},"NewImage":{}}}']], ("id",), False)
def test_a_group_is_staged_alike(objects: list[list[bytes]], key: tuple[str, ...], joined: bool) -> None:
    data = [(b"" if joined else b"\n").join(each) for each in objects]
    assert_staged_alike(data, key)


def test_spoiled_objects_are_staged_alike() -> None:
    data = list(mutants(11, 300))
    assert_staged_alike(data, ("id",))


@pytest.mark.parametrize("seed", cases(range(5), quick=(0,)))
def test_mutated_records_are_staged_alike(seed: int) -> None:
    """Several objects a group, and small groups, so that a failure names few records."""
    objects = list(mutated_records.mutated_objects(seed, 600))
    fast = 0
    for first in range(0, len(objects), 60):
        group = objects[first : first + 60]
        assert_staged_alike(group, mutated_records.KEY)
        fast += sum(located.unvalidated for data in group for located in read_object(data, fast=True))
    assert 300 < fast < 1_400  # of about 1500: both ways of reading are tried


def test_a_doubt_at_the_end_reaches_a_table_that_is_done() -> None:
    def put(table: str, value: Any) -> bytes:
        keys = {"id": {"S": "a"}}
        body = {"ApproximateCreationDateTime": 1_700_000_000_000, "Keys": keys, "NewImage": {**keys, "x": value}}
        return envelopes.compact({"eventID": "1", "eventName": "INSERT", "tableName": table, "dynamodb": body})

    for first in ([put("orders", {"S": "x"})], []):
        data = [b"\n".join([*first, put("other", {"N": "1"}), put("other", {"S": 1})])]
        found, _ = staged(data, ("id",), "fast")
        assert [(table, count) for table, count, _, _ in found if count] == [
            *(("orders", 1) for _ in first),
            ("orders", 1),
            ("others", 1),
        ]
        assert_staged_alike(data, ("id",))


def test_a_doubt_that_comes_late_costs_neither_the_record_nor_those_around_it(monkeypatch: Any) -> None:
    monkeypatch.setattr(staging, "BATCH_ROWS", 2)
    values = [{"N": "1.0"}, {"N": "1"}, {"B": "AA=="}, {"S": 1}, {"N": "x"}, {"N": "1"}, {"NULL": False}]
    keys = {"id": {"S": "a"}}
    records = [
        {
            "eventID": str(number),
            "eventName": "INSERT",
            "tableName": "orders",
            "dynamodb": {
                "ApproximateCreationDateTime": 1_700_000_000_000,
                "Keys": keys,
                "NewImage": {**keys, "x": value},
            },
        }
        for number, value in enumerate(values)
    ]
    data = [b"\n".join(envelopes.compact(record) for record in records)]
    found, _ = staged(data, ("id",), "fast")
    (_, changes, counts, _), (_, quarantined, _, _) = found
    assert (changes, quarantined, counts[0]) == (5, 2, 7)
    assert_staged_alike(data, ("id",))
