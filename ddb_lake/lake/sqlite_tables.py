"""Loads the tables of a SQL catalog in a SQLite file without SQLAlchemy, whose import takes a third of the time of `ddb-lake status`.

Only the row of a table is read here. pyiceberg's catalog writes it, and does everything else; it is opened when a table needs
it, at the latest for a commit.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import quote

from pyiceberg.catalog import Catalog
from pyiceberg.exceptions import NoSuchTableError
from pyiceberg.io import load_file_io
from pyiceberg.table import Table
from pyiceberg.typedef import Identifier

from ddb_lake.lake.metadata_files import read_metadata

CATALOG_RECOVER = (
    "Put the catalog back from a backup, or register each table by its newest metadata: `ddb-lake rebuild TABLE --register`."
    " If the catalog's file is damaged, move it away first"
)
SQLITE_WAIT_S = 20
"""The time for which SQLite waits for the lock of another process before it reports `database is locked`."""


def metadata_location(database: Path, catalog: str, identifier: Identifier) -> str | None:
    """The newest metadata file of a table; None if the catalog does not have the table.

    Args:
        database: the SQLite file, as pyiceberg writes it.
        catalog: the name of the catalog in it.
        identifier: the namespace and the name of the table.

    Raises:
        sqlite3.Error: the file cannot be opened or is locked, or is no SQL catalog.
    """
    *namespace, name = identifier
    uri = f"file:{quote(str(database))}?mode=ro"
    with closing(sqlite3.connect(uri, timeout=SQLITE_WAIT_S, uri=True)) as connection:
        connection.row_factory = sqlite3.Row
        row = connection.execute(
            "SELECT * FROM iceberg_tables WHERE catalog_name = ? AND table_namespace = ? AND table_name = ?",
            (catalog, ".".join(namespace), name),
        ).fetchone()
    # catalogs of earlier releases lack `iceberg_type`; the rows of views have another one
    if row is None or ("iceberg_type" in row.keys() and row["iceberg_type"] not in (None, "TABLE")):  # noqa: SIM118
        return None
    location: str | None = row["metadata_location"]
    return location


def table_names(database: Path, catalog: str, namespace: str) -> set[str]:
    """The names of the tables in a namespace. Arguments and errors as of `metadata_location`."""
    uri = f"file:{quote(str(database))}?mode=ro"
    with closing(sqlite3.connect(uri, timeout=SQLITE_WAIT_S, uri=True)) as connection:
        rows = connection.execute(
            "SELECT table_name FROM iceberg_tables WHERE catalog_name = ? AND table_namespace = ?", (catalog, namespace)
        ).fetchall()
    return {name for (name,) in rows}


def load_table(
    database: Path,
    catalog: str,
    identifier: Identifier,
    properties: Mapping[str, Any],
    open_catalog: Callable[[], Catalog],
) -> Table:
    """A table as it is now.

    Args:
        database: as of `metadata_location`, and so `catalog` and `identifier`.
        properties: those of the catalog, which decide how files are accessed.
        open_catalog: is called when the table's catalog is needed.

    Raises:
        NoSuchTableError: the catalog does not have the table.
        sqlite3.Error: as `metadata_location`.
    """
    location = metadata_location(database, catalog, identifier)
    if location is None:
        raise NoSuchTableError(f"Table does not exist: {'.'.join(identifier)}")
    metadata = read_metadata(load_file_io(dict(properties), location), location)
    io = load_file_io({**properties, **metadata.properties}, location)
    return _LazyCatalogTable(identifier, metadata, location, io, open_catalog)


class _LazyCatalogTable(Table):  # type: ignore[misc]  # pyiceberg is untyped to mypy here
    """A table whose catalog is opened on first use."""

    @property
    def catalog(self) -> Catalog:
        """The catalog of the table."""
        return self._open_catalog()

    @catalog.setter
    def catalog(self, open_catalog: Callable[[], Catalog]) -> None:
        """Take what opens the catalog: pyiceberg's constructor sets the attribute."""
        self._open_catalog = open_catalog
