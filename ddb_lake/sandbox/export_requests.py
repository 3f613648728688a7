"""The validation of export requests, with DynamoDB's errors.

https://docs.aws.amazon.com/amazondynamodb/latest/APIReference/API_ExportTableToPointInTime.html
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from typing import Any

from ddb_lake.core.layout.export_manifest import DYNAMODB_JSON, ION, ExportSummary
from ddb_lake.sandbox import backend
from ddb_lake.sandbox.awserror import AwsError
from ddb_lake.sandbox.backend import Scope
from ddb_lake.sandbox.clock import from_micros
from ddb_lake.sandbox.history import TableHistory

_SECOND_US = 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportOptions:
    """The behaviour of exports. The default bounds of an incremental export's window are those of AWS.

    `seconds`: how long an export is IN_PROGRESS, by the sandbox's clock; with 0 it has ended when the request returns.
    `files`: the number of data files, to which items are assigned by hash; some may be empty.
    """

    seconds: float = 0.2
    files: int = 3
    shortest_window: timedelta = timedelta(minutes=15)
    longest_window: timedelta = timedelta(hours=24)


def exportable_table(scope: Scope, body: dict[str, Any]) -> Any:
    """The moto table of a request, if it can be exported in the requested format."""
    arn = str(body.get("TableArn"))
    if not arn.startswith("arn:") or ":table/" not in arn:
        raise AwsError("ValidationException", "One or more parameter values were invalid: tableArn is not a valid ARN")
    if arn.split(":")[4] != scope.account:
        raise AwsError("AccessDeniedException", "Access is denied")
    table = backend.find_table(scope, arn)
    if table is None or table.table_arn != arn:
        raise AwsError("TableNotFoundException", f"Table not found: {arn}")
    if body.get("ExportFormat", DYNAMODB_JSON) not in (DYNAMODB_JSON, ION):
        message = f"Value '{body['ExportFormat']}' at 'exportFormat' failed to satisfy constraint: Member must satisfy enum value set: "
        raise AwsError("ValidationException", f"{message}[{DYNAMODB_JSON}, {ION}]")
    if not backend.recovery_enabled(table):
        message = f"Point in time recovery is not enabled for table '{table.name}'"
        raise AwsError("PointInTimeRecoveryUnavailableException", message)
    return table


def incremental_specification(body: dict[str, Any]) -> dict[str, Any] | None:
    """IncrementalExportSpecification, None for a full export; it and the export type go together."""
    specification: dict[str, Any] | None = body.get("IncrementalExportSpecification")
    incremental = body.get("ExportType") == "INCREMENTAL_EXPORT"
    fault = None
    if incremental and specification is None:
        fault = "Incremental Export Specification expected when export type is set as Incremental Export"
    elif specification is not None and not incremental:
        fault = "Export Type expected to be Incremental Export when incremental export specification is provided"
    elif specification is not None and not specification.get("ExportFromTime"):
        fault = "ExportFromTime must be provided in IncrementalExportSpecification"
    if fault is not None:
        raise AwsError("ValidationException", f"Invalid Request: {fault}")
    return specification


def export_time_us(body: dict[str, Any], history: TableHistory, now_us: int) -> int:
    """The time of a full export: the requested one, or now."""
    at_us = now_us if body.get("ExportTime") is None else _micros(body["ExportTime"])
    if at_us > now_us or at_us < _recoverable_from(history):
        raise AwsError("InvalidExportTimeException", "Export Time is invalid")
    return at_us


def window_us(
    specification: dict[str, Any], options: ExportOptions, history: TableHistory, now_us: int
) -> tuple[int, int]:
    """The window of an incremental export in whole seconds, from inclusive, to exclusive."""
    from_us = _whole_seconds(_micros(specification["ExportFromTime"]))
    to_us = _whole_seconds(_micros(specification["ExportToTime"]) if specification.get("ExportToTime") else now_us)
    window = timedelta(microseconds=to_us - from_us)
    fault = None
    if from_us < _recoverable_from(history):
        created = _text(history.created_us)
        fault = f"Incremental export period from time cannot be less than the table creation time : {created}"
    elif to_us > now_us:
        fault = f"Incremental export period to time cannot be greater than the current time : {_text(now_us)}"
    elif window < options.shortest_window or to_us <= from_us:
        fault = f"{_DIFFERENCE} less than {_minutes(options.shortest_window)} minutes"
    elif window > options.longest_window:
        fault = f"{_DIFFERENCE} greater than {_minutes(options.longest_window)} minutes"
    if fault is not None:
        raise AwsError("InvalidExportTimeException", fault)
    return from_us, to_us


def destination_fault(summary: ExportSummary, body: dict[str, Any]) -> tuple[str, str] | None:
    """The FailureCode and message of an accepted export that fails. Buckets and keys may belong to another account."""
    account = summary.table_arn.split(":")[4]
    owner = backend.bucket_account(summary.bucket)
    named = body.get("S3BucketOwner")
    if owner is not None and (named or account) != owner:
        return "S3AccessDenied", f"Access denied when writing to bucket {summary.bucket}: it has another owner"
    if summary.sse_kms_key_id is not None and not backend.has_key(summary.sse_kms_key_id, account, summary.table_arn):
        return "KmsNotFoundException", f"Key {summary.sse_kms_key_id} does not exist"
    return None


_DIFFERENCE = "Difference between export period from time and export period to time is"


def _recoverable_from(history: TableHistory) -> int:
    """The earliest exportable second. Requests have whole seconds, so the second in which recovery began counts."""
    return _whole_seconds(history.created_us if history.recoverable_from_us is None else history.recoverable_from_us)


def _whole_seconds(at_us: int) -> int:
    return at_us // _SECOND_US * _SECOND_US


def _micros(epoch_seconds: float) -> int:
    return int(Decimal(str(epoch_seconds)) * _SECOND_US)


def _text(at_us: int) -> str:
    return f"{from_micros(at_us):%Y-%m-%dT%H:%M:%SZ}"


def _minutes(window: timedelta) -> str:
    return f"{window / timedelta(minutes=1):g}"
