from __future__ import annotations

import io
import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest
from aws_lambda_powertools import Logger
from botocore.exceptions import ClientError, ConnectTimeoutError, ParamValidationError
from hypothesis import given
from hypothesis import strategies as st

from ddb_lake.core.capture.firehose_records import (
    MAX_BATCH_BYTES,
    MAX_BATCH_RECORDS,
    MAX_RECORD_BYTES,
    batches,
    line_of,
    oversize_key,
)
from ddb_lake.core.decode.objects import read_object
from ddb_lake.core.values.change_record import ChangeRecord
from ddb_lake.errors import ConfigError
from ddb_lake.lambdas import forward
from ddb_lake.lambdas.forward import Forwarder, Settings, handler
from ddb_lake_tests.support import envelopes
from ddb_lake_tests.support.decoded_changes import CHANGE
from ddb_lake_tests.support.firehose_events import BLOCKED
from ddb_lake_tests.support.samples import sample_files
from ddb_lake_tests.support.strategies import json_values

OWNER = "111122223333"
SETTINGS = Settings("hose", "spare", "big/", {"ExpectedBucketOwner": OWNER})


def client_error(code: str, status: int = 400) -> ClientError:
    response: Any = {"Error": {"Code": code, "Message": ""}, "ResponseMetadata": {"HTTPStatusCode": status}}
    return ClientError(response, "PutRecordBatch")


@dataclass
class Service:
    """Firehose and S3 as the forwarder meets them: it takes records and objects, and fails as `script` says.

    An entry of the script is for one call each: an error to raise, or the numbers of the records to refuse.
    """

    script: list[Any] = field(default_factory=list)
    taken: list[bytes] = field(default_factory=list)
    objects: dict[str, bytes] = field(default_factory=dict)
    calls: list[int] = field(default_factory=list)
    pauses: list[float] = field(default_factory=list)

    def put_record_batch(self, DeliveryStreamName: str, Records: Sequence[dict[str, bytes]]) -> dict[str, Any]:
        assert DeliveryStreamName == "hose"
        data = [record["Data"] for record in Records]
        assert 0 < len(data) <= 500 and sum(map(len, data)) <= 4 * 2**20 and max(map(len, data)) <= 1000 * 2**10
        self.calls.append(len(data))
        refused = self._next()
        self.taken += [one for number, one in enumerate(data) if number not in refused]
        answers = [
            {"ErrorCode": "ServiceUnavailableException"} if number in refused else {"RecordId": "x"}
            for number in range(len(data))
        ]
        return {"FailedPutCount": len(refused & set(range(len(data)))), "RequestResponses": answers}

    def put_object(self, Bucket: str, Key: str, ExpectedBucketOwner: str, Body: bytes, ContentType: str) -> None:
        assert (Bucket, ExpectedBucketOwner, ContentType) == ("spare", OWNER, "application/json")
        self._next()
        self.objects[Key] = Body

    def _next(self) -> set[int]:
        fault = self.script.pop(0) if self.script else set()
        if isinstance(fault, Exception):
            raise fault
        return set(fault)

    def forward(self, records: Sequence[Any], remaining_s: float = 60) -> list[str]:
        forwarder = Forwarder(self, self, SETTINGS, self.pauses.append)
        failures = forwarder.forward(records, lambda: remaining_s)["batchItemFailures"]
        return [failure["itemIdentifier"] for failure in failures]


def stream_record(number: int, size: int = 0) -> dict[str, Any]:
    image = {**CHANGE.keys, "x": {"S": "é" * size}}
    change = envelopes.Change("INSERT", CHANGE.keys, image, None, CHANGE.changed_us, f"e{number}")
    return envelopes.streams(change, sequence(number))


def sequence(number: int) -> str:
    return str(10**20 + number)


def test_records_are_sent_in_order_one_to_a_line() -> None:
    service, records = Service(), [stream_record(number) for number in range(1201)]
    assert service.forward(records) == []
    assert service.calls == [500, 500, 201]
    assert service.taken == [envelopes.compact(record) + b"\n" for record in records]
    found = [located.outcome for located in read_object(b"".join(service.taken))]
    assert [r.sequence_number for r in found if isinstance(r, ChangeRecord)] == [sequence(n) for n in range(1201)]


def test_only_what_failed_is_sent_again_with_growing_pauses() -> None:
    service = Service([{1, 3}, {0}, client_error("ThrottlingException"), {0}, ConnectTimeoutError(endpoint_url="x")])
    records = [stream_record(number) for number in range(5)]
    assert service.forward(records) == []
    assert service.calls == [5, 2, 1, 1, 1, 1]
    assert sorted(service.taken) == sorted(map(line_of, records))
    assert all(0 <= pause <= min(5, 0.1 * 2**number) for number, pause in enumerate(service.pauses))
    assert len(service.pauses) == 5


def test_first_record_that_was_not_sent_comes_back_and_nothing_after_its_batch_is_sent() -> None:
    service, records = Service([set(), *[{0}, *[{0}] * 9]]), [stream_record(number) for number in range(1200)]
    service.script[1] = {7, 30}
    assert service.forward(records) == [sequence(507)]
    assert service.calls == [500, 500, 2] + [1] * 8  # ten attempts on the second batch, none on the third
    assert len(service.taken) == 500 + 498 + 1


def test_short_of_time_it_stops_trying() -> None:
    service = Service([{2}] * 99)
    assert service.forward([stream_record(number) for number in range(4)], remaining_s=-1) == [sequence(2)]
    assert service.calls == [4]


def test_record_without_a_sequence_number_asks_for_the_whole_batch() -> None:
    service = Service([{1}] * 99)
    assert service.forward([stream_record(0), {"dynamodb": "x"}], remaining_s=-1) == [""]


@pytest.mark.parametrize("error", [client_error("ResourceNotFoundException"), client_error("AccessDeniedException")])
def test_fault_that_does_not_pass_raises(error: ClientError) -> None:
    with pytest.raises(ClientError):
        Service([error]).forward([stream_record(0)])
    with pytest.raises(ParamValidationError):
        Service([ParamValidationError(report="x")]).forward([stream_record(0)])


def test_oversized_record_goes_to_its_own_object_and_holds_nothing_up() -> None:
    service = Service([set(), client_error("SlowDown", 503)])
    records = [stream_record(0), stream_record(1, MAX_RECORD_BYTES), stream_record(2)]
    assert service.forward(records) == []
    assert service.taken == [line_of(records[0]), line_of(records[2])]
    ((key, data),) = service.objects.items()
    assert key.startswith(f"big/2024/07/11/23/{sequence(1)}-") and key.endswith(".json")
    assert data == line_of(records[1])
    service.forward(records)
    assert list(service.objects) == [key]
    (located,) = read_object(data)
    assert isinstance(located.outcome, ChangeRecord)


def test_oversized_record_that_s3_does_not_take_comes_back() -> None:
    service = Service([set(), *[client_error("InternalError", 500)] * 99])
    records = [stream_record(0), stream_record(1, MAX_RECORD_BYTES), stream_record(2)]
    assert service.forward(records) == [sequence(1)]
    assert service.taken == [line_of(records[0])]


@given(st.lists(st.integers(0, MAX_RECORD_BYTES + 5) | st.integers(0, 3), max_size=1200))
def test_batches_hold_every_record_in_order_within_the_limits(sizes: list[int]) -> None:
    found = list(batches(sizes))
    assert [number for batch in found for number in batch] == list(range(len(sizes)))
    for batch in found:
        if len(batch) > 1 or sizes[batch[0]] <= MAX_RECORD_BYTES:
            assert len(batch) <= MAX_BATCH_RECORDS
            assert sum(sizes[number] for number in batch) <= MAX_BATCH_BYTES
            assert all(sizes[number] <= MAX_RECORD_BYTES for number in batch)


@given(st.lists(json_values(), max_size=6), st.lists(st.sets(st.integers(0, 5)), max_size=12))
def test_records_taken_and_records_that_come_again_are_all_records(records: list[Any], script: list[Any]) -> None:
    service = Service(list(script))
    failures = service.forward(records)
    sent = [line_of(record) for record in records]
    if failures:
        assert set(service.taken) <= set(sent)
    else:
        assert sorted(service.taken) == sorted(sent)
    for line in sent:
        assert line.endswith(b"\n") and line.count(b"\n") == 1
        json.loads(line)


@given(json_values())
def test_oversize_key_of_anything_is_a_key(record: Any) -> None:
    key = oversize_key(record, line_of(record))
    assert key.count("/") == 4 and key.isascii() and " " not in key


def test_sample_streams_events_are_forwarded_whole() -> None:
    events = [json.loads(path.read_text()) for path in sample_files("dynamodb_streams_events", "*.json")]
    assert len(events) >= 4
    for event in events:
        service = Service()
        assert service.forward(event["Records"]) == []
        assert [json.loads(line) for line in service.taken] == event["Records"]
        delivered = [located.outcome for located in read_object(b"".join(service.taken))]
        landed = [located.outcome for located in read_object(json.dumps(event).encode())]
        assert [o for o in delivered if isinstance(o, ChangeRecord)] == [
            o for o in landed if isinstance(o, ChangeRecord)
        ]
        assert len(delivered) == len(event["Records"])


@pytest.mark.parametrize("event", [{}, {"Records": None}, [], None, {"Records": []}])
def test_event_without_records_is_done_at_once(event: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DDB_LAKE_DELIVERY_STREAM", "hose")
    monkeypatch.setenv("DDB_LAKE_OVERSIZE_URI", "s3://spare/big")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-west-1")
    assert handler(event, None) == {"batchItemFailures": []}


@pytest.mark.parametrize(("stream", "uri"), [("", "s3://b/p/"), ("hose", ""), ("hose", "/tmp/x"), ("hose", "s3://")])
def test_wrong_environment_is_an_error(stream: str, uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DDB_LAKE_DELIVERY_STREAM", stream)
    monkeypatch.setenv("DDB_LAKE_OVERSIZE_URI", uri)
    with pytest.raises(ConfigError, match="expected DDB_LAKE_DELIVERY_STREAM"):
        handler({"Records": []}, None)


@pytest.mark.parametrize("owner", ["11112222333", "1111222233334", "11112222333x", "\N{ARABIC-INDIC DIGIT ONE}" * 12])
def test_owner_that_is_no_account_is_an_error(owner: str) -> None:
    complete = {"DDB_LAKE_DELIVERY_STREAM": "hose", "DDB_LAKE_OVERSIZE_URI": "s3://spare/big"}
    assert Settings.from_environment(complete | {"DDB_LAKE_BUCKET_OWNER": OWNER}) == SETTINGS
    with pytest.raises(ConfigError, match="expected an account id"):
        Settings.from_environment(complete | {"DDB_LAKE_BUCKET_OWNER": owner})


def test_nothing_of_a_record_is_logged(monkeypatch: pytest.MonkeyPatch) -> None:
    log = io.StringIO()
    monkeypatch.setattr(forward, "_log", Logger(service="test", stream=log))
    change = envelopes.Change("INSERT", {"id": {"S": "secret"}}, {"id": {"S": "secret" * 200_000}}, None, 0, "e")
    Service([set(), {0}]).forward([envelopes.streams(change), envelopes.streams(CHANGE, "7")], remaining_s=-1)
    assert [json.loads(line)["message"] for line in log.getvalue().splitlines()] == [
        "larger than Firehose accepts",
        "not delivered in time",
    ]
    assert "secret" not in log.getvalue()


def test_handler_imports_nothing_of_the_lake() -> None:
    blocked = tuple(name for name in BLOCKED if not name.startswith("boto"))
    program = f"import sys; sys.modules.update(dict.fromkeys({blocked!r}))\nimport ddb_lake.lambdas.forward"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
