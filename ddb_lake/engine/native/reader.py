"""Read runs of records by the record kernel into one Arrow batch after another."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from ddb_lake.core.decode.splitter import RecordRun
from ddb_lake.core.values.times import LATEST_AFTER_ARRIVAL_US
from ddb_lake.engine.native.library import FULL, NO_MEMORY, TEXT_COLUMNS, Batch
from ddb_lake.engine.staging import BATCH_ROWS, STAGED_CHANGES

_MIB = 1024 * 1024
_TEXT_BYTES = {"new_image": 12 * _MIB, "old_image": 12 * _MIB, "keys": 3 * _MIB, "_key": 3 * _MIB}
_OTHER_TEXT_BYTES = _MIB
"""The room of a batch: about `BATCH_BYTES` together. Pages that are not used take no memory."""

_RECORD_ID_CHARS = 32
_BYTES_OF_ROW = {"event": 1, "changed_us": 8, "arrived_us": 8, "offset": 8, "key_hash": 8, "object_place": 4}


class NativeReader:
    """One batch of rows of one lake table, which the kernel fills. It is used by one thread at a time.

    `read_run` is a `splitter.ReadRun`. The caller takes the rows when `is_full`, and after the last object.

    Args:
        library: of `library.load`.
        source_table: the name of the source table; records of other tables are left to Python.
        key: the table's key attributes.
    """

    def __init__(self, library: Any, source_table: str, key: Sequence[str]) -> None:
        self._read_records = library.ddb_lake_read_records
        self._batch = batch = Batch()
        batch.row_capacity = BATCH_ROWS
        batch.table = _utf8(source_table)
        batch.table_length = len(batch.table)
        for place, name in enumerate(key):
            batch.key[place] = _utf8(name)
            batch.key_length[place] = len(batch.key[place])
        if len(key) == 1:
            batch.key_length[1] = -1
        batch.after_arrival_us = LATEST_AFTER_ARRIVAL_US
        self._columns = {name: self._column(name, size * BATCH_ROWS) for name, size in _BYTES_OF_ROW.items()}
        self._columns["record_id"] = self._column("record_id", _RECORD_ID_CHARS * BATCH_ROWS)
        self._bits = {name: self._column(name, BATCH_ROWS // 8 + 1) for name in ("ttl", "arrived_valid")}
        self._texts = [self._text(place, name) for place, name in enumerate(TEXT_COLUMNS)]
        self._objects: list[tuple[str, int]] = []
        self._data = b""

    def _column(self, name: str, size_bytes: int) -> Any:
        buffer = pa.allocate_buffer(size_bytes)
        setattr(self._batch, name, buffer.address)
        return buffer

    def _text(self, place: int, name: str) -> tuple[Any, Any, Any]:
        column = self._batch.text[place]
        column.capacity = _TEXT_BYTES.get(name, _OTHER_TEXT_BYTES)
        buffers = tuple(map(pa.allocate_buffer, (BATCH_ROWS // 8 + 1, 4 * (BATCH_ROWS + 1), column.capacity)))
        column.valid, column.offsets, column.bytes = (buffer.address for buffer in buffers)
        ctypes.memset(column.offsets, 0, 4)  # the first offset
        return buffers

    @property
    def rows(self) -> int:
        """The number of rows in the batch."""
        return self._batch.rows  # type: ignore[no-any-return]

    @property
    def is_full(self) -> bool:
        """Whether there is no room for another record; then the rows must be taken before reading continues."""
        batch = self._batch
        return bool(batch.rows > 0 and (batch.reason == FULL or batch.rows == batch.row_capacity))

    def begin_object(self, uri: str, number: int, latest_us: int) -> None:
        """The next object. `number`: in its group. `latest_us`: the last possible time of a record without an arrival stamp."""
        self._objects.append((uri, number))
        self._batch.place = len(self._objects) - 1
        self._batch.latest_us = latest_us

    def read_run(self, data: bytes, start: int) -> RecordRun | None:
        """Read the records from `start` on, until one that is left to Python or has no room; None if the first is left to Python.

        Raises:
            MemoryError: as in Python.
        """
        batch = self._batch
        if data is not self._data:
            self._data = data  # the batch holds its address
            batch.data, batch.size = data, len(data)
        batch.start = start
        added = self._read_records(batch)
        if batch.reason == NO_MEMORY:
            raise MemoryError
        return RecordRun(start, batch.resume, added, batch.earliest_us) if added or self.is_full else None

    def take(self) -> pa.Table:
        """The rows. The table's memory is used again by the next `read_run`, so the caller writes it before that."""
        rows = self._batch.rows
        columns = self._arrays(rows)
        table = pa.table([columns[name] for name in STAGED_CHANGES.names], schema=STAGED_CHANGES)
        self._batch.rows = 0
        self._objects = self._objects[-1:]
        self._batch.place = 0
        return table

    def _arrays(self, rows: int) -> dict[str, Any]:
        def numbers(name: str, kind: Any, valid: Any = None) -> Any:
            return pa.Array.from_buffers(kind, rows, [valid, self._columns[name]])

        uris, object_numbers = zip(*self._objects, strict=True)
        places = numbers("object_place", pa.int32())
        timestamp = STAGED_CHANGES.field("changed_at").type
        found = {
            "record_id": pa.Array.from_buffers(pa.string(), rows, [None, _ID_OFFSETS, self._columns["record_id"]]),
            "kind": pa.repeat("kds", rows),
            "event_name": _EVENTS.take(numbers("event", pa.int8())),
            "changed_at": numbers("changed_us", timestamp),
            "ttl": pa.Array.from_buffers(pa.bool_(), rows, [None, self._bits["ttl"]]),
            "arrived_at": numbers("arrived_us", timestamp, self._bits["arrived_valid"]),
            "object": pa.array(uris, pa.string()).take(places),
            "offset": numbers("offset", pa.int64()),
            "_key_hash": numbers("key_hash", pa.int64()),
            "_object": pa.array(object_numbers, pa.int64()).take(places),
        }
        for name, buffers in zip(TEXT_COLUMNS, self._texts, strict=True):
            found[name] = pa.Array.from_buffers(pa.string(), rows, buffers)
        for field in STAGED_CHANGES:
            if field.name not in found:  # what these records do not have
                found[field.name] = pa.nulls(rows, field.type)
        return found


_EVENTS = pa.array(["INSERT", "MODIFY", "REMOVE"])
_ID_OFFSETS = pa.array(range(0, _RECORD_ID_CHARS * (BATCH_ROWS + 1), _RECORD_ID_CHARS), pa.int32()).buffers()[1]


def _utf8(name: str) -> bytes:
    return name.encode(errors="surrogatepass")  # a name with a surrogate is in no record
