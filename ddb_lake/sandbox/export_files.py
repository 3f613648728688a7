"""The files of one export, with the bytes that DynamoDB writes to S3.

https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/S3DataExport.Output.html
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
import random
import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ddb_lake.core.layout.export_manifest import (
    ION,
    MARKER,
    DataFile,
    ExportSummary,
    build_files,
    build_summary,
    md5_text,
)
from ddb_lake.sandbox.history import NetChange
from ddb_lake.sandbox.items import Item, size_bytes


@dataclass(frozen=True, slots=True)
class ExportLine:
    """One line of a data file, and its billed bytes. `spread` selects the file."""

    text: str
    billed_bytes: int
    spread: int


def full_line(item: Item, output_format: str) -> ExportLine:
    """An item's line in a full export; `output_format` is DYNAMODB_JSON or ION."""
    text = _text({"Item": item}, output_format)
    return ExportLine(text, size_bytes(item), _spread(text))


def incremental_line(net: NetChange, view: str, output_format: str) -> ExportLine:
    """A key's line in an incremental export; `view` is NEW_IMAGE or NEW_AND_OLD_IMAGES, `output_format` as in a full export."""
    keys = {name: {kind: text} for name, kind, text in net.key}
    line: dict[str, Any] = {"Metadata": {"WriteTimestampMicros": {"N": str(net.written_us)}}, "Keys": keys}
    if net.old is not None and view == "NEW_AND_OLD_IMAGES":
        line["OldImage"] = net.old
    if net.new is not None:
        line["NewImage"] = net.new
    return ExportLine(
        _text(line, output_format), size_bytes(keys) + size_bytes(net.old) + size_bytes(net.new), _spread(str(net.key))
    )


def write_export(
    s3: Any,
    summary: ExportSummary,
    lines: Sequence[ExportLine],
    *,
    files: int,
    ended_us: Callable[[], int],
) -> ExportSummary:
    """Write the data files, then the manifests and their digests. Returns the summary.

    Lines have no order, and a file may be empty.
    """
    folder = summary.manifest_files_key.rpartition("/")[0]
    data_folder = f"{folder}/data" if summary.export_type == "FULL" else f"{_root(folder)}{MARKER}data"
    dealt: list[list[ExportLine]] = [[] for _ in range(files)]
    for line in random.sample(lines, len(lines)):
        dealt[line.spread % files].append(line)
    suffix = "ion.gz" if summary.output_format == ION else "json.gz"
    data_files = [_put_data_file(s3, summary.bucket, f"{data_folder}/{_name()}.{suffix}", part) for part in dealt]
    files_manifest = build_files(data_files)
    written = replace(
        summary,
        item_count=sum(file.item_count for file in data_files),
        billed_size_bytes=sum(line.billed_bytes for line in lines),
        end_time_us=ended_us() // 1000 * 1000,
    )
    for name, data in (("manifest-files", files_manifest), ("manifest-summary", build_summary(written))):
        s3.put_object(Bucket=summary.bucket, Key=f"{folder}/{name}.md5", Body=md5_text(data).encode())
        s3.put_object(Bucket=summary.bucket, Key=f"{folder}/{name}.json", Body=data)
    return written


def _put_data_file(s3: Any, bucket: str, key: str, lines: list[ExportLine]) -> DataFile:
    """A multipart upload of one part, as by DynamoDB: the ETag is not the MD5."""
    data = gzip.compress("".join(f"{line.text}\n" for line in lines).encode(), mtime=0)
    upload = {"Bucket": bucket, "Key": key, "UploadId": s3.create_multipart_upload(Bucket=bucket, Key=key)["UploadId"]}
    part = {"ETag": s3.upload_part(PartNumber=1, Body=data, **upload)["ETag"], "PartNumber": 1}
    etag = s3.complete_multipart_upload(MultipartUpload={"Parts": [part]}, **upload)["ETag"].strip('"')
    return DataFile(key, len(lines), md5_text(data), etag)


def _root(folder: str) -> str:
    return folder[: folder.rindex(MARKER)]


def _name() -> str:
    return base64.b32encode(secrets.token_bytes(16)).decode().rstrip("=").lower()


def _spread(text: str) -> int:
    return int.from_bytes(hashlib.md5(text.encode(), usedforsecurity=False).digest()[:4])


def _text(line: dict[str, Any], output_format: str) -> str:
    if output_format == ION:
        from ddb_lake.sandbox.ion import ion_line  # loads a package that few need

        return ion_line(line)
    return json.dumps(line, separators=(",", ":"), ensure_ascii=False)
