"""Landed objects into staged rows: what every way in has in common, before anything is committed."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from hashlib import blake2b
from pathlib import Path

from ddb_lake.aws.objects import ObjectRef, ObjectStore
from ddb_lake.core.objects import DamagedObjectError, decompress, read_object
from ddb_lake.core.paths import arrival_hour
from ddb_lake.core.records import ChangeRecord, Rejected
from ddb_lake.engine.changes import (
    MAX_US,
    MIN_US,
    STAGED_CHANGES,
    STAGED_QUARANTINE,
    Stage,
    change_row,
    quarantine_row,
)
from ddb_lake.errors import UndecodableError

GROUP_BYTES = 64 * 1024 * 1024
GROUP_OBJECTS = 2_000
"""Objects are committed in groups of at most this size, so that a long run keeps what it has done."""

READ_AHEAD = 16
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class IngestedObject:
    """One object of a group: what it was, the hour it landed in, and how many of its records went where."""

    ref: ObjectRef
    hour_us: int
    records: int


@dataclass(slots=True)
class StagedTable:
    """Rows for one lake table, on disk."""

    changes: Stage
    quarantine: Stage
    records: Counter[int] = field(default_factory=Counter)

    @classmethod
    def create(cls, stem: Path) -> StagedTable:
        """Open the two stages at `stem`."""
        return cls(
            Stage(stem.with_suffix(".changes.parquet"), STAGED_CHANGES),
            Stage(stem.with_suffix(".quarantine.parquet"), STAGED_QUARANTINE),
        )

    @classmethod
    def empty(cls, folder: Path) -> StagedTable:
        """Two stages without rows."""
        staged = cls.create(folder / "empty")
        staged.changes.close()
        staged.quarantine.close()
        return staged


@dataclass(slots=True)
class StagedGroup:
    """All rows of a group of objects, by lake table; and how many belong to tables that are not configured."""

    objects: list[IngestedObject]
    tables: dict[str, StagedTable]
    other_tables: Counter[str]


def groups(refs: Iterable[ObjectRef]) -> Iterator[list[ObjectRef]]:
    """Objects in groups small enough to be committed at once."""
    group: list[ObjectRef] = []
    size = 0
    for ref in refs:
        if group and (size + ref.size_bytes > GROUP_BYTES or len(group) >= GROUP_OBJECTS):
            yield group
            group, size = [], 0
        group.append(ref)
        size += ref.size_bytes
    if group:
        yield group


def fetch(store: ObjectStore, refs: Sequence[ObjectRef]) -> Iterator[tuple[ObjectRef, bytes]]:
    """The bytes of each object, in order, read ahead of their use."""
    with ThreadPoolExecutor(READ_AHEAD, thread_name_prefix="fetch") as pool:
        waiting = []
        for ref in refs:
            waiting.append((ref, pool.submit(store.read, ref.uri)))
            if len(waiting) >= READ_AHEAD:
                first, future = waiting.pop(0)
                yield first, future.result()
        for first, future in waiting:
            yield first, future.result()


class GroupReader:
    """Reads a group of objects into staged rows.

    `table`: the lake table for records that name none. `routes`: source table name to lake table.
    `keys`: a lake table's key attributes, empty if not known yet (then the first record's own, sorted).
    """

    def __init__(
        self,
        folder: Path,
        table: str,
        routes: dict[str, str],
        keys: Callable[[str], tuple[str, ...]],
        asserted_us: int | None = None,
    ) -> None:
        self._folder = folder
        self._table = table
        self._routes = routes
        self._find_key = keys
        self._asserted_us = asserted_us
        self.keys: dict[str, tuple[str, ...]] = {}
        self._group = StagedGroup([], {}, Counter())

    def read(self, objects: Iterable[tuple[ObjectRef, bytes]]) -> StagedGroup:
        """Stage every record of the objects."""
        for number, (ref, data) in enumerate(objects):
            self._read_one(number, ref, data)
        for staged in self._group.tables.values():
            staged.changes.close()
            staged.quarantine.close()
        return self._group

    def _read_one(self, number: int, ref: ObjectRef, data: bytes) -> None:
        landed = arrival_hour(ref.uri)
        first_us: int | None = None
        count = 0
        key_names = self._key(self._table) or None
        for ordinal, located in enumerate(read_object(data, key_names=key_names, asserted_us=self._asserted_us)):
            outcome, count = located.outcome, count + 1
            if isinstance(outcome, Rejected):
                self._reject(self._table, outcome.reason, outcome.raw, ref, located.offset, ordinal, number)
            else:
                self._accept(outcome, ref, data, located.offset, ordinal, number)
                at_us = outcome.arrived_us or outcome.changed_us
                first_us = at_us if first_us is None else min(first_us, at_us)
        hour = landed or _EPOCH + timedelta(microseconds=_clamp(first_us or ref.modified_us))
        hour_us = int((hour.replace(minute=0, second=0, microsecond=0) - _EPOCH) / timedelta(microseconds=1))
        self._group.objects.append(IngestedObject(ref, hour_us, count))

    def _accept(
        self, record: ChangeRecord, ref: ObjectRef, data: bytes, offset: int, ordinal: int, number: int
    ) -> None:
        table = self._routes.get(record.table) if record.table is not None else self._table
        if table is None:
            self._group.other_tables[record.table or ""] += 1
            return
        try:
            if not MIN_US <= record.changed_us <= MAX_US:
                raise UndecodableError("ApproximateCreationDateTime is outside the years 1 to 9999")
            if record.arrived_us is not None and not MIN_US <= record.arrived_us <= MAX_US:
                record = replace(record, arrived_us=None)
            key_names = self._key(table)
            if not key_names:
                key_names = self.keys[table] = tuple(sorted(record.keys))
            row = change_row(record, key_names, ref.uri, offset, number)
        except UndecodableError as error:
            self._reject(table, str(error), bytes_at(data, offset), ref, offset, ordinal, number)
            return
        staged = self._staged(table)
        staged.changes.add(row, len(row[5]) + len(row[6] or "") + len(row[7] or ""))
        staged.records[number] += 1

    def _reject(
        self, table: str, reason: str, raw: bytes, ref: ObjectRef, offset: int, ordinal: int, number: int
    ) -> None:
        staged = self._staged(table)
        staged.quarantine.add(quarantine_row(reason, raw, ref.uri, offset, ordinal, number), len(raw))
        staged.records[number] += 1

    def _key(self, table: str) -> tuple[str, ...]:
        if not self.keys.get(table):
            self.keys[table] = self._find_key(table)
        return self.keys[table]

    def _staged(self, table: str) -> StagedTable:
        staged = self._group.tables.get(table)
        if staged is None:
            staged = self._group.tables[table] = StagedTable.create(self._folder / f"{len(self._group.tables)}")
        return staged


def bytes_at(data: bytes, offset: int) -> bytes:
    """The bytes of the JSON object that begins at `offset` of the decompressed data."""
    try:
        content = decompress(data)
    except DamagedObjectError as error:
        content = error.salvaged
    text = content[offset:].decode("utf-8", "surrogateescape")
    _, end = json.JSONDecoder().raw_decode(text)
    return text[:end].encode("utf-8", "surrogateescape")


def bytes_hash(data: bytes) -> str:
    """A version for bytes that have no other."""
    return blake2b(data, digest_size=16).hexdigest()


def _clamp(time_us: int) -> int:
    return min(max(time_us, MIN_US), MAX_US)
