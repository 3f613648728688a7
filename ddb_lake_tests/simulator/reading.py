"""Reads landed bytes back, for the reference implementation and the simulator's own tests.

It is written for what the simulator writes and checks it on the way (checksums, counts, envelopes); it is no model for
a reader that must survive the world.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import io
import json
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from ddb_lake.core.values.change_record import ChangeRecord, Item
from ddb_lake_tests.simulator.envelopes import SECOND_US, Document, map_binaries
from ddb_lake_tests.simulator.exports import Export
from ddb_lake_tests.simulator.reference import ReadExport
from ddb_lake_tests.simulator.values import looks_encoded

DECODER = json.JSONDecoder()


@dataclass(frozen=True)
class ReadLanding:
    """Everything found in landed objects: all records of all tables, repetitions included, and pieces of garbage."""

    records: tuple[ChangeRecord, ...]
    garbage: int

    def of_table(self, table: str) -> list[ChangeRecord]:
        """The records of `table`, repetitions included."""
        return [record for record in self.records if record.table == table]


def read_landing(objects: Mapping[str, bytes]) -> ReadLanding:
    """Reads every object, whatever its compression and separation."""
    records, garbage = [], 0
    for content in objects.values():
        for value in _values(_plain(content)):
            try:
                records.append(_record(value))
            except (KeyError, TypeError, ValueError):
                garbage += 1
    return ReadLanding(tuple(records), garbage)


def _plain(content: bytes) -> bytes:
    if content.startswith(b"\x1f\x8b"):
        return gzip.decompress(content)
    if content.startswith(b"PK\x03\x04"):
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            return b"".join(archive.read(name) for name in archive.namelist())
    return content


def _values(text: bytes) -> Iterator[Any]:
    """All JSON values of an object; where one cannot be read, line by line, with None for each bad line."""
    try:
        yield from _concatenated(text.decode())
        return
    except ValueError:
        lines = [line for line in text.split(b"\n") if line.strip()]
    for line in lines:
        try:
            yield from _concatenated(line.decode())
        except ValueError:
            yield None


def _concatenated(text: str) -> list[Any]:
    values, at = [], 0
    text = text.strip(" \t\r\n")
    while at < len(text):
        value, at = DECODER.raw_decode(text, at)
        values.append(value)
        while at < len(text) and text[at] in " \t\r\n":
            at += 1
    return values


def _record(document: Document) -> ChangeRecord:
    if "rawData" in document:
        return _record(json.loads(base64.b64decode(document["rawData"], validate=True)))
    body = document["dynamodb"]
    service = {str(name).lower(): value for name, value in (document.get("userIdentity") or {}).items()}
    ttl = service.get("type") == "Service" and service.get("principalid") == "dynamodb.amazonaws.com"
    if "tableName" in document:
        unit = {"MICROSECOND": 1, "MILLISECOND": 1000}[body.get("ApproximateCreationDateTimePrecision", "MILLISECOND")]
        keys, new, old = (_kds_image(body.get(name)) for name in ("Keys", "NewImage", "OldImage"))
        stamp = document.get("kinesisRecordMetadata") or {}
        if keys is None:
            raise ValueError("no Keys")
        return ChangeRecord(
            kind="kds",
            event_name=document["eventName"],
            changed_us=body["ApproximateCreationDateTime"] * unit,
            keys=keys,
            new_image=new,
            old_image=old,
            table=document["tableName"],
            event_id=document["eventID"],
            kinesis_sequence=stamp.get("sequenceNumber"),
            ttl=ttl,
        )
    return ChangeRecord(
        kind="streams",
        event_name=document["eventName"],
        changed_us=body["ApproximateCreationDateTime"] * SECOND_US,
        keys=body["Keys"],
        new_image=body.get("NewImage"),
        old_image=body.get("OldImage"),
        table=document["eventSourceARN"].split("/")[1],
        event_id=document["eventID"],
        sequence_number=body["SequenceNumber"],
        stream=document["eventSourceARN"],
        ttl=ttl,
    )


def _once(text: str) -> str:
    return base64.b64decode(text, validate=True).decode("ascii")


def _kds_image(image: Item | None) -> Item | None:
    if image is None:
        return None
    return {
        name: map_binaries(value, lambda text: _once(text) if looks_encoded(text) else text, _once)
        for name, value in image.items()
    }


def _micros(text: str) -> int:
    moment = datetime.fromisoformat(text)
    return int(moment.timestamp()) * SECOND_US + moment.microsecond


def _checked(content: bytes, checksum: str) -> bytes:
    if base64.b64encode(hashlib.md5(content, usedforsecurity=False).digest()).decode() != checksum:
        raise ValueError("checksum does not match")
    return content


def _beside(files: Mapping[str, bytes], key: str) -> bytes:
    stem = key.removesuffix(".json")
    checksum = next(files[stem + ending] for ending in (".md5", ".checksum") if stem + ending in files)
    return _checked(files[key], checksum.decode())


def read_export(export: Export) -> ReadExport:
    """Reads an export from its files alone, starting at its summary. Raises ValueError where they contradict."""
    files = export.files
    summary = json.loads(_beside(files, export.manifest))
    lines: list[Document] = []
    for entry in map(json.loads, _beside(files, _local(summary["manifestFilesS3Key"])).splitlines()):
        content = _checked(files[_local(entry["dataFileS3Key"])], entry["md5Checksum"])
        found = [json.loads(line) for line in gzip.decompress(content).decode().split("\n") if line]
        if len(found) != entry["itemCount"]:
            raise ValueError("a data file's itemCount does not match")
        lines += found
    if len(lines) != summary["itemCount"]:
        raise ValueError("the summary's itemCount does not match")
    if "exportType" not in summary:
        return ReadExport(_micros(summary["exportTime"]), True, items=tuple(line["Item"] for line in lines))
    keyed = tuple((line["Keys"], line.get("NewImage")) for line in lines)
    written = (line["Metadata"]["WriteTimestampMicros"] for line in lines)
    written_us = tuple(int(us["N"] if isinstance(us, dict) else us) for us in written)
    return ReadExport(_micros(summary["exportToTime"]) - 1, False, lines=keyed, written_us=written_us)


def _local(key: str) -> str:
    return key[key.index("AWSDynamoDB/") :]
