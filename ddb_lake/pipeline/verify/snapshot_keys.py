"""Counting the rows and the distinct keys of a loaded full export, in the branch of `current` that has its rows alone."""

from __future__ import annotations

from dataclasses import replace

from ddb_lake.engine.key_counts import KeyCounts, count_key_hashes
from ddb_lake.engine.key_text import key_text_sql
from ddb_lake.lake.scan import scan_table
from ddb_lake.lake.state import LoadedExport
from ddb_lake.pipeline.open_lake import Lake


def count_keys(lake: Lake, name: str, export: LoadedExport) -> KeyCounts | None:
    """Count the rows and keys of a loaded full export; None if the table has its branch no more.

    Keys are counted by their hash. Only if hashes are equal, they are counted by their text.
    """
    table = lake.current(name)
    snapshot = table.snapshot_by_name(export.branch) if table is not None else None
    if table is None or snapshot is None:
        return None
    rows = scan_table(table, snapshot.snapshot_id).sql()
    with lake.session() as session:
        found = count_key_hashes(session, rows, lake.settings.memory_bytes)
        if found.distinct == found.keyed:
            return found
        return replace(
            found, distinct=session.value(f"SELECT count(DISTINCT {key_text_sql(export.schema)}) FROM {rows}")
        )
