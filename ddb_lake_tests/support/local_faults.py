"""Faults of the local machine, injected."""

from __future__ import annotations

import errno
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

from pyiceberg.catalog.sql import SqlCatalog
from pyiceberg.exceptions import CommitStateUnknownException
from sqlalchemy.exc import OperationalError

from ddb_lake.lake import sqlite_tables


@contextmanager
def catalog_away() -> Iterator[None]:
    """The database of the catalog cannot be opened, neither by SQLAlchemy nor by `lake.sqlite_tables`."""

    def away(*_: Any, **__: Any) -> Any:
        raise sqlite3.OperationalError("unable to open database file")

    def away_of_sqlalchemy(*_: Any, **__: Any) -> Any:
        raise OperationalError("SELECT", {}, sqlite3.OperationalError("unable to open database file"))

    with (
        mock.patch.object(sqlite_tables, "metadata_location", away),
        mock.patch.object(SqlCatalog, "load_table", away_of_sqlalchemy),
    ):
        yield


@contextmanager
def answers_lost(landed: bool) -> Iterator[list[str]]:
    """The first commit to each table is served (if `landed`), and its answer does not come."""
    original, lost = SqlCatalog.commit_table, []

    def commit(self: SqlCatalog, table: Any, *arguments: Any, **named: Any) -> Any:
        name = table.name()[-1]
        if name in lost:
            return original(self, table, *arguments, **named)
        lost.append(name)
        if landed:
            original(self, table, *arguments, **named)
        raise CommitStateUnknownException("the connection was lost")

    with mock.patch.object(SqlCatalog, "commit_table", commit):
        yield lost


def full_disk(*_: Any, **__: Any) -> Any:
    raise OSError(errno.ENOSPC, "No space left on device", "part-0.parquet")


OLD = "11991185-e7ab-4da5-8bab-03f0db0b7bfd"

NEW = "99991185-e7ab-4da5-8bab-03f0db0b7bfd"
