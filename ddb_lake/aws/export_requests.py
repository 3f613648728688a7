"""Exports of the source table to S3: start, wait, describe and list.

https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/S3DataExport.HowItWorks.html
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from botocore.exceptions import ClientError
from tenacity import Retrying, retry_if_result, stop_after_delay, wait_exponential

from ddb_lake.aws.session import expected_owner
from ddb_lake.aws.source import access_of, describe_source, source_client
from ddb_lake.config import ExportSettings, TableSettings
from ddb_lake.core.capture.export_windows import Window
from ddb_lake.core.operations.aws_hints import Access, next_step
from ddb_lake.core.operations.retry_policy import EXPORT_TIMEOUT_S, EXPORT_WAITS_S
from ddb_lake.errors import ConfigError, ExportError, TransientError

_TRANSIENT = ("ThrottlingException", "InternalServerError", "LimitExceededException", "ExportConflictException")


@dataclass(frozen=True, slots=True)
class ExportState:
    """An export as DescribeExport returns it.

    Attributes:
        status: IN_PROGRESS, COMPLETED or FAILED.
        failure: the reason of a failed export, and the next step.
        window: the window of an incremental export.
    """

    arn: str
    status: str
    export_type: str = "FULL_EXPORT"
    failure: str | None = None
    bucket: str | None = None
    manifest_key: str | None = None
    prefix: str | None = None
    window: Window | None = None

    @property
    def manifest_uri(self) -> str:
        """The URI of manifest-summary.json. Raises ExportError unless the export is completed."""
        if self.status != "COMPLETED" or not self.bucket or not self.manifest_key:
            raise ExportError(f"export {self.arn} is {self.status}: {self.failure or 'no manifest yet'}")
        return f"s3://{self.bucket}/{self.manifest_key}"

    @property
    def started_s(self) -> int | None:
        """The start in whole seconds since the epoch, from the ARN; None if the ARN has another form."""
        milliseconds = self.arn.rpartition("/")[2].partition("-")[0]
        return int(milliseconds) // 1000 if milliseconds.isdecimal() else None

    def goes_to(self, place: ExportSettings) -> bool:
        """Whether it is exported to the configured bucket and prefix."""
        return self.bucket == place.bucket and (self.prefix or "").strip("/") == place.prefix.strip("/")


def start_export(
    table: TableSettings,
    *,
    token: str | None = None,
    at: datetime | None = None,
    window: Window | None = None,
) -> ExportState:
    """Start an export of the table to its `export.bucket`: a full one, or with `window` an incremental one.

    Args:
        token: the client token. With the same token within 8 hours, DynamoDB returns the export of the first request.
            https://docs.aws.amazon.com/amazondynamodb/latest/APIReference/API_ExportTableToPointInTime.html
        at: the time of the snapshot of a full export; None: now.
        window: the window of an incremental export, from inclusive, to exclusive.

    Raises:
        ConfigError: there are no `export` settings, or the table cannot be reached.
        ExportError: DynamoDB refuses; the message has the next step.
        TransientError: the request was throttled, or the token was used for another export.
    """
    if table.export is None:
        raise ConfigError("nowhere to export to", table=table.name, hint="add `export: {bucket: …}`")
    source = describe_source(table)
    if source.arn is None:
        raise ConfigError(
            f"the source table {table.source_name} cannot be reached ({source.unreachable})",
            table=table.name,
            hint="correct `source` in the configuration, or the AWS variables; `ddb-lake doctor` examines both",
        )
    arguments = {"TableArn": source.arn, "ExportFormat": "DYNAMODB_JSON", **_destination(table.export)}
    if token:
        arguments["ClientToken"] = token
    if at:
        arguments["ExportTime"] = at
    if window:
        arguments |= _increment(table, window)
    try:
        description = source_client(table).export_table_to_point_in_time(**arguments)["ExportDescription"]
    except ClientError as error:
        raise _translated(error, f"export of {table.source_name}", access_of(table)) from error
    return _state(description, access_of(table))


def describe_export(table: TableSettings, arn: str) -> ExportState:
    """The state of one export."""
    try:
        return _state(source_client(table).describe_export(ExportArn=arn)["ExportDescription"], access_of(table))
    except ClientError as error:
        raise _translated(error, f"export {arn}", access_of(table)) from error


def start_first_unfailed(
    table: TableSettings, tokens: Iterable[str], *, at: datetime | None = None, window: Window | None = None
) -> ExportState:
    """Start an export with the first token whose export has not failed.

    A run that crashed after `start_export` starts again with the same tokens and so finds its export, unless that failed.
    Raises as `start_export`, and ExportError if the exports of all tokens have failed.
    """
    failures: list[str | None] = []
    for token in tokens:
        state = start_export(table, token=token, at=at, window=window)
        if state.status != "FAILED":
            return state
        failures.append(state.failure)
    raise ExportError(
        f"{len(failures)} exports of {table.source_name} failed; the last: {failures[-1]}", table=table.name
    )


def wait_for_export(table: TableSettings, state: ExportState, on_wait: Callable[[int], None]) -> ExportState:
    """Wait until an export is completed.

    Args:
        table: the exported table.
        state: the export, as started or described.
        on_wait: is called before each wait with the seconds waited so far.

    Raises:
        ExportError: the export failed, with DynamoDB's reason and the next step, or is not done after
            `retry_policy.EXPORT_TIMEOUT_S`.
    """
    waits = wait_exponential(multiplier=EXPORT_WAITS_S[0], exp_base=1.5, max=EXPORT_WAITS_S[1])
    polling = Retrying(
        retry=retry_if_result(lambda latest: latest.status == "IN_PROGRESS"),
        wait=waits,
        stop=stop_after_delay(EXPORT_TIMEOUT_S),
        before_sleep=lambda progress: on_wait(int(progress.seconds_since_start or 0)),
        retry_error_callback=lambda progress: progress.outcome.result() if progress.outcome else state,
    )
    if state.status == "IN_PROGRESS":
        state = polling(describe_export, table, state.arn)
    if state.status == "IN_PROGRESS":
        raise ExportError(
            f"export {state.arn} is not done after {EXPORT_TIMEOUT_S // 3600} hours",
            table=table.name,
            hint="`ddb-lake sync` or the sensor loads it once it is",
        )
    if state.status != "COMPLETED":
        reason = state.failure or "without a reason"
        raise ExportError(f"export {state.arn} ended as {state.status}: {reason}; then export again", table=table.name)
    return state


def list_exports(table: TableSettings, since_s: int | None = None) -> list[ExportState]:
    """The exports of the table that DynamoDB lists (of 90 days), oldest first, with the attributes of ListExports alone.

    `since_s`: exports that were started earlier may be left out.
    https://docs.aws.amazon.com/amazondynamodb/latest/APIReference/API_ListExports.html
    """
    source = describe_source(table)
    if source.arn is None:
        return []
    try:
        exports = [export for page in _pages(table, source.arn, since_s) for export in page]
    except ClientError as error:
        raise _translated(error, f"exports of {table.source_name}", access_of(table)) from error
    return sorted(exports, key=lambda e: e.arn)


def _pages(table: TableSettings, arn: str, since_s: int | None) -> Iterator[list[ExportState]]:
    """The pages of the listing. The API guarantees no order; if a page is newest first, stop at `since_s`."""
    client = source_client(table)
    token: str | None = None
    while True:
        more = {"NextToken": token} if token else {}
        answer = client.list_exports(TableArn=arn, MaxResults=25, **more)
        page = [
            ExportState(entry["ExportArn"], entry["ExportStatus"], entry.get("ExportType", "FULL_EXPORT"))
            for entry in answer.get("ExportSummaries", [])
        ]
        yield page
        token = answer.get("NextToken")
        if not token or (since_s is not None and _ends_before(page, since_s)):
            return


def _ends_before(page: list[ExportState], since_s: int) -> bool:
    """Whether the page is in descending order of start and passes `since_s`."""
    starts = [export.started_s for export in page]
    known = [start for start in starts if start is not None]
    return len(known) == len(page) > 1 and known == sorted(known, reverse=True) and known[0] > known[-1] < since_s


def _destination(place: ExportSettings) -> dict[str, Any]:
    arguments: dict[str, Any] = {"S3Bucket": place.bucket}
    if place.prefix:
        arguments["S3Prefix"] = place.prefix
    if owner := place.bucket_owner or expected_owner(place.bucket):
        arguments["S3BucketOwner"] = owner
    if place.kms_key_id:
        arguments |= {"S3SseAlgorithm": "KMS", "S3SseKmsKeyId": place.kms_key_id}
    return arguments


def _increment(table: TableSettings, window: Window) -> dict[str, Any]:
    wanted = table.changes.incremental_exports if table.changes is not None else None
    return {
        "ExportType": "INCREMENTAL_EXPORT",
        "IncrementalExportSpecification": {
            "ExportFromTime": datetime.fromtimestamp(window.from_s, UTC),
            "ExportToTime": datetime.fromtimestamp(window.to_s, UTC),
            "ExportViewType": wanted.view if wanted is not None else "NEW_AND_OLD_IMAGES",
        },
    }


def _state(description: dict[str, Any], access: Access) -> ExportState:
    failure = None
    if description.get("FailureCode"):
        failure = f"{description['FailureCode']}: {description.get('FailureMessage', '')}"
        advice = next_step(failure, access)
        failure += f"; {advice}" if advice else ""
    window = description.get("IncrementalExportSpecification")
    return ExportState(
        description["ExportArn"],
        description["ExportStatus"],
        description.get("ExportType", "FULL_EXPORT"),
        failure,
        description.get("S3Bucket"),
        description.get("ExportManifest"),
        description.get("S3Prefix"),
        Window(int(window["ExportFromTime"].timestamp()), int(window["ExportToTime"].timestamp())) if window else None,
    )


def _translated(error: ClientError, what: str, access: Access) -> ExportError | TransientError:
    code = error.response.get("Error", {}).get("Code", "")
    message = f"{code}: {error.response.get('Error', {}).get('Message', str(error))}"
    if code in _TRANSIENT:
        return TransientError(f"{what}: {message}", hint="try again")
    advice = next_step(message, access)
    return ExportError(f"{what}: {message}" + (f"; {advice}" if advice else ""))
