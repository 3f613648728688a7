"""Requests of JSON services that AWS refuses, and that moto accepts or fails at."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from ddb_lake.sandbox import backend
from ddb_lake.sandbox.awserror import AwsError
from ddb_lake.sandbox.backend import Scope
from ddb_lake.sandbox.items import digits


def refusal(scope: Scope, target: str, body: dict[str, Any]) -> AwsError | None:
    """The error with which AWS refuses a request; None if moto has the answer. `target`: the header X-Amz-Target."""
    return _REFUSALS[target](scope, body) if target in _REFUSALS else None


def refuse_attributes(value: Any) -> None:
    """Check the attributes in a request to DynamoDB, at any depth.

    moto stores both, and cannot read an item again that has an attribute without a name in a map.
    https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/HowItWorks.NamingRulesDataTypes.html

    Raises:
        AwsError: a name is empty, or a number has more than 38 significant digits.
    """
    members = value if isinstance(value, list) else value.values() if isinstance(value, dict) else ()
    for member in members:
        refuse_attributes(member)
    if not isinstance(value, dict):
        return
    if "" in value:
        raise AwsError("ValidationException", "One or more parameter values were invalid: an attribute name is empty")
    if len(value) == 1:
        numbers = value.get("NS", [value.get("N")])
        if any(isinstance(text, str) and len(text) > 38 and _too_long(text) for text in numbers):
            raise AwsError("ValidationException", "Attempting to store more than 38 significant digits in a Number")


def _too_long(text: str) -> bool:
    try:
        return digits(text) > 38
    except ArithmeticError:
        return False  # no number at all: moto refuses it


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
