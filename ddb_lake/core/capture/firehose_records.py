"""Change records as records of Firehose: their bytes, the limits of requests, and keys for dynamic partitioning. Pure.

Limits: https://docs.aws.amazon.com/firehose/latest/APIReference/API_PutRecordBatch.html
Dynamic partitioning: https://docs.aws.amazon.com/firehose/latest/dev/dynamic-partitioning.html
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from hashlib import blake2b
from typing import Any, Final

from ddb_lake.core.values.change_record import ChangeRecord
from ddb_lake.core.values.times import UNIT_US, time_us_or_none
from ddb_lake.errors import ConfigError

MAX_RECORD_BYTES: Final = 1000 * 1024
MAX_BATCH_RECORDS: Final = 500
MAX_BATCH_BYTES: Final = 3 * 1024 * 1024
"""PutRecordBatch takes 4 MiB in a request. This is 4 MiB in base64, so that the limit holds however it is counted."""

_EPOCH: Final = datetime(1970, 1, 1)


def line_of(record: Any) -> bytes:
    """A decoded record as one line of compact JSON, not limited to ASCII. Never raises for a decoded JSON value."""
    text = json.dumps(record, ensure_ascii=False, separators=(",", ":"))
    try:
        return text.encode() + b"\n"
    except UnicodeEncodeError:  # a lone surrogate, which UTF-8 cannot encode
        return json.dumps(record, separators=(",", ":")).encode() + b"\n"


def batches(sizes: Sequence[int]) -> Iterator[list[int]]:
    """The indices of records of these sizes (bytes), in batches for one request each, in order.

    A record of more than MAX_RECORD_BYTES, which no request takes, is a batch alone.
    """
    batch: list[int] = []
    batch_bytes = 0
    for number, size in enumerate(sizes):
        too_large = size > MAX_RECORD_BYTES
        if batch and (too_large or batch_bytes + size > MAX_BATCH_BYTES or len(batch) == MAX_BATCH_RECORDS):
            yield batch
            batch, batch_bytes = [], 0
        if too_large:
            yield [number]
            continue
        batch.append(number)
        batch_bytes += size
    if batch:
        yield batch


def oversize_key(record: Any, line: bytes) -> str:
    """The key of a record's own object, `yyyy/MM/dd/HH/<sequence number>-<hash>.json`: the same for the same record.

    The hour is that of the change (UTC), or that of the epoch if the record has no time.
    """
    body = record.get("dynamodb") if isinstance(record, dict) else None
    body = body if isinstance(body, dict) else {}
    changed_us = time_us_or_none(body.get("ApproximateCreationDateTime"), UNIT_US["SECOND"])
    hour = (_EPOCH + timedelta(microseconds=changed_us or 0)).isoformat()[:13].replace("-", "/").replace("T", "/")
    sequence = body.get("SequenceNumber")
    valid = isinstance(sequence, str) and sequence.isascii() and sequence.isdigit() and len(sequence) <= 128
    return f"{hour}/{sequence if valid else 'unknown'}-{blake2b(line, digest_size=8).hexdigest()}.json"


# --- dynamic partitioning

UNKNOWN: Final = "_unknown"
"""The value of a partition key that the record does not have; Firehose does not deliver a record without a value."""

PARTITION_KEYS: Final[Mapping[str, Callable[[ChangeRecord], str]]] = {
    "table": lambda record: record.table or UNKNOWN,
    "event": lambda record: record.event_name,
    "date": lambda record: (_EPOCH + timedelta(microseconds=record.changed_us)).date().isoformat(),
    "hour": lambda record: f"{record.changed_us // 3_600_000_000 % 24:02d}",
}
"""The partition keys by name. `date` (yyyy-MM-dd) and `hour` (00 to 23) are those of the change, in UTC."""


def parse_names(text: str) -> tuple[str, ...]:
    """The names in a comma-separated list. Raises ConfigError for one that is none of PARTITION_KEYS."""
    names = tuple(name.strip() for name in text.split(",") if name.strip())
    for name in names:
        if name not in PARTITION_KEYS:
            raise ConfigError(f"partition key {name!r}: expected one of {', '.join(PARTITION_KEYS)}")
    return names


def partition_keys(record: ChangeRecord, names: Sequence[str]) -> dict[str, str]:
    """The values of the keys `names`, never empty."""
    return {name: PARTITION_KEYS[name](record) for name in names}
