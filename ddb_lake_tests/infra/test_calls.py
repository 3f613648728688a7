"""Each policy allows exactly what the code calls: calls recorded on the embedded stand-in against the documents."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from typing import Any

import pytest

from ddb_lake.aws.inspect import (
    check_bucket,
    has_objects,
    kinesis_destinations,
    recovery_enabled,
    table_state,
    waiting_messages,
)
from ddb_lake.aws.items import TableItems, make_table
from ddb_lake.aws.landing import Landing
from ddb_lake.aws.objects import ObjectStore
from ddb_lake.aws.queues import delete_messages, receive_messages
from ddb_lake.aws.streams import TableStreams
from ddb_lake.core.pacing import Pace
from ddb_lake.core.policies import Estate, Place, Source, actions, statements
from ddb_lake.core.shards import Place as ReadFrom
from ddb_lake.sandbox import Sandbox
from ddb_lake.sandbox.firehose import Delivery
from ddb_lake_tests.infra.calls import recorded_calls
from ddb_lake_tests.infra.reading import Template
from ddb_lake_tests.infra.reading import actions as attached_actions

ESTATE = Estate(
    region="eu-west-1",
    sources=(
        Source("arn:aws:dynamodb:eu-west-1:111122223333:table/things", export=Place("arn:aws:s3:::exports", "e/")),
    ),
    landing=(Place("arn:aws:s3:::landing", "t/"),),
    warehouse=Place("arn:aws:s3:::lake", "warehouse/"),
    glue=("arn:aws:glue:::catalog",),
    queue_arns=("arn:aws:sqs:::q",),
    restored_table_arns=("arn:aws:dynamodb:eu-west-1:111122223333:table/new",),
)
NOT_SEEN = {
    "s3:AbortMultipartUpload": "called when an upload fails",
    "s3:PutObjectAcl": "DynamoDB and Firehose hand objects over with it; the stand-in writes them by itself",
}
"""Actions that no undisturbed run calls, with the reason that they are granted."""


@pytest.fixture
def sandbox(monkeypatch: pytest.MonkeyPatch) -> Iterator[Sandbox]:
    from ddb_lake.aws.session import session

    with Sandbox() as running:
        for name, value in running.environment().items():
            monkeypatch.setenv(name, value)
        session.cache_clear()
        for bucket in ("landing", "lake", "exports"):
            where = {"LocationConstraint": running.region}
            running.client("s3").create_bucket(Bucket=bucket, CreateBucketConfiguration=where)
        yield running
    session.cache_clear()


@pytest.fixture
def table(sandbox: Sandbox) -> str:
    client = sandbox.client("dynamodb")
    client.create_table(
        TableName="things",
        KeySchema=[{"AttributeName": "id", "KeyType": "HASH"}],
        AttributeDefinitions=[{"AttributeName": "id", "AttributeType": "S"}],
        BillingMode="PAY_PER_REQUEST",
        StreamSpecification={"StreamEnabled": True, "StreamViewType": "NEW_AND_OLD_IMAGES"},
    )
    client.update_continuous_backups(
        TableName="things", PointInTimeRecoverySpecification={"PointInTimeRecoveryEnabled": True}
    )
    for number in range(3):
        client.put_item(TableName="things", Item={"id": {"S": str(number)}, "n": {"N": "1"}})
    return "things"


def settings_of(**table: Any) -> Any:
    from ddb_lake.config import parse_settings

    described = {"name": "things", "key": ["id"], "export": {"bucket": "exports", "prefix": "e"}, **table}
    return parse_settings({"warehouse": "s3://lake/warehouse", "catalog": {}, "tables": [described]}, "test")


def allowed(role: str) -> set[str]:
    return set(actions(statements(role, ESTATE)))


def test_exporter_calls_what_its_policy_allows(sandbox: Sandbox, table: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from ddb_lake.aws.exports import describe_export, list_exports, start_export
    from ddb_lake.aws.source import restorable_since_s

    settings = settings_of().table("things")
    with recorded_calls(monkeypatch) as called:
        started = start_export(settings)
        while describe_export(settings, started.arn).status == "IN_PROGRESS":
            pass
        list_exports(settings)
        restorable_since_s(settings)
    assert called | set(NOT_SEEN) == allowed("exporter") | set(NOT_SEEN)


def test_applier_and_reader_call_what_their_policies_allow(
    sandbox: Sandbox, table: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ddb_lake.aws.exports import describe_export, start_export
    from ddb_lake.stages.apply import apply_objects
    from ddb_lake.stages.compact import compact_table
    from ddb_lake.stages.dump import dump_items
    from ddb_lake.stages.lake import open_lake
    from ddb_lake.stages.load import load_export
    from ddb_lake.stages.status import table_status

    settings = settings_of()
    started = start_export(settings.table("things"))
    while (state := describe_export(settings.table("things"), started.arn)).status == "IN_PROGRESS":
        pass
    _land(sandbox)
    with recorded_calls(monkeypatch) as called, open_lake(settings) as lake:
        load_export(lake, "things", state.manifest_uri)
        apply_objects(lake, "things", ["s3://landing/t/"])
        compact_table(lake, "things", force=True)
    assert called | set(NOT_SEEN) == allowed("applier") | set(NOT_SEEN)
    with recorded_calls(monkeypatch) as called, open_lake(settings) as lake:
        assert len(list(dump_items(lake, "things"))) == 4
        table_status(lake, "things")
    assert called == allowed("reader")


def _land(sandbox: Sandbox) -> None:
    image = {"id": {"S": "9"}}
    change = {
        "eventID": "e-1",
        "eventName": "INSERT",
        "eventSource": "aws:dynamodb",
        "tableName": "things",
        "dynamodb": {"ApproximateCreationDateTime": 4102444800000, "Keys": image, "NewImage": image, "SizeBytes": 9},
    }
    sandbox.client("s3").put_object(Bucket="landing", Key="t/2026/01/01/00/one.json", Body=json.dumps(change).encode())


def test_doctor_calls_what_its_policy_allows(sandbox: Sandbox, table: str, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = settings_of().table("things")
    url = sandbox.client("sqs").create_queue(QueueName="q")["QueueUrl"]
    with recorded_calls(monkeypatch) as called:
        table_state(settings)
        recovery_enabled(settings)
        kinesis_destinations(settings)
        check_bucket("lake")
        has_objects("s3://landing/t/")
        waiting_messages(url)
    assert called == allowed("doctor")


def test_verifier_and_repairer_call_what_their_policies_allow(
    sandbox: Sandbox, table: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    items = TableItems(sandbox.client("dynamodb"), "things", Pace(None))
    with recorded_calls(monkeypatch) as called:
        items.served_us()
        keys = [{"id": item["id"]} for page in items.scan() for item in page]
        assert len(list(items.get(keys))) == 3
    assert called == allowed("verifier")
    assert called - {"dynamodb:Scan"} == allowed("repairer")


def test_restorer_calls_what_its_policy_allows(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    items = TableItems(sandbox.client("dynamodb"), "new", Pace(None))
    place = Landing(ObjectStore(), "s3://lake/warehouse/restores")
    with recorded_calls(monkeypatch) as called:
        make_table(items.client, "new", [("id", "S")], lambda _: None)
        assert items.is_empty()
        items.put([{"id": {"S": "1"}}])
        place.replace("t/new.json", b"{}", None)
        place.load("t/new.json")
    assert called == allowed("restorer") - {"glue:GetTable", "s3:ListBucket"}


def test_stream_reader_calls_what_its_policy_allows(
    sandbox: Sandbox, table: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    reader = TableStreams(settings_of().table("things"))
    place = Landing(ObjectStore(), "s3://landing/t")
    with recorded_calls(monkeypatch) as called:
        reader.table_id()
        (arn,) = reader.streams()
        (shard,) = reader.describe(arn).shards
        assert reader.records(reader.iterator(arn, shard.shard_id, ReadFrom())).records
        place.replace("checkpoint.json", b"{}", None)
        place.load("checkpoint.json")
    assert called == allowed("stream-reader") - {"s3:ListBucket"}, "without ListBucket a missing checkpoint is a 403"


def test_notified_calls_what_its_policy_allows(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    client = sandbox.client("sqs")
    url = client.create_queue(QueueName="q")["QueueUrl"]
    client.send_message(QueueUrl=url, MessageBody="{}")
    with recorded_calls(monkeypatch) as called:
        delete_messages(url, receive_messages(url, 1))
    granted_as = {"sqs:DeleteMessageBatch": "sqs:DeleteMessage"}  # IAM has one action for both
    assert {granted_as.get(action, action) for action in called} == allowed("notified")


def test_forwarder_calls_what_its_function_allows(
    sandbox: Sandbox, templates: dict[str, Template], monkeypatch: pytest.MonkeyPatch
) -> None:
    from ddb_lake.lambdas.forward import handler

    sandbox.delivery_stream(Delivery(name="d", bucket="landing"))
    monkeypatch.setenv("DDB_LAKE_DELIVERY_STREAM", "d")
    monkeypatch.setenv("DDB_LAKE_OVERSIZE_URI", "s3://landing/t/oversize/")
    with recorded_calls(monkeypatch) as called:
        assert handler({"Records": [_streamed(10), _streamed(1_100_000)]}, None) == {"batchItemFailures": []}
    assert called == _calls_of(templates["streams-to-aurora"], "OrdersForwardRolePolicy", "PutRecords", "KeepOversize")


def test_replicator_calls_what_its_roles_allow(
    sandbox: Sandbox, table: str, templates: dict[str, Template], monkeypatch: pytest.MonkeyPatch
) -> None:
    from ddb_lake.lambdas.replicate import handler

    monkeypatch.setenv("DDB_LAKE_TARGET_TABLE", "things")
    monkeypatch.setenv("DDB_LAKE_TARGET_ROLE_ARN", "arn:aws:iam::123456789012:role/target")
    monkeypatch.setenv("DDB_LAKE_EXTERNAL_ID", "ours")
    monkeypatch.setenv("DDB_LAKE_TARGET_KEY", "id")
    with recorded_calls(monkeypatch) as called:
        assert handler({"Records": [_in_kinesis({"id": "new"})]}, None) == {"batchItemFailures": []}
    assert called == _calls_of(templates["replicate-source"], "OrdersReplicateRolePolicy", "BecomeTarget") | _calls_of(
        templates["replicate-target"], "OrdersTargetPolicy", "WriteItems"
    )


def test_transforming_functions_are_allowed_nothing_but_what_lambda_does_for_them(
    templates: dict[str, Template],
) -> None:
    for name, policy in (("same-account", "TransformRole"), ("streams-to-aurora", "OrdersValidateRole")):
        given = templates[name].policy_of(policy)
        assert {s["Sid"] for s in given} == {
            "WriteLogs",
            "DecryptEnvironment",
            "ManageInterfaces",
            "Trace",
            "NotFromCode",
        }


def _calls_of(template: Template, policy: str, *sids: str) -> set[str]:
    """What the handler's own statements allow; a statement of none of the kinds we know fails the test."""
    service = {
        "WriteLogs",
        "DecryptEnvironment",
        "ManageInterfaces",
        "Trace",
        "NotFromCode",
        "ReadStream",
        "ListStreams",
    }
    keys = {"Encrypt", "UseKey", "UseTableKey", "ReportFailures"}
    given = template.policy_of(policy)
    assert {s["Sid"] for s in given} <= service | keys | set(sids)
    return attached_actions([s for s in given if s["Sid"] in sids])


def _streamed(size: int) -> dict[str, Any]:
    image = {"id": {"S": str(size)}}
    body = {
        "ApproximateCreationDateTime": 1480642020,
        "Keys": image,
        "NewImage": {**image, "text": {"S": "x" * size}},
        "SequenceNumber": "1405400000000002063282832",
        "SizeBytes": size,
        "StreamViewType": "NEW_AND_OLD_IMAGES",
    }
    return {"eventID": "0" * 32, "eventName": "INSERT", "eventVersion": "1.1", "eventSource": "aws:dynamodb",
            "awsRegion": "eu-west-1", "dynamodb": body, "eventSourceARN": "arn:aws:dynamodb:eu-west-1:1:table/things/stream/x"}  # fmt: skip


def _in_kinesis(payload: dict[str, str]) -> dict[str, Any]:
    data = base64.b64encode(json.dumps(payload).encode()).decode()
    sequence = "49590338271490256608559692538361571095921575989136588898"
    return {
        "eventID": f"shardId-000000000006:{sequence}",
        "kinesis": {"data": data, "sequenceNumber": sequence, "partitionKey": "p", "approximateArrivalTimestamp": 1.0},
    }


def test_nothing_is_listed_as_not_seen_in_vain() -> None:
    granted = {action for role in ("exporter", "applier") for action in allowed(role)}
    assert set(NOT_SEEN) <= granted
