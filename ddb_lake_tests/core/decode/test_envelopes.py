from __future__ import annotations

import base64
import json
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import ddb_lake
from ddb_lake.core.decode.envelopes import MAX_WRAPPERS, PAGE
from ddb_lake.core.values.change_record import ChangeRecord, Rejected
from ddb_lake_tests.support import envelopes
from ddb_lake_tests.support import strategies as ddb
from ddb_lake_tests.support.decoded_changes import CHANGE, changed, one, read, reason
from ddb_lake_tests.support.samples import SAMPLES

SEQUENCE = envelopes.METADATA["sequenceNumber"]


# what every form says


@given(envelopes.changes(), st.booleans())
@settings(max_examples=50)
def test_kds_record_gives_the_change(change: envelopes.Change, micros: bool) -> None:
    record = one(envelopes.kds(change, micros=micros))
    assert record == ChangeRecord(
        kind="kds",
        event_name=change.event_name,  # type: ignore[arg-type]
        changed_us=change.changed_us,
        keys=change.keys,
        new_image=change.new_image,
        old_image=change.old_image,
        table="orders",
        event_id=change.event_id,
    )


@given(envelopes.changes())
@settings(max_examples=50)
def test_streams_record_gives_the_change(change: envelopes.Change) -> None:
    record = one({"Records": [envelopes.streams(change)]})
    assert record == ChangeRecord(
        kind="streams",
        event_name=change.event_name,  # type: ignore[arg-type]
        changed_us=change.changed_us // 1_000_000 * 1_000_000,
        keys=change.keys,
        new_image=change.new_image,
        old_image=change.old_image,
        table="orders",
        event_id=change.event_id,
        sequence_number="1405400000000002063282832",
        stream=envelopes.ARN,
    )


@given(envelopes.changes())
@settings(max_examples=50)
def test_boto_record_gives_what_lambda_gives(change: envelopes.Change) -> None:
    lambda_form = envelopes.streams(change)
    boto = json.loads(json.dumps(lambda_form), object_hook=_with_bytes)
    del boto["eventSourceARN"]
    boto["dynamodb"]["ApproximateCreationDateTime"] = datetime.fromtimestamp(change.changed_us // 1_000_000, UTC)
    expected = one({**lambda_form, "eventSourceARN": "garbage"})
    assert one(boto) == expected
    assert read({"Records": [boto], "NextShardIterator": "x"}) == [expected]


def _with_bytes(obj: dict[str, Any]) -> dict[str, Any]:
    if isinstance(obj.get("B"), str):
        return {"B": base64.b64decode(obj["B"])}
    if isinstance(obj.get("BS"), list):
        return {"BS": [base64.b64decode(member) for member in obj["BS"]]}
    return obj


@given(envelopes.changes())
@settings(max_examples=50)
def test_wrapped_record_says_what_the_record_says_and_when_it_arrived(change: envelopes.Change) -> None:
    record = envelopes.kds(change)
    raw = envelopes.compact(record)
    bare = one(record)
    wrapped = [
        envelopes.stamped(record),
        envelopes.kinesis_event(raw),
        envelopes.firehose_event(raw),
        envelopes.error_object(envelopes.compact(envelopes.stamped(record))),
        envelopes.kinesis_event(
            envelopes.compact(envelopes.error_object(envelopes.compact(envelopes.stamped(record))))
        ),
    ]
    for obj in wrapped:
        arrived = one(obj)
        assert (arrived.kinesis_sequence, arrived.shard) == (SEQUENCE, "shardId-000000000001")
        assert arrived.arrived_us == 1664028793294000
        assert _without_arrival(arrived) == bare
    for obj in (envelopes.error_object(raw), envelopes.conversion_error(raw)):
        assert one(obj).arrived_us == 1664028793294000
        assert _without_arrival(one(obj)) == bare


def _without_arrival(record: ChangeRecord) -> ChangeRecord:
    return replace(record, kinesis_sequence=None, shard=None, arrived_us=None)


@given(ddb.json_values())
def test_read_envelope_any_json_gives_outcomes_and_never_raises(obj: Any) -> None:
    for outcome in read(obj, key_names=("id",), asserted_us=1):
        assert isinstance(outcome, ChangeRecord | Rejected)
        if isinstance(outcome, Rejected):
            assert outcome.reason
            assert outcome.raw


@given(envelopes.changes(), st.data())
@settings(max_examples=50)
def test_read_envelope_any_damage_to_a_record_never_raises(change: envelopes.Change, data: st.DataObject) -> None:
    obj = data.draw(st.sampled_from([envelopes.kds(change), envelopes.streams(change), envelopes.error_object(b"x")]))
    damaged = json.loads(json.dumps(obj))
    target = damaged
    while isinstance(target, dict) and target and data.draw(st.booleans(), label="deeper"):
        name = data.draw(st.sampled_from(sorted(target)))
        if not isinstance(target[name], dict):
            break
        target = target[name]
    if target:
        target[data.draw(st.sampled_from(sorted(target)))] = data.draw(ddb.json_values())
    outcomes = read(damaged)
    assert len(outcomes) >= 1 or "Records" in damaged or "records" in damaged


def test_read_envelope_deeply_nested_python_object_is_rejected() -> None:
    deep: Any = {}
    for _ in range(5000):
        deep = {"M": {"a": deep}}
    assert reason(changed(envelopes.kds(CHANGE), NewImage={"id": {"S": "a"}, "deep": deep})).startswith(
        "NewImage: nested"
    )
    assert reason(deep).startswith("no known envelope: its members are M; ")


# wrappers


def test_bad_element_is_rejected_with_its_own_bytes_and_the_rest_goes_on() -> None:
    good = envelopes.streams(CHANGE)
    event = {"Records": [good, {"Sns": {}}, 5, None, {**good, "eventName": "x"}, good]}
    outcomes = read(event)
    assert [type(outcome).__name__ for outcome in outcomes] == ["ChangeRecord", *["Rejected"] * 4, "ChangeRecord"]
    assert [orjson.loads(o.raw) for o in outcomes if isinstance(o, Rejected)] == [
        {"Sns": {}}, 5, None, {**good, "eventName": "x"},
    ]  # fmt: skip


@pytest.mark.parametrize("event", [envelopes.kinesis_event, envelopes.firehose_event])
def test_payload_holds_several_records_and_garbage(event: Any) -> None:
    raw = envelopes.compact(envelopes.kds(CHANGE))
    outcomes = read(event(raw + raw + b"\n" + raw, b"Hello World", raw))
    assert [type(o).__name__ for o in outcomes] == [*["ChangeRecord"] * 3, "Rejected", "ChangeRecord"]
    assert isinstance(outcomes[3], Rejected)
    assert outcomes[3].raw == b"Hello World"


@pytest.mark.parametrize("data", ["", "not base64 data", None, 5])
def test_payload_that_is_no_base64_is_rejected_whole(data: Any) -> None:
    event = envelopes.kinesis_event(b"x")
    event["Records"][0]["kinesis"]["data"] = data
    (rejected,) = read(event)
    assert isinstance(rejected, Rejected)
    assert orjson.loads(rejected.raw) == event["Records"][0]


def test_payload_of_white_space_is_rejected() -> None:
    assert reason(envelopes.kinesis_event(b" \n")) == "a payload that holds nothing"


def test_error_object_that_cannot_be_unwrapped_is_rejected_naming_the_code() -> None:
    for raw_data in ("not base64 data", "", None, 5):
        assert reason({**envelopes.error_object(b"x"), "rawData": raw_data}).startswith(
            "Firehose error Lambda.FunctionError: rawData"
        )
    assert reason(envelopes.error_object(b"x")) == "Firehose error Lambda.FunctionError: no JSON object"
    assert reason(envelopes.conversion_error(b"{}")).startswith(
        "Firehose error DataFormatConversion.MalformedData: no known envelope: it has no members"
    )
    assert reason({"rawData": "eA==", "errorCode": "x\ny"}) == "Firehose error without an error code: no JSON object"


def test_error_object_keeps_its_own_bytes_when_it_cannot_be_unwrapped() -> None:
    obj = {**envelopes.error_object(b"x"), "rawData": "not base64 data"}
    (rejected,) = read(obj, raw=b"its bytes")
    assert rejected == Rejected(
        "Firehose error Lambda.FunctionError: rawData: missing, empty or no base64", b"its bytes"
    )


def test_wrappers_within_wrappers_are_opened_to_a_limit() -> None:
    raw = envelopes.compact(envelopes.kds(CHANGE))
    for _ in range(MAX_WRAPPERS):
        raw = envelopes.compact(envelopes.error_object(raw))
    assert isinstance(one(orjson.loads(raw)), ChangeRecord)
    assert reason(envelopes.error_object(raw)).endswith("wrappers within wrappers, nested too deeply")


def test_empty_event_gives_nothing() -> None:
    assert read({"Records": []}) == []


@pytest.mark.parametrize("obj", [None, 5, "x", [], {}, {"Item": {}, "x": 1}, {"Hello": "World"}])
def test_what_is_no_envelope_is_rejected(obj: Any) -> None:
    assert reason(obj).startswith("no known envelope: ")


def test_unknown_object_is_rejected_naming_some_members_and_no_values() -> None:
    found = reason({**{f"member{number}": f"secret{number}" for number in range(20)}})
    assert "its members are member0, member1" in found
    assert "and 12 more" in found
    assert "secret" not in found
    assert (Path(ddb_lake.__file__).parents[1] / PAGE).is_file()
    assert PAGE in found
    assert len(reason({"n" * 70_000: 1})) < 200


# real files


@pytest.mark.parametrize(
    ("name", "records", "rejected"),
    [
        ("dynamodb_streams_events/every_type.json", 2, 0),  # one has an empty set
        ("dynamodb_streams_events/time_window.json", 3, 0),
        ("dynamodb_streams_events/fraction_and_no_time.json", 2, 0),
        ("dynamodb_streams_events/new_image.json", 2, 0),
        ("firehose_lambda_events/aggregated_source.json", 0, 2),
        ("firehose_lambda_events/kinesis_source.json", 0, 2),
        ("kds_records/kinesis_event.json", 2, 0),
    ],
)
def test_sample_event_gives_one_outcome_for_each_record(name: str, records: int, rejected: int) -> None:
    outcomes = read(orjson.loads((SAMPLES / name).read_bytes()))
    kinds = [type(outcome) for outcome in outcomes]
    assert (kinds.count(ChangeRecord), kinds.count(Rejected)) == (records, rejected)


def test_sample_kinesis_event_has_its_metadata() -> None:
    event = orjson.loads((SAMPLES / "kds_records/kinesis_event.json").read_bytes())
    first, _ = read(event)
    assert isinstance(first, ChangeRecord)
    assert first.kinesis_sequence == "49660000000000000000000000000000000000000000000000000001"
    assert (first.shard, first.arrived_us) == ("shardId-000000000000", 1772439555932000)
    assert first.changed_us == 1772439555370000
