from datetime import timedelta
from typing import Any

import boto3

from ddb_lake.sandbox import Sandbox
from ddb_lake_tests.support.sandbox_steps import key, make_table, put

BOTH = {"StreamEnabled": True, "StreamViewType": "NEW_AND_OLD_IMAGES"}


def read_stream(sandbox: Sandbox, table: str = "things") -> list[dict[str, Any]]:
    arn = sandbox.client("dynamodb").describe_table(TableName=table)["Table"]["LatestStreamArn"]
    streams = sandbox.client("dynamodbstreams")
    (shard,) = streams.describe_stream(StreamArn=arn)["StreamDescription"]["Shards"]
    iterator = streams.get_shard_iterator(StreamArn=arn, ShardId=shard["ShardId"], ShardIteratorType="TRIM_HORIZON")[
        "ShardIterator"
    ]
    found: list[dict[str, Any]] = []
    while page := streams.get_records(ShardIterator=iterator, Limit=2):
        if not page["Records"]:
            return found
        found += page["Records"]
        iterator = page["NextShardIterator"]
    return found


def test_stream_has_one_record_for_each_real_change(sandbox: Sandbox) -> None:
    make_table(sandbox, StreamSpecification=BOTH)
    client = sandbox.client("dynamodb")
    update = {"UpdateExpression": "SET b = :b", "ExpressionAttributeValues": {":b": {"B": b"\xff"}}}
    client.update_item(TableName="things", Key=key("a"), **update)
    client.update_item(TableName="things", Key=key("a"), **update)  # no change
    put(sandbox, "a", v={"N": "1.0"})
    client.delete_item(TableName="things", Key=key("a"))
    records = read_stream(sandbox)
    assert [record["eventName"] for record in records] == ["INSERT", "MODIFY", "REMOVE"]
    bodies = [record["dynamodb"] for record in records]
    assert bodies[0]["NewImage"] == key("a") | {"b": {"B": b"\xff"}}
    assert bodies[1]["OldImage"] == bodies[0]["NewImage"]
    assert bodies[2]["OldImage"] == bodies[1]["NewImage"] == key("a") | {"v": {"N": "1"}}
    assert all(body["ApproximateCreationDateTime"].microsecond == 0 for body in bodies)
    sequences = [int(body["SequenceNumber"]) for body in bodies]
    assert sequences == sorted(set(sequences))
    assert {len(body["SequenceNumber"]) for body in bodies} == {22}
    assert {(record["eventVersion"], record["awsRegion"]) for record in records} == {("1.1", sandbox.region)}


def test_stream_of_a_keys_only_view_has_no_images(sandbox: Sandbox) -> None:
    make_table(sandbox, StreamSpecification={"StreamEnabled": True, "StreamViewType": "KEYS_ONLY"})
    put(sandbox, "a", v={"N": "1"})
    (record,) = read_stream(sandbox)
    assert record["dynamodb"]["Keys"] == key("a")
    assert not {"NewImage", "OldImage"} & set(record["dynamodb"])


def test_stream_marks_deletes_by_time_to_live(sandbox: Sandbox) -> None:
    make_table(sandbox, StreamSpecification=BOTH)
    client = sandbox.client("dynamodb")
    client.update_time_to_live(TableName="things", TimeToLiveSpecification={"Enabled": True, "AttributeName": "ttl"})
    put(sandbox, "a", ttl={"N": "1700000000"})
    put(sandbox, "b")
    client.delete_item(TableName="things", Key=key("b"))
    assert sandbox.expire("things") == 1
    by_user, by_service = (record for record in read_stream(sandbox) if record["eventName"] == "REMOVE")
    assert "userIdentity" not in by_user
    assert by_service["userIdentity"] == {"Type": "Service", "PrincipalId": "dynamodb.amazonaws.com"}


def test_items_expire_in_each_account_and_region(sandbox: Sandbox) -> None:
    role = sandbox.client("sts").assume_role(RoleArn="arn:aws:iam::999999999999:role/poc", RoleSessionName="poc")
    other = boto3.client(
        "dynamodb",
        endpoint_url=sandbox.endpoint_url,
        region_name="us-west-2",
        aws_access_key_id=role["Credentials"]["AccessKeyId"],
        aws_secret_access_key=role["Credentials"]["SecretAccessKey"],
        aws_session_token=role["Credentials"]["SessionToken"],
    )
    clients = [sandbox.client("dynamodb"), sandbox.client("dynamodb", "us-east-1"), other]
    for client in clients:
        client.create_table(
            TableName="things",
            BillingMode="PAY_PER_REQUEST",
            KeySchema=[{"AttributeName": "pk", "KeyType": "HASH"}],
            AttributeDefinitions=[{"AttributeName": "pk", "AttributeType": "S"}],
        )
        client.update_time_to_live(
            TableName="things", TimeToLiveSpecification={"Enabled": True, "AttributeName": "ttl"}
        )
        client.put_item(TableName="things", Item=key("a") | {"ttl": {"N": "1700000000"}})
        client.put_item(TableName="things", Item=key("b"))
    sandbox.advance(timedelta(0))
    assert [client.scan(TableName="things")["Items"] for client in clients] == [[key("b")]] * 3


def test_table_whose_stream_is_switched_off_is_still_written(sandbox: Sandbox) -> None:
    make_table(sandbox, StreamSpecification=BOTH)
    client = sandbox.client("dynamodb")
    client.update_table(TableName="things", StreamSpecification={"StreamEnabled": False})
    put(sandbox, "a")
    client.update_table(TableName="things", StreamSpecification=BOTH)
    put(sandbox, "b")
    assert [record["dynamodb"]["Keys"]["pk"]["S"] for record in read_stream(sandbox)] == ["b"]


def test_stream_after_a_failed_transaction_has_nothing_of_it(sandbox: Sandbox) -> None:
    make_table(sandbox, StreamSpecification=BOTH)
    client = sandbox.client("dynamodb")
    put(sandbox, "a")
    check = {"TableName": "things", "Key": key("x"), "ConditionExpression": "attribute_exists(pk)"}
    for _ in range(2):
        try:
            client.transact_write_items(
                TransactItems=[{"Put": {"TableName": "things", "Item": key("b")}}, {"ConditionCheck": check}]
            )
        except client.exceptions.TransactionCanceledException:
            continue
    put(sandbox, "c")
    assert [record["dynamodb"]["Keys"]["pk"]["S"] for record in read_stream(sandbox)] == ["a", "c"]


def test_stream_of_a_table_with_a_binary_key_has_each_change(sandbox: Sandbox) -> None:
    """Guards against a look-up by the base64 text of a key, because moto has its bytes."""
    client = sandbox.client("dynamodb")
    names = [("hash", "HASH"), ("range", "RANGE")]
    client.create_table(
        TableName="things",
        KeySchema=[{"AttributeName": name, "KeyType": kind} for name, kind in names],
        AttributeDefinitions=[{"AttributeName": name, "AttributeType": "B"} for name, _ in names],
        BillingMode="PAY_PER_REQUEST",
        StreamSpecification=BOTH,
    )
    client.update_time_to_live(TableName="things", TimeToLiveSpecification={"Enabled": True, "AttributeName": "ttl"})
    keys = [{"hash": {"B": b"\x00\xff"}, "range": {"B": last}} for last in (b"abcd", b"\x00")]
    for item in keys:
        client.put_item(TableName="things", Item=item)
    client.update_item(
        TableName="things",
        Key=keys[0],
        UpdateExpression="SET #t = :t",
        ExpressionAttributeNames={"#t": "ttl"},
        ExpressionAttributeValues={":t": {"N": str(int(sandbox.clock.now().timestamp()))}},
    )
    client.delete_item(TableName="things", Key=keys[1])
    sandbox.advance(timedelta(minutes=1))
    records = read_stream(sandbox)
    assert [record["eventName"] for record in records] == ["INSERT", "INSERT", "MODIFY", "REMOVE", "REMOVE"]
    assert [record["dynamodb"]["Keys"] for record in records] == [keys[n] for n in (0, 1, 0, 1, 0)]
    assert "userIdentity" in records[-1]
