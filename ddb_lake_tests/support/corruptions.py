"""Ways to spoil a lake behind its back: rows of `current` lost, doubled, replaced, put back."""

from __future__ import annotations

import json

from ddb_lake.core.values.change_record import Item
from ddb_lake.core.values.primary_key import key_hash, key_text
from ddb_lake.engine.key_text import key_text_sql
from ddb_lake.engine.projection import Projection
from ddb_lake.engine.sql import literal
from ddb_lake.lake.commit import Commit, Delta
from ddb_lake.lake.file_writer import FileWriter
from ddb_lake.lake.scan import scan_table
from ddb_lake.pipeline.merge.local_merge import ROW_COLUMNS
from ddb_lake.pipeline.open_lake import Lake
from ddb_lake.pipeline.read.replay import view


def lose_row(lake: Lake, name: str, key: Item) -> None:
    """Retire the rows of a key."""
    _rewrite(lake, name, key, None, retire=True)


def double_row(lake: Lake, name: str, item: Item) -> None:
    """Add one more row of an item that is there."""
    _rewrite(lake, name, item, item, retire=False)


def put_row(lake: Lake, name: str, item: Item) -> None:
    """Make an item's row another one, whatever was landed of it."""
    _rewrite(lake, name, item, item, retire=True)


def _rewrite(lake: Lake, name: str, key: Item, item: Item | None, retire: bool) -> None:
    seen = view(lake, name)
    table, schema = seen.table, seen.state.schema
    assert table is not None
    text = key_text(key, schema.key)
    commit = Commit(table)
    with lake.session() as session:
        writer = FileWriter.for_table(session.con, table)
        deletes, added = [], []
        if retire:
            rows = scan_table(table).sql(positions=True)
            found = f"SELECT *, {key_text_sql(schema)} AS _key FROM {rows}"
            deletes = writer.write_deletes(
                f"SELECT _file_path AS file_path, _pos AS pos FROM ({found}) WHERE _key = {literal(text)}"
            )
        if item is not None:
            projection = Projection(schema)
            projection.register(session.con)
            source = (
                f"(SELECT {literal(json.dumps(item))} AS item, TIMESTAMP '2026-01-01' AS _changed_at, 'change' AS _source,"
                f" {key_hash(text)}::BIGINT AS _key_hash, NULL::TIMESTAMP AS _expired_at)"
            )
            added = writer.write(projection.select(source, ROW_COLUMNS), table.metadata)
        commit.snapshot(Delta(added=added, deletes=deletes))
        commit.run()
