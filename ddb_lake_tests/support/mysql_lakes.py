"""A lake of one table and its replica in MariaDB."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from ddb_lake.config import AuroraSettings, parse_settings
from ddb_lake.errors import TransientError
from ddb_lake.executors import open_lake
from ddb_lake.mysql import replication
from ddb_lake.mysql.connection import Database, Server
from ddb_lake.pipeline.apply.apply import ApplyResult, apply_objects
from ddb_lake.pipeline.load.load import load_export
from ddb_lake.pipeline.open_lake import Lake
from ddb_lake_tests.support.landed_files import EXPORT_US, Image, change, order, write_changes, write_export
from ddb_lake_tests.support.mariadb import Dying, MariaDb

PASSWORD_ENV = "TEST_DATABASE_PASSWORD"


def aurora(server: Server, **options: Any) -> dict[str, Any]:
    """The `aurora` settings for a database."""
    return {
        "host": server.host,
        "port": server.port,
        "database": server.database,
        "user": server.user,
        "password_env": PASSWORD_ENV,
        **options,
    }


@dataclass
class Replicated:
    """The lake, in a folder; `orders` are its table's settings beside those usual here."""

    folder: Path
    mariadb: MariaDb
    server: Server
    numbers: int = 0
    aurora: dict[str, Any] = field(default_factory=dict)
    orders: dict[str, Any] = field(default_factory=dict)

    @property
    def settings(self) -> dict[str, Any]:
        table = {"name": "orders", "key": ["customer", "order_id"], **self.orders}
        return {
            "warehouse": str(self.folder / "lake"),
            "tables": [table | {"aurora": aurora(self.server, **self.aurora)}],
        }

    @contextmanager
    def lake(self) -> Iterator[Lake]:
        with open_lake(parse_settings(self.settings, "test")) as lake:
            yield lake

    def export(self, *items: Image) -> None:
        with self.lake() as lake:
            load_export(lake, "orders", str(write_export(self.folder / "export", "orders", items)))

    def change(self, *images: tuple[Image | None, Image | None]) -> ApplyResult:
        """Land changes, (new, old) each, and apply them."""
        records = []
        for new, old in images:
            self.numbers += 1
            records.append(change(self.numbers, EXPORT_US + 3_600_000_000 + self.numbers, new, old))
        with self.lake() as lake:
            return apply_objects(lake, "orders", [str(write_changes(self.folder / f"landed/{self.numbers}", *records))])

    def rows(self, columns: str = "customer, order_id", table: str = "orders") -> set[tuple[Any, ...]]:
        database = self.mariadb.open(self.server)
        try:
            return set(database.rows(f"SELECT {columns} FROM {table}"))
        finally:
            database.close()

    def execute(self, sql: str) -> None:
        database = self.mariadb.open(self.server)
        try:
            database.execute(sql)
        finally:
            database.close()


__all__ = ["Replicated", "order"]


def lost_connections(replicated: Replicated, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Replicate again and again, over a connection that is lost before its first statement, then its second, and so on.

    Yields after each run that failed; ends with the first run that succeeds.
    """
    opened = replication.connect_replica
    for statements in range(200):

        @contextmanager
        def dying(settings: AuroraSettings, statements: int = statements) -> Iterator[Database]:
            with opened(settings) as database:
                yield Dying(database, statements)

        monkeypatch.setattr(replication, "connect_replica", dying)
        try:
            with replicated.lake() as lake:
                replication.replicate(lake, "orders")
            return
        except TransientError:
            pass
        finally:
            monkeypatch.setattr(replication, "connect_replica", opened)
        yield
