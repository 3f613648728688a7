"""Requests of JSON services that AWS refuses, and that moto accepts or fails at."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from ddb_lake.sandbox import backend
from ddb_lake.sandbox.awserror import AwsError
from ddb_lake.sandbox.backend import Scope


def refusal(scope: Scope, target: str, body: dict[str, Any]) -> AwsError | None:
    """The error with which AWS refuses a request; None if moto has the answer. `target`: the header X-Amz-Target."""
    return _REFUSALS[target](scope, body) if target in _REFUSALS else None


def _update_catalog_table(scope: Scope, body: dict[str, Any]) -> AwsError | None:
    """A table of the Glue catalog is updated at one version. https://docs.aws.amazon.com/glue/latest/webapi/API_UpdateTable.html"""
    version = body.get("VersionId")
    current = backend.catalog_version(scope, str(body.get("DatabaseName")), str(body.get("TableInput", {}).get("Name")))
    if version is None or current is None or version == current:
        return None
    return AwsError("ConcurrentModificationException", "Update table failed due to concurrent modifications.")


def _describe_time_to_live(scope: Scope, body: dict[str, Any]) -> AwsError | None:
    """https://docs.aws.amazon.com/amazondynamodb/latest/APIReference/API_DescribeTimeToLive.html"""
    name = str(body.get("TableName"))
    if backend.find_table(scope, name) is not None:
        return None
    return AwsError("ResourceNotFoundException", f"Requested resource not found: Table: {name} not found")


def _get_shard_iterator(scope: Scope, body: dict[str, Any]) -> AwsError | None:
    """https://docs.aws.amazon.com/amazondynamodb/latest/APIReference/API_streams_GetShardIterator.html"""
    shard = backend.stream_shard(scope, str(body.get("StreamArn")))
    if shard is None or shard == body.get("ShardId"):
        return None
    return AwsError("ResourceNotFoundException", "Requested resource not found: Shard does not exist")


def _get_records(scope: Scope, body: dict[str, Any]) -> AwsError | None:
    """https://docs.aws.amazon.com/amazondynamodb/latest/APIReference/API_streams_GetRecords.html"""
    if backend.has_shard_iterator(scope, str(body.get("ShardIterator"))):
        return None
    return AwsError("ValidationException", "Invalid ShardIterator")


_REFUSALS: Final[dict[str, Callable[[Scope, dict[str, Any]], AwsError | None]]] = {
    "AWSGlue.UpdateTable": _update_catalog_table,
    "DynamoDB_20120810.DescribeTimeToLive": _describe_time_to_live,
    "DynamoDBStreams_20120810.GetShardIterator": _get_shard_iterator,
    "DynamoDBStreams_20120810.GetRecords": _get_records,
}
