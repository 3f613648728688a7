"""Exports and change objects by hand: a few items, written as AWS writes them, to be damaged at will."""

from __future__ import annotations

import base64
import gzip
import hashlib
import itertools
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ddb_lake.core.values.change_record import Item

T0_US = 1_772_357_400_000_000
"""2026-03-01T09:30:00Z."""

MINUTE_US = 60_000_000
HOUR_US = 60 * MINUTE_US
ARN = "arn:aws:dynamodb:eu-west-1:123456789012:table/"


def item(key: str, **attributes: Any) -> Item:
    """An item with the key `id`; attributes are DynamoDB JSON values, or numbers and texts for N and S."""
    return {"id": {"S": key}, **{name: _value(value) for name, value in attributes.items()}}


def _value(value: Any) -> Any:
    if isinstance(value, dict):
        return value
    return {"S": value} if isinstance(value, str) else {"N": str(value)}


def md5(data: bytes) -> str:
    """Base64 of the MD5, as manifests have it."""
    return base64.b64encode(hashlib.md5(data, usedforsecurity=False).digest()).decode()


def iso(time_us: int) -> str:
    """A manifest's spelling of a time."""
    return datetime.fromtimestamp(time_us / 1e6, UTC).strftime("%Y-%m-%dT%H:%M:%S.000Z")


@dataclass
class Export:
    """An export to be written: `files` are the lines of each data file. `window`: start of an incremental one.

    `count` and `digest` may lie about a data file by its number; `pack` makes a data file's bytes of its text.
    """

    files: Sequence[Sequence[Any]]
    at_us: int = T0_US
    table: str = "orders"
    window: int | None = None
    prefix: str | None = None
    counts: dict[int, int] = field(default_factory=dict)
    digests: dict[int, str] = field(default_factory=dict)
    total: int | None = None
    pack: Callable[[bytes], bytes] = lambda text: gzip.compress(text, mtime=0)
    summary: dict[str, Any] = field(default_factory=dict)

    @property
    def export_id(self) -> str:
        """The export's id: a later export has a greater one."""
        return f"0{self.at_us // 1000}-{'0badcafe' if self.window is None else '1badcafe'}"

    @property
    def folder(self) -> str:
        """The export's own folder, below the one it is written to."""
        return f"AWSDynamoDB/{self.export_id}"

    def data_key(self, number: int) -> str:
        """The key of a data file, without the prefix."""
        return f"AWSDynamoDB/data/{self._name(number)}" if self.window else f"{self.folder}/data/{self._name(number)}"

    def _name(self, number: int) -> str:
        return f"{self.at_us % 9973:04d}file{number}aaaaaaaaaaaaaaaaa.json.gz"

    def write(self, folder: Path) -> Path:
        """Write all files below `folder`; gives the path of the manifest summary."""
        (folder / self.folder).mkdir(parents=True)
        entries = []
        for number, lines in enumerate(self.files):
            data = self.pack("".join(_line(line) + "\n" for line in lines).encode())
            path = folder / self.data_key(number)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
            entries.append(
                {
                    "itemCount": self.counts.get(number, len(lines)),
                    "md5Checksum": self.digests.get(number, md5(data)),
                    "etag": "0123-1",
                    "dataFileS3Key": self._prefixed(self.data_key(number)),
                }
            )
        text = "".join(json.dumps(entry) + "\n" for entry in entries).encode()
        (folder / self.folder / "manifest-files.json").write_bytes(text)
        (folder / self.folder / "manifest-files.md5").write_text(md5(text))
        summary = json.dumps(self._summary(sum(entry["itemCount"] for entry in entries))).encode()  # type: ignore[misc]
        manifest = folder / self.folder / "manifest-summary.json"
        manifest.write_bytes(summary)
        (folder / self.folder / "manifest-summary.md5").write_text(md5(summary))
        return manifest

    def _prefixed(self, key: str) -> str:
        return f"{self.prefix}/{key}" if self.prefix else key

    def _summary(self, count: int) -> dict[str, Any]:
        times: dict[str, Any] = {"exportTime": iso(self.at_us)}
        if self.window is not None:
            times = {
                "exportFromTime": iso(self.window),
                "exportToTime": iso(self.at_us),
                "outputView": "NEW_AND_OLD_IMAGES",
                "exportType": "INCREMENTAL_EXPORT",
            }
        return {
            "version": "2020-06-30" if self.window is None else "2023-08-01",
            "exportArn": f"{ARN}{self.table}/export/{self.export_id}",
            "startTime": iso(self.at_us),
            "endTime": iso(self.at_us + MINUTE_US),
            "tableArn": ARN + self.table,
            "tableId": "11991185-e7ab-4da5-8bab-03f0db0b7bfd",
            **times,
            "s3Bucket": "exports",
            "s3Prefix": self.prefix,
            "s3SseAlgorithm": "AES256",
            "s3SseKmsKeyId": None,
            "manifestFilesS3Key": self._prefixed(f"{self.folder}/manifest-files.json"),
            "billedSizeBytes": 100,
            "itemCount": count if self.total is None else self.total,
            "outputFormat": "DYNAMODB_JSON",
            **self.summary,
        }


def full(*files: Sequence[Item], **settings: Any) -> Export:
    """A full export with the items of each data file."""
    return Export([[{"Item": one} for one in items] for items in files], **settings)


def increment(*writes: tuple[int, Item | None, Item], at_us: int, window: int, **settings: Any) -> Export:
    """An incremental export of [window, at_us) in one data file. Each write: its time, the new image, the key."""
    lines = [
        {"Metadata": {"WriteTimestampMicros": {"N": str(us)}}, "Keys": key} | ({"NewImage": new} if new else {})
        for us, new, key in writes
    ]
    return Export([lines], at_us=at_us, window=window, **settings)


def _line(line: Any) -> str:
    return line if isinstance(line, str) else json.dumps(line, separators=(",", ":"), ensure_ascii=False)


_EVENTS = itertools.count(1)


def change(time_us: int, new: Item | None, old: Item | None = None, table: str = "orders", ttl: bool = False) -> Item:
    """A record of Kinesis Data Streams for DynamoDB, of an item with the key `id`."""
    image = new or old or {}
    body: dict[str, Any] = {
        "ApproximateCreationDateTime": time_us,
        "ApproximateCreationDateTimePrecision": "MICROSECOND",
        "Keys": {"id": image["id"]},
        "SizeBytes": 100,
    }
    body |= {"NewImage": new} if new else {}
    body |= {"OldImage": old} if old else {}
    return {
        "awsRegion": "eu-west-1",
        "eventID": f"00000000-0000-4000-8000-{next(_EVENTS):012d}",
        "eventName": "REMOVE" if new is None else "MODIFY" if old else "INSERT",
        "userIdentity": {"type": "Service", "principalId": "dynamodb.amazonaws.com"} if ttl else None,
        "recordFormat": "application/json",
        "tableName": table,
        "dynamodb": body,
        "eventSource": "aws:dynamodb",
    }


def text_of(*pieces: Any) -> bytes:
    """Records without a delimiter, as Firehose writes them; texts and bytes as they are."""
    parts = (p if isinstance(p, bytes) else _line(p).encode() for p in pieces)
    return b"".join(parts)


def land(path: Path, *pieces: Any, pack: Callable[[bytes], bytes] = bytes) -> str:
    """Write an object of records; gives its path as a URI."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(pack(text_of(*pieces)))
    return str(path)


def sorted_items(items: Iterable[Item]) -> list[str]:
    """Items in a form that compares, whatever their order."""
    return sorted(json.dumps(one, sort_keys=True) for one in items)
