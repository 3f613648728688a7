"""The DynamoDB tables of an account and Region that an entry with `match` is for, as `ddb-lake discover` lists them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError, NoRegionError

from ddb_lake.aws.error_codes import error_code
from ddb_lake.aws.source import source_client
from ddb_lake.config import TableSettings
from ddb_lake.config.inventory import InventoryTable
from ddb_lake.errors import UsageError

_NOT_FOUND = ("ResourceNotFoundException", "TableNotFoundException")
_DENIED = ("AccessDenied", "AccessDeniedException")
_ALLOW = "`ddb-lake iam discoverer` prints the policy that it needs"


@dataclass(frozen=True, slots=True)
class ListedTable:
    """A table that ListTables returned and whose name an entry matches, with all of its tags."""

    table: InventoryTable
    tags: dict[str, str]


def list_tables(entry: TableSettings) -> tuple[ListedTable, ...]:
    """The tables whose names an entry with `match` matches, in the order of their names, whatever their tags are.

    A table that is being deleted is left out, and one that is being created and cannot answer yet. Tags are read only if the entry
    has `match_tags`.

    Raises UsageError if a request is refused or fails: what was listed until then is no answer.
    """
    try:
        dynamodb = source_client(entry)
        names = [name for page in dynamodb.get_paginator("list_tables").paginate() for name in page["TableNames"]]
        matching = sorted(name for name in names if entry.matches_name(name))
        return tuple(found for name in matching for found in _listed(dynamodb, entry, name))
    except NoRegionError as error:
        raise UsageError(
            "no AWS Region", hint="set AWS_REGION, or `source.region` of the entry with `match`"
        ) from error
    except (ClientError, BotoCoreError) as error:
        raise UsageError(
            f"the DynamoDB tables of `match: {entry.match}` could not be listed: {' '.join(str(error).split())}",
            hint=_ALLOW if error_code(error) in _DENIED else "the list stays as it was; run `ddb-lake discover` again",
        ) from error


def _listed(dynamodb: Any, entry: TableSettings, name: str) -> Iterator[ListedTable]:
    try:
        description = dynamodb.describe_table(TableName=name)["Table"]
        if description.get("TableStatus") == "DELETING":
            return
        backups = dynamodb.describe_continuous_backups(TableName=name)["ContinuousBackupsDescription"]
        tags = _tags(dynamodb, description["TableArn"]) if entry.match_tags else {}
    except ClientError as error:
        if error_code(error) in _NOT_FOUND and not _is_live(dynamodb, name):
            return  # it was deleted since it was listed, or is not created yet
        raise
    roles = {one["KeyType"]: one["AttributeName"] for one in description["KeySchema"]}
    key = tuple(roles[role] for role in ("HASH", "RANGE") if role in roles)
    types = {one["AttributeName"]: one["AttributeType"] for one in description["AttributeDefinitions"]}
    stream = description.get("StreamSpecification") or {}
    recovery = backups.get("PointInTimeRecoveryDescription", {}).get("PointInTimeRecoveryStatus")
    yield ListedTable(
        InventoryTable(
            table=name,
            arn=description["TableArn"],
            table_id=description.get("TableId"),
            key=key,
            key_types={attribute: types[attribute] for attribute in key},
            stream_view=stream.get("StreamViewType") if stream.get("StreamEnabled") else None,
            point_in_time_recovery=recovery == "ENABLED",
            region=entry.source.region,
            role_arn=entry.source.role_arn,
        ),
        tags,
    )


def _is_live(dynamodb: Any, name: str) -> bool:
    """Whether the table exists, and is not being created or deleted."""
    try:
        return dynamodb.describe_table(TableName=name)["Table"].get("TableStatus") not in ("CREATING", "DELETING")
    except ClientError as error:
        if error_code(error) in _NOT_FOUND:
            return False
        raise


def _tags(dynamodb: Any, arn: str) -> dict[str, str]:
    pages = dynamodb.get_paginator("list_tags_of_resource").paginate(ResourceArn=arn)
    return {tag["Key"]: tag["Value"] for page in pages for tag in page["Tags"]}
