"""The files of an Iceberg table: which are live, how DuckDB reads them, and how new ones are written."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from duckdb import Error as DuckDBError
from duckdb import OutOfMemoryException
from pyiceberg.conversions import from_bytes
from pyiceberg.io import FileIO
from pyiceberg.io.pyarrow import parquet_file_to_data_file
from pyiceberg.manifest import DataFile, ManifestContent
from pyiceberg.schema import Schema
from pyiceberg.table import Table
from pyiceberg.table.metadata import TableMetadata

from ddb_lake.core.operations.library_errors import reading
from ddb_lake.engine.session import Done, Session, with_memory
from ddb_lake.engine.sql import identifier, literal, literals
from ddb_lake.errors import CommitConflict, DamagedError
from ddb_lake.lake.commit import position_delete_file
from ddb_lake.lake.manifests import live_entries, snapshot_manifests
from ddb_lake.lake.schemas import carried_names, duckdb_type, field_ids, read_schema

TARGET_FILE_BYTES = 256 * 1024 * 1024
ROW_GROUP_ROWS = 122_880
_POS_BITS = 40
ROWS_A_FILE = 1_000_000
"""What DuckDB is told to expect. Read by field id it expects next to none, and would hash a table to find a few keys."""

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


@dataclass(frozen=True, slots=True)
class LiveFiles:
    """The data files and position delete files of one snapshot."""

    data: tuple[DataFile, ...] = ()
    deletes: tuple[DataFile, ...] = ()

    @property
    def rows(self) -> int:
        """Living rows: position deletes never name a row twice."""
        return int(sum(f.record_count for f in self.data)) - self.deleted_rows

    @property
    def deleted_rows(self) -> int:
        """Rows retired by position."""
        return int(sum(f.record_count for f in self.deletes))

    @property
    def bytes(self) -> int:
        """Size of all files."""
        return int(sum(f.file_size_in_bytes for f in (*self.data, *self.deletes)))

    @property
    def paths(self) -> list[str]:
        """Paths of the data files."""
        return [f.file_path for f in self.data]


def live_files(table: Table, snapshot_id: int | None = None) -> LiveFiles:
    """The live files of a snapshot; the newest on main by default.

    Raises DamagedError if a manifest, or a local data file, is missing or is not the one that was written; CommitConflict
    if the cause is another commit that replaced it.
    """
    snapshot = table.snapshot_by_id(snapshot_id) if snapshot_id is not None else table.current_snapshot()
    if snapshot is None:
        return LiveFiles()
    data: list[DataFile] = []
    deletes: list[DataFile] = []
    name = table.name()[-1]
    with current_or_conflict(table):
        for manifest in snapshot_manifests(table.io, snapshot, name):
            target = deletes if manifest.content == ManifestContent.DELETES else data
            target.extend(e.data_file for e in live_entries(table.io, manifest, name))
        found = LiveFiles(tuple(data), tuple(deletes))
        check_local_sizes(found, name)
    return found


@contextmanager
def current_or_conflict(table: Table) -> Iterator[None]:
    """Read files that a table names. Raises CommitConflict if one is missing because a later commit removed it."""
    try:
        yield
    except DamagedError as error:
        try:
            later = table.catalog.load_table(table.name())
        except Exception:  # the damage found is what matters
            raise error from error.__cause__
        if later.metadata_location != table.metadata_location:
            raise CommitConflict(f"{table.name()[-1]}: another commit replaced files that were being read") from error
        raise


def check_local_sizes(live: LiveFiles, table: str) -> None:
    """Compare the sizes of local files with the manifests', to find missing, shortened and replaced files. No store is read."""
    for file in (*live.data, *live.deletes):
        path = file.file_path.removeprefix("file://")
        if "://" in path:
            continue
        with reading(path, table):
            size = Path(path).stat().st_size
        if size != file.file_size_in_bytes:
            raise DamagedError(
                f"it has {size} bytes, and {file.file_size_in_bytes} were written", uri=path, table=table
            )


def column_bounds(file: DataFile, schema: Schema, column: str) -> tuple[Any, Any] | None:
    """Least and greatest value of a column in a file, as its manifest says; None if it does not."""
    field = schema.find_field(column)
    low = (file.lower_bounds or {}).get(field.field_id)
    high = (file.upper_bounds or {}).get(field.field_id)
    if low is None or high is None:
        return None
    return from_bytes(field.field_type, low), from_bytes(field.field_type, high)


def scan_sql(schema: Schema, data: Sequence[str], deletes: Sequence[str] = (), positions: bool = False) -> str:
    """A query of the living rows of some data files, read by field id.

    Columns of items have the names of `engine.sql.carried`. With `positions` there are also `_file_path` and `_pos`, by
    which a row can be retired.
    """
    carried = [identifier(name) for name in carried_names(schema)]
    names = ", ".join(carried)
    shown = f"{names}, _file_path, _pos" if positions else names
    if not data:
        columns = [
            f"NULL::{duckdb_type(f.field_type)} AS {name}" for name, f in zip(carried, schema.fields, strict=True)
        ]
        places = ["NULL::VARCHAR AS _file_path", "NULL::BIGINT AS _pos"]
        return f"(SELECT {shown} FROM (SELECT {', '.join(columns + places)}) WHERE false)"
    options = f"schema = {read_schema(schema)}, explicit_cardinality = {len(data) * ROWS_A_FILE}"
    if not positions and not deletes:
        return f"(SELECT {names} FROM read_parquet({literals(data)}, {options}))"
    # DuckDB's virtual columns, without its options of these names: the options refuse files that have such columns
    place = f"(file_index::BIGINT << {_POS_BITS}) + file_row_number AS _place"  # one number joins faster than a path
    found = f"filename AS _file_path, file_row_number AS _pos, {place}"
    source = f"(SELECT {names}, {found} FROM read_parquet({literals(data)}, {options}))"
    if not deletes:
        return f"(SELECT {shown} FROM {source})"
    number = f"list_position({literals(data)}::VARCHAR[], file_path) - 1"
    retired = f"(SELECT (({number})::BIGINT << {_POS_BITS}) + pos AS _place FROM read_parquet({literals(deletes)}))"
    return f"(SELECT {shown} FROM {source} d ANTI JOIN {retired} r ON r._place = d._place)"


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
        """Write the rows of a query, which has the columns of `scan_sql`. Returns the files' paths, none for no rows.

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
        columns = zip(carried_names(self.schema), self.schema.fields, strict=True)
        names = ", ".join(f"{identifier(name)} AS {identifier(field.name)}" for name, field in columns)
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
