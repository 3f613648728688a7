from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ddb_lake.core.values.change_record import ChangeRecord
from ddb_lake.core.values.times import EARLIEST_US
from ddb_lake_tests.support import envelopes
from ddb_lake_tests.support.decoded_changes import CHANGE, changed, one, reason

# times


@pytest.mark.parametrize(
    ("time", "precision", "changed_us"),
    [
        (1720742302233, ..., 1720742302233000),
        (1720742302233, "MILLISECOND", 1720742302233000),
        (1720742302233719, "MICROSECOND", 1720742302233719),
        (4102444800000, "MILLISECOND", 4102444800000000),
        ("1720742302233", ..., 1720742302233000),
        ("1.720742302233E12", ..., 1720742302233000),
        ("2024-07-11T23:58:22.233Z", ..., 1720742302233000),
        (1720742302233719, "microsecond", 1720742302233719),
        (1720742302, "SECOND", 1720742302000000),
        (1720742302.5, "SECOND", 1720742302500000),
        (1720742302233.0, ..., 1720742302233000),
    ],
)
def test_kds_time_is_read_in_its_declared_unit(time: Any, precision: Any, changed_us: int) -> None:
    record = changed(
        envelopes.kds(CHANGE), ApproximateCreationDateTime=time, ApproximateCreationDateTimePrecision=precision
    )
    assert one(record).changed_us == changed_us


@given(st.integers(EARLIEST_US, 4_000_000_000_000_000))
def test_streams_fraction_of_a_second_is_kept_to_the_microsecond(time_us: int) -> None:
    text = f"{time_us // 1_000_000}.{time_us % 1_000_000:06d}"
    record = changed(envelopes.streams(CHANGE), ApproximateCreationDateTime=orjson.loads(text))
    assert one(record).changed_us == time_us
    assert one(changed(record, ApproximateCreationDateTime=text)).changed_us == time_us


def test_streams_datetimes_are_exact_in_any_zone() -> None:
    aware = datetime(2024, 5, 14, 11, 14, 20, 608123, UTC)
    for time in (aware, aware.replace(tzinfo=None), aware.astimezone(timezone(timedelta(hours=-7)))):
        assert one(changed(envelopes.streams(CHANGE), ApproximateCreationDateTime=time)).changed_us == 1715685260608123


def test_streams_record_without_a_time_is_kept_for_its_sequence_number() -> None:
    record = changed(envelopes.streams(CHANGE), ApproximateCreationDateTime=...)
    assert one(record).changed_us == 0
    assert reason(changed(record, SequenceNumber=...)).startswith("dynamodb.ApproximateCreationDateTime: ")


@pytest.mark.parametrize("time", [-1, True, 10**30, 1e300, float("nan"), [], {}, "1e90", 253402300800000])
def test_kds_time_that_is_none_is_rejected_by_name(time: Any) -> None:
    assert reason(changed(envelopes.kds(CHANGE, micros=False), ApproximateCreationDateTime=time)) == (
        "dynamodb.ApproximateCreationDateTime: no time from 1970 to 9999 in the declared unit (MILLISECOND)"
    )


def test_kds_record_without_a_time_is_rejected() -> None:
    for record in (envelopes.kds(CHANGE), changed(envelopes.kds(CHANGE), ApproximateCreationDateTime=...)):
        assert reason(changed(record, ApproximateCreationDateTime=None)) == (
            "dynamodb.ApproximateCreationDateTime: missing"
        )


def test_unknown_precision_is_rejected() -> None:
    record = changed(envelopes.kds(CHANGE), ApproximateCreationDateTimePrecision="NANOSECOND")
    assert reason(record).startswith("dynamodb.ApproximateCreationDateTimePrecision: ")


# the members of a capture


@pytest.mark.parametrize("arn", ["eventsource_arn", "stream-ARN", "", None, 5, "arn:aws:kinesis:eu-west-1:1:stream/x"])
def test_streams_record_with_a_garbage_arn_has_no_stream_and_no_table(arn: Any) -> None:
    record = one({**envelopes.streams(CHANGE), "eventSourceARN": arn})
    assert (record.kind, record.stream, record.table) == ("streams", None, None)


def test_sequence_number_makes_a_streams_record_even_with_a_table_name() -> None:
    record = one({**envelopes.streams(CHANGE), "tableName": "given"})
    assert (record.kind, record.table, record.stream) == ("streams", "given", envelopes.ARN)


def test_ttl_delete_is_marked_in_either_capitalisation_and_only_on_remove() -> None:
    removed = {**envelopes.kds(CHANGE), "eventName": "REMOVE"}
    removed = changed(removed, NewImage=...)
    by_ttl = ({"type": "Service", "principalId": "dynamodb.amazonaws.com"},
              {"Type": "Service", "PrincipalId": "dynamodb.amazonaws.com"})  # fmt: skip
    for identity in by_ttl:
        assert one({**removed, "userIdentity": identity}).ttl
        assert not one({**envelopes.kds(CHANGE), "userIdentity": identity}).ttl
    for identity in (None, {}, {"type": "Service"}, {"type": "AWS", "principalId": "dynamodb.amazonaws.com"}, "x"):
        assert not one({**removed, "userIdentity": identity}).ttl


@pytest.mark.parametrize("name", ["INSERT", "MODIFY"])
def test_change_without_a_new_image_is_rejected_naming_the_view_type(name: str) -> None:
    record = changed({**envelopes.streams(CHANGE), "eventName": name}, NewImage=..., StreamViewType="KEYS_ONLY")
    assert "StreamViewType NEW_AND_OLD_IMAGES" in reason(record)


def test_remove_needs_no_image() -> None:
    record = one(changed({**envelopes.kds(CHANGE), "eventName": "REMOVE"}, NewImage=..., OldImage=...))
    assert (record.event_name, record.new_image, record.old_image) == ("REMOVE", None, None)


def test_remove_with_a_new_image_contradicts_itself() -> None:
    assert reason({**envelopes.kds(CHANGE), "eventName": "REMOVE"}) == "NewImage: a REMOVE has none"
    for nothing in (None, {}):
        removed = changed({**envelopes.kds(CHANGE), "eventName": "REMOVE"}, NewImage=nothing)
        assert one(removed).new_image is None


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
    assert reason(changed(envelopes.kds(CHANGE), **members)).startswith(start)


def test_invalid_top_level_member_is_rejected_by_name() -> None:
    assert reason({**envelopes.kds(CHANGE), "eventName": "UPSERT"}).startswith("eventName: ")
    assert reason({**envelopes.kds(CHANGE), "eventName": ["INSERT"]}).startswith("eventName: ")
    assert reason({**envelopes.kds(CHANGE), "eventID": 5}).startswith("eventID: ")
    assert reason({**envelopes.kds(CHANGE), "dynamodb": None}).startswith("dynamodb: ")


def test_unknown_top_level_members_are_ignored() -> None:
    assert one({**envelopes.kds(CHANGE), "extra": {"Event": 1}}) == one(envelopes.kds(CHANGE))


def test_key_respelled_in_the_image_is_the_same_key() -> None:
    record = changed(envelopes.kds(CHANGE), Keys={"id": {"N": "1"}}, NewImage={"id": {"N": "1.0"}}, OldImage=...)
    assert one(record).new_image == {"id": {"N": "1.0"}}


def test_damaged_stamp_does_not_cost_the_record() -> None:
    stamp = {"sequenceNumber": "x", "shardId": 5, "approximateArrivalTimestamp": "never"}
    for metadata in (stamp, {}, None, "x"):
        record = one({**envelopes.kds(CHANGE), "kinesisRecordMetadata": metadata})
        assert record == one(envelopes.kds(CHANGE))


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
        ({**FLATTENED, "ingestion_timestamp": "1970-01-01 00:00:01"}, "ingestion_timestamp: earlier than 2012"),
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
    end_us = 1680109765000000
    record = one(line, asserted_us=end_us)
    assert record == ChangeRecord("incremental", "UPSERT", 1680109764000000, keys, new, old, asserted_us=end_us)
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
    assert reason(envelopes.kds(CHANGE)["dynamodb"], asserted_us=7).startswith("no known envelope")


def test_full_export_line_is_rejected_naming_the_command() -> None:
    assert "`ddb-lake load`" in reason({"Item": CHANGE.new_image})
