import base64
import gzip
import json
import re
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from botocore.exceptions import ClientError

from ddb_lake.core.layout.firehose_paths import arrival_hour, parse_firehose_key
from ddb_lake.errors import ConfigError
from ddb_lake.sandbox import Delivery, Sandbox
from ddb_lake.sandbox.firehose import check_prefixes
from ddb_lake_tests.support.sandbox_steps import (
    BUCKET,
    key,
    make_bucket,
    make_stream,
    make_table,
    objects,
    put,
    stream_records,
)

DAY = datetime(2024, 5, 14, 11, 30, tzinfo=UTC)


def passed_on(event: dict[str, Any]) -> dict[str, Any]:
    """A transform that stamps the Kinesis metadata into the record, and ends it with a newline."""
    records = []
    for record in event["records"]:
        body = json.loads(base64.b64decode(record["data"])) | {"kinesis": record["kinesisRecordMetadata"]}
        data = base64.b64encode(json.dumps(body).encode() + b"\n").decode()
        records.append({"recordId": record["recordId"], "result": "Ok", "data": data})
    return {"records": records}


def test_changes_of_a_table_arrive_in_one_object_without_delimiters(sandbox: Sandbox) -> None:
    make_table(sandbox)
    make_bucket(sandbox)
    arn = make_stream(sandbox, "things")
    sandbox.delivery_stream(Delivery(name="hose", bucket=BUCKET, prefix="changes/", source=arn, compression="GZIP"))
    for number in range(10):
        put(sandbox, f"k{number}")
    (name,) = sandbox.flush()
    stored = objects(sandbox)
    assert list(stored) == [name]
    content = gzip.decompress(stored[name]).decode()
    assert "}{" in content
    assert "\n" not in content
    decoder, at, found = json.JSONDecoder(), 0, []
    while at < len(content):
        record, at = decoder.raw_decode(content, at)
        found.append(record["eventID"])
    assert sorted(found) == sorted(record["eventID"] for record in stream_records(sandbox, arn))
    named = parse_firehose_key(name)
    assert named is not None
    assert (named.stream, named.version, named.extension) == ("hose", 1, ".gz")
    assert re.fullmatch(r"changes/\d{4}/\d\d/\d\d/\d\d/hose-1-.*", name)
    assert sandbox.client("s3").head_object(Bucket=BUCKET, Key=name)["ContentEncoding"] == "gzip"


def test_records_of_past_hours_land_in_their_hours_however_late_the_pump_comes() -> None:
    with Sandbox(start=DAY) as sandbox:
        make_table(sandbox)
        make_bucket(sandbox)
        arn = make_stream(sandbox, "things")
        sandbox.delivery_stream(Delivery(name="hose", bucket=BUCKET, source=arn, buffer_seconds=300))
        for hour in range(1, 5):
            sandbox.clock.set(DAY + timedelta(hours=hour))
            put(sandbox, "a", v={"N": str(hour)})
        assert len(sandbox.pump()) == 3
        assert sandbox.pump(DAY + timedelta(hours=4, seconds=299)) == []
        assert len(sandbox.pump(DAY + timedelta(hours=4, seconds=305))) == 1
        hours = [arrival_hour(name) for name in objects(sandbox)]
    assert hours == [DAY.replace(minute=0) + timedelta(hours=hour) for hour in range(1, 5)]


def test_pumping_often_or_once_writes_the_same_objects() -> None:
    written = []
    for often in (True, False):
        with Sandbox(start=DAY) as sandbox:
            make_bucket(sandbox)
            stream = sandbox.delivery_stream(Delivery(name="hose", bucket=BUCKET, buffer_seconds=60, buffer_bytes=50))
            for number in range(40):
                at = DAY + timedelta(seconds=7 * number)
                stream.put(f"<{number:03d}>".encode() * (1 + number % 3), at)
                if often:
                    stream.pump(at)
            stream.pump(DAY + timedelta(hours=1))
            written.append([(name[:41], data) for name, data in objects(sandbox).items()])
    assert written[0] == written[1]
    assert len(written[0]) > 5


def test_buffer_is_written_by_size_or_by_age(sandbox: Sandbox) -> None:
    make_bucket(sandbox)
    stream = sandbox.delivery_stream(Delivery(name="hose", bucket=BUCKET, buffer_seconds=60, buffer_bytes=10))
    now = sandbox.clock.now()
    stream.put(b"12345", now)
    assert stream.pump(now + timedelta(seconds=59)) == []
    stream.put(b"67890", now + timedelta(seconds=59))
    (full,) = stream.pump(now + timedelta(seconds=59))
    stream.put(b"x", now + timedelta(seconds=60))
    (old,) = stream.pump(now + timedelta(seconds=120))
    stored = objects(sandbox)
    assert (stored[full], stored[old]) == (b"1234567890", b"x")


def test_delimiter_is_put_between_records_only(sandbox: Sandbox) -> None:
    make_bucket(sandbox)
    stream = sandbox.delivery_stream(Delivery(name="hose", bucket=BUCKET, delimiter=True, extension=".jsonl"))
    for data in (b"{}", b"{}", b"{}"):
        stream.put(data)
    (name,) = stream.flush()
    assert objects(sandbox)[name] == b"{}\n{}\n{}"
    assert name.endswith(".jsonl")


def test_delivery_begins_at_the_latest_record_or_the_oldest_when_asked(sandbox: Sandbox) -> None:
    make_table(sandbox)
    make_bucket(sandbox)
    arn = make_stream(sandbox, "things")
    put(sandbox, "before")
    sandbox.delivery_stream(Delivery(name="late", bucket=BUCKET, prefix="late/", source=arn))
    sandbox.delivery_stream(Delivery(name="all", bucket=BUCKET, prefix="all/", source=arn, from_start=True))
    put(sandbox, "after")
    names = sandbox.flush()
    counts = {name.partition("/")[0]: objects(sandbox)[name].count(b'"eventID"') for name in names}
    assert counts == {"late": 1, "all": 2}


def test_shards_made_later_are_read_from_their_beginning(sandbox: Sandbox) -> None:
    make_bucket(sandbox)
    arn = make_stream(sandbox, shards=1)
    kinesis = sandbox.client("kinesis")
    stream = sandbox.delivery_stream(Delivery(name="hose", bucket=BUCKET, source=arn))
    kinesis.split_shard(StreamARN=arn, ShardToSplit="shardId-000000000000", NewStartingHashKey=str(2**127))
    for number in range(8):
        kinesis.put_record(StreamARN=arn, Data=f"<{number}>".encode(), PartitionKey=str(number))
    (name,) = stream.flush()
    assert sorted(re.findall(rb"<(\d)>", objects(sandbox)[name])) == [str(n).encode() for n in range(8)]


def test_transform_sees_kinesis_metadata_and_its_answer_is_delivered(sandbox: Sandbox) -> None:
    make_table(sandbox)
    make_bucket(sandbox)
    arn = make_stream(sandbox, "things", shards=1)
    stream = sandbox.delivery_stream(Delivery(name="hose", bucket=BUCKET, source=arn, transform=passed_on))
    for number in range(3):
        put(sandbox, "a", v={"N": str(number)})
    (name,) = stream.flush()
    records = [json.loads(line) for line in objects(sandbox)[name].splitlines()]
    sequences = [int(record["kinesis"]["sequenceNumber"]) for record in records]
    assert [record["eventName"] for record in records] == ["INSERT", "MODIFY", "MODIFY"]
    assert sequences == sorted(set(sequences))
    assert {record["kinesis"]["shardId"] for record in records} == {"shardId-000000000000"}


def test_transform_is_invoked_in_batches_by_size(sandbox: Sandbox) -> None:
    make_bucket(sandbox)
    sizes: list[int] = []

    def handler(event: dict[str, Any]) -> dict[str, Any]:
        sizes.append(len(event["records"]))
        return {"records": [{"recordId": r["recordId"], "result": "Ok", "data": r["data"]} for r in event["records"]]}

    stream = sandbox.delivery_stream(Delivery(name="hose", bucket=BUCKET, transform=handler, transform_bytes=10))
    for data in (b"12345", b"12345", b"1", b"1234567890123", b"1"):
        stream.put(data)
    stream.flush()
    assert sizes == [2, 1, 1, 1]


def test_records_that_fail_land_in_an_error_object_with_their_raw_data(sandbox: Sandbox) -> None:
    make_bucket(sandbox)

    def handler(event: dict[str, Any]) -> dict[str, Any]:
        raise TimeoutError

    stream = sandbox.delivery_stream(
        Delivery(
            name="hose",
            bucket=BUCKET,
            prefix="changes/!{timestamp:yyyy/MM/dd/HH}/",
            error_prefix="errors/!{firehose:error-output-type}/!{timestamp:yyyy/MM/dd/HH}/",
            compression="GZIP",
            transform=handler,
            lambda_arn="arn:aws:lambda:eu-west-1:123456789012:function:transform",
        )
    )
    arrived = DAY
    stream.put(b"\x00raw", arrived)
    stream.put(b"more", arrived + timedelta(seconds=1))
    (name,) = stream.flush()
    assert name.startswith("errors/processing-failed/2024/05/14/11/hose-1-2024-05-14-11-30-00-")
    assert not name.endswith(".gz")
    lines = objects(sandbox)[name].split(b"\n")
    assert lines[-1] == b""
    first = json.loads(lines[0])
    assert list(first) == [
        "attemptsMade",
        "arrivalTimestamp",
        "errorCode",
        "errorMessage",
        "attemptEndingTimestamp",
        "rawData",
        "lambdaArn",
    ]
    assert (first["attemptsMade"], first["errorCode"]) == (4, "Lambda.FunctionError")
    assert first["arrivalTimestamp"] == int(arrived.timestamp() * 1000)
    assert [base64.b64decode(json.loads(line)["rawData"]) for line in lines[:-1]] == [b"\x00raw", b"more"]


def test_error_object_without_an_error_prefix_lies_below_the_prefix(sandbox: Sandbox) -> None:
    make_bucket(sandbox)
    delivery = Delivery(name="hose", bucket=BUCKET, prefix="changes/", transform=lambda event: {"records": []})
    stream = sandbox.delivery_stream(delivery)
    stream.put(b"x", DAY)
    (name,) = stream.flush()
    assert name.startswith("changes/processing-failed/2024/05/14/11/hose-1-")
    assert json.loads(objects(sandbox)[name])["errorCode"] == "Lambda.MissingRecordId"


def test_dynamic_partitioning_gives_each_partition_its_objects(sandbox: Sandbox) -> None:
    make_bucket(sandbox)

    def handler(event: dict[str, Any]) -> dict[str, Any]:
        records = []
        for record in event["records"]:
            data = base64.b64decode(record["data"]).decode()
            keys = {"table": data[0]} if data[0] != "?" else {}
            metadata = {"partitionKeys": keys}
            records.append(
                {"recordId": record["recordId"], "result": "Ok", "data": record["data"], "metadata": metadata}
            )
        return {"records": records}

    stream = sandbox.delivery_stream(
        Delivery(
            name="hose",
            bucket=BUCKET,
            prefix="t=!{partitionKeyFromLambda:table}/!{timestamp:yyyy}/!{firehose:random-string}/",
            error_prefix="!{firehose:error-output-type}/",
            transform=handler,
        )
    )
    for data in (b"a1", b"b1", b"a2", b"?"):
        stream.put(data, DAY)
    stream.flush()
    stored = objects(sandbox)
    assert sorted(stored.values())[:2] == [b"a1a2", b"b1"]
    assert sorted(re.sub(r"[a-z0-9]{11}/hose.*", "", name) for name in stored if name.startswith("t=")) == [
        "t=a/2024/",
        "t=b/2024/",
    ]
    (error,) = (json.loads(data) for name, data in stored.items() if name.startswith("processing-failed/"))
    assert error["errorCode"] == "DynamicPartitioning.MetadataExtractionFailed"


@pytest.mark.parametrize(
    "options",
    [
        {"prefix": "!{timestamp:yyyy}/"},
        {"prefix": "!{nonsense:x}/", "error_prefix": "!{firehose:error-output-type}/"},
        {"error_prefix": "errors/!{timestamp:yyyy}/"},
        {"prefix": "!{firehose:error-output-type}/", "error_prefix": "!{firehose:error-output-type}/"},
    ],
)
def test_delivery_that_firehose_would_refuse_is_a_config_error(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        check_prefixes(Delivery(name="hose", bucket=BUCKET, **options))


def test_delivery_that_s3_refuses_is_tried_again_and_loses_nothing(sandbox: Sandbox) -> None:
    make_table(sandbox)
    arn = make_stream(sandbox, "things")
    stream = sandbox.delivery_stream(Delivery(name="hose", bucket=BUCKET, source=arn, buffer_bytes=300))
    for number in range(10):
        put(sandbox, f"k{number}")
    for _ in range(3):
        with pytest.raises(ClientError, match="NoSuchBucket"):
            stream.pump()
    make_bucket(sandbox)
    stream.flush()
    found = [text for data in objects(sandbox).values() for text in re.findall(rb'"Keys":{"pk":{"S":"(k\d)"', data)]
    assert sorted(found) == [f"k{number}".encode() for number in range(10)]


def test_firehose_over_http_delivers_what_was_put(sandbox: Sandbox) -> None:
    make_bucket(sandbox)
    sandbox.lambdas["upper"] = lambda event: {
        "records": [
            {
                "recordId": record["recordId"],
                "result": "Ok",
                "data": base64.b64encode(base64.b64decode(record["data"]).upper()).decode(),
            }
            for record in event["records"]
        ]
    }
    firehose = sandbox.client("firehose")
    arn = "arn:aws:lambda:eu-west-1:123456789012:function:upper:live"
    firehose.create_delivery_stream(
        DeliveryStreamName="hose",
        DeliveryStreamType="DirectPut",
        ExtendedS3DestinationConfiguration={
            "RoleARN": "arn:aws:iam::123456789012:role/firehose",
            "BucketARN": f"arn:aws:s3:::{BUCKET}",
            "Prefix": "direct/",
            "BufferingHints": {"SizeInMBs": 1, "IntervalInSeconds": 60},
            "CompressionFormat": "GZIP",
            "ProcessingConfiguration": {
                "Enabled": True,
                "Processors": [
                    {"Type": "Lambda", "Parameters": [{"ParameterName": "LambdaArn", "ParameterValue": arn}]},
                    {"Type": "AppendDelimiterToRecord"},
                ],
            },
        },
    )
    firehose.put_record(DeliveryStreamName="hose", Record={"Data": b"one"})
    answer = firehose.put_record_batch(DeliveryStreamName="hose", Records=[{"Data": b"two"}, {"Data": b"three"}])
    assert (answer["FailedPutCount"], len(answer["RequestResponses"])) == (0, 2)
    assert sandbox.pump() == []
    (name,) = sandbox.pump(sandbox.clock.now() + timedelta(seconds=60))
    assert gzip.decompress(objects(sandbox)[name]) == b"ONE\nTWO\nTHREE"
    described = firehose.describe_delivery_stream(DeliveryStreamName="hose")["DeliveryStreamDescription"]
    assert described["DeliveryStreamStatus"] == "ACTIVE"
    firehose.delete_delivery_stream(DeliveryStreamName="hose")
    with pytest.raises(firehose.exceptions.ResourceNotFoundException):
        firehose.put_record(DeliveryStreamName="hose", Record={"Data": b"x"})


def test_firehose_over_http_reads_kinesis_and_takes_no_puts_then(sandbox: Sandbox) -> None:
    make_table(sandbox)
    make_bucket(sandbox)
    arn = make_stream(sandbox, "things")
    firehose = sandbox.client("firehose")
    role = "arn:aws:iam::123456789012:role/firehose"
    options = {
        "DeliveryStreamName": "hose",
        "DeliveryStreamType": "KinesisStreamAsSource",
        "ExtendedS3DestinationConfiguration": {"RoleARN": role, "BucketARN": f"arn:aws:s3:::{BUCKET}"},
    }
    with pytest.raises(ClientError, match="not found"):
        source = {"KinesisStreamARN": arn + "-not", "RoleARN": role}
        firehose.create_delivery_stream(KinesisStreamSourceConfiguration=source, **options)
    source = {"KinesisStreamARN": arn, "RoleARN": role}
    firehose.create_delivery_stream(KinesisStreamSourceConfiguration=source, **options)
    with pytest.raises(ClientError, match="not permitted"):
        firehose.put_record(DeliveryStreamName="hose", Record={"Data": b"x"})
    put(sandbox, "a")
    (name,) = sandbox.flush()
    assert json.loads(objects(sandbox)[name])["dynamodb"]["Keys"] == key("a")


def test_firehose_over_http_refuses_prefixes_as_firehose_does(sandbox: Sandbox) -> None:
    destination = {
        "RoleARN": "arn:aws:iam::123456789012:role/firehose",
        "BucketARN": f"arn:aws:s3:::{BUCKET}",
        "Prefix": "!{timestamp:yyyy}/",
    }
    with pytest.raises(ClientError, match="ErrorOutputPrefix can't be null"):
        sandbox.client("firehose").create_delivery_stream(
            DeliveryStreamName="hose", ExtendedS3DestinationConfiguration=destination
        )


def test_firehose_over_http_backs_up_the_source_records_untransformed(sandbox: Sandbox) -> None:
    make_bucket(sandbox)
    make_bucket(sandbox, "backup")
    role = "arn:aws:iam::123456789012:role/firehose"
    s3: dict[str, Any] = {"RoleARN": role, "BucketARN": f"arn:aws:s3:::{BUCKET}", "Prefix": "plain/"}
    backup = {
        "RoleARN": role,
        "BucketARN": "arn:aws:s3:::backup",
        "Prefix": "source/",
        "BufferingHints": {"SizeInMBs": 1, "IntervalInSeconds": 60},
        "CompressionFormat": "GZIP",
    }
    firehose = sandbox.client("firehose")
    with pytest.raises(ClientError, match="S3BackupConfiguration"):
        firehose.create_delivery_stream(
            DeliveryStreamName="hose", ExtendedS3DestinationConfiguration={**s3, "S3BackupMode": "Enabled"}
        )
    firehose.create_delivery_stream(
        DeliveryStreamName="hose",
        ExtendedS3DestinationConfiguration={**s3, "S3BackupMode": "Enabled", "S3BackupConfiguration": backup},
    )
    firehose.put_record(DeliveryStreamName="hose", Record={"Data": b"before"})
    assert sandbox.pump() == []
    sandbox.pump(sandbox.clock.now() + timedelta(seconds=60))
    assert list(objects(sandbox)) == []  # its own buffer is open for 300 seconds
    assert list(map(gzip.decompress, objects(sandbox, "backup").values())) == [b"before"]

    sandbox.lambdas["fails"] = lambda event: {
        "records": [
            {"recordId": r["recordId"], "result": "ProcessingFailed", "data": r["data"]} for r in event["records"]
        ]
    }
    parameters = [
        {"ParameterName": "LambdaArn", "ParameterValue": "arn:aws:lambda:eu-west-1:123456789012:function:fails"}
    ]
    firehose.update_destination(
        DeliveryStreamName="hose",
        CurrentDeliveryStreamVersionId="1",
        DestinationId="destinationId-000000000001",
        ExtendedS3DestinationUpdate={
            "ErrorOutputPrefix": "failed/",
            "ProcessingConfiguration": {"Enabled": True, "Processors": [{"Type": "Lambda", "Parameters": parameters}]},
        },
    )
    firehose.put_record(DeliveryStreamName="hose", Record={"Data": b"after"})
    sandbox.flush()
    raw = [json.loads(data)["rawData"] for name, data in objects(sandbox).items() if name.startswith("failed/")]
    assert [base64.b64decode(text) for text in raw] == [b"after"]
    assert [data for name, data in objects(sandbox).items() if name.startswith("plain/")] == [b"before"]
    backed_up = objects(sandbox, "backup")
    assert sorted(map(gzip.decompress, backed_up.values())) == [b"after", b"before"]
    assert {name.split("/")[0] for name in backed_up} == {"source"}
    assert {parse_firehose_key(name).version for name in backed_up} == {1, 2}
