"""Dumps the items of a table as DynamoDB JSON, equal to the items of the source, now or as of an instant."""

from __future__ import annotations

from collections.abc import Iterator

from ddb_lake.engine.inverse_projection import complete, item_sql
from ddb_lake.engine.session import Session, with_memory
from ddb_lake.lake.scan import scan_table
from ddb_lake.lake.state import CurrentState
from ddb_lake.pipeline.open_lake import Lake
from ddb_lake.pipeline.read.replay import replay, view

FETCH_ROWS = 100
"""Items of a fetch: an item takes up to 400 KB."""


def dump_items(lake: Lake, name: str, as_of_us: int | None = None) -> Iterator[bytes]:
    """The existing items of a table, each as one line of DynamoDB JSON, `{"Item":{…}}`, without a newline.

    Args:
        lake: the open lake.
        name: the table. A table without rows has no items.
        as_of_us: the instant (inclusive), microseconds since the epoch; by default, the table as it is now.

    Yields:
        The lines, in no particular order.

    Raises:
        UsageError: the instant is before the first export, so the state of the table is unknown.
        ConfigError: the table is not configured.

    Example:
        for line in dump_items(lake, "orders"):
            item = json.loads(line)["Item"]
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
            items = replay(lake, session, view(lake, name), as_of_us).items
            yield from _lines(session, f"SELECT item, _rescued FROM {items}")


def _lines(session: Session, query: str) -> Iterator[bytes]:
    rows = with_memory(session, lambda: session.con.execute(query).fetchmany(FETCH_ROWS))
    while rows:
        for item, rescued in rows:
            yield b'{"Item":' + complete(item, rescued) + b"}"
        rows = session.con.fetchmany(FETCH_ROWS)
