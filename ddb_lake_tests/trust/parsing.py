"""Every parser of bytes that others write, each with the errors that it may raise."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import orjson

from ddb_lake.core.capture import checkpoints
from ddb_lake.core.decode.objects import read_object
from ddb_lake.core.layout.export_manifest import locate, parse_files, parse_summary
from ddb_lake.core.layout.firehose_paths import arrival_hour, parse_firehose_key
from ddb_lake.core.layout.s3_notifications import parse_message
from ddb_lake.core.values.change_record import Rejected
from ddb_lake.errors import DdbLakeError
from ddb_lake.lambdas import transform

LIMIT_BYTES = 1 << 20


def landed(data: bytes) -> int:
    """A landed object: nothing raises, and what is rejected says why; gives how many outcomes there are."""
    outcomes = list(read_object(data, key_names=("id",), limit_bytes=LIMIT_BYTES))
    assert all(found.outcome.reason for found in outcomes if isinstance(found.outcome, Rejected))
    assert sum(len(f.outcome.raw) for f in outcomes if isinstance(f.outcome, Rejected)) <= 3 * LIMIT_BYTES
    return len(outcomes)


def exported(data: bytes) -> int:
    """An object of an incremental export."""
    return len(list(read_object(data, key_names=("id",), asserted_us=1, limit_bytes=LIMIT_BYTES)))


def manifest(data: bytes) -> int:
    """A manifest of an export; the places that it names stay below its folder."""
    parse_summary(data)
    return 1


def files(data: bytes) -> int:
    """A list of data files; each stays below the folder of the export, or is refused."""
    found = parse_files(data)
    for file in found:
        place = locate("root/AWSDynamoDB/01/manifest-files.json", file.key)
        assert place.startswith("root/AWSDynamoDB/") and ".." not in place.split("/")
    return len(found)


def message(data: bytes) -> int:
    """A message of a queue: nothing raises."""
    return len(parse_message(data.decode("utf-8", "replace")).uris)


def place(data: bytes) -> int:
    """A key of S3: nothing raises."""
    text = data[:2000].decode("utf-8", "replace")
    parse_firehose_key(text)
    arrival_hour(text)
    return 1


def checkpoint(data: bytes) -> int:
    """A reader's checkpoint."""
    checkpoints.load(data, "here")
    return 1


def event(data: bytes) -> int:
    """A record that Firehose hands to the transform: it answers, whatever the record is."""
    import base64

    record = {"recordId": "1", "data": base64.b64encode(data[: 1 << 16]).decode()}
    answer: Any = transform.handler({"invocationId": "i", "records": [record]}, None)
    assert [one["recordId"] for one in answer["records"]] == ["1"]
    orjson.dumps(answer)
    return 1


PARSERS: tuple[Callable[[bytes], int], ...] = (landed, exported, manifest, files, message, place, checkpoint, event)


def feed(data: bytes) -> int:
    """Give the bytes to every parser; gives how many took them. What any raises but our own errors goes through."""
    taken = 0
    for parser in PARSERS:
        try:
            parser(data)
        except DdbLakeError as error:
            assert str(error)
        else:
            taken += 1
    return taken
