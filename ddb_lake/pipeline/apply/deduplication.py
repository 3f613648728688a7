"""Deduplicate staged rows, and write the new ones as Parquet files of the changelog or the quarantine.

The caller commits the files (`pipeline.apply.changelog`). `LocalDeduplicator` works in this process. The tasks of
`ddb_lake.spark` use the same `NewRows` on their part of the rows.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Protocol, TypeAlias

import numpy as np
import pyarrow as pa
from pyiceberg.manifest import DataFile
from pyiceberg.table import Table

from ddb_lake.core.values.erased_keys import ErasedKeys
from ddb_lake.engine.session import Session, with_memory
from ddb_lake.engine.sql import literal, literals
from ddb_lake.lake.column_ranges import ColumnRanges
from ddb_lake.lake.file_writer import FileWriter, mean_row_bytes
from ddb_lake.lake.scan import TableScan, data_files, scan_table
from ddb_lake.pipeline.apply.object_reader import IngestedObject, StagedTable

_RAW_ROWS = 100
"""Rows of the quarantine whose bytes are in memory at once."""

RECORD_IDENTITY = ("record_id", "changed_at")
"""The columns that are equal in two rows of the same change record. The first is unique alone: the others find files."""

REJECTED_IDENTITY = ("quarantine_id",)
"""The same of the quarantine."""

NumberedObjects: TypeAlias = Sequence[tuple[int, IngestedObject]]
"""Objects with their number in the group, which the column `_object` of staged rows has."""


@dataclass(frozen=True, slots=True)
class Figures:
    """Figures of rows that were written to the changelog. Those of parts can be added.

    Attributes:
        staged: the number of rows from which the new ones were chosen.
        hours: the number of new rows by arrival hour (ISO 8601, UTC).
        by_event: the number of new rows by `event_name`.
        first_us: the least time of a new change record; assertions do not count.
        last_us: the greatest.
        sources: how the new records are ordered (`lake.state.ChangesState.sources`).
        by_object: the number of new rows by object (its number in the group).
        refused: the number of distinct rows that are of erased keys.
    """

    staged: int = 0
    hours: Counter[str] = field(default_factory=Counter)
    by_event: Counter[str] = field(default_factory=Counter)
    first_us: int | None = None
    last_us: int | None = None
    sources: frozenset[str] = frozenset()
    by_object: Counter[int] = field(default_factory=Counter)
    refused: int = 0

    @property
    def new(self) -> int:
        """The number of new rows."""
        return self.hours.total()

    def __add__(self, other: Figures) -> Figures:
        return Figures(
            self.staged + other.staged,
            self.hours + other.hours,
            self.by_event + other.by_event,
            extreme(min, self.first_us, other.first_us),
            extreme(max, self.last_us, other.last_us),
            self.sources | other.sources,
            self.by_object + other.by_object,
            self.refused + other.refused,
        )


def extreme(which: Callable[[Sequence[int]], int], first: int | None, second: int | None) -> int | None:
    """The least or greatest of two values, which may be unknown. `which`: `min` or `max`."""
    known = [value for value in (first, second) if value is not None]
    return which(known) if known else None


@dataclass(frozen=True, slots=True)
class ChangesWrite:
    """How new rows of the changelog are written.

    Attributes:
        batch: the number of the commit, for the column `_batch`.
        erased: the erased keys, read after the changelog.
    """

    batch: int
    erased: ErasedKeys


@dataclass(frozen=True, slots=True)
class RejectedWrite:
    """How new rows of the quarantine are written.

    Attributes:
        at: the time of the quarantine (ISO 8601, UTC, without a zone).
        erased: the erased keys, read after the quarantine.
    """

    at: str
    erased: ErasedKeys


class Deduplicator(Protocol):
    """Staged rows of one table: writes those that the table does not have.

    If several rows are the same record, the first of the first object is written. Both methods consider the rows of
    `objects` only.
    """

    @property
    def records(self) -> int:
        """The number of staged rows, rejected ones included."""

    @property
    def rejected(self) -> int:
        """The number of staged rows for the quarantine."""

    def write_changes(
        self, table: Table, objects: NumberedObjects, write: ChangesWrite
    ) -> tuple[list[DataFile], Figures]:
        """Write the records that the changelog does not have, without those of erased keys. A file has one arrival hour.

        Args:
            table: the changelog.
            objects: the objects whose rows count.
            write: the number of the commit, and the erased keys.
        """

    def write_rejected(
        self, table: Table, objects: NumberedObjects, write: RejectedWrite
    ) -> tuple[list[DataFile], int]:
        """Write the rejected rows that the quarantine does not have, without those that name an erased key.

        Args:
            table: the quarantine.
            objects: the objects whose rows count.
            write: the time of the quarantine, and the erased keys.

        Returns:
            The files, and the number of rows that name an erased key.
        """

    def close(self) -> None:
        """Delete the staged rows."""


@dataclass(frozen=True, slots=True)
class ReadGroup:
    """A group of landed objects that was read.

    Attributes:
        objects: the objects, in the order of their numbers.
        tables: the staged rows by lake table. The table that is applied is always among them: its ledger must name an
            object even if no record of the object is for it.
        other_tables: the number of records by source table that is not configured.
        keys: the key attributes by lake table; empty if they are not known.
        left_out: the number of records that the filter leaves out, by lake table.
    """

    objects: list[IngestedObject]
    tables: dict[str, Deduplicator]
    other_tables: Counter[str]
    keys: dict[str, tuple[str, ...]]
    left_out: Counter[str] = field(default_factory=Counter)


class LocalDeduplicator:
    """Rows that are staged in the session's work folder (`Deduplicator`)."""

    def __init__(self, session: Session, staged: StagedTable) -> None:
        self._session, self._staged = session, staged
        self.records = sum(staged.records.values())
        self.rejected = staged.quarantine.rows

    def write_changes(
        self, table: Table, objects: NumberedObjects, write: ChangesWrite
    ) -> tuple[list[DataFile], Figures]:
        """Write the records that the changelog does not have, without those of erased keys."""
        session, files = self._session, self._staged.files
        staged_rows = self._rows(objects)
        rows = with_arrival_hours(session, staged_rows, [(number, o.hour_us) for number, o in objects])
        # images are large, and are read when they are written
        new = NewRows.of(session, RECORD_IDENTITY, f"SELECT * FROM {without_images(rows, write.erased)}")
        staged = new.count()
        new.remove_repeated()
        refused = new.remove_erased(write.erased)
        candidates = candidate_files(table, new.times())
        if candidates:
            new.remove_known(TableScan(table.schema(), tuple(candidates)).sql())
        writer = FileWriter.for_table(session.con, table)
        complete = self._complete_files(table, new, write)
        adopted = [writer.adopt(files[number - _FIRST_FILE].path) for number in complete]
        row_bytes = mean_row_bytes(session, [str(self._staged.changes.path), *(str(file.path) for file in files)])
        if new.count() < staged:
            rows = new.of_relation(rows)
        paths, figures = new.write_changes(writer, write, rows, row_bytes, complete)
        new.drop()
        return writer.entries([*adopted, *paths], table.metadata), replace(figures, staged=staged, refused=refused)

    def _rows(self, objects: NumberedObjects) -> str:
        """A relation of the staged rows of some objects, or of all, with the column `position`. It is valid until the next call."""
        staged = with_row_positions(str(self._staged.changes.path))
        if not self._staged.files:
            return staged
        keep_names(self._session, "objects_by_name", {o.ref.uri: number for number, o in objects})
        written = [
            rows_of_changelog_file(_FIRST_FILE + number, str(file.path), "objects_by_name")
            for number, file in enumerate(self._staged.files)
        ]
        return f"({' UNION ALL BY NAME '.join(f'FROM {rows}' for rows in [staged, *written])})"

    def _complete_files(self, table: Table, new: NewRows, write: ChangesWrite) -> list[int]:
        """The numbers of the files that can become files of the changelog: each of their rows is new, and is what the changelog gets."""
        files = self._staged.files
        if not files or write.erased.allows_recreation or not files[0].form.is_of(table):  # a group has one format
            return []
        counts = new.count_by_file()
        return [number for number, file in enumerate(files, _FIRST_FILE) if counts.get(number) == file.rows]

    def write_rejected(
        self, table: Table, objects: NumberedObjects, write: RejectedWrite
    ) -> tuple[list[DataFile], int]:
        """Write the rejected rows that the quarantine does not have, without those that name an erased key."""
        session = self._session
        staged = f"read_parquet({literal(str(self._staged.quarantine.path))})"
        rows = with_arrival_hours(session, staged, [(number, o.hour_us) for number, o in objects])
        new = NewRows.first_of_each(session, REJECTED_IDENTITY, rows)
        refused = new.remove_naming_erased(write.erased)
        new.remove_known(scan_table(table).sql())
        writer = FileWriter.for_table(session.con, table)
        paths = new.write_rejected(writer, write)
        new.drop()
        return writer.entries(paths, table.metadata), refused

    def close(self) -> None:
        """Do nothing: the rows are deleted with the session's work folder."""


# --- staged rows in a session: of this process, or of a task


_WITHOUT_IMAGES = (
    'record_id, changed_at, _object, "offset", position, arrival_hour, event_name, asserted_at, sequence_number, stream'
)
"""The columns by which new records are chosen and counted."""


def without_images(rows: str, erased: ErasedKeys) -> str:
    """Staged rows with the columns by which new records are chosen, counted and refused: images are large, and are read when they are
    written."""
    return f"(SELECT {_WITHOUT_IMAGES}{', _key' if erased else ''} FROM {rows})"


def with_arrival_hours(session: Session, rows: str, hours: Sequence[tuple[int, int]]) -> str:
    """A relation of the staged rows of some objects, with the column `arrival_hour`. It is valid until the next call.

    Args:
        session: the session.
        rows: a relation of staged rows.
        hours: the numbers of the objects, and their arrival hours (microseconds). Rows of other objects are left out.
    """
    session.con.execute("CREATE OR REPLACE TABLE staged_objects (number BIGINT, arrival_hour TIMESTAMP)")
    if hours:
        numbers, hours_us = zip(*hours, strict=True)
        objects = pa.table({"n": pa.array(numbers, pa.int64()), "h": pa.array(hours_us, pa.timestamp("us"))})
        session.con.register("objects_of_group", objects)
        session.con.execute("INSERT INTO staged_objects SELECT n, h FROM objects_of_group")
        session.con.unregister("objects_of_group")
    return f"(SELECT r.*, o.arrival_hour FROM {rows} r JOIN staged_objects o ON o.number = r._object)"


_ROW_BITS = 40
_FIRST_FILE = 1 << 20
"""A position has the number of a file and that of a row. In this process, numbers from this one on are those of files of the changelog."""

_FILE = f"position >> {_ROW_BITS}"


def with_row_positions(path: str, number: int | None = None) -> str:
    """A relation of staged rows with the column `position`, which is different for each.

    Args:
        path: the path of a file, or a pattern.
        number: the number of the file; None: files that match the pattern are numbered from 0 on.
    """
    position = f"({'file_index' if number is None else number}::BIGINT << {_ROW_BITS}) + file_row_number"
    return f"(SELECT *, {position} AS position FROM read_parquet({literal(path)}, file_row_number = true))"


def keep_names(session: Session, relation: str, numbers: Mapping[str, int]) -> None:
    """Replace the relation (uri, number) of some objects. A file of the changelog has the names of objects, which differ in a group, and
    not their numbers."""
    names = pa.table(
        {"uri": pa.array(list(numbers), pa.string()), "number": pa.array(list(numbers.values()), pa.int64())}
    )
    session.con.register("names_to_keep", names)
    session.con.execute(f"CREATE OR REPLACE TABLE {relation} AS SELECT uri, number FROM names_to_keep")
    session.con.unregister("names_to_keep")


def rows_of_changelog_file(number: int, path: str, objects: str) -> str:
    """The rows of a file that can become a file of the changelog, as staged rows with the column `position`.

    Args:
        number: the number of the file.
        path: its path.
        objects: a relation (uri, number) of the objects whose rows count.
    """
    rows = f"{with_row_positions(path, number)} f JOIN {objects} o ON o.uri = f.object"
    return f"(SELECT f.* EXCLUDE (arrival_hour, _batch), o.number AS _object FROM {rows})"


@dataclass(frozen=True, slots=True)
class NewRows:
    """Staged rows that may be new, in a table of a session that `str` names.

    Attributes:
        session: the session. It has one such table at a time.
        identity: the columns that are equal in the same rows, `RECORD_IDENTITY` or `REJECTED_IDENTITY`.
    """

    session: Session
    identity: tuple[str, ...]

    def __str__(self) -> str:
        return "new_rows"

    @classmethod
    def of(cls, session: Session, identity: tuple[str, ...], query: str) -> NewRows:
        """The rows of a query; all of them are new."""
        rows = cls(session, identity)
        session.con.execute(f"CREATE OR REPLACE TABLE {rows} AS {query}")
        return rows

    @classmethod
    def first_of_each(cls, session: Session, identity: tuple[str, ...], rows: str) -> NewRows:
        """Of the rows of a relation that are the same, the first: in the object of the least number, at the least offset."""
        found = cls.of(session, identity, f"SELECT * FROM {rows}")
        found.remove_repeated()
        return found

    def remove_repeated(self) -> None:
        """Of the rows that are the same, leave the first: in the object of the least number, at the least offset.

        Few rows are repeated as a rule, so only these are sorted.
        """
        unique = self.identity[0]
        repeated = f"SELECT {unique} FROM {self} GROUP BY {unique} HAVING count(*) > 1"
        order = f'PARTITION BY n.{unique} ORDER BY n._object, n."offset"'
        self.session.con.execute(
            f"DELETE FROM {self} WHERE rowid IN (SELECT n.rowid FROM {self} n SEMI JOIN ({repeated}) r"
            f" ON r.{unique} = n.{unique} QUALIFY row_number() OVER ({order}) > 1)"
        )

    def remove_known(self, known: str) -> None:
        """Remove the rows that the relation `known` has."""
        same = " AND ".join(f"n.{column} = k.{column}" for column in self.identity)
        columns, unique = ", ".join(self.identity), self.identity[0]
        self.session.con.execute(
            f"DELETE FROM {self} WHERE {unique} IN"
            f" (SELECT k.{unique} FROM (SELECT {columns} FROM {known}) k SEMI JOIN {self} n ON {same})"
        )

    def remove_erased(self, erased: ErasedKeys) -> int:
        """Remove the rows of erased keys, and return their number. If later changes are allowed, their rows stay.

        This is the one place where an ingest refuses records of erased keys. The rows must have `_key`, unless no key is erased.
        """
        if not erased:
            return 0
        before = self.count()
        digest = _digest_sql(erased)
        with _registered_keys(self.session, erased) as keys:
            condition = f"e.digest = {digest} AND (e.until_us IS NULL OR epoch_us(n.changed_at) <= e.until_us)"
            self.session.con.execute(f"DELETE FROM {self} n WHERE EXISTS (SELECT 1 FROM {keys} e WHERE {condition})")
        return before - self.count()

    def remove_naming_erased(self, erased: ErasedKeys) -> int:
        """Remove the rows of the quarantine whose bytes name an erased key, and return their number."""
        if not erased:
            return 0
        cursor = self.session.con.cursor()
        cursor.execute(f"SELECT quarantine_id, raw FROM {self}")
        naming = []
        while rows := cursor.fetchmany(_RAW_ROWS):
            naming += [identifier for identifier, raw in rows if erased.named_in(raw)]
        self.session.con.execute(
            f"DELETE FROM {self} WHERE list_contains({literals(naming)}::VARCHAR[], quarantine_id)"
        )
        return len(naming)

    def count(self) -> int:
        """The number of rows."""
        rows: int = self.session.value(f"SELECT count(*) FROM {self}")
        return rows

    def count_by_file(self) -> dict[int, int]:
        """The number of rows by the number of their file. The rows must have `position`."""
        return dict(self.session.rows(f"SELECT {_FILE}, count(*) FROM {self} GROUP BY 1"))

    def of_relation(self, rows: str) -> str:
        """Those rows of a relation that are among these, by their `position`."""
        return f"(SELECT r.* FROM {rows} r SEMI JOIN {self} n ON n.position = r.position)"

    def times(self) -> np.ndarray[Any, Any]:
        """The distinct times of the changes (microseconds), sorted."""
        column = self.session.con.execute(f"SELECT DISTINCT epoch_us(changed_at) AS t FROM {self}").fetchnumpy()["t"]
        return np.sort(np.asarray(column, dtype=np.int64))

    def write_changes(
        self,
        writer: FileWriter,
        write: ChangesWrite,
        rows: str | None = None,
        row_bytes: int = 0,
        complete: Sequence[int] = (),
    ) -> tuple[list[str], Figures]:
        """Write the rows as files of the changelog, each of one arrival hour.

        Args:
            writer: that of the changelog.
            write: the number of the commit, and the erased keys.
            rows: a relation of the same rows with all columns, if this table lacks some.
            row_bytes: the approximate size of a row in memory; 0 if it is not known.
            complete: the numbers of files of the changelog, which have rows already. These are counted, and not written.

        Returns:
            The paths of the files that were written, and the figures of all rows, without `staged`.
        """
        paths: list[str] = []
        written = f"{_FILE} IN ({', '.join(map(str, complete))})" if complete else "false"
        hours = self.session.rows(
            f"SELECT arrival_hour, count(*), min(_object), max(_object), count(*) FILTER (NOT ({written}))"
            f" FROM {self} GROUP BY 1 ORDER BY 1"
        )
        for hour, _, first, last, missing in hours:
            if not missing:
                continue
            # the bounds of the objects let DuckDB skip row groups
            condition = f"arrival_hour = TIMESTAMP '{hour.isoformat()}' AND _object BETWEEN {first} AND {last} AND NOT ({written})"
            query = f"SELECT *, {write.batch}::BIGINT AS _batch FROM {rows or self} WHERE {condition}"
            if write.erased.allows_recreation:
                query = _without_erased_images(query, write.erased)
            paths += with_memory(self.session, partial(writer.write_paths, query, row_bytes=row_bytes))
        return paths, self._figures({hour.isoformat(): count for hour, count, *_ in hours})

    def _figures(self, hours: dict[str, int]) -> Figures:
        first_us, last_us = self.session.rows(
            f"SELECT min(epoch_us(changed_at)), max(epoch_us(changed_at)) FROM {self} WHERE asserted_at IS NULL"
        )[0]
        sources = self.session.rows(
            "SELECT DISTINCT CASE WHEN asserted_at IS NOT NULL THEN 'assertion'"
            f" WHEN sequence_number IS NOT NULL THEN coalesce(stream, 'stream') ELSE 'time' END FROM {self}"
        )
        by_event = dict(self.session.rows(f"SELECT event_name, count(*) FROM {self} GROUP BY 1"))
        by_object = dict(self.session.rows(f"SELECT _object, count(*) FROM {self} GROUP BY 1"))
        return Figures(
            0,
            Counter(hours),
            Counter(by_event),
            first_us,
            last_us,
            frozenset(s for (s,) in sources),
            Counter(by_object),
        )

    def write_rejected(self, writer: FileWriter, write: RejectedWrite) -> list[str]:
        """Write the rows as files of the quarantine; returns their paths."""
        open_entry = "NULL::TIMESTAMP AS discarded_at, NULL::VARCHAR AS discarded_by, NULL::VARCHAR AS discarded_why"
        return writer.write_paths(f"SELECT *, TIMESTAMP '{write.at}' AS quarantined_at, {open_entry} FROM {self}")

    def drop(self) -> None:
        """Drop the table."""
        self.session.con.execute(f"DROP TABLE {self}")


def _digest_sql(erased: ErasedKeys) -> str:
    """SQL of `ErasedKeys.digest` of the column `_key` of rows `n`."""
    return f"sha256({literal(erased.salt)} || n._key)"


def _without_erased_images(query: str, erased: ErasedKeys) -> str:
    """The rows of a query, without the old images of keys that were erased: they may be states from before the erasure."""
    digests = literals(digest for digest, until_us in erased.until_us.items() if until_us is not None)
    image = f"CASE WHEN list_contains({digests}, {_digest_sql(erased)}) THEN NULL ELSE old_image END AS old_image"
    return f"SELECT n.* REPLACE ({image}) FROM ({query}) n"


@contextmanager
def _registered_keys(session: Session, erased: ErasedKeys) -> Iterator[str]:
    """A relation (digest, until_us) of the erased keys."""
    digests, until_us = zip(*erased.until_us.items(), strict=True)
    keys = pa.table({"digest": pa.array(digests, pa.string()), "until_us": pa.array(until_us, pa.int64())})
    session.con.register("erased_keys", keys)
    try:
        yield "erased_keys"
    finally:
        session.con.unregister("erased_keys")


def candidate_files(table: Table, times: np.ndarray[Any, Any], span_us: int = 1) -> list[str]:
    """The files of the changelog that may have some records: the same record has the same time.

    Args:
        table: the changelog.
        times: sorted beginnings (microseconds) of the intervals in which the records changed.
        span_us: the length of each interval.
    """

    def may_have(ranges: ColumnRanges) -> bool:
        changed = ranges.of("changed_at")
        if changed is None:
            return True
        first = int(np.searchsorted(times, changed[0] - span_us + 1))
        return first < len(times) and bool(times[first] <= changed[1])

    return [file.file_path for file in data_files(table, may_have)]
