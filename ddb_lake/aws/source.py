"""The source table, as DescribeTable and DescribeContinuousBackups return it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from ddb_lake.aws.session import client
from ddb_lake.config import TableSettings
from ddb_lake.core.operations.aws_hints import Access, next_step
from ddb_lake.errors import UsageError


@dataclass(frozen=True, slots=True)
class SourceTable:
    """A DynamoDB table as DescribeTable returns it. If it cannot be read, only `unreachable` is set, to the reason.

    `status`: such as ACTIVE. `stream_view`: which images its DynamoDB stream has, such as NEW_AND_OLD_IMAGES; None if it is off.

    DynamoDB updates `items` and `size_bytes` about every six hours.
    https://docs.aws.amazon.com/amazondynamodb/latest/APIReference/API_TableDescription.html
    """

    key: tuple[str, ...] = ()
    arn: str | None = None
    table_id: str | None = None
    items: int | None = None
    unreachable: str | None = None
    size_bytes: int | None = None
    status: str | None = None
    stream_view: str | None = None


def source_client(table: TableSettings, service: str = "dynamodb") -> Any:
    """A client that reaches the source table, through its role if one is configured."""
    source = table.source
    return client(service, source.region, source.role_arn, source.external_id)


def access_of(table: TableSettings) -> Access:
    """The configuration with which the table is accessed and exported, to explain a refusal."""
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
    """The earliest time of an export, in whole seconds since the epoch; None if point-in-time recovery is off.

    Also None if `dynamodb:DescribeContinuousBackups` is denied: exports may still be allowed, and DynamoDB rejects times
    that are too early.
    """
    try:
        backups = source_client(table).describe_continuous_backups(TableName=table.source_name)
    except ClientError as error:
        if error.response.get("Error", {}).get("Code") == "AccessDeniedException":
            return None
        raise
    recovery = backups["ContinuousBackupsDescription"].get("PointInTimeRecoveryDescription", {})
    earliest = recovery.get("EarliestRestorableDateTime")
    return None if earliest is None else int(earliest.timestamp())


def describe_source(table: TableSettings) -> SourceTable:
    """Describe the source table. Does not raise: a failure is in `unreachable`."""
    try:
        description = source_client(table).describe_table(TableName=table.source_name)["Table"]
    except (BotoCoreError, ClientError) as error:
        return SourceTable(unreachable=_reason(error, access_of(table)))
    roles = {entry["KeyType"]: entry["AttributeName"] for entry in description["KeySchema"]}
    key = tuple(roles[role] for role in ("HASH", "RANGE") if role in roles)
    stream = description.get("StreamSpecification") or {}
    return SourceTable(
        key,
        description.get("TableArn"),
        description.get("TableId"),
        description.get("ItemCount"),
        size_bytes=description.get("TableSizeBytes"),
        status=description.get("TableStatus"),
        stream_view=stream.get("StreamViewType") if stream.get("StreamEnabled") else None,
    )


def require_source(table: TableSettings, otherwise: str = "") -> SourceTable:
    """Describe the source table.

    Args:
        table: the settings of a table.
        otherwise: what the user can do without the source, for the hint.

    Raises:
        UsageError: it cannot be reached.
    """
    source = describe_source(table)
    if source.arn is None:
        raise UsageError(
            f"the source {table.source_name} cannot be reached ({source.unreachable})",
            table=table.name,
            hint=f"correct `source` in the configuration, or the AWS variables{f'. Without the source: {otherwise}' if otherwise else ''}",
        )
    return source


def _reason(error: BotoCoreError | ClientError, access: Access) -> str:
    if not isinstance(error, ClientError):
        return " ".join(str(error).split())
    fault = error.response.get("Error", {})
    reason = f"{fault.get('Code', 'refused')}: {fault.get('Message') or error}"
    advice = next_step(reason, access)
    return f"{reason}; {advice}" if advice else reason
