"""Staged rows into the changelog and the quarantine: each distinct record once, with the ledger in the same commit."""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa
from pyiceberg.manifest import DataFile
from pyiceberg.table import Table

from ddb_lake.core.windows import Window, remembered
from ddb_lake.engine.connection import Session
from ddb_lake.engine.sql import literal
from ddb_lake.errors import TransientError, UnreachableError
from ddb_lake.lake.commit import Commit, Delta
from ddb_lake.lake.files import FileWriter, column_bounds, live_files, scan_sql
from ddb_lake.lake.schemas import (
    CHANGES_COLUMNS,
    QUARANTINE_COLUMNS,
    changes_partitioning,
    fixed_schema,
    missing_columns,
)
from ddb_lake.lake.sidecar import LEDGER_COLUMNS
from ddb_lake.lake.state import ChangesState
from ddb_lake.stages.lake import Lake
from ddb_lake.stages.read import IngestedObject, StagedTable

MAX_ATTEMPTS = 12
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class IngestResult:
    """What one table got from some objects.

    `duplicates`: records that were in the changelog already, or twice in the objects. `hours`: new records by
    arrival hour (ISO 8601, UTC).
    """

    table: str
    records: int = 0
    new: int = 0
    duplicates: int = 0
    quarantined: int = 0
    by_event: dict[str, int] = field(default_factory=dict)
    hours: dict[str, int] = field(default_factory=dict)

    def __add__(self, other: IngestResult) -> IngestResult:
        return IngestResult(
            self.table,
            self.records + other.records,
            self.new + other.new,
            self.duplicates + other.duplicates,
            self.quarantined + other.quarantined,
            dict(Counter(self.by_event) + Counter(other.by_event)),
            dict(Counter(self.hours) + Counter(other.hours)),
        )


def until_committed(attempt: Callable[[], T]) -> T:
    """Run `attempt`, which plans and commits, again while another writer commits first or holds the catalog."""
    for tries in range(1, MAX_ATTEMPTS + 1):
        try:
            return attempt()
        except UnreachableError:
            raise
        except TransientError:
            if tries == MAX_ATTEMPTS:
                raise
            time.sleep(random.uniform(0, min(2.0, 0.05 * 2**tries)))
    raise AssertionError("unreachable")


def unseen(lake: Lake, session: Session, table: str, objects: Sequence[Any]) -> list[Any]:
    """Those of `objects` (ObjectRefs) that the changelog of `table` has not ingested."""
    changes = lake.changes(table)
    if changes is None or not objects:
        return list(objects)
    known = _ledger(session, changes, [(ref.uri, ref.version) for ref in objects])
    return [ref for ref in objects if (ref.uri, ref.version) not in known]


def ingest(
    lake: Lake,
    session: Session,
    table: str,
    staged: StagedTable,
    objects: Sequence[IngestedObject],
    key: tuple[str, ...],
    window: Window | None = None,
) -> IngestResult:
    """Commit one table's share of a group of objects: quarantine first, then changelog and ledger at once.

    `window`: what the objects, an incremental export, cover of time; noted in the same commit.

    Exactly-once effect: records that are there already are left out, and so is all of an object that the ledger
    names. A crash between the two commits leaves quarantined bytes that the next run finds there.
    """
    quarantined = until_committed(lambda: _commit_quarantine(lake, session, table, staged, objects))
    result = until_committed(lambda: _commit_changes(lake, session, table, staged, objects, key, window))
    return replace(result, quarantined=quarantined, records=sum(staged.records.values()))


def changes_table(lake: Lake, table: str, key: tuple[str, ...]) -> Table:
    """The changelog, created if there is none."""
    found = lake.changes(table)
    if found is not None:
        return found
    schema = fixed_schema(CHANGES_COLUMNS)
    properties = {"comment": f"Every distinct change record of {table}, once", **ChangesState(key=key).properties()}
    return lake.catalog.create(f"{table}_changes", schema, changes_partitioning(schema), properties)


def quarantine_table(lake: Lake, table: str) -> Table:
    """The quarantine, created if there is none, with columns that an earlier release did not have added to it."""
    found = lake.quarantine(table)
    if found is not None:
        missing = missing_columns(found.schema(), QUARANTINE_COLUMNS)
        if missing:
            with found.update_schema() as update:
                for column in missing:
                    update.add_column(column[0], column[1], column[2])
        return found
    properties = {"comment": f"What could not be taken into {table}, with the reason"}
    return lake.catalog.create(f"{table}_quarantine", fixed_schema(QUARANTINE_COLUMNS), properties=properties)


def _ledger(session: Session, changes: Table, wanted: Sequence[tuple[str, str]]) -> set[tuple[str, str]]:
    state = ChangesState.from_properties(changes.properties)
    if not state.ledger.files:
        return set()
    columns = {"object": [uri for uri, _ in wanted], "version": [version for _, version in wanted]}
    session.con.register("wanted_objects", pa.table(columns))
    try:
        rows = session.rows(
            f"SELECT object, version FROM {state.ledger.sql(LEDGER_COLUMNS)} l SEMI JOIN wanted_objects w"
            " ON l.object = w.object AND l.version = w.version"
        )
    finally:
        session.con.unregister("wanted_objects")
    return {(uri, version) for uri, version in rows}


def _number_objects(session: Session, changes: Table | None, objects: Sequence[IngestedObject]) -> list[IngestedObject]:
    """Make `staged_objects` (number, hour) of the objects that the ledger does not name; gives them."""
    known = _ledger(session, changes, [(o.ref.uri, o.ref.version) for o in objects]) if changes is not None else set()
    fresh = [(n, o) for n, o in enumerate(objects) if (o.ref.uri, o.ref.version) not in known]
    session.con.execute("CREATE OR REPLACE TABLE staged_objects (number BIGINT, arrival_hour TIMESTAMP)")
    if fresh:
        numbers = pa.table(
            {"n": [n for n, _ in fresh], "h": pa.array([o.hour_us for _, o in fresh], type=pa.timestamp("us"))}
        )
        session.con.register("fresh_objects", numbers)
        session.con.execute("INSERT INTO staged_objects SELECT n, h FROM fresh_objects")
        session.con.unregister("fresh_objects")
    return [o for _, o in fresh]


def _commit_quarantine(
    lake: Lake, session: Session, name: str, staged: StagedTable, objects: Sequence[IngestedObject]
) -> int:
    if staged.quarantine.rows == 0:
        return 0
    _number_objects(session, lake.changes(name), objects)
    table = quarantine_table(lake, name)
    live = live_files(table)
    known = scan_sql(table.schema(), live.paths, [f.file_path for f in live.deletes])
    now = lake.now().replace(tzinfo=None).isoformat()
    query = (
        f"SELECT q.* EXCLUDE (_object), o.arrival_hour, TIMESTAMP '{now}' AS quarantined_at"
        f" FROM read_parquet({literal(str(staged.quarantine.path))}) q JOIN staged_objects o ON o.number = q._object"
        f" ANTI JOIN {known} k ON k.quarantine_id = q.quarantine_id"
        ' QUALIFY row_number() OVER (PARTITION BY quarantine_id ORDER BY q._object, "offset") = 1'
    )
    files = FileWriter.for_table(session.con, table).write(query, table.metadata)
    if files:
        _commit(table, files, {})
    return sum(f.record_count for f in files)


def _commit_changes(
    lake: Lake,
    session: Session,
    name: str,
    staged: StagedTable,
    objects: Sequence[IngestedObject],
    key: tuple[str, ...],
    window: Window | None,
) -> IngestResult:
    table = changes_table(lake, name, key)
    state = ChangesState.from_properties(table.properties)
    fresh = _number_objects(session, table, objects)
    if not fresh:
        return IngestResult(name)
    staged_rows = _select_new(session, table, staged)
    batch = state.batch + 1
    writer = FileWriter.for_table(session.con, table)
    files: list[DataFile] = []
    hours: dict[str, int] = {}
    for (hour,) in session.rows("SELECT DISTINCT arrival_hour FROM fresh_changes ORDER BY 1"):
        part = f"SELECT *, {batch} AS _batch FROM fresh_changes WHERE arrival_hour = TIMESTAMP '{hour.isoformat()}'"
        written = writer.write(part, table.metadata)
        files += written
        hours[hour.isoformat()] = sum(f.record_count for f in written)
    new = sum(hours.values())
    grown = _grown(session, state, batch, new, key)
    if window is not None:
        grown = replace(grown, windows=remembered((*grown.windows, window)))
    ledger = state.ledger.append(session.con, table, _ledger_rows(session, fresh), LEDGER_COLUMNS)
    by_event = dict(session.rows("SELECT event_name, count(*) FROM fresh_changes GROUP BY 1"))
    _commit(table, files, replace(grown, ledger=ledger).properties())
    session.con.execute("DROP TABLE fresh_changes")
    return IngestResult(name, 0, new, staged_rows - new, 0, by_event, hours)


def _select_new(session: Session, table: Table, staged: StagedTable) -> int:
    """Make `fresh_changes`: the staged rows that are not in the changelog, each once. Gives the number staged."""
    source = f"read_parquet({literal(str(staged.changes.path))})"
    session.con.execute(
        "CREATE OR REPLACE TABLE fresh_changes AS SELECT c.* EXCLUDE (_object), o.arrival_hour"
        f" FROM {source} c JOIN staged_objects o ON o.number = c._object"
        ' QUALIFY row_number() OVER (PARTITION BY record_id ORDER BY _object, c."offset") = 1'
    )
    staged_rows: int = session.value(f"SELECT count(*) FROM {source} c JOIN staged_objects o ON o.number = c._object")
    near = _files_near(session, table)
    if near:
        known = f"(SELECT record_id, changed_at FROM {scan_sql(table.schema(), near)})"
        session.con.execute(
            f"DELETE FROM fresh_changes WHERE record_id IN (SELECT k.record_id FROM {known} k SEMI JOIN fresh_changes f"
            " ON f.record_id = k.record_id AND f.changed_at = k.changed_at)"
        )
    return staged_rows


def _files_near(session: Session, table: Table) -> list[str]:
    """Files of the changelog that may hold one of the fresh records: a duplicate has the same time."""
    live = live_files(table)
    if not live.data:
        return []
    column = session.con.execute("SELECT DISTINCT epoch_us(changed_at) AS t FROM fresh_changes").fetchnumpy()["t"]
    times = np.sort(np.asarray(column, dtype=np.int64))
    near = []
    for file in live.data:
        bounds = column_bounds(file, table.schema(), "changed_at")
        if bounds is None:
            near.append(file.file_path)
            continue
        first = int(np.searchsorted(times, bounds[0]))
        if first < len(times) and times[first] <= bounds[1]:
            near.append(file.file_path)
    return near


def _grown(session: Session, state: ChangesState, batch: int, new: int, key: tuple[str, ...]) -> ChangesState:
    """The changelog's state with `fresh_changes` added."""
    low, high = session.rows(
        "SELECT min(epoch_us(changed_at)), max(epoch_us(changed_at)) FROM fresh_changes WHERE asserted_at IS NULL"
    )[0]
    sources = session.rows(
        "SELECT DISTINCT CASE WHEN asserted_at IS NOT NULL THEN 'assertion'"
        " WHEN sequence_number IS NOT NULL THEN coalesce(stream, 'stream') ELSE 'time' END FROM fresh_changes"
    )
    return replace(
        state,
        key=state.key if state.records else key or state.key,
        batch=batch,
        records=state.records + new,
        first_change_us=_least(state.first_change_us, low),
        last_change_us=high
        if state.last_change_us is None
        else max(state.last_change_us, high or state.last_change_us),
        sources=tuple(sorted({*state.sources, *(source for (source,) in sources)})),
    )


def _least(held: int | None, found: int | None) -> int | None:
    known = [value for value in (held, found) if value is not None]
    return min(known) if known else None


def _ledger_rows(session: Session, objects: Sequence[IngestedObject]) -> str:
    rows = pa.table(
        {
            "object": [o.ref.uri for o in objects],
            "version": [o.ref.version for o in objects],
            "size_bytes": pa.array([o.ref.size_bytes for o in objects], type=pa.int64()),
            "arrival_hour": pa.array([o.hour_us for o in objects], type=pa.timestamp("us")),
            "records": pa.array([o.records for o in objects], type=pa.int64()),
        }
    )
    session.con.register("ledger_rows", rows)
    return "SELECT * FROM ledger_rows"


def _commit(table: Table, files: Sequence[DataFile], properties: dict[str, str]) -> None:
    commit = Commit(table)
    commit.snapshot(Delta(added=files))
    commit.set_properties(properties)
    commit.run()
