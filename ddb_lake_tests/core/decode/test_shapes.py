"""Any record in any chain of wrappers, encodings and containers is the record it is by itself."""

from __future__ import annotations

import base64
import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import ddb_lake
from ddb_lake.core.decode.compression import DEFAULT_LIMIT_BYTES, TOO_LARGE
from ddb_lake.core.decode.envelopes import PAGE, _Room
from ddb_lake.core.decode.kpl import find_aggregates
from ddb_lake.core.decode.objects import read_object
from ddb_lake.core.decode.shapes import NOTICES, WRAPPERS, notice_of, wrapper_of
from ddb_lake.core.values.change_record import ChangeRecord, Rejected
from ddb_lake.core.values.identity import record_id
from ddb_lake_tests.support import envelopes, wrapped_records
from ddb_lake_tests.support.decoded_changes import CHANGE, one, reason
from ddb_lake_tests.support.effort import by_effort

EXAMPLES = [(name, index) for name, examples in wrapped_records.WRAPPERS.items() for index in range(len(examples))]
BARE = [envelopes.kds(CHANGE), envelopes.kds(CHANGE, micros=False), envelopes.streams(CHANGE)]


def records(data: bytes) -> list[Any]:
    return [located.outcome for located in read_object(data, key_names=("id",))]


def without_arrival(record: ChangeRecord) -> ChangeRecord:
    return replace(record, kinesis_sequence=None, shard=None, arrived_us=None)


def test_each_wrapper_has_examples_and_is_documented_with_its_page() -> None:
    assert [wrapper.name for wrapper in WRAPPERS] == list(wrapped_records.WRAPPERS)
    page = (Path(ddb_lake.__file__).parents[1] / PAGE).read_text()
    for entry in (*WRAPPERS, *NOTICES):
        assert f"[{entry.name}]({entry.page})" in re.sub(r"\s+", " ", page)


@pytest.mark.parametrize(("name", "index"), EXAMPLES)
@pytest.mark.parametrize("bare", BARE)
def test_wrapped_record_is_the_record_it_is_by_itself(name: str, index: int, bare: Any) -> None:
    wrapped = wrapped_records.WRAPPERS[name][index](bare)
    found = wrapper_of(wrapped)
    assert found is not None and found.name == name and found.is_certain(wrapped)
    assert without_arrival(one(wrapped)) == one(bare)
    assert record_id(one(wrapped)) == record_id(one(bare))


@given(
    st.sampled_from(BARE),
    st.lists(st.sampled_from(EXAMPLES), max_size=3),
    st.lists(st.sampled_from(sorted(wrapped_records.VALUES)), min_size=3, max_size=3),
    st.sampled_from(sorted(wrapped_records.ENCODINGS)),
    st.lists(st.sampled_from(sorted(wrapped_records.CONTAINERS)), max_size=3),
)
@settings(max_examples=200)
def test_record_in_any_chain_is_the_record_it_is_by_itself(
    bare: Any, chain: list[tuple[str, int]], values: list[str], encoding: str, containers: list[str]
) -> None:
    value = bare
    for (name, index), form in zip(chain, values, strict=False):
        value = wrapped_records.WRAPPERS[name][index](wrapped_records.VALUES[form](value))
    data = wrapped_records.ENCODINGS[encoding](json.dumps(value))
    for container in containers:
        data = wrapped_records.CONTAINERS[container](data)
    (found,) = records(data)
    assert isinstance(found, ChangeRecord), (chain, found)
    assert without_arrival(found) == one(bare)


@given(st.lists(st.sampled_from(["plain", "base64", "string", "aggregate"]), min_size=1, max_size=6))
@settings(max_examples=60)
def test_lines_in_several_encodings_give_every_record(kinds: list[str]) -> None:
    lines = []
    for number, kind in enumerate(kinds):
        raw = envelopes.compact(envelopes.kds(replace(CHANGE, event_id=f"event-{number}")))
        encoded = {
            "plain": raw,
            "base64": wrapped_records.CONTAINERS["base64"](raw),
            "string": json.dumps(raw.decode()).encode(),
            "aggregate": wrapped_records.aggregated(raw),
        }
        lines.append(encoded[kind])
    found = records(b"\n".join(lines))
    assert [record.event_id for record in found] == [f"event-{number}" for number in range(len(kinds))]


def test_records_of_an_aggregate_are_read_without_other_entries() -> None:
    raw = [envelopes.compact(envelopes.kds(replace(CHANGE, event_id=str(number)))) for number in range(5)]
    for data in (
        wrapped_records.aggregated(*raw),
        wrapped_records.aggregated(*raw[:2]) + wrapped_records.aggregated(*raw[2:]),
    ):
        assert [record.event_id for record in records(data)] == ["0", "1", "2", "3", "4"]
        event = {"Records": [{"kinesis": {"data": base64.b64encode(data).decode()}}]}
        assert [record.event_id for record in records(envelopes.compact(event))] == ["0", "1", "2", "3", "4"]
    damaged = wrapped_records.aggregated(*raw)[:-1] + b"\x00"
    assert list(find_aggregates(damaged)) == []


@given(st.binary(max_size=300), st.binary(max_size=40))
def test_find_aggregates_never_raises(before: bytes, after: bytes) -> None:
    list(find_aggregates(before + b"\xf3\x89\x9a\xc2" + after))


# the spellings of SDKs and the condensed forms


def spelled(obj: Any, change: Any) -> Any:
    return {change(name): value for name, value in obj.items()}


@pytest.mark.parametrize("unset", [False, True])
def test_record_in_the_spelling_of_an_sdk_is_the_record(unset: bool) -> None:
    bare = envelopes.streams(CHANGE)
    nulls = dict.fromkeys(("B", "BOOL", "BS", "L", "M", "N", "NS", "NULL", "S", "SS")) if unset else {}

    def go(image: Any) -> Any:
        return {name: {**nulls, **value} for name, value in image.items()}

    def java(image: Any) -> Any:
        lower = {name.lower(): value for name, value in nulls.items()}
        return {n: {**lower, **{tag.lower(): v for tag, v in value.items()}} for n, value in image.items()}

    body = bare["dynamodb"]
    images = ("Keys", "NewImage", "OldImage")
    in_go = {name: go(value) if name in images else value for name, value in body.items()}
    top = {name: value for name, value in bare.items() if name != "dynamodb"}
    record = {**spelled(top, lambda name: name[0].upper() + name[1:]), "Dynamodb": in_go, "UserIdentity": None}
    assert one({**record, "EventSourceARN": record.pop("EventSourceARN")}) == one(bare)
    in_java = {name: java(value) if name in images else value for name, value in body.items()}
    assert one({**top, "dynamodb": spelled(in_java, lambda name: name[0].lower() + name[1:])}) == one(bare)


def test_values_of_a_record_in_dynamodb_s_spelling_are_not_respelled() -> None:
    bare = envelopes.streams(CHANGE)
    for value in ({"s": "x"}, {"S": "x", "N": None}):
        body = {**bare["dynamodb"], "NewImage": {**CHANGE.keys, "x": value}}
        assert "NewImage" in reason({**bare, "dynamodb": body})


def test_condensed_record_and_body_alone_are_the_record_but_for_its_id() -> None:
    bare = envelopes.streams(CHANGE)
    expected = replace(one(bare), event_id=None, table=None, stream=None)
    condensed = {name: value for name, value in bare["dynamodb"].items() if name != "StreamViewType"}
    assert one({**condensed, "eventName": "MODIFY"}) == expected
    assert one(bare["dynamodb"]) == expected


# what is recognised and holds no record

NOTICE_EXAMPLES = {
    "Lambda event source mapping failure in SQS or SNS": {
        "requestContext": wrapped_records.CONTEXT, "version": "1.0", "timestamp": "2024-05-14T12:00:00.000Z",
        "DDBStreamBatchInfo": {"shardId": "s", "batchSize": 1, "streamArn": "a"},
    },
    "S3 notification": {"eventSource": "aws:s3", "s3": {"bucket": {"name": "b"}, "object": {"key": "k"}}},
    "output of Scan or Query": {"Items": [{"id": {"S": "a"}}], "Count": 1, "ScannedCount": 1},
    "Debezium change event": {"payload": {"before": None, "after": {"id": "a"}, "op": "c", "ts_ms": 1}},
}  # fmt: skip


def test_each_notice_is_rejected_with_the_reason_why_it_is_not_read() -> None:
    assert [notice.name for notice in NOTICES] == list(NOTICE_EXAMPLES)
    for notice in NOTICES:
        example = NOTICE_EXAMPLES[notice.name]
        assert notice_of(example) is notice and wrapper_of(example) is None
        assert reason(example) == notice.reason


# objects in which nothing can be read


def test_object_in_which_nothing_can_be_read_is_one_entry_with_its_bytes() -> None:
    binary = bytes(range(256)) * 200
    for data in (binary, b"id,v\n1,2\n3,4\n", wrapped_records.CONTAINERS["gzip"](b"id,v\n1,2\n")):
        (only,) = records(data)
        assert isinstance(only, Rejected)
        assert only.raw == data
        assert only.reason.startswith("nothing in this object can be read")


def test_garbage_beside_a_record_keeps_its_bytes_at_its_offset() -> None:
    data = b"\t junk \r\n" + envelopes.compact(BARE[0]) + b"  more\tjunk \nrest"
    for located in read_object(data, key_names=("id",)):
        if isinstance(located.outcome, Rejected):
            assert data[located.offset : located.offset + len(located.outcome.raw)] == located.outcome.raw
    assert [outcome.raw for outcome in records(data) if isinstance(outcome, Rejected)] == [
        b"\t junk \r", b"  more\tjunk ", b"rest",
    ]  # fmt: skip


@pytest.mark.parametrize("data", [b"PAR1\x15\x04 PAR1", b"PAR1" + bytes(500), b"ORC\x0a\x03\x00" + bytes(100)])
def test_converted_object_is_one_entry_that_names_the_setting(data: bytes) -> None:
    (only,) = records(data)
    assert "record format conversion" in only.reason and "Enabled: false" in only.reason
    assert only.raw == data


@pytest.mark.more_examples
def test_bomb_within_wrappers_stays_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """40 containers that together exceed the limit: an object's, an eighth of it with `exhaustive`, a 128th in `make test`."""
    scale = by_effort(7, 3, 0)
    monkeypatch.setattr(_Room.__init__, "__defaults__", (DEFAULT_LIMIT_BYTES >> scale,))
    bomb = wrapped_records.CONTAINERS["gzip"](bytes(1 << (24 - scale)))
    event = {"Records": [{"recordId": "1", "data": base64.b64encode(bomb).decode()}] * 40}
    found = records(envelopes.compact(event))
    assert len(found) == 40
    assert any(TOO_LARGE in outcome.reason for outcome in found)
