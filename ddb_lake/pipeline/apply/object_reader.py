"""Read landed objects and stage their rows, before anything is committed. All ways of ingestion use `GroupReader`.

A group is a list of objects that are committed together. Records of the fast path are staged unvalidated; the staging writers
validate them by batch and return those that do not match, which are then parsed strictly (`core.decode.fast_path`). If the
record kernel is installed (`engine.native`), it reads most of these records instead, and stages the same rows.
"""

from __future__ import annotations

import logging
import traceback
from array import array
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

from ddb_lake.aws.objects import ObjectRef, ObjectStore
from ddb_lake.core.decode.compression import DamagedObjectError, decompress
from ddb_lake.core.decode.envelopes import Outcome, limited, read_envelope
from ddb_lake.core.decode.objects import LocatedOutcome, read_object, read_object_by_runs
from ddb_lake.core.decode.routing import Routes
from ddb_lake.core.decode.splitter import RecordRun
from ddb_lake.core.layout.firehose_paths import arrival_hour
from ddb_lake.core.operations.system import without_cycle_detection
from ddb_lake.core.protection.rules import Protection
from ddb_lake.core.values.attributes import without_members
from ddb_lake.core.values.change_record import ChangeRecord, Rejected
from ddb_lake.core.values.json_schema import Validator
from ddb_lake.core.values.json_text import loads
from ddb_lake.core.values.times import LATEST_AFTER_ARRIVAL_US, check_not_after
from ddb_lake.engine.native.library import load
from ddb_lake.engine.native.reader import NativeReader
from ddb_lake.engine.staging import (
    MAX_US,
    MIN_US,
    STAGED_CHANGES,
    STAGED_QUARANTINE,
    BatchValidator,
    RowOrigin,
    StagedRows,
    StagingWriter,
    change_row,
    quarantine_row,
    unvalidated_row,
)
from ddb_lake.errors import UndecodableError
from ddb_lake.pipeline.apply.changelog_files import ChangelogFile, ChangelogFiles, ChangelogFormat

GROUP_BYTES = 64 * 1024 * 1024
GROUP_OBJECTS = 10_000
"""The greatest size of a group. Each group is committed before the next is read, so that an interrupted run keeps its work."""

READ_AHEAD = 16
MAX_UNREADABLE = 5
"""The most unreadable parts whose places are kept."""

NOT_KEPT = (
    " (the bytes are not kept, because the lake has protected attributes or a filter; a replay reads the landed object)"
)
"""The end of a reason in the quarantine of a lake with protected attributes."""

_CHANGES = ".changes.parquet"
_QUARANTINE = ".quarantine.parquet"
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_HOUR_US = 3_600_000_000
_NEVER_US = MAX_US + 1
_LOG = logging.getLogger(__name__)


# --- inputs


@dataclass(frozen=True, slots=True)
class TableDefinition:
    """What a reader needs of a lake table.

    Attributes:
        key: the names of its key attributes; empty if they are not known yet.
        validator: the JSON Schemas that its records must satisfy.
        protection: the rules of its protected attributes, and its filter. Records of keys that it leaves out are not staged.
        keeps_rejected_bytes: whether rejected bytes go to the quarantine. If not, it has only their place.
    """

    key: tuple[str, ...] = ()
    validator: Validator | None = None
    protection: Protection = field(default_factory=Protection)
    keeps_rejected_bytes: bool = True

    @property
    def requires_strict_reading(self) -> bool:
        """Whether each record is parsed, because its values are examined or replaced."""
        return self.validator is not None or bool(self.protection)


DefinitionOf: TypeAlias = Callable[[str], TableDefinition]
"""Returns the definition of a lake table, by its name."""


class UnknownTableError(Exception):
    """A record belongs to a configured table that the reader was not given. `table`: its name."""

    def __init__(self, table: str) -> None:
        super().__init__(table)
        self.table = table


def only(definitions: Mapping[str, TableDefinition]) -> DefinitionOf:
    """`DefinitionOf` for a process without access to the lake. It raises UnknownTableError for any other table."""

    def definition_of(table: str) -> TableDefinition:
        if table not in definitions:
            raise UnknownTableError(table)
        return definitions[table]

    return definition_of


@dataclass(frozen=True, slots=True)
class ReadOptions:
    """How the objects of a group are read.

    `table`: the lake table that they are applied to. `asserted_us`: the end (exclusive) of the incremental export that they
    belong to. `time_unit`: the unit for times that are impossible in their declared unit (`times.change_time_us`).
    """

    table: str
    routes: Routes
    asserted_us: int | None = None
    time_unit: str | None = None

    def kernel_source(self) -> str | None:
        """The name of the source table whose records the record kernel may read: the only one that is applied to `table`, whatever
        the record's Region and the object's place are."""
        sources = [name for name, table in self.routes.unique.items() if table == self.table]
        return sources[0] if len(sources) == 1 else None


# --- results


@dataclass(frozen=True, slots=True)
class IngestedObject:
    """An object that was read, the hour in which it arrived, and the number of its outcomes.

    `tables`: by lake table, how many of the outcomes are its own, and how many of these were rejected.
    """

    ref: ObjectRef
    hour_us: int
    records: int
    tables: Mapping[str, tuple[int, int]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class StagedTable:
    """Staged rows of one lake table.

    Attributes:
        changes: rows of the changelog.
        quarantine: rows of the quarantine.
        records: the number of outcomes by object (its number in the group).
        files: further rows of the changelog, in files that can become its own.
    """

    changes: StagedRows
    quarantine: StagedRows
    records: Counter[int]
    files: tuple[ChangelogFile, ...] = ()

    @classmethod
    def at(cls, stem: Path, changes: int, quarantined: int, records: Counter[int]) -> StagedTable:
        """The rows in the files of a `stem`, which may be a pattern. `changes`, `quarantined`: their numbers."""
        return cls(
            StagedRows(stem.with_suffix(_CHANGES), changes),
            StagedRows(stem.with_suffix(_QUARANTINE), quarantined),
            records,
        )

    @classmethod
    def empty(cls, folder: Path) -> StagedTable:
        """No rows."""
        return _TableWriters(folder / "empty").close()

    @classmethod
    def rejected(cls, folder: Path, rows: StagedRows) -> StagedTable:
        """Rows of the quarantine alone."""
        return replace(cls.empty(folder), quarantine=rows)


@dataclass(slots=True)
class Unreadable:
    """The parts of objects that are no record: their count, and the first of them (object's number, offset, reason).

    Records that violate the table's JSON Schema do not count.
    """

    count: int = 0
    first: list[tuple[int, int, str]] = field(default_factory=list)

    def add(self, origin: RowOrigin, reason: str) -> None:
        """Count one."""
        self.count += 1
        if len(self.first) < MAX_UNREADABLE:
            self.first.append((origin.number, origin.offset, reason))

    def merge(self, other: Unreadable) -> None:
        """Add the parts of other objects."""
        self.count += other.count
        self.first = sorted([*self.first, *other.first])[:MAX_UNREADABLE]


@dataclass(slots=True)
class StagedGroup:
    """The rows of a group of objects, by lake table.

    `other_tables`: the number of records by source table that is not configured. `unreadable`: the parts that are no record.
    `left_out`: the number of records that the filter leaves out, by lake table.
    """

    objects: list[IngestedObject]
    tables: dict[str, StagedTable]
    other_tables: Counter[str]
    unreadable: Unreadable = field(default_factory=Unreadable)
    left_out: Counter[str] = field(default_factory=Counter)


# --- fetching


def groups(refs: Iterable[ObjectRef]) -> Iterator[list[ObjectRef]]:
    """The objects in groups, in order."""
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


def fetch(
    store: ObjectStore, refs: Sequence[ObjectRef], copies: Mapping[ObjectRef, Path] | None = None
) -> Iterator[tuple[ObjectRef, bytes]]:
    """The bytes of each object, in order. Objects in S3 are fetched ahead, by threads.

    Local files are read without threads: beside a thread that parses, another one waits longer for the interpreter than
    reading the file takes.

    Args:
        store: where the objects lie.
        refs: the objects.
        copies: local files that are read in place of all objects. By default, the objects are read.
    """
    if copies:
        yield from ((ref, copies[ref].read_bytes()) for ref in refs)
        return
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


# --- one object


@dataclass(slots=True)
class _ObjectTally:
    """One object while it is read. `hour_us`: the one in its path. `times`: arrival or change time of its records by ordinal,
    if the path has no hour."""

    ref: ObjectRef
    hour_us: int | None
    records: int = 0
    times: array[int] = field(default_factory=lambda: array("q"))
    _earliest_of_runs_us: int = _NEVER_US
    _latest_change_us: int = -1

    def arrived_us(self, record: ChangeRecord) -> int | None:
        """The latest possible arrival of a record (UTC microseconds); None if it is not known.

        It is the arrival in the record's envelope, else the later of two times: the end of the hour in the object's key, and
        the object's modification. A key has the hour of the object's oldest record: after an outage Firehose delivers days
        of records in one object, and objects are copied into folders of any date. But no record arrived after its object
        was written.
        """
        return self._arrived_us() if record.arrived_us is None else record.arrived_us

    def _arrived_us(self) -> int | None:
        end_us = self.hour_us + _HOUR_US if self.hour_us is not None else 0
        return max(end_us, self.ref.modified_us) or None

    def is_possible(self, record: ChangeRecord) -> bool:
        """Whether the time of a record is at most a day after its arrival (`times.check_not_after`)."""
        if record.arrived_us is not None:
            return record.changed_us <= record.arrived_us + LATEST_AFTER_ARRIVAL_US
        return record.changed_us <= self.latest_change_us()

    def latest_change_us(self) -> int:
        """The last possible time of a record without an arrival of its own."""
        if self._latest_change_us < 0:
            arrived_us = self._arrived_us()
            self._latest_change_us = MAX_US if arrived_us is None else arrived_us + LATEST_AFTER_ARRIVAL_US
        return self._latest_change_us

    def add_run(self, run: RecordRun) -> None:
        """Count the records of a run, and keep the least of their times."""
        self.records += run.rows
        self._earliest_of_runs_us = min(self._earliest_of_runs_us, run.earliest_us)

    def note_time(self, ordinal: int, record: ChangeRecord) -> None:
        """Keep the time of a record, from which the object's hour is found if its path has none."""
        if self.hour_us is None:
            self.times.extend([_NEVER_US] * (ordinal + 1 - len(self.times)))
            self.times[ordinal] = _clamp(record.arrived_us or record.changed_us)

    def forget_time(self, ordinal: int) -> None:
        """Undo `note_time`."""
        if self.hour_us is None:
            self.times[ordinal] = _NEVER_US

    def result(self, tables: Mapping[str, tuple[int, int]]) -> IngestedObject:
        """The object with its hour: the one in its path, else that of its first record, else that of its modification."""
        hour_us = self.hour_us
        if hour_us is None:
            first_us = min(min(self.times, default=_NEVER_US), self._earliest_of_runs_us)
            hour_us = _clamp(self.ref.modified_us) if first_us in (0, _NEVER_US) else first_us
            hour_us -= hour_us % _HOUR_US
        return IngestedObject(self.ref, hour_us, self.records, tables)


class _Unvalidated(NamedTuple):
    """An unvalidated record, as needed to parse it strictly: its origin, the object's bytes, and the size of its segment.

    `other_table`: its source table, if that is not configured.
    """

    origin: RowOrigin
    data: bytes
    size_bytes: int
    other_table: str | None = None


class _TableWriters:
    """The staging files of one lake table. `on_invalid`: as in `StagingWriter`."""

    def __init__(self, stem: Path, on_invalid: Callable[[_Unvalidated], None] | None = None) -> None:
        self._stem = stem
        self.changes = StagingWriter(stem.with_suffix(_CHANGES), STAGED_CHANGES, on_invalid)
        self.quarantine = StagingWriter(stem.with_suffix(_QUARANTINE), STAGED_QUARANTINE)
        self.records: Counter[int] = Counter()
        self.rejected: Counter[int] = Counter()

    def close(self) -> StagedTable:
        """Write the rows in memory."""
        self.changes.close()
        self.quarantine.close()
        return StagedTable.at(self._stem, self.changes.rows, self.quarantine.rows, self.records)


# --- a group


class GroupReader:
    """Reads one group of objects into staging files in `folder`.

    Each outcome goes the same way: find the lake table, make a row, stage it. `keys` has the key attributes of each table
    that was met; if a table's key is not known, it is that of its first record, sorted by name. `records`: the number of outcomes
    up to now; `records_of_kernel`: of those that the record kernel read.

    Args:
        folder: for the staged rows.
        options: how the objects are read.
        definition_of: of the tables.
        changelog: of the applied table. If it is given, rows that the record kernel read are written as files of it where possible.
    """

    def __init__(
        self,
        folder: Path,
        options: ReadOptions,
        definition_of: DefinitionOf,
        changelog: ChangelogFormat | None = None,
    ) -> None:
        self.keys: dict[str, tuple[str, ...]] = {}
        self._unreadable = Unreadable()
        self._folder = folder
        self._options = options
        self._definition_of = definition_of
        self._definitions: dict[str, TableDefinition] = {}
        self._fast_tables: set[str] = set()
        self._tallies: dict[int, _ObjectTally] = {}
        self._writers: dict[str, _TableWriters] = {}
        self._other_tables: Counter[str] = Counter()
        self._left_out: Counter[str] = Counter()
        self._other_records = BatchValidator(self._on_invalid_other)
        self._content = _LastContent()
        self._native: NativeReader | None = None
        self._files = None if changelog is None else ChangelogFiles(folder, changelog)
        self.records = self.records_of_kernel = 0

    def read(self, objects: Iterable[tuple[ObjectRef, bytes]]) -> StagedGroup:
        """Stage every outcome of the objects. A reader reads one group."""
        return self.read_numbered(enumerate(objects))

    def read_numbered(self, objects: Iterable[tuple[int, tuple[ObjectRef, bytes]]]) -> StagedGroup:
        """As `read`, for objects with their numbers in the group."""
        with without_cycle_detection():
            for number, (ref, data) in objects:
                self._read_object(number, ref, data)
        self._stage_native_rows()
        self._other_records.flush()
        for writers in [*self._writers.values()]:  # an invalid record of one table may go to another's quarantine
            writers.changes.flush()
        staged = {table: writers.close() for table, writers in self._writers.items()}
        if self._files is not None and (files := self._files.close()):
            staged[self._options.table] = replace(staged[self._options.table], files=files)
        return StagedGroup(
            [tally.result(self._by_table(number)) for number, tally in self._tallies.items()],
            {table: rows for table, rows in staged.items() if rows.changes.rows or rows.quarantine.rows or rows.files},
            +self._other_tables,  # without tables whose count is zero
            self._unreadable,
            self._left_out,
        )

    def _by_table(self, number: int) -> dict[str, tuple[int, int]]:
        """The outcomes of an object by lake table: all of them, and the rejected ones."""
        found = {table: (w.records[number], w.rejected[number]) for table, w in self._writers.items()}
        return {table: counts for table, counts in found.items() if counts[0]}

    def _read_object(self, number: int, ref: ObjectRef, data: bytes) -> None:
        tally = self._tallies[number] = _ObjectTally(ref, _hour_us(ref.uri))
        for located in self._outcomes(data, tally, number):
            if isinstance(located, RecordRun):
                self._count_run(located, tally, number)
                continue
            offset, outcome, raw, unvalidated = located
            origin = RowOrigin(ref.uri, offset, tally.records, number)
            if unvalidated:
                self._stage_unvalidated(outcome, _Unvalidated(origin, data, len(raw)))  # type: ignore[arg-type]
            else:
                self._stage_outcome(outcome, origin, raw)
            tally.records += 1
            self.records += 1

    def _outcomes(self, data: bytes, tally: _ObjectTally, number: int) -> Iterator[LocatedOutcome | RecordRun]:
        options = self._options
        key_names, fast = self._key(options.table) or None, self._is_fast(options.table)
        native = self._native_reader() if fast else None
        if native is None:
            return iter(
                read_object(
                    data,
                    key_names=key_names,
                    asserted_us=options.asserted_us,
                    fast=fast,
                    time_unit=options.time_unit,
                )
            )
        native.begin_object(tally.ref.uri, number, tally.latest_change_us())
        return read_object_by_runs(
            data, native.read_run, key_names=key_names, asserted_us=options.asserted_us, time_unit=options.time_unit
        )

    # record kernel

    def _native_reader(self) -> NativeReader | None:
        """The reader of records of the applied table; None if there is no kernel, or if the name in a record does not decide
        the table."""
        if self._native is None:
            library, source = load().library, self._options.kernel_source()
            if library is not None and source is not None:
                self._native = NativeReader(library, source, self.keys[self._options.table])
        return self._native

    def _count_run(self, run: RecordRun, tally: _ObjectTally, number: int) -> None:
        """Count the records of a run, which are in the kernel's batch, and stage the batch if it is full."""
        tally.add_run(run)
        self.records += run.rows
        self.records_of_kernel += run.rows
        self._writers_of(self._options.table).records[number] += run.rows
        if self._native is not None and self._native.is_full:
            self._stage_native_rows()

    def _stage_native_rows(self) -> None:
        if self._native is None or not self._native.rows:
            return
        rows = self._native.take()
        hours_us = {self._tallies[number].hour_us for number in rows.column("_object").unique().to_pylist()}
        if self._files is None or not self._files.write(rows, list(hours_us)):
            self._writers_of(self._options.table).changes.write(rows)

    # strict

    def _stage_outcome(self, outcome: Outcome, origin: RowOrigin, raw: bytes) -> None:
        """Stage an outcome of strict parsing. `raw`: the bytes of its segment."""
        if isinstance(outcome, Rejected):
            self._reject(self._options.table, outcome, origin)
            return
        try:
            table = self._options.routes.table_of(outcome, origin.uri, self._options.table)
        except MemoryError:
            raise
        except Exception as error:
            self._reject(self._options.table, Rejected.unexpected(error, raw), origin)
            return
        if table is None:
            self._tallies[origin.number].note_time(origin.ordinal, outcome)
            self._other_tables[outcome.table or ""] += 1
            return
        key_names, definition = (
            self._key(table),
            self._definition(table),
        )  # an error of the lake is no fault of the record
        validator, protection = definition.validator, definition.protection
        if not key_names:
            protection.check_key(sorted(outcome.keys), table)
        self._tallies[origin.number].note_time(origin.ordinal, outcome)
        try:
            if protection.leaves_out(outcome.keys):
                self._left_out[table] += 1
                return
            row = self._validated_row(table, protection.protect_record(outcome), key_names, origin)
            fault = None if validator is None else validator.fault(outcome)
        except MemoryError:
            raise
        except Exception as error:
            self._reject(table, Rejected.unexpected(error, raw), origin)
            return
        if fault is None:
            self._stage_row(table, row, origin)
        else:
            self._reject(table, Rejected(fault, raw, record_id=row[0]), origin)

    def _validated_row(
        self, table: str, record: ChangeRecord, key_names: tuple[str, ...], origin: RowOrigin
    ) -> tuple[Any, ...]:
        """The row of a strictly parsed record. Raises UndecodableError if the record cannot be stored."""
        if not MIN_US <= record.changed_us <= MAX_US:
            raise UndecodableError("ApproximateCreationDateTime is outside the years 1 to 9999")
        check_not_after(record.changed_us, self._tallies[origin.number].arrived_us(record))
        if record.arrived_us is not None and not MIN_US <= record.arrived_us <= MAX_US:
            record = replace(record, arrived_us=None)
        if not key_names:
            key_names = self.keys[table] = tuple(sorted(record.keys))
        return change_row(record, key_names, origin)

    # fast path

    def _is_fast(self, table: str) -> bool:
        """Whether the fast path is possible for a table: its key is known, and its records need not be parsed."""
        if table in self._fast_tables:
            return True
        if not self._key(table) or self._definition(table).requires_strict_reading:
            return False
        self._fast_tables.add(table)
        return True

    def _stage_unvalidated(self, record: ChangeRecord, source: _Unvalidated) -> None:
        """Stage an unvalidated record, or parse it strictly at once if the fast path is not possible for it."""
        origin = source.origin
        tally = self._tallies[origin.number]
        try:
            table = self._options.routes.table_of(record, origin.uri, self._options.table)
        except MemoryError:
            raise
        except Exception:
            self._parse_strictly(source)
            return
        if table is None:
            self._other_tables[record.table or ""] += 1
            tally.note_time(origin.ordinal, record)
            self._other_records.add(record.texts, source._replace(other_table=record.table or ""))  # type: ignore[arg-type]
            return
        row = None
        if self._is_fast(table) and tally.is_possible(record):
            row = unvalidated_row(record, self.keys[table], origin)
        if row is None:
            self._parse_strictly(source)
            return
        tally.note_time(origin.ordinal, record)  # before the row is staged: that may validate the batch with it
        self._stage_row(table, row, origin, source)

    def _on_invalid(self, table: str, source: _Unvalidated) -> None:
        """Parse strictly a staged record whose validation failed; its row was left out."""
        self._writers_of(table).records[source.origin.number] -= 1
        self._tallies[source.origin.number].forget_time(source.origin.ordinal)
        self._parse_strictly(source)

    def _on_invalid_other(self, source: _Unvalidated) -> None:
        """Parse strictly a record whose validation failed, and that was counted for a table that is not configured."""
        self._other_tables.subtract([source.other_table or ""])
        self._tallies[source.origin.number].forget_time(source.origin.ordinal)
        self._parse_strictly(source)

    def _parse_strictly(self, source: _Unvalidated) -> None:
        origin = source.origin
        try:
            raw = self._content.of(source.data)[origin.offset : origin.offset + source.size_bytes]
            value = loads(raw)
        except MemoryError:
            raise
        except Exception as error:
            self._reject(self._options.table, limited(Rejected.unexpected(error, source.data)), origin)
            return
        outcomes = read_envelope(
            value,
            key_names=self._key(self._options.table) or None,
            asserted_us=self._options.asserted_us,
            raw=raw,
            time_unit=self._options.time_unit,
        )
        for outcome in outcomes:
            self._stage_outcome(outcome, origin, raw)

    # rows

    def _stage_row(
        self, table: str, row: tuple[Any, ...], origin: RowOrigin, source: _Unvalidated | None = None
    ) -> None:
        writers = self._writers_of(table)
        writers.changes.add(row, len(row[5]) + len(row[6] or "") + len(row[7] or ""), source)
        writers.records[origin.number] += 1

    def _reject(self, table: str, rejected: Rejected, origin: RowOrigin) -> None:
        reason, raw, note = rejected.reason, rejected.raw, ""
        if not self._definition(table).keeps_rejected_bytes:
            reason, raw, note = without_members(reason), b"", NOT_KEPT
        if rejected.record_id is None:
            self._unreadable.add(origin, reason)
        if rejected.error is not None:
            log_unexpected(rejected.error, f"{table}: {origin.uri}, byte {origin.offset} went to quarantine")
        row = quarantine_row(f"{reason}{note}", raw, origin, rejected.record_id, self._options.asserted_us)
        writers = self._writers_of(table)
        writers.quarantine.add(row, len(raw))
        writers.records[origin.number] += 1
        writers.rejected[origin.number] += 1

    # tables

    def _definition(self, table: str) -> TableDefinition:
        if table not in self._definitions:
            self._define(table)
        return self._definitions[table]

    def _key(self, table: str) -> tuple[str, ...]:
        if not self.keys.get(table):
            self._define(table)
        return self.keys[table]

    def _define(self, table: str) -> None:
        definition = self._definition_of(table)
        self.keys[table] = self.keys.get(table) or definition.key
        self._definitions[table] = definition

    def _writers_of(self, table: str) -> _TableWriters:
        writers = self._writers.get(table)
        if writers is None:
            stem = self._folder / f"{len(self._writers)}"
            writers = self._writers[table] = _TableWriters(stem, partial(self._on_invalid, table))
        return writers


class _LastContent:
    """The decompressed bytes of the last object from which a record was parsed strictly."""

    def __init__(self) -> None:
        self._data, self._decompressed = b"", b""

    def of(self, data: bytes) -> bytes:
        """The readable content of an object's bytes."""
        if data is not self._data:
            try:
                self._decompressed = decompress(data)
            except DamagedObjectError as error:
                self._decompressed = error.readable
            self._data = data
        return self._decompressed


def _hour_us(uri: str) -> int | None:
    """The arrival hour in an object's path (UTC microseconds)."""
    try:
        hour = arrival_hour(uri)
        return None if hour is None else (hour - _EPOCH) // _MICROSECOND
    except Exception as error:  # the times of its records are used
        log_unexpected(error, f"the hour in the path of {uri} is not used")
        return None


def log_unexpected(error: Exception, where: str) -> None:
    """Log an unexpected exception with its traceback. Its text may contain an item's values, so it is left out."""
    frames = "".join(traceback.format_tb(error.__traceback__))
    _LOG.error("%s: reading it raised %s\n%s", where, type(error).__name__, frames)


def _clamp(time_us: int) -> int:
    return min(max(time_us, MIN_US), MAX_US)
