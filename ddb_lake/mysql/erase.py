"""Erases keys from a replica: its rows, and the rows that the database rejected.

The tombstones of change files have a hash of the key and no text. They stay, so that a late file does not bring the row back.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from ddb_lake.mysql.change_files import table_columns
from ddb_lake.mysql.replica_table import has_rejected_table
from ddb_lake.mysql.replication import connect_replica, target_of
from ddb_lake.mysql.statements import delete_keys
from ddb_lake.pipeline.open_lake import Lake


def erase_replica(lake: Lake, name: str, key_texts: Sequence[str]) -> int | None:
    """Delete the rows of keys from a table's replica. The next replication sends all rows, because the lake's history is new.

    Args:
        lake: the open lake.
        name: the table.
        key_texts: the texts of the keys (`core.values.primary_key.key_text`).

    Returns:
        The number of rows that were deleted; None if the table has no replica.

    Raises:
        DatabaseError: the database refuses a statement. Nothing was deleted.
        TransientError: the database cannot be reached.
    """
    settings = lake.table(name).aurora
    if settings is None:
        return None
    target = target_of(name, settings)
    keys = [hashlib.sha256(text.encode()).digest() for text in key_texts]
    with connect_replica(settings) as database:
        tables = [target.name] if table_columns(database, target) else []
        tables += [target.rejected] if has_rejected_table(database, target) else []
        with database.transaction():
            return sum(database.execute(delete_keys(table, len(keys)), keys) for table in tables)
