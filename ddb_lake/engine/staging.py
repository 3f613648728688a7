"""Stage change records and quarantined bytes: Arrow rows in Parquet files on local disk, before a commit.

Promises: a writer holds at most BATCH_ROWS rows or BATCH_BYTES in memory. Rows of the fast path are validated by batch before
they are written: a row whose keys or images do not match the canonical patterns is left out, and the caller parses its record
strictly.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from pathlib import Path
from typing import Any, NamedTuple

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
"""The changelog's columns as they are staged. `_key`: text of the primary key. `_object`: number of the object in its group."""

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

DICTIONARY_COLUMNS = ["kind", "event_name", "stream", "shard", "object", "reason"]
"""The columns with few values in a file."""

_OTHER_KEY = (
    "Keys: the record's key is {}, that of the table {}: correct `key` in the configuration, then replay the quarantine"
)
BATCH_ROWS = 10_000
BATCH_BYTES = 32 * 1024 * 1024
_CHUNK_ROWS = 1000
"""Rows are converted to Arrow in chunks that stay in the processor's caches; a batch is validated at once."""

MIN_US = -62_135_596_800_000_000
MAX_US = 253_402_300_799_999_999
"""The first and last microsecond of the years 1 to 9999, the range that every engine can store."""


class RowOrigin(NamedTuple):
    """Where a row comes from: the object, the offset in it (bytes, decompressed), the ordinal of the outcome in the object, and
    the number of the object in its group."""

    uri: str
    offset: int
    ordinal: int
    number: int


# --- rows


def change_row(record: ChangeRecord, key_names: Sequence[str], origin: RowOrigin) -> tuple[Any, ...]:
    """A row of `STAGED_CHANGES`. Raises UndecodableError if the record has another key than the table."""
    key = key_text(record.keys, key_names)
    if len(record.keys) != len(key_names):
        raise UndecodableError(_OTHER_KEY.format(", ".join(sorted(record.keys)), ", ".join(key_names)))
    texts = (_text(record.keys), _text(record.new_image), _text(record.old_image))
    return _row(record, record_id(record), texts, key, origin)


def unvalidated_row(record: ChangeRecord, key_names: Sequence[str], origin: RowOrigin) -> tuple[Any, ...] | None:
    """`change_row` for a record of the fast path. Returns None if it must be parsed strictly first, also after any exception."""
    try:
        texts = record.texts
        identity = None if texts is None else record_id_of_texts(record, texts)
        if texts is None or identity is None or len(record.keys) != len(key_names):
            return None
        return _row(record, identity, texts, key_text(record.keys, key_names), origin)
    except MemoryError:
        raise
    except Exception:
        return None


def quarantine_row(
    reason: str, raw: bytes, origin: RowOrigin, record_id: str | None = None, asserted_us: int | None = None
) -> tuple[Any, ...]:
    """A row of `STAGED_QUARANTINE`.

    Its id is the digest of the origin and the bytes, so that reading the same object again gives the same id.

    Args:
        record_id: the id of a record that violates the table's JSON Schema. It is the row's id then: a record that was
            delivered twice is in the quarantine once.
        asserted_us: the end (exclusive) of the incremental export that the bytes belong to.
    """
    uri, offset, ordinal, number = origin
    digest = record_id or blake2b(f"{uri}\0{offset}\0{ordinal}\0".encode() + raw, digest_size=16).hexdigest()
    return digest, reason, raw, uri, offset, asserted_us, number


def _text(image: Item | None) -> bytes | None:
    return None if image is None else orjson.dumps(image, option=orjson.OPT_SORT_KEYS)


def _row(
    record: ChangeRecord, identity: bytes, texts: Sequence[bytes | None], key: str, origin: RowOrigin
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
        origin.uri,
        origin.offset,
        key,
        key_hash(key),
        origin.number,
    )


# --- validation of the fast path


def matches_canonical_patterns(rows: pa.Table) -> pa.Array:
    """For each row of `STAGED_CHANGES`, whether its keys and images are certainly valid and canonical (`core.decode.fast_path`)."""
    matches = pc.match_substring_regex(_joined(rows.column("keys")), CANONICAL_KEY_PATTERN)
    for name in ("new_image", "old_image"):
        image_matches = pc.match_substring_regex(_joined(rows.column(name)), CANONICAL_ITEM_PATTERN)
        matches = pc.and_(matches, pc.fill_null(image_matches, True))
    return matches


def _joined(column: pa.ChunkedArray) -> pa.Array:
    """The column in one piece: a pattern is compiled for each chunk."""
    return pa.concat_arrays(column.chunks)


def _without_invalid(batch: pa.Table, sources: Sequence[Any], on_invalid: Callable[[Any], None]) -> pa.Table:
    """The batch without the unvalidated rows that do not match; `on_invalid` is called with the source of each."""
    if not any(sources):
        return batch
    matches = matches_canonical_patterns(batch)
    if pc.all(matches).as_py():
        return batch
    valid = [source is None or match for source, match in zip(sources, matches.to_pylist(), strict=True)]
    for source, is_valid in zip(sources, valid, strict=True):
        if not is_valid:
            on_invalid(source)
    return batch.filter(pa.array(valid))


class BatchValidator:
    """Validates records of the fast path that are not staged, in batches. `on_invalid`: as in `StagingWriter`."""

    def __init__(self, on_invalid: Callable[[Any], None]) -> None:
        self._on_invalid = on_invalid
        self._texts: list[Texts] = []
        self._sources: list[Any] = []
        self._size_bytes = 0

    def add(self, texts: Texts, source: Any) -> None:
        """Add a record."""
        self._texts.append(texts)
        self._sources.append(source)
        self._size_bytes += sum(len(text or b"") for text in texts)
        if len(self._texts) >= BATCH_ROWS or self._size_bytes >= BATCH_BYTES:
            self.flush()

    def flush(self) -> None:
        """Validate the records in memory."""
        texts, sources = self._texts, self._sources
        self._texts, self._sources, self._size_bytes = [], [], 0
        if texts:
            columns = [pa.array(column, type=pa.string()) for column in zip(*texts, strict=True)]
            batch = pa.table(columns, names=list(Texts._fields))
            _without_invalid(batch, sources, self._on_invalid)


# --- files


@dataclass(frozen=True, slots=True)
class StagedRows:
    """Rows in Parquet files. `path`: a file, or a pattern of several."""

    path: Path
    rows: int


@dataclass(slots=True)
class _Batch:
    """Rows in memory, and the source of each unvalidated one (None for the others). `chunks`: the rows before `rows`."""

    chunks: list[pa.RecordBatch] = field(default_factory=list)
    rows: list[tuple[Any, ...]] = field(default_factory=list)
    sources: list[Any] = field(default_factory=list)
    size_bytes: int = 0

    def end_chunk(self, schema: pa.Schema) -> None:
        """Convert `rows` to Arrow."""
        columns = zip(zip(*self.rows, strict=True), schema, strict=True)
        self.chunks.append(pa.record_batch([pa.array(c, type=f.type) for c, f in columns], schema=schema))
        self.rows = []


class StagingWriter:
    """Writes rows of one schema to a staging file; at most one batch is in memory.

    `on_invalid`: called with the source of each unvalidated row that does not match the canonical patterns and is therefore
    left out. It may add other rows to this writer.
    """

    def __init__(self, path: Path, schema: pa.Schema, on_invalid: Callable[[Any], None] | None = None) -> None:
        self.path = path
        self.rows = 0
        self._on_invalid = on_invalid
        self._schema = schema
        self._batch = _Batch()
        self._writer = pq.ParquetWriter(path, schema, compression="lz4", use_dictionary=DICTIONARY_COLUMNS)

    def add(self, row: tuple[Any, ...], size_bytes: int = 0, source: Any = None) -> None:
        """Add a row. `size_bytes`: about its size in memory. `source`: of an unvalidated row; None: the row is valid."""
        batch = self._batch
        batch.rows.append(row)
        batch.sources.append(source)
        batch.size_bytes += size_bytes
        if len(batch.sources) >= BATCH_ROWS or batch.size_bytes >= BATCH_BYTES:
            self.flush()
        elif len(batch.rows) >= _CHUNK_ROWS:
            batch.end_chunk(self._schema)

    def write(self, rows: pa.Table) -> None:
        """Write valid rows at once, before those in memory."""
        self._writer.write_table(rows, BATCH_ROWS)
        self.rows += rows.num_rows

    def flush(self) -> None:
        """Validate and write the rows in memory."""
        while self._batch.sources:  # `on_invalid` may add rows
            batch, self._batch = self._batch, _Batch()
            if batch.rows:
                batch.end_chunk(self._schema)
            rows = pa.Table.from_batches(batch.chunks)
            if self._on_invalid is not None:
                rows = _without_invalid(rows, batch.sources, self._on_invalid)
            self.write(rows)

    def close(self) -> Path:
        """Write the rest; returns the file."""
        self.flush()
        self._writer.close()
        return self.path
