from __future__ import annotations

import base64
import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ddb_lake.core.envelopes import MAX_WRAPPERS, read_envelope
from ddb_lake.core.records import ChangeRecord, Rejected
from ddb_lake_tests import forms
from ddb_lake_tests import strategies as ddb

SAMPLES = Path(__file__).parents[3] / "shared" / "samples"
needs_samples = pytest.mark.skipif(not SAMPLES.is_dir(), reason="the AWS samples are not here")

CHANGE = forms.Change(
    "MODIFY",
    {"id": {"S": "a"}},
    {"id": {"S": "a"}, "n": {"N": "2"}},
    {"id": {"S": "a"}, "n": {"N": "1"}},
    1_720_742_302_233_000,
    "24757579-ebfd-480a-956d-a1287d2ef707",
)
SEQUENCE = forms.METADATA["sequenceNumber"]


def read(obj: Any, **options: Any) -> list[ChangeRecord | Rejected]:
    return list(read_envelope(obj, **options))


def one(obj: Any, **options: Any) -> ChangeRecord:
    (record,) = read(obj, **options)
    assert isinstance(record, ChangeRecord), record
    return record


def reason(obj: Any, **options: Any) -> str:
    (rejected,) = read(obj, **options)
    assert isinstance(rejected, Rejected), rejected
    return rejected.reason


def changed(obj: dict[str, Any], **members: Any) -> dict[str, Any]:
    """A capture with members of its `dynamodb` object replaced, or removed where the value is `...`."""
    body = {**obj["dynamodb"], **members}
    return {**obj, "dynamodb": {name: value for name, value in body.items() if value is not ...}}


# what every form says


@given(forms.changes(), st.booleans())
def test_kds_record_gives_the_change(change: forms.Change, micros: bool) -> None:
    record = one(forms.kds(change, micros=micros))
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


@given(forms.changes())
def test_streams_record_gives_the_change(change: forms.Change) -> None:
    record = one({"Records": [forms.streams(change)]})
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
        stream=forms.ARN,
    )


@given(forms.changes())
def test_boto_record_gives_what_lambda_gives(change: forms.Change) -> None:
    lambda_form = forms.streams(change)
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


@given(forms.changes())
def test_wrapped_record_says_what_the_record_says_and_when_it_arrived(change: forms.Change) -> None:
    record = forms.kds(change)
    raw = forms.compact(record)
    bare = one(record)
    wrapped = [
        forms.stamped(record),
        forms.kinesis_event(raw),
        forms.firehose_event(raw),
        forms.error_object(forms.compact(forms.stamped(record))),
        forms.kinesis_event(forms.compact(forms.error_object(forms.compact(forms.stamped(record))))),
    ]
    for obj in wrapped:
        arrived = one(obj)
        assert (arrived.kinesis_sequence, arrived.shard) == (SEQUENCE, "shardId-000000000001")
        assert arrived.arrived_us == 1664028793294000
        assert _without_arrival(arrived) == bare
    for obj in (forms.error_object(raw), forms.conversion_error(raw)):
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


@given(forms.changes(), st.data())
def test_read_envelope_any_damage_to_a_record_never_raises(change: forms.Change, data: st.DataObject) -> None:
    obj = data.draw(st.sampled_from([forms.kds(change), forms.streams(change), forms.error_object(b"x")]))
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
    assert reason(changed(forms.kds(CHANGE), NewImage={"id": {"S": "a"}, "deep": deep})).startswith("NewImage: nested")
    assert reason(deep) == "no known envelope"


# times


@pytest.mark.parametrize(
    ("time", "precision", "changed_us"),
    [
        (1720742302233, ..., 1720742302233000),
        (1720742302233, "MILLISECOND", 1720742302233000),
        (1720742302233719, "MICROSECOND", 1720742302233719),
        (1720742302233, "MICROSECOND", 1720742302233),  # never by magnitude
        (1720742302, "SECOND", 1720742302000000),
        (1720742302, ..., 1720742302000),
        (1720742302.5, "SECOND", 1720742302500000),
        (1720742302233.0, ..., 1720742302233000),
    ],
)
def test_kds_time_is_read_in_its_declared_unit(time: Any, precision: Any, changed_us: int) -> None:
    record = changed(
        forms.kds(CHANGE), ApproximateCreationDateTime=time, ApproximateCreationDateTimePrecision=precision
    )
    assert one(record).changed_us == changed_us


@given(st.integers(0, 4_000_000_000_000_000))
def test_streams_fraction_of_a_second_is_kept_to_the_microsecond(time_us: int) -> None:
    text = f"{time_us // 1_000_000}.{time_us % 1_000_000:06d}"
    record = changed(forms.streams(CHANGE), ApproximateCreationDateTime=orjson.loads(text))
    assert one(record).changed_us == time_us
    assert one(changed(record, ApproximateCreationDateTime=text)).changed_us == time_us


def test_streams_datetimes_are_exact_in_any_zone() -> None:
    aware = datetime(2024, 5, 14, 11, 14, 20, 608123, UTC)
    for time in (aware, aware.replace(tzinfo=None), aware.astimezone(timezone(timedelta(hours=-7)))):
        assert one(changed(forms.streams(CHANGE), ApproximateCreationDateTime=time)).changed_us == 1715685260608123


def test_streams_record_without_a_time_is_kept_for_its_sequence_number() -> None:
    record = changed(forms.streams(CHANGE), ApproximateCreationDateTime=...)
    assert one(record).changed_us == 0
    assert reason(changed(record, SequenceNumber=...)).startswith("dynamodb.ApproximateCreationDateTime: ")


@pytest.mark.parametrize("time", [None, "x", -1, True, 10**30, 1e300, float("nan"), [], {}, "1e5", 253402300800000])
def test_kds_time_that_is_none_is_rejected_by_name(time: Any) -> None:
    assert reason(changed(forms.kds(CHANGE, micros=False), ApproximateCreationDateTime=time)) == (
        "dynamodb.ApproximateCreationDateTime: no time from 1970 to 9999 in the declared unit (MILLISECOND)"
    )


def test_unknown_precision_is_rejected() -> None:
    record = changed(forms.kds(CHANGE), ApproximateCreationDateTimePrecision="NANOSECOND")
    assert reason(record).startswith("dynamodb.ApproximateCreationDateTimePrecision: ")


# the members of a capture


@pytest.mark.parametrize("arn", ["eventsource_arn", "stream-ARN", "", None, 5, "arn:aws:kinesis:eu-west-1:1:stream/x"])
def test_streams_record_with_a_garbage_arn_has_no_stream_and_no_table(arn: Any) -> None:
    record = one({**forms.streams(CHANGE), "eventSourceARN": arn})
    assert (record.kind, record.stream, record.table) == ("streams", None, None)


def test_sequence_number_makes_a_streams_record_even_with_a_table_name() -> None:
    record = one({**forms.streams(CHANGE), "tableName": "given"})
    assert (record.kind, record.table, record.stream) == ("streams", "given", forms.ARN)


def test_ttl_delete_is_marked_in_either_capitalisation_and_only_on_remove() -> None:
    removed = {**forms.kds(CHANGE), "eventName": "REMOVE"}
    removed = changed(removed, NewImage=...)
    by_ttl = ({"type": "Service", "principalId": "dynamodb.amazonaws.com"},
              {"Type": "Service", "PrincipalId": "dynamodb.amazonaws.com"})  # fmt: skip
    for identity in by_ttl:
        assert one({**removed, "userIdentity": identity}).ttl
        assert not one({**forms.kds(CHANGE), "userIdentity": identity}).ttl
    for identity in (None, {}, {"type": "Service"}, {"type": "AWS", "principalId": "dynamodb.amazonaws.com"}, "x"):
        assert not one({**removed, "userIdentity": identity}).ttl


@pytest.mark.parametrize("name", ["INSERT", "MODIFY"])
def test_change_without_a_new_image_is_rejected_naming_the_view_type(name: str) -> None:
    record = changed({**forms.streams(CHANGE), "eventName": name}, NewImage=..., StreamViewType="KEYS_ONLY")
    assert "StreamViewType NEW_AND_OLD_IMAGES" in reason(record)


def test_remove_needs_no_image() -> None:
    record = one(changed({**forms.kds(CHANGE), "eventName": "REMOVE"}, NewImage=..., OldImage=...))
    assert (record.event_name, record.new_image, record.old_image) == ("REMOVE", None, None)


@pytest.mark.parametrize(
    ("members", "start"),
    [
        ({"Keys": ...}, "Keys: missing"),
        ({"Keys": []}, "Keys: a key is an object"),
        ({"Keys": {}}, "Keys: a key is an object"),
        ({"Keys": {"id": {"BOOL": True}}}, "Keys: a key attribute is S, N or B"),
        ({"NewImage": []}, "NewImage: expected an object"),
        ({"NewImage": {"id": {"S": "a"}, "n": {"N": "secret"}}}, "NewImage: not the text of a finite number at n"),
        ({"NewImage": {"id": {"S": "b"}}}, "NewImage: its key attributes are not those of Keys"),
        ({"NewImage": {}}, "NewImage: its key attributes are not those of Keys"),
        ({"OldImage": {"id": {"X": "a"}}}, "OldImage: unknown type tag at id"),
        ({"SequenceNumber": "x"}, "dynamodb.SequenceNumber: not digits"),
    ],
)
def test_invalid_member_is_rejected_by_name(members: dict[str, Any], start: str) -> None:
    assert reason(changed(forms.kds(CHANGE), **members)).startswith(start)


def test_invalid_top_level_member_is_rejected_by_name() -> None:
    assert reason({**forms.kds(CHANGE), "eventName": "UPSERT"}).startswith("eventName: ")
    assert reason({**forms.kds(CHANGE), "eventName": ["INSERT"]}).startswith("eventName: ")
    assert reason({**forms.kds(CHANGE), "eventID": 5}).startswith("eventID: ")
    assert reason({**forms.kds(CHANGE), "dynamodb": None}).startswith("dynamodb: ")


def test_unknown_top_level_members_are_ignored() -> None:
    assert one({**forms.kds(CHANGE), "extra": {"Event": 1}}) == one(forms.kds(CHANGE))


def test_key_respelled_in_the_image_is_the_same_key() -> None:
    record = changed(forms.kds(CHANGE), Keys={"id": {"N": "1"}}, NewImage={"id": {"N": "1.0"}}, OldImage=...)
    assert one(record).new_image == {"id": {"N": "1.0"}}


def test_damaged_stamp_does_not_cost_the_record() -> None:
    stamp = {"sequenceNumber": "x", "shardId": 5, "approximateArrivalTimestamp": "never"}
    for metadata in (stamp, {}, None, "x"):
        record = one({**forms.kds(CHANGE), "kinesisRecordMetadata": metadata})
        assert record == one(forms.kds(CHANGE))


# wrappers


def test_bad_element_is_rejected_with_its_own_bytes_and_the_rest_goes_on() -> None:
    good = forms.streams(CHANGE)
    event = {"Records": [good, {"Sns": {}}, 5, None, {**good, "eventName": "x"}, good]}
    outcomes = read(event)
    assert [type(outcome).__name__ for outcome in outcomes] == ["ChangeRecord", *["Rejected"] * 4, "ChangeRecord"]
    assert [orjson.loads(o.raw) for o in outcomes if isinstance(o, Rejected)] == [
        {"Sns": {}}, 5, None, {**good, "eventName": "x"},
    ]  # fmt: skip


@pytest.mark.parametrize("event", [forms.kinesis_event, forms.firehose_event])
def test_payload_holds_several_records_and_garbage(event: Any) -> None:
    raw = forms.compact(forms.kds(CHANGE))
    outcomes = read(event(raw + raw + b"\n" + raw, b"Hello World", raw))
    assert [type(o).__name__ for o in outcomes] == [*["ChangeRecord"] * 3, "Rejected", "ChangeRecord"]
    assert isinstance(outcomes[3], Rejected)
    assert outcomes[3].raw == b"Hello World"


@pytest.mark.parametrize("data", ["", "not base64 data", None, 5])
def test_payload_that_is_no_base64_is_rejected_whole(data: Any) -> None:
    event = forms.kinesis_event(b"x")
    event["Records"][0]["kinesis"]["data"] = data
    (rejected,) = read(event)
    assert isinstance(rejected, Rejected)
    assert orjson.loads(rejected.raw) == event["Records"][0]


def test_payload_of_white_space_is_rejected() -> None:
    assert reason(forms.kinesis_event(b" \n")) == "a payload that holds nothing"


def test_error_object_that_cannot_be_unwrapped_is_rejected_naming_the_code() -> None:
    for raw_data in ("not base64 data", "", None, 5):
        assert reason({**forms.error_object(b"x"), "rawData": raw_data}).startswith(
            "Firehose error Lambda.FunctionError: rawData"
        )
    assert reason(forms.error_object(b"x")) == "Firehose error Lambda.FunctionError: no JSON object"
    assert reason(forms.conversion_error(b"{}")) == (
        "Firehose error DataFormatConversion.MalformedData: no known envelope"
    )
    assert reason({"rawData": "eA==", "errorCode": "x\ny"}) == "Firehose error without an error code: no JSON object"


def test_error_object_keeps_its_own_bytes_when_it_cannot_be_unwrapped() -> None:
    obj = {**forms.error_object(b"x"), "rawData": "not base64 data"}
    (rejected,) = read(obj, raw=b"its bytes")
    assert rejected == Rejected(
        "Firehose error Lambda.FunctionError: rawData: missing, empty or no base64", b"its bytes"
    )


def test_wrappers_within_wrappers_are_opened_to_a_limit() -> None:
    raw = forms.compact(forms.kds(CHANGE))
    for _ in range(MAX_WRAPPERS):
        raw = forms.compact(forms.error_object(raw))
    assert isinstance(one(orjson.loads(raw)), ChangeRecord)
    assert reason(forms.error_object(raw)).endswith("wrappers within wrappers, nested too deeply")


def test_empty_event_gives_nothing() -> None:
    assert read({"Records": []}) == []


# flattened records

FLATTENED = {"id": "864732", "name": "Adam", "Event": "INSERT", "ingestion_timestamp": "2022-03-01 10:11:12.345678"}


def test_flattened_record_gives_the_item_without_what_was_added() -> None:
    item: Any = {"id": {"S": "864732"}, "name": {"S": "Adam"}}
    record = one(FLATTENED, key_names=("id",))
    assert record == ChangeRecord("flattened", "INSERT", 1646129472345678, {"id": {"S": "864732"}}, item)
    removed = one({**FLATTENED, "Event": "REMOVE"}, key_names=("id",))
    assert (removed.new_image, removed.old_image) == (None, item)


@pytest.mark.parametrize(
    ("text", "changed_us"),
    [
        ("2022-03-01 10:11:12", 1646129472000000),
        ("2022-03-01T10:11:12.5Z", 1646129472500000),
        ("2022-03-01 11:11:12+01:00", 1646129472000000),
    ],
)
def test_flattened_times(text: str, changed_us: int) -> None:
    assert one({**FLATTENED, "ingestion_timestamp": text}, key_names=("id",)).changed_us == changed_us


@pytest.mark.parametrize(
    ("obj", "start"),
    [
        ({**FLATTENED, "Event": "UPSERT"}, "Event: "),
        ({**FLATTENED, "ingestion_timestamp": "yesterday"}, "ingestion_timestamp: "),
        ({**FLATTENED, "ingestion_timestamp": 5}, "ingestion_timestamp: "),
        ({**FLATTENED, "ingestion_timestamp": "0001-01-01 00:00:00+14:00"}, "ingestion_timestamp: "),
        ({**FLATTENED, "id": None}, "a key attribute is S, N or B"),
        ({**FLATTENED, "x": float("nan")}, "not the text of a finite number at x"),
        ({"Event": "INSERT", "ingestion_timestamp": "2022-03-01 10:11:12"}, "a flattened record lacks"),
    ],
)
def test_flattened_record_that_is_invalid_is_rejected_by_name(obj: Any, start: str) -> None:
    assert reason(obj, key_names=("id",)).startswith(start)


def test_flattened_record_without_a_configured_key_says_so() -> None:
    assert "configure the table's `key`" in reason(FLATTENED)


def test_flattened_record_may_have_attributes_named_like_envelopes() -> None:
    record = one({**FLATTENED, "dynamodb": {"Keys": 1}, "Records": [], "rawData": "x"}, key_names=("id",))
    assert set(record.new_image or {}) == {"id", "name", "dynamodb", "Records", "rawData"}


# export lines


@pytest.mark.parametrize("time", [{"N": "1680109764000000"}, "1680109764000000", 1680109764000000])
def test_incremental_line_is_an_assertion(time: Any) -> None:
    keys, new, old = CHANGE.keys, CHANGE.new_image, CHANGE.old_image
    line = {"Metadata": {"WriteTimestampMicros": time}, "Keys": keys, "NewImage": new, "OldImage": old}
    record = one(line, asserted_us=7)
    assert record == ChangeRecord("incremental", "UPSERT", 1680109764000000, keys, new, old, asserted_us=7)
    del line["NewImage"]
    assert one(line).event_name == "DELETE"
    assert one({**line, "NewImage": None}) == one(line)


def test_incremental_line_without_its_time_takes_the_export_s_or_is_rejected() -> None:
    for line in ({"Keys": CHANGE.keys}, {"Keys": CHANGE.keys, "Metadata": {}}, {"Keys": CHANGE.keys, "Metadata": 5}):
        assert one(line, asserted_us=7).changed_us == 7
        assert reason(line).startswith("Metadata.WriteTimestampMicros: missing")


@pytest.mark.parametrize("time", [{"N": "x"}, {}, {"N": None}, "", -1, [], True])
def test_incremental_line_with_an_invalid_time_is_rejected(time: Any) -> None:
    line = {"Metadata": {"WriteTimestampMicros": time}, "Keys": CHANGE.keys}
    assert reason(line, asserted_us=7).startswith("Metadata.WriteTimestampMicros: ")


def test_incremental_line_without_keys_is_rejected_by_name() -> None:
    line = {"Metadata": {"WriteTimestampMicros": {"N": "1"}}, "NewImage": CHANGE.new_image}
    assert reason(line) == "Keys: missing"


def test_part_of_a_capture_is_no_incremental_line() -> None:
    assert reason(forms.kds(CHANGE)["dynamodb"], asserted_us=7) == "no known envelope"


def test_full_export_line_is_rejected_naming_the_command() -> None:
    assert "`ddb-lake load`" in reason({"Item": CHANGE.new_image})


@pytest.mark.parametrize("obj", [None, 5, "x", [], {}, {"Item": {}, "x": 1}, {"Hello": "World"}])
def test_what_is_no_envelope_is_rejected(obj: Any) -> None:
    assert reason(obj) == "no known envelope"


# real files


@needs_samples
@pytest.mark.parametrize(
    ("name", "records", "rejected"),
    [
        ("dynamodb_streams_events/aws-lambda-go-dynamodb-event.json", 1, 1),  # one has an empty set, which cannot be
        ("dynamodb_streams_events/aws-lambda-go-dynamodb-time-window-event.json", 3, 0),
        ("dynamodb_streams_events/powertools-py-dynamoStreamEvent.json", 2, 0),
        ("dynamodb_streams_events/powertools-ts-dynamodb-base.json", 2, 0),
        ("firehose_lambda_events/aws-lambda-go-kinesis-firehose-event.json", 0, 2),
        ("firehose_lambda_events/powertools-py-kinesisFirehoseKinesisEvent.json", 0, 2),
        ("kds_records/powertools-ts-dynamodb-stream.json", 2, 0),
    ],
)
def test_sample_event_gives_one_outcome_for_each_record(name: str, records: int, rejected: int) -> None:
    outcomes = read(orjson.loads((SAMPLES / name).read_bytes()))
    kinds = [type(outcome) for outcome in outcomes]
    assert (kinds.count(ChangeRecord), kinds.count(Rejected)) == (records, rejected)


@needs_samples
def test_sample_kinesis_event_has_its_metadata() -> None:
    event = orjson.loads((SAMPLES / "kds_records/powertools-ts-dynamodb-stream.json").read_bytes())
    first, _ = read(event)
    assert isinstance(first, ChangeRecord)
    assert first.kinesis_sequence == "49657828409187701520019995242508390119953358325192589314"
    assert (first.shard, first.arrived_us) == ("shardId-000000000000", 1731924555932000)
    assert first.changed_us == 1731924555370000
