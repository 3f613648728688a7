"""Steps that several tests of the sandbox take, all through real clients over HTTP."""

import gzip
import json
from datetime import timedelta
from typing import Any

from ddb_lake.core.layout.export_manifest import DataFile, ExportSummary, md5_text, parse_files, parse_summary
from ddb_lake.sandbox import ExportOptions, Sandbox
from ddb_lake_tests.support.scanned_items import scan_items

BUCKET = "landing"


def make_bucket(sandbox: Sandbox, bucket: str = BUCKET) -> str:
    location = {"LocationConstraint": sandbox.region}
    sandbox.client("s3").create_bucket(Bucket=bucket, CreateBucketConfiguration=location)
    return bucket


def make_table(sandbox: Sandbox, name: str = "things", **options: Any) -> str:
    """A table with the key (pk: S, sk: N) and point-in-time recovery; its ARN."""
    client = sandbox.client("dynamodb")
    created = client.create_table(
        TableName=name,
        KeySchema=[{"AttributeName": "pk", "KeyType": "HASH"}, {"AttributeName": "sk", "KeyType": "RANGE"}],
        AttributeDefinitions=[
            {"AttributeName": "pk", "AttributeType": "S"},
            {"AttributeName": "sk", "AttributeType": "N"},
        ],
        BillingMode="PAY_PER_REQUEST",
        **options,
    )
    recovery = {"PointInTimeRecoveryEnabled": True}
    client.update_continuous_backups(TableName=name, PointInTimeRecoverySpecification=recovery)
    return str(created["TableDescription"]["TableArn"])


def make_stream(sandbox: Sandbox, table: str | None = None, precision: str | None = None, shards: int = 2) -> str:
    """A Kinesis stream, with the table's changes streaming into it; its ARN."""
    kinesis = sandbox.client("kinesis")
    kinesis.create_stream(StreamName="changes", ShardCount=shards)
    arn = str(kinesis.describe_stream(StreamName="changes")["StreamDescription"]["StreamARN"])
    if table is not None:
        declared = {"ApproximateCreationDateTimePrecision": precision} if precision else {}
        options = {"EnableKinesisStreamingConfiguration": declared} if declared else {}
        sandbox.client("dynamodb").enable_kinesis_streaming_destination(TableName=table, StreamArn=arn, **options)
    return arn


def put(sandbox: Sandbox, pk: str, sk: int = 1, table: str = "things", **attributes: Any) -> None:
    sandbox.client("dynamodb").put_item(TableName=table, Item=key(pk, sk) | attributes)


def key(pk: str, sk: int = 1) -> dict[str, Any]:
    return {"pk": {"S": pk}, "sk": {"N": str(sk)}}


def stream_records(sandbox: Sandbox, arn: str) -> list[dict[str, Any]]:
    """Every record of the Kinesis stream, parsed, each shard's in order."""
    return [json.loads(record["Data"]) for record in raw_records(sandbox, arn)]


def raw_records(sandbox: Sandbox, arn: str) -> list[dict[str, Any]]:
    kinesis = sandbox.client("kinesis")
    found: list[dict[str, Any]] = []
    for shard in kinesis.list_shards(StreamARN=arn)["Shards"]:
        iterator = kinesis.get_shard_iterator(
            StreamARN=arn, ShardId=shard["ShardId"], ShardIteratorType="TRIM_HORIZON"
        )["ShardIterator"]
        found += kinesis.get_records(StreamARN=arn, ShardIterator=iterator)["Records"]
    return found


def objects(sandbox: Sandbox, bucket: str = BUCKET) -> dict[str, bytes]:
    """Every object of the bucket, as stored."""
    s3 = sandbox.client("s3")
    listed = s3.list_objects_v2(Bucket=bucket).get("Contents", [])
    return {item["Key"]: s3.get_object(Bucket=bucket, Key=item["Key"])["Body"].read() for item in listed}


def export(sandbox: Sandbox, arn: str, **options: Any) -> dict[str, Any]:
    """Ask for an export, and what DescribeExport says of it then."""
    client = sandbox.client("dynamodb")
    asked = client.export_table_to_point_in_time(TableArn=arn, S3Bucket=BUCKET, **options)
    described = client.describe_export(ExportArn=asked["ExportDescription"]["ExportArn"])
    return dict(described["ExportDescription"])


def read_export(
    sandbox: Sandbox, described: dict[str, Any]
) -> tuple[ExportSummary, list[DataFile], list[dict[str, Any]]]:
    """An export read back from its manifest, every digest checked: summary, files, lines."""
    stored = objects(sandbox, described["S3Bucket"])
    summary_bytes = stored[described["ExportManifest"]]
    summary = parse_summary(summary_bytes)
    files_bytes = stored[summary.manifest_files_key]
    for name, data in ((described["ExportManifest"], summary_bytes), (summary.manifest_files_key, files_bytes)):
        assert stored[name.removesuffix(".json") + ".md5"].decode() == md5_text(data)
    files = parse_files(files_bytes)
    lines: list[dict[str, Any]] = []
    for file in files:
        assert md5_text(stored[file.key]) == file.md5
        content = [json.loads(line) for line in gzip.decompress(stored[file.key]).splitlines()]
        assert len(content) == file.item_count
        lines += content
    assert summary.item_count == len(lines)
    return summary, files, lines


def scan(sandbox: Sandbox, table: str = "things") -> list[str]:
    """The items of a table over HTTP, each in one spelling, sorted."""
    return scan_items(sandbox.client("dynamodb"), table)


QUICK_EXPORTS = ExportOptions(seconds=0, shortest_window=timedelta(seconds=1))
