"""Writes the rows of a full export as Parquet files of `current`, and checks them. It commits nothing.

A `SnapshotWriter` projects all rows onto a schema as often as the schema changes (`engine.schema_fitting`); only the
files of the last pass stay. `LocalSnapshotWriter` does it in this process, `ddb_lake.spark.snapshot_writer` in tasks that
use the functions below. Readers see no file before `pipeline.load.load` commits it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from pyiceberg.io import FileIO
from pyiceberg.schema import Schema

from ddb_lake.core.decode.export_lines import ITEM_MEMBER
from ddb_lake.core.operations.count_text import count_text
from ddb_lake.core.protection.rules import Protection
from ddb_lake.core.schema.inference import Inference
from ddb_lake.core.schema.table_schema import Path, SchemaOptions, TableSchema
from ddb_lake.engine.key_counts import count_key_hashes
from ddb_lake.engine.key_text import key_hash_sql, key_text_sql
from ddb_lake.engine.line_check import LineCheck
from ddb_lake.engine.projection import Projection
from ddb_lake.engine.schema_fitting import UnfittedValues, unfitted_values
from ddb_lake.engine.session import Session
from ddb_lake.engine.sql import carried
from ddb_lake.engine.staging import StagedRows
from ddb_lake.errors import CheckFailed, ExportError
from ddb_lake.lake.file_writer import FileWriter, sorted_if_it_fits
from ddb_lake.lake.scan import TableScan
from ddb_lake.pipeline.load.export_files import Export, ExportLines, InvalidLines, LocalFile, lines_sql, sample_items
from ddb_lake.pipeline.open_lake import Progress

RUN_SHARE = 0.6
"""The size of the JSON that is sorted together, as a share of the memory. With much more, sorting does not fit."""


@dataclass(frozen=True, slots=True)
class SnapshotTarget:
    """Where the rows of an export go.

    Attributes:
        name: the lake's name of the table.
        io: access to the table's files.
        location: the location of the table.
        iceberg_schema: returns the Iceberg schema for some columns, with the field ids that the commit will give them.
        options: how attributes become columns.
        memory_bytes: the memory that sorting may use.
        progress: called after each part that is written.
        protection: the rules of protected attributes, and the filter.
    """

    name: str
    io: FileIO
    location: str
    iceberg_schema: Callable[[TableSchema], Schema]
    options: SchemaOptions
    memory_bytes: int
    progress: Progress
    protection: Protection = field(default_factory=Protection)


class SnapshotWriter(Protocol):
    """Writes the rows of one export. Call `sample` if needed, then `project_and_write`, then `check`.

    Attributes:
        scan: the files of the last pass.
    """

    scan: TableScan

    def sample(self) -> Inference:
        """The inference of some items, spread over all data files."""

    def project_and_write(self, schema: TableSchema, nulls: set[Path]) -> UnfittedValues:
        """Write all rows with these columns, in place of the files of the pass before.

        This is a `engine.schema_fitting.ProjectAndWrite`. Raises ExportError for lines without a valid item or the
        table's key, unless they are rejected.
        """

    def check(self) -> None:
        """Check the files of the last pass: one row for each item of the manifest but those left out, no key twice.

        Raises:
            ExportError: the number of rows is not that of the manifest.
            CheckFailed: no item has the key, or rows have the same key.
        """

    def rejected_lines(self) -> StagedRows | None:
        """The lines that were left out, as rows of the quarantine; None if there are none."""

    @property
    def left_out(self) -> int:
        """The number of items of the last pass that the table's filter leaves out."""

    def discard(self) -> None:
        """Delete the files of the last pass."""


class LocalSnapshotWriter:
    """Writes the rows of downloaded data files in this process, in runs sorted by key, with bounded memory.

    Args:
        session: the session of the load.
        target: where the rows go.
        export: the export.
        files: its data files.
        reject: leave out lines without a valid item. By default they are an error.
    """

    def __init__(
        self,
        session: Session,
        target: SnapshotTarget,
        export: Export,
        files: Sequence[LocalFile],
        reject: bool = False,
    ) -> None:
        self._session, self._target, self._export = session, target, export
        self._lines = ExportLines(files, session.folder, reject, target.protection)
        self._schema = TableSchema(())
        self.scan = TableScan(Schema())

    def sample(self) -> Inference:
        """The inference of some items, spread over all data files."""
        return self._lines.read(lambda files, _check: infer_from_sample(files, self._target.options))

    def project_and_write(self, schema: TableSchema, nulls: set[Path]) -> UnfittedValues:
        """Write all rows with these columns, in place of the files of the pass before."""
        target, session = self._target, self._session
        self._schema, iceberg_schema = schema, target.iceberg_schema(schema)
        writer = FileWriter(session.con, target.io, target.location, iceberg_schema)

        def write(files: Sequence[LocalFile], check: LineCheck) -> None:
            self.discard()
            self.scan = TableScan(iceberg_schema)
            projection = Projection(schema, nulls, ITEM_MEMBER, check, mean_line_bytes(files))
            projection.register(session.con)
            runs = list(runs_of(files, int(RUN_SHARE * target.memory_bytes)))
            for number, run in enumerate(runs):
                target.progress(f"{target.name}: runs of data files written", number, len(runs))
                paths = write_run(session, writer, projection, run, self._export.summary.as_of_us)
                self.scan = TableScan(iceberg_schema, (*self.scan.paths, *paths))
            check.unkeyed = count_unkeyed(session, self.scan)

        self._lines.read(write, schema.key)
        rows = self.scan.sql()
        return lambda count_columns: unfitted_values(session, rows, schema, target.options, count_columns)

    def check(self) -> None:
        """Check the files of the last pass: one row for each item of the manifest, no key twice."""
        rows, invalid = self.scan.sql(), self._lines.invalid
        found = count_key_hashes(self._session, rows, self._target.memory_bytes)
        absent = invalid.count + self.left_out
        if found.rows != self._export.summary.item_count - absent:
            raise count_mismatch(self._export, found.rows + absent, self._mismatched_file())
        check_keyed(self._schema, found.rows, invalid)
        if not found.is_unique:
            check_unique(self._export, self._schema, self._count_repeated_keys(rows))

    def rejected_lines(self) -> StagedRows | None:
        """The lines that were left out, as rows of the quarantine."""
        return self._lines.rejected

    @property
    def left_out(self) -> int:
        """The number of items that the table's filter leaves out."""
        return self._lines.left_out

    def discard(self) -> None:
        """Delete the files of the last pass."""
        for path in self.scan.paths:
            self._target.io.delete(path)
        self.scan = TableScan(self.scan.schema)

    def _mismatched_file(self) -> str | None:
        files = self._lines.files
        counts = dict(self._session.rows(f"SELECT filename, count(*) FROM {lines_sql(files)} GROUP BY 1"))
        return next(mismatched_files(files, counts), None)

    def _count_repeated_keys(self, rows: str) -> int:
        keys = f"SELECT {key_text_sql(self._schema)} AS _key, _key_hash FROM {rows}"
        count: int = self._session.value(
            f"SELECT count(*) FROM (SELECT _key FROM ({keys}) WHERE _key_hash IN (SELECT _key_hash FROM {rows}"
            " GROUP BY 1 HAVING count(*) > 1) GROUP BY 1 HAVING count(*) > 1)"
        )
        return count


# --- shared with the tasks on Spark


def infer_from_sample(files: Sequence[LocalFile], options: SchemaOptions) -> Inference:
    """The inference of some items of some files."""
    inference = Inference(options)
    for item in sample_items(files):
        inference.observe(item)
    return inference


def runs_of(files: Sequence[LocalFile], limit_bytes: int) -> Iterator[list[LocalFile]]:
    """The data files in groups of at most `limit_bytes` of JSON. A larger file is a group of its own."""
    run: list[LocalFile] = []
    run_bytes = 0
    for file in files:
        file_bytes = file.content_bytes
        if run and run_bytes + file_bytes > limit_bytes:
            yield run
            run, run_bytes = [], 0
        run.append(file)
        run_bytes += file_bytes
    if run:
        yield run


def write_run(
    session: Session, writer: FileWriter, projection: Projection, files: Sequence[LocalFile], as_of_us: int
) -> list[str]:
    """Write the rows of some data files, sorted by key if sorting fits into memory.

    Args:
        session: the session; the projection is registered with it.
        writer: writes the files.
        projection: projects lines onto columns.
        files: the data files.
        as_of_us: the instant of the export.

    Returns:
        The paths of the files.
    """
    schema = projection.schema
    key = ", ".join(carried(c.name) for c in schema.columns if c.path in {(k,) for k in schema.key})
    items = projection.select(lines_sql(files))
    row_bytes = mean_line_bytes(files)

    def write(order: str) -> list[str]:
        # The key's text and hash are computed after sorting: they would make the sorted rows larger.
        keyed = f"SELECT *, {key_text_sql(schema)} AS _key FROM ({items}{order})"
        rows = (
            f"SELECT * EXCLUDE (_key), {key_hash_sql()} AS _key_hash, make_timestamp({as_of_us}) AS _changed_at,"
            f" 'snapshot' AS _source, NULL::TIMESTAMP AS _expired_at FROM ({keyed})"
        )
        return writer.write_paths(rows, split=True, row_bytes=row_bytes)

    return sorted_if_it_fits(session, key, write, row_bytes)


def mean_line_bytes(files: Sequence[LocalFile]) -> int:
    """The mean size of a line of some data files; 0 without items."""
    return sum(file.content_bytes for file in files) // max(1, sum(file.items for file in files))


def mismatched_files(files: Sequence[LocalFile], counts: dict[str, int]) -> Iterator[str]:
    """The data files whose number of lines is not that of the manifest. `counts`: lines by local path."""
    for file in files:
        count = counts.get(str(file.path), 0)
        if count != file.items:
            yield f"{file.uri} ({count_text(count, 'line')}, expected {file.items})"


def count_mismatch(export: Export, total: int, file: str | None) -> ExportError:
    """The error for a number of rows that is not that of the manifest. `file`: the data file with the fault, if known."""
    return ExportError(
        "the number of items is not that of the manifest",
        uri=file or export.uri,
        expected=export.summary.item_count,
        found=total,
    )


def count_unkeyed(session: Session, scan: TableScan) -> int:
    """The number of rows without a key in files that were written."""
    count: int = session.value(f"SELECT count(*) - count(_key_hash) FROM {scan.sql()}")
    return count


def check_keyed(schema: TableSchema, total: int, invalid: InvalidLines) -> None:
    """Raise CheckFailed if all lines were left out, and items among them lack the key: then it is the key that is wrong.

    `total`: the number of rows.
    """
    if not total and invalid.unkeyed:
        items = count_text(invalid.unkeyed, "item lacks", "items lack")
        raise CheckFailed(
            f"no item has the key {list(schema.key)}, and nothing was committed: {items} it; is `key` right?"
        )


def check_unique(export: Export, schema: TableSchema, repeated: int) -> None:
    """Raise CheckFailed if several rows have the same key. Equal hashes of different keys are no fault."""
    if repeated:
        raise CheckFailed(
            f"{count_text(repeated, 'key occurs', 'keys occur')} more than once for key {list(schema.key)}; is `key` right?",
            uri=export.uri,
        )
