"""Rows beside a table: Parquet files named in its properties, so that they change in the same commit as its rows.

`current` keeps its tombstones so (every reader of the table must see living items only) and the changelog its
ledger of ingested objects. Files are merged when a newer one has grown to half its elder's size: there are
O(log n) of them, and a row is rewritten O(log n) times.
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pyiceberg.table import Table

from ddb_lake.engine.sql import literal, literals

LEDGER_COLUMNS = {
    "object": "VARCHAR",
    "version": "VARCHAR",
    "size_bytes": "BIGINT",
    "arrival_hour": "TIMESTAMP",
    "records": "BIGINT",
}
"""One row per ingested object; `version` distinguishes a rewritten object from the ingested one."""

TOMBSTONE_COLUMNS = {
    "_key": "VARCHAR",
    "_key_hash": "BIGINT",
    "changed_us": "BIGINT",
    "removed": "BOOLEAN",
    "batch": "BIGINT",
}
"""One row a removed key; a later row with `removed` false takes it back."""


@dataclass(frozen=True, slots=True)
class SidecarFile:
    """One Parquet file and its number of rows."""

    path: str
    rows: int


@dataclass(frozen=True, slots=True)
class Sidecar:
    """The files, oldest and largest first."""

    files: tuple[SidecarFile, ...] = ()

    def to_json(self) -> list[list[Any]]:
        """A JSON document from which `from_json` gives an equal sidecar."""
        return [[f.path, f.rows] for f in self.files]

    @classmethod
    def from_json(cls, document: list[list[Any]]) -> Sidecar:
        """The inverse of `to_json`."""
        return cls(tuple(SidecarFile(path, rows) for path, rows in document))

    @property
    def paths(self) -> list[str]:
        """Paths of the files."""
        return [f.path for f in self.files]

    @property
    def rows(self) -> int:
        """Rows in all files."""
        return sum(f.rows for f in self.files)

    def sql(self, columns: dict[str, str]) -> str:
        """A query of all rows."""
        if not self.files:
            return "(SELECT " + ", ".join(f"NULL::{kind} AS {name}" for name, kind in columns.items()) + " WHERE false)"
        return f"(SELECT {', '.join(columns)} FROM read_parquet({literals(self.paths)}))"

    def append(
        self, con: Any, table: Table, query: str, columns: dict[str, str], newest_by: str | None = None
    ) -> Sidecar:
        """This sidecar with the rows of `query`. `newest_by`: of rows with equal `_key`, keep the one with the greatest."""
        fresh = _write(con, table, f"SELECT {', '.join(columns)} FROM ({query})")
        if fresh is None:
            return self
        files = [*self.files, fresh]
        while len(files) > 1 and files[-2].rows <= 2 * files[-1].rows:
            pair = Sidecar(tuple(files[-2:]))
            merged = f"SELECT * FROM {pair.sql(columns)}"
            if newest_by:
                merged += f" QUALIFY row_number() OVER (PARTITION BY _key ORDER BY {newest_by} DESC) = 1"
                if len(files) == 2:
                    merged = f"SELECT * FROM ({merged}) WHERE removed"
            files = files[:-2]
            joined = _write(con, table, merged)
            if joined is None:
                break
            files.append(joined)
        return Sidecar(tuple(files))


def _write(con: Any, table: Table, query: str) -> SidecarFile | None:
    folder = f"{table.metadata.location}/sidecar"
    if "://" not in folder:
        Path(folder).mkdir(parents=True, exist_ok=True)
    path = f"{folder}/{uuid.uuid4().hex}.parquet"
    (rows,) = con.execute(f"COPY ({query}) TO {literal(path)} (FORMAT parquet, COMPRESSION zstd)").fetchone()
    if rows == 0:
        table.io.delete(path)
        return None
    return SidecarFile(path, rows)
