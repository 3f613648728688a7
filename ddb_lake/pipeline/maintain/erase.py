"""Erases keys: removes what a table has of some items from every file that the lake can write, and proves it.

The steps, in this order. Each is one commit, or one file that is replaced at once. A step finds what is left to do by the contents,
so a repeated call completes an erasure that was killed at any point.

    begin       a row for each key in `<table>_erasures`: from now on ingests and loads refuse the keys
    landing     the records and items of the keys in landed objects (`pipeline.maintain.erase_landing`)
    quarantine  the entries whose bytes name a key
    changelog   the records of the keys, before `current`, so that no merge finds a record of them again
    current     the rows of the keys, in `main` and in the branches of exports
    days        the rows of the keys in the files of kept days
    prove       every file is read again; files of writers that lost against the erasure are deleted
                (`pipeline.maintain.erase_proof`)
    replicas    the rows of the keys in copies outside of the lake. Before each of them, a row for each key states what was done
                so far
    complete    the last row for each key, with the numbers

`quarantine`, `changelog` and `current` commit a snapshot even if they find nothing. So a writer that planned before `begin` conflicts
with them, and plans again with the erased keys. Files to delete are noted in the lake's landing before a commit.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from types import MappingProxyType

import orjson
import pyarrow as pa
from pyiceberg.table import Table

from ddb_lake.aws.landing_writer import Landing
from ddb_lake.core.layout.table_names import CHANGES, ERASURES_FOLDER, QUARANTINE, entity_table
from ddb_lake.core.operations.count_text import count_text
from ddb_lake.core.operations.retry_policy import retry_commit
from ddb_lake.core.values.change_record import Item
from ddb_lake.core.values.primary_key import canonical_key, check_keys, key_hash, key_text
from ddb_lake.engine.key_text import key_text_sql
from ddb_lake.engine.session import Session
from ddb_lake.engine.sql import carried, literal, literals
from ddb_lake.errors import UndecodableError, UsageError
from ddb_lake.lake.commit import EXPORT_BRANCH, check_newest_commit
from ddb_lake.lake.entity_state import EntityState
from ddb_lake.lake.file_writer import PARQUET
from ddb_lake.lake.maintenance import referenced
from ddb_lake.lake.row_removal import RemovedRows, RowsToRemove, delete_unnamed, remove_rows
from ddb_lake.lake.scan import TableScan, scan_table
from ddb_lake.lake.state import CurrentState, changes_state, exports_properties, known_misfits, misfit_properties
from ddb_lake.pipeline.apply.erasures import ErasureRow, add_erasure, open_erasures, pending_erasures
from ddb_lake.pipeline.apply.ledger import upgraded
from ddb_lake.pipeline.former_entities import former_entities
from ddb_lake.pipeline.maintain.erase_landing import erase_landing
from ddb_lake.pipeline.maintain.erase_proof import prove
from ddb_lake.pipeline.maintain.erasure import ERASED_KEYS, EraseReplica, EraseRequest, EraseResult, Erasure
from ddb_lake.pipeline.maintain.rebuild import without_rebuild
from ddb_lake.pipeline.merge.entities import update_entities
from ddb_lake.pipeline.open_lake import Lake
from ddb_lake.pipeline.read.daily_snapshots import COLUMNS_METADATA, daily_folder
from ddb_lake.pipeline.read.quarantine import DISCARDED
from ddb_lake.pipeline.table_key import table_key

_Remove = Callable[[Table], RemovedRows]
_RowsOf = Callable[[str], RowsToRemove]
_StateLeft = Callable[[Table, RemovedRows], Mapping[str, str]]
_ENTRIES = "entries_to_erase"
_RAW_ROWS = 100
_NO_REPLICAS: Mapping[str, EraseReplica] = MappingProxyType({})


def erase_keys(
    lake: Lake, name: str, request: EraseRequest, dry: bool = False, replicas: Mapping[str, EraseReplica] = _NO_REPLICAS
) -> EraseResult:
    """Erase keys. After a kill, repeat the call with the same keys.

    Time travel over Iceberg snapshots from before the erasure ends: the table's earlier snapshots and their files are removed. Items
    as of a time are still computed for all other keys. A query that reads an earlier snapshot while it is removed fails.

    Args:
        lake: the open lake.
        name: the table.
        request: what to erase.
        dry: change nothing; return what would be removed.
        replicas: what erases the keys from copies of the table outside of the lake, by the name of the copy. The erasure is complete
            after the last of them.

    Raises:
        ConfigError: the table is not configured, or its key is not known.
        UsageError: a key is not one of this table, or has further attributes; or no key is given; or a rebuild of the table is
            running; or the table is replicated to MySQL, and `replicas` is empty (`mysql.erase.erase_with_replica` has it).
        CheckFailed: after all steps a file still has one of the keys. The erasure is not complete.
        DamagedError: a file of the table cannot be read. What was erased before stays erased.
        TransientError: another writer committed first in each attempt. Repeat the call.

    Example:
        erase_keys(lake, "orders", EraseRequest([{"id": {"S": "order-17"}}]))
    """
    started = time.monotonic()
    if lake.table(name).aurora is not None and not (dry or replicas):
        raise UsageError(
            "it is replicated to MySQL, which this call does not erase",
            table=name,
            hint="call `ddb_lake.mysql.erase.erase_with_replica`",
        )
    with _opened(lake, name, request) as erasure:
        if dry:
            _count(erasure)
            result = EraseResult(name, len(erasure.keys), removed=dict(erasure.removed), dry=True)
            return replace(result, not_reached=tuple(erasure.not_reached), seconds=time.monotonic() - started)
        with without_rebuild(lake, name):
            result = _erase(erasure, replicas)
    return replace(result, seconds=time.monotonic() - started)


def unfinished(lake: Lake, name: str) -> list[int]:
    """When each erasure began that is not complete (UTC microseconds), the oldest first."""
    lake.table(name)
    with lake.session() as session:
        return sorted(pending_erasures(lake, session, name).values())


@contextmanager
def _opened(lake: Lake, name: str, request: EraseRequest) -> Iterator[Erasure]:
    names = table_key(lake, name)
    keys = _by_text(name, names, request.keys)
    with lake.session() as session:
        columns = {"_key": list(keys), "_key_hash": pa.array([key_hash(text) for text in keys], pa.int64())}
        session.con.register("given_keys", pa.table(columns))
        session.con.execute(f"CREATE OR REPLACE TABLE {ERASED_KEYS} AS FROM given_keys")
        session.con.unregister("given_keys")
        yield Erasure(lake, name, request, session, names, keys)


def _by_text(name: str, names: Sequence[str], keys: Sequence[Item]) -> dict[str, Item]:
    if not names:
        raise UsageError("its key is not known", table=name, hint="add `key: [...]` to its configuration")
    distinct: dict[str, Item] = {}
    for number, key in enumerate(keys, start=1):
        try:
            check_keys({part: key[part] for part in names if part in key})
            own = canonical_key(key, names)
            further = len(key) - len(own)
            if further:
                raise UndecodableError(
                    f"it has {count_text(further, 'further attribute')}, by which nothing is selected"
                )
            distinct[key_text(own, names)] = own
        except UndecodableError as error:
            # the error quotes neither a value nor a name, which may be a value in the wrong place
            raise UsageError(
                f"key {number} is not one of this table, whose key is {list(names)}: {error}", table=name
            ) from None
    if not distinct:
        raise UsageError("no key to erase", table=name)
    return distinct


def _erase(erasure: Erasure, replicas: Mapping[str, EraseReplica]) -> EraseResult:
    lake, name, session = erasure.lake, erasure.name, erasure.session
    digests = open_erasures(lake, name, erasure.key_names)
    begun = ErasureRow(
        uuid.uuid4().hex,
        int(lake.now().timestamp() * 1_000_000),
        erasure.request.allow_recreation,
        erasure.request.command,
    )
    hidden = [digests.digest(text) for text in erasure.keys]
    add_erasure(lake, session, name, hidden, begun)
    _delete_noted(erasure)
    erase_landing(erasure)
    _erase_quarantine(erasure)
    _erase_changelog(erasure)
    _erase_current(erasure)
    _erase_days(erasure)
    proof = prove(erasure)
    for place, erase_replica in replicas.items():
        add_erasure(lake, session, name, hidden, _stated(erasure, begun))
        erasure.removed[f"{place}: rows"] += erase_replica(tuple(erasure.keys))
    completed_us = int(lake.now().timestamp() * 1_000_000)
    add_erasure(lake, session, name, hidden, replace(_stated(erasure, begun), completed_us=completed_us))
    return EraseResult(
        name,
        len(erasure.keys),
        begun.erased_us,
        dict(erasure.removed),
        tuple(erasure.not_reached),
        sum(searched.files for searched in proof),
        proof=proof,
    )


def _stated(erasure: Erasure, begun: ErasureRow) -> ErasureRow:
    """A row that states what was done so far."""
    return replace(
        begun,
        removed=orjson.dumps(dict(erasure.removed), option=orjson.OPT_SORT_KEYS).decode(),
        not_reached=orjson.dumps(erasure.not_reached).decode(),
    )


# --- rows of Iceberg tables


def _record_rows(_branch: str) -> RowsToRemove:
    """The records of the keys in the changelog."""
    return RowsToRemove(f"(_key_hash, _key) IN (SELECT (_key_hash, _key) FROM {ERASED_KEYS})", "changed_at")


def _entry_rows(_branch: str) -> RowsToRemove:
    """The entries of the quarantine that `_find_entries` found."""
    return RowsToRemove(f"quarantine_id IN (SELECT quarantine_id FROM {_ENTRIES})", "quarantined_at")


@dataclass(frozen=True, slots=True)
class _ItemRows:
    """The rows of the keys in a table of items, by branch."""

    state: CurrentState

    def __call__(self, branch: str) -> RowsToRemove:
        schema = self.state.schema
        for export in self.state.exports:
            if export.branch == branch:
                schema = export.schema
        columns = [schema.column((part,)) for part in schema.key]
        order = ", ".join(carried(column.name) for column in columns if column is not None)
        of_hashes = f"_key_hash IN (SELECT _key_hash FROM {ERASED_KEYS})"
        return RowsToRemove(
            f"CASE WHEN {of_hashes} THEN {key_text_sql(schema)} IN (SELECT _key FROM {ERASED_KEYS}) ELSE false END",
            order,
        )


def _erase_rows(erasure: Erasure, full_name: str, remove: _Remove) -> RemovedRows:
    """Remove rows of one Iceberg table. `remove`: the removal from the table as it is in an attempt. Returns what was removed."""
    lake = erasure.lake

    def attempt() -> RemovedRows:
        table = lake.catalog.table(full_name)
        if table is None or table.current_snapshot() is None:
            return RemovedRows()
        check_newest_commit(table)
        _note(erasure, table)
        return remove(table)

    removed = retry_commit(attempt)
    _delete_noted(erasure)
    place = full_name
    erasure.removed[f"{place}: rows"] += removed.rows
    erasure.removed[f"{place}: stored rows"] += removed.stored
    erasure.removed[f"{place}: files rewritten"] += removed.files
    erasure.not_reached += [
        f"{full_name}: the tag {tag} keeps a snapshot that has the item; drop the tag, then erase again"
        for tag in removed.tags
    ]
    return removed


def _erase_quarantine(erasure: Erasure) -> None:
    def remove(table: Table) -> RemovedRows:
        by_text = _find_entries(erasure, table)
        discarded = 0
        if any(field.name == "discarded_at" for field in table.schema().fields):
            discarded = erasure.session.value(
                f"SELECT count(*) FROM {scan_table(table).sql()} WHERE discarded_at IS NOT NULL AND {_entry_rows('').condition}"
            )
        left = int(table.properties.get(DISCARDED, "0")) - discarded
        removed = remove_rows(
            erasure.session, table, _entry_rows, lambda _removed: {DISCARDED: str(left)} if discarded else {}
        )
        erasure.removed[f"{erasure.name}{QUARANTINE}: entries found by text alone"] += by_text
        return removed

    _erase_rows(erasure, erasure.name + QUARANTINE, remove)


def _find_entries(erasure: Erasure, table: Table) -> int:
    """Make the relation of the entries whose bytes name a key. Returns the number of those that were found by text alone.

    Entries that were replayed are in files too, until a compaction: they are deleted by position.
    """
    session, scan = erasure.session, scan_table(table)
    cursor = session.con.cursor()
    cursor.execute(f"SELECT DISTINCT quarantine_id, raw FROM {TableScan(scan.schema, scan.paths).sql()}")
    found: list[str] = []
    by_text = 0
    while rows := cursor.fetchmany(_RAW_ROWS):
        for identifier, raw in rows:
            if erasure.names_key(raw):
                found.append(identifier)
            elif erasure.has_text_of_key(raw):
                found.append(identifier)
                by_text += 1
    session.con.execute(
        f"CREATE OR REPLACE TABLE {_ENTRIES} AS SELECT unnest({literals(found)}::VARCHAR[]) AS quarantine_id"
    )
    return by_text


def _erase_changelog(erasure: Erasure) -> None:
    lake, name = erasure.lake, erasure.name

    def remove(table: Table) -> RemovedRows:
        state = changes_state(upgraded(lake, name, table))
        return remove_rows(
            erasure.session,
            lake.changes(name) or table,
            _record_rows,
            lambda removed: replace(state, records=state.records - removed.rows).properties(),
        )

    _erase_rows(erasure, name + CHANGES, remove)


def _erase_current(erasure: Erasure) -> None:
    of_current = _erase_items(erasure, erasure.name, _state_left)
    for full_name in item_tables(erasure.lake, erasure.name)[1:]:
        _erase_items(erasure, full_name, partial(_entity_left, of_current=of_current))
    erasure.not_reached += [
        f"{full_name}: the table of a former entity may have the item; `ddb-lake drop-entity` drops the table"
        for full_name in former_entities(erasure.lake, erasure.name)
    ]
    update_entities(erasure.lake, erasure.name)  # those that were behind, or after a kill, do not follow `current` yet


def _erase_items(erasure: Erasure, full_name: str, state_left: _StateLeft) -> RemovedRows:
    """Remove rows from a table of items. `state_left`: the properties of the table afterwards."""
    return _erase_rows(
        erasure,
        full_name,
        lambda table: remove_rows(
            erasure.session,
            table,
            _ItemRows(CurrentState.from_properties(table.properties)),
            lambda removed: state_left(table, removed),
        ),
    )


def _entity_left(table: Table, removed: RemovedRows, of_current: RemovedRows) -> dict[str, str]:
    """The state of an entity's table that loses the rows that `current` has lost, so it need not be derived from `current` again."""
    state = EntityState.of(table)
    if state is None or state.snapshot_id != of_current.before_id or of_current.after_id is None:
        return _state_left(table, removed)
    return replace(state, snapshot_id=of_current.after_id).properties() | _state_left(table, removed)


def _state_left(table: Table, removed: RemovedRows) -> dict[str, str]:
    """The state of a table that loses rows: at most as many misfits as were counted, and the erased items of each export."""
    known = known_misfits(table.properties)
    properties = misfit_properties(None if known is None else known.after((), deletes=True))
    if any(removed.of_branches.values()):
        exports = CurrentState.from_properties(table.properties).exports
        counts = removed.of_branches
        properties |= exports_properties(replace(e, erased=e.erased + counts.get(e.branch, 0)) for e in exports)
    return properties


def item_tables(lake: Lake, name: str) -> tuple[str, ...]:
    """The Iceberg tables that have items in typed columns, and state their columns as `current` does: it, and those of entities."""
    return (name, *(entity_table(name, entity.name) for entity in lake.table(name).entities))


# --- files


def _notes(erasure: Erasure) -> Landing:
    return Landing(erasure.lake.objects, f"{erasure.lake.landing}/{ERASURES_FOLDER}/{erasure.name}")


def _note(erasure: Erasure, table: Table) -> None:
    """Note the files of a table before a commit, after which some of them are in no snapshot."""
    note = {"table": table.name()[-1], "files": sorted(referenced(table))}
    _notes(erasure).put(f"{uuid.uuid4().hex}.json", orjson.dumps(note))


def _delete_noted(erasure: Erasure) -> None:
    """Delete the noted files that no snapshot names now, then the notes."""
    notes = _notes(erasure)
    for name in notes.names():
        data, _ = notes.load(name)
        if data is None:
            continue
        note = orjson.loads(data)
        table = erasure.lake.catalog.table(note["table"])
        if table is not None:
            erasure.removed[f"{note['table']}: files deleted"] += delete_unnamed(table, note["files"])
        notes.remove(name)


# --- kept days


def _days(erasure: Erasure) -> Iterator[tuple[str, int]]:
    """The files of kept days that have rows of the keys, with the number of these rows.

    A row has no text of its key, so it is found by the hash alone.
    """
    lake, session = erasure.lake, erasure.session
    folder = daily_folder(lake, erasure.name)
    for ref in lake.objects.list(folder) if lake.objects.reachable(folder) else ():
        rows = session.value(f"SELECT count(*) FROM read_parquet({literal(ref.uri)}) WHERE {erasure.of_hashes}")
        if rows:
            yield ref.uri, rows


def _erase_days(erasure: Erasure) -> None:
    """Replace the files of kept days by files without the keys. Readers never see part of a file."""
    session = erasure.session
    for uri, rows in _days(erasure):
        ((columns,),) = session.rows(
            f"SELECT decode(value) FROM parquet_kv_metadata({literal(uri)}) WHERE decode(key) = '{COLUMNS_METADATA}'"
        )
        options = PARQUET if "://" in uri else f"{PARQUET}, USE_TMP_FILE true"
        options += f", KV_METADATA {{{COLUMNS_METADATA}: {literal(columns)}}}"
        kept = f"SELECT * FROM read_parquet({literal(uri)}) WHERE NOT coalesce({erasure.of_hashes}, false)"
        session.con.execute(f"COPY ({kept}) TO {literal(uri)} ({options})")
        erasure.removed["kept days: rows"] += rows
        erasure.removed["kept days: files"] += 1


# --- a dry run


def _count(erasure: Erasure) -> None:
    """Count what an erasure would remove."""
    erase_landing(erasure, dry=True)
    lake, session, name = erasure.lake, erasure.session, erasure.name
    quarantine, changes = lake.readable(name + QUARANTINE), lake.readable(name + CHANGES)
    if quarantine is not None:
        _find_entries(erasure, quarantine)
        erasure.removed[f"{name}{QUARANTINE}: rows"] += _living(session, quarantine, _entry_rows)
    if changes is not None:
        erasure.removed[f"{name}{CHANGES}: rows"] += _living(session, changes, _record_rows)
    for full_name in item_tables(lake, name):
        table = lake.readable(full_name)
        if table is not None:
            state = CurrentState.from_properties(table.properties)
            rows_of = _ItemRows(state)
            erasure.removed[f"{full_name}: rows"] += _living(session, table, rows_of)
            exports = [ref for ref in table.metadata.refs if ref.startswith(EXPORT_BRANCH)]
            for branch in exports:
                scan = scan_table(table, table.metadata.refs[branch].snapshot_id)
                erasure.removed[f"{full_name}: rows of exports"] += session.value(
                    f"SELECT count(*) FROM {scan.sql()} WHERE {rows_of(branch).condition}"
                )
    for uri, rows in _days(erasure):
        erasure.removed["kept days: rows"] += rows
        erasure.removed["kept days: files"] += bool(uri)


def _living(session: Session, table: Table, rows_of: _RowsOf) -> int:
    count: int = session.value(f"SELECT count(*) FROM {scan_table(table).sql()} WHERE {rows_of('main').condition}")
    return count
