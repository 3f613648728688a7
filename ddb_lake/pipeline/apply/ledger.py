"""The ledger: the Iceberg table `<table>_objects`, with a row for each version of a landed object that was ingested.

The ledger prevents repeated reading, and its figures show what became of each object. The other tables do not depend on it: an
object without a row is read again, and its records are found in the changelog. This requires two rules:

1. A row is added after the commit of the object's records to the changelog, never before. After a crash between the two
   commits, the object is read again, all its records are duplicates, and the row is added with `new` = 0.
2. A row is added once. If another writer adds rows at the same time, the commit is repeated without the rows that the ledger has
   by then. No other part of the step is repeated.

The rows of a file are sorted by `object`, and the manifests have complete names as bounds. A look-up reads only the files whose
bounds contain one of the names. A commit that would add the eighth file of about the same number of rows replaces all of these
files with one file (`lake.size_tiers`).
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import pyarrow as pa
from pyiceberg.manifest import DataFile
from pyiceberg.table import Table

from ddb_lake.aws.objects import ObjectRef
from ddb_lake.core.layout.table_names import OBJECTS
from ddb_lake.core.operations.retry_policy import retry_commit
from ddb_lake.engine.sql import literals
from ddb_lake.errors import CommitConflict
from ddb_lake.lake.column_ranges import ColumnRanges, file_ranges
from ddb_lake.lake.commit import Delta
from ddb_lake.lake.compaction_policy import SMALL_FILE_BYTES
from ddb_lake.lake.lake_format import REFUSED_BY_FORMAT_1, format_properties
from ddb_lake.lake.replacement import replace_rows
from ddb_lake.lake.scan import TableScan, data_files, scan_table
from ddb_lake.lake.schemas import OBJECTS_COLUMNS, fixed_schema
from ddb_lake.lake.size_tiers import groups_to_merge
from ddb_lake.pipeline.apply.format_1 import Format1Ledger, objects_of_changelog
from ddb_lake.pipeline.open_lake import Lake

if TYPE_CHECKING:  # for annotations: `ddb-lake status` reads metadata only
    from ddb_lake.engine.session import Session
    from ddb_lake.pipeline.apply.deduplication import Figures, NumberedObjects
    from ddb_lake.pipeline.apply.object_reader import IngestedObject

_COMPLETE = "ddb_lake.complete"
"""A property of a complete ledger. The upgrade of a lake of format 1 creates the table without it, and sets it with the rows."""

_PROPERTIES = {"write.metadata.metrics.column.object": "full"}  # by default, bounds have the first 16 characters


@dataclass(frozen=True, slots=True)
class Ledger:
    """The ledger of a table at one moment.

    Attributes:
        table: the Iceberg table; None if it does not exist yet.
        scan: its rows.
        format_1: if the lake is not upgraded, its ledger, which is used instead of `scan`.
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
            names: names of objects: the relation has at least the rows of these objects. None: all rows.
        """
        if self.format_1 is not None:
            return self.format_1.sql()
        return self.scan.sql() if names is None else self.scan.sql(self.files_of(names))

    def files_of(self, names: Iterable[str]) -> list[str]:
        """The data files that may have rows of these objects."""
        wanted = sorted(names)
        files = self.scan.live.data
        return [f.file_path for f in files if _may_have(file_ranges(f, self.scan.schema), wanted, "object")]

    def ingested(self, session: Session, objects: Sequence[tuple[str, str]]) -> set[tuple[str, str]]:
        """The members of `objects` (name and version) that have a row in the ledger."""
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
        """The members of `names` that have a row in the ledger, with any version."""
        if not names or not self.rows:
            return set()
        with _registered(session, "wanted_objects", pa.table({"object": list(names)})) as relation:
            rows = session.rows(
                f"SELECT DISTINCT l.object FROM {self.sql(names)} l SEMI JOIN {relation} w ON l.object = w.object"
            )
        return {name for (name,) in rows}


def _may_have(ranges: ColumnRanges, wanted: Sequence[Any], column: str) -> bool:
    """Whether one of the values `wanted`, which must be sorted, may be in a column."""
    bounds = ranges.of(column)
    if bounds is None:
        return True
    first = bisect_left(wanted, bounds[0])
    return first < len(wanted) and bool(wanted[first] <= bounds[1])


def read_ledger(lake: Lake, name: str, changes: Table | None = None) -> Ledger:
    """The ledger of a table as it is now. `changes`: the changelog, if the caller has read it."""
    table = lake.ledger(name)
    nothing = TableScan(fixed_schema(OBJECTS_COLUMNS))
    if table is None or _COMPLETE not in table.properties:
        changes = changes or lake.changes(name)
        format_1 = Format1Ledger.of(changes) if changes is not None else None
        if format_1 is not None:
            return Ledger(table, nothing, format_1)
    return Ledger(table, nothing if table is None else scan_table(table))


def objects_in_changelog(lake: Lake, session: Session, name: str, objects: Sequence[IngestedObject]) -> set[str]:
    """The names of the members of `objects` from which records are in the changelog. The ledger is not read.

    Reads the files of the changelog for the arrival hours of these objects.
    """
    changes = lake.changes(name)
    if changes is None or not objects:
        return set()
    hours = sorted(o.hour_us for o in objects)
    files = data_files(changes, lambda ranges: _may_have(ranges, hours, "arrival_hour"))
    scan = TableScan(changes.schema(), tuple(file.file_path for file in files))
    names = literals(o.ref.uri for o in objects)
    found = session.rows(f"SELECT DISTINCT object FROM {scan.sql()} WHERE list_contains({names}, object)")
    return {uri for (uri,) in found}


def ledger_rows(lake: Lake, name: str, objects: NumberedObjects, figures: Figures) -> pa.Table:
    """New rows of the ledger, for objects that this step ingests.

    Args:
        lake: the open lake, whose clock gives the time.
        name: the table.
        objects: the objects.
        figures: the numbers of new records, by object.
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
    """Add the rows of objects whose records are in the changelog. Rows that the ledger has by then are left out.

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


def replace_versions(lake: Lake, session: Session, versions: Mapping[tuple[str, str], ObjectRef]) -> None:
    """Give objects that were rewritten without new records their new versions, in the ledgers of all tables.

    Args:
        lake: the open lake.
        session: a session for the work.
        versions: the objects as they are now, by their name and the version that they had. Those that a ledger does not name are
            left out.
    """
    for table in lake.settings.tables:
        retry_commit(partial(_replace_versions, lake, session, table.name, versions))


def _replace_versions(lake: Lake, session: Session, name: str, versions: Mapping[tuple[str, str], ObjectRef]) -> None:
    ledger = read_ledger(lake, name)
    if ledger.table is None or ledger.format_1 is not None:
        return
    known = ledger.ingested(session, [(new.uri, new.version) for new in versions.values()])
    wanted = [
        {"o": uri, "v": version, "n": new.version, "s": new.size_bytes}
        for (uri, version), new in versions.items()
        if (new.uri, new.version) not in known
    ]
    if not wanted:
        return
    candidates = ledger.files_of(uri for uri, _ in versions)
    with _registered(session, "replaced_versions", pa.Table.from_pylist(wanted)) as relation:
        joined = f"{relation} w ON w.o = l.object AND w.v = l.version"
        rows = ledger.scan.sql(candidates, positions=True)
        paths = [path for (path,) in session.rows(f"SELECT DISTINCT _file_path FROM {rows} l JOIN {joined}")]
        if not paths:
            return
        versions_now = "coalesce(n, version) AS version, coalesce(s, size_bytes) AS size_bytes"
        query = (
            f"SELECT * EXCLUDE (o, v, n, s) REPLACE ({versions_now}) FROM {ledger.scan.sql(paths)} l LEFT JOIN {joined}"
        )
        added = _write(session, ledger.table, f"{query} ORDER BY object")
    lake.commit_delta(ledger.table, Delta(added=added, removed=frozenset(paths)))


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
        added = _write(session, table, f"FROM {query} ORDER BY object")
    lake.commit_delta(table, Delta(added=added, removed=frozenset(file.file_path for file in merged)))


def _files_to_merge(files: Iterable[DataFile], rows: int) -> list[DataFile]:
    """The files that are merged with `rows` new rows."""
    small = [file for file in files if file.file_size_in_bytes < SMALL_FILE_BYTES]
    groups = groups_to_merge([*small, None], lambda file: rows if file is None else file.record_count)
    return [file for group in groups if None in group for file in group if file is not None]


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
    """Derive the ledger from the changelog, and replace it in one commit. Reads no file of the former ledger.

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
            added = _write(session, table, f"FROM ({rows}) ORDER BY object")
    replace_rows(table, added, {_COMPLETE: "true"})
    return sum(file.record_count for file in added)


# --- the upgrade of a lake of format 1


def upgraded(lake: Lake, name: str, changes: Table) -> Table:
    """Upgrade the lake of a changelog of format 1. Call this before any other write.

    One commit fills the ledger, then another one writes the format to the changelog. Repeating the call after a crash completes the
    upgrade. From then on earlier releases refuse the lake, and compaction removes the files of the former ledger after a day.

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
        added = _write(session, table, f"FROM {former.sql()} ORDER BY object")
    lake.commit_delta(table, Delta(added=added, replace_all=True), {_COMPLETE: "true"})


def _state_format(lake: Lake, name: str) -> Table:
    changes = lake.changes(name)
    assert changes is not None, "it was there before"
    if Format1Ledger.of(changes) is None:
        return changes
    return lake.commit_delta(changes, Delta(), {**format_properties(), "ddb_lake.ledger": REFUSED_BY_FORMAT_1})


def _write(session: Session, table: Table, query: str) -> list[DataFile]:
    """Write the rows of a query as a file of the ledger."""
    from ddb_lake.lake.file_writer import FileWriter  # imports DuckDB

    return FileWriter.for_table(session.con, table).write(query, table.metadata)
