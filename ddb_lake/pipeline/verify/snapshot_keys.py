"""Counting the rows and the distinct keys of a loaded full export, in the branch of `current` that has its rows alone."""

from __future__ import annotations

from dataclasses import dataclass

from ddb_lake.engine.key_text import key_text_sql
from ddb_lake.lake.scan import scan_table
from ddb_lake.lake.state import LoadedExport
from ddb_lake.pipeline.open_lake import Lake


@dataclass(frozen=True, slots=True)
class KeyCounts:
    """The rows of an export's branch, those of them that have a key, and the distinct keys of these."""

    rows: int
    keyed: int
    distinct: int

    @property
    def is_unique(self) -> bool:
        """Whether each row has a key, and no key occurs twice."""
        return self.rows == self.keyed == self.distinct


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
        total, keyed, distinct = session.rows(
            f"SELECT count(*), count(_key_hash), count(DISTINCT _key_hash) FROM {rows}"
        )[0]
        if distinct != keyed:
            ((distinct,),) = session.rows(f"SELECT count(DISTINCT {key_text_sql(export.schema)}) FROM {rows}")
    return KeyCounts(total, keyed, distinct)
