from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ddb_lake.core.decode.envelopes import read_envelope
from ddb_lake.core.decode.objects import read_object
from ddb_lake.core.values.change_record import ChangeRecord
from ddb_lake.core.values.identity import canonical_json, record_id
from ddb_lake_tests.support import envelopes
from ddb_lake_tests.support import strategies as ddb

RECORD = ChangeRecord(
    kind="streams",
    event_name="MODIFY",
    changed_us=1_720_742_302_233_719,
    keys={"id": {"S": "a"}},
    new_image={"id": {"S": "a"}, "n": {"N": "2"}},
    old_image={"id": {"S": "a"}, "n": {"N": "1"}},
    table="orders",
    event_id="1",
    sequence_number="111",
    stream=envelopes.ARN,
    kinesis_sequence="222",
    shard="shardId-000000000000",
    arrived_us=5,
)

COUNTS: dict[str, Any] = {
    "event_name": "INSERT",
    "changed_us": 1,
    "keys": {"id": {"S": "b"}},
    "new_image": {"id": {"S": "a"}, "n": {"N": "3"}},
    "old_image": None,
    "event_id": "2",
    "sequence_number": "112",
    "asserted_us": 7,
}
DOES_NOT_COUNT: dict[str, Any] = {
    "kind": "kds",
    "table": "other",
    "region": "eu-west-3",
    "stream": None,
    "kinesis_sequence": "333",
    "shard": None,
    "arrived_us": 6,
    "ttl": True,
}


def landed(obj: dict[str, Any]) -> bytes:
    """The identity of the one record in an object, as it is after landing as JSON."""
    (located,) = read_object(envelopes.compact(obj))
    assert isinstance(located.outcome, ChangeRecord), located.outcome
    return record_id(located.outcome)


def test_every_field_either_counts_or_does_not() -> None:
    assert {field.name for field in fields(ChangeRecord)} == {*COUNTS, *DOES_NOT_COUNT, "texts"}
    assert len(record_id(RECORD)) == 16


@pytest.mark.parametrize("name", COUNTS)
def test_record_id_differs_in_what_counts(name: str) -> None:
    assert record_id(replace(RECORD, **{name: COUNTS[name]})) != record_id(RECORD)


@pytest.mark.parametrize("name", DOES_NOT_COUNT)
def test_record_id_is_the_same_however_a_record_travelled(name: str) -> None:
    assert record_id(replace(RECORD, **{name: DOES_NOT_COUNT[name]})) == record_id(RECORD)


def test_kinesis_sequence_counts_only_without_an_event_id() -> None:
    without = replace(RECORD, event_id=None)
    assert record_id(replace(without, kinesis_sequence="333")) != record_id(without)
    assert record_id(replace(RECORD, event_id="")) != record_id(without)


def test_two_fixtures_that_share_an_id_are_two_records() -> None:
    first = {"S": "New item!"}, {"S": "This item has changed"}
    ids = {record_id(replace(RECORD, new_image={"id": {"S": "a"}, "Message": message})) for message in first}
    assert len(ids) == 2


@given(envelopes.changes(), st.data())
@settings(max_examples=40)
def test_record_id_does_not_depend_on_how_the_record_is_written(change: envelopes.Change, data: st.DataObject) -> None:
    original = envelopes.kds(change)
    expected = landed(original)
    body = {
        name: data.draw(ddb.respelled(value)) if name in ("Keys", "NewImage", "OldImage") else value
        for name, value in envelopes.kds(change, encode_twice=False)["dynamodb"].items()
    }
    order = data.draw(st.permutations(sorted(body)))
    respelled = {**original, "dynamodb": {name: envelopes.doubled(body[name]) for name in order}}
    assert landed(respelled) == expected
    assert landed(dict(reversed(original.items()))) == expected
    assert landed(envelopes.kds(change, micros=False)) == expected


@given(envelopes.changes())
@settings(max_examples=40)
def test_record_id_does_not_depend_on_the_transport(change: envelopes.Change) -> None:
    record = envelopes.kds(change)
    raw = envelopes.compact(record)
    expected = landed(record)
    for obj in (
        envelopes.stamped(record),
        envelopes.error_object(raw),
        envelopes.conversion_error(raw),
        envelopes.error_object(envelopes.compact(envelopes.stamped(record))),
        envelopes.kinesis_event(raw),
        envelopes.firehose_event(raw),
        {"Records": [record]},
    ):
        assert landed(obj) == expected


@given(envelopes.changes(), envelopes.changes())
@settings(max_examples=40)
def test_record_id_differs_for_different_changes(left: envelopes.Change, right: envelopes.Change) -> None:
    assert (landed(envelopes.kds(left)) == landed(envelopes.kds(right))) == (left == right)


@given(ddb.json_values())
def test_record_id_of_whatever_was_read_never_raises(obj: Any) -> None:
    for outcome in read_envelope(obj, key_names=("id",), asserted_us=1):
        if isinstance(outcome, ChangeRecord):
            assert orjson.loads(orjson.dumps(outcome.keys)) == outcome.keys
            assert len(record_id(outcome)) == 16


def test_record_id_of_lone_surrogates_in_a_python_object_is_never_computed() -> None:
    for name in ("eventID", "eventName"):
        obj = {
            **envelopes.kds(envelopes.Change("INSERT", {"id": {"S": "a"}}, {"id": {"S": "a"}}, None, 1000, "x")),
            name: "\ud800",
        }
        assert not any(isinstance(outcome, ChangeRecord) for outcome in read_envelope(obj))


def test_number_behind_an_empty_set_is_spelled_canonically() -> None:
    spelled = [replace(RECORD, new_image={"a": {"L": [{"SS": []}, {"NS": [number]}]}}) for number in ("1", "1.0")]
    assert record_id(spelled[0]) == record_id(spelled[1])


@pytest.mark.parametrize("member", ["]", "]x", "", "[", "x]", '"]', "]]"])
def test_set_is_the_same_in_any_order_whatever_its_members_begin_with(member: str) -> None:
    sets = [{"SS": [member, "a"]}, {"SS": ["a", member]}]
    assert len({canonical_json({"id": {"S": "a"}, "s": found}) for found in sets}) == 1
    assert len({record_id(replace(RECORD, new_image={"s": found})) for found in sets}) == 1
