"""The quarantine: its entries with their reasons, and their replay into the changelog after a correction."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import groupby
from pathlib import Path

import pyarrow as pa
from pyiceberg.table import Table

from ddb_lake.aws.objects import ObjectRef
from ddb_lake.core.operations.retry_policy import retry_commit
from ddb_lake.engine.session import Session
from ddb_lake.engine.sql import literal, literals
from ddb_lake.errors import UsageError
from ddb_lake.lake.commit import Commit, Delta
from ddb_lake.lake.file_writer import FileWriter
from ddb_lake.lake.scan import live_files, scan_table
from ddb_lake.lake.schemas import QUARANTINE_COLUMNS, duckdb_type, fixed_schema
from ddb_lake.lake.sidecar import LEDGER_COLUMNS
from ddb_lake.lake.state import changes_state
from ddb_lake.pipeline.apply.apply import apply_refs
from ddb_lake.pipeline.apply.changelog import TableShare, ensure_quarantine, ingest
from ddb_lake.pipeline.apply.deduplication import LocalDeduplicator
from ddb_lake.pipeline.apply.object_reader import GroupReader, ReadOptions, StagedGroup
from ddb_lake.pipeline.merge.current import update_current
from ddb_lake.pipeline.open_lake import Lake
from ddb_lake.pipeline.table_key import table_definition

DISCARDED = "ddb_lake.discarded"
"""Property of a quarantine: the number of its discarded entries."""


@dataclass(frozen=True, slots=True)
class QuarantineGroup:
    """Entries with the same reason: how many, and when the first and last came (UTC microseconds)."""

    reason: str
    count: int
    first_us: int
    last_us: int


@dataclass(frozen=True, slots=True)
class QuarantineEntry:
    """One entry: its bytes, their location in landing, and the reason.

    `asserted_us`: the (exclusive) end of the window of the incremental export that the bytes are a line of.
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
    """Entries that were discarded together: number and reason, then time (UTC microseconds), user and cause of the discard."""

    reason: str
    count: int
    discarded_us: int
    discarded_by: str
    why: str


@dataclass(frozen=True, slots=True)
class ReplayResult:
    """`replayed`: entries that are records now and have left the quarantine; `new`: records they brought.

    `rewritten`: entries that left because their object was rewritten since, and its new version is ingested. `absent`:
    entries that the corrections name and the quarantine does not have, such as those that were replayed before.
    """

    table: str
    replayed: int
    still_quarantined: int
    new: int
    duplicates: int
    rewritten: int = 0
    absent: int = 0


def list_quarantine(lake: Lake, name: str) -> list[QuarantineGroup]:
    """The reasons in a table's quarantine, most frequent first."""
    lake.table(name)
    with lake.session() as session:
        rows = session.rows(
            "SELECT reason, count(*), min(epoch_us(quarantined_at)), max(epoch_us(quarantined_at))"
            f" FROM {_entries_sql(lake, name)} GROUP BY 1 ORDER BY 2 DESC, 1"
        )
    return [QuarantineGroup(*row) for row in rows]


def show_quarantine(lake: Lake, name: str, limit: int | None = 20) -> list[QuarantineEntry]:
    """The first entries of a table's quarantine, or all, in landing order."""
    lake.table(name)
    with lake.session() as session:
        return _entries(lake, session, name, "" if limit is None else f"LIMIT {int(limit)}")


def count_open(quarantine: Table | None) -> int:
    """The number of entries of a quarantine that are neither replayed nor discarded, from the table's metadata alone."""
    if quarantine is None:
        return 0
    return live_files(quarantine).rows - int(quarantine.properties.get(DISCARDED, "0"))


def list_discarded(lake: Lake, name: str) -> list[Discarded]:
    """The discarded entries of a table's quarantine, the newest first."""
    lake.table(name)
    with lake.session() as session:
        rows = session.rows(
            "SELECT reason, count(*), epoch_us(discarded_at), discarded_by, discarded_why"
            f" FROM {_entries_sql(lake, name, discarded=True)} GROUP BY ALL ORDER BY 3 DESC, 2 DESC, 1"
        )
    return [Discarded(*row) for row in rows]


@dataclass(frozen=True, slots=True)
class Chosen:
    """Entries, each named by its id, its object or its reason."""

    ids: Sequence[str] = ()
    objects: Sequence[str] = ()
    reasons: Sequence[str] = ()


def discard_quarantine(lake: Lake, name: str, chosen: Chosen, by: str, why: str) -> int:
    """Discard the chosen open entries. Returns their number.

    They stay in the table with the user, the time and the cause, and no longer count as open; a replay does not read
    them. They stay discarded if their object is read again.
    """
    lake.table(name)
    if lake.quarantine(name) is None:
        return 0
    ensure_quarantine(lake, name)  # with the columns that an earlier release did not have
    with lake.session() as session:
        return retry_commit(lambda: _discard(lake, session, name, chosen, by, why))


def _discard(lake: Lake, session: Session, name: str, chosen: Chosen, by: str, why: str) -> int:
    table = lake.quarantine(name)
    assert table is not None, "the caller has looked"
    rows = scan_table(table).sql(positions=True)
    parts = {"quarantine_id": chosen.ids, "object": chosen.objects, "reason": chosen.reasons}
    named = (
        " OR ".join(f"list_contains({literals(values)}, {column})" for column, values in parts.items() if values)
        or "false"
    )
    session.con.execute(
        f"CREATE OR REPLACE TABLE leaving AS SELECT * FROM {rows} q WHERE discarded_at IS NULL AND ({named})"
    )
    count: int = session.value("SELECT count(*) FROM leaving")
    if not count:
        return 0
    writer = FileWriter.for_table(session.con, table)
    deletes = writer.write_deletes("SELECT _file_path AS file_path, _pos AS pos FROM leaving")
    at = lake.now().replace(tzinfo=None).isoformat()
    paths = writer.write_paths(
        "SELECT * EXCLUDE (_file_path, _pos) REPLACE ("
        f"TIMESTAMP '{at}' AS discarded_at, {literal(by)} AS discarded_by, {literal(why)} AS discarded_why) FROM leaving"
    )
    commit = Commit(table)
    commit.snapshot(Delta(added=writer.entries(paths, table.metadata), deletes=deletes))
    commit.set_properties({DISCARDED: str(int(table.properties.get(DISCARDED, "0")) + count)})
    commit.run()
    return count


def replay_quarantine(
    lake: Lake, name: str, mended: Mapping[str, bytes] | None = None, time_unit: str | None = None
) -> ReplayResult:
    """Read every entry again; what is a record now goes into the changelog and then leaves the quarantine.

    Entries leave in two ways: their bytes can be read now (the configuration was corrected), or their object
    was rewritten, and its new version is ingested. With `mended`, bytes by quarantine id, only the entries it names are
    read, and those bytes in place of their own. `time_unit` (a name of `times.UNIT_US`) is the unit of times that are
    impossible in their declared one; times that are possible keep their unit.

    Exactly-once effect: the changelog's ledger names each ingested entry, whatever its bytes were. After a
    crash between the two commits the entry is found there, and only leaves the quarantine.
    """
    lake.table(name)
    with lake.session() as session:
        entries = _entries(lake, session, name)
        absent = 0
        if mended is not None:
            absent = len(mended.keys() - {entry.quarantine_id for entry in entries})
            entries = [replace(e, raw=mended[e.quarantine_id]) for e in entries if e.quarantine_id in mended]
        readable, new, duplicates = _replay(lake, session, name, entries, time_unit)
        rest = [entry for entry in entries if entry not in readable]
        overtaken = _overtaken(lake, session, name, rest) if mended is None else []
        if leaving := [entry.quarantine_id for entry in (*readable, *overtaken)]:
            retry_commit(lambda: _release(lake, session, name, leaving))
    still = len(rest) - len(overtaken)
    return ReplayResult(name, len(readable), still, new, duplicates, len(overtaken), absent)


# --- entries that can be read now


def _replay(
    lake: Lake, session: Session, name: str, entries: Sequence[QuarantineEntry], time_unit: str | None
) -> tuple[list[QuarantineEntry], int, int]:
    """Ingest the readable entries; return them, and the numbers of their new and duplicate records."""
    readable: list[QuarantineEntry] = []
    new = duplicates = 0
    by_window = sorted(entries, key=lambda entry: (entry.asserted_us or 0, entry.quarantine_id))
    for asserted_us, group in groupby(by_window, key=lambda entry: entry.asserted_us):
        together = list(group)
        tried = _read(lake, session.folder / f"tried-{asserted_us}", name, together, asserted_us, time_unit)[1]
        found = [together[number] for number in sorted(_readable(session, tried))]
        if found:
            brought, known = _take_in(lake, session, name, found, asserted_us, time_unit)
            new, duplicates = new + brought, duplicates + known
            readable += found
    return readable, new, duplicates


def _read(
    lake: Lake,
    folder: Path,
    name: str,
    entries: Sequence[QuarantineEntry],
    asserted_us: int | None,
    time_unit: str | None,
) -> tuple[GroupReader, StagedGroup]:
    folder.mkdir()
    options = ReadOptions(name, lake.routes(), asserted_us, time_unit)
    reader = GroupReader(folder, options, partial(table_definition, lake))
    return reader, reader.read((_ref(entry), entry.raw) for entry in entries)


def _readable(session: Session, staged: StagedGroup) -> set[int]:
    """Numbers of the entries that gave records of configured tables, and nothing that is still rejected."""
    given: set[int] = set()
    rejected: set[int] = set()
    for rows in staged.tables.values():
        for numbers, stage in ((given, rows.changes), (rejected, rows.quarantine)):
            found = session.rows(f"SELECT DISTINCT _object FROM read_parquet({literal(str(stage.path))})")
            numbers.update(number for (number,) in found)
    return given - rejected


def _take_in(
    lake: Lake,
    session: Session,
    name: str,
    entries: Sequence[QuarantineEntry],
    asserted_us: int | None,
    time_unit: str | None,
) -> tuple[int, int]:
    """The entries' records into changelogs and `current`; gives how many are new and how many duplicates.

    Only readable entries may be passed: the changelog's ledger names ingested entries, and they are never read again.
    """
    reader, staged = _read(lake, session.folder / f"readable-{asserted_us}", name, entries, asserted_us, time_unit)
    new = duplicates = 0
    for table, rows in staged.tables.items():
        share = TableShare(table, LocalDeduplicator(session, rows), staged.objects, reader.keys.get(table, ()))
        found = ingest(lake, session, share)
        new, duplicates = new + found.new, duplicates + found.duplicates
    for table in staged.tables:
        update_current(lake, table)
    return new, duplicates


def _ref(entry: QuarantineEntry) -> ObjectRef:
    """The entry as a separate object, the same for all corrections of its bytes.

    The hour of the object it was found in stays readable in the name; if it has none, it arrived before it was quarantined.
    """
    uri = f"{entry.object}#quarantine/{entry.quarantine_id}"
    return ObjectRef(uri, "replayed", len(entry.raw), entry.quarantined_us)


# --- entries whose object was rewritten


def _overtaken(lake: Lake, session: Session, name: str, entries: Sequence[QuarantineEntry]) -> list[QuarantineEntry]:
    """The entries whose bytes are no longer in their object, which was rewritten and whose new version is ingested.

    An object with fewer records than before was truncated and not corrected: its entries stay.
    """
    found: list[QuarantineEntry] = []
    ordered = sorted(entries, key=lambda entry: entry.object)
    for uri, group in groupby(ordered, key=lambda entry: entry.object):
        ref = _rewritten(lake, session, name, uri)
        if ref is None:
            continue
        apply_refs(lake, name, [ref])
        counts = _ledger_counts(lake, session, name, uri)
        if counts.get(ref.version, 0) >= max(counts.values(), default=0):
            still = _rejected_now(lake, session, name, ref)
            found += [entry for entry in group if entry.quarantine_id not in still]
    return found


def _rewritten(lake: Lake, session: Session, name: str, uri: str) -> ObjectRef | None:
    """The present version of the object, if it is not the version that was ingested first."""
    try:
        listed = next((ref for ref in lake.objects.list(uri) if ref.uri == uri), None)
    except UsageError:  # a folder that is no longer there
        return None
    versions = _ledger_counts(lake, session, name, uri)
    return listed if listed is not None and set(versions) - {listed.version} else None


def _ledger_counts(lake: Lake, session: Session, name: str, uri: str) -> dict[str, int]:
    """How many records each version of an object held, of those that the ledger names."""
    changes = lake.changes(name)
    ledger = changes_state(changes).ledger if changes is not None else None
    if ledger is None or not ledger.files:
        return {}
    sql = f"SELECT version, max(records) FROM {ledger.sql(LEDGER_COLUMNS)} WHERE object = {literal(uri)} GROUP BY 1"
    return dict(session.rows(sql))


def _rejected_now(lake: Lake, session: Session, name: str, ref: ObjectRef) -> set[str]:
    """The quarantine ids of what cannot be read of an object."""
    folder = session.folder / f"now-{len(list(session.folder.iterdir()))}"
    folder.mkdir()
    reader = GroupReader(folder, ReadOptions(name, lake.routes()), partial(table_definition, lake))
    staged = reader.read([(ref, lake.objects.fetch(ref))])
    rows = staged.tables.get(name)
    if rows is None:
        return set()
    found = session.rows(f"SELECT quarantine_id FROM read_parquet({literal(str(rows.quarantine.path))})")
    return {identifier for (identifier,) in found}


# --- the table


def _entries_sql(lake: Lake, name: str, discarded: bool = False) -> str:
    """The open or the discarded entries, in a table of any release."""
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


def _entries(lake: Lake, session: Session, name: str, limit: str = "") -> list[QuarantineEntry]:
    rows = session.rows(
        'SELECT quarantine_id, reason, raw, object, "offset", epoch_us(quarantined_at), epoch_us(asserted_at)'
        f' FROM {_entries_sql(lake, name)} ORDER BY object, "offset", quarantine_id {limit}'
    )
    return [QuarantineEntry(*row) for row in rows]


def _release(lake: Lake, session: Session, name: str, identifiers: list[str]) -> None:
    table = lake.quarantine(name)
    assert table is not None, "it had entries"
    rows = scan_table(table).sql(positions=True)
    session.con.register("released", pa.table({"i": identifiers}))
    writer = FileWriter.for_table(session.con, table)
    deletes = writer.write_deletes(
        f"SELECT _file_path AS file_path, _pos AS pos FROM {rows} q SEMI JOIN released r ON r.i = q.quarantine_id"
    )
    commit = Commit(table)
    commit.snapshot(Delta(deletes=deletes))
    commit.run()
