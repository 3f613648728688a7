"""A table of pages in MariaDB, and files of changes to load into it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ddb_lake.mysql.change_files import ChangeLoader, Loaded
from ddb_lake.mysql.connection import Database, Server
from ddb_lake.mysql.csv_rows import write_row
from ddb_lake.mysql.statements import from_client

COLUMNS = ("page", "at", "hits", "body", "cost", "seen")

KEY = ("page", "at")

TABLE = (
    "_key BINARY(32) NOT NULL PRIMARY KEY, _seq DECIMAL(40,0) NOT NULL, page VARCHAR(200) CHARACTER SET utf8mb4"
    " COLLATE utf8mb4_general_ci, at VARCHAR(60), hits INT, body BLOB, cost DECIMAL(7,2), seen DATETIME(6),"
    " ours INT NULL DEFAULT 7"
)

Row = list[str | None]


def put(seq: int, page: str | None = "p", at: str | None = "1", hits: str | None = "1", *rest: str | None) -> Row:
    return ["MODIFY", str(seq), page, at, hits, *rest, *([None] * (3 - len(rest)))]


def remove(seq: int, page: str = "p", at: str = "1") -> Row:
    return ["REMOVE", str(seq), page, at, None, None, None, None]


@dataclass
class Pages:
    """A table of a database of its own, and a folder for files to load into it."""

    server: Server
    database: Database
    folder: Path
    files: int = 0

    def loader(self) -> ChangeLoader:
        return ChangeLoader(self.database, "Pages", COLUMNS, KEY)

    def file(self, *rows: Row, raw: bytes | None = None) -> str:
        self.files += 1
        path = self.folder / f"{self.files}.csv"
        path.write_bytes("".join(write_row(row) for row in rows).encode() if raw is None else raw)
        return from_client(str(path))

    def load(self, *rows: Row, raw: bytes | None = None, name: str | None = None, version: str = "v1") -> Loaded:
        source = self.file(*rows, raw=raw)
        return self.loader().load(name or f"s3://landing/{self.files}", version, source)

    def rows(self, columns: str = "page, at, hits, _seq") -> list[tuple[Any, ...]]:
        return self.database.rows(f"SELECT {columns} FROM Pages ORDER BY _key")

    def count(self, table: str) -> int:
        found: int = self.database.value(f"SELECT COUNT(*) FROM {table}")
        return found
