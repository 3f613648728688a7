"""The items of a table, exactly as the source has them: now, or as of a time."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime

from pyiceberg.table import Table

from ddb_lake.core.ordering import horizon_us
from ddb_lake.core.schema import TableSchema
from ddb_lake.engine.connection import Session
from ddb_lake.engine.keytext import key_text_sql
from ddb_lake.engine.merge import MergeInput, plan_merge
from ddb_lake.engine.restoration import complete, item_sql
from ddb_lake.errors import UsageError
from ddb_lake.lake.files import live_files, scan_sql
from ddb_lake.lake.sidecar import TOMBSTONE_COLUMNS, Sidecar
from ddb_lake.lake.state import ChangesState, CurrentState
from ddb_lake.stages.current import NO_ROWS, collect_outcome
from ddb_lake.stages.lake import Lake
from ddb_lake.stages.relations import base_images, export_files, records_sql

FETCH_ROWS = 5_000


def dump_items(lake: Lake, name: str, as_of_us: int | None = None) -> Iterator[bytes]:
    """Each living item as `{"Item":{…}}`, DynamoDB JSON on one line without its end; in no particular order.

    `as_of_us`: the items as of that instant (inclusive), from the newest export before it and the changelog. Raises
    UsageError for an instant before the lake's first knowledge of the table.
    """
    lake.table(name)
    table = lake.current(name)
    if table is None:
        return
    if as_of_us is None:
        state = CurrentState.from_properties(table.properties)
        live = live_files(table)
        rows = scan_sql(table.schema(), live.paths, [f.file_path for f in live.deletes])
        expired = "WHERE _expired_at IS NULL" if any(f.name == "_expired_at" for f in table.schema().fields) else ""
        with lake.session() as session:
            yield from _lines(session, f"SELECT {item_sql(state.schema)} AS item, _rescued FROM {rows} {expired}")
    else:
        yield from _dump_as_of(lake, name, table, as_of_us)


def _lines(session: Session, query: str) -> Iterator[bytes]:
    session.con.execute(query)
    while rows := session.con.fetchmany(FETCH_ROWS):
        for item, rescued in rows:
            yield b'{"Item":' + complete(item, rescued) + b"}"


def _dump_as_of(lake: Lake, name: str, table: Table, as_of_us: int) -> Iterator[bytes]:
    state = CurrentState.from_properties(table.properties)
    changes = lake.changes(name)
    log = ChangesState.from_properties(changes.properties) if changes else ChangesState()
    base = state.base_at(as_of_us)
    if base is None and state.exports:
        first = min(e.export_us for e in state.exports)
        raise UsageError(f"{name}: the lake knows nothing of {_iso(as_of_us)}; its first snapshot is of {_iso(first)}")
    settings = lake.table(name)
    horizon = horizon_us(base.export_us, log.first_change_us, settings.margin_us) if base else None
    base_rows, base_schema = export_files(table, base) if base else (None, state.schema)
    with lake.session() as session:
        keyed = _keyed_base(base_rows, base_schema)
        if changes is None:
            session.con.execute(
                "CREATE TABLE outcome AS SELECT NULL::VARCHAR AS _key, NULL::VARCHAR AS item WHERE false"
            )
        else:
            until = _until(records_sql(changes, after_us=horizon), as_of_us)
            given = MergeInput(
                fresh=until,
                changelog=until,
                current=NO_ROWS,
                tombstones=Sidecar().sql(TOMBSTONE_COLUMNS),
                horizon_us=horizon,
                base_us=base.export_us if base else None,
                margin_us=settings.margin_us,
                simple=set(log.sources) <= {"time"},
                recheck=True,
            )
            plan_merge(
                session, given, lambda keys: base_images(session, base_rows, base_schema, keys) if base_rows else {}
            )
            # an item that Time to Live removed is gone, whatever `ttl_deletes` keeps
            collect_outcome(session, given, settings.model_copy(update={"ttl_deletes": "apply"}))
        if keyed:
            yield from _lines(session, f"SELECT item, _rescued FROM {keyed} b ANTI JOIN outcome o ON o._key = b._key")
        yield from _lines(session, "SELECT item, NULL FROM outcome WHERE item IS NOT NULL")


def _keyed_base(rows: str | None, schema: TableSchema) -> str | None:
    if rows is None:
        return None
    return f"(SELECT {key_text_sql(schema)} AS _key, {item_sql(schema)} AS item, _rescued FROM {rows})"


def _until(records: str, as_of_us: int) -> str:
    """Records up to an instant; an assertion speaks of the last instant before its window's end."""
    changed = f"changed_at <= make_timestamp({as_of_us})"
    asserted = f"(asserted_at IS NULL OR asserted_at <= make_timestamp({as_of_us + 1}))"
    return f"(SELECT * FROM {records} WHERE {changed} AND {asserted})"


def _iso(time_us: int) -> str:
    return datetime.fromtimestamp(time_us / 1e6, UTC).isoformat()
