"""Point-in-time exports as AWS writes them: every manifest file, checksums, gzip data files, some of them empty."""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
import random
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal

from ddb_lake.core.values.change_record import Item
from ddb_lake_tests.simulator.envelopes import SECOND_US, table_arn
from ddb_lake_tests.simulator.model import History, Items, item_text

BASE32 = "abcdefghijklmnopqrstuvwxyz234567"


@dataclass(frozen=True)
class Export:
    """A finished export. `files` maps keys from `AWSDynamoDB/` on to bytes; `manifest` is the key of its summary.

    A full export claims the state at `time_us` (inclusive); `taken_us` gives the instant at which each key was really
    read, which differs where the export is skewed. An incremental export claims the state just before `time_us`, for
    the keys in `listed`, which are those written in [`from_us`, `time_us`) and not only inserted and deleted again.
    """

    kind: Literal["full", "incremental"]
    time_us: int
    from_us: int | None
    manifest: str
    files: Mapping[str, bytes]
    taken_us: Mapping[str, int] = field(default_factory=dict)
    listed: frozenset[str] = frozenset()

    @property
    def instant_us(self) -> int:
        """The last microsecond whose changes the export claims to contain."""
        return self.time_us if self.kind == "full" else self.time_us - 1


def iso(time_us: int) -> str:
    """ISO 8601 with milliseconds, the fraction left out where it is zero; microseconds are cut off."""
    moment = datetime.fromtimestamp(time_us // SECOND_US, UTC).strftime("%Y-%m-%dT%H:%M:%S")
    fraction = time_us % SECOND_US // 1000
    return f"{moment}.{fraction:03d}Z" if fraction else f"{moment}Z"


def _checksum(content: bytes) -> str:
    return base64.b64encode(hashlib.md5(content, usedforsecurity=False).digest()).decode("ascii")


def _compact(document: object) -> str:
    return json.dumps(document, ensure_ascii=False, separators=(",", ":"))


def full_export(history: History, time_us: int, rng: random.Random, taken_us: Mapping[str, int]) -> Export:
    """The table at `time_us`, each key as of `taken_us` of its key text (or `time_us` where it has none)."""
    items: Items = {}
    for text in history.by_key:
        state = history.state_at(text, taken_us.get(text, time_us))
        if state is not None:
            items[text] = state
    lines: list[dict[str, Any]] = [{"Item": item} for item in items.values()]
    manifest, files = _write(history.table, lines, rng, {"exportTime": iso(time_us)}, time_us)
    return Export("full", time_us, None, manifest, files, taken_us=dict(taken_us))


def incremental_export(history: History, from_us: int, to_us: int, rng: random.Random) -> Export:
    """What was written in [`from_us`, `to_us`), both whole seconds; one line per key, with its last write's time."""
    assert from_us % SECOND_US == to_us % SECOND_US == 0, "windows are whole seconds"
    plain_time, old_images = rng.random() < 0.2, rng.random() < 0.7
    lines: list[dict[str, Any]] = []
    listed = set()
    for text, positions in history.by_key.items():
        window = [history.changes[at] for at in positions if from_us <= history.changes[at].time_us < to_us]
        if not window or (window[0].old is None and window[-1].new is None):
            continue
        listed.add(text)
        micros = str(window[-1].time_us)
        lines.append(
            _line(
                window[-1].key,
                window[0].old if old_images else None,
                window[-1].new,
                micros if plain_time else {"N": micros},
            )
        )
    times = {
        "exportFromTime": iso(from_us),
        "exportToTime": iso(to_us),
        "outputView": "NEW_AND_OLD_IMAGES" if old_images else "NEW_IMAGES",
        "exportType": "INCREMENTAL_EXPORT",
    }
    manifest, files = _write(history.table, lines, rng, times, to_us)
    return Export("incremental", to_us, from_us, manifest, files, listed=frozenset(listed))


def _line(key: Item, old: Item | None, new: Item | None, written: object) -> dict[str, Any]:
    line: dict[str, Any] = {"Metadata": {"WriteTimestampMicros": written}, "Keys": key}
    if old is not None and item_text(old) is not None:
        line["OldImage"] = old
    if new is not None:
        line["NewImage"] = new
    return line


def _data_files(lines: list[dict[str, Any]], folder: str, rng: random.Random) -> dict[str, tuple[bytes, int]]:
    """Key to (gzip bytes, lines): the lines in random order over one to four files, so that some may be empty."""
    lines = rng.sample(lines, len(lines))
    parts: list[list[dict[str, Any]]] = [[] for _ in range(rng.randint(1, 4))]
    for line in lines:
        rng.choice(parts).append(line)
    files = {}
    for part in parts:
        text = "".join(_compact(line) + "\n" for line in part)
        name = "".join(rng.choices(BASE32, k=26))
        files[f"{folder}/data/{name}.json.gz"] = (gzip.compress(text.encode(), 1, mtime=0), len(part))
    return files


def _manifest_files(data: Mapping[str, tuple[bytes, int]], prefix: str, rng: random.Random) -> bytes:
    """`manifest-files.json`: a line for each data file, its key with `prefix` before it."""
    lines = (
        {
            "itemCount": count,
            "md5Checksum": _checksum(content),
            "etag": f"{rng.getrandbits(128):032x}-1",
            "dataFileS3Key": prefix + key,
        }
        for key, (content, count) in data.items()
    )
    return "".join(_compact(line) + "\n" for line in lines).encode()


def _summary(
    arn: str, export_id: str, start_us: int, times: Mapping[str, object], prefix: str | None, count: int
) -> bytes:
    """`manifest-summary.json`: one line without an end of line; `times` says what the export is of."""
    folder = "" if prefix is None else f"{prefix}/"
    summary = {
        "version": "2023-08-01" if "exportType" in times else "2020-06-30",
        "exportArn": f"{arn}/export/{export_id}",
        "startTime": iso(start_us),
        "endTime": iso(start_us + 306_261_000),
        "tableArn": arn,
        "tableId": "11991185-e7ab-4da5-8bab-03f0db0b7bfd",
        **times,
        "s3Bucket": "source-account-exports",
        "s3Prefix": prefix,
        "s3SseAlgorithm": "AES256",
        "s3SseKmsKeyId": None,
        "manifestFilesS3Key": f"{folder}AWSDynamoDB/{export_id}/manifest-files.json",
        "billedSizeBytes": 19 * count,
        "itemCount": count,
        "outputFormat": "DYNAMODB_JSON",
    }
    return _compact(summary).encode()


def _write(
    table: str, lines: list[dict[str, Any]], rng: random.Random, times: Mapping[str, object], end_us: int
) -> tuple[str, dict[str, bytes]]:
    """The summary's key and all files. The export is started up to an hour after the time it is of."""
    start_us = end_us + rng.randint(0, 3_600_000) * 1000
    export_id = f"0{start_us // 1000}-{rng.getrandbits(32):08x}"
    root = f"AWSDynamoDB/{export_id}"
    prefix = rng.choice((None, "dynamodb-export", "lake/landing exports/v1"))
    in_manifest = "" if prefix is None or rng.random() < 0.2 else f"{prefix}/"  # examples in the docs leave it out
    ending = "checksum" if rng.random() < 0.2 else "md5"
    data = _data_files(lines, "AWSDynamoDB" if "exportType" in times else root, rng)
    manifest_files = _manifest_files(data, in_manifest, rng)
    summary = _summary(table_arn(table), export_id, start_us, times, prefix, len(lines))
    files = {key: content for key, (content, _) in data.items()}
    files |= {
        f"{root}/_started": b"",
        f"{root}/manifest-files.json": manifest_files,
        f"{root}/manifest-files.{ending}": _checksum(manifest_files).encode(),
        f"{root}/manifest-summary.json": summary,
        f"{root}/manifest-summary.{ending}": _checksum(summary).encode(),
    }
    return f"{root}/manifest-summary.json", files
