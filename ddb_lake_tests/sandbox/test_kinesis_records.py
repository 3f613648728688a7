import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from ddb_lake.sandbox import Sandbox, StreamFaults
from ddb_lake.sandbox.history import Change
from ddb_lake.sandbox.records import change_record, partition_key
from ddb_lake_tests.support.samples import sample_files
from ddb_lake_tests.support.sandbox_steps import (
    key,
    make_bucket,
    make_stream,
    make_table,
    put,
    raw_records,
    stream_records,
)

IMAGE = {"humidity": {"N": "84.84"}, "device": {"S": "foo"}}
NEWER = {"humidity": {"N": "1"}, "device": {"S": "foo"}}
KEY = (("device", "S", "foo"),)


def record(change: Change, precision: str | None = None) -> dict[str, Any]:
    data = change_record(change, region="us-east-1", table_name="t", event_id="e", precision=precision)
    parsed: dict[str, Any] = json.loads(data)
    return parsed


def test_change_record_of_a_modify_is_laid_out_as_dynamodb_does() -> None:
    data = change_record(
        Change(1720742302233719, KEY, IMAGE, NEWER),
        region="us-east-1",
        table_name="t",
        event_id="24757579-ebfd-480a-956d-a1287d2ef707",
        precision="MICROSECOND",
    )
    assert data.decode() == (
        '{"awsRegion":"us-east-1","eventID":"24757579-ebfd-480a-956d-a1287d2ef707","eventName":"MODIFY",'
        '"userIdentity":null,"recordFormat":"application/json","tableName":"t","dynamodb":'
        '{"ApproximateCreationDateTime":1720742302233719,"Keys":{"device":{"S":"foo"}},'
        '"NewImage":{"humidity":{"N":"1"},"device":{"S":"foo"}},'
        '"OldImage":{"humidity":{"N":"84.84"},"device":{"S":"foo"}},"SizeBytes":48,'
        '"ApproximateCreationDateTimePrecision":"MICROSECOND"},"eventSource":"aws:dynamodb"}'
    )


@pytest.mark.parametrize("sample", sample_files("kds_records", "*.jsonl"), ids=lambda path: path.stem)
def test_change_record_of_a_sample_comes_out_the_same_byte_for_byte(sample: Path) -> None:
    for line in sample.read_text().splitlines():
        real = json.loads(line)
        body = real["dynamodb"]
        keys = tuple((name, *next(iter(value.items()))) for name, value in body["Keys"].items())
        change = Change(body["ApproximateCreationDateTime"], keys, body.get("OldImage"), body.get("NewImage"))
        made = change_record(
            change, region="us-east-1", table_name=real["tableName"], event_id=real["eventID"], precision="MICROSECOND"
        )
        assert made.decode() == line


def test_change_record_without_declared_precision_is_in_milliseconds() -> None:
    body = record(Change(1720742302233719, KEY, None, IMAGE))["dynamodb"]
    assert body["ApproximateCreationDateTime"] == 1720742302233
    assert "ApproximateCreationDateTimePrecision" not in body
    declared = record(Change(1720742302233719, KEY, None, IMAGE), "MILLISECOND")["dynamodb"]
    assert declared["ApproximateCreationDateTime"] == 1720742302233
    assert declared["ApproximateCreationDateTimePrecision"] == "MILLISECOND"


def test_change_record_of_an_expired_item_names_the_service() -> None:
    assert record(Change(1, KEY, IMAGE, None, ttl=True))["userIdentity"] == {
        "type": "Service",
        "principalId": "dynamodb.amazonaws.com",
    }


def test_partition_key_is_32_hex_digits_and_the_keys_own() -> None:
    one, again = Change(1, KEY, None, IMAGE), Change(2, KEY, IMAGE, None)
    other = Change(1, (("device", "S", "bar"),), None, IMAGE)
    assert partition_key(one) == partition_key(again) != partition_key(other)
    assert len(partition_key(one)) == 32
    assert partition_key(one) == partition_key(one).upper()


def test_every_kind_of_write_gives_one_record_for_each_real_change(sandbox: Sandbox) -> None:
    make_table(sandbox)
    arn = make_stream(sandbox, "things", shards=1)
    client = sandbox.client("dynamodb")
    put(sandbox, "a", v={"S": "1"})
    put(sandbox, "a", v={"S": "1"})  # no change
    client.update_item(
        TableName="things",
        Key=key("b"),
        UpdateExpression="SET v = :v",
        ExpressionAttributeValues={":v": {"S": "1"}},
    )
    client.batch_write_item(
        RequestItems={
            "things": [
                {"PutRequest": {"Item": key("c")}},
                {"DeleteRequest": {"Key": key("a")}},
                {"DeleteRequest": {"Key": key("never")}},
            ]
        }
    )
    client.transact_write_items(
        TransactItems=[
            {"Delete": {"TableName": "things", "Key": key("c")}},
            {"Put": {"TableName": "things", "Item": key("c", 2)}},
            {"ConditionCheck": {"TableName": "things", "Key": key("b"), "ConditionExpression": "attribute_exists(pk)"}},
        ]
    )
    client.execute_statement(Statement="""INSERT INTO "things" VALUE {'pk': 'd', 'sk': 1}""")
    client.delete_item(TableName="things", Key=key("never"))
    records = stream_records(sandbox, arn)
    assert [(r["eventName"], r["dynamodb"]["Keys"]["pk"]["S"]) for r in records] == [
        ("INSERT", "a"),
        ("INSERT", "b"),
        ("INSERT", "c"),
        ("REMOVE", "a"),
        ("REMOVE", "c"),
        ("INSERT", "c"),
        ("INSERT", "d"),
    ]
    assert len({r["eventID"] for r in records}) == len(records)
    assert {(r["tableName"], r["awsRegion"]) for r in records} == {("things", sandbox.region)}


def test_writes_that_fail_give_no_record(sandbox: Sandbox) -> None:
    make_table(sandbox)
    arn = make_stream(sandbox, "things")
    client = sandbox.client("dynamodb")
    put(sandbox, "a")
    with pytest.raises(client.exceptions.ConditionalCheckFailedException):
        client.put_item(TableName="things", Item=key("a"), ConditionExpression="attribute_not_exists(pk)")
    with pytest.raises(client.exceptions.TransactionCanceledException):
        client.transact_write_items(
            TransactItems=[
                {"Put": {"TableName": "things", "Item": key("b")}},
                {
                    "ConditionCheck": {
                        "TableName": "things",
                        "Key": key("x"),
                        "ConditionExpression": "attribute_exists(pk)",
                    }
                },
            ]
        )
    assert [r["dynamodb"]["Keys"]["pk"]["S"] for r in stream_records(sandbox, arn)] == ["a"]


def test_images_chain_and_carry_all_types_with_binary_encoded_twice(sandbox: Sandbox) -> None:
    make_table(sandbox)
    arn = make_stream(sandbox, "things")
    put(
        sandbox,
        "a",
        b={"B": b"\x12\x02\x08\x7b"},
        m={"M": {"l": {"L": [{"BS": [b"\x12\x02\x08\x7b"]}]}}},
        n={"N": "1.50"},
    )
    put(sandbox, "a", null={"NULL": True}, empty={"S": ""}, bool={"BOOL": False})
    first, second = stream_records(sandbox, arn)
    assert first["dynamodb"]["NewImage"] == key("a") | {
        "b": {"B": "RWdJSWV3PT0="},
        "m": {"M": {"l": {"L": [{"BS": ["RWdJSWV3PT0="]}]}}},
        "n": {"N": "1.5"},
    }
    assert second["dynamodb"]["OldImage"] == first["dynamodb"]["NewImage"]
    assert second["dynamodb"]["NewImage"] == key("a") | {
        "null": {"NULL": True},
        "empty": {"S": ""},
        "bool": {"BOOL": False},
    }


def test_precision_changed_on_a_live_table_mixes_units_in_the_stream(sandbox: Sandbox) -> None:
    make_table(sandbox)
    arn = make_stream(sandbox, "things", shards=1)
    client = sandbox.client("dynamodb")
    put(sandbox, "a")
    configuration = {"ApproximateCreationDateTimePrecision": "MICROSECOND"}
    update = {"TableName": "things", "StreamArn": arn, "UpdateKinesisStreamingConfiguration": configuration}
    assert client.update_kinesis_streaming_destination(**update)["DestinationStatus"] == "UPDATING"
    put(sandbox, "b")
    milliseconds, microseconds = (r["dynamodb"]["ApproximateCreationDateTime"] for r in stream_records(sandbox, arn))
    assert milliseconds < 10**13 < 10**15 < microseconds
    with pytest.raises(ClientError, match="already set"):
        client.update_kinesis_streaming_destination(**update)


def test_sequence_numbers_and_arrivals_grow_within_a_shard(sandbox: Sandbox) -> None:
    make_table(sandbox)
    arn = make_stream(sandbox, "things", shards=1)
    for number in range(5):
        put(sandbox, "a", v={"N": str(number)})
    records = raw_records(sandbox, arn)
    sequences = [int(r["SequenceNumber"]) for r in records]
    assert sequences == sorted(set(sequences))
    assert all(len(r["SequenceNumber"]) == 56 for r in records)
    assert [r["ApproximateArrivalTimestamp"] for r in records] == sorted(
        r["ApproximateArrivalTimestamp"] for r in records
    )


def test_destination_lives_from_enabled_to_disabled(sandbox: Sandbox) -> None:
    make_table(sandbox)
    client = sandbox.client("dynamodb")
    arn = make_stream(sandbox, "things")
    described = client.describe_kinesis_streaming_destination(TableName="things")
    assert described["KinesisDataStreamDestinations"] == [{"StreamArn": arn, "DestinationStatus": "ACTIVE"}]
    with pytest.raises(ClientError, match="must be DISABLED"):
        client.enable_kinesis_streaming_destination(TableName="things", StreamArn=arn)
    client.disable_kinesis_streaming_destination(TableName="things", StreamArn=arn)
    put(sandbox, "unseen")
    described = client.describe_kinesis_streaming_destination(TableName="things")
    assert described["KinesisDataStreamDestinations"][0]["DestinationStatus"] == "DISABLED"
    with pytest.raises(ClientError, match="must be ACTIVE"):
        client.disable_kinesis_streaming_destination(TableName="things", StreamArn=arn)
    client.enable_kinesis_streaming_destination(TableName="things", StreamArn=arn)
    put(sandbox, "seen")
    assert [r["dynamodb"]["Keys"]["pk"]["S"] for r in stream_records(sandbox, arn)] == ["seen"]


def test_destination_that_does_not_exist_is_not_found(sandbox: Sandbox) -> None:
    make_table(sandbox)
    client = sandbox.client("dynamodb")
    arn = make_stream(sandbox)
    with pytest.raises(client.exceptions.ResourceNotFoundException):
        client.enable_kinesis_streaming_destination(TableName="things", StreamArn=arn + "-not")
    with pytest.raises(client.exceptions.ResourceNotFoundException):
        client.enable_kinesis_streaming_destination(TableName="nothings", StreamArn=arn)
    assert client.describe_kinesis_streaming_destination(TableName="things")["KinesisDataStreamDestinations"] == []


def test_faults_duplicate_and_reorder_records_and_lose_none() -> None:
    with Sandbox(faults=StreamFaults(duplicates=0.3, reordering=0.3, seed=7)) as sandbox:
        make_table(sandbox)
        arn = make_stream(sandbox, "things", "MICROSECOND", shards=1)
        for number in range(40):
            put(sandbox, f"k{number % 7}", v={"N": str(number)})
        records = stream_records(sandbox, arn)
    times = [r["dynamodb"]["ApproximateCreationDateTime"] for r in records]
    assert sorted({r["dynamodb"]["NewImage"]["v"]["N"] for r in records}, key=int) == [str(n) for n in range(40)]
    assert times != sorted(times)
    doubled = [event for event, count in Counter(r["eventID"] for r in records).items() if count > 1]
    assert 3 < len(doubled) < 30
    for event in doubled:
        assert len({json.dumps(r) for r in records if r["eventID"] == event}) == 1


def test_faults_with_one_seed_are_the_same_again() -> None:
    orders = []
    for _ in range(2):
        with Sandbox(faults=StreamFaults(duplicates=0.3, reordering=0.5, seed=3)) as sandbox:
            make_table(sandbox)
            arn = make_stream(sandbox, "things", shards=1)
            for number in range(20):
                put(sandbox, "a", v={"N": str(number)})
            orders.append([r["dynamodb"]["NewImage"]["v"]["N"] for r in stream_records(sandbox, arn)])
    assert orders[0] == orders[1]


def test_record_over_the_kinesis_limit_is_skipped() -> None:
    with Sandbox(faults=StreamFaults(record_limit_bytes=2000)) as sandbox:
        make_table(sandbox)
        arn = make_stream(sandbox, "things")
        put(sandbox, "large", v={"S": "x" * 2000})
        put(sandbox, "small")
        assert [r["dynamodb"]["Keys"]["pk"]["S"] for r in stream_records(sandbox, arn)] == ["small"]
        assert sandbox.skipped_records == 1


def test_expire_deletes_as_the_time_to_live_service(sandbox: Sandbox) -> None:
    make_table(sandbox)
    arn = make_stream(sandbox, "things", shards=1)
    now_s = int(sandbox.clock.now().timestamp())
    put(sandbox, "due", expires={"N": str(now_s - 10)})
    put(sandbox, "later", expires={"N": str(now_s + 1000)})
    put(sandbox, "long ago", expires={"N": str(now_s - 6 * 365 * 86400)})
    put(sandbox, "text", expires={"S": str(now_s - 10)})
    put(sandbox, "never")
    assert sandbox.expire("things") == 0  # Time to Live is off
    ttl = {"Enabled": True, "AttributeName": "expires"}
    sandbox.client("dynamodb").update_time_to_live(TableName="things", TimeToLiveSpecification=ttl)
    assert sandbox.expire("things") == 1
    removed = stream_records(sandbox, arn)[-1]
    assert (removed["eventName"], removed["dynamodb"]["Keys"]["pk"]["S"]) == ("REMOVE", "due")
    assert removed["userIdentity"]["principalId"] == "dynamodb.amazonaws.com"
    assert "Item" not in sandbox.client("dynamodb").get_item(TableName="things", Key=key("due"))


def test_table_made_again_streams_nowhere(sandbox: Sandbox) -> None:
    make_table(sandbox)
    make_bucket(sandbox)
    client = sandbox.client("dynamodb")
    arn = make_stream(sandbox, "things")
    put(sandbox, "a")
    client.delete_table(TableName="things")
    make_table(sandbox)
    put(sandbox, "b")
    assert [r["dynamodb"]["Keys"]["pk"]["S"] for r in stream_records(sandbox, arn)] == ["a"]
