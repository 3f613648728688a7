"""Erases keys from a replica: its rows, and the rows that the database rejected.

The tombstones of change files have a hash of the key and no text. They stay, so that a late file does not bring the row back.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import partial

from ddb_lake.config import AuroraSettings
from ddb_lake.mysql.change_files import table_columns
from ddb_lake.mysql.replica_table import has_rejected_table
from ddb_lake.mysql.replication import connect_replica, target_of
from ddb_lake.mysql.statements import delete_keys
from ddb_lake.pipeline.maintain.erase import erase_keys
from ddb_lake.pipeline.maintain.erasure import EraseRequest, EraseResult
from ddb_lake.pipeline.open_lake import Lake

REPLICA = "replica in MySQL"
"""The name of the replica in the results of an erasure."""


def erase_with_replica(lake: Lake, name: str, request: EraseRequest, dry: bool = False) -> EraseResult:
    """Erase keys from a lake, then from the table's replica if it has one. The erasure is complete only after both.

    The arguments and the errors are those of `pipeline.maintain.erase.erase_keys`. The next replication sends all rows, because the
    lake's history is new.

    Raises:
        DatabaseError: the database refuses a statement. The lake's files are erased, and the erasure is not complete.
        TransientError: the database cannot be reached. As for DatabaseError; or as `erase_keys`.
    """
    settings = lake.table(name).aurora
    return erase_keys(lake, name, request, dry, {} if settings is None else {REPLICA: partial(_erase, name, settings)})


def _erase(name: str, settings: AuroraSettings, key_texts: Sequence[str]) -> int:
    """Delete the rows of keys. Returns their number. Nothing was deleted if it raises an error."""
    target = target_of(name, settings)
    keys = [hashlib.sha256(text.encode()).digest() for text in key_texts]
    with connect_replica(settings) as database:
        tables = [target.name] if table_columns(database, target) else []
        tables += [target.rejected] if has_rejected_table(database, target) else []
        with database.transaction():
            return sum(database.execute(delete_keys(table, len(keys)), keys) for table in tables)
