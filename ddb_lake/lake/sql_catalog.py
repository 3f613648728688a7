"""What needs SQLAlchemy: pyiceberg's SQL catalog, and the errors of its database.

SQLAlchemy is slow to import, so `lake.catalog` imports this module when it opens a SQL catalog.
"""

from __future__ import annotations

import os
from pathlib import Path

from pyiceberg.catalog.sql import IcebergTables, SqlCatalog
from pyiceberg.table import Table
from pyiceberg.typedef import Identifier
from sqlalchemy import false, select, update
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, DatabaseError, IntegrityError, NoSuchModuleError, OperationalError

from ddb_lake.errors import ConfigError, DamagedError, DdbLakeError, DeniedError, TransientError, UnreachableError
from ddb_lake.lake.metadata_files import read_metadata
from ddb_lake.lake.sqlite_tables import CATALOG_RECOVER, SQLITE_WAIT_S

INSUFFICIENT_PRIVILEGE = "42501"
"""https://www.postgresql.org/docs/current/errcodes-appendix.html"""

_GRANT = "grant this user the right to read and change `iceberg_tables` and `iceberg_namespace_properties`"


class ParsedOnceCatalog(SqlCatalog):  # type: ignore[misc]  # pyiceberg is untyped to mypy here
    """A SQL catalog. Tables of the same metadata file share its parsed form (`lake.metadata_files.read_metadata`)."""

    def _convert_orm_to_iceberg(self, orm_table: IcebergTables) -> Table:
        location = orm_table.metadata_location
        if location is None:
            return super()._convert_orm_to_iceberg(orm_table)
        metadata = read_metadata(self._load_file_io({}, location), location)
        return Table(
            (*self.identifier_to_tuple(orm_table.table_namespace), orm_table.table_name),
            metadata,
            location,
            self._load_file_io(metadata.properties, location),
            self,
        )


def sqlite_uri(database: Path) -> str:
    """The address of a catalog in a SQLite file."""
    return URL.create("sqlite", database=str(database), query={"timeout": str(SQLITE_WAIT_S)}).render_as_string()


def metadata_location(catalog: SqlCatalog, identifier: Identifier) -> str | None:
    """The newest metadata file of a table; None if the catalog does not have the table."""
    row = IcebergTables.catalog_name == catalog.name, IcebergTables.table_namespace == identifier[0]
    wanted = select(IcebergTables.metadata_location).where(*row, IcebergTables.table_name == identifier[-1])
    with catalog.engine.connect() as connection:
        location: str | None = connection.execute(wanted).scalar()
        return location


def check_commits(catalog: SqlCatalog) -> None:
    """Execute a change of no rows. Raises SQLAlchemy's error if this identity may not change the catalog."""
    nothing = update(IcebergTables).where(false()).values(previous_metadata_location=None)
    with catalog.engine.connect() as connection:
        connection.execute(nothing)
        connection.rollback()


def may_be_concurrent_creation(error: BaseException) -> bool:
    """Whether an error of SQLAlchemy may mean that another process creates the same tables at this time."""
    return isinstance(error, OperationalError | IntegrityError)


def translated(error: Exception, place: str, uri: str) -> DdbLakeError | None:
    """Our error for an error of SQLAlchemy; None if it has none.

    Args:
        error: the error.
        place: the catalog's address for messages, without credentials.
        uri: the address.
    """
    if isinstance(error, OperationalError):
        return _translated_operational(error, place, uri)
    if isinstance(error, DatabaseError):
        if getattr(error.orig, "sqlstate", None) == INSUFFICIENT_PRIVILEGE:
            return DeniedError(f"its database denies access ({_one_line(error.orig)}); {_GRANT}", uri=place)
        return DamagedError(f"it is no SQL catalog ({_one_line(error.orig)})", uri=place, hint=CATALOG_RECOVER)
    if isinstance(error, ArgumentError | NoSuchModuleError):
        return ConfigError(f"catalog: `uri` {place} is no address of a SQL database ({error})")
    return None


def _translated_operational(error: OperationalError, place: str, uri: str) -> DdbLakeError:
    message = str(error.orig)
    if "locked" in message:
        return TransientError(f"the catalog {place} is in use: {message}")
    if "password authentication failed" in message:  # while connecting, libpq has no code
        return DeniedError("its database does not accept the user or the password of `catalog.uri`", uri=place)
    if "unable to open database file" in message:
        return _unopened(Path(make_url(uri).database or ""))
    return UnreachableError(
        f"the catalog {place} cannot be used now ({_one_line(error.orig)})",
        hint="if it stays so, check `catalog.uri`",
    )


def _unopened(path: Path) -> DdbLakeError:
    """The reason why SQLite does not open its file. SQLite's message is the same for each reason."""
    if path.is_dir():
        return DamagedError("it is a folder, where the SQL catalog was", uri=str(path), hint=CATALOG_RECOVER)
    if all(os.access(place, os.R_OK | os.W_OK) for place in (path.parent, *([path] if path.exists() else []))):
        return TransientError(f"the catalog {path} cannot be opened now, though access is granted")
    what = "the catalog cannot be opened: it, or its folder, is not there or access is denied"
    return DeniedError(what, uri=str(path))


def _one_line(error: object) -> str:
    return next(iter(str(error).strip().splitlines()), "no message")[:300].rstrip(".;")
