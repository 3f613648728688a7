"""Compare the lake's rows with those of a replica, at the state that the replica has.

Both sides are read once, in the order of `_key`, in bounded memory. The database is read in one consistent snapshot, and
the lake at the position stored in that snapshot, so concurrent writes do not matter. A difference is reported by the hash of
its key, never by a value.
"""

from __future__ import annotations

import base64
import math
from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

import orjson
from pyiceberg.table import Table

from ddb_lake.core.values.numbers import canonical_number
from ddb_lake.engine.session import Session
from ddb_lake.errors import UndecodableError, UsageError
from ddb_lake.mysql.columns import Replicated
from ddb_lake.mysql.position import Position, read_position
from ddb_lake.mysql.replica_table import ensure_state, rejected_reasons, rejected_rows
from ddb_lake.mysql.replication import aurora_settings, connect_replica, rows_as_text_sql, target_of
from ddb_lake.mysql.statements import KEY, Target, identifier
from ddb_lake.pipeline.open_lake import Lake

if TYPE_CHECKING:
    from ddb_lake.mysql.connection import Database

SAMPLE_ROWS: Final = 10_000
FETCH_ROWS: Final = 1_000
MAX_EXAMPLES: Final = 20
SLICES: Final = 1 << 16
"""A sample is a stretch of the keys' hashes, cut at their first two bytes."""


@dataclass(frozen=True, slots=True)
class ComparisonResult:
    """How the database's table compares with the lake's at the same state.

    `lake_rows`, `target_rows`: all rows there are. `compared`: the number of compared keys; `missing` are not in the
    database, `extra` not in the lake, and `different` in some column; `examples`: the hashes of the first of them, with
    what is different. `rejected`: rows that the database rejected and has not taken since, of all rows. `lag_s`: how long ago
    the lake got what the database has not; 0 if there is no such thing.
    """

    table: str
    target: str
    lake_rows: int
    target_rows: int
    compared: int = 0
    missing: int = 0
    extra: int = 0
    different: int = 0
    examples: tuple[tuple[str, str], ...] = ()
    lag_s: float = 0.0
    rejected: int = 0

    @property
    def equal(self) -> bool:
        """Whether no difference was found."""
        same_rows = self.lake_rows == self.target_rows
        return same_rows and not (self.missing or self.extra or self.different or self.rejected)


def compare(lake: Lake, name: str, sample: int | None = SAMPLE_ROWS) -> ComparisonResult:
    """Compare the rows. `sample`: about how many, a stretch that differs from state to state; None: all, 0: count only.

    Raises:
        UsageError: nothing was replicated yet, or the state is no longer in the lake's history: replicate first.
    """
    settings = aurora_settings(lake.table(name))
    target = target_of(name, settings)
    with connect_replica(settings) as database:
        ensure_state(database, target)
        database.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        database.execute("START TRANSACTION WITH CONSISTENT SNAPSHOT, READ ONLY")
        position = read_position(database, target)
        table = lake.current(name)
        if position is None or table is None or table.snapshot_by_id(position.snapshot_id) is None:
            raise UsageError(
                f"the database has no state that the lake still knows: `ddb-lake aurora {name}`", table=name
            )
        rows: int = database.value(f"SELECT COUNT(*) FROM {target.name}")
        rejected = rejected_rows(database, target).count
        stretch = _stretch(position, sample)
        found = _Differences()
        if sample != 0:
            with lake.session() as session, closing(_database_rows(database, target, position, stretch)) as stored:
                found = _sweep(position, _lake_rows(session, table, position, stretch), stored)
        reasons = rejected_reasons(database, target, [key for key, _ in found.examples()])
    lag_s = _lag_s(table, position.snapshot_id, lake.now().timestamp())
    examples = tuple((key, _with_reason(what, reasons.get(key))) for key, what in found.examples())
    return ComparisonResult(name, target.name, position.rows, rows, *found.figures, examples, lag_s, rejected)


def _with_reason(what: str, reason: str | None) -> str:
    return what if reason is None else f"{what}, as the database rejected it: {reason}"


def _lag_s(table: Table, since: int, now_s: float) -> float:
    """The age of the first snapshot of the lake after the one that the database has, in seconds; 0 without one."""
    by_parent = {snapshot.parent_snapshot_id: snapshot for snapshot in _history(table)}
    after = by_parent.get(since)
    return max(0.0, now_s - after.timestamp_ms / 1000) if after is not None else 0.0


def _history(table: Table) -> Iterator[Any]:
    """The snapshots of `main` that have not expired, newest first."""
    known = {snapshot.snapshot_id: snapshot for snapshot in table.snapshots()}
    at = table.current_snapshot()
    while at is not None:
        yield at
        at = known.get(at.parent_snapshot_id) if at.parent_snapshot_id is not None else None


# --- the two sides


@dataclass(frozen=True, slots=True)
class _Stretch:
    """Hashes from `first` (inclusive) to `last` (exclusive, None: to the end), in hexadecimal."""

    first: str = ""
    last: str | None = None


def _stretch(position: Position, sample: int | None) -> _Stretch:
    if not sample or position.rows <= sample:
        return _Stretch()
    width = max(1, math.ceil(SLICES * sample / position.rows))
    first = position.snapshot_id % (SLICES - width + 1)
    last = first + width
    return _Stretch(f"{first:04x}", f"{last:04x}" if last < SLICES else None)


def _lake_rows(session: Session, table: Table, position: Position, stretch: _Stretch) -> Iterator[tuple[Any, ...]]:
    """The lake's rows: the key's hash in hexadecimal, then the columns' texts."""
    names = ", ".join(f"c{number}" for number in range(len(position.layout)))
    rows = f"(SELECT sha256(k) AS h, * FROM {rows_as_text_sql(table, position, position.layout)})"
    limits = [f"h >= '{stretch.first}'"] + ([f"h < '{stretch.last}'"] if stretch.last else [])
    session.con.execute(f"SELECT h, {names} FROM {rows} WHERE {' AND '.join(limits)} ORDER BY h")
    while found := session.con.fetchmany(FETCH_ROWS):
        yield from found


def _database_rows(
    database: Database, target: Target, position: Position, stretch: _Stretch
) -> Generator[tuple[Any, ...], None, None]:
    """The database's rows: the key's hash in hexadecimal, then the columns' values."""
    names = ", ".join(identifier(one.sql.name) for one in position.layout)
    limits = [f"{KEY} >= %s"] + ([f"{KEY} < %s"] if stretch.last else [])
    arguments = [bytes.fromhex(edge).ljust(32, b"\0") for edge in (stretch.first, stretch.last) if edge is not None]
    sql = f"SELECT HEX({KEY}), {names} FROM {target.name} WHERE {' AND '.join(limits)} ORDER BY {KEY}"
    for key, *values in database.stream(sql, arguments):
        yield (key.lower(), *values)


# --- the sweep


class _Differences:
    """Counts and examples of differences."""

    def __init__(self) -> None:
        self.compared = self.missing = self.extra = self.different = 0
        self._examples: list[tuple[str, str]] = []

    @property
    def figures(self) -> tuple[int, int, int, int]:
        """Keys compared, missing, extra, different."""
        return self.compared, self.missing, self.extra, self.different

    def examples(self) -> tuple[tuple[str, str], ...]:
        """The first differences."""
        return tuple(self._examples)

    def note(self, key: str, what: str) -> None:
        """Keep a difference as an example, up to `MAX_EXAMPLES`."""
        if len(self._examples) < MAX_EXAMPLES:
            self._examples.append((key, what))


def _sweep(position: Position, expected: Iterator[tuple[Any, ...]], stored: Iterator[tuple[Any, ...]]) -> _Differences:
    """Merge both sides; each is ordered by the key's hash, which is unique."""
    findings = _Differences()
    ours, theirs = next(expected, None), next(stored, None)
    while ours is not None or theirs is not None:
        findings.compared += 1
        if theirs is None or (ours is not None and ours[0] < theirs[0]):
            assert ours is not None, "the loop ends when both are exhausted"
            findings.missing += 1
            findings.note(ours[0], "not in the database")
            ours = next(expected, None)
        elif ours is None or theirs[0] < ours[0]:
            findings.extra += 1
            findings.note(theirs[0], "not in the lake")
            theirs = next(stored, None)
        else:
            if different := _different_columns(position.layout, ours[1:], theirs[1:]):
                findings.different += 1
                findings.note(ours[0], f"other values of {', '.join(different)}")
            ours, theirs = next(expected, None), next(stored, None)
    return findings


def _different_columns(layout: tuple[Replicated, ...], texts: tuple[Any, ...], values: tuple[Any, ...]) -> list[str]:
    """Names of the columns whose value differs."""
    return [
        one.sql.name for one, text, value in zip(layout, texts, values, strict=True) if not is_equal(one, text, value)
    ]


def is_equal(column: Replicated, text: str | None, value: Any) -> bool:
    """Whether the database's value equals the lake's, given as text."""
    if text is None or value is None:
        return text is None and value is None
    kind = column.column.type
    try:
        if kind == "json" or kind.startswith("list<"):
            return bool(orjson.loads(text) == orjson.loads(value))
        if kind == "binary":
            return isinstance(value, bytes) and base64.b64decode(text) == value
        if kind in _PARSERS:
            return bool(_PARSERS[kind](text) == _PARSERS[kind](str(value)))
        if kind.startswith("decimal"):
            return canonical_number(text) == canonical_number(
                f"{value:f}" if hasattr(value, "adjusted") else str(value)
            )
    except (ValueError, UndecodableError):
        return False
    return text == (value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value))


_PARSERS: Final[dict[str, Callable[[str], Any]]] = {
    "long": int,
    "double": float,
    "boolean": int,
    "timestamp": datetime.fromisoformat,
}
