from __future__ import annotations

import base64
import json
from datetime import UTC, datetime
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from ddb_lake.core.capture.stream_lines import (
    REPLICATION_DELAY_US,
    changed_us,
    kinesis_line,
    sequence_of,
    stream_line,
)
from ddb_lake.core.decode.arrival_stamp import Arrival
from ddb_lake.core.decode.captures import read_capture
from ddb_lake_tests.support import envelopes

_TIMES = st.integers(1_500_000_000, 1_900_000_000)


def _boto(value: Any) -> Any:
    """A DynamoDB JSON value as boto3 gives it: binary as bytes."""
    ((tag, payload),) = value.items()
    if tag == "B":
        return {"B": base64.b64decode(payload)}
    if tag == "BS":
        return {"BS": [base64.b64decode(member) for member in payload]}
    if tag == "M":
        return {"M": {name: _boto(member) for name, member in payload.items()}}
    if tag == "L":
        return {"L": [_boto(member) for member in payload]}
    return value


@given(change=envelopes.changes(), second=_TIMES, number=st.integers(10**20, 10**39))
def test_line_of_a_record_reads_as_the_record_that_lambda_gets(
    change: envelopes.Change, second: int, number: int
) -> None:
    images = {"Keys": change.keys, "NewImage": change.new_image, "OldImage": change.old_image}
    body = {name: image for name, image in images.items() if image is not None}
    frame = {"eventID": change.event_id, "eventName": change.event_name, "eventVersion": "1.1", "awsRegion": "r"}
    rest = {"SequenceNumber": str(number), "SizeBytes": 1, "StreamViewType": "NEW_AND_OLD_IMAGES"}
    from_boto = {
        **frame,
        "dynamodb": {
            **{name: {key: _boto(value) for key, value in image.items()} for name, image in body.items()},
            **rest,
            "ApproximateCreationDateTime": datetime.fromtimestamp(second, UTC),
        },
    }
    for_lambda = {
        **frame,
        "dynamodb": {**body, **rest, "ApproximateCreationDateTime": second},
        "eventSourceARN": envelopes.ARN,
    }
    line = stream_line(from_boto, envelopes.ARN)
    assert line.endswith(b"\n")
    assert json.loads(line) == for_lambda
    assert read_capture(json.loads(line)) == read_capture(for_lambda)
    assert (sequence_of(from_boto), changed_us(from_boto)) == (str(number), second * 1_000_000)


@given(
    data=st.binary(max_size=200)
    | st.sampled_from([b"{}", b'{"a":1}\n{"b":2}', b'{"kinesisRecordMetadata":{},"x":1}', b'{"x":'])
)
def test_any_kinesis_data_lands_on_one_line_that_has_it(data: bytes) -> None:
    arrived = datetime(2026, 3, 1, 9, 30, tzinfo=UTC)
    record = {"Data": data, "SequenceNumber": "7", "ApproximateArrivalTimestamp": arrived}
    found = kinesis_line(record, "shardId-1")
    assert found.line.count(b"\n") == 1
    document = json.loads(found.line)
    if "kinesis" in document:
        assert base64.b64decode(document["kinesis"]["data"]) == data
    else:
        stamp = document.pop("kinesisRecordMetadata")
        assert document == json.loads(data)
        assert stamp == {"sequenceNumber": "7", "shardId": "shardId-1", "approximateArrivalTimestamp": 1772357400000}
    assert (found.sequence, found.time_us) == ("7", 1_772_357_400_000_000 - REPLICATION_DELAY_US)


@given(change=envelopes.changes())
def test_kinesis_record_reads_as_the_record_with_its_arrival(change: envelopes.Change) -> None:
    data = json.dumps(envelopes.kds(change)).encode()
    arrived = datetime(2026, 3, 1, 9, 30, tzinfo=UTC)
    line = kinesis_line({"Data": data, "SequenceNumber": "7", "ApproximateArrivalTimestamp": arrived}, "shardId-1").line
    expected = read_capture(json.loads(data), Arrival("7", "shardId-1", 1_772_357_400_000_000))
    assert read_capture(json.loads(line)) == expected
