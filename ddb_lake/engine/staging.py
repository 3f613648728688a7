"""Change records and quarantined bytes as Arrow rows, staged on disk so that memory stays bounded."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from pathlib import Path
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from ddb_lake.core.decode.fast_path import CANONICAL_ITEM_PATTERN, CANONICAL_KEY_PATTERN
from ddb_lake.core.values.change_record import ChangeRecord, Item, Texts
from ddb_lake.core.values.identity import record_id, record_id_of_texts
from ddb_lake.core.values.primary_key import key_hash, key_text
from ddb_lake.errors import UndecodableError

_TIMESTAMP = pa.timestamp("us")

STAGED_CHANGES = pa.schema(
    [
        ("record_id", pa.string()),
        ("kind", pa.string()),
        ("event_id", pa.string()),
        ("event_name", pa.string()),
        ("changed_at", _TIMESTAMP),
        ("keys", pa.string()),
        ("new_image", pa.string()),
        ("old_image", pa.string()),
        ("ttl", pa.bool_()),
        ("sequence_number", pa.string()),
        ("stream", pa.string()),
        ("kinesis_sequence", pa.string()),
        ("shard", pa.string()),
        ("arrived_at", _TIMESTAMP),
        ("asserted_at", _TIMESTAMP),
        ("object", pa.string()),
        ("offset", pa.int64()),
        ("_key", pa.string()),
        ("_key_hash", pa.int64()),
        ("_object", pa.int64()),
    ]
)
"""The changelog's columns as staged; `_object` is the object's number in the group."""

STAGED_QUARANTINE = pa.schema(
    [
        ("quarantine_id", pa.string()),
        ("reason", pa.string()),
        ("raw", pa.binary()),
        ("object", pa.string()),
        ("offset", pa.int64()),
        ("asserted_at", _TIMESTAMP),
        ("_object", pa.int64()),
    ]
)

_REPEATED = ["kind", "event_name", "stream", "shard", "object", "reason"]
_OTHER_KEY = (
    "Keys: the record's key is {}, that of the table {}: mend `key` in the configuration, then replay the quarantine"
)
BATCH_ROWS = 10_000
BATCH_BYTES = 32 * 1024 * 1024

MIN_US = -62_135_596_800_000_000
MAX_US = 253_402_300_799_999_999
"""Times from year 1 to 9999, the range that every engine holds."""


def _text(image: Item | None) -> bytes | None:
    return None if image is None else orjson.dumps(image, option=orjson.OPT_SORT_KEYS)


def change_row(record: ChangeRecord, key_names: Sequence[str], uri: str, offset: int, number: int) -> tuple[Any, ...]:
    """One row of `STAGED_CHANGES`. Raises UndecodableError if the record has another key than the table."""
    key = key_text(record.keys, key_names)
    if len(record.keys) != len(key_names):
        raise UndecodableError(_OTHER_KEY.format(", ".join(sorted(record.keys)), ", ".join(key_names)))
    texts = (_text(record.keys), _text(record.new_image), _text(record.old_image))
    return _row(record, record_id(record), texts, key, uri, offset, number)


def unchecked_row(
    record: ChangeRecord, key_names: Sequence[str], uri: str, offset: int, number: int
) -> tuple[Any, ...] | None:
    """`change_row` for an unchecked record; None if it has to be read with all checks, also after any exception."""
    try:
        texts = record.texts
        identity = None if texts is None else record_id_of_texts(record, texts)
        if texts is None or identity is None or len(record.keys) != len(key_names):
            return None
        return _row(record, identity, texts, key_text(record.keys, key_names), uri, offset, number)
    except MemoryError:
        raise
    except Exception:
        return None


def _row(
    record: ChangeRecord,
    identity: bytes,
    texts: Sequence[bytes | None],
    key: str,
    uri: str,
    offset: int,
    number: int,
) -> tuple[Any, ...]:
    """`texts`: keys, new and old image as compact JSON (UTF-8), with sorted names."""
    return (
        identity.hex(),
        record.kind,
        record.event_id,
        record.event_name,
        record.changed_us,
        *texts,
        record.ttl,
        record.sequence_number,
        record.stream,
        record.kinesis_sequence,
        record.shard,
        record.arrived_us,
        record.asserted_us,
        uri,
        offset,
        key,
        key_hash(key),
        number,
    )


def usual(rows: pa.RecordBatch) -> pa.Array:
    """For each row of `STAGED_CHANGES`, whether keys and images are certainly items in their usual form (`core.decode.fast_path`)."""
    found = pc.match_substring_regex(rows.column("keys"), CANONICAL_KEY_PATTERN)
    for name in ("new_image", "old_image"):
        found = pc.and_(found, pc.fill_null(pc.match_substring_regex(rows.column(name), CANONICAL_ITEM_PATTERN), True))
    return found


def quarantine_row(
    reason: str,
    raw: bytes,
    uri: str,
    offset: int,
    ordinal: int,
    number: int,
    record_id: str | None = None,
    asserted_us: int | None = None,
) -> tuple[Any, ...]:
    """One row of `STAGED_QUARANTINE`. The id names the place and the bytes: the same place read again is the same.

    What is a record, though one that offends against the table's schema, has its record id: delivered twice, it is
    there once.
    """
    digest = record_id or blake2b(f"{uri}\0{offset}\0{ordinal}\0".encode() + raw, digest_size=16).hexdigest()
    return digest, reason, raw, uri, offset, asserted_us, number


@dataclass(slots=True)
class _Buffer:
    """Rows, and the origin of each unchecked row (None for the others)."""

    rows: list[tuple[Any, ...]] = field(default_factory=list)
    origins: list[Any] = field(default_factory=list)
    size: int = 0


@dataclass(frozen=True, slots=True)
class StagedRows:
    """Rows that another process staged; `path` may be a pattern."""

    path: Path
    rows: int


class Stage:
    """Collects rows of one schema in a Parquet file; never more than a batch of them in memory.

    `doubt`: called with the origin of each unchecked row that is not `usual` and is left out. It may add other rows.
    """

    def __init__(self, path: Path, schema: pa.Schema, doubt: Callable[[Any], None] | None = None) -> None:
        self.path = path
        self._doubt = doubt
        self.rows = 0
        self._schema = schema
        self._buffer = _Buffer()
        self._writer = pq.ParquetWriter(path, schema, compression="lz4", use_dictionary=_REPEATED)

    def add(self, row: tuple[Any, ...], size_bytes: int = 0, origin: Any = None) -> None:
        """Add one row; `size_bytes` is about its size in memory. `origin`: of an unchecked row."""
        buffer = self._buffer
        buffer.rows.append(row)
        buffer.origins.append(origin)
        buffer.size += size_bytes
        if len(buffer.rows) >= BATCH_ROWS or buffer.size >= BATCH_BYTES:
            self.flush()

    def flush(self) -> None:
        """Write what is in memory."""
        while self._buffer.rows:  # a doubt may add another row
            rows, origins = self._buffer.rows, self._buffer.origins
            self._buffer = _Buffer()
            columns = [
                pa.array(column, type=field.type)
                for column, field in zip(zip(*rows, strict=True), self._schema, strict=True)
            ]
            batch = pa.record_batch(columns, schema=self._schema)
            if self._doubt is not None:
                batch = _without_doubtful(batch, origins, self._doubt)
            self._writer.write_batch(batch)
            self.rows += batch.num_rows

    def close(self) -> Path:
        """Write the rest; gives the file."""
        self.flush()
        self._writer.close()
        return self.path


def _without_doubtful(batch: pa.RecordBatch, origins: Sequence[Any], doubt: Callable[[Any], None]) -> pa.RecordBatch:
    if not any(origins):
        return batch
    found = usual(batch)
    if pc.all(found).as_py():
        return batch
    kept = [origin is None or seen for origin, seen in zip(origins, found.to_pylist(), strict=True)]
    for origin, keep in zip(origins, kept, strict=True):
        if not keep:
            doubt(origin)
    return batch.filter(pa.array(kept))


class Checks:
    """Unchecked records that are not staged, checked in batches. `doubt`: as in `Stage`."""

    def __init__(self, doubt: Callable[[Any], None]) -> None:
        self._doubt = doubt
        self._texts: list[Texts] = []
        self._origins: list[Any] = []
        self._size_bytes = 0

    def add(self, texts: Texts, origin: Any) -> None:
        """Add one record, which comes from `origin`."""
        self._texts.append(texts)
        self._origins.append(origin)
        self._size_bytes += sum(len(text or b"") for text in texts)
        if len(self._texts) >= BATCH_ROWS or self._size_bytes >= BATCH_BYTES:
            self.flush()

    def flush(self) -> None:
        """Check the records in memory."""
        texts, origins = self._texts, self._origins
        self._texts, self._origins, self._size_bytes = [], [], 0
        if texts:
            columns = [pa.array(column, type=pa.string()) for column in zip(*texts, strict=True)]
            batch = pa.record_batch(columns, names=list(Texts._fields))
            _without_doubtful(batch, origins, self._doubt)
