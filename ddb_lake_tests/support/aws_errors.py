"""Requests that fail, of the operations that a lake calls, and the code of AWS's error for each.

The codes are those of the operation's page in AWS's API references.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from ddb_lake_tests.support.emulated_path import Service, make_buckets, make_table
from ddb_lake_tests.support.s3_semantics import code_of

_KEY: Final = {"customer": {"S": "ann"}, "order_id": {"S": "1"}}


@dataclass(frozen=True, slots=True)
class Failure:
    """A request that fails. `arguments` gets the ARNs of the table `orders` and of its stream, and the id of a shard."""

    service: str
    operation: str
    code: str
    arguments: Callable[[str, str, str], dict[str, Any]]


def _of(**arguments: Any) -> Callable[[str, str, str], dict[str, Any]]:
    return lambda _table, _stream, _shard: arguments


FAILURES: Final[dict[str, Failure]] = {
    "`DescribeTable` of a missing table": Failure(
        "dynamodb", "describe_table", "ResourceNotFoundException", _of(TableName="missing")
    ),
    "`Scan` of a missing table": Failure("dynamodb", "scan", "ResourceNotFoundException", _of(TableName="missing")),
    "`BatchGetItem` of a missing table": Failure(
        "dynamodb", "batch_get_item", "ResourceNotFoundException", _of(RequestItems={"missing": {"Keys": [_KEY]}})
    ),
    "`GetItem` with attributes that are not the key": Failure(
        "dynamodb", "get_item", "ValidationException", _of(TableName="orders", Key={"id": {"S": "1"}})
    ),
    "`PutItem` with `attribute_not_exists`, and the item exists": Failure(
        "dynamodb",
        "put_item",
        "ConditionalCheckFailedException",
        _of(TableName="orders", Item=_KEY, ConditionExpression="attribute_not_exists(customer)"),
    ),
    "`DescribeTimeToLive` of a missing table": Failure(
        "dynamodb", "describe_time_to_live", "ResourceNotFoundException", _of(TableName="missing")
    ),
    "`DescribeContinuousBackups` of a missing table": Failure(
        "dynamodb", "describe_continuous_backups", "TableNotFoundException", _of(TableName="missing")
    ),
    "`DescribeKinesisStreamingDestination` of a missing table": Failure(
        "dynamodb", "describe_kinesis_streaming_destination", "ResourceNotFoundException", _of(TableName="missing")
    ),
    "`ExportTableToPointInTime` without point-in-time recovery": Failure(
        "dynamodb",
        "export_table_to_point_in_time",
        "PointInTimeRecoveryUnavailableException",
        lambda table, _stream, _shard: {"TableArn": table, "S3Bucket": "exports"},
    ),
    "`ExportTableToPointInTime` of a missing table": Failure(
        "dynamodb",
        "export_table_to_point_in_time",
        "TableNotFoundException",
        lambda table, _stream, _shard: {"TableArn": f"{table}s", "S3Bucket": "exports"},
    ),
    "`DescribeExport` of a missing export": Failure(
        "dynamodb",
        "describe_export",
        "ExportNotFoundException",
        lambda table, _stream, _shard: {"ExportArn": f"{table}/export/01700000000000-00000000"},
    ),
    "`GetShardIterator` of a missing shard": Failure(
        "dynamodbstreams",
        "get_shard_iterator",
        "ResourceNotFoundException",
        lambda _table, stream, shard: {
            "StreamArn": stream,
            "ShardId": f"{shard[:-1]}x",
            "ShardIteratorType": "TRIM_HORIZON",
        },
    ),
    "`GetRecords` with an invalid iterator": Failure(
        "dynamodbstreams", "get_records", "ValidationException", _of(ShardIterator="no iterator")
    ),
    "`DescribeStreamSummary` of a missing stream": Failure(
        "kinesis", "describe_stream_summary", "ResourceNotFoundException", _of(StreamName="missing")
    ),
    "`ListShards` of a missing stream": Failure(
        "kinesis", "list_shards", "ResourceNotFoundException", _of(StreamName="missing")
    ),
    "`DescribeDeliveryStream` of a missing stream": Failure(
        "firehose", "describe_delivery_stream", "ResourceNotFoundException", _of(DeliveryStreamName="missing")
    ),
    "`PutRecordBatch` to a missing stream": Failure(
        "firehose",
        "put_record_batch",
        "ResourceNotFoundException",
        _of(DeliveryStreamName="missing", Records=[{"Data": b"1"}]),
    ),
    "`GetDatabase` of a missing database": Failure(
        "glue", "get_database", "EntityNotFoundException", _of(Name="missing")
    ),
    "`GetTable` of a missing table": Failure(
        "glue", "get_table", "EntityNotFoundException", _of(DatabaseName="lake", Name="missing")
    ),
    "`CreateTable` of a table that exists": Failure(
        "glue", "create_table", "AlreadyExistsException", _of(DatabaseName="lake", TableInput={"Name": "orders"})
    ),
    "`UpdateTable` of a missing table": Failure(
        "glue", "update_table", "EntityNotFoundException", _of(DatabaseName="lake", TableInput={"Name": "missing"})
    ),
}
"""The requests, as the guide lists them."""


def codes(service: Service) -> dict[str, str]:
    """The code of the error of each request; empty where it succeeded. `service` has no resources yet."""
    make_table(service)
    make_buckets(service)
    dynamodb, streams, glue = (service.client(name) for name in ("dynamodb", "dynamodbstreams", "glue"))
    dynamodb.put_item(TableName="orders", Item=_KEY)
    glue.create_database(DatabaseInput={"Name": "lake"})
    glue.create_table(DatabaseName="lake", TableInput={"Name": "orders"})
    table = dynamodb.describe_table(TableName="orders")["Table"]
    stream = table["LatestStreamArn"]
    shard = streams.describe_stream(StreamArn=stream)["StreamDescription"]["Shards"][0]["ShardId"]
    return {
        name: code_of(
            getattr(service.client(failure.service), failure.operation),
            **failure.arguments(table["TableArn"], stream, shard),
        )
        for name, failure in FAILURES.items()
    }
