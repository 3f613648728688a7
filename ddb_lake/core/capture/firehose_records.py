"""Change records as records of Firehose: their bytes, what fits into one request, and where what is too large goes."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from hashlib import blake2b
from typing import Any, Final

from ddb_lake.core.values.times import UNIT_US, time_us_or_none

MAX_RECORD_BYTES: Final = 1000 * 1024
MAX_BATCH_RECORDS: Final = 500
MAX_BATCH_BYTES: Final = 3 * 1024 * 1024
"""PutRecordBatch takes 4 MiB in a request; with this, it does so even if that is counted in base64."""

_EPOCH: Final = datetime(1970, 1, 1)


def line_of(record: Any) -> bytes:
    """A decoded record as one line of JSON: compact, its text as it is. Never raises for what JSON decoded."""
    text = json.dumps(record, ensure_ascii=False, separators=(",", ":"))
    try:
        return text.encode() + b"\n"
    except UnicodeEncodeError:  # half of a surrogate pair, which UTF-8 cannot say
        return json.dumps(record, separators=(",", ":")).encode() + b"\n"


def batches(sizes: Sequence[int]) -> Iterator[list[int]]:
    """The numbers of records of these sizes (bytes) in batches for one request each, in order.

    A record of more than MAX_RECORD_BYTES, which no request takes, is a batch of its own.
    """
    batch: list[int] = []
    held = 0
    for number, size in enumerate(sizes):
        too_large = size > MAX_RECORD_BYTES
        if batch and (too_large or held + size > MAX_BATCH_BYTES or len(batch) == MAX_BATCH_RECORDS):
            yield batch
            batch, held = [], 0
        if too_large:
            yield [number]
            continue
        batch.append(number)
        held += size
    if batch:
        yield batch


def oversize_key(record: Any, line: bytes) -> str:
    """The key of a record's own object, `yyyy/MM/dd/HH/<sequence number>-<hash>.json`: the same for the same record.

    The hour is of the change (UTC), the epoch's if the record says none.
    """
    body = record.get("dynamodb") if isinstance(record, dict) else None
    body = body if isinstance(body, dict) else {}
    changed_us = time_us_or_none(body.get("ApproximateCreationDateTime"), UNIT_US["SECOND"])
    hour = (_EPOCH + timedelta(microseconds=changed_us or 0)).isoformat()[:13].replace("-", "/").replace("T", "/")
    sequence = body.get("SequenceNumber")
    known = isinstance(sequence, str) and sequence.isascii() and sequence.isdigit() and len(sequence) <= 128
    return f"{hour}/{sequence if known else 'unknown'}-{blake2b(line, digest_size=8).hexdigest()}.json"
