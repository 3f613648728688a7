"""Parquet files of an Iceberg table: DuckDB writes them, and pyiceberg makes their manifest entries.

A written file is in no table until a commit names it (`lake.commit`). `lake.scan` reads files.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

from duckdb import Error as DuckDBError
from duckdb import OutOfMemoryException
from pyiceberg.io import FileIO
from pyiceberg.io.pyarrow import parquet_file_to_data_file
from pyiceberg.manifest import DataFile
from pyiceberg.schema import Schema
from pyiceberg.table import Table
from pyiceberg.table.metadata import TableMetadata

from ddb_lake.engine.session import Done, Session, with_memory
from ddb_lake.engine.sql import identifiers, literal, literals
from ddb_lake.lake.commit import position_delete_file
from ddb_lake.lake.schemas import carried_names, field_ids

TARGET_FILE_BYTES = 256 * 1024 * 1024
ROW_GROUP_ROWS = 122_880
ROW_GROUP_BYTES = 96 * 1024 * 1024
"""Rows of more than 800 bytes are written in groups of fewer, which take this much memory. Those of more than 48 KB are
only if they are not sorted: sorted rows come by the vector."""

LARGE_ROWS_BYTES = 24 * 1024 * 1024
"""The groups of such rows: a group is read at once, and what is made of it takes several times as much."""

_VECTOR_ROWS = 2048
FOOTERS_AT_ONCE = 8
PARQUET = "FORMAT parquet, COMPRESSION zstd, COMPRESSION_LEVEL 1"
"""Level 1 makes files no larger than level 3 of our data, and takes less time."""

_DICTIONARY_VALUES = 10_000
"""A column of more values than this in a row group has no dictionary: one of a fifth of the rows takes longer, and as
many bytes."""

_DICTIONARY_BYTES = 1024 * 1024
"""And none if its texts take more."""

_COLUMNS_OF_FULL_SIZE = 100
"""DuckDB allocates all dictionaries at once, before they hold any value: in a wider table each is smaller."""

_CELL_BYTES = 16
"""The memory that DuckDB takes for each column of a row, also for NULL."""


def fits_a_vector(row_bytes: int) -> bool:
    """Whether as many rows of about this size as DuckDB handles at once are no more than a row group."""
    return row_bytes * _VECTOR_ROWS <= ROW_GROUP_BYTES


def group_rows(row_bytes: int) -> int:
    """How many rows of about this size make a row group: whole vectors of DuckDB's."""
    fitting = ROW_GROUP_BYTES // max(1, row_bytes) // _VECTOR_ROWS * _VECTOR_ROWS
    return max(_VECTOR_ROWS, min(ROW_GROUP_ROWS, fitting))


def mean_row_bytes(session: Session, paths: str | Sequence[str]) -> int:
    """About how much a row of some Parquet files takes in memory, by their footers. `paths`: of files, or a pattern; 0 for none."""
    if not paths:
        return 0
    named = literal(paths) if isinstance(paths, str) else literals(paths)
    counted = f"SELECT sum(total_uncompressed_size) AS size, any_value(row_group_num_rows) AS rows FROM parquet_metadata({named})"
    size, rows = session.rows(f"SELECT sum(size), sum(rows) FROM ({counted} GROUP BY file_name, row_group_id)")[0]
    return int(size or 0) // max(1, int(rows or 0))


def sorted_if_it_fits(session: Session, key: str, write: Callable[[str], Done], row_bytes: int = 0) -> Done:
    """`write` rows in the order it is given: of `key`, or none if sorting outgrows the memory.

    The order only helps those who read. The session may have fewer threads afterwards. `row_bytes`: about what a row
    takes, if known.
    """
    if fits_a_vector(row_bytes):
        with suppress(OutOfMemoryException):
            return with_memory(session, lambda: write(f" ORDER BY {key}"))
    return with_memory(session, lambda: write(""))


class FileWriter:
    """Writes Parquet files of one table with DuckDB. `schema` has the field ids that the files carry.

    `con`: as `engine.session` makes them: one that does not preserve the order of insertion.
    """

    def __init__(self, con: Any, io: FileIO, location: str, schema: Schema) -> None:
        self._con = con
        self._io = io
        self.schema = schema
        self._folder = f"{location}/data"
        if "://" not in self._folder:
            Path(self._folder).mkdir(parents=True, exist_ok=True)

    @classmethod
    def for_table(cls, con: Any, table: Table, metadata: TableMetadata | None = None) -> FileWriter:
        """A writer for a table as it is, or as `metadata` (of a transaction) makes it."""
        metadata = metadata or table.metadata
        return cls(con, table.io, metadata.location, metadata.schema())

    def write_paths(self, query: str, *, split: bool = False, row_bytes: int = 0) -> list[str]:
        """Write the rows of a query, which has the columns of `lake.scan.TableScan.sql`. Returns the files' paths, none for no rows.

        Args:
            split: into several files of the target size.
            row_bytes: about how many a row takes in memory. Each thread holds a row group until it is written.
        """
        name = f"{self._folder}/{uuid.uuid4().hex}"
        width = len(self.schema.fields)
        row_bytes = max(row_bytes, _CELL_BYTES * width)
        limit = ROW_GROUP_BYTES if fits_a_vector(row_bytes) else LARGE_ROWS_BYTES
        share = max(1.0, width / _COLUMNS_OF_FULL_SIZE)
        dictionaries = (
            f"DICTIONARY_SIZE_LIMIT {int(_DICTIONARY_VALUES / share)},"
            f" STRING_DICTIONARY_PAGE_SIZE_LIMIT {int(_DICTIONARY_BYTES / share)}"
        )
        options = (
            f"{PARQUET}, {dictionaries}, ROW_GROUP_SIZE {group_rows(row_bytes)}, ROW_GROUP_SIZE_BYTES {limit},"
            f" FIELD_IDS {field_ids(self.schema)}"
        )
        if split:
            options += f", FILE_SIZE_BYTES {TARGET_FILE_BYTES}, FILENAME_PATTERN 'part-{{i}}'"
        else:
            name += ".parquet"
        sources = identifiers(carried_names(self.schema))
        targets = identifiers(field.name for field in self.schema.fields)
        names = ", ".join(f"{source} AS {target}" for source, target in zip(sources, targets, strict=True))
        try:
            rows, paths = self._con.execute(
                f"COPY (SELECT {names} FROM ({query})) TO {literal(name)} ({options}, RETURN_FILES true)"
            ).fetchone()
        except DuckDBError:
            with suppress(DuckDBError):  # a file that cannot be found now is an orphan, which `compact` removes
                self.remove([path for (path,) in self._con.execute(f"FROM glob({literal(f'{name}/*')})").fetchall()])
            raise
        if rows == 0:
            self.remove(paths)
            return []
        return sorted(paths)

    def write(self, query: str, metadata: TableMetadata, *, split: bool = False, row_bytes: int = 0) -> list[DataFile]:
        """`write_paths`, with the manifest entries of the files."""
        return self.entries(self.write_paths(query, split=split, row_bytes=row_bytes), metadata)

    def entries(self, paths: Sequence[str], metadata: TableMetadata) -> list[DataFile]:
        """The manifest entries of written files, from their footers: several at once, for S3 answers slowly."""
        with ThreadPoolExecutor(FOOTERS_AT_ONCE, thread_name_prefix="footer") as pool:
            return list(pool.map(lambda path: parquet_file_to_data_file(self._io, metadata, path), paths))

    def write_deletes(self, query: str) -> list[DataFile]:
        """Write (file_path, pos) pairs as one position delete file; none for no pairs."""
        path = f"{self._folder}/{uuid.uuid4().hex}-deletes.parquet"
        ids = "{file_path: 2147483546, pos: 2147483545}"
        (rows,) = self._con.execute(
            f"COPY (SELECT file_path, pos FROM ({query}) ORDER BY file_path, pos) TO {literal(path)}"
            f" (FORMAT parquet, COMPRESSION zstd, FIELD_IDS {ids})"
        ).fetchone()
        if rows == 0:
            self.remove([path])
            return []
        first, last = self._con.execute(
            f"SELECT min(file_path), max(file_path) FROM read_parquet({literal(path)})"
        ).fetchone()
        return [position_delete_file(path, len(self._io.new_input(path)), rows, first, last)]

    def remove(self, paths: Sequence[str]) -> None:
        """Delete files that were written and will not be committed."""
        for path in paths:
            self._io.delete(path)
