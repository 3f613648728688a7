"""The quarantine of a table, read: its open entries, by reason or one by one, and those that were discarded.

`pipeline.maintain.quarantine` replays and discards entries.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pyiceberg.table import Table

from ddb_lake.lake.scan import live_files, scan_table
from ddb_lake.lake.schemas import QUARANTINE_COLUMNS, duckdb_type, fixed_schema
from ddb_lake.pipeline.open_lake import Lake

if TYPE_CHECKING:  # for annotations: `ddb-lake status` reads metadata only
    from ddb_lake.engine.session import Session

DISCARDED = "ddb_lake.discarded"
"""Property of a quarantine: the number of its discarded entries."""


@dataclass(frozen=True, slots=True)
class QuarantineGroup:
    """Open entries with the same reason: their number, and the times of the first and last (UTC microseconds, inclusive)."""

    reason: str
    count: int
    first_us: int
    last_us: int


@dataclass(frozen=True, slots=True)
class QuarantineEntry:
    """One open entry.

    Attributes:
        quarantine_id: the id, made of the place and the bytes.
        reason: why the bytes are no record.
        raw: the bytes.
        object: the landed object that has them.
        offset: their first byte in the decompressed object.
        quarantined_us: when they were quarantined (UTC microseconds).
        asserted_us: for a line of an incremental export, the (exclusive) end of its window.
    """

    quarantine_id: str
    reason: str
    raw: bytes
    object: str
    offset: int
    quarantined_us: int
    asserted_us: int | None = None


@dataclass(frozen=True, slots=True)
class Discarded:
    """Entries that were discarded together. `why`: the cause that the user gave. `discarded_us`: UTC microseconds."""

    reason: str
    count: int
    discarded_us: int
    discarded_by: str
    why: str


def list_quarantine(lake: Lake, name: str) -> list[QuarantineGroup]:
    """The open entries of a table by reason, the most frequent first. Raises ConfigError if the table is not configured."""
    lake.table(name)
    with lake.session() as session:
        times = "min(epoch_us(quarantined_at)), max(epoch_us(quarantined_at))"
        query = f"SELECT reason, count(*), {times} FROM {_entries_sql(lake, name)} GROUP BY 1 ORDER BY 2 DESC, 1"
        return [QuarantineGroup(*row) for row in session.rows(query)]


def show_quarantine(lake: Lake, name: str, limit: int | None = 20) -> list[QuarantineEntry]:
    """The first open entries of a table, in landing order. `limit`: None for all."""
    lake.table(name)
    with lake.session() as session:
        return open_entries(lake, session, name, "" if limit is None else f"LIMIT {int(limit)}")


def list_discarded(lake: Lake, name: str) -> list[Discarded]:
    """The discarded entries of a table, the newest first."""
    lake.table(name)
    with lake.session() as session:
        rows = session.rows(
            "SELECT reason, count(*), epoch_us(discarded_at), discarded_by, discarded_why"
            f" FROM {_entries_sql(lake, name, discarded=True)} GROUP BY ALL ORDER BY 3 DESC, 2 DESC, 1"
        )
    return [Discarded(*row) for row in rows]


def count_open(quarantine: Table | None) -> int:
    """The number of open entries of a quarantine, from the metadata of the Iceberg table alone."""
    if quarantine is None:
        return 0
    return live_files(quarantine).rows - int(quarantine.properties.get(DISCARDED, "0"))


def _entries_sql(lake: Lake, name: str, discarded: bool = False) -> str:
    """The open or the discarded entries. Columns that the table of an earlier release lacks are NULL."""
    table = lake.quarantine(name)
    nulls = {
        f.name: f'NULL::{duckdb_type(f.field_type)} AS "{f.name}"' for f in fixed_schema(QUARANTINE_COLUMNS).fields
    }
    if table is None:
        return f"(SELECT {', '.join(nulls.values())} WHERE false)"
    rows = scan_table(table).sql()
    known = {field.name for field in table.schema().fields}
    columns = ", ".join(["*", *(null for name, null in nulls.items() if name not in known)])
    state = "NOT NULL" if discarded else "NULL"
    return f"(SELECT * FROM (SELECT {columns} FROM {rows}) WHERE discarded_at IS {state})"


def open_entries(lake: Lake, session: Session, name: str, limit: str = "") -> list[QuarantineEntry]:
    """The open entries in landing order. `limit`: a LIMIT clause."""
    rows = session.rows(
        'SELECT quarantine_id, reason, raw, object, "offset", epoch_us(quarantined_at), epoch_us(asserted_at)'
        f' FROM {_entries_sql(lake, name)} ORDER BY object, "offset", quarantine_id {limit}'
    )
    return [QuarantineEntry(*row) for row in rows]
