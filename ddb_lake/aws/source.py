"""The source table: what DescribeTable says of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from ddb_lake.aws.session import client
from ddb_lake.config import TableSettings


@dataclass(frozen=True, slots=True)
class SourceTable:
    """A DynamoDB table as the service describes it; everything empty if it cannot be reached, with the reason.

    `items` is refreshed by DynamoDB about every six hours.
    """

    key: tuple[str, ...] = ()
    arn: str | None = None
    table_id: str | None = None
    items: int | None = None
    unreachable: str | None = None


def source_client(table: TableSettings, service: str = "dynamodb") -> Any:
    """A client that reaches the source table, through its role if one is configured."""
    source = table.source
    return client(service, source.region, source.role_arn, source.external_id)


def describe_source(table: TableSettings) -> SourceTable:
    """What DynamoDB says of the source table."""
    try:
        found = source_client(table).describe_table(TableName=table.source_name)["Table"]
    except (BotoCoreError, ClientError) as error:
        return SourceTable(unreachable=str(error))
    roles = {entry["KeyType"]: entry["AttributeName"] for entry in found["KeySchema"]}
    key = tuple(roles[role] for role in ("HASH", "RANGE") if role in roles)
    return SourceTable(key, found.get("TableArn"), found.get("TableId"), found.get("ItemCount"))
