"""Emulate DynamoDB's exports to S3: accepted, in progress, and completed or failed.

https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/S3DataExport.HowItWorks.html

The contents are fixed when the request is accepted, from the table's history. The files are written in the background
(`export_files`), so clients have to wait and may see a failure, as in AWS.
"""

from __future__ import annotations

import json
import logging
import secrets
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from botocore.exceptions import ClientError

from ddb_lake.core.layout.export_manifest import (
    DYNAMODB_JSON,
    FULL_VERSION,
    INCREMENTAL_VERSION,
    MARKER,
    ExportSummary,
)
from ddb_lake.sandbox import backend
from ddb_lake.sandbox.awserror import AwsError
from ddb_lake.sandbox.backend import Scope
from ddb_lake.sandbox.capture import Recorder
from ddb_lake.sandbox.clock import Clock
from ddb_lake.sandbox.export_files import ExportLine, full_line, incremental_line, write_export
from ddb_lake.sandbox.export_requests import (
    ExportOptions,
    destination_fault,
    export_time_us,
    exportable_table,
    incremental_specification,
    window_us,
)
from ddb_lake.sandbox.history import TableHistory

_LOG = logging.getLogger(__name__)
_MOST_LISTED = 25
_FAILURES = {"NoSuchBucket": "S3NoSuchBucket", "AccessDenied": "S3AccessDenied"}


@dataclass(slots=True)
class _Export:
    """One accepted export. When it ends, `summary` is completed and `status` changes."""

    summary: ExportSummary
    request: dict[str, Any]
    lines: Sequence[ExportLine]
    status: str = "IN_PROGRESS"
    failure: tuple[str, str] | None = None
    due: threading.Event = field(default_factory=threading.Event)
    """Set where the export need not wait any longer."""
    worker: threading.Thread | None = None

    @property
    def folder(self) -> str:
        return self.summary.manifest_files_key.rpartition("/")[0]

    def described(self) -> dict[str, Any]:
        """The ExportDescription; attributes that are not known yet are absent."""
        summary, request = self.summary, self.request
        described: dict[str, Any] = {
            "ExportArn": summary.export_arn,
            "ExportStatus": self.status,
            "StartTime": _seconds(summary.start_time_us),
            "EndTime": _seconds(summary.end_time_us),
            "TableArn": summary.table_arn,
            "TableId": summary.table_id,
            "ExportTime": _seconds(summary.export_time_us),
            "ClientToken": request.get("ClientToken"),
            "S3Bucket": summary.bucket,
            "S3BucketOwner": request.get("S3BucketOwner"),
            "S3Prefix": summary.prefix,
            "S3SseAlgorithm": summary.sse_algorithm,
            "S3SseKmsKeyId": summary.sse_kms_key_id,
            "ExportFormat": summary.output_format,
            "ExportType": request.get("ExportType"),
        }
        if summary.export_type == "INCREMENTAL":
            described["IncrementalExportSpecification"] = {
                "ExportFromTime": _seconds(summary.from_us),
                "ExportToTime": _seconds(summary.to_us),
                "ExportViewType": summary.output_view,
            }
        if self.status == "COMPLETED":
            described["ExportManifest"] = f"{self.folder}/manifest-summary.json"
            described |= {"BilledSizeBytes": summary.billed_size_bytes, "ItemCount": summary.item_count}
        if self.failure is not None:
            described["FailureCode"], described["FailureMessage"] = self.failure
        return {name: value for name, value in described.items() if value is not None}


@dataclass(slots=True)
class Exports:
    """All exports of all tables. `s3` returns the client that writes them, through the sandbox's own API."""

    clock: Clock
    recorder: Recorder
    s3: Callable[[], Any]
    options: ExportOptions
    failing: list[tuple[str, str]] = field(default_factory=list)
    _by_arn: dict[str, _Export] = field(default_factory=dict)
    _by_token: dict[tuple[Scope, str], _Export] = field(default_factory=dict)
    _stopping: threading.Event = field(default_factory=threading.Event)

    def forget(self) -> None:
        """Drop all exports. Those in progress stop writing."""
        self.stop()
        self._by_arn.clear()
        self._by_token.clear()
        self.failing.clear()
        self._stopping.clear()

    def stop(self) -> None:
        """Stop the exports in progress, and wait until they have stopped."""
        self._stopping.set()
        self._end(list(self._by_arn.values()))

    def end_due(self) -> None:
        """After a jump of the clock: end the exports whose duration is over, and wait until they have ended."""
        begun_before_us = self.clock.now_us() - int(self.options.seconds * 1_000_000)
        self._end([e for e in list(self._by_arn.values()) if e.summary.start_time_us <= begun_before_us])

    def start(self, scope: Scope, body: dict[str, Any]) -> dict[str, Any]:
        """ExportTableToPointInTime."""
        token = (scope, str(body.get("ClientToken")))
        with self.recorder.lock:
            earlier = self._by_token.get(token) if "ClientToken" in body else None
            if earlier is not None:
                if earlier.request != body:
                    message = "Export conflict: Duplicate request detected with conflicting parameters"
                    raise AwsError("ExportConflictException", message)
                return {"ExportDescription": earlier.described()}
            export = self._accepted(scope, body)
            self._by_arn[export.summary.export_arn] = export
            if "ClientToken" in body:
                self._by_token[token] = export
            answer = {"ExportDescription": export.described()}
        self._begin(export)
        return answer

    def describe(self, scope: Scope, body: dict[str, Any]) -> dict[str, Any]:
        """DescribeExport. Exports outlive their table."""
        arn = str(body.get("ExportArn"))
        if "/export/" not in arn:
            raise AwsError("ValidationException", "Invalid Export ARN")
        export = self._by_arn.get(arn)
        if export is None or not arn.startswith(scope.arn("dynamodb", "")):
            raise AwsError("ExportNotFoundException", f"Export not found: {arn}")
        return {"ExportDescription": export.described()}

    def list_exports(self, scope: Scope, body: dict[str, Any]) -> dict[str, Any]:
        """ListExports: newest first. For a table, only exports of the table that has the name now."""
        found = [e for e in list(self._by_arn.values()) if e.summary.table_arn.startswith(scope.arn("dynamodb", ""))]
        if body.get("TableArn"):
            table = backend.find_table(scope, body["TableArn"])
            table_id = None if table is None else self.recorder.history(scope, table).table_id
            found = [export for export in found if export.summary.table_id == table_id]
        found.sort(key=lambda export: export.summary.export_id, reverse=True)
        start, most = int(body.get("NextToken") or 0), int(body.get("MaxResults") or _MOST_LISTED)
        summaries = [
            {
                "ExportArn": export.summary.export_arn,
                "ExportStatus": export.status,
                "ExportType": f"{export.summary.export_type}_EXPORT",
            }
            for export in found[start : start + most]
        ]
        more = str(start + most) if start + most < len(found) else None
        return {"ExportSummaries": summaries, "NextToken": more}

    def _accepted(self, scope: Scope, body: dict[str, Any]) -> _Export:
        table = exportable_table(scope, body)
        request = incremental_specification(body)
        history = self.recorder.capture_all(scope, table)
        start_us = self.clock.next_ms_us()
        summary, lines = self._contents(history, request, body, self._summary(table, history, body, start_us))
        return _Export(summary, json.loads(json.dumps(body)), lines)

    def _summary(self, table: Any, history: TableHistory, body: dict[str, Any], start_us: int) -> ExportSummary:
        """The attributes that full and incremental exports have in common, at their start."""
        export_id = f"0{start_us // 1000:013d}-{secrets.token_hex(4)}"
        prefix = body.get("S3Prefix") or None
        root = "" if prefix is None else prefix if prefix.endswith("/") else f"{prefix}/"
        return ExportSummary(
            export_arn=f"{table.table_arn}/export/{export_id}",
            table_arn=table.table_arn,
            table_id=history.table_id,
            export_type="FULL",
            start_time_us=start_us,
            bucket=str(body.get("S3Bucket")),
            prefix=prefix,
            manifest_files_key=f"{root}{MARKER}{export_id}/manifest-files.json",
            item_count=0,
            sse_algorithm=body.get("S3SseAlgorithm") or "AES256",
            sse_kms_key_id=body.get("S3SseKmsKeyId"),
            version=FULL_VERSION,
            output_format=body.get("ExportFormat") or DYNAMODB_JSON,
        )

    def _contents(
        self, history: TableHistory, request: dict[str, Any] | None, body: dict[str, Any], common: ExportSummary
    ) -> tuple[ExportSummary, list[ExportLine]]:
        if request is None:
            at_us = export_time_us(body, history, common.start_time_us)
            return replace(common, export_time_us=at_us), [
                full_line(item, common.output_format) for item in history.items_at(at_us)
            ]
        from_us, to_us = window_us(request, self.options, history, common.start_time_us)
        view = request.get("ExportViewType") or "NEW_AND_OLD_IMAGES"
        lines = [incremental_line(net, view, common.output_format) for net in history.net_changes(from_us, to_us)]
        incremental = replace(common, export_type="INCREMENTAL", version=INCREMENTAL_VERSION, output_view=view)
        return replace(incremental, from_us=from_us, to_us=to_us), lines

    def _begin(self, export: _Export) -> None:
        if self.options.seconds <= 0:
            self._run(export)
            return
        name = export.summary.export_id
        export.worker = threading.Thread(target=self._run, args=(export,), name=name, daemon=True)
        export.worker.start()

    def _end(self, exports: Sequence[_Export]) -> None:
        for export in exports:
            export.due.set()
        for export in exports:
            if export.worker is not None:
                export.worker.join()

    def _run(self, export: _Export) -> None:
        try:
            fault = self.failing.pop(0) if self.failing else destination_fault(export.summary, export.request)
            if fault is not None:
                self._fail(export, *fault)
                return
            self._write(export)
        except ClientError as error:
            code = _FAILURES.get(error.response.get("Error", {}).get("Code", ""), "UNKNOWN")
            self._fail(export, code, str(error))
        except Exception as error:  # an export ends FAILED, whatever went wrong
            if not self._stopping.is_set():
                _LOG.exception("export %s failed", export.summary.export_arn)
            self._fail(export, "UNKNOWN", type(error).__name__)

    def _write(self, export: _Export) -> None:
        self.s3().put_object(Bucket=export.summary.bucket, Key=f"{export.folder}/_started", Body=b"")
        export.due.wait(self.options.seconds)
        if self._stopping.is_set():
            return
        export.summary = write_export(
            self.s3(), export.summary, export.lines, files=self.options.files, ended_us=self.clock.now_us
        )
        export.lines, export.status = (), "COMPLETED"

    def _fail(self, export: _Export, code: str, message: str) -> None:
        export.summary = replace(export.summary, end_time_us=self.clock.now_us())
        export.failure, export.status = (code, message), "FAILED"


def _seconds(at_us: int | None) -> float | None:
    return None if at_us is None else at_us // 1000 / 1000


OPERATIONS: dict[str, Callable[[Exports, Scope, dict[str, Any]], dict[str, Any]]] = {
    "ExportTableToPointInTime": Exports.start,
    "DescribeExport": Exports.describe,
    "ListExports": Exports.list_exports,
}
