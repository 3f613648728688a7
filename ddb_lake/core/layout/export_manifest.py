"""Export manifests: the files that DynamoDB writes beside the data files of an export to S3. Parsed and built here.

Belongs here: the bytes of `manifest-summary.json` and `manifest-files.json`, and the locations of the data files that they name.
Promises: `parse_*` is the inverse of `build_*`; a returned path stays inside the folder that it is joined to. Does not read
files, and does not check digests: `md5_text` computes one, and the caller compares it.

https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/S3DataExport.Output.html
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from functools import cached_property
from typing import Any, Literal, TypeAlias

from ddb_lake.errors import ExportError

ExportType: TypeAlias = Literal["FULL", "INCREMENTAL"]

FULL_VERSION = "2020-06-30"
INCREMENTAL_VERSION = "2023-08-01"
DYNAMODB_JSON = "DYNAMODB_JSON"
ION = "ION"
MARKER = "AWSDynamoDB/"
"""The folder that DynamoDB creates below the export's prefix. A copy of an export keeps the keys from here on."""

_FULL_TYPE, _INCREMENTAL_TYPE = "FULL_EXPORT", "INCREMENTAL_EXPORT"
_SCAN_UNTIL = "scanReadUntil"
"""A field of ours: AWS writes no manifest for a scan."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_ISO = re.compile(r"(\d{4}-\d\d-\d\d)[T ](\d\d:\d\d:\d\d)(?:\.(\d{1,9}))?(?:Z|\+00:?00)?")
_EPOCH_SECONDS = re.compile(r"\d{1,12}(?:\.\d{1,9})?")


@dataclass(frozen=True, kw_only=True)
class ExportSummary:
    """One export, as described by its `manifest-summary.json`. Times are UTC microseconds since the epoch.

    A FULL export has the items at `export_time_us`. An INCREMENTAL export has the changes in [`from_us`, `to_us`): from
    inclusive, to exclusive. Fields that do not apply are None.

    `scan_until_us`: only for a scan that `pipeline.load.scan` wrote in the form of a FULL export. Its items were read at times after
    `export_time_us` and before `scan_until_us`, so it has the state of no single instant.
    """

    export_arn: str
    table_arn: str
    table_id: str
    export_type: ExportType
    start_time_us: int
    bucket: str
    prefix: str | None
    manifest_files_key: str
    item_count: int
    export_time_us: int | None = None
    from_us: int | None = None
    to_us: int | None = None
    scan_until_us: int | None = None
    end_time_us: int | None = None
    billed_size_bytes: int = 0
    output_format: str = DYNAMODB_JSON
    output_view: str | None = None
    sse_algorithm: str | None = "AES256"
    sse_kms_key_id: str | None = None
    version: str = FULL_VERSION

    @cached_property
    def export_id(self) -> str:
        """The last part of the export's ARN: `0<epoch ms>-<8 hex>`."""
        return self.export_arn.rpartition("/")[2]

    @cached_property
    def table_name(self) -> str:
        """The source table's name, from its ARN."""
        return self.table_arn.rpartition(":table/")[2]

    @cached_property
    def as_of_us(self) -> int:
        """The instant whose state the export asserts: the export time, or an increment's exclusive end."""
        known = self.export_time_us if self.export_type == "FULL" else self.to_us
        assert known is not None  # both parse_summary and build_summary hold this
        return known


@dataclass(frozen=True, slots=True)
class DataFile:
    """One data file: its bucket-relative key, its lines, base64 MD5 of its *compressed* bytes, S3's ETag."""

    key: str
    item_count: int
    md5: str
    etag: str = ""


def parse_summary(data: bytes) -> ExportSummary:
    """Read a `manifest-summary.json`.

    Raises:
        ExportError: no JSON object, a missing or ill-typed field, an unknown version, or an unknown output format.
    """
    fields = _Fields(_object(data, "manifest-summary.json"), "manifest-summary.json")
    version = fields.text("version")
    if version not in (FULL_VERSION, INCREMENTAL_VERSION):
        raise ExportError(
            f"manifest-summary.json: version {version!r} is not known (known: {FULL_VERSION}, {INCREMENTAL_VERSION}); "
            "a newer ddb_lake may read it"
        )
    incremental = _is_incremental(fields)
    summary = ExportSummary(
        version=version,
        export_arn=fields.text("exportArn"),
        table_arn=fields.text("tableArn"),
        table_id=fields.text("tableId"),
        export_type="INCREMENTAL" if incremental else "FULL",
        start_time_us=fields.instant("startTime"),
        end_time_us=fields.optional_instant("endTime"),
        export_time_us=None if incremental else fields.instant("exportTime"),
        from_us=fields.instant("exportFromTime") if incremental else None,
        to_us=fields.instant("exportToTime") if incremental else None,
        scan_until_us=None if incremental else fields.optional_instant(_SCAN_UNTIL),
        bucket=fields.text("s3Bucket"),
        prefix=fields.optional_text("s3Prefix"),
        sse_algorithm=fields.optional_text("s3SseAlgorithm"),
        sse_kms_key_id=fields.optional_text("s3SseKmsKeyId"),
        manifest_files_key=fields.text("manifestFilesS3Key"),
        billed_size_bytes=fields.count("billedSizeBytes", default=0),
        item_count=fields.count("itemCount"),
        output_format=_output_format(fields),
        output_view=fields.text("outputView") if incremental else None,
    )
    if summary.from_us is not None and summary.to_us is not None and summary.from_us >= summary.to_us:
        raise ExportError(
            "manifest-summary.json: exportFromTime is not before exportToTime", hint="export the window again"
        )
    return summary


def parse_files(data: bytes) -> list[DataFile]:
    """Read a `manifest-files.json`: JSON lines, in file order; blank lines mean nothing.

    Raises:
        ExportError: a line that is no JSON object or lacks a field, or a file named twice.
    """
    files: list[DataFile] = []
    seen: set[str] = set()
    for number, line in enumerate(data.split(b"\n"), start=1):
        if not line.strip():
            continue
        where = f"manifest-files.json line {number}"
        fields = _Fields(_object(line, where), where)
        key = fields.text("dataFileS3Key")
        if key in seen:
            raise ExportError(f"{where}: data file {key} is listed twice; the manifest is damaged, export again")
        seen.add(key)
        files.append(
            DataFile(key, fields.count("itemCount"), fields.text("md5Checksum"), fields.optional_text("etag") or "")
        )
    return files


def build_summary(summary: ExportSummary) -> bytes:
    """The bytes of a `manifest-summary.json`, as AWS writes them: one line, no newline, milliseconds.

    Raises:
        ExportError: the times do not fit the export type.
    """
    full = summary.export_type == "FULL"
    if full != (summary.export_time_us is not None) or full != (summary.from_us is None and summary.to_us is None):
        raise ExportError(f"a {summary.export_type} export cannot be described by the times given")
    times = (
        {"exportTime": summary.export_time_us}
        if full
        else {"exportFromTime": summary.from_us, "exportToTime": summary.to_us}
    )
    fields: dict[str, Any] = {
        "version": summary.version,
        "exportArn": summary.export_arn,
        "startTime": _iso(summary.start_time_us),
        "endTime": None if summary.end_time_us is None else _iso(summary.end_time_us),
        "tableArn": summary.table_arn,
        "tableId": summary.table_id,
        **{name: _iso(at_us) for name, at_us in times.items() if at_us is not None},
        "s3Bucket": summary.bucket,
        "s3Prefix": summary.prefix,
        "s3SseAlgorithm": summary.sse_algorithm,
        "s3SseKmsKeyId": summary.sse_kms_key_id,
        "manifestFilesS3Key": summary.manifest_files_key,
        "billedSizeBytes": summary.billed_size_bytes,
        "itemCount": summary.item_count,
        "outputFormat": summary.output_format,
    }
    if not full:
        fields |= {"outputView": summary.output_view, "exportType": _INCREMENTAL_TYPE}
    if summary.scan_until_us is not None:
        fields[_SCAN_UNTIL] = _iso(summary.scan_until_us)
    return _compact(fields)


def build_files(files: Iterable[DataFile]) -> bytes:
    """The bytes of a `manifest-files.json`, as AWS writes them: JSON lines, each ended by a newline."""
    return b"".join(
        _compact({"itemCount": f.item_count, "md5Checksum": f.md5, "etag": f.etag, "dataFileS3Key": f.key}) + b"\n"
        for f in files
    )


def md5_text(data: bytes) -> str:
    """Base64 of the MD5, 24 characters: the contents of a `.md5` file, and a data file's `md5Checksum`."""
    return base64.b64encode(hashlib.md5(data, usedforsecurity=False).digest()).decode()


def relative_key(key: str) -> str:
    """The part of an export's key from `AWSDynamoDB/` on, safe to join to a folder.

    Copies of an export in another bucket, below another prefix or in a local folder keep this part.

    Raises:
        ExportError: the key has no such part, is absolute, or would leave the folder it is joined to.
    """
    _, marker, rest = f"/{key}".rpartition(f"/{MARKER}")
    if not marker or not rest:
        raise ExportError(f"{key!r} is no key of an export: it has no {MARKER} folder")
    if key.startswith("/") or ".." in key.split("/"):
        raise ExportError(f"{key!r} is absolute or climbs with '..'; a manifest that names it is not to be trusted")
    if "\\" in rest or "\0" in rest or any(part in ("", ".") for part in rest.split("/")):
        raise ExportError(f"{key!r} does not stay inside its folder; a manifest that names it is not to be trusted")
    return MARKER + rest


def locate(manifest: str, key: str) -> str:
    """Where the object `key` of an export lies, given where one of its manifests was found.

    `manifest` is the path or key of a manifest, with forward slashes; `key` is what a manifest says. If the
    manifest lies below an `AWSDynamoDB/` folder, so does the rest. If only the export's own folder was
    copied, without `AWSDynamoDB/<export id>/`, its files are looked for beside the manifest.

    Raises:
        ExportError: as `relative_key`.
    """
    relative = relative_key(key)
    root, marker, _ = f"/{manifest}".rpartition(f"/{MARKER}")
    if marker:
        return f"{root}/{relative}"[1:]
    inner = relative.removeprefix(MARKER)
    if not inner.startswith("data/"):  # AWSDynamoDB/data/ is shared by incremental exports
        inner = inner.partition("/")[2] or inner
    folder = manifest.rpartition("/")[0]
    return f"{folder}/{inner}" if folder or manifest.startswith("/") else inner


def _is_incremental(fields: _Fields) -> bool:
    export_type = fields.optional_text("exportType")
    if export_type not in (None, _FULL_TYPE, _INCREMENTAL_TYPE):
        raise ExportError(f"manifest-summary.json: exportType {export_type!r} is not known; expected {_FULL_TYPE}")
    return export_type == _INCREMENTAL_TYPE


def _output_format(fields: _Fields) -> str:
    output_format = fields.text("outputFormat")
    if output_format not in (DYNAMODB_JSON, ION):
        raise ExportError(
            f"manifest-summary.json: outputFormat is {output_format!r}, which is not read",
            hint=f"export again with ExportFormat {DYNAMODB_JSON} or {ION}",
        )
    return output_format


@dataclass(frozen=True, slots=True)
class _Fields:
    """Typed access to one JSON object; every fault names the file and the field, never a value."""

    values: dict[str, Any]
    where: str

    def _fault(self, name: str, expected: str) -> ExportError:
        found = "nothing" if self.values.get(name) is None else type(self.values[name]).__name__
        return ExportError(f"{self.where}: field {name}: expected {expected}, found {found}; the export is damaged")

    def text(self, name: str) -> str:
        value = self.values.get(name)
        if not isinstance(value, str) or not value:
            raise self._fault(name, "a text")
        return value

    def optional_text(self, name: str) -> str | None:
        return self.text(name) if self.values.get(name) not in (None, "") else None

    def count(self, name: str, default: int | None = None) -> int:
        value = self.values.get(name, default)
        if not isinstance(value, int) or isinstance(value, bool) or value < 0:
            raise self._fault(name, "a count")
        return value

    def instant(self, name: str) -> int:
        value = self.values.get(name)
        parsed = _micros(value) if isinstance(value, str | int | Decimal) and not isinstance(value, bool) else None
        if parsed is None:
            raise self._fault(name, "a time such as 2024-05-14T11:14:20.608Z")
        return parsed

    def optional_instant(self, name: str) -> int | None:
        return None if self.values.get(name) is None else self.instant(name)


def _micros(value: str | int | Decimal) -> int | None:
    """ISO 8601 in UTC or epoch seconds, as microseconds; a finer fraction is cut. None: neither."""
    text = str(value)
    if _EPOCH_SECONDS.fullmatch(text):
        return int(Decimal(text) * 1_000_000)
    match = _ISO.fullmatch(text)
    if match is None:
        return None
    day, clock, fraction = match.groups()
    try:
        whole = datetime.fromisoformat(f"{day}T{clock}+00:00")
    except ValueError:
        return None
    return round((whole - _EPOCH).total_seconds()) * 1_000_000 + int((fraction or "0")[:6].ljust(6, "0"))


def _iso(at_us: int) -> str:
    seconds, micros = divmod(at_us, 1_000_000)
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}.{micros // 1000:03d}Z"


def _object(data: bytes, where: str) -> dict[str, Any]:
    try:
        value = json.loads(data, parse_float=Decimal)
    except (ValueError, RecursionError) as error:
        raise ExportError(f"{where}: no JSON; the file is damaged or incomplete, export again") from error
    if not isinstance(value, dict):
        raise ExportError(f"{where}: expected a JSON object, found {type(value).__name__}; this is no export manifest")
    return value


def _compact(fields: dict[str, Any]) -> bytes:
    return json.dumps(fields, separators=(",", ":"), ensure_ascii=False).encode()
