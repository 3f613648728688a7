"""Finds the live files of an Iceberg table, and writes the SQL by which DuckDB reads their rows.

A scan reads the manifests once, when it is made. Its SQL stays valid while the files exist. Files are read by field id, so
a file that is older than a new or renamed column fits the schema of the scan.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pyarrow.parquet import read_table
from pyiceberg.io import FileIO
from pyiceberg.manifest import DataFile, ManifestContent
from pyiceberg.schema import Schema
from pyiceberg.table import Table

from ddb_lake.core.operations.library_errors import reading
from ddb_lake.engine.sql import literals
from ddb_lake.errors import CommitConflict, DamagedError
from ddb_lake.lake.column_ranges import ColumnRanges, file_ranges, stored_ranges
from ddb_lake.lake.metadata_files import (
    FILE_PATH_ID,
    has_no_dangling_deletes,
    listed_manifests,
    live_entries,
    snapshot_manifests,
)
from ddb_lake.lake.schemas import sql_columns

_POS_BITS = 40
"""The low bits of `_place` that hold the position; the bits above hold the number of the file in the scan."""

_FILE_SCHEME = "file://"

ROWS_PER_FILE = 1_000_000
"""The number of rows per file that DuckDB is given for its estimates.

By field id DuckDB estimates almost no rows by itself, and builds the hash table of a join from the large side.
"""


@dataclass(frozen=True, slots=True)
class LiveFiles:
    """The data files and position delete files of one snapshot, as their manifest entries.

    Attributes:
        dangling: the number of position deletes that name no row of `data`, because another engine rewrote the row's file.
    """

    data: tuple[DataFile, ...] = ()
    deletes: tuple[DataFile, ...] = ()
    dangling: int = 0

    @property
    def rows(self) -> int:
        """The number of living rows. A subtraction is enough, because position deletes never name a row twice."""
        return int(sum(f.record_count for f in self.data)) - self.deleted_rows

    @property
    def deleted_rows(self) -> int:
        """The number of rows of `data` that position deletes name."""
        return int(sum(f.record_count for f in self.deletes)) - self.dangling

    @property
    def most_delete_files(self) -> int:
        """The greatest number of delete files that a reader of one data file opens."""
        named = Counter(named_data_file(file) for file in self.deletes)
        of_several = named.pop(None, 0)
        return of_several + max(named.values(), default=0)

    @property
    def bytes(self) -> int:
        """The size of all files."""
        return int(sum(f.file_size_in_bytes for f in (*self.data, *self.deletes)))

    @property
    def paths(self) -> list[str]:
        """The paths of the data files."""
        return [f.file_path for f in self.data]


@dataclass(frozen=True, slots=True)
class TableScan:
    """The living rows of some data files: the rows that no position delete names.

    `scan_table` makes the scan of a snapshot. Use the constructor for files that are written but not committed.

    Attributes:
        schema: the Iceberg schema by which the files are read.
        paths: the data files.
        deletes: the position delete files.
        live: the manifest entries of the files; empty for files that are not committed.
    """

    schema: Schema
    paths: tuple[str, ...] = ()
    deletes: tuple[str, ...] = ()
    live: LiveFiles = LiveFiles()

    @property
    def files(self) -> tuple[str, ...]:
        """All files that `sql` reads."""
        return (*self.paths, *self.deletes)

    def sql(self, paths: Sequence[str] | None = None, *, positions: bool = False) -> str:
        """SQL of a relation of the living rows, in parentheses.

        Columns of items have their names inside SQL (`engine.sql.carried`); `engine.sql.shown` restores their own names.

        Args:
            paths: read only these data files; an empty list gives no rows. By default, read all data files of the scan.
            positions: add `_file_path` and `_pos`, by which a position delete names the row.
        """
        chosen = self.paths if paths is None else paths
        columns = sql_columns(self.schema)
        names = ", ".join(column.name for column in columns)
        selected = f"{names}, _file_path, _pos" if positions else names
        if not chosen:
            nothing = [f"NULL::{column.type} AS {column.name}" for column in columns]
            nothing += ["NULL::VARCHAR AS _file_path", "NULL::BIGINT AS _pos"]
            return f"(SELECT {selected} FROM (SELECT {', '.join(nothing)}) WHERE false)"
        files = literals(chosen)
        schema = f"MAP {{{', '.join(column.read for column in columns)}}}"
        parquet = f"read_parquet({files}, schema = {schema}, explicit_cardinality = {len(chosen) * ROWS_PER_FILE})"
        if not positions and not self.deletes:
            return f"(SELECT {names} FROM {parquet})"
        # These are virtual columns of DuckDB. Its options of the same names fail if a file has columns of these names.
        # A join by one number (`_place`) is faster than one by path and position.
        place = f"(file_index::BIGINT << {_POS_BITS}) + file_row_number AS _place"
        spelled = "filename"
        if any(path.startswith(_FILE_SCHEME) for path in chosen):  # DuckDB's `filename` lacks the scheme
            spelled = f"({files}::VARCHAR[])[file_index::BIGINT + 1]"
        virtual = f"{spelled} AS _file_path, file_row_number AS _pos, {place}"
        source = f"(SELECT {names}, {virtual} FROM {parquet})"
        deletes = self.deletes_of(chosen)
        if not deletes:
            return f"(SELECT {selected} FROM {source})"
        number = f"list_position({files}::VARCHAR[], file_path) - 1"
        deleted = f"(SELECT (({number})::BIGINT << {_POS_BITS}) + pos AS _place FROM read_parquet({literals(deletes)}))"
        return f"(SELECT {selected} FROM {source} d ANTI JOIN {deleted} r ON r._place = d._place)"

    def deletes_of(self, paths: Sequence[str]) -> tuple[str, ...]:
        """The position delete files that may name rows of some data files, by the bounds in their manifest entries."""
        if not self.live.deletes:
            return self.deletes
        ordered = sorted(path.encode() for path in paths)
        return tuple(file.file_path for file in self.live.deletes if _may_name(file, ordered))


def scan_table(table: Table, snapshot_id: int | None = None) -> TableScan:
    """The scan of a snapshot of a table.

    Args:
        table: the table.
        snapshot_id: the snapshot, which is read with its own schema. By default, the newest of `main` is read with the
            schema of the table.

    Raises:
        DamagedError: as `live_files`.
        CommitConflict: as `live_files`.
    """
    snapshot = table.snapshot_by_id(snapshot_id) if snapshot_id is not None else None
    schema = table.schema()
    if snapshot is not None and snapshot.schema_id is not None:
        schema = table.schemas()[snapshot.schema_id]
    live = live_files(table, snapshot_id)
    return TableScan(schema, tuple(live.paths), tuple(f.file_path for f in live.deletes), live)


def recorded_rows(table: Table) -> int:
    """The number of rows in the newest snapshot's data files, as its summary has it, deleted ones included; 0 without one."""
    snapshot = table.current_snapshot()
    summary = None if snapshot is None else snapshot.summary
    return 0 if summary is None else int(summary["total-records"] or 0)


def live_files(table: Table, snapshot_id: int | None = None) -> LiveFiles:
    """The live files of a snapshot, by default the newest of `main`.

    Raises:
        DamagedError: a manifest or a local file is missing, or differs from what was written; or the table has no snapshot of
            this id.
        CommitConflict: a file is missing or differs, and another commit has changed the table since it was loaded.
    """
    snapshot = table.snapshot_by_id(snapshot_id) if snapshot_id is not None else table.current_snapshot()
    if snapshot is None and snapshot_id is not None:
        raise DamagedError(
            f"its metadata has no snapshot {snapshot_id}; it has expired, or is another table's", table=table.name()[-1]
        )
    if snapshot is None:
        return LiveFiles()
    data: list[DataFile] = []
    deletes: list[DataFile] = []
    name = table.name()[-1]
    with current_or_conflict(table):
        for manifest in snapshot_manifests(table.io, snapshot, name):
            target = deletes if manifest.content == ManifestContent.DELETES else data
            target.extend(e.data_file for e in live_entries(table.io, manifest, name))
        live = LiveFiles(tuple(data), tuple(deletes))
        check_local_sizes(live, name)
        if deletes and not has_no_dangling_deletes(snapshot):
            live = replace(live, dangling=_dangling_deletes(table.io, live, name))
    return live


def data_files(table: Table, may_have: Callable[[ColumnRanges], bool]) -> list[DataFile]:
    """The data files of the newest snapshot of `main` that may have some rows. Position deletes are not regarded.

    Manifests that cannot name such a file are not opened.

    Args:
        table: the table.
        may_have: whether files with columns of these ranges may have the rows. It must be true of a manifest, whose ranges
            comprise those of its files, if it is true of one of the files.

    Raises:
        DamagedError: a manifest that was opened, or one of the files (if it is local), is missing or differs from what was written.
        CommitConflict: as `live_files`.
    """
    snapshot, schema, name = table.current_snapshot(), table.schema(), table.name()[-1]
    if snapshot is None:
        return []
    with current_or_conflict(table):
        found = [
            entry.data_file
            for manifest in listed_manifests(table.io, snapshot, name)
            if manifest.file.content == ManifestContent.DATA and may_have(stored_ranges(schema, manifest.ranges))
            for entry in live_entries(table.io, manifest.file, name)
            if may_have(file_ranges(entry.data_file, schema))
        ]
        check_local_sizes(LiveFiles(tuple(found)), name)
    return found


def named_data_file(deletes: DataFile) -> str | None:
    """The data file that a position delete file names; None if it may name several."""
    first, last = ((bounds or {}).get(FILE_PATH_ID) for bounds in (deletes.lower_bounds, deletes.upper_bounds))
    return first.decode() if first is not None and first == last else None


def _may_name(deletes: DataFile, paths: Sequence[bytes]) -> bool:
    """Whether a position delete file may name one of some data files. `paths`: sorted."""
    low, high = ((bounds or {}).get(FILE_PATH_ID) for bounds in (deletes.lower_bounds, deletes.upper_bounds))
    place = bisect_left(paths, low) if low is not None else 0
    return place < len(paths) and (high is None or paths[place] <= high)


def _dangling_deletes(io: FileIO, live: LiveFiles, table: str) -> int:
    """The number of position deletes whose data file is not live. A delete file of several data files is read."""
    paths = set(live.paths)
    dangling = 0
    for file in live.deletes:
        only = named_data_file(file)
        if only is not None:
            dangling += 0 if only in paths else int(file.record_count)
            continue
        with reading(file.file_path, table), io.new_input(file.file_path).open() as stream:
            column = read_table(stream, columns=["file_path"]).column("file_path")
        counts = zip(*(part.to_pylist() for part in column.value_counts().flatten()), strict=True)
        dangling += sum(count for path, count in counts if path not in paths)
    return dangling


@contextmanager
def current_or_conflict(table: Table) -> Iterator[None]:
    """Read files that a table names. A DamagedError becomes CommitConflict if the table has a later commit."""
    try:
        yield
    except DamagedError as error:
        try:
            later = table.catalog.load_table(table.name())
        except Exception:  # report the damage, not the failure to load the table
            raise error from error.__cause__
        if later.metadata_location != table.metadata_location:
            raise CommitConflict(
                "another commit replaced files that were being read", table=table.name()[-1]
            ) from error
        raise


def check_local_sizes(live: LiveFiles, table: str) -> None:
    """Compare the sizes of local files with those in the manifests, to find files that are missing, cut short or replaced.

    Files in S3 are not checked, because each check would be a request. Raises DamagedError.
    """
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
    """The least and greatest value of a column in a file, both inclusive; None if the manifest does not state them."""
    return file_ranges(file, schema).of(column)
