"""An open lake: the settings, catalog, objects and DuckDB sessions that every step of the pipeline works with.

`ddb_lake.executors.open_lake` opens a lake. Opening reads nothing: the catalog and S3 are connected on first use.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from types import MappingProxyType
from typing import TYPE_CHECKING, Protocol

from pyiceberg.table import Table

from ddb_lake.aws.objects import ObjectStore, local_path
from ddb_lake.aws.session import s3_access
from ddb_lake.core.decode.routing import Routes
from ddb_lake.core.layout.table_names import CHANGES, ERASURES, OBJECTS, QUARANTINE
from ddb_lake.lake.catalog import LakeCatalog, location_of

if TYPE_CHECKING:  # for annotations: a query imports only what it uses
    from ddb_lake.config import LakeSettings, TableSettings
    from ddb_lake.core.protection.rules import Protection
    from ddb_lake.core.values.json_schema import Validator
    from ddb_lake.engine.session import Session
    from ddb_lake.lake.commit import Commit, Delta
    from ddb_lake.pipeline.executor import Executor, ExecutorFactory


class Progress(Protocol):
    """Receives the progress of a long step. A call is cheap, and the receiver may ignore it."""

    def __call__(self, what: str, done: int, total: int | None = None) -> None:
        """Report `done` of `total` units of the work `what`; `total` is None if it is unknown."""


def no_progress(what: str, done: int, total: int | None = None) -> None:
    """Ignore progress."""


def no_warning(message: str) -> None:
    """Ignore a warning."""


@dataclass(slots=True)
class Lake:
    """An open lake. Steps of the pipeline take it as their first argument.

    Attributes:
        settings: the configuration.
        catalog: the Iceberg tables. It belongs to the opener, which closes it.
        executors: the engines for the heavy work, by a table's setting `engine`.
        store: reads landed objects; made on first use by default. Use `objects`.
        progress: receives the progress of long steps.
        warn: receives warnings.
        now: the clock.
    """

    settings: LakeSettings
    catalog: LakeCatalog
    executors: Mapping[str, ExecutorFactory]
    store: ObjectStore | None = None
    progress: Progress = no_progress
    warn: Callable[[str], None] = no_warning
    now: Callable[[], datetime] = lambda: datetime.now(UTC)

    @property
    def objects(self) -> ObjectStore:
        """The reader of landed objects and exports."""
        if self.store is None:
            self.store = ObjectStore()
        return self.store

    @property
    def landing(self) -> str:
        """The location of the files that belong to no Iceberg table, such as repairs and reports. Without a final slash."""
        return location_of(self.settings.own_landing)

    @contextmanager
    def session(self) -> Iterator[Session]:
        """A DuckDB session that can read and write this lake's files. It takes `settings.memory` at most."""
        from ddb_lake.engine.session import connect  # `ddb-lake status` needs no DuckDB

        if not self.settings.has_local_warehouse:
            self.objects.check_owner(self.catalog.warehouse)  # DuckDB does not send it
        with connect(None if self.catalog.is_local else s3_access(), self.settings.memory) as session:
            yield session

    def commit(self, table: Table) -> Commit:
        """A commit to one of the lake's Iceberg tables, which keeps as many snapshots as the configuration states."""
        from ddb_lake.lake.commit import Commit  # a query does not commit

        return Commit(table, self.settings.snapshots)

    def commit_delta(self, table: Table, delta: Delta, properties: Mapping[str, str] = MappingProxyType({})) -> Table:
        """Commit one snapshot and table properties, as `lake.commit.commit_delta`. Returns the table after it."""
        from ddb_lake.lake.commit import commit_delta

        return commit_delta(table, delta, properties, self.settings.snapshots)

    def table(self, name: str) -> TableSettings:
        """The settings of a table. Raises ConfigError if it is not configured."""
        return self.settings.by_name[name]

    def executor(self, name: str) -> Executor:
        """The engine that does the heavy work of a table, by the table's setting `engine`."""
        settings = self.table(name)
        return self.executors[settings.engine](self, settings)

    def routes(self) -> Routes:
        """The lake tables by the names of their source tables."""
        sources = []
        for table in self.settings.tables:
            uris = self.settings.change_uris(table)
            locations = tuple(uri if uri.startswith("s3://") else str(local_path(uri)) for uri in uris)
            sources.append(replace(table.identity, locations=locations))
        return Routes.to(sources)

    def current(self, name: str) -> Table | None:
        """The Iceberg table of existing items; None before its first commit."""
        return self.readable(name)

    def readable(self, name: str) -> Table | None:
        """An Iceberg table of the lake; None before its first commit, when a load or an apply has only created it."""
        table = self.catalog.table(name)
        return table if table is not None and table.current_snapshot() is not None else None

    def changes(self, name: str) -> Table | None:
        """The changelog, an Iceberg table of all change records; None if it does not exist yet."""
        return self.catalog.table(name + CHANGES)

    def ledger(self, name: str) -> Table | None:
        """The Iceberg table of ingested objects; None if it does not exist yet. `pipeline.apply.ledger` reads it."""
        return self.catalog.table(name + OBJECTS)

    def quarantine(self, name: str) -> Table | None:
        """The Iceberg table of bytes that hold no valid record; None if it does not exist yet."""
        return self.catalog.table(name + QUARANTINE)

    def erasures(self, name: str) -> Table | None:
        """The Iceberg table of erased keys; None if no key was erased. `pipeline.apply.erasures` reads it."""
        return self.catalog.table(name + ERASURES)

    def protection(self, name: str) -> Protection:
        """The rules of a table's protected attributes with the key of hashes, and its filter.

        Raises:
            ConfigError: the table is not configured; or an attribute is hashed, and the key is missing.
        """
        from ddb_lake.core.protection.rules import Hash, Protection

        table = self.table(name)
        rules = table.protecting_rules
        if not any(isinstance(rule, Hash) for rule in rules.values()):
            return Protection(rules, None, table.key_filter)
        from ddb_lake.aws.hash_key import read_hash_key

        assert self.settings.hash_key is not None, "the settings require a key for hashes"
        return Protection(rules, read_hash_key(self.settings.hash_key), table.key_filter)

    @property
    def keeps_rejected_bytes(self) -> bool:
        """Whether the quarantines have the bytes that they reject. Bytes that cannot be read may have a value of any table."""
        return not any(table.protecting_rules or table.key_filter for table in self.settings.tables)

    def validator(self, name: str) -> Validator | None:
        """The rules that a table's landed changes must satisfy; None without `validate`."""
        return self.table(name).validator
