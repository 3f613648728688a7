"""Functions over Lambda's API: their processes, and the services that invoke them."""

from __future__ import annotations

import base64
import io
import json
import re
import zipfile
from collections.abc import Iterator
from datetime import timedelta
from typing import Any
from urllib.parse import unquote_plus

import pytest
from botocore.exceptions import ClientError

from ddb_lake.core.decode.objects import read_object
from ddb_lake.core.values.change_record import ChangeRecord
from ddb_lake.sandbox import LocalFunction, Sandbox
from ddb_lake.sandbox.stream_trigger import REPORT
from ddb_lake_tests.support.sandbox_steps import BUCKET, key, make_bucket, make_table, put

ROLE = "arn:aws:iam::123456789012:role/functions"
ARN = "arn:aws:lambda:eu-west-1:123456789012:function:"
CODE = """
import json, os

def show(event, context):
    print("shown")
    import boto3
    return {
        "event": event,
        "variable": os.environ.get("COLOR"),
        "file": open("data.txt").read(),
        "account": boto3.client("sts").get_caller_identity()["Account"],
        "foreign": sorted(name for name in os.environ if name.startswith("DDB_LAKE_")),
        "has_time": context.get_remaining_time_in_millis() > 0,
    }

def fail(event, context):
    raise ValueError("no " + json.dumps(event))

def leave(event, context):
    os._exit(3)

def wait(event, context):
    import time
    time.sleep(60)

def upper(event, context):
    import base64
    up = lambda data: base64.b64encode(base64.b64decode(data).upper()).decode()
    return {"records": [{"recordId": r["recordId"], "result": "Ok", "data": up(r["data"])} for r in event["records"]]}

def refuse_poison(event, context):
    import base64
    texts = [str(r["dynamodb"]) if "dynamodb" in r else base64.b64decode(r["kinesis"]["data"]).decode() for r in event["Records"]]
    if any("poison" in text for text in texts):
        raise ValueError("poison")
    return keep(event, context)

def keep(event, context):
    import boto3
    boto3.client("s3").put_object(Bucket=os.environ["BUCKET"], Key="kept/" + context.aws_request_id, Body=json.dumps(event))
    if os.environ.get("FAILS"):
        raise ValueError("after it was kept")
"""


def zipped(**files: str) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for name, text in files.items():
            archive.writestr(name.replace("__", "."), text)
    return packed.getvalue()


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    folder = tmp_path_factory.mktemp("local")
    (folder / "own.py").write_text(CODE)
    (folder / "data.txt").write_text("local")
    local = LocalFunction("own", "own.show", folder, {"COLOR": "green"})
    with Sandbox(functions=[local]) as running:
        running.client("iam").create_role(RoleName="functions", AssumeRolePolicyDocument="{}")
        make_bucket(running)
        yield running


def create(sandbox: Sandbox, name: str, handler: str, **settings: Any) -> str:
    """Create a function of `CODE`. Returns its ARN."""
    created = sandbox.client("lambda").create_function(
        FunctionName=name,
        Runtime="python3.13",
        Role=ROLE,
        Handler=f"app.{handler}",
        Code={"ZipFile": zipped(app__py=CODE, data__txt="zipped")},
        **{"Timeout": 60, **settings},
    )
    return str(created["FunctionArn"])


def invoke(sandbox: Sandbox, name: str, event: Any = None, **settings: Any) -> tuple[Any, str | None]:
    """The document that an invocation returns, and its FunctionError."""
    answer = sandbox.client("lambda").invoke(FunctionName=name, Payload=json.dumps(event).encode(), **settings)
    return json.loads(answer["Payload"].read()), answer.get("FunctionError")


def kept(sandbox: Sandbox) -> list[Any]:
    """The events that the function `keep` was invoked with, which are then removed."""
    s3 = sandbox.client("s3")
    names = [o["Key"] for o in s3.list_objects_v2(Bucket=BUCKET, Prefix="kept/").get("Contents", [])]
    events = [json.loads(s3.get_object(Bucket=BUCKET, Key=name)["Body"].read()) for name in names]
    for name in names:
        s3.delete_object(Bucket=BUCKET, Key=name)
    return events


def test_function_runs_with_its_own_code_environment_and_role(served: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DDB_LAKE_MODE", "of the sandbox's process")
    shown, error = invoke(served, "own", {"n": 1.5})
    assert error is None
    assert shown == {
        "event": {"n": 1.5},
        "variable": "green",
        "file": "local",
        "account": "123456789012",
        "foreign": [],
        "has_time": True,
    }
    create(served, "deployed", "show", Environment={"Variables": {"COLOR": "red"}})
    assert invoke(served, "deployed")[0] == shown | {"event": None, "variable": "red", "file": "zipped"}
    client = served.client("lambda")
    client.update_function_configuration(FunctionName="deployed", Environment={"Variables": {"COLOR": "blue"}})
    client.update_function_code(FunctionName="deployed", ZipFile=zipped(app__py=CODE, data__txt="newer"))
    assert invoke(served, "deployed")[0] == shown | {"event": None, "variable": "blue", "file": "newer"}
    client.delete_function(FunctionName="deployed")
    with pytest.raises(ClientError, match="Function not found"):
        client.invoke(FunctionName="deployed")


def test_function_with_a_name_of_one_letter_runs(served: Sandbox) -> None:
    create(served, "f", "show")
    assert invoke(served, "f", 1)[0]["event"] == 1


def test_function_that_cannot_be_started_is_logged(served: Sandbox, caplog: pytest.LogCaptureFixture) -> None:
    create(served, "unstarted", "show")
    served.client("lambda").invoke(FunctionName="unstarted", InvocationType="Event", Payload=b"1")
    served.deny("AssumeRole", "AccessDenied", "no role today")
    try:
        served.settle()
    finally:
        served.allow()
    assert "function unstarted could not be started" in caplog.text
    assert "no role today" in caplog.text


def test_code_that_is_no_zip_file_is_refused(served: Sandbox) -> None:
    arn = create(served, "zipped", "show")
    client = served.client("lambda")
    with pytest.raises(ClientError, match="Could not unzip"):
        client.update_function_code(FunctionName=arn, ZipFile=b"def handler(event, context): ...")
    with pytest.raises(ClientError, match="Could not unzip"):
        client.create_function(
            FunctionName="text", Runtime="python3.13", Role=ROLE, Handler="app.show", Code={"ZipFile": b"print()"}
        )


def test_log_of_an_invocation_is_returned_and_kept(served: Sandbox) -> None:
    answer = served.client("lambda").invoke(FunctionName="own", Payload=b"{}", LogType="Tail")
    assert base64.b64decode(answer["LogResult"]) == b"shown"
    logged = served.client("logs").filter_log_events(logGroupName="/aws/lambda/own")["events"]
    assert {event["message"] for event in logged} == {"shown"}


@pytest.mark.parametrize(
    ("handler", "error", "message"),
    [
        ("app.fail", "ValueError", 'no {"n": 1}'),
        ("app.leave", "Runtime.ExitError", "Runtime exited without providing a reason"),
        ("app.absent", "ImportError", "Handler 'absent' missing on module 'app'"),
        ("absent.show", "ImportError", "Unable to import module 'absent'"),
        ("app.wait", "Sandbox.Timedout", "Task timed out after 1.00 seconds"),
    ],
)
def test_function_that_fails_returns_lambdas_error_and_can_be_invoked_again(
    served: Sandbox, handler: str, error: str, message: str
) -> None:
    client = served.client("lambda")
    name = handler.replace(".", "-")
    create(served, name, "show", Timeout=1)
    client.update_function_configuration(FunctionName=name, Handler=handler)
    document, kind = invoke(served, name, {"n": 1})
    assert (kind, document["errorType"]) == ("Unhandled", error)
    assert message in document["errorMessage"]
    client.update_function_configuration(FunctionName=name, Handler="app.show", Timeout=60)
    assert invoke(served, name)[1] is None


def firehose(sandbox: Sandbox, name: str, function: str) -> None:
    parameters = {"LambdaArn": f"{function}:$LATEST", "NumberOfRetries": "1"}
    named = [{"ParameterName": name, "ParameterValue": value} for name, value in parameters.items()]
    processor = {"Type": "Lambda", "Parameters": named}
    sandbox.client("firehose").create_delivery_stream(
        DeliveryStreamName=name,
        ExtendedS3DestinationConfiguration={
            "RoleARN": ROLE,
            "BucketARN": f"arn:aws:s3:::{BUCKET}",
            "Prefix": f"{name}/",
            "ErrorOutputPrefix": f"{name}-failed/!{{firehose:error-output-type}}/",
            "ProcessingConfiguration": {"Enabled": True, "Processors": [processor]},
        },
    )


def delivered(sandbox: Sandbox, prefix: str) -> list[bytes]:
    s3 = sandbox.client("s3")
    names = [o["Key"] for o in s3.list_objects_v2(Bucket=BUCKET, Prefix=prefix).get("Contents", [])]
    return [s3.get_object(Bucket=BUCKET, Key=name)["Body"].read() for name in names]


def test_firehose_invokes_the_function_of_its_arn(served: Sandbox) -> None:
    firehose(served, "upper", create(served, "upper", "upper"))
    served.client("firehose").put_record(DeliveryStreamName="upper", Record={"Data": b"loud"})
    served.flush()
    assert delivered(served, "upper/") == [b"LOUD"]


@pytest.mark.parametrize(
    ("handler", "code"),
    [("fail", "Lambda.FunctionError"), ("wait", "Lambda.FunctionTimedOut"), (None, "Lambda.ResourceNotFound")],
)
def test_firehose_writes_the_error_of_a_function_with_the_record(
    served: Sandbox, handler: str | None, code: str, caplog: pytest.LogCaptureFixture
) -> None:
    name = f"hose-{handler}"
    function = f"{ARN}absent" if handler is None else create(served, name, handler, Timeout=1)
    firehose(served, name, function)
    served.client("firehose").put_record(DeliveryStreamName=name, Record={"Data": b"kept"})
    served.flush()
    assert delivered(served, f"{name}/") == []
    (line,) = (json.loads(data) for data in delivered(served, f"{name}-failed/processing-failed/"))
    assert (line["errorCode"], base64.b64decode(line["rawData"])) == (code, b"kept")
    assert f"1 record failed after 2 attempts: {code}" in caplog.text


def keeper(sandbox: Sandbox, name: str, **variables: str) -> str:
    return create(sandbox, name, "keep", Environment={"Variables": {"BUCKET": BUCKET, **variables}})


@pytest.mark.parametrize("position", ["TRIM_HORIZON", "LATEST"])
def test_mapping_of_a_dynamodb_stream_passes_its_records(served: Sandbox, position: str) -> None:
    table = f"table-{position}"
    make_table(served, table, StreamSpecification={"StreamEnabled": True, "StreamViewType": "NEW_IMAGE"})
    described = served.client("dynamodb").describe_table(TableName=table)["Table"]
    put(served, "1", table=table)
    created = served.client("lambda").create_event_source_mapping(
        FunctionName=keeper(served, table),
        EventSourceArn=described["LatestStreamArn"],
        StartingPosition=position,
        BatchSize=2,
    )
    for number in "234":
        put(served, number, table=table)
    served.pump()
    batches = [[r["dynamodb"]["Keys"] for r in event["Records"]] for event in kept(served)]
    first = 1 if position == "TRIM_HORIZON" else 2
    assert sorted((k for batch in batches for k in batch), key=str) == [key(str(number)) for number in range(first, 5)]
    assert {len(batch) for batch in batches} <= {1, 2}
    served.client("lambda").delete_event_source_mapping(UUID=created["UUID"])
    put(served, "5", table=table)
    served.pump()
    assert kept(served) == []


def test_mapping_of_a_kinesis_stream_repeats_a_batch_that_failed(served: Sandbox) -> None:
    kinesis = served.client("kinesis")
    kinesis.create_stream(StreamName="clicks", ShardCount=2)
    arn = kinesis.describe_stream_summary(StreamName="clicks")["StreamDescriptionSummary"]["StreamARN"]
    for number in range(4):
        kinesis.put_record(StreamARN=arn, Data=b"%d" % number, PartitionKey=str(number))
    function = keeper(served, "clicks", FAILS="yes")
    client = served.client("lambda")
    client.create_event_source_mapping(FunctionName=function, EventSourceArn=arn, StartingPosition="TRIM_HORIZON")
    served.pump()
    failed = kept(served)
    client.update_function_configuration(FunctionName=function, Environment={"Variables": {"BUCKET": BUCKET}})
    served.pump()
    records = [record for event in kept(served) for record in event["Records"]]
    assert failed
    assert sorted(base64.b64decode(record["kinesis"]["data"]) for record in records) == [b"0", b"1", b"2", b"3"]
    assert all(len(record["kinesis"]["sequenceNumber"]) == 56 for record in records)


@pytest.mark.parametrize("kind", ["dynamodb", "kinesis"])
def test_mapping_isolates_an_invalid_record_and_writes_it_to_the_bucket(served: Sandbox, kind: str) -> None:
    """The stacks have these settings: bisect, a limit of repetitions, and a bucket for what still fails."""
    table = f"isolate-{kind}"
    make_table(served, table, StreamSpecification={"StreamEnabled": True, "StreamViewType": "NEW_IMAGE"})
    stream = served.client("dynamodb").describe_table(TableName=table)["Table"]["LatestStreamArn"]
    if kind == "kinesis":
        served.client("kinesis").create_stream(StreamName=table, ShardCount=1)
        stream = served.client("kinesis").describe_stream(StreamName=table)["StreamDescription"]["StreamARN"]
        served.client("dynamodb").enable_kinesis_streaming_destination(TableName=table, StreamArn=stream)
    function = create(served, table, "refuse_poison", Environment={"Variables": {"BUCKET": BUCKET}})
    created = served.client("lambda").create_event_source_mapping(
        FunctionName=table,
        EventSourceArn=stream,
        StartingPosition="TRIM_HORIZON",
        BatchSize=7,
        BisectBatchOnFunctionError=True,
        MaximumRetryAttempts=2,
        DestinationConfig={"OnFailure": {"Destination": f"arn:aws:s3:::{BUCKET}"}},
    )
    texts = ["poison" if number == 4 else f"text {number}" for number in range(10)]
    for number, text in enumerate(texts):
        put(served, "a", number, table=table, v={"S": text})
    for _ in range(8):  # batches of 7, 3 and 4, 1 and 2, and 1 record; then two repetitions
        served.pump()
    objects = served.client("s3").list_objects_v2(Bucket=BUCKET, Prefix="aws/lambda/")["Contents"]
    assert len(objects) == 1
    assert re.fullmatch(
        r"aws/lambda/[0-9a-f-]{36}/[\w-]+/\d{4}(/\d\d){2}/\d{4}(-\d\d){2}T\d\d(\.\d\d){2}-[0-9a-f-]{36}",
        objects[0]["Key"],
    )
    data = served.client("s3").get_object(Bucket=BUCKET, Key=objects[0]["Key"])["Body"].read()
    served.client("s3").delete_object(Bucket=BUCKET, Key=objects[0]["Key"])
    served.client("lambda").delete_event_source_mapping(UUID=created["UUID"])
    notice = json.loads(data)
    assert notice["requestContext"] | {"requestId": ""} == {
        "requestId": "",
        "functionArn": function,
        "condition": "RetryAttemptsExhausted",
        "approximateInvokeCount": 3,
    }
    assert notice["KinesisBatchInfo" if kind == "kinesis" else "DDBStreamBatchInfo"]["batchSize"] == 1
    passed = [record for event in kept(served) for record in event["Records"]]
    assert len(passed) == 9
    (outcome,) = [located.outcome for located in read_object(data)]  # as `ddb-lake apply` reads it
    assert isinstance(outcome, ChangeRecord)
    assert outcome.new_image == {**key("a", 4), "v": {"S": "poison"}}


def test_mapping_discards_records_beyond_its_age_and_notifies_a_queue(served: Sandbox) -> None:
    make_table(served, "ages", StreamSpecification={"StreamEnabled": True, "StreamViewType": "NEW_IMAGE"})
    sqs = served.client("sqs")
    queue = sqs.create_queue(QueueName="discarded")["QueueUrl"]
    create(served, "ages", "fail")
    created = served.client("lambda").create_event_source_mapping(
        FunctionName="ages",
        EventSourceArn=served.client("dynamodb").describe_table(TableName="ages")["Table"]["LatestStreamArn"],
        StartingPosition="TRIM_HORIZON",
        MaximumRecordAgeInSeconds=60,
        DestinationConfig={"OnFailure": {"Destination": "arn:aws:sqs:eu-west-1:123456789012:discarded"}},
    )
    put(served, "a", table="ages")
    served.pump()
    assert "Messages" not in sqs.receive_message(QueueUrl=queue)
    served.clock.advance(timedelta(seconds=62))
    served.pump()
    (message,) = sqs.receive_message(QueueUrl=queue)["Messages"]
    served.client("lambda").delete_event_source_mapping(UUID=created["UUID"])
    notice = json.loads(message["Body"])
    assert notice["requestContext"]["condition"] == "RecordAgeExceeded"
    assert "payload" not in notice


def test_batch_that_fails_is_repeated_after_pauses_that_grow(served: Sandbox) -> None:
    invocations: list[int] = []

    def handler(event: Any) -> Any:
        invocations.append(len(event["Records"]))
        if len(invocations) < 5:
            raise ValueError("not yet")
        return {"batchItemFailures": []}

    def after(seconds: int) -> int:
        """The number of invocations when the time has passed, and the sandbox has looked twice."""
        served.clock.advance(timedelta(seconds=seconds))
        served.settle(pause=True)
        served.settle(pause=True)
        return len(invocations)

    create(served, "failing", "show")
    served.lambdas["failing"] = handler
    kinesis, client = served.client("kinesis"), served.client("lambda")
    kinesis.create_stream(StreamName="failing", ShardCount=1)
    mapping = client.create_event_source_mapping(
        FunctionName="failing",
        EventSourceArn="arn:aws:kinesis:eu-west-1:123456789012:stream/failing",
        StartingPosition="TRIM_HORIZON",
        FunctionResponseTypes=[REPORT],
    )
    with served.clock.held():
        kinesis.put_record(StreamName="failing", PartitionKey="a", Data=b"a")
        assert [after(seconds) for seconds in (0, 1, 1, 1, 3, 1)] == [1, 2, 2, 3, 3, 4]
        served.settle()  # at once
        assert invocations == [1] * 5
        kinesis.put_record(StreamName="failing", PartitionKey="a", Data=b"b")
        assert after(0) == 6
    client.delete_event_source_mapping(UUID=mapping["UUID"])


def test_s3_notifies_a_function_which_is_tried_three_times(served: Sandbox, caplog: pytest.LogCaptureFixture) -> None:
    function = keeper(served, "notified")
    served.client("s3").put_bucket_notification_configuration(
        Bucket=BUCKET,
        NotificationConfiguration={
            "LambdaFunctionConfigurations": [
                {
                    "LambdaFunctionArn": function,
                    "Events": ["s3:ObjectCreated:*"],
                    "Filter": {"Key": {"FilterRules": [{"Name": "prefix", "Value": "processed/"}]}},
                }
            ]
        },
    )
    served.client("s3").put_object(Bucket=BUCKET, Key="other/a", Body=b"")
    served.client("s3").put_object(Bucket=BUCKET, Key="processed/a b", Body=b"")
    served.pump()
    (event,) = kept(served)
    assert [unquote_plus(record["s3"]["object"]["key"]) for record in event["Records"]] == ["processed/a b"]

    served.client("lambda").update_function_configuration(
        FunctionName=function, Environment={"Variables": {"BUCKET": BUCKET, "FAILS": "yes"}}
    )
    served.client("s3").put_object(Bucket=BUCKET, Key="processed/c", Body=b"")
    for _ in range(3):
        served.pump()
    assert len(kept(served)) == 3
    assert "an event is dropped after 3 attempts" in caplog.text


@pytest.mark.parametrize(
    "change",
    [{"Runtime": "nodejs20.x"}, {"Code": {"ImageUri": "an/image:1"}, "PackageType": "Image"}],
    ids=["runtime", "image"],
)
def test_function_that_the_sandbox_cannot_run_is_refused(served: Sandbox, change: dict[str, Any]) -> None:
    wanted = {"Runtime": "python3.13", "Handler": "app.show", "Code": {"ZipFile": zipped(app__py=CODE)}} | change
    with pytest.raises(ClientError, match="InvalidParameterValueException"):
        served.client("lambda").create_function(FunctionName="refused", Role=ROLE, **wanted)


@pytest.mark.parametrize(
    "member", [{"TumblingWindowInSeconds": 2}, {"FilterCriteria": {"Filters": [{"Pattern": "{}"}]}}]
)
def test_mapping_that_the_sandbox_would_not_follow_is_refused(served: Sandbox, member: dict[str, Any]) -> None:
    with pytest.raises(ClientError, match=next(iter(member))):
        served.client("lambda").create_event_source_mapping(
            FunctionName="own", EventSourceArn="arn:aws:kinesis:eu-west-1:123456789012:stream/any", **member
        )
