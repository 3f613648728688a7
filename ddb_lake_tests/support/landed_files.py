"""Tiny landed objects: a full export and Kinesis change records, as AWS writes them."""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

EXPORT_ID = "01715685260608-c488b4e1"
EXPORT_US = 1_715_685_260_608_000
"""2024-05-14T11:14:20.608Z"""

Image = dict[str, Any]


def order(customer: str, order_id: int, **attributes: Any) -> Image:
    """An item of the table `orders` in DynamoDB JSON."""
    return {"customer": {"S": customer}, "order_id": {"N": str(order_id)}, **attributes}


def write_export(folder: Path, table: str, items: Iterable[Image], files: int = 1) -> Path:
    """Write a full export below `folder`, its items in sequence in some data files; gives its manifest-summary.json."""
    base = folder / "AWSDynamoDB" / EXPORT_ID
    (base / "data").mkdir(parents=True)
    lines = [json.dumps({"Item": item}, separators=(",", ":")) + "\n" for item in items]
    entries, size = [], 0
    for number in range(files):
        of_file = lines[number * len(lines) // files : (number + 1) * len(lines) // files]
        data = gzip.compress("".join(of_file).encode())
        key = f"AWSDynamoDB/{EXPORT_ID}/data/uimbi7eofu2b5kzkxe63gsvb{number:02d}.json.gz"
        (folder / key).write_bytes(data)
        md5 = base64.b64encode(hashlib.md5(data, usedforsecurity=False).digest()).decode()
        entries.append({"itemCount": len(of_file), "md5Checksum": md5, "etag": "d1663e41-1", "dataFileS3Key": key})
        size += len(data)
    (base / "manifest-files.json").write_text("".join(json.dumps(entry) + "\n" for entry in entries))
    arn = f"arn:aws:dynamodb:eu-west-1:111122223333:table/{table}"
    summary = {
        "version": "2020-06-30",
        "exportArn": f"{arn}/export/{EXPORT_ID}",
        "startTime": "2024-05-14T11:14:20.608Z",
        "endTime": "2024-05-14T11:19:26.869Z",
        "tableArn": arn,
        "tableId": "11991185-e7ab-4da5-8bab-03f0db0b7bfd",
        "exportTime": "2024-05-14T11:14:20.608Z",
        "s3Bucket": "exports",
        "s3Prefix": None,
        "s3SseAlgorithm": "AES256",
        "s3SseKmsKeyId": None,
        "manifestFilesS3Key": f"AWSDynamoDB/{EXPORT_ID}/manifest-files.json",
        "billedSizeBytes": size,
        "itemCount": len(lines),
        "outputFormat": "DYNAMODB_JSON",
    }
    manifest = base / "manifest-summary.json"
    manifest.write_text(json.dumps(summary))
    return manifest


def change(number: int, time_us: int, new: Image | None, old: Image | None = None, table: str = "orders") -> Image:
    """A change record of Kinesis Data Streams for DynamoDB; `number` makes its eventID."""
    image = new or old or {}
    name = "REMOVE" if new is None else "MODIFY" if old else "INSERT"
    body: Image = {
        "ApproximateCreationDateTime": time_us,
        "Keys": {attribute: image[attribute] for attribute in ("customer", "order_id")},
        "SizeBytes": 100,
        "ApproximateCreationDateTimePrecision": "MICROSECOND",
    }
    body |= {"NewImage": new} if new else {}
    body |= {"OldImage": old} if old else {}
    return {
        "awsRegion": "eu-west-1",
        "eventID": f"00000000-0000-4000-8000-{number:012d}",
        "eventName": name,
        "userIdentity": None,
        "recordFormat": "application/json",
        "tableName": table,
        "dynamodb": body,
        "eventSource": "aws:dynamodb",
    }


def write_changes(path: Path, *records: Image | str) -> Path:
    """Write an object as Firehose delivers it: records without anything between them. Texts are written as they are."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(r if isinstance(r, str) else json.dumps(r, separators=(",", ":")) for r in records))
    return path
