from __future__ import annotations

import os
from typing import Any

import pytest

from ddb_lake.sandbox import Function, FunctionFault, Sandbox, StreamTrigger
from ddb_lake.sandbox.transform import Arrived, Failed, Transform
from ddb_lake_tests.support.sandbox_steps import key, make_table, put

STREAM = {"StreamSpecification": {"StreamEnabled": True, "StreamViewType": "NEW_AND_OLD_IMAGES"}}


def test_function_has_its_own_environment_and_a_context(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DDB_LAKE_MODE", "outside")
    seen: list[Any] = []

    def handler(event: dict[str, Any], context: Any) -> dict[str, Any]:
        seen.append((os.environ["DDB_LAKE_MODE"], os.environ["ONLY_INSIDE"], context.get_remaining_time_in_millis()))
        return {"got": event}

    function = Function(handler, {"DDB_LAKE_MODE": "inside", "ONLY_INSIDE": "1"})
    assert function({"a": (1, 2)}) == {"got": {"a": [1, 2]}}
    assert seen == [("inside", "1", 60_000)]
    assert (os.environ["DDB_LAKE_MODE"], "ONLY_INSIDE" in os.environ) == ("outside", False)


def test_faults_happen_in_turn_and_only_throttling_keeps_the_handler_from_running() -> None:
    ran: list[Any] = []
    function = Function(lambda event, _context: ran.append(event), faults=["throttle", None, "timeout"])
    function.fail_next("error")
    codes = []
    for _ in range(5):
        try:
            function({})
        except FunctionFault as fault:
            codes.append(fault.code)
        else:
            codes.append("")
    expected = ["Lambda.InvokeLimitExceeded", "", "Lambda.FunctionTimedOut", "Lambda.FunctionError", ""]
    assert codes == expected
    assert (len(ran), function.invocations) == (4, 5)


@pytest.mark.parametrize("fault", ["throttle", "timeout", "error"])
def test_firehose_tries_a_function_again_and_writes_its_last_fault(fault: Any) -> None:
    def echo(event: dict[str, Any], _context: Any) -> dict[str, Any]:
        return {"records": [{"recordId": r["recordId"], "result": "Ok", "data": r["data"]} for r in event["records"]]}

    record = Arrived("1", b"one", 1_650_162_905_387_000)
    function = Function(echo, faults=[fault] * 4)
    (failed,) = Transform(function, "arn", "eu-west-1").process([record])
    assert isinstance(failed, Failed)
    assert (failed.code, failed.attempts, function.invocations) == (_code(fault), 4, 4)
    function.fail_next(*[fault] * 3)
    assert not isinstance(Transform(function, "arn", "eu-west-1").process([record])[0], Failed)


def _code(fault: str) -> str:
    names = {"throttle": "InvokeLimitExceeded", "timeout": "FunctionTimedOut", "error": "FunctionError"}
    return f"Lambda.{names[fault]}"


def test_trigger_hands_over_each_batch_until_it_is_taken(sandbox: Sandbox) -> None:
    make_table(sandbox, **STREAM)
    for number in range(7):
        put(sandbox, "a", number + 1, v={"B": b"x"})
    batches: list[list[str]] = []
    answers = iter(
        [
            {"batchItemFailures": [{"itemIdentifier": "2"}, {"itemIdentifier": "1"}]},  # the third and the second
            ValueError("the batch comes again"),
            {"batchItemFailures": [{"itemIdentifier": "unknown"}]},
        ]
    )

    def handler(event: dict[str, Any], _context: Any) -> Any:
        records = event["Records"]
        batches.append([record["dynamodb"]["Keys"]["sk"]["N"] for record in records])
        assert records[0]["dynamodb"]["NewImage"] == {**key("a", int(batches[-1][0])), "v": {"B": "eA=="}}
        assert isinstance(records[0]["dynamodb"]["ApproximateCreationDateTime"], int)
        answer = next(answers, None)
        if isinstance(answer, Exception):
            raise answer
        if answer is not None:
            for failure in answer["batchItemFailures"]:
                if failure["itemIdentifier"].isdigit():
                    place = int(failure["itemIdentifier"])
                    failure["itemIdentifier"] = records[place]["dynamodb"]["SequenceNumber"]
        return answer

    client = sandbox.client("dynamodbstreams")
    arn = client.list_streams(TableName="things")["Streams"][0]["StreamArn"]
    trigger = StreamTrigger(client, arn, Function(handler), batch_size=4)
    assert [trigger.poll(), trigger.waiting] == [1, 6]
    assert [trigger.poll(), trigger.poll(), trigger.poll(), trigger.waiting] == [0, 0, 6, 0]
    assert batches == [
        ["1", "2", "3", "4"],
        *[["2", "3", "4"]] * 3,
        ["5", "6", "7"],
    ]
    put(sandbox, "a", 8, v={"B": b"x"})
    assert trigger.poll() == 1
