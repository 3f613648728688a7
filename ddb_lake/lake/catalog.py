"""The catalog of a lake, in which its Iceberg tables are registered.

It is a SQL catalog beside a local warehouse, Glue for a warehouse in S3, or what `catalog` in the configuration names. Errors
of the three become errors of `ddb_lake.errors`. The catalog decides where a new table's files are, unless the configuration
has `catalog.location`. So a table is known by the property `TABLE_NAME` in its metadata, and not by its location.
"""

from __future__ import annotations

import os
import re
import sqlite3
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from pyarrow.fs import AwsStandardS3RetryStrategy
from pyiceberg.catalog import Catalog, load_catalog
from pyiceberg.exceptions import (
    CommitFailedException,
    ForbiddenError,
    NamespaceAlreadyExistsError,
    NoSuchNamespaceError,
    NoSuchTableError,
    ServerError,
    TableAlreadyExistsError,
    ValidationError,
)
from pyiceberg.io import FileIO, load_file_io
from pyiceberg.partitioning import UNPARTITIONED_PARTITION_SPEC, PartitionSpec
from pyiceberg.schema import Schema
from pyiceberg.table import Table
from pyiceberg.table.update import AssertTableUUID
from pyiceberg.typedef import Identifier

from ddb_lake.core.layout.table_names import glue_name
from ddb_lake.core.operations.library_errors import translate
from ddb_lake.core.operations.retry_policy import ATTEMPTS, CATALOG, CONNECT_TIMEOUT_S, READ_TIMEOUT_S
from ddb_lake.errors import ConfigError, DamagedError, DeniedError, TerminalError, UnreachableError
from ddb_lake.lake import sqlite_tables
from ddb_lake.lake.lake_format import ICEBERG_VERSION, check_format, format_properties

if TYPE_CHECKING:  # for annotations: the opener of a catalog makes the settings
    from types import TracebackType

    from ddb_lake.config import LakeSettings

TABLE_PROPERTIES = {
    "format-version": str(ICEBERG_VERSION),
    "write.delete.mode": "merge-on-read",
    "write.update.mode": "merge-on-read",
    "write.merge.mode": "merge-on-read",
    "write.parquet.compression-codec": "zstd",
    "write.metadata.delete-after-commit.enabled": "true",
    "write.metadata.previous-versions-max": "20",
    "commit.retry.num-retries": "0",  # a stale plan must be made again; committing it again would be wrong
}
TABLE_NAME = "ddb_lake.table"
"""The property of an Iceberg table that has its name in the lake. Tables of earlier releases do not have it."""

WORKING = "ddb_lake.working"
"""A property of a table that a rebuild is building. Its metadata is never registered in the catalog of a lake."""

CATALOG_NAME = "ddb_lake"
"""The name under which a SQL catalog has the lake's tables."""


class LakeCatalog:
    """Opens, creates and lists the Iceberg tables of one lake. Close it, or use it in a `with` statement.

    The catalog is connected on first use, and errors of the connection are raised there.

    Attributes:
        settings: the configuration.
        warehouse: the warehouse: an absolute local path, or a URI without a final slash.
        kind: the catalog's type: `sql`, `glue` or `rest`.
        has_own_database: whether the catalog is the default one: SQLite beside a local warehouse.
        is_local: whether the files of the tables are in folders of this machine. A REST catalog can place them anywhere.
    """

    def __init__(self, settings: LakeSettings, s3_endpoint: Callable[[], str | None] = lambda: None) -> None:
        """`s3_endpoint`: the endpoint of S3, or None for that of AWS. It is called before a catalog with files elsewhere is connected."""
        self.settings = settings
        self._s3_endpoint = s3_endpoint
        self.warehouse = location_of(settings.warehouse)
        self.kind = settings.catalog_type
        self.has_own_database = self.kind == "sql" and settings.catalog.uri is None and settings.has_local_warehouse
        self.is_local = settings.has_local_tables
        self._tables_location = settings.tables_location
        self._spells_names_as_glue = settings.spells_names_as_glue
        self._catalog: Catalog | None = None
        self._locations: dict[Identifier, str] = {}

    def __enter__(self) -> LakeCatalog:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        if self._catalog is not None:
            engine = getattr(self._catalog, "engine", None)
            if engine is not None:
                engine.dispose()
            self._catalog = None

    @property
    def _database(self) -> Path:
        return Path(self.warehouse) / "catalog.db"

    @property
    def catalog(self) -> Catalog:
        """The pyiceberg catalog, connected on first use."""
        if self._catalog is None:
            self._catalog = self._open()
        return self._catalog

    def table(self, name: str) -> Table | None:
        """Load an Iceberg table as it is now. Creates nothing.

        Args:
            name: the table's name in the lake, with its suffix.

        Returns:
            The table; None if it does not exist.

        Raises:
            DamagedError: its metadata is missing, damaged or another table's; or its files exist and the catalog does not
                have it.
            UsageError: a later release wrote it, in a format that this one does not know.
            UnreachableError: the catalog cannot be reached.
        """
        try:
            table = None if self._is_absent else self._load(self.identifier(name), name)
        except NoSuchTableError:
            table = None
        if table is None:
            self._check_unknown(name)
            return None
        self._check_own(name, table)
        check_format(table)
        return table

    def _load(self, identifier: Identifier, name: str) -> Table:
        with self._translated_errors():
            try:
                return self._registered(identifier) or self.catalog.load_table(identifier)
            except (NoSuchTableError, ServerError) as error:
                if not self._lists_unreadable(name, error):
                    raise
                raise DamagedError(
                    "it has the table, and does not find the table's newest metadata", uri=self.place, table=name
                ) from error
            except (ValueError, ValidationError) as error:  # of UTF-8; of JSON and its fields
                if self.kind == "rest":
                    raise UnreachableError(
                        f"the answer of the catalog at {self.place} is not that of an Iceberg REST catalog ({type(error).__name__})",
                        table=name,
                        hint="check `catalog.uri`",
                    ) from error
                uri = self._metadata_location(identifier)
                raise DamagedError(
                    f"it is damaged ({type(error).__name__}): the catalog names it as the table's newest metadata",
                    uri=uri,
                    table=name,
                ) from error
            except FileNotFoundError as error:
                raise DamagedError(
                    "it is not there: the catalog names it as the table's newest metadata",
                    uri=self._metadata_location(identifier),
                    table=name,
                ) from error
            except OSError as error:
                found = translate(error, self._metadata_location(identifier), name)
                if found is None or type(error).__module__.startswith("requests"):
                    raise
                raise found from error

    def _lists_unreadable(self, name: str, error: NoSuchTableError | ServerError) -> bool:
        """Whether a REST catalog has a table, and has answered that a file is not there: that is the newest metadata.

        Some services give the name of this error to the lack of a table, so the list of tables decides.
        """
        return self.kind == "rest" and names_missing_file(error) and self.identifier(name)[-1] in self.names()

    def _registered(self, identifier: Identifier) -> Table | None:
        """A table of the default catalog, loaded without SQLAlchemy; None if pyiceberg's catalog must answer.

        Raises NoSuchTableError.
        """
        if not self.has_own_database:
            return None
        with suppress(sqlite3.Error):  # pyiceberg's catalog finds the same, and its error is translated
            return sqlite_tables.load_table(
                self._database, CATALOG_NAME, identifier, self._properties(), lambda: self.catalog
            )
        return None

    def _metadata_location(self, identifier: Identifier) -> str | None:
        """The newest metadata file of a table, for a message; None if this kind of catalog does not return it alone."""
        catalog: Any = self.catalog
        if self.kind == "sql":
            from ddb_lake.lake import sql_catalog

            return sql_catalog.metadata_location(catalog, identifier)
        if self.kind == "glue":
            found = catalog.glue.get_table(DatabaseName=identifier[0], Name=identifier[-1])
            location: str | None = found["Table"].get("Parameters", {}).get("metadata_location")
            return location
        return None

    def _check_unknown(self, name: str) -> None:
        """Raise DamagedError if files of the table exist: then the catalog was lost, emptied or replaced.

        A writer that is killed while it creates a table leaves the first metadata file alone, which is no damage. Nor are the
        files of a rebuild. Only local folders are examined: in S3 this would take a request each time.
        """
        if self.kind != "sql" or not self.is_local:
            return
        folder = Path(self.location(name)) / "metadata"
        later = (path for path in folder.glob("*.metadata.json") if not path.name.startswith("00000-"))
        if all(f'"{WORKING}"'.encode() in path.read_bytes() for path in later):
            return
        catalog = self.place
        what = "it is not there" if self._is_absent else "it does not have the table"
        raise DamagedError(
            f"{what}, and the files of {name} are in {folder.parent}",
            uri=catalog,
            hint=f"{sqlite_tables.CATALOG_RECOVER}. If the table was dropped on purpose, move {folder.parent} elsewhere",
        )

    def _check_own(self, name: str, table: Table) -> None:
        """Raise DamagedError if the metadata is that of another table of the lake.

        The metadata of tables of earlier releases has no name. Their locations were chosen by their names.
        """
        known, location = table.properties.get(TABLE_NAME), table.location().rstrip("/")
        if known == name or (known is None and location == self.location(name)):
            return
        for other in self.settings.tables:
            for derived in other.iceberg_names:
                if derived == name:
                    continue
                if known == derived:
                    raise DamagedError(f"it is the metadata of {derived}", uri=table.metadata_location, table=name)
                if known is None and location == self.location(derived):
                    what = f"its location is that of {derived}: it is the metadata of {derived}, or the location was changed"
                    raise DamagedError(what, uri=table.metadata_location, table=name)

    def names(self) -> set[str]:
        """The names of the tables in the lake's namespace, as `identifier` spells them.

        Creates nothing, and reads no table's metadata.
        """
        if self._is_absent:
            return set()
        if self.has_own_database:
            with suppress(sqlite3.Error):  # pyiceberg's catalog finds the same, and its error is translated
                return sqlite_tables.table_names(self._database, CATALOG_NAME, self.settings.catalog.namespace)
        try:
            with self._translated_errors():
                return {name for *_, name in self.catalog.list_tables(self.settings.catalog.namespace)}
        except NoSuchNamespaceError:
            return set()

    def locations(self) -> Iterator[tuple[Identifier, str]]:
        """Identifier and location of every table of the catalog, in all namespaces that this identity may list.

        A location is read once in the life of this object: tables do not move. Glue also returns locations of tables of
        other formats.
        """
        if self._is_absent:
            return
        for namespace in self._namespaces():
            if self.kind == "glue":
                glue: Any = self.catalog
                pages = glue.glue.get_paginator("get_tables").paginate(DatabaseName=namespace[-1])
                for found in (table for page in pages for table in page["TableList"]):
                    location = found.get("StorageDescriptor", {}).get("Location")
                    if location:
                        yield (namespace[-1], found["Name"]), location
                continue
            with self._translated_errors():
                identifiers = self.catalog.list_tables(namespace)
            for identifier in identifiers:
                if identifier not in self._locations:
                    try:
                        self._locations[identifier] = self._load(identifier, ".".join(identifier)).location()
                    except NoSuchTableError:  # it was dropped after it was listed
                        continue
                yield identifier, self._locations[identifier]

    def _namespaces(self) -> list[Identifier]:
        """The lake's namespace and all others; only the lake's if this identity may not list others."""
        own: Identifier = (self.settings.catalog.namespace,)
        found = [own]
        try:
            with self._translated_errors():
                parents: list[Identifier] = [()]
                while parents:
                    inner = self.catalog.list_namespaces(parents.pop())
                    found += inner
                    parents += [] if self.kind == "glue" else inner
        except Exception as error:  # of the catalog's client: Glue's has its own classes
            answer = getattr(error, "response", {}).get("Error", {})
            if isinstance(error, ForbiddenError) or answer.get("Code") == "AccessDeniedException":
                return [own]
            raise
        return list(dict.fromkeys(found))

    @property
    def _is_absent(self) -> bool:
        """Whether the catalog is the default one of a local warehouse, and its database does not exist yet."""
        return self.has_own_database and not self._database.exists()

    def create(
        self,
        name: str,
        schema: Schema,
        spec: PartitionSpec = UNPARTITIONED_PARTITION_SPEC,
        properties: Mapping[str, str] | None = None,
    ) -> Table:
        """Create a table.

        Args:
            name: the table's name in the lake, with its suffix.
            schema: its columns.
            spec: its partitions.
            properties: its properties, beside `TABLE_PROPERTIES`.

        Returns:
            The new table; the existing one if another writer created it at the same time.
        """
        with self._translated_errors():
            CATALOG.call(
                lambda: self.catalog.create_namespace_if_not_exists(self.settings.catalog.namespace),
                _is_concurrent_creation,
            )
            known = {**format_properties(), TABLE_NAME: name}
            try:
                return self.catalog.create_table(
                    self.identifier(name),
                    schema,
                    location=self._new_location(name),
                    partition_spec=spec,
                    properties=known | {**TABLE_PROPERTIES, **(properties or {})},
                )
            except TableAlreadyExistsError:
                return self.catalog.load_table(self.identifier(name))

    def check_commits(self) -> bool:
        """Examine whether the catalog accepts commits of this identity. Changes nothing.

        A SQL catalog executes a change of no rows. A REST catalog receives a commit that requires a table UUID which no table has,
        and must refuse it.

        Returns:
            Whether it could be examined: not in Glue, and in a REST catalog only if it has one of the lake's tables.

        Raises:
            DeniedError: this identity may not commit.
            TerminalError: the REST catalog does not check what commits require, so writers that collide would lose changes.
            UnreachableError: the catalog cannot be reached.
        """
        catalog: Any = self.catalog
        if self.kind == "sql":
            from ddb_lake.lake import sql_catalog

            with self._translated_errors():
                sql_catalog.check_commits(catalog)
            return True
        table = next(filter(None, map(self.table, self._derived_names())), None) if self.kind == "rest" else None
        if table is None:
            return False
        with self._translated_errors():
            try:
                catalog.commit_table(table, (AssertTableUUID(uuid=uuid4()),), ())
            except CommitFailedException:
                return True
            except ForbiddenError as error:
                raise DeniedError("it does not accept commits of this identity", uri=self.place) from error
        raise TerminalError(
            "the catalog accepts a commit whose requirement is not met: writers that collide would lose changes",
            uri=self.place,
            hint="use another catalog",
        )

    def _derived_names(self) -> Iterator[str]:
        return (name for table in self.settings.tables for name in table.iceberg_names)

    def requested_location(self, name: str) -> str | None:
        """The location that a new table must have; None if the catalog chooses it."""
        return location_of(f"{self._tables_location}/{name}") if self.settings.catalog.location else None

    def _new_location(self, name: str) -> str | None:
        """`requested_location`, with the scheme `file://` if the configuration has it: some readers need a scheme."""
        requested = self.requested_location(name)
        has_scheme = (self.settings.catalog.location or "").startswith("file://")
        return f"file://{requested}" if requested and has_scheme else requested

    def location(self, name: str) -> str:
        """The location of a table if it was requested, or if it is that of SQL catalogs or of earlier releases.

        A table that exists states its own location, which may be another.
        """
        return self.requested_location(name) or location_of(f"{self._tables_location}/{name}")

    @property
    def places_tables(self) -> bool:
        """Whether only the catalog knows where a new table will be."""
        return self.kind != "sql" and not self.settings.catalog.location

    def possible_locations(self, name: str) -> tuple[str, ...]:
        """Where the files of a table may be that the catalog does not have: the places that the catalog gives by default, and
        those of earlier releases. A REST catalog may have placed it elsewhere.
        """
        namespace, own_name = self.identifier(name)
        found = [self.location(name)]
        try:
            with self._translated_errors():
                parent = self.catalog.load_namespace_properties(namespace).get("location")
        except NoSuchNamespaceError:
            parent = None
        if parent:
            found.append(f"{location_of(parent)}/{own_name}")
        warehouse = location_of(self.settings.catalog.warehouse or self.warehouse)
        if "://" in warehouse or self.kind == "sql":
            folder = f"{namespace}.db" if self.kind == "glue" else namespace
            found.append(f"{warehouse}/{folder}/{own_name}")
        return tuple(dict.fromkeys(found))

    def file_io(self) -> FileIO:
        """Access to the files of the warehouse, for files of no table."""
        return load_file_io(self.catalog.properties, self.warehouse)

    def identifier(self, name: str) -> tuple[str, str]:
        """The namespace and the name of a table in the catalog. A name in Glue and S3 Tables is spelled by `glue_name`."""
        return self.settings.catalog.namespace, glue_name(name) if self._spells_names_as_glue else name

    @property
    def place(self) -> str:
        """The catalog's address, without credentials, for messages."""
        uri = self.settings.catalog.uri
        if uri is None:
            return str(self._database) if self.has_own_database else f"the {self.kind} catalog"
        return re.sub(r"//[^/@]*@", "//", uri)

    @contextmanager
    def _translated_errors(self) -> Iterator[None]:
        """Translate errors of a catalog that is locked, unreachable, damaged, or configured wrongly."""
        try:
            yield
        except OSError as error:
            if not type(error).__module__.startswith("requests"):
                raise
            raise UnreachableError(
                f"the catalog {self.place} cannot be reached ({type(error).__name__})",
                hint="if it stays so, check `catalog.uri`",
            ) from error
        except Exception as error:
            if not type(error).__module__.startswith("sqlalchemy"):
                raise
            from ddb_lake.lake import sql_catalog

            uri = self.settings.catalog.uri or sql_catalog.sqlite_uri(self._database)
            found = sql_catalog.translated(error, self.place, uri)
            if found is None:
                raise
            raise found from error

    def _properties(self) -> dict[str, Any]:
        """The properties of pyiceberg's catalog that are the same for each kind, and those of the configuration."""
        settings = self.settings.catalog
        endpoint = None if self.is_local else self._s3_endpoint()
        return {"warehouse": settings.warehouse or self.warehouse, **_aws_properties(endpoint), **settings.properties}

    def _open(self) -> Catalog:
        settings = self.settings.catalog
        properties = {"type": self.kind, **self._properties()}
        if self.kind == "sql":
            from ddb_lake.lake import sql_catalog

            properties["py-catalog-impl"] = f"{sql_catalog.__name__}.{sql_catalog.ParsedOnceCatalog.__name__}"
            del properties["type"]
            if settings.uri is None and not self.has_own_database:
                raise ConfigError("catalog: a SQL catalog for a warehouse on S3 needs `catalog.uri`")
            if self.settings.has_local_warehouse:
                Path(self.warehouse).mkdir(parents=True, exist_ok=True)
            properties["uri"] = settings.uri or sql_catalog.sqlite_uri(self._database)
            properties.setdefault("pool_pre_ping", "true")  # a server or a firewall may have closed an idle connection
        elif settings.uri:
            properties["uri"] = settings.uri
        if settings.signing_name is not None:
            properties |= {"rest.sigv4-enabled": "true", "rest.signing-name": settings.signing_name}
        if settings.signing_region is not None:
            properties["rest.signing-region"] = settings.signing_region
        with warnings.catch_warnings(), self._translated_errors():
            warnings.simplefilter("ignore", DeprecationWarning)  # pyiceberg's own imports raise them
            return CATALOG.call(lambda: load_catalog(CATALOG_NAME, **properties), _is_concurrent_creation)


def names_missing_file(error: NoSuchTableError | ServerError) -> bool:
    """Whether a REST catalog answered with the error that Iceberg's Java library raises if a file is not there."""
    return str(error).startswith("NotFoundException")


def _is_concurrent_creation(error: BaseException) -> bool:
    """Whether another process may be creating the same catalog: several may find it missing at once, and one succeeds."""
    if type(error).__module__.startswith("sqlalchemy"):
        from ddb_lake.lake import sql_catalog

        return sql_catalog.may_be_concurrent_creation(error)
    return isinstance(error, NamespaceAlreadyExistsError)


def _aws_properties(endpoint: str | None) -> dict[str, str]:
    """pyiceberg's settings for S3 and Glue from the standard AWS variables, which its file access does not read itself.

    `endpoint`: that of S3, if it is known; None: that of the variables.

    The client of Glue is boto3's, which does not read `AWS_REGION`.
    """
    region = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION")
    endpoint = endpoint or os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
    found = {
        "s3.region": region,
        "client.region": region,
        "s3.endpoint": endpoint,
        "s3.connect-timeout": str(CONNECT_TIMEOUT_S),
        "s3.request-timeout": str(READ_TIMEOUT_S),
        "s3.retry-strategy-impl": f"{Retries.__module__}.{Retries.__name__}",
    }
    return {name: value for name, value in found.items() if value}


class Retries(AwsStandardS3RetryStrategy):  # type: ignore[misc]  # pyarrow is untyped to mypy here
    """pyarrow's retries with our number of attempts: pyiceberg makes it by its name, without arguments."""

    def __init__(self) -> None:
        super().__init__(max_attempts=ATTEMPTS)


def location_of(uri: str) -> str:
    """A location without a final slash. A local one is an absolute path without a scheme: DuckDB and pyiceberg spell paths alike."""
    if uri.startswith("file://"):
        uri = uri.removeprefix("file://")
    if "://" in uri:
        return uri.rstrip("/")
    return str(Path(uri).expanduser().resolve())
