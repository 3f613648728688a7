"""The ledger: the Iceberg table `<table>_objects`, with a row for each version of a landed object that was ingested.

The ledger saves work, and its figures are an audit. The tables do not depend on it: an object that it does not name is read
again, and its records are found in the changelog. So the order of the commits matters:

1. An object is added after the commit of its records to the changelog, never before. After a crash between the two commits,
   the object is read again, all its records are duplicates, and then it is added. `new` is 0 in that case.
2. An object is added once. If another writer adds objects at the same time, the commit is repeated without those that the
   ledger has by then. Nothing else is planned again.

Rows are sorted by `object`, and the manifests have the whole names as bounds. A look-up reads the files whose bounds contain one
of the names. A commit that makes the `TIER_FILES`th file of about one number of rows replaces these files by one.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
from pyiceberg.manifest import DataFile
from pyiceberg.table import Table

from ddb_lake.core.layout.table_names import OBJECTS
from ddb_lake.core.operations.retry_policy import retry_commit
from ddb_lake.engine.session import Session
from ddb_lake.engine.sql import literals
from ddb_lake.errors import CommitConflict
from ddb_lake.lake.commit import Delta
from ddb_lake.lake.compaction_policy import SMALL_FILE_BYTES
from ddb_lake.lake.file_writer import FileWriter
from ddb_lake.lake.lake_format import REFUSED_BY_FORMAT_1, format_properties
from ddb_lake.lake.replacement import replace_rows
from ddb_lake.lake.scan import TableScan, column_bounds, scan_table
from ddb_lake.lake.schemas import OBJECTS_COLUMNS, fixed_schema
from ddb_lake.pipeline.apply.deduplication import Figures, NumberedObjects
from ddb_lake.pipeline.apply.format_1 import Format1Ledger, objects_of_changelog
from ddb_lake.pipeline.apply.object_reader import IngestedObject
from ddb_lake.pipeline.open_lake import Lake

TIER_FILES = 8
"""The number of files of about one number of rows that are merged. A file of n rows was written about log8(n) times."""

_COMPLETE = "ddb_lake.complete"
"""A property of the ledger: it is the whole ledger. In a lake of format 1, it is not until the upgrade has filled it."""

_PROPERTIES = {"write.metadata.metrics.column.object": "full"}  # by default, bounds have the first 16 characters


@dataclass(frozen=True, slots=True)
class Ledger:
    """The ledger of a table at one moment.

    Attributes:
        table: the Iceberg table; None if it does not exist yet.
        scan: its rows.
        format_1: the ledger instead, of a lake that is not upgraded.
    """

    table: Table | None
    scan: TableScan
    format_1: Format1Ledger | None = None

    @property
    def rows(self) -> int:
        """The number of ingested objects."""
        return self.scan.live.rows if self.format_1 is None else self.format_1.rows

    def sql(self, names: Iterable[str] | None = None) -> str:
        """A relation with the columns `OBJECTS_COLUMNS`.

        Args:
            names: names of objects. The relation then has at least the rows of these objects; by default, all rows.
        """
        if self.format_1 is not None:
            return self.format_1.sql()
        return self.scan.sql() if names is None else self.scan.sql(self.files_of(names))

    def files_of(self, names: Iterable[str]) -> list[str]:
        """The data files that may have rows of these objects."""
        wanted = sorted(names)
        return [file.file_path for file in self.scan.live.data if _may_have(file, self.scan, wanted)]

    def ingested(self, session: Session, objects: Sequence[tuple[str, str]]) -> set[tuple[str, str]]:
        """Those of some objects (name and version) that the ledger has."""
        if not objects or not self.rows:
            return set()
        names, versions = zip(*objects, strict=True)
        wanted = {"object": pa.array(names, pa.string()), "version": pa.array(versions, pa.string())}
        with _registered(session, "wanted_objects", pa.table(wanted)) as relation:
            rows = session.rows(
                f"SELECT w.object, w.version FROM {relation} w SEMI JOIN {self.sql(names)} l"
                " ON l.object = w.object AND (l.version IS NULL OR l.version = w.version)"
            )
        return {(uri, version) for uri, version in rows}

    def ingested_names(self, session: Session, names: Sequence[str]) -> set[str]:
        """Those of `names` that the ledger has, in any version."""
        if not names or not self.rows:
            return set()
        with _registered(session, "wanted_objects", pa.table({"object": list(names)})) as relation:
            rows = session.rows(
                f"SELECT DISTINCT l.object FROM {self.sql(names)} l SEMI JOIN {relation} w ON l.object = w.object"
            )
        return {name for (name,) in rows}


def _may_have(file: DataFile, scan: TableScan, wanted: Sequence[Any], column: str = "object") -> bool:
    """Whether a file may have rows with one of the values `wanted`, which are sorted, in a column."""
    bounds = column_bounds(file, scan.schema, column)
    if bounds is None:
        return True
    first = bisect_left(wanted, bounds[0])
    return first < len(wanted) and wanted[first] <= bounds[1]


def read_ledger(lake: Lake, name: str) -> Ledger:
    """The ledger of a table as it is now."""
    table = lake.ledger(name)
    nothing = TableScan(fixed_schema(OBJECTS_COLUMNS))
    if table is None or _COMPLETE not in table.properties:
        changes = lake.changes(name)
        format_1 = Format1Ledger.of(changes) if changes is not None else None
        if format_1 is not None:
            return Ledger(table, nothing, format_1)
    return Ledger(table, nothing if table is None else scan_table(table))


def objects_in_changelog(lake: Lake, session: Session, name: str, objects: Sequence[IngestedObject]) -> set[str]:
    """The names of those of some objects that brought records to the changelog, whether the ledger has them or not.

    It reads the changelog's files of the arrival hours of these objects.
    """
    changes = lake.changes(name)
    if changes is None or not objects:
        return set()
    hours, scan = sorted(o.hour_us for o in objects), scan_table(changes)
    files = [file.file_path for file in scan.live.data if _may_have(file, scan, hours, "arrival_hour")]
    names = literals(o.ref.uri for o in objects)
    found = session.rows(f"SELECT DISTINCT object FROM {scan.sql(files)} WHERE list_contains({names}, object)")
    return {uri for (uri,) in found}


def ledger_rows(lake: Lake, name: str, objects: NumberedObjects, figures: Figures) -> pa.Table:
    """The ledger's rows for objects that were ingested now.

    Args:
        lake: the open lake, whose clock gives the time.
        name: the table.
        objects: the objects.
        figures: those of the records that were new.
    """
    own = [o.tables.get(name, (0, 0)) for _, o in objects]
    others = [o.records - records for (_, o), (records, _) in zip(objects, own, strict=True)]
    times = pa.timestamp("us")
    return pa.table(
        {
            "object": pa.array([o.ref.uri for _, o in objects], type=pa.string()),
            "version": pa.array([o.ref.version for _, o in objects], type=pa.string()),
            "size_bytes": pa.array([o.ref.size_bytes for _, o in objects], type=pa.int64()),
            "arrival_hour": pa.array([o.hour_us for _, o in objects], type=times),
            "records": pa.array([o.records for _, o in objects], type=pa.int64()),
            "new": pa.array([figures.by_object[number] for number, _ in objects], type=pa.int64()),
            "rejected": pa.array([rejected for _, rejected in own], type=pa.int64()),
            "other_tables": pa.array(others, type=pa.int64()),
            "landed_at": pa.array([o.ref.modified_us or None for _, o in objects], type=times),
            "ingested_at": pa.array([lake.now().replace(tzinfo=None)] * len(objects), type=times),
        }
    )


def add_objects(lake: Lake, session: Session, name: str, rows: pa.Table, ledger: Ledger) -> None:
    """Add objects whose records are in the changelog. Those that the ledger has by now are left out.

    Args:
        lake: the open lake.
        session: a session for the work.
        name: the table.
        rows: rows of `ledger_rows` that `ledger` does not have.
        ledger: the ledger as it was read before. If it is stale, it is read again.

    Raises:
        TransientError: another writer committed first in each attempt. The objects will be read again.
    """
    known = [ledger]

    def attempt() -> None:
        if known:
            _append(lake, session, name, rows, known.pop())
            return
        current = read_ledger(lake, name)
        names = [(row["object"], row["version"]) for row in rows.select(["object", "version"]).to_pylist()]
        ingested = current.ingested(session, names)
        missing = pa.array([named not in ingested for named in names], type=pa.bool_())
        _append(lake, session, name, rows.filter(missing), current)

    retry_commit(attempt)


def _append(lake: Lake, session: Session, name: str, rows: pa.Table, ledger: Ledger) -> None:
    if not rows.num_rows:
        return
    table = ledger.table
    if table is None:
        table = _create(lake, name, complete=True)
        if table.current_snapshot() is not None:
            raise CommitConflict("another writer created the ledger at the same time", table=name)
    merged = _files_to_merge(ledger.scan.live.data, rows.num_rows)
    with _registered(session, "ledger_rows", rows) as query:
        if merged:
            former = ledger.scan.sql([file.file_path for file in merged])
            query = f"(FROM {former} UNION ALL BY NAME SELECT * FROM {query})"
        added = FileWriter.for_table(session.con, table).write(f"FROM {query} ORDER BY object", table.metadata)
    commit = lake.commit(table)
    commit.snapshot(Delta(added=added, removed=frozenset(file.file_path for file in merged)))
    commit.run()


def _files_to_merge(files: Iterable[DataFile], rows: int) -> list[DataFile]:
    """The files that are written again with a number of new rows."""
    tiers: dict[int, list[DataFile]] = defaultdict(list)
    for file in files:
        if file.file_size_in_bytes < SMALL_FILE_BYTES:
            tiers[_tier(file.record_count)].append(file)
    merged: list[DataFile] = []
    while len(tiers[_tier(rows)]) + 1 >= TIER_FILES:
        full = tiers.pop(_tier(rows))
        merged += full
        rows += sum(file.record_count for file in full)
    return merged


def _tier(rows: int) -> int:
    """The class of a number of rows: 0 for 1 to 7, 1 for 8 to 63 and so on."""
    return (rows.bit_length() - 1) // 3


def _create(lake: Lake, name: str, complete: bool) -> Table:
    properties = {"comment": f"Every landed object that was ingested into {name}, with what became of its records"}
    properties |= _PROPERTIES | ({_COMPLETE: "true"} if complete else {})
    return lake.catalog.create(name + OBJECTS, fixed_schema(OBJECTS_COLUMNS), properties=properties)


@contextmanager
def _registered(session: Session, relation: str, rows: pa.Table) -> Iterator[str]:
    session.con.register(relation, rows)
    try:
        yield relation
    finally:
        session.con.unregister(relation)


# --- the ledger from the changelog


def derive_ledger(lake: Lake, name: str) -> int:
    """Replace the ledger by what the changelog says of it, in one commit. No file of the former ledger is read.

    Returns:
        The number of objects.

    Raises:
        DamagedError: the changelog cannot be read.
        CommitConflict: another writer added objects at the same time.
    """
    table = lake.ledger(name) or _create(lake, name, complete=True)
    changes = lake.changes(name)
    added: list[DataFile] = []
    if changes is not None:
        upgraded(lake, name, changes)
        with lake.session() as session:
            rows = f"FROM {TableScan(fixed_schema(OBJECTS_COLUMNS)).sql()} UNION ALL BY NAME FROM {objects_of_changelog(changes)}"
            added = FileWriter.for_table(session.con, table).write(f"FROM ({rows}) ORDER BY object", table.metadata)
    replace_rows(table, added, {_COMPLETE: "true"})
    return sum(file.record_count for file in added)


# --- the upgrade of a lake of format 1


def upgraded(lake: Lake, name: str, changes: Table) -> Table:
    """Bring the ledger of a changelog to the present format, if an earlier release wrote it. Call it before any other write.

    Idempotent, also after a crash: first the ledger is filled in one commit, then the changelog states the format. From then on
    earlier releases refuse the lake, and compaction removes the files of the former ledger after a day.

    Args:
        lake: the open lake.
        name: the table.
        changes: its changelog.

    Returns:
        The changelog after the upgrade.
    """
    if Format1Ledger.of(changes) is None:
        return changes
    retry_commit(lambda: _fill(lake, name))
    return retry_commit(lambda: _state_format(lake, name))


def _fill(lake: Lake, name: str) -> None:
    changes = lake.changes(name)
    former = Format1Ledger.of(changes) if changes is not None else None
    table = lake.ledger(name)
    if former is None or (table is not None and _COMPLETE in table.properties):
        return
    if former.lost:
        lake.warn(
            f"{name}: {len(former.lost)} of {len(former.lost) + len(former.paths)} files of its ledger do not exist. The ledger is"
            " derived from the changelog: landed objects that brought no record are read once more, and an object that was"
            " rewritten since it was ingested is not read again"
        )
    table = table or _create(lake, name, complete=False)
    with lake.session() as session:
        added = FileWriter.for_table(session.con, table).write(f"FROM {former.sql()} ORDER BY object", table.metadata)
    commit = lake.commit(table)
    commit.snapshot(Delta(added=added, replace_all=True))
    commit.set_properties({_COMPLETE: "true"})
    commit.run()


def _state_format(lake: Lake, name: str) -> Table:
    changes = lake.changes(name)
    assert changes is not None, "it was there before"
    if Format1Ledger.of(changes) is None:
        return changes
    commit = lake.commit(changes)
    commit.snapshot(Delta())
    commit.set_properties({**format_properties(), "ddb_lake.ledger": REFUSED_BY_FORMAT_1})
    return commit.run()
