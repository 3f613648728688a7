"""Sidecars: rows beside a table, in Parquet files that the table's properties name.

A sidecar changes in the same commit as the table's rows, and readers of the table do not see it. `current` has its
tombstones in a sidecar, and the changelog its ledger of ingested objects. A new file is merged with the one before it
if that has at most twice as many rows. So a sidecar of n rows has O(log n) files, and each row is rewritten O(log n) times.
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
    "new": "BIGINT",
    "rejected": "BIGINT",
    "other_tables": "BIGINT",
    "landed_at": "TIMESTAMP",
    "ingested_at": "TIMESTAMP",
}
"""One row for each ingested object. A rewritten object has another `version`.

`records`: all records of the object. Of these, `new` were added to this table's changelog, `rejected` went to its quarantine,
`other_tables` belong to other tables, and the rest are duplicates. `landed_at`: when the object was written, NULL if that is
not known. `ingested_at`: when the row was made. Times are UTC.
"""

ADDED_COLUMNS = frozenset({"new", "rejected", "other_tables", "landed_at", "ingested_at"})
"""Columns that files of earlier releases lack; they are NULL there."""

TOMBSTONE_COLUMNS = {
    "_key": "VARCHAR",
    "_key_hash": "BIGINT",
    "changed_us": "BIGINT",
    "removed": "BOOLEAN",
    "batch": "BIGINT",
}
"""One row for each removed key. A row of a later batch with `removed` false revokes it."""


@dataclass(frozen=True, slots=True)
class SidecarFile:
    """One Parquet file and its number of rows."""

    path: str
    rows: int


@dataclass(frozen=True, slots=True)
class Sidecar:
    """The files of a sidecar, the oldest and largest first."""

    files: tuple[SidecarFile, ...] = ()

    def to_json(self) -> list[list[Any]]:
        """The sidecar as JSON, for a table property."""
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
        """A relation of all rows, in parentheses."""
        if not self.files:
            return "(SELECT " + ", ".join(f"NULL::{kind} AS {name}" for name, kind in columns.items()) + " WHERE false)"
        files = f"read_parquet({literals(self.paths)}, union_by_name = true)"
        if ADDED_COLUMNS.isdisjoint(columns):
            return f"(SELECT {', '.join(columns)} FROM {files})"
        empty = "SELECT " + ", ".join(f"NULL::{kind} AS {name}" for name, kind in columns.items()) + " WHERE false"
        return f"(SELECT {', '.join(columns)} FROM ({empty} UNION ALL BY NAME SELECT * FROM {files}))"

    def append(
        self, con: Any, table: Table, query: str, columns: dict[str, str], newest_by: str | None = None
    ) -> Sidecar:
        """Write the rows of a query, and merge files.

        Args:
            con: a DuckDB connection.
            table: the table beside which the files are written.
            query: the rows to add.
            columns: the columns of the sidecar, with their DuckDB types.
            newest_by: a column. Of rows with one `_key`, a merge keeps the row with its greatest value, and drops that too
                if it is not `removed` and no older file is left.

        Returns:
            The new sidecar. Its files are in no commit yet. This sidecar stays valid.
        """
        added = _write(con, table, f"SELECT {', '.join(columns)} FROM ({query})")
        if added is None:
            return self
        files = [*self.files, added]
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
