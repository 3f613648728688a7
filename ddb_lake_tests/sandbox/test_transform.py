import base64
from typing import Any

import pytest

from ddb_lake.sandbox.transform import Arrived, Failed, Transform, Transformed

METADATA = {
    "sequenceNumber": "49657828409187701520019995242508390119953358325192589314",
    "subsequenceNumber": 0,
    "partitionKey": "859F7C064A4818874FA67ABEC9BF2AF1",
    "shardId": "shardId-000000000000",
    "approximateArrivalTimestamp": 1650162905387,
}
ONE = Arrived("1", b"one", 1_650_162_905_387_123, METADATA)
TWO = Arrived("2", b"two", 1_650_162_905_388_000)


def run(handler: Any, retries: int = 3) -> list[Any]:
    return Transform(handler, "arn:hose", "eu-west-1", "arn:stream", retries).process([ONE, TWO])


def answer(event: dict[str, Any], **changes: Any) -> dict[str, Any]:
    records = [{"recordId": r["recordId"], "result": "Ok", "data": r["data"]} | changes for r in event["records"]]
    return {"records": records}


def test_process_hands_over_firehoses_event() -> None:
    events: list[dict[str, Any]] = []

    def handler(event: dict[str, Any]) -> dict[str, Any]:
        events.append(event)
        return answer(event)

    run(handler)
    (event,) = events
    assert event.pop("invocationId")
    assert event == {
        "sourceKinesisStreamArn": "arn:stream",
        "deliveryStreamArn": "arn:hose",
        "region": "eu-west-1",
        "records": [
            {
                "recordId": "1",
                "approximateArrivalTimestamp": 1650162905387,
                "data": "b25l",
                "kinesisRecordMetadata": METADATA,
            },
            {"recordId": "2", "approximateArrivalTimestamp": 1650162905388, "data": "dHdv"},
        ],
    }


def test_process_gives_ok_records_with_new_data_and_partition_keys() -> None:
    def handler(event: dict[str, Any]) -> dict[str, Any]:
        data = base64.b64encode(b"new\n").decode()
        return answer(event, data=data, metadata={"partitionKeys": {"table": "orders"}})

    assert run(handler) == [Transformed(record, b"new\n", {"table": "orders"}) for record in (ONE, TWO)]


def test_process_leaves_dropped_records_out() -> None:
    assert run(lambda event: answer(event, result="Dropped")) == []


def test_process_fails_what_the_handler_marks_failed() -> None:
    message = "ProcessingFailed status set for record"
    expected = [Failed(record, "Lambda.ProcessingFailedStatus", message, 1) for record in (ONE, TWO)]
    assert run(lambda event: answer(event, result="ProcessingFailed")) == expected


@pytest.mark.parametrize(
    ("change", "codes"),
    [
        (lambda records: records[:1], [None, "Lambda.MissingRecordId"]),
        (lambda records: [*records, records[0]], ["Lambda.DuplicatedRecordId", None]),
        (lambda records: [records[0] | {"data": "!"}, records[1]], ["Lambda.FunctionError", None]),
        (lambda records: [records[0] | {"result": "Fine"}, records[1]], 2 * ["Lambda.JsonProcessingException"]),
        (lambda records: None, 2 * ["Lambda.JsonProcessingException"]),
    ],
)
def test_process_of_a_wrong_answer_fails_what_it_spoils(change: Any, codes: list[str | None]) -> None:
    outcomes = run(lambda event: {"records": change(answer(event)["records"])})
    assert [outcome.code if isinstance(outcome, Failed) else None for outcome in outcomes] == codes


@pytest.mark.parametrize("retries", [0, 3])
def test_process_tries_a_raising_handler_again_then_fails_all(retries: int) -> None:
    invocations: list[str] = []

    def handler(event: dict[str, Any]) -> dict[str, Any]:
        invocations.append(event["invocationId"])
        raise RuntimeError("boom")

    outcomes = run(handler, retries)
    assert [(outcome.code, outcome.attempts) for outcome in outcomes] == 2 * [("Lambda.FunctionError", retries + 1)]
    assert len(set(invocations)) == retries + 1


def test_process_succeeds_when_a_retry_does() -> None:
    faults = iter([ValueError(), ValueError()])

    def handler(event: dict[str, Any]) -> dict[str, Any]:
        fault = next(faults, None)
        if fault is not None:
            raise fault
        return answer(event)

    assert run(handler) == [Transformed(ONE, b"one"), Transformed(TWO, b"two")]


def test_process_of_an_answer_json_cannot_say_is_a_function_error() -> None:
    outcomes = run(lambda event: {"records": [{"recordId": "1", "result": "Ok", "data": b"bytes"}]}, 0)
    assert {outcome.code for outcome in outcomes} == {"Lambda.FunctionError"}
