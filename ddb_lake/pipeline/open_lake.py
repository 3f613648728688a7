"""An open lake: its settings, catalog, objects and DuckDB sessions, handed to every stage."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Protocol

from pyiceberg.table import Table

from ddb_lake.aws.objects import ObjectStore, local_path
from ddb_lake.aws.session import s3_access
from ddb_lake.aws.source import describe_source
from ddb_lake.config import LakeSettings, TableSettings
from ddb_lake.core.decode.routing import SharedNames, shared_names
from ddb_lake.core.layout.table_names import CHANGES, QUARANTINE
from ddb_lake.core.values.json_schema import Validator
from ddb_lake.engine.session import Session, connect
from ddb_lake.errors import ConfigError
from ddb_lake.lake.catalog import LakeCatalog
from ddb_lake.lake.state import CurrentState, changes_state
from ddb_lake.pipeline.executor import Executor, ExecutorFactory


class Progress(Protocol):
    """Where a stage says how far it is; a call is cheap and may be ignored."""

    def __call__(self, what: str, done: int, total: int | None = None) -> None:
        """`what` is being done; `done` of `total` units are."""


def silent(what: str, done: int, total: int | None = None) -> None:
    """Progress that nobody looks at."""


def unheard(message: str) -> None:
    """Warnings that nobody looks at."""


@dataclass(slots=True)
class Lake:
    """What a step of the pipeline needs. `ddb_lake.executors.open_lake` opens one.

    `executors`: what does the heavy work, by a table's setting `engine`.
    """

    settings: LakeSettings
    catalog: LakeCatalog
    executors: Mapping[str, ExecutorFactory]
    objects: ObjectStore = field(default_factory=ObjectStore)
    progress: Progress = silent
    warn: Callable[[str], None] = unheard
    now: Callable[[], datetime] = lambda: datetime.now(UTC)

    @contextmanager
    def session(self) -> Iterator[Session]:
        """A DuckDB session that can reach this lake's files."""
        with connect(None if self.catalog.is_local else s3_access(), self.settings.memory) as session:
            yield session

    def table(self, name: str) -> TableSettings:
        """The settings of a table. Raises ConfigError if it is not configured."""
        return self.settings.table(name)

    def executor(self, name: str) -> Executor:
        """What does the heavy work of a table, by its setting `engine`."""
        settings = self.table(name)
        return self.executors[settings.engine](self, settings)

    def routes(self) -> tuple[dict[str, str], SharedNames]:
        """The lake tables by their source's name, and the names that several sources have."""
        sources = []
        for table in self.settings.tables:
            uris = self.settings.change_uris(table)
            places = tuple(uri if uri.startswith("s3://") else str(local_path(uri)) for uri in uris)
            sources.append(replace(table.identity, places=places))
        return shared_names(sources)

    def current(self, name: str) -> Table | None:
        """The Iceberg table of living items, if it exists."""
        return self.catalog.table(name)

    def changes(self, name: str) -> Table | None:
        """The Iceberg table of change records, if it exists."""
        return self.catalog.table(name + CHANGES)

    def quarantine(self, name: str) -> Table | None:
        """The Iceberg table of undecodable bytes, if it exists."""
        return self.catalog.table(name + QUARANTINE)

    def key(self, name: str) -> tuple[str, ...]:
        """A table's key attributes: as the lake has them, else as configured, else as the source says.

        Empty if nobody knows. Raises ConfigError if the configuration contradicts the lake.
        """
        configured = self.table(name).key
        stored = self._stored_key(name)
        if stored and configured and set(stored) != set(configured):
            raise ConfigError(
                f"table {name}: the lake's key is {list(stored)}, the configuration says {list(configured)};"
                " a key cannot change: mend `key`, or give the new table another name"
            )
        return stored or configured or describe_source(self.table(name)).key

    def validator(self, name: str) -> Validator | None:
        """What a table's landed changes must satisfy, if anything."""
        return self.table(name).validator

    def _stored_key(self, name: str) -> tuple[str, ...]:
        current = self.current(name)
        if current is not None:
            return CurrentState.of(current).schema.key
        state = changes_state(self.changes(name))
        return state.key if state.records else ()  # nothing has been said with it yet
