"""Landed objects into staged rows: what every way in has in common, before anything is committed."""

from __future__ import annotations

import logging
import traceback
from array import array
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from ddb_lake.aws.objects import ObjectRef, ObjectStore
from ddb_lake.core.decode.compression import DamagedObjectError, decompress
from ddb_lake.core.decode.envelopes import Outcome, limited, read_envelope
from ddb_lake.core.decode.objects import read_object
from ddb_lake.core.decode.routing import SharedNames
from ddb_lake.core.layout.firehose_paths import arrival_hour
from ddb_lake.core.operations.system import without_cycle_detection
from ddb_lake.core.values.change_record import ChangeRecord, Rejected
from ddb_lake.core.values.json_schema import Validator
from ddb_lake.core.values.json_text import loads
from ddb_lake.core.values.times import LATEST_AFTER_ARRIVAL_US, check_not_after
from ddb_lake.engine.staging import (
    MAX_US,
    MIN_US,
    STAGED_CHANGES,
    STAGED_QUARANTINE,
    Checks,
    Stage,
    StagedRows,
    change_row,
    quarantine_row,
    unchecked_row,
)
from ddb_lake.errors import UndecodableError

GROUP_BYTES = 64 * 1024 * 1024
GROUP_OBJECTS = 10_000
"""Objects are committed in groups of at most this size, so that a long run keeps what it has done."""

READ_AHEAD = 16
NO_SHARED_NAMES = SharedNames()
MAX_UNREADABLE = 5
"""The most entries that are listed of the content that was no record."""

_CHANGES = ".changes.parquet"
_QUARANTINE = ".quarantine.parquet"
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_HOUR = timedelta(hours=1)
_NEVER_US = MAX_US + 1
_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class IngestedObject:
    """One object of a group: what it was, the hour it landed in, and how many of its records went where."""

    ref: ObjectRef
    hour_us: int
    records: int


@dataclass(slots=True)
class _Tally:
    """An object while it is read. `hour`: of its path. `times`: of its records by ordinal, where the path has none."""

    ref: ObjectRef
    hour: datetime | None
    records: int = 0
    latest_us: int = -1
    times: array[int] = field(default_factory=lambda: array("q"))

    def arrived_us(self, record: ChangeRecord) -> int | None:
        """The latest possible arrival of a record (UTC microseconds): that of its envelope, else the later of the end of the
        hour in its object's key and the time at which the object was modified; None if neither is known.

        A key has the hour of the object's oldest record. After an outage Firehose delivers days of records in one object,
        and people copy objects into folders of any date; but no record arrived after its object was written.
        """
        if record.arrived_us is not None:
            return record.arrived_us
        hour_us = (self.hour + _HOUR - _EPOCH) // timedelta(microseconds=1) if self.hour is not None else 0
        return max(hour_us, self.ref.modified_us) or None

    def is_possible(self, record: ChangeRecord) -> bool:
        """Whether a record is not more than a day later than its arrival."""
        if record.arrived_us is not None:
            return record.changed_us <= record.arrived_us + LATEST_AFTER_ARRIVAL_US
        if self.latest_us < 0:
            arrived_us = self.arrived_us(record)
            self.latest_us = MAX_US if arrived_us is None else arrived_us + LATEST_AFTER_ARRIVAL_US
        return record.changed_us <= self.latest_us

    def came(self, place: _Place, record: ChangeRecord) -> None:
        """Note when a record came."""
        if self.hour is None:
            self.times.extend([_NEVER_US] * (place.ordinal + 1 - len(self.times)))
            self.times[place.ordinal] = _clamp(record.arrived_us or record.changed_us)

    def forget(self, place: _Place) -> None:
        """What came there may be none."""
        if self.hour is None:
            self.times[place.ordinal] = _NEVER_US

    def object(self) -> IngestedObject:
        """What was read. Its hour: the path's, else that of its first record, else that in which it was modified."""
        first_us = min(self.times, default=_NEVER_US)
        unknown = first_us in (0, _NEVER_US)
        since = timedelta(microseconds=_clamp(self.ref.modified_us) if unknown else first_us)
        hour = (self.hour or _EPOCH + since).replace(minute=0, second=0, microsecond=0)
        return IngestedObject(self.ref, (hour - _EPOCH) // timedelta(microseconds=1), self.records)


class _Place(NamedTuple):
    """Where a record comes from: its object, there the offset and the ordinal, and the object's number in the group."""

    tally: _Tally
    offset: int
    ordinal: int
    number: int


class _Origin(NamedTuple):
    """The origin of an unchecked record: its place, its object's bytes, their number when decompressed; its table.

    `table`: the source table that it names, if that is not configured.
    """

    place: _Place
    data: bytes
    size_bytes: int
    table: str | None = None


@dataclass(frozen=True, slots=True)
class StagedTable:
    """Rows for one lake table, on disk; `records`: how many came of each object, by its number."""

    changes: StagedRows
    quarantine: StagedRows
    records: Counter[int]

    @classmethod
    def at(cls, stem: Path, changes: int, quarantined: int, records: Counter[int]) -> StagedTable:
        """So many rows at `stem`, which may be a pattern."""
        return cls(
            StagedRows(stem.with_suffix(_CHANGES), changes),
            StagedRows(stem.with_suffix(_QUARANTINE), quarantined),
            records,
        )

    @classmethod
    def empty(cls, folder: Path) -> StagedTable:
        """No rows."""
        return _Staging(folder / "empty").close()

    @classmethod
    def rejected(cls, folder: Path, rows: StagedRows) -> StagedTable:
        """Rows of the quarantine alone."""
        return replace(cls.empty(folder), quarantine=rows)


class _Staging:
    """Rows for one lake table while they come in. `doubt`: as in `Stage`."""

    def __init__(self, stem: Path, doubt: Callable[[_Origin], None] | None = None) -> None:
        self._stem = stem
        self.changes = Stage(stem.with_suffix(_CHANGES), STAGED_CHANGES, doubt)
        self.quarantine = Stage(stem.with_suffix(_QUARANTINE), STAGED_QUARANTINE)
        self.records: Counter[int] = Counter()

    def close(self) -> StagedTable:
        """Write what is left."""
        self.changes.close()
        self.quarantine.close()
        return StagedTable.at(self._stem, self.changes.rows, self.quarantine.rows, self.records)


@dataclass(slots=True)
class Unreadable:
    """Bytes that were no record: their count, and the first place (object's number, offset) with the reason.

    Records that were read and break the table's JSON Schema do not count.
    """

    count: int = 0
    first: list[tuple[int, int, str]] = field(default_factory=list)

    def add(self, place: _Place, reason: str) -> None:
        """Count one."""
        self.count += 1
        if len(self.first) < MAX_UNREADABLE:
            self.first.append((place.number, place.offset, reason))


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
    """The bytes of each object, in order; those in S3 are fetched ahead of their use.

    Files are not: they are there at once, and a thread that asks for the interpreter at every call to the system waits for
    it longer, beside one that parses, than the file takes.
    """
    if not any(ref.uri.startswith("s3://") for ref in refs):
        yield from ((ref, store.fetch(ref)) for ref in refs)
        return
    with ThreadPoolExecutor(READ_AHEAD, thread_name_prefix="fetch") as pool:
        waiting = []
        for ref in refs:
            waiting.append((ref, pool.submit(store.fetch, ref)))
            if len(waiting) >= READ_AHEAD:
                first, future = waiting.pop(0)
                yield first, future.result()
        for first, future in waiting:
            yield first, future.result()


class GroupReader:
    """Reads a group of objects into staged rows.

    `table`: the lake table for records that name none. `routes`: source table name to lake table. `shared`: names that
    several sources have.
    `keys`: a lake table's key attributes, empty if not known yet (then the first record's own, sorted).
    `validators`: what a lake table's records must satisfy; offenders are rejected.
    `time_unit`: the unit for times that are impossible in their declared unit (`times.change_time_us`).
    """

    def __init__(
        self,
        folder: Path,
        table: str,
        routes: dict[str, str],
        keys: Callable[[str], tuple[str, ...]],
        asserted_us: int | None = None,
        validators: Callable[[str], Validator | None] = lambda _table: None,
        time_unit: str | None = None,
        shared: SharedNames = NO_SHARED_NAMES,
    ) -> None:
        self._folder = folder
        self._table = table
        self._routes = routes
        self._shared = shared
        self._find_key = keys
        self._asserted_us = asserted_us
        self._find_validator = validators
        self._time_unit = time_unit
        self._validators: dict[str, Validator | None] = {}
        self.keys: dict[str, tuple[str, ...]] = {}
        self.unreadable = Unreadable()
        self._staging: dict[str, _Staging] = {}
        self._fast: set[str] = set()
        self._others = Checks(self._doubt_other)
        self._content = _Content()
        self._group = StagedGroup([], {}, Counter())
        self._tallies: list[_Tally] = []

    def read(self, objects: Iterable[tuple[ObjectRef, bytes]]) -> StagedGroup:
        """Stage every record of the objects."""
        return self.read_numbered(enumerate(objects))

    def read_numbered(self, objects: Iterable[tuple[int, tuple[ObjectRef, bytes]]]) -> StagedGroup:
        """As `read`, of objects that have a number in their group."""
        with without_cycle_detection():
            for number, (ref, data) in objects:
                self._read_one(number, ref, data)
        self._others.flush()
        for staging in [*self._staging.values()]:  # a doubt about one table's record may quarantine it with another's
            staging.changes.flush()
        closed = {table: staging.close() for table, staging in self._staging.items()}
        self._group.tables = {
            table: staged for table, staged in closed.items() if staged.changes.rows or staged.quarantine.rows
        }  # all rows of a table may have been left out
        self._group.other_tables = +self._group.other_tables  # without tables that have no record left
        self._group.objects = [tally.object() for tally in self._tallies]
        return self._group

    def _read_one(self, number: int, ref: ObjectRef, data: bytes) -> None:
        tally = _Tally(ref, _hour(ref.uri))
        self._tallies.append(tally)
        key_names = self._key(self._table) or None
        fast = self._is_fast(self._table)
        outcomes = read_object(
            data, key_names=key_names, asserted_us=self._asserted_us, fast=fast, time_unit=self._time_unit
        )
        for offset, outcome, raw, unchecked in outcomes:
            place = _Place(tally, offset, tally.records, number)
            if unchecked:
                self._take_unchecked(outcome, _Origin(place, data, len(raw)))  # type: ignore[arg-type]
            else:
                self._take(outcome, place, raw)
            tally.records += 1

    def _take(self, outcome: Outcome, place: _Place, raw: bytes) -> None:
        """Stage a checked outcome. `raw`: the bytes of its JSON object."""
        if isinstance(outcome, Rejected):
            self._reject(self._table, outcome, place)
            return
        table = self._routes.get(outcome.table) if outcome.table is not None else self._table
        if table is None and outcome.table in self._shared.by_name:
            table = self._shared.table_of(outcome, place.tally.ref.uri, self._table)
            if table is None:
                self._reject(self._table, Rejected(self._shared.reason(outcome), raw), place)
                return
        if table is None:
            place.tally.came(place, outcome)
            self._group.other_tables[outcome.table or ""] += 1
            return
        key_names, validator = self._key(table), self._validator(table)  # errors of the lake are raised
        place.tally.came(place, outcome)
        found = self._row(table, outcome, key_names, validator, place, raw)
        if isinstance(found, Rejected):
            self._reject(table, found, place)
        else:
            self._stage(table, found, place)

    def _row(
        self,
        table: str,
        record: ChangeRecord,
        key_names: tuple[str, ...],
        validator: Validator | None,
        place: _Place,
        raw: bytes,
    ) -> tuple[Any, ...] | Rejected:
        """The row of a checked record, or the reason why there is none."""
        try:
            if not MIN_US <= record.changed_us <= MAX_US:
                raise UndecodableError("ApproximateCreationDateTime is outside the years 1 to 9999")
            check_not_after(record.changed_us, place.tally.arrived_us(record))
            if record.arrived_us is not None and not MIN_US <= record.arrived_us <= MAX_US:
                record = replace(record, arrived_us=None)
            if not key_names:
                key_names = self.keys[table] = tuple(sorted(record.keys))
            row = change_row(record, key_names, place.tally.ref.uri, place.offset, place.number)
            fault = None if validator is None else validator.fault(record)
        except MemoryError:
            raise
        except Exception as error:
            return Rejected.unexpected(error, raw)
        return row if fault is None else Rejected(fault, raw, record_id=row[0])

    def _is_fast(self, table: str) -> bool:
        """Whether records of a lake table are read on the fast path."""
        if table in self._fast:
            return True
        if not self._key(table) or self._validator(table) is not None:
            return False
        self._fast.add(table)
        return True

    def _take_unchecked(self, record: ChangeRecord, origin: _Origin) -> None:
        """Stage a record; its keys and images are checked with its batch, and it may be read again with all checks."""
        table = self._table if record.table is None else self._routes.get(record.table)
        place = origin.place
        if table is None and record.table in self._shared.by_name:
            table = self._shared.table_of(record, place.tally.ref.uri, self._table)
            if table is None:
                self._take_again(origin)
                return
        if table is None:
            self._group.other_tables[record.table or ""] += 1
            place.tally.came(place, record)
            self._others.add(record.texts, origin._replace(table=record.table or ""))  # type: ignore[arg-type]
            return
        row = None
        if self._is_fast(table) and place.tally.is_possible(record):
            row = unchecked_row(record, self.keys[table], place.tally.ref.uri, place.offset, place.number)
        if row is None:
            self._take_again(origin)
            return
        place.tally.came(place, record)  # before it is staged, which may raise a doubt about it
        self._stage(table, row, place, origin)

    def _doubt(self, table: str, origin: _Origin) -> None:
        """Read a staged record again, which was left out."""
        self._staged(table).records[origin.place.number] -= 1
        origin.place.tally.forget(origin.place)
        self._take_again(origin)

    def _doubt_other(self, origin: _Origin) -> None:
        """Read again a record that was counted as one of a table that is not configured."""
        self._group.other_tables.subtract([origin.table or ""])
        origin.place.tally.forget(origin.place)
        self._take_again(origin)

    def _take_again(self, origin: _Origin) -> None:
        place, data, size, _ = origin
        key_names = self._key(self._table) or None
        try:
            raw = self._content.of(data)[place.offset : place.offset + size]
            value = loads(raw)
        except MemoryError:
            raise
        except Exception as error:
            self._reject(self._table, limited(Rejected.unexpected(error, data)), place)
            return
        outcomes = read_envelope(
            value, key_names=key_names, asserted_us=self._asserted_us, raw=raw, time_unit=self._time_unit
        )
        for outcome in outcomes:
            self._take(outcome, place, raw)

    def _stage(self, table: str, row: tuple[Any, ...], place: _Place, origin: _Origin | None = None) -> None:
        staged = self._staged(table)
        staged.changes.add(row, len(row[5]) + len(row[6] or "") + len(row[7] or ""), origin)
        staged.records[place.number] += 1

    def _reject(self, table: str, found: Rejected, place: _Place) -> None:
        if found.record_id is None:
            self.unreadable.add(place, found.reason)
        tally, offset, ordinal, number = place
        uri, raw = tally.ref.uri, found.raw
        if found.error is not None:
            log_unexpected(found.error, f"{table}: {uri}, byte {offset} went to quarantine")
        staged = self._staged(table)
        row = quarantine_row(found.reason, raw, uri, offset, ordinal, number, found.record_id, self._asserted_us)
        staged.quarantine.add(row, len(raw))
        staged.records[number] += 1

    def _validator(self, table: str) -> Validator | None:
        if table not in self._validators:
            self._validators[table] = self._find_validator(table)
        return self._validators[table]

    def _key(self, table: str) -> tuple[str, ...]:
        if not self.keys.get(table):
            self.keys[table] = self._find_key(table)
        return self.keys[table]

    def _staged(self, table: str) -> _Staging:
        staging = self._staging.get(table)
        if staging is None:
            stem = self._folder / f"{len(self._staging)}"
            staging = self._staging[table] = _Staging(stem, partial(self._doubt, table))
        return staging


class _Content:
    """Landed objects' bytes, decompressed again for records that are read again; only the last object's are kept."""

    def __init__(self) -> None:
        self._data, self._decompressed = b"", b""

    def of(self, data: bytes) -> bytes:
        """What can be read of an object's bytes."""
        if data is not self._data:
            try:
                self._decompressed = decompress(data)
            except DamagedObjectError as error:
                self._decompressed = error.readable
            self._data = data
        return self._decompressed


def _hour(uri: str) -> datetime | None:
    """The arrival hour that an object's path names."""
    try:
        return arrival_hour(uri)
    except Exception as error:  # the hours of its records are used
        log_unexpected(error, f"the hour in the path of {uri} is not used")
        return None


def log_unexpected(error: Exception, where: str) -> None:
    """Log where an unexpected exception was raised. Its text may hold an item's values, so it is left out."""
    frames = "".join(traceback.format_tb(error.__traceback__))
    _LOG.error("%s: reading it raised %s\n%s", where, type(error).__name__, frames)


def _clamp(time_us: int) -> int:
    return min(max(time_us, MIN_US), MAX_US)
