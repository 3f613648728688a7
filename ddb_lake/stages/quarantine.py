"""The quarantine: what is in it and why, and how it comes back into the flow once mended."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from ddb_lake.aws.objects import ObjectRef
from ddb_lake.engine.connection import Session
from ddb_lake.engine.sql import literal
from ddb_lake.lake.commit import Commit, Delta
from ddb_lake.lake.files import FileWriter, live_files, scan_sql
from ddb_lake.stages.current import update_current
from ddb_lake.stages.ingest import ingest, until_committed
from ddb_lake.stages.lake import Lake
from ddb_lake.stages.read import GroupReader, StagedGroup, bytes_hash


@dataclass(frozen=True, slots=True)
class QuarantineGroup:
    """Entries with the same reason: how many, and when the first and last came (UTC microseconds)."""

    reason: str
    count: int
    first_us: int
    last_us: int


@dataclass(frozen=True, slots=True)
class QuarantineEntry:
    """One entry: its bytes, where they stand in landing, and why they are here."""

    quarantine_id: str
    reason: str
    raw: bytes
    object: str
    offset: int
    quarantined_us: int


@dataclass(frozen=True, slots=True)
class ReplayResult:
    """`replayed`: entries that are records now and have left the quarantine; `new`: records they brought."""

    table: str
    replayed: int
    still_quarantined: int
    new: int
    duplicates: int


def list_quarantine(lake: Lake, name: str) -> list[QuarantineGroup]:
    """The reasons in a table's quarantine, most frequent first."""
    lake.table(name)
    with lake.session() as session:
        rows = session.rows(
            "SELECT reason, count(*), min(epoch_us(quarantined_at)), max(epoch_us(quarantined_at))"
            f" FROM {_entries(lake, name)} GROUP BY 1 ORDER BY 2 DESC, 1"
        )
    return [QuarantineGroup(*row) for row in rows]


def show_quarantine(lake: Lake, name: str, limit: int = 20) -> list[QuarantineEntry]:
    """The first entries of a table's quarantine, in landing order."""
    lake.table(name)
    with lake.session() as session:
        rows = session.rows(
            'SELECT quarantine_id, reason, raw, object, "offset", epoch_us(quarantined_at)'
            f' FROM {_entries(lake, name)} ORDER BY object, "offset", quarantine_id LIMIT {int(limit)}'
        )
    return [QuarantineEntry(*row) for row in rows]


def replay_quarantine(lake: Lake, name: str) -> ReplayResult:
    """Read every entry again; what is a record now goes into the changelog and then leaves the quarantine.

    Exactly-once effect: a crash between the two leaves an entry that is a duplicate when it is replayed again.
    """
    lake.table(name)
    with lake.session() as session:
        entries = session.rows(f"SELECT quarantine_id, raw, object FROM {_entries(lake, name)} ORDER BY quarantine_id")
        if not entries:
            return ReplayResult(name, 0, 0, 0, 0)
        tried = _reader(lake, session.folder / "tried", name).read((_ref(entry), entry[1]) for entry in entries)
        mended = [entries[number] for number in sorted(_mended(session, tried))]
        new = duplicates = 0
        if mended:
            new, duplicates = _take_in(lake, session, name, mended)
            until_committed(lambda: _release(lake, session, name, [entry[0] for entry in mended]))
    return ReplayResult(name, len(mended), len(entries) - len(mended), new, duplicates)


def _reader(lake: Lake, folder: Path, name: str) -> GroupReader:
    folder.mkdir()
    return GroupReader(folder, name, {t.source_name: t.name for t in lake.settings.tables}, lake.key)


def _take_in(lake: Lake, session: Session, name: str, mended: list[tuple[str, bytes, str]]) -> tuple[int, int]:
    """The entries' records into changelogs and `current`; gives how many are new and how many duplicates.

    Only these entries: the changelog's ledger names what it has taken in, and never looks at it again.
    """
    reader = _reader(lake, session.folder / "mended", name)
    staged = reader.read((_ref(entry), entry[1]) for entry in mended)
    new = duplicates = 0
    for table, rows in staged.tables.items():
        found = ingest(lake, session, table, rows, staged.objects, reader.keys.get(table, ()))
        new, duplicates = new + found.new, duplicates + found.duplicates
    for table in staged.tables:
        update_current(lake, table)
    return new, duplicates


def _mended(session: Session, staged: StagedGroup) -> set[int]:
    """Numbers of the entries that gave records of configured tables, and nothing that is still rejected."""
    given: set[int] = set()
    rejected: set[int] = set()
    for rows in staged.tables.values():
        for numbers, stage in ((given, rows.changes), (rejected, rows.quarantine)):
            found = session.rows(f"SELECT DISTINCT _object FROM read_parquet({literal(str(stage.path))})")
            numbers.update(number for (number,) in found)
    return given - rejected


def _entries(lake: Lake, name: str) -> str:
    table = lake.quarantine(name)
    if table is None:
        empty = "''::VARCHAR AS quarantine_id, '' AS reason, ''::BLOB AS raw, '' AS object, 0::BIGINT AS \"offset\""
        return f"(SELECT {empty}, now()::TIMESTAMP AS quarantined_at WHERE false)"
    live = live_files(table)
    return scan_sql(table.schema(), live.paths, [f.file_path for f in live.deletes])


def _ref(row: tuple[str, bytes, str]) -> ObjectRef:
    """The entry as an object of its own; the hour of the object it was found in stays readable in the name."""
    identifier, raw, uri = row
    return ObjectRef(f"{uri}#quarantine/{identifier}", bytes_hash(raw), len(raw), 0)


def _release(lake: Lake, session: Session, name: str, identifiers: list[str]) -> None:
    table = lake.quarantine(name)
    assert table is not None, "it had entries"
    live = live_files(table)
    rows = scan_sql(table.schema(), live.paths, [f.file_path for f in live.deletes], positions=True)
    session.con.register("released", pa.table({"i": identifiers}))
    writer = FileWriter.for_table(session.con, table)
    deletes = writer.write_deletes(
        f"SELECT _file_path AS file_path, _pos AS pos FROM {rows} q SEMI JOIN released r ON r.i = q.quarantine_id"
    )
    commit = Commit(table)
    commit.snapshot(Delta(deletes=deletes))
    commit.run()
