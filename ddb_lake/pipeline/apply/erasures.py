"""The record of erased keys: the Iceberg table `<table>_erasures`, which no value of an item enters.

An erasure has a row when it begins, one before each copy outside of the lake from which it erases, and one when it is complete, which
comes after the last copy. From the first row on, ingests and loads refuse the key.
They read this table after the table to which they commit, and an erasure writes its first row before it commits to that table. So a
writer that did not see the row conflicts with the erasure's commit, and plans again.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable
from dataclasses import dataclass

import orjson
import pyarrow as pa
from pyiceberg.table import Table

from ddb_lake.core.layout.table_names import ERASURES
from ddb_lake.core.operations.retry_policy import retry_commit
from ddb_lake.core.values.erased_keys import ErasedKeys
from ddb_lake.engine.session import Session
from ddb_lake.lake.commit import Delta, check_newest_commit
from ddb_lake.lake.erasure_state import unfinished_properties
from ddb_lake.lake.file_writer import FileWriter
from ddb_lake.lake.scan import scan_table
from ddb_lake.lake.schemas import ERASURES_COLUMNS, fixed_schema
from ddb_lake.pipeline.open_lake import Lake

_SALT = "ddb_lake.erasures-salt"
_KEY = "ddb_lake.erasures-key"


@dataclass(frozen=True, slots=True)
class ErasureRow:
    """A row of the table of erasures, without the digest of its key.

    Attributes:
        erasure_id: the id of the run.
        erased_us: when it began (UTC microseconds).
        allows_recreation: whether later changes make the item again.
        command: how it was requested.
        completed_us: when it was complete; None before.
        removed: JSON of what was removed so far; None at its beginning.
        not_reached: JSON of what could not be changed.
    """

    erasure_id: str
    erased_us: int
    allows_recreation: bool
    command: str
    completed_us: int | None = None
    removed: str | None = None
    not_reached: str | None = None


def read_erased_keys(lake: Lake, session: Session, name: str) -> ErasedKeys:
    """The keys of a table that were erased. Read the table to which the caller commits before.

    If a key was erased several times, the newest erasure decides.
    """
    table = lake.erasures(name)
    if table is None:
        return ErasedKeys()
    check_newest_commit(table)  # if another tool rolled it back, erased items would come back
    rows = session.rows(
        "SELECT key_digest, max(epoch_us(erased_at)), arg_max(allows_recreation, erased_at)"
        f" FROM {scan_table(table).sql()} GROUP BY 1"
    )
    known = _without_keys(table)
    return ErasedKeys(known.key, known.salt, {digest: us if allowed else None for digest, us, allowed in rows})


def count_erased(lake: Lake, name: str) -> int:
    """The number of keys of a table that were erased."""
    if lake.erasures(name) is None:
        return 0
    with lake.session() as session:
        return len(read_erased_keys(lake, session, name).until_us)


def open_erasures(lake: Lake, name: str, key: tuple[str, ...]) -> ErasedKeys:
    """Create the table of erasures with its salt, if it does not exist. Returns an `ErasedKeys` that makes digests, without keys."""
    table = lake.erasures(name)
    if table is None:
        properties = {
            "comment": f"Erased keys of {name}, as digests",
            _SALT: secrets.token_hex(32),
            _KEY: orjson.dumps(key).decode(),
        }
        table = lake.catalog.create(name + ERASURES, fixed_schema(ERASURES_COLUMNS), properties=properties)
    return _without_keys(table)


def _without_keys(table: Table) -> ErasedKeys:
    return ErasedKeys(tuple(orjson.loads(table.properties[_KEY])), table.properties[_SALT])


def pending_erasures(lake: Lake, session: Session, name: str) -> dict[str, int]:
    """The beginning (UTC microseconds) of the newest erasure of each key whose newest erasure is not complete, by digest."""
    table = lake.erasures(name)
    return {} if table is None else _pending(session, scan_table(table).sql())


def _pending(session: Session, rows: str) -> dict[str, int]:
    """As `pending_erasures`, of a relation of rows of the table of erasures."""
    return dict(
        session.rows(
            f"SELECT key_digest, max(epoch_us(erased_at)) FROM {rows} GROUP BY 1"
            " HAVING max(erased_at) > coalesce(max(erased_at) FILTER (completed_at IS NOT NULL), TIMESTAMP '0001-01-01')"
        )
    )


def add_erasure(lake: Lake, session: Session, name: str, digests: Iterable[str], row: ErasureRow) -> None:
    """Add a row for each key of an erasure."""
    all_digests = list(digests)
    count = len(all_digests)
    times = pa.timestamp("us")
    rows = pa.table(
        {
            "erasure_id": [row.erasure_id] * count,
            "key_digest": pa.array(all_digests, pa.string()),
            "erased_at": pa.array([row.erased_us] * count, times),
            "allows_recreation": pa.array([row.allows_recreation] * count, pa.bool_()),
            "completed_at": pa.array([row.completed_us] * count, times),
            "command": pa.array([row.command] * count, pa.string()),
            "removed": pa.array([row.removed] * count, pa.string()),
            "not_reached": pa.array([row.not_reached] * count, pa.string()),
        }
    )

    def attempt() -> None:
        table = lake.erasures(name)
        assert table is not None, "open_erasures has created it"
        session.con.register("erasure_rows", rows)
        try:
            added = FileWriter.for_table(session.con, table).write("FROM erasure_rows", table.metadata)
            columns = "SELECT key_digest, erased_at, completed_at FROM"
            all_rows = f"({columns} {scan_table(table).sql()} UNION ALL {columns} erasure_rows)"
            pending = _pending(session, all_rows)
        finally:
            session.con.unregister("erasure_rows")
        lake.commit_delta(table, Delta(added=added), unfinished_properties(pending.values()))

    if count:
        retry_commit(attempt)
