"""What an AWS emulator has of the features that a lake uses, one question a function. Each uses boto3 alone.

A probe gets an account without any resource. It returns whether the emulator does as AWS does.
"""

from __future__ import annotations

import base64
import io
import json
import time
import zipfile
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from botocore.exceptions import ClientError

from ddb_lake_tests.support.emulated_path import Service, make_buckets, make_table

Probe = Callable[[Service], bool]

ARRIVES_WITHIN_S: Final = 120
"""How long a probe waits for what an emulator does in the background, before the feature is taken as absent."""

_ROLE: Final = "arn:aws:iam::123456789012:role/tests"
_KEY: Final = {"customer": {"S": "ann"}, "order_id": {"S": "1"}}
_FUNCTION: Final = """\
import boto3

def handler(event, context):
    boto3.client("s3").put_object(Bucket="{bucket}", Key="called", Body=str(len(event["Records"])).encode())
"""


def _arrives(found: Callable[[], bool]) -> bool:
    until = time.monotonic() + ARRIVES_WITHIN_S
    while time.monotonic() < until:
        if found():
            return True
        time.sleep(0.1)
    return False


def _change_thrice(service: Service) -> None:
    """An insert, a change and a removal."""
    client = service.client("dynamodb")
    client.put_item(TableName="orders", Item={**_KEY, "total": {"N": "1"}, "photo": {"B": b"\x00"}})
    client.put_item(TableName="orders", Item={**_KEY, "total": {"N": "2"}})
    client.delete_item(TableName="orders", Key=_KEY)


def _stream(service: Service) -> list[dict[str, Any]]:
    client = service.client("dynamodbstreams")
    arn = service.client("dynamodb").describe_table(TableName="orders")["Table"]["LatestStreamArn"]
    records: list[dict[str, Any]] = []
    for shard in client.describe_stream(StreamArn=arn)["StreamDescription"]["Shards"]:
        start = client.get_shard_iterator(StreamArn=arn, ShardId=shard["ShardId"], ShardIteratorType="TRIM_HORIZON")
        records += client.get_records(ShardIterator=start["ShardIterator"])["Records"]
    return records


def _kinesis(service: Service, precision: str = "MICROSECOND") -> str:
    """The ARN of a stream that gets the changes of the table."""
    client = service.client("kinesis")
    client.create_stream(StreamName="changes", ShardCount=1)
    client.get_waiter("stream_exists").wait(StreamName="changes")
    arn = str(client.describe_stream_summary(StreamName="changes")["StreamDescriptionSummary"]["StreamARN"])
    service.client("dynamodb").enable_kinesis_streaming_destination(
        TableName="orders",
        StreamArn=arn,
        EnableKinesisStreamingConfiguration={"ApproximateCreationDateTimePrecision": precision},
    )
    return arn


def _kinesis_records(service: Service) -> list[dict[str, Any]]:
    client = service.client("kinesis")
    (shard,) = client.list_shards(StreamName="changes")["Shards"]
    start = client.get_shard_iterator(StreamName="changes", ShardId=shard["ShardId"], ShardIteratorType="TRIM_HORIZON")
    return [
        json.loads(record["Data"]) for record in client.get_records(ShardIterator=start["ShardIterator"])["Records"]
    ]


def _landed(service: Service) -> list[str]:
    listed = service.client("s3").list_objects_v2(Bucket=service.bucket("landing"))
    return [content["Key"] for content in listed.get("Contents", ())]


def _landed_bytes(service: Service) -> bytes:
    """The content of all objects."""
    s3, bucket = service.client("s3"), service.bucket("landing")
    return b"".join(s3.get_object(Bucket=bucket, Key=key)["Body"].read() for key in _landed(service))


def _delivery_stream(service: Service, **settings: Any) -> None:
    service.client("firehose").create_delivery_stream(
        DeliveryStreamName="orders",
        ExtendedS3DestinationConfiguration={
            "RoleARN": _ROLE,
            "BucketARN": f"arn:aws:s3:::{service.bucket('landing')}",
            "Prefix": "orders/",
            "BufferingHints": {"IntervalInSeconds": 60, "SizeInMBs": 1},
            "CompressionFormat": "GZIP",
        },
        **settings,
    )


def _streams(service: Service) -> bool:
    make_table(service)
    _change_thrice(service)
    found = [
        (record["eventName"], "OldImage" in record["dynamodb"], "NewImage" in record["dynamodb"])
        for record in _stream(service)
    ]
    return found == [("INSERT", False, True), ("MODIFY", True, True), ("REMOVE", True, False)]


def _streams_without_no_ops(service: Service) -> bool:
    make_table(service)
    for _ in range(2):
        service.client("dynamodb").put_item(TableName="orders", Item=_KEY)
    return len(_stream(service)) == 1


def _destination(service: Service) -> bool:
    make_table(service)
    _kinesis(service)
    _change_thrice(service)
    return sorted(record["eventName"] for record in _kinesis_records(service)) == ["INSERT", "MODIFY", "REMOVE"]


def _destination_without_no_ops(service: Service) -> bool:
    make_table(service)
    _kinesis(service)
    for _ in range(2):
        service.client("dynamodb").put_item(TableName="orders", Item=_KEY)
    return len(_kinesis_records(service)) == 1


def _destination_precision(service: Service) -> bool:
    make_table(service)
    _kinesis(service)
    _change_thrice(service)
    body = _kinesis_records(service)[0]["dynamodb"]
    return (
        body.get("ApproximateCreationDateTimePrecision") == "MICROSECOND" and body["ApproximateCreationDateTime"] > 1e15
    )


def _destination_form(service: Service) -> bool:
    make_table(service)
    _kinesis(service)
    _change_thrice(service)
    record = _kinesis_records(service)[0]
    return record.get("tableName") == "orders" and "SequenceNumber" not in record["dynamodb"]


def _destination_binary(service: Service) -> bool:
    """Binary is encoded twice: https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/kds.html"""
    make_table(service)
    _kinesis(service)
    _change_thrice(service)
    (photo,) = [
        record["dynamodb"]["NewImage"]["photo"]["B"]
        for record in _kinesis_records(service)
        if record["eventName"] == "INSERT"
    ]
    return bool(base64.b64decode(photo) == b"AA==")


def _destination_to_firehose(service: Service) -> bool:
    """A record that a client puts into the stream later arrives, so those of the table would have arrived too."""
    _feed_firehose_from_kinesis(service)
    _change_thrice(service)
    service.client("kinesis").put_record(StreamName="changes", Data=b"last", PartitionKey="k")
    assert _arrives(lambda: b"last" in _landed_bytes(service))
    return _landed_bytes(service) != b"last"


def _kinesis_to_firehose(service: Service) -> bool:
    _feed_firehose_from_kinesis(service)
    service.client("kinesis").put_record(StreamName="changes", Data=b"{}", PartitionKey="k")
    return _arrives(lambda: bool(_landed(service)))


def _feed_firehose_from_kinesis(service: Service) -> None:
    make_buckets(service)
    make_table(service)
    source = {"KinesisStreamARN": _kinesis(service), "RoleARN": _ROLE}
    _delivery_stream(service, DeliveryStreamType="KinesisStreamAsSource", KinesisStreamSourceConfiguration=source)


def _firehose(service: Service) -> bool:
    make_buckets(service)
    _delivery_stream(service)
    service.client("firehose").put_record_batch(DeliveryStreamName="orders", Records=[{"Data": b"{}"}])
    return _arrives(lambda: bool(_landed(service)))


def _firehose_buffer(service: Service) -> bool:
    make_buckets(service)
    _delivery_stream(service)
    service.client("firehose").put_record_batch(
        DeliveryStreamName="orders", Records=[{"Data": b"one"}, {"Data": b"two"}]
    )
    return _arrives(lambda: len(_landed_bytes(service)) >= len(b"onetwo")) and len(_landed(service)) == 1


def _firehose_compression(service: Service) -> bool:
    make_buckets(service)
    _delivery_stream(service)
    service.client("firehose").put_record(DeliveryStreamName="orders", Record={"Data": b"{}"})
    return _arrives(lambda: bool(_landed(service))) and _landed_bytes(service).startswith(b"\x1f\x8b")


def _function(service: Service) -> bool:
    make_buckets(service)
    make_table(service)
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("code.py", _FUNCTION.format(bucket=service.bucket("landing")))
    client = service.client("lambda")
    client.create_function(
        FunctionName="called",
        Runtime="python3.13",
        Role=_ROLE,
        Handler="code.handler",
        Code={"ZipFile": packed.getvalue()},
    )
    client.get_waiter("function_active_v2").wait(FunctionName="called")
    stream = service.client("dynamodb").describe_table(TableName="orders")["Table"]["LatestStreamArn"]
    client.create_event_source_mapping(EventSourceArn=stream, FunctionName="called", StartingPosition="TRIM_HORIZON")
    _change_thrice(service)
    return _arrives(lambda: "called" in _landed(service))


def _recoverable(service: Service) -> str:
    """The ARN of the table, with point-in-time recovery."""
    make_buckets(service)
    make_table(service)
    client = service.client("dynamodb")
    client.put_item(TableName="orders", Item=_KEY)
    client.update_continuous_backups(
        TableName="orders", PointInTimeRecoverySpecification={"PointInTimeRecoveryEnabled": True}
    )
    return str(client.describe_table(TableName="orders")["Table"]["TableArn"])


def _export(service: Service, **settings: Any) -> list[str]:
    """The objects of a completed export."""
    client = service.client("dynamodb")
    arn = _recoverable(service)
    request = client.export_table_to_point_in_time(TableArn=arn, S3Bucket=service.bucket("exports"), **settings)
    name = request["ExportDescription"]["ExportArn"]
    completed = _arrives(
        lambda: client.describe_export(ExportArn=name)["ExportDescription"]["ExportStatus"] == "COMPLETED"
    )
    listed = service.client("s3").list_objects_v2(Bucket=service.bucket("exports"))
    return [content["Key"] for content in listed.get("Contents", ())] if completed else []


def _full_export(service: Service) -> bool:
    return any("/data/" in key for key in _export(service))


def _incremental_export(service: Service) -> bool:
    now = datetime.now(UTC)
    window = {"ExportFromTime": now - timedelta(minutes=20), "ExportToTime": now, "ExportViewType": "NEW_IMAGE"}
    found = _export(service, ExportType="INCREMENTAL_EXPORT", IncrementalExportSpecification=window)
    return any(key.endswith("manifest-summary.json") for key in found)


def _normal_numbers(service: Service) -> bool:
    make_table(service)
    client = service.client("dynamodb")
    numbers = {"a": "1.50", "b": "1e2", "c": "-0", "d": "007", "e": "1e-130", "f": "9" * 38, "g": "1E+125"}
    client.put_item(TableName="orders", Item={**_KEY, **{name: {"N": text} for name, text in numbers.items()}})
    item = client.get_item(TableName="orders", Key=_KEY)["Item"]
    expected = {"a": "1.5", "b": "100", "c": "0", "d": "7", "e": f"0.{'0' * 129}1", "f": "9" * 38, "g": f"1{'0' * 125}"}
    return {name: item[name]["N"] for name in numbers} == expected


def _refuses_long_numbers(service: Service) -> bool:
    make_table(service)
    try:
        service.client("dynamodb").put_item(TableName="orders", Item={**_KEY, "n": {"N": "1" * 39}})
    except ClientError as error:
        return bool(error.response["Error"]["Code"] == "ValidationException")
    return False


def _pages_of_a_scan(service: Service) -> bool:
    """A page of a scan has 1 MB at most: https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/Scan.html"""
    make_table(service)
    client = service.client("dynamodb")
    for number in range(6):
        item = {**_KEY, "order_id": {"S": str(number)}, "text": {"S": "x" * 300_000}}
        client.put_item(TableName="orders", Item=item)
    page = client.scan(TableName="orders")
    return 0 < page["Count"] < 6 and "LastEvaluatedKey" in page


def _catalog_lock(service: Service) -> bool:
    glue = service.client("glue")
    glue.create_database(DatabaseInput={"Name": "lake"})
    glue.create_table(DatabaseName="lake", TableInput={"Name": "orders", "Parameters": {"n": "0"}})
    version = glue.get_table(DatabaseName="lake", Name="orders")["Table"]["VersionId"]
    arguments = {"DatabaseName": "lake", "VersionId": version, "SkipArchive": True}
    glue.update_table(TableInput={"Name": "orders", "Parameters": {"n": "1"}}, **arguments)
    try:
        glue.update_table(TableInput={"Name": "orders", "Parameters": {"n": "2"}}, **arguments)
    except ClientError as error:
        return bool(error.response["Error"]["Code"] == "ConcurrentModificationException")
    return False


def _metrics(service: Service) -> bool:
    make_table(service)
    _kinesis(service)
    _change_thrice(service)
    now = datetime.now(UTC)
    found = service.client("cloudwatch").get_metric_statistics(
        Namespace="AWS/Kinesis",
        MetricName="IncomingRecords",
        Dimensions=[{"Name": "StreamName", "Value": "changes"}],
        StartTime=now - timedelta(hours=1),
        EndTime=now + timedelta(hours=1),
        Period=60,
        Statistics=["Sum"],
    )
    return bool(found["Datapoints"])


def _notifications(service: Service) -> bool:
    make_buckets(service)
    sqs, s3 = service.client("sqs"), service.client("s3")
    queue = sqs.create_queue(QueueName="landed")["QueueUrl"]
    arn = sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    s3.put_bucket_notification_configuration(
        Bucket=service.bucket("landing"),
        NotificationConfiguration={"QueueConfigurations": [{"QueueArn": arn, "Events": ["s3:ObjectCreated:*"]}]},
    )
    s3.put_object(Bucket=service.bucket("landing"), Key="orders/a b", Body=b"{}")
    bodies: list[str] = []

    def received() -> bool:
        bodies.extend(message["Body"] for message in sqs.receive_message(QueueUrl=queue).get("Messages", ()))
        return any('"orders/a+b"' in body for body in bodies)

    return _arrives(received)


def _assumed_role(service: Service) -> bool:
    role = service.client("sts").assume_role(RoleArn="arn:aws:iam::210987654321:role/reader", RoleSessionName="lake")
    return bool(role["Credentials"]["SessionToken"]) and "210987654321" in role["AssumedRoleUser"]["Arn"]


PROBES: Final[dict[str, Probe]] = {
    "DynamoDB Streams: inserts, changes and removals with both images": _streams,
    "DynamoDB Streams: no record of a write without effect": _streams_without_no_ops,
    "Kinesis destination: inserts, changes and removals": _destination,
    "Kinesis destination: no record of a write without effect": _destination_without_no_ops,
    "Kinesis destination: records have the documented form": _destination_form,
    "Kinesis destination: times in microseconds": _destination_precision,
    "Kinesis destination: binary is encoded twice": _destination_binary,
    "Kinesis destination: Firehose delivers the changes of the table": _destination_to_firehose,
    "Firehose: records of a Kinesis stream": _kinesis_to_firehose,
    "Firehose: `PutRecordBatch`": _firehose,
    "Firehose: records wait in a buffer and share an object": _firehose_buffer,
    "Firehose: objects are compressed": _firehose_compression,
    "Lambda: an event source mapping of a DynamoDB stream": _function,
    "full exports": _full_export,
    "incremental exports": _incremental_export,
    "numbers are normalized": _normal_numbers,
    "numbers of more than 38 digits are refused": _refuses_long_numbers,
    "a page of a scan has 1 MB at most": _pages_of_a_scan,
    "Glue: an update with an older `VersionId` is refused": _catalog_lock,
    "CloudWatch: metrics of Kinesis": _metrics,
    "S3 notifications in SQS": _notifications,
    "STS: a role of another account": _assumed_role,
}
"""The questions, as the guide lists them."""
