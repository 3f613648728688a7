"""The source table: what DescribeTable says of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from ddb_lake.aws.session import client
from ddb_lake.config import TableSettings
from ddb_lake.core.operations.aws_hints import Access, next_step


@dataclass(frozen=True, slots=True)
class SourceTable:
    """A DynamoDB table as the service describes it; everything empty if it cannot be reached, with the reason.

    `items` and `size_bytes` are refreshed by DynamoDB about every six hours.
    """

    key: tuple[str, ...] = ()
    arn: str | None = None
    table_id: str | None = None
    items: int | None = None
    unreachable: str | None = None
    size_bytes: int | None = None


def source_client(table: TableSettings, service: str = "dynamodb") -> Any:
    """A client that reaches the source table, through its role if one is configured."""
    source = table.source
    return client(service, source.region, source.role_arn, source.external_id)


def access_of(table: TableSettings) -> Access:
    """How the table is reached and exported, to explain a refusal."""
    source, export = table.source, table.export
    return Access(
        table.source_name,
        source.role_arn,
        source.external_id,
        export.bucket if export else None,
        export.bucket_owner if export else None,
        export.kms_key_id if export else None,
    )


def restorable_since_s(table: TableSettings) -> int | None:
    """Since when (whole seconds since the epoch) the table can be exported; None where DynamoDB does not say.

    An identity without the right to read this may still export: DynamoDB then refuses a time that is too early.
    """
    try:
        found = source_client(table).describe_continuous_backups(TableName=table.source_name)
    except ClientError as error:
        if error.response.get("Error", {}).get("Code") == "AccessDeniedException":
            return None
        raise
    recovery = found["ContinuousBackupsDescription"].get("PointInTimeRecoveryDescription", {})
    earliest = recovery.get("EarliestRestorableDateTime")
    return None if earliest is None else int(earliest.timestamp())


def describe_source(table: TableSettings) -> SourceTable:
    """What DynamoDB says of the source table."""
    try:
        found = source_client(table).describe_table(TableName=table.source_name)["Table"]
    except (BotoCoreError, ClientError) as error:
        return SourceTable(unreachable=_explained(error, access_of(table)))
    roles = {entry["KeyType"]: entry["AttributeName"] for entry in found["KeySchema"]}
    key = tuple(roles[role] for role in ("HASH", "RANGE") if role in roles)
    return SourceTable(
        key,
        found.get("TableArn"),
        found.get("TableId"),
        found.get("ItemCount"),
        size_bytes=found.get("TableSizeBytes"),
    )


def _explained(error: BotoCoreError | ClientError, access: Access) -> str:
    if not isinstance(error, ClientError):
        return " ".join(str(error).split())
    fault = error.response.get("Error", {})
    said = f"{fault.get('Code', 'refused')}: {fault.get('Message') or error}"
    advice = next_step(said, access)
    return f"{said}; {advice}" if advice else said
