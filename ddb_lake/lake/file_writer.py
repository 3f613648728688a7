"""Parquet files of an Iceberg table: DuckDB writes them, and pyiceberg makes their manifest entries.

A written file is in no table until a commit names it (`lake.commit`). `lake.scan` reads files.
"""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pyarrow.parquet as pq
from duckdb import Error as DuckDBError
from duckdb import OutOfMemoryException
from pyiceberg.io import FileIO
from pyiceberg.io.pyarrow import (
    compute_statistics_plan,
    data_file_statistics_from_parquet_metadata,
    parquet_path_to_id_mapping,
)
from pyiceberg.manifest import DataFile, DataFileContent, FileFormat
from pyiceberg.schema import Schema
from pyiceberg.table import Table
from pyiceberg.table.metadata import TableMetadata

from ddb_lake.engine.session import Done, Session, with_memory
from ddb_lake.engine.sql import literal, literals
from ddb_lake.errors import CommitConflict
from ddb_lake.lake.commit import position_delete_file
from ddb_lake.lake.compaction_policy import TARGET_FILE_BYTES
from ddb_lake.lake.metadata_files import FILE_PATH_ID, POS_ID
from ddb_lake.lake.parquet_footer import annotate_lists
from ddb_lake.lake.scan import TableScan
from ddb_lake.lake.schemas import sql_columns

ROW_GROUP_ROWS = 122_880
"""Rows of a row group, unless they take more than `ROW_GROUP_BYTES`. It is DuckDB's default."""

ROW_GROUP_BYTES = 96 * 1024 * 1024
"""The memory of a row group whose rows are large: more than about 800 bytes each.

DuckDB sorts whole vectors, so sorted rows of more than 48 KB exceed it.
"""

LARGE_ROWS_BYTES = 24 * 1024 * 1024
"""The memory of a row group if a vector of rows exceeds `ROW_GROUP_BYTES`.

A reader reads a group at once, and its work on the group takes several times the memory.
"""

MEASURED_FILES = 16
"""The number of files whose footers are read to see about how large a row is."""

OWN_DELETE_FILE_ROWS = 1000
"""The number of deleted positions of a data file that are worth a delete file of their own."""

_VECTOR_ROWS = 2048
_FOOTER_THREADS = 8
_FILE_SCHEME = "file://"
_UPLOAD_BYTES = 8 * 1024 * 1024
PARQUET = "FORMAT parquet, COMPRESSION zstd, COMPRESSION_LEVEL 1, WRITE_BLOOM_FILTER false"
"""On our data, level 1 gives files as small as level 3 does, in less time.

Bloom filters are a tenth of a file of 500 rows. In large files, DuckDB writes none for a key: they belong to dictionaries.
"""

_DICTIONARY_VALUES = 10_000
"""A column with more distinct values in a row group has no dictionary.

A dictionary with a value for each fifth row saves no bytes and takes longer.
"""

_DICTIONARY_BYTES = 1024 * 1024
"""A column whose distinct texts take more bytes in a row group has no dictionary."""

_FULL_DICTIONARY_COLUMNS = 100
"""In a table with more columns, dictionaries are smaller: DuckDB allocates all of them before they hold any value."""

_CELL_BYTES = 16
"""The memory that DuckDB takes for each column of a row, also for NULL."""


def fits_a_vector(row_bytes: int) -> bool:
    """Whether a vector (the rows that DuckDB processes at once) of rows of about this size fits in a row group."""
    return row_bytes * _VECTOR_ROWS <= ROW_GROUP_BYTES


def group_rows(row_bytes: int) -> int:
    """The number of rows of about this size in a row group, a multiple of a vector."""
    fitting = ROW_GROUP_BYTES // max(1, row_bytes) // _VECTOR_ROWS * _VECTOR_ROWS
    return max(_VECTOR_ROWS, min(ROW_GROUP_ROWS, fitting))


def mean_row_bytes(session: Session, paths: str | Sequence[str]) -> int:
    """The mean size of a row of some Parquet files in memory, from their footers; 0 without files.

    Args:
        paths: the paths of the files, or a glob pattern.
    """
    if not paths:
        return 0
    named = literal(paths) if isinstance(paths, str) else literals(paths)
    counted = f"SELECT sum(total_uncompressed_size) AS size, any_value(row_group_num_rows) AS rows FROM parquet_metadata({named})"
    size, rows = session.rows(f"SELECT sum(size), sum(rows) FROM ({counted} GROUP BY file_name, row_group_id)")[0]
    return int(size or 0) // max(1, int(rows or 0))


def sorted_if_it_fits(session: Session, key: str, write: Callable[[str], Done], row_bytes: int = 0) -> Done:
    """Write rows sorted by `key`, or unsorted if sorting does not fit in the memory.

    The order makes reading faster; nothing depends on it. The session may have fewer threads afterwards.

    Args:
        session: the session that `write` uses.
        key: the columns to sort by, as SQL.
        write: writes the rows. It takes an ORDER BY clause, which may be empty, and may be called several times.
        row_bytes: the approximate size of a row in memory; 0 if unknown.
    """
    if fits_a_vector(row_bytes):
        with suppress(OutOfMemoryException):
            return with_memory(session, lambda: write(f" ORDER BY {key}"))
    return with_memory(session, lambda: write(""))


def rewrite(
    session: Session, writer: FileWriter, scan: TableScan, files: Sequence[DataFile], key: str, condition: str = "true"
) -> list[str]:
    """Write the living rows of some data files of a scan, as `sorted_if_it_fits`: one file, or several if they are large.

    Args:
        session: the session that `writer` uses.
        writer: writes the files.
        scan: the scan of the data files.
        files: the data files.
        key: the columns to sort by, as SQL.
        condition: SQL that is true of the rows to write.

    Returns:
        The paths of the files.
    """
    paths = [file.file_path for file in files]
    rows, row_bytes = scan.sql(paths), mean_row_bytes(session, paths[:MEASURED_FILES])
    split = sum(file.file_size_in_bytes for file in files) > TARGET_FILE_BYTES

    def write(order: str) -> list[str]:
        return writer.write_paths(f"SELECT * FROM {rows} WHERE {condition}{order}", split=split, row_bytes=row_bytes)

    return sorted_if_it_fits(session, key, write, row_bytes)


class FileWriter:
    """Writes Parquet files of one table with DuckDB.

    Args:
        con: a connection of `engine.session.connect`, which does not preserve the order of insertion.
        io: the table's file access.
        location: the table's location; files are written to its folder `data`.
        schema: the columns, with the field ids that the files carry.
    """

    def __init__(self, con: Any, io: FileIO, location: str, schema: Schema) -> None:
        self._con = con
        self._io = io
        self.schema = schema
        self._columns = sql_columns(schema)
        # DuckDB spells some paths without the scheme; the manifests and deleted positions need one spelling
        self._scheme = _FILE_SCHEME if location.startswith(_FILE_SCHEME) else ""
        self._folder = f"{location.removeprefix(_FILE_SCHEME)}/data"
        if "://" not in self._folder:
            Path(self._folder).mkdir(parents=True, exist_ok=True)

    @classmethod
    def for_table(cls, con: Any, table: Table, metadata: TableMetadata | None = None) -> FileWriter:
        """A writer for a table as it is, or as it is after the transaction that has `metadata`."""
        metadata = metadata or table.metadata
        return cls(con, table.io, metadata.location, metadata.schema())

    def write_paths(self, query: str, *, split: bool = False, row_bytes: int = 0) -> list[str]:
        """Write the rows of a query.

        Args:
            query: a query with the columns of `lake.scan.TableScan.sql`.
            split: whether to write several files of about `TARGET_FILE_BYTES`.
            row_bytes: the approximate size of a row in memory. Each thread holds a row group until it is written.

        Returns:
            The paths of the files, sorted; none if the query has no rows. If writing fails, the files are removed.
        """
        name = f"{self._folder}/{uuid.uuid4().hex}"
        width = len(self._columns)
        row_bytes = max(row_bytes, _CELL_BYTES * width)
        limit = ROW_GROUP_BYTES if fits_a_vector(row_bytes) else LARGE_ROWS_BYTES
        share = max(1.0, width / _FULL_DICTIONARY_COLUMNS)
        dictionaries = (
            f"DICTIONARY_SIZE_LIMIT {int(_DICTIONARY_VALUES / share)},"
            f" STRING_DICTIONARY_PAGE_SIZE_LIMIT {int(_DICTIONARY_BYTES / share)}"
        )
        options = (
            f"{PARQUET}, {dictionaries}, ROW_GROUP_SIZE {group_rows(row_bytes)}, ROW_GROUP_SIZE_BYTES {limit},"
            f" FIELD_IDS {{{', '.join(f'{column.own_name}: {column.field_id}' for column in self._columns)}}}"
        )
        if split:
            options += f", FILE_SIZE_BYTES {TARGET_FILE_BYTES}, FILENAME_PATTERN 'part-{{i}}'"
        else:
            name += ".parquet"
        names = ", ".join(f"{column.name} AS {column.own_name}" for column in self._columns)
        rows = f"SELECT {names} FROM ({query})"
        if not any(column.is_list for column in self._columns):
            paths = self._copy(rows, name, options)
        elif "://" in name:
            paths = self._copy_staged(rows, name, options)
        else:
            paths = self._copy(rows, name, options)
            for path in paths:
                annotate_lists(Path(path))
        return [self._scheme + path for path in paths]

    def _copy(self, query: str, target: str, options: str) -> list[str]:
        """Write the rows of a query to a file or a folder by COPY. The paths, sorted."""
        try:
            ((rows, paths),) = self._con.execute(
                f"COPY ({query}) TO {literal(target)} ({options}, RETURN_FILES true)"
            ).fetchall()
        except DuckDBError:
            with suppress(DuckDBError):  # compaction removes a file that is not found now
                self.remove([path for (path,) in self._con.execute(f"FROM glob({literal(f'{target}/*')})").fetchall()])
            raise
        if rows == 0:
            self.remove(paths)
            return []
        return sorted(paths)

    def _copy_staged(self, query: str, target: str, options: str) -> list[str]:
        """`_copy` to an object store by way of local files: the footer of an object cannot be changed."""
        uploaded: list[str] = []
        with TemporaryDirectory(prefix="ddb-lake-") as folder:
            staged = f"{folder}/{target.rsplit('/', 1)[1]}"
            try:
                for path in self._copy(query, staged, options):
                    annotate_lists(Path(path))
                    uploaded.append(target + path.removeprefix(staged))
                    self._upload(Path(path), uploaded[-1])
                    Path(path).unlink()
            except BaseException:
                with suppress(OSError):  # compaction removes a file that is not found now
                    self.remove(uploaded)
                raise
        return uploaded

    def _upload(self, path: Path, target: str) -> None:
        with self._io.new_output(target).create(overwrite=True) as output, path.open("rb") as file:
            shutil.copyfileobj(file, output, _UPLOAD_BYTES)

    def adopt(self, path: Path) -> str:
        """Put a complete local file, with the columns and field ids of the table, beside the table's files.

        The file stays where it is, so an attempt that fails can be repeated. It may be a link, so the caller does not change it.

        Returns:
            The path of the file of the table.
        """
        target = f"{self._folder}/{uuid.uuid4().hex}.parquet"
        if "://" in target:
            self._upload(path, target)
        else:
            try:
                os.link(path, target)
            except OSError:  # another file system, or one without links
                shutil.copyfile(path, target)
        return self._scheme + target

    def write(self, query: str, metadata: TableMetadata, *, split: bool = False, row_bytes: int = 0) -> list[DataFile]:
        """Write the rows of a query, as `write_paths`. Returns the manifest entries of the files."""
        return self.entries(self.write_paths(query, split=split, row_bytes=row_bytes), metadata)

    def entries(self, paths: Sequence[str], metadata: TableMetadata) -> list[DataFile]:
        """The manifest entries of written files. Threads read the footers: each read of S3 takes a round trip.

        Raises CommitConflict if a file is not there: an erasure deletes files that have an erased key and are in no commit.
        """
        with ThreadPoolExecutor(_FOOTER_THREADS, thread_name_prefix="footer") as pool:
            try:
                return list(pool.map(lambda path: _manifest_entry(self._io, metadata, path), paths))
            except FileNotFoundError as error:
                raise CommitConflict("a file was deleted before it was committed, as by an erasure") from error

    def write_deletes(self, query: str) -> list[DataFile]:
        """Write the rows of a query with (file_path, pos) as one position delete file.

        Rows are sorted, as https://iceberg.apache.org/spec/#position-delete-files demands.

        Returns:
            The manifest entry of the file; none if the query has no rows.
        """
        path = f"{self._folder}/{uuid.uuid4().hex}-deletes.parquet"
        ids = f"{{file_path: {FILE_PATH_ID}, pos: {POS_ID}}}"
        ((rows,),) = self._con.execute(
            f"COPY (SELECT file_path, pos FROM ({query}) ORDER BY file_path, pos) TO {literal(path)}"
            f" (FORMAT parquet, COMPRESSION zstd, FIELD_IDS {ids})"
        ).fetchall()
        if rows == 0:
            self.remove([path])
            return []
        ((first, last),) = self._con.execute(
            f"SELECT min(file_path), max(file_path) FROM read_parquet({literal(path)})"
        ).fetchall()
        path = self._scheme + path
        return [position_delete_file(path, len(self._io.new_input(path)), rows, first, last)]

    def write_deletes_by_file(self, positions: str) -> list[DataFile]:
        """Write a relation of (file_path, pos) as position delete files, so that a reader of a data file reads few other positions.

        Data files with many positions have a delete file each. The positions of all others are in one file.

        Returns:
            The manifest entries of the files.
        """
        counts = self._con.execute(f"SELECT file_path, count(*) FROM {positions} GROUP BY 1 ORDER BY 1").fetchall()
        single = [path for path, rows in counts if rows >= OWN_DELETE_FILE_ROWS or len(counts) == 1]
        written = [
            entry
            for path in single
            for entry in self.write_deletes(f"SELECT * FROM {positions} WHERE file_path = {literal(path)}")
        ]
        if len(single) < len(counts):
            others = f" WHERE file_path NOT IN ({', '.join(map(literal, single))})" if single else ""
            written += self.write_deletes(f"SELECT * FROM {positions}{others}")
        return written

    def remove(self, paths: Sequence[str]) -> None:
        """Delete files that are in no commit."""
        for path in paths:
            self._io.delete(path)


_BEFORE_SURROGATES = "\ud7ff"
"""Bounds of texts with this character are not shortened: pyiceberg adds one to the last character of a shortened greatest value, and the
next number is no character."""


def _manifest_entry(io: FileIO, metadata: TableMetadata, path: str) -> DataFile:
    """The manifest entry of a data file, from its footer."""
    file = io.new_input(path)
    with file.open() as opened:
        footer = pq.read_metadata(opened)
    schema = metadata.schema()
    ids = parquet_path_to_id_mapping(schema)
    statistics = data_file_statistics_from_parquet_metadata(
        footer, compute_statistics_plan(schema, metadata.properties), ids
    )
    for column in _without_bounds(footer):
        statistics.column_aggregates.pop(ids[column], None)
    for aggregate in statistics.column_aggregates.values():
        if (
            isinstance(aggregate.current_max, str)
            and _BEFORE_SURROGATES in aggregate.current_max[: aggregate.trunc_length]
        ):
            aggregate.trunc_length = None
    return DataFile.from_args(
        content=DataFileContent.DATA,
        file_path=path,
        file_format=FileFormat.PARQUET,
        partition=statistics.partition(metadata.spec(), schema),
        file_size_in_bytes=len(file),
        sort_order_id=None,
        spec_id=metadata.default_spec_id,
        equality_ids=None,
        key_metadata=None,
        **statistics.to_serialized_dict(),
    )


def _without_bounds(footer: pq.FileMetaData) -> set[str]:
    """The paths of columns with values in a row group for which the footer has no least and no greatest value.

    DuckDB writes none if the greatest value begins with 256 bytes FF, and pyiceberg takes a file's bounds from the other row groups.
    An engine that compares a value with such bounds would leave out rows.
    """
    found = set()
    for number in range(footer.num_row_groups):
        group = footer.row_group(number)
        for position in range(group.num_columns):
            column = group.column(position)
            statistics = column.statistics
            if statistics is not None and not statistics.has_min_max and statistics.null_count != column.num_values:
                found.add(column.path_in_schema)
    return found
