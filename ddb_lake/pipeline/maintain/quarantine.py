"""Replays and discards the entries of a quarantine. `pipeline.read.quarantine` lists them.

An entry is open until it is replayed (it leaves the quarantine) or discarded (it stays, with the reason). Replaying has an
exactly-once effect: the changelog and the ledger name each entry that was ingested.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import groupby
from pathlib import Path

import pyarrow as pa

from ddb_lake.aws.objects import ObjectRef
from ddb_lake.core.decode.objects import read_object
from ddb_lake.core.operations.retry_policy import retry_commit
from ddb_lake.engine.session import Session
from ddb_lake.engine.sql import literal, literals
from ddb_lake.errors import UsageError
from ddb_lake.lake.commit import Delta
from ddb_lake.lake.file_writer import FileWriter
from ddb_lake.lake.scan import scan_table
from ddb_lake.pipeline.apply.apply import apply_refs
from ddb_lake.pipeline.apply.changelog import TableShare, ensure_quarantine, ingest
from ddb_lake.pipeline.apply.deduplication import LocalDeduplicator
from ddb_lake.pipeline.apply.ledger import objects_in_changelog, read_ledger
from ddb_lake.pipeline.apply.object_reader import GroupReader, ReadOptions, StagedGroup, StagedTable
from ddb_lake.pipeline.merge.current import update_current
from ddb_lake.pipeline.open_lake import Lake
from ddb_lake.pipeline.read.quarantine import DISCARDED, QuarantineEntry, open_entries
from ddb_lake.pipeline.table_key import table_definition


@dataclass(frozen=True, slots=True)
class ReplayResult:
    """The result of a replay.

    Attributes:
        replayed: entries that are records now and have left the quarantine.
        still_quarantined: entries that were read and stay.
        new: records that the entries added to changelogs.
        duplicates: records that changelogs had.
        rewritten: entries that left because their object was rewritten, and was ingested as it is now.
        absent: ids with replaced bytes that the quarantine does not have, such as entries that were replayed before.
    """

    table: str
    replayed: int
    still_quarantined: int
    new: int
    duplicates: int
    rewritten: int = 0
    absent: int = 0


@dataclass(frozen=True, slots=True)
class EntrySelection:
    """Open entries: those with one of the ids, of one of the objects, or with one of the reasons."""

    ids: Sequence[str] = ()
    objects: Sequence[str] = ()
    reasons: Sequence[str] = ()


def discard_quarantine(lake: Lake, name: str, selection: EntrySelection, by: str, why: str) -> int:
    """Discard open entries.

    They stay in the quarantine with the user, the time and the cause. They no longer count as open, and a replay does not
    read them. They stay discarded if their object is read again.

    Args:
        lake: the open lake.
        name: the table.
        selection: the entries.
        by: the user.
        why: the cause.

    Returns:
        The number of entries that were discarded.

    Raises:
        ConfigError: the table is not configured.
    """
    lake.table(name)
    if lake.quarantine(name) is None:
        return 0
    ensure_quarantine(lake, name)  # with the columns that an earlier release did not have
    with lake.session() as session:
        return retry_commit(lambda: _discard(lake, session, name, selection, by, why))


def _discard(lake: Lake, session: Session, name: str, selection: EntrySelection, by: str, why: str) -> int:
    table = lake.quarantine(name)
    assert table is not None, "discard_quarantine returns without one"
    rows = scan_table(table).sql(positions=True)
    parts = {"quarantine_id": selection.ids, "object": selection.objects, "reason": selection.reasons}
    selected = (
        " OR ".join(f"list_contains({literals(values)}, {column})" for column, values in parts.items() if values)
        or "false"
    )
    session.con.execute(
        f"CREATE OR REPLACE TABLE discarded_entries AS SELECT * FROM {rows} q WHERE discarded_at IS NULL AND ({selected})"
    )
    count: int = session.value("SELECT count(*) FROM discarded_entries")
    if not count:
        return 0
    writer = FileWriter.for_table(session.con, table)
    deletes = writer.write_deletes("SELECT _file_path AS file_path, _pos AS pos FROM discarded_entries")
    at = lake.now().replace(tzinfo=None).isoformat()
    paths = writer.write_paths(
        "SELECT * EXCLUDE (_file_path, _pos) REPLACE ("
        f"TIMESTAMP '{at}' AS discarded_at, {literal(by)} AS discarded_by, {literal(why)} AS discarded_why)"
        " FROM discarded_entries"
    )
    discarded = int(table.properties.get(DISCARDED, "0")) + count
    delta = Delta(added=writer.entries(paths, table.metadata), deletes=deletes)
    lake.commit_delta(table, delta, {DISCARDED: str(discarded)})
    return count


def replay_quarantine(
    lake: Lake, name: str, replacements: Mapping[str, bytes] | None = None, time_unit: str | None = None
) -> ReplayResult:
    """Read the open entries again, and ingest those that are records now.

    An entry leaves the quarantine in two ways: its bytes can be read now (the configuration was corrected, or the bytes are
    replaced), or its object was rewritten, and is ingested as it is now.

    Exactly-once effect: the records of an ingested entry name it in the changelog, and the ledger names it, independent of its
    bytes. After a crash between two commits, the next replay finds it there and only removes it from the quarantine.

    Args:
        lake: the open lake.
        name: the table.
        replacements: bytes by quarantine id. Only these entries are read, with these bytes in place of their own.
        time_unit: the unit (a name of `core.values.times.UNIT_US`) of times that are impossible in their declared unit.
            Times that are possible keep their unit.

    Raises:
        ConfigError: the table is not configured.
    """
    lake.table(name)
    with lake.session() as session:
        entries = open_entries(lake, session, name)
        absent = 0
        if replacements is not None:
            absent = len(replacements.keys() - {entry.quarantine_id for entry in entries})
            entries = [
                replace(e, raw=replacements[e.quarantine_id]) for e in entries if e.quarantine_id in replacements
            ]
        else:
            entries = _with_landed_bytes(lake, session, name, entries)
        readable, new, duplicates = _ingest_readable(lake, session, name, entries, time_unit)
        others = [entry for entry in entries if entry not in readable]
        rewritten = _ingest_rewritten(lake, session, name, others) if replacements is None else []
        if leaving := [entry.quarantine_id for entry in (*readable, *rewritten)]:
            retry_commit(lambda: _remove_entries(lake, session, name, leaving))
    still = len(others) - len(rewritten)
    return ReplayResult(name, len(readable), still, new, duplicates, len(rewritten), absent)


# --- entries whose bytes are not kept


def _with_landed_bytes(
    lake: Lake, session: Session, name: str, entries: Sequence[QuarantineEntry]
) -> list[QuarantineEntry]:
    """The entries; those without bytes (`keeps_rejected_bytes`) with the bytes that the landed object has at their place.

    An entry stays without bytes if the object is not there any more, or is another version than was ingested.
    """
    found: list[QuarantineEntry] = []
    for uri, group in groupby(entries, key=lambda entry: entry.object):  # `open_entries` orders them
        of_object = list(group)
        if all(entry.raw for entry in of_object):
            found += of_object
            continue
        ref = _listed(lake, uri)
        raws: dict[int, bytes] = {}
        if ref is not None and ref.version in _ledger_counts(lake, session, name, uri):
            key, asserted_us = table_definition(lake, name).key or None, of_object[0].asserted_us
            for located in read_object(lake.objects.fetch(ref), key_names=key, asserted_us=asserted_us):
                raws.setdefault(located.offset, located.raw)
        found += [entry if entry.raw else replace(entry, raw=raws.get(entry.offset, b"")) for entry in of_object]
    return found


def _listed(lake: Lake, uri: str) -> ObjectRef | None:
    """The object as it is now; None if it is not there."""
    try:
        return next((ref for ref in lake.objects.list(uri) if ref.uri == uri), None)
    except UsageError:  # the folder no longer exists
        return None


# --- entries that can be read now


def _ingest_readable(
    lake: Lake, session: Session, name: str, entries: Sequence[QuarantineEntry], time_unit: str | None
) -> tuple[list[QuarantineEntry], int, int]:
    """Ingest the entries that can be read. Returns them, and the numbers of new and of duplicate records."""
    readable: list[QuarantineEntry] = []
    new = duplicates = 0
    by_window = sorted(entries, key=lambda entry: (entry.asserted_us or 0, entry.quarantine_id))
    for asserted_us, group in groupby(by_window, key=lambda entry: entry.asserted_us):
        in_window = list(group)
        options = ReadOptions(name, lake.routes(), asserted_us, time_unit)
        # The first reading finds the readable entries. The ledger names what is ingested and is never read again, so the
        # second reading, which is ingested, has no others.
        _, staged = _read(lake, session.folder / f"tried-{asserted_us}", in_window, options)
        chosen = [in_window[number] for number in sorted(_readable_numbers(session, staged))]
        if not chosen:
            continue
        reader, staged = _read(lake, session.folder / f"readable-{asserted_us}", chosen, options)
        for table, rows in staged.tables.items():
            objects, before = staged.objects, objects_in_changelog(lake, session, table, staged.objects)
            if before:  # a replay was killed after their commit, and their bytes may have been others
                others = [entry for entry in chosen if _ref(entry).uri not in before]
                _, again = _read(lake, session.folder / f"again-{asserted_us}-{table}", others, options)
                rows = again.tables.get(table) or StagedTable.empty(session.folder)
                objects = [*again.objects, *(entry for entry in staged.objects if entry.ref.uri in before)]
            share = TableShare(table, LocalDeduplicator(session, rows), objects, reader.keys.get(table, ()))
            result = ingest(lake, session, share)
            new, duplicates = new + result.new, duplicates + result.duplicates
        for table in staged.tables:
            update_current(lake, table)
        readable += chosen
    return readable, new, duplicates


def _read(
    lake: Lake, folder: Path, entries: Sequence[QuarantineEntry], options: ReadOptions
) -> tuple[GroupReader, StagedGroup]:
    folder.mkdir()
    reader = GroupReader(folder, options, partial(table_definition, lake))
    return reader, reader.read((_ref(entry), entry.raw) for entry in entries)


def _readable_numbers(session: Session, staged: StagedGroup) -> set[int]:
    """Numbers of the entries that have records of configured tables, and nothing that is still rejected."""
    with_records: set[int] = set()
    rejected: set[int] = set()
    for rows in staged.tables.values():
        for numbers, stage in ((with_records, rows.changes), (rejected, rows.quarantine)):
            objects = session.rows(f"SELECT DISTINCT _object FROM read_parquet({literal(str(stage.path))})")
            numbers.update(number for (number,) in objects)
    return with_records - rejected


def _ref(entry: QuarantineEntry) -> ObjectRef:
    """The entry as an object of its own, with the same identity for all bytes that replace its own.

    The URI begins with that of the landed object, so that its arrival hour is read from it. Without one, the entry arrived at
    the time when it was quarantined.
    """
    uri = f"{entry.object}#quarantine/{entry.quarantine_id}"
    return ObjectRef(uri, "replayed", len(entry.raw), entry.quarantined_us)


# --- entries whose object was rewritten


def _ingest_rewritten(
    lake: Lake, session: Session, name: str, entries: Sequence[QuarantineEntry]
) -> list[QuarantineEntry]:
    """Ingest objects that were rewritten. Returns the entries whose bytes are no longer in them.

    An object with fewer records than before was cut off, so its entries stay.
    """
    replaced: list[QuarantineEntry] = []
    ordered = sorted(entries, key=lambda entry: entry.object)
    for uri, group in groupby(ordered, key=lambda entry: entry.object):
        ref = _rewritten(lake, session, name, uri)
        if ref is None:
            continue
        apply_refs(lake, name, [ref])
        counts = _ledger_counts(lake, session, name, uri)
        if counts.get(ref.version, 0) >= max(counts.values(), default=0):
            still = _rejected_ids(lake, session, name, ref)
            replaced += [entry for entry in group if entry.quarantine_id not in still]
    return replaced


def _rewritten(lake: Lake, session: Session, name: str, uri: str) -> ObjectRef | None:
    """The object as it is now, if the ledger names another version of it."""
    listed = _listed(lake, uri)
    versions = _ledger_counts(lake, session, name, uri)
    return listed if listed is not None and set(versions) - {listed.version} else None


def _ledger_counts(lake: Lake, session: Session, name: str, uri: str) -> dict[str, int]:
    """The number of records of each version of an object that the ledger names."""
    rows = read_ledger(lake, name).sql([uri])
    return dict(session.rows(f"SELECT version, max(records) FROM {rows} WHERE object = {literal(uri)} GROUP BY 1"))


def _rejected_ids(lake: Lake, session: Session, name: str, ref: ObjectRef) -> set[str]:
    """The quarantine ids of the parts of an object that cannot be read."""
    folder = session.folder / f"now-{len(list(session.folder.iterdir()))}"
    folder.mkdir()
    reader = GroupReader(folder, ReadOptions(name, lake.routes()), partial(table_definition, lake))
    staged = reader.read([(ref, lake.objects.fetch(ref))])
    rows = staged.tables.get(name)
    if rows is None:
        return set()
    ids = session.rows(f"SELECT quarantine_id FROM read_parquet({literal(str(rows.quarantine.path))})")
    return {identifier for (identifier,) in ids}


# --- the table


def _remove_entries(lake: Lake, session: Session, name: str, identifiers: list[str]) -> None:
    table = lake.quarantine(name)
    assert table is not None, "entries were read from it"
    rows = scan_table(table).sql(positions=True)
    session.con.register("replayed_entries", pa.table({"i": identifiers}))
    writer = FileWriter.for_table(session.con, table)
    deletes = writer.write_deletes(
        f"SELECT _file_path AS file_path, _pos AS pos FROM {rows} q SEMI JOIN replayed_entries r ON r.i = q.quarantine_id"
    )
    lake.commit_delta(table, Delta(deletes=deletes))
