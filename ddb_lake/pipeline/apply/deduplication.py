"""What of staged rows is new, written as files of the changelog and the quarantine that the caller commits.

By this process (`LocalDeduplicator`) or by tasks on Spark (`spark.changelog`), with the same functions over a session's
tables: `staged_objects`, the objects that count, and `chosen`, the rows that are left.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
from pyiceberg.manifest import DataFile
from pyiceberg.table import Table

from ddb_lake.engine.session import Session, with_memory
from ddb_lake.engine.sql import literal
from ddb_lake.lake.file_writer import FileWriter, mean_row_bytes
from ddb_lake.lake.scan import TableScan, column_bounds, live_files, scan_table
from ddb_lake.pipeline.apply.object_reader import IngestedObject, StagedTable


@dataclass(frozen=True, slots=True)
class Figures:
    """Of rows of the changelog: how many they are, by arrival hour and by event, and what its state says of them.

    `staged`: rows they were chosen from. `first_us` and `last_us`: of changes; assertions do not count.
    """

    staged: int = 0
    hours: Counter[str] = field(default_factory=Counter)
    by_event: Counter[str] = field(default_factory=Counter)
    first_us: int | None = None
    last_us: int | None = None
    sources: frozenset[str] = frozenset()

    @property
    def new(self) -> int:
        """How many rows."""
        return self.hours.total()

    def __add__(self, other: Figures) -> Figures:
        return Figures(
            self.staged + other.staged,
            self.hours + other.hours,
            self.by_event + other.by_event,
            extreme(min, self.first_us, other.first_us),
            extreme(max, self.last_us, other.last_us),
            self.sources | other.sources,
        )


Numbered = Sequence[tuple[int, IngestedObject]]
"""Objects by their number in the group."""


class Deduplicator(Protocol):
    """Rows of one table that were staged. What of them is new becomes files, which the caller commits.

    Of rows with one id the one in the first object counts, there the first. Only rows of `objects` are looked at.
    """

    @property
    def records(self) -> int:
        """Rows of either kind."""

    @property
    def rejected(self) -> int:
        """Rows for the quarantine."""

    def write_changes(self, table: Table, objects: Numbered, batch: int) -> tuple[list[DataFile], Figures]:
        """Write the records that the changelog does not have, an arrival hour a file or several."""

    def write_rejected(self, table: Table, objects: Numbered, at: str) -> list[DataFile]:
        """Write what the quarantine does not have. `at`: when they are put there (ISO 8601, UTC)."""

    def close(self) -> None:
        """All is committed, or given up."""


@dataclass(frozen=True, slots=True)
class ReadGroup:
    """A group of landed objects that was read: its staged rows by lake table, and the tables' key attributes.

    `tables` always has the table that is applied: the ledger must name an object even if none of its records is of it.
    `other_tables`: the number of records by source table that is not configured.
    """

    objects: list[IngestedObject]
    tables: dict[str, Deduplicator]
    other_tables: Counter[str]
    keys: dict[str, tuple[str, ...]]


class LocalDeduplicator:
    """Rows that are staged on this machine's disk (`Deduplicator`)."""

    def __init__(self, session: Session, staged: StagedTable) -> None:
        self._session, self._staged = session, staged
        self.records = sum(staged.records.values())
        self.rejected = staged.quarantine.rows

    def write_changes(self, table: Table, objects: Numbered, batch: int) -> tuple[list[DataFile], Figures]:
        """Write the records that the changelog does not have, an arrival hour a file."""
        session = self._session
        number_objects(session, [(number, o.hour_us) for number, o in objects])
        rows = with_hours(placed(self._staged.changes.path))
        count: int = session.value(f"SELECT count(*) FROM {rows}")
        choose_first(session, CHANGES, f"(SELECT {_NARROW} FROM {rows})")  # images are read where they are written
        near = files_near(table, _times(session))
        if near:
            leave_out(session, CHANGES, TableScan(table.schema(), tuple(near)).sql())
        if session.value("SELECT count(*) FROM chosen") < count:
            rows = f"(SELECT c.* FROM {rows} c SEMI JOIN chosen k ON k.place = c.place)"
        writer = FileWriter.for_table(session.con, table)
        size = mean_row_bytes(session, str(self._staged.changes.path))
        paths, figures = write_chosen(session, writer, batch, rows, size)
        forget_chosen(session)
        return writer.entries(paths, table.metadata), replace(figures, staged=count)

    def write_rejected(self, table: Table, objects: Numbered, at: str) -> list[DataFile]:
        """Write what the quarantine does not have."""
        session = self._session
        number_objects(session, [(number, o.hour_us) for number, o in objects])
        choose_first(session, QUARANTINE, with_hours(f"read_parquet({literal(str(self._staged.quarantine.path))})"))
        leave_out(session, QUARANTINE, quarantine_sql(table))
        writer = FileWriter.for_table(session.con, table)
        paths = write_chosen_rejected(writer, at)
        forget_chosen(session)
        return writer.entries(paths, table.metadata)

    def close(self) -> None:
        """The rows go with the session's folder."""


# --- what is done in a session, here and in a task


CHANGES = ("record_id", "changed_at")
QUARANTINE = ("quarantine_id",)
"""Of rows that are one and the same, the columns that agree; the first of them is the id, and suffices."""

_NARROW = (
    'record_id, changed_at, _object, "offset", place, arrival_hour, event_name, asserted_at, sequence_number, stream'
)
"""What choosing records, and saying what was chosen, asks of them."""


def number_objects(session: Session, hours: Sequence[tuple[int, int]]) -> None:
    """Make `staged_objects`: number and arrival hour (microseconds) of the objects that count."""
    session.con.execute("CREATE OR REPLACE TABLE staged_objects (number BIGINT, arrival_hour TIMESTAMP)")
    if hours:
        numbers, hours_us = zip(*hours, strict=True)
        fresh = pa.table({"n": pa.array(numbers, pa.int64()), "h": pa.array(hours_us, pa.timestamp("us"))})
        session.con.register("fresh_objects", fresh)
        session.con.execute("INSERT INTO staged_objects SELECT n, h FROM fresh_objects")
        session.con.unregister("fresh_objects")


def with_hours(rows: str) -> str:
    """The staged rows of the objects that count, with the objects' hours."""
    return f"(SELECT c.*, o.arrival_hour FROM {rows} c JOIN staged_objects o ON o.number = c._object)"


def placed(path: Path) -> str:
    """Staged rows, each with a number of its own in `place`."""
    place = "(file_index::BIGINT << 40) + file_row_number"
    return f"(SELECT *, {place} AS place FROM read_parquet({literal(str(path))}, file_row_number = true))"


def choose_first(session: Session, same: tuple[str, ...], rows: str) -> None:
    """Make `chosen`: each of the staged rows once."""
    session.con.execute(
        f"CREATE OR REPLACE TABLE chosen AS SELECT * FROM {rows}"
        f' QUALIFY row_number() OVER (PARTITION BY {same[0]} ORDER BY _object, "offset") = 1'
    )


def leave_out(session: Session, same: tuple[str, ...], known: str) -> None:
    """Take from `chosen` what is known."""
    agree = " AND ".join(f"f.{column} = k.{column}" for column in same)
    session.con.execute(
        f"DELETE FROM chosen WHERE {same[0]} IN (SELECT k.{same[0]} FROM (SELECT {', '.join(same)} FROM {known}) k"
        f" SEMI JOIN chosen f ON {agree})"
    )


def write_chosen(
    session: Session, writer: FileWriter, batch: int, rows: str = "chosen", row_bytes: int = 0
) -> tuple[list[str], Figures]:
    """Write the records of `chosen` as files of the changelog, an arrival hour a file, and say what they are.

    `rows`: the same records, whole, where `chosen` has not all of their columns. `row_bytes`: about what one takes.
    """
    paths: list[str] = []
    hours = session.rows("SELECT arrival_hour, count(*), min(_object), max(_object) FROM chosen GROUP BY 1 ORDER BY 1")
    for hour, _, first, last in hours:
        theirs = f"arrival_hour = TIMESTAMP '{hour.isoformat()}' AND _object BETWEEN {first} AND {last}"
        query = f"SELECT *, {batch} AS _batch FROM {rows} WHERE {theirs}"
        paths += with_memory(session, partial(writer.write_paths, query, row_bytes=row_bytes))
    low, high = session.rows(
        "SELECT min(epoch_us(changed_at)), max(epoch_us(changed_at)) FROM chosen WHERE asserted_at IS NULL"
    )[0]
    sources = session.rows(
        "SELECT DISTINCT CASE WHEN asserted_at IS NOT NULL THEN 'assertion'"
        " WHEN sequence_number IS NOT NULL THEN coalesce(stream, 'stream') ELSE 'time' END FROM chosen"
    )
    by_event = Counter(dict(session.rows("SELECT event_name, count(*) FROM chosen GROUP BY 1")))
    by_hour = Counter({hour.isoformat(): count for hour, count, _, _ in hours})
    return paths, Figures(0, by_hour, by_event, low, high, frozenset(source for (source,) in sources))


def write_chosen_rejected(writer: FileWriter, at: str) -> list[str]:
    """Write the rows of `chosen` as a file of the quarantine."""
    opened = "NULL::TIMESTAMP AS discarded_at, NULL::VARCHAR AS discarded_by, NULL::VARCHAR AS discarded_why"
    return writer.write_paths(f"SELECT *, TIMESTAMP '{at}' AS quarantined_at, {opened} FROM chosen")


def forget_chosen(session: Session) -> None:
    """What was chosen is written."""
    session.con.execute("DROP TABLE chosen")


def quarantine_sql(table: Table) -> str:
    """All that the quarantine has."""
    return scan_table(table).sql()


def files_near(table: Table, times: np.ndarray[Any, Any], span_us: int = 1) -> list[str]:
    """Files of the changelog that may hold one of some records: a duplicate has the same time.

    `times`: when they changed, sorted, each the start of `span_us` microseconds.
    """
    near = []
    for file in live_files(table).data:
        bounds = column_bounds(file, table.schema(), "changed_at")
        if bounds is None:
            near.append(file.file_path)
            continue
        first = int(np.searchsorted(times, bounds[0] - span_us + 1))
        if first < len(times) and times[first] <= bounds[1]:
            near.append(file.file_path)
    return near


def _times(session: Session) -> np.ndarray[Any, Any]:
    column = session.con.execute("SELECT DISTINCT epoch_us(changed_at) AS t FROM chosen").fetchnumpy()["t"]
    return np.sort(np.asarray(column, dtype=np.int64))


def extreme(which: Callable[[Sequence[int]], int], held: int | None, found: int | None) -> int | None:
    """The least or greatest of what is known."""
    known = [value for value in (held, found) if value is not None]
    return which(known) if known else None
