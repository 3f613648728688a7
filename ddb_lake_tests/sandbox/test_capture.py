from moto.dynamodb.models import dynamodb_backends

from ddb_lake.sandbox import Sandbox
from ddb_lake_tests.support.sandbox_steps import (
    export,
    key,
    make_bucket,
    make_stream,
    make_table,
    put,
    read_export,
    stream_records,
)


def test_items_that_came_without_a_request_are_exported_and_streamed(sandbox: Sandbox) -> None:
    arn = make_table(sandbox)
    make_bucket(sandbox)
    stream = make_stream(sandbox, "things")
    dynamodb_backends["123456789012"][sandbox.region].put_item("things", key("imported"))
    _, _, lines = read_export(sandbox, export(sandbox, arn))
    assert [line["Item"] for line in lines] == [key("imported")]
    assert [record["eventName"] for record in stream_records(sandbox, stream)] == ["INSERT"]


def test_write_to_an_item_of_a_restored_table_is_a_modify(sandbox: Sandbox) -> None:
    make_table(sandbox)
    put(sandbox, "a", v={"N": "1"})
    client = sandbox.client("dynamodb")
    client.restore_table_to_point_in_time(
        SourceTableName="things", TargetTableName="again", UseLatestRestorableTime=True
    )
    stream = make_stream(sandbox, "again")
    put(sandbox, "a", table="again", v={"N": "2"})
    (record,) = stream_records(sandbox, stream)
    assert (record["eventName"], record["tableName"]) == ("MODIFY", "again")
    assert record["dynamodb"]["OldImage"] == key("a") | {"v": {"N": "1"}}


def test_tables_of_one_name_in_two_regions_are_two_tables(sandbox: Sandbox) -> None:
    make_table(sandbox)
    stream = make_stream(sandbox, "things")
    elsewhere = sandbox.client("dynamodb", "us-west-2")
    elsewhere.create_table(
        TableName="things",
        KeySchema=[{"AttributeName": "pk", "KeyType": "HASH"}],
        AttributeDefinitions=[{"AttributeName": "pk", "AttributeType": "S"}],
        BillingMode="PAY_PER_REQUEST",
    )
    elsewhere.put_item(TableName="things", Item={"pk": {"S": "west"}})
    put(sandbox, "here")
    assert [record["dynamodb"]["Keys"]["pk"]["S"] for record in stream_records(sandbox, stream)] == ["here"]


def test_batch_over_tables_by_arn_is_captured(sandbox: Sandbox) -> None:
    arn = make_table(sandbox)
    make_table(sandbox, "others")
    stream = make_stream(sandbox, "things")
    requests = {name: [{"PutRequest": {"Item": key(pk)}}] for name, pk in ((arn, "a"), ("others", "b"))}
    sandbox.client("dynamodb").batch_write_item(RequestItems=requests)
    sandbox.client("dynamodb").delete_item(TableName=arn, Key=key("a"))
    assert [record["eventName"] for record in stream_records(sandbox, stream)] == ["INSERT", "REMOVE"]


def test_transaction_that_fails_leaves_later_writes_captured(sandbox: Sandbox) -> None:
    make_table(sandbox)
    stream = make_stream(sandbox, "things", shards=1)
    client = sandbox.client("dynamodb")
    put(sandbox, "a")
    check = {"TableName": "things", "Key": key("x"), "ConditionExpression": "attribute_exists(pk)"}
    try:
        client.transact_write_items(
            TransactItems=[{"Delete": {"TableName": "things", "Key": key("a")}}, {"ConditionCheck": check}]
        )
    except client.exceptions.TransactionCanceledException as error:
        assert error.response["CancellationReasons"][1]["Code"] == "ConditionalCheckFailed"
    put(sandbox, "a", v={"N": "2"})
    assert [record["eventName"] for record in stream_records(sandbox, stream)] == ["INSERT", "MODIFY"]
