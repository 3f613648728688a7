"""The items of a table, exactly as the source has them: now, or as of a time."""

from __future__ import annotations

from collections.abc import Iterator

from ddb_lake.engine.inverse_projection import complete, item_sql
from ddb_lake.engine.session import Session, with_memory
from ddb_lake.lake.scan import scan_table
from ddb_lake.lake.state import CurrentState
from ddb_lake.pipeline.open_lake import Lake
from ddb_lake.pipeline.read.replay import replay

FETCH_ROWS = 100


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
        state = CurrentState.of(table)
        rows = scan_table(table).sql()
        expired = "WHERE _expired_at IS NULL" if any(f.name == "_expired_at" for f in table.schema().fields) else ""
        with lake.session() as session:
            yield from _lines(session, f"SELECT {item_sql(state.schema)} AS item, _rescued FROM {rows} {expired}")
    else:
        with lake.session() as session:
            found = replay(lake, session, name, as_of_us)
            yield from _lines(session, f"SELECT item, _rescued FROM {found.items}")


def _lines(session: Session, query: str) -> Iterator[bytes]:
    rows = with_memory(session, lambda: session.con.execute(query).fetchmany(FETCH_ROWS))
    while rows:
        for item, rescued in rows:
            yield b'{"Item":' + complete(item, rescued) + b"}"
        rows = session.con.fetchmany(FETCH_ROWS)
