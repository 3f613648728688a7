"""Exports of the source table to S3: start, describe, list. What is loaded is decided by `stages`."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from botocore.exceptions import ClientError

from ddb_lake.aws.source import describe_source, source_client
from ddb_lake.config import TableSettings
from ddb_lake.errors import ConfigError, ExportError, TransientError

_ADVICE = {
    "PointInTimeRecoveryUnavailableException": "turn point-in-time recovery on for the table (UpdateContinuousBackups)",
    "AccessDeniedException": "grant dynamodb:ExportTableToPointInTime on the table and s3:PutObject on the bucket",
    "TableNotFoundException": "check the table's name and Region (`source`)",
    "ResourceNotFoundException": "check the table's name and Region (`source`)",
    "ExportConflictException": "an export with this token but other parameters exists; try again",
    "LimitExceededException": "too many exports at once; try again later",
    "InvalidExportTimeException": "choose a time inside the table's point-in-time recovery window",
    "S3NoSuchBucket": "create the bucket, or mend `export.bucket`",
    "S3AccessDenied": "grant s3:PutObject on the bucket, and set `export.bucket_owner` if another account owns it",
    "KmsNotFoundException": "mend `export.kms_key_id`",
    "KMSAccessDenied": "grant kms:GenerateDataKey and kms:Decrypt on the key",
}


@dataclass(frozen=True, slots=True)
class ExportState:
    """An export as DescribeExport says. `status`: IN_PROGRESS, COMPLETED or FAILED."""

    arn: str
    status: str
    export_type: str = "FULL_EXPORT"
    failure: str | None = None
    bucket: str | None = None
    manifest_key: str | None = None

    @property
    def manifest_uri(self) -> str:
        """Where manifest-summary.json lies. Raises ExportError unless the export is completed."""
        if self.status != "COMPLETED" or not self.manifest_key:
            raise ExportError(f"export {self.arn} is {self.status}: {self.failure or 'no manifest yet'}")
        return f"s3://{self.bucket}/{self.manifest_key}"


def start_export(table: TableSettings, *, token: str | None = None, at: datetime | None = None) -> ExportState:
    """Start a full export of the table to its `export.bucket`.

    With the same `token` within 8 hours, DynamoDB gives the export that was started the first time. Raises ConfigError
    without `export` settings or if the table cannot be reached, ExportError if DynamoDB refuses, with the next step.
    """
    if table.export is None:
        raise ConfigError(f"table {table.name}: nowhere to export to; add `export: {{bucket: …}}`")
    source = describe_source(table)
    if source.arn is None:
        raise ConfigError(
            f"table {table.name}: the source table {table.source_name} cannot be reached: {source.unreachable}"
        )
    arguments: dict[str, Any] = {
        "TableArn": source.arn,
        "S3Bucket": table.export.bucket,
        "ExportFormat": "DYNAMODB_JSON",
    }
    if table.export.prefix:
        arguments["S3Prefix"] = table.export.prefix
    if table.export.bucket_owner:
        arguments["S3BucketOwner"] = table.export.bucket_owner
    if table.export.kms_key_id:
        arguments |= {"S3SseAlgorithm": "KMS", "S3SseKmsKeyId": table.export.kms_key_id}
    if token:
        arguments["ClientToken"] = token
    if at:
        arguments["ExportTime"] = at
    try:
        found = source_client(table).export_table_to_point_in_time(**arguments)["ExportDescription"]
    except ClientError as error:
        raise _explained(error, f"export of {table.source_name}") from error
    return _state(found)


def describe_export(table: TableSettings, arn: str) -> ExportState:
    """The state of one export."""
    try:
        return _state(source_client(table).describe_export(ExportArn=arn)["ExportDescription"])
    except ClientError as error:
        raise _explained(error, f"export {arn}") from error


def list_exports(table: TableSettings) -> list[ExportState]:
    """The exports of the table that DynamoDB still lists (90 days), oldest first, without their manifests."""
    source = describe_source(table)
    if source.arn is None:
        return []
    client = source_client(table)
    found: list[ExportState] = []
    token: str | None = None
    while True:
        more = {"NextToken": token} if token else {}
        page = client.list_exports(TableArn=source.arn, MaxResults=25, **more)
        for entry in page.get("ExportSummaries", []):
            found.append(ExportState(entry["ExportArn"], entry["ExportStatus"], entry.get("ExportType", "FULL_EXPORT")))
        token = page.get("NextToken")
        if not token:
            return sorted(found, key=lambda e: e.arn)


def _state(found: dict[str, Any]) -> ExportState:
    failure = None
    if found.get("FailureCode"):
        advice = _ADVICE.get(found["FailureCode"])
        failure = f"{found['FailureCode']}: {found.get('FailureMessage', '')}" + (f"; {advice}" if advice else "")
    return ExportState(
        found["ExportArn"],
        found["ExportStatus"],
        found.get("ExportType", "FULL_EXPORT"),
        failure,
        found.get("S3Bucket"),
        found.get("ExportManifest"),
    )


def _explained(error: ClientError, what: str) -> ExportError | TransientError:
    code = error.response.get("Error", {}).get("Code", "")
    message = error.response.get("Error", {}).get("Message", str(error))
    if code in ("ThrottlingException", "InternalServerError", "LimitExceededException"):
        return TransientError(f"{what}: {code}: {message}; try again")
    advice = _ADVICE.get(code)
    return ExportError(f"{what}: {code}: {message}" + (f"; {advice}" if advice else ""))
