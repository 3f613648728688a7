"""The rows of a full export: written as Parquet files of `current`, checked, and not committed.

What is done with them is `pipeline.load.load`'s; here is how, by one process. `spark.snapshot_writer` does the same by many with
the kernels below. Nothing is visible to readers until the files are committed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path as FilePath
from typing import Protocol, TypeVar

from pyiceberg.io import FileIO
from pyiceberg.schema import Schema

from ddb_lake.core.decode.export_lines import ITEM_MEMBER
from ddb_lake.core.schema.inference import Inference
from ddb_lake.core.schema.table_schema import Path, SchemaOptions, TableSchema
from ddb_lake.engine.key_text import key_hash_sql, key_text_sql
from ddb_lake.engine.line_check import LineCheck
from ddb_lake.engine.projection import Projection
from ddb_lake.engine.schema_fitting import UnfittedValues, unfitted_values
from ddb_lake.engine.session import Session
from ddb_lake.engine.sql import carried
from ddb_lake.engine.staging import StagedRows
from ddb_lake.errors import CheckFailed, DdbLakeError, ExportError
from ddb_lake.lake.file_writer import FileWriter, sorted_if_it_fits
from ddb_lake.lake.scan import TableScan
from ddb_lake.pipeline.load.export_files import (
    FoundExport,
    LocalFile,
    lines_sql,
    sample_items,
)
from ddb_lake.pipeline.load.line_screening import BadLines, Screen, find_bad_lines
from ddb_lake.pipeline.open_lake import Progress

T = TypeVar("T")

RUN_SHARE = 0.6
"""Size of the JSON, as a share of the memory, that is sorted together. Much more outgrows it."""


@dataclass(frozen=True, slots=True)
class Target:
    """Where an export's rows go. `iceberg`: the Iceberg schema, with field ids, that columns lead to."""

    name: str
    io: FileIO
    location: str
    iceberg: Callable[[TableSchema], Schema]
    options: SchemaOptions
    memory_bytes: int
    progress: Progress


class Base(Protocol):
    """An export's rows while they are written. `written`: the files of the last pass.

    `rejected`: the number of lines left out because they hold no valid item; `set_aside`: these lines, for the quarantine.
    """

    written: list[str]

    @property
    def rejected(self) -> int:
        """How many lines were left out."""

    @property
    def set_aside(self) -> StagedRows | None:
        """The lines that were left out, as rows of the quarantine."""

    def sample(self) -> Inference:
        """What some items, spread over all data files, need."""

    def project_and_write(self, schema: TableSchema, nulls: set[Path]) -> UnfittedValues:
        """Write all rows with these columns, in place of what was written before (`engine.schema_fitting.ProjectAndWrite`)."""

    def check(self, schema: TableSchema) -> None:
        """As many rows as the manifest says, each with a key, and no key twice. Raises ExportError or CheckFailed."""

    def discard(self) -> None:
        """Delete what was written."""


class LocalBase:
    """The rows of verified data files, written by this process: runs sorted by key, in bounded memory.

    `reject`: leave out lines that hold no valid item; otherwise they are refused.
    """

    def __init__(
        self,
        session: Session,
        target: Target,
        export: FoundExport,
        files: Sequence[LocalFile],
        reject: bool = False,
    ) -> None:
        self._session, self._target, self._export = session, target, export
        self._lines = Lines(files, session.folder, reject)
        self.written: list[str] = []

    @property
    def rejected(self) -> int:
        """How many lines were left out."""
        return self._lines.bad.count

    @property
    def set_aside(self) -> StagedRows | None:
        """The lines that were left out, as rows of the quarantine."""
        return self._lines.set_aside

    def sample(self) -> Inference:
        """What some items, spread over all data files, need."""
        return self._lines.read(lambda files, _check: observed(files, self._target.options))

    def project_and_write(self, schema: TableSchema, nulls: set[Path]) -> UnfittedValues:
        """Write all rows with these columns; the files before them are deleted."""
        target, session = self._target, self._session
        iceberg = target.iceberg(schema)
        writer = FileWriter(session.con, target.io, target.location, iceberg)

        def write(files: Sequence[LocalFile], check: LineCheck) -> None:
            self.discard()
            projection = Projection(schema, nulls, ITEM_MEMBER, check)
            projection.register(session.con)
            runs = list(runs_of(files, int(RUN_SHARE * target.memory_bytes)))
            for number, run in enumerate(runs):
                target.progress(f"{target.name}: runs of data files written", number, len(runs))
                self.written += write_run(session, writer, projection, run, self._export.summary.as_of_us)

        self._lines.read(write)
        rows = TableScan(iceberg, tuple(self.written)).sql()
        return lambda count_columns: unfitted_values(session, rows, schema, target.options, count_columns)

    def check(self, schema: TableSchema) -> None:
        """As many rows as the manifest says, each with a key, and no key twice."""
        rows = TableScan(self._target.iceberg(schema), tuple(self.written)).sql()
        total, keyed, distinct = self._session.rows(
            f"SELECT count(*), count(_key_hash), count(DISTINCT _key_hash) FROM {rows}"
        )[0]
        if total != self._export.summary.item_count - self.rejected:
            raise miscounted(self._export, total + self.rejected, self._miscounted())
        check_keyed(schema, total, keyed)
        if distinct != total:
            check_unique(self._export, schema, self._repeated(rows, schema))

    def discard(self) -> None:
        """Delete what was written."""
        for path in self.written:
            self._target.io.delete(path)
        self.written = []

    def _miscounted(self) -> str | None:
        files = self._lines.files
        counts = dict(self._session.rows(f"SELECT filename, count(*) FROM {lines_sql(files)} GROUP BY 1"))
        return next(wrong_counts(files, counts), None)

    def _repeated(self, rows: str, schema: TableSchema) -> int:
        keys = f"SELECT {key_text_sql(schema)} AS _key, _key_hash FROM {rows}"
        found: int = self._session.value(
            f"SELECT count(*) FROM (SELECT _key FROM ({keys}) WHERE _key_hash IN (SELECT _key_hash FROM {rows}"
            " GROUP BY 1 HAVING count(*) > 1) GROUP BY 1 HAVING count(*) > 1)"
        )
        return found


# --- what both ways of writing share


def observed(files: Sequence[LocalFile], options: SchemaOptions) -> Inference:
    """What some items of some files need."""
    seen = Inference(options)
    for item in sample_items(files):
        seen.observe(item)
    return seen


def runs_of(files: Sequence[LocalFile], limit_bytes: int) -> Iterator[list[LocalFile]]:
    """The data files in groups of at most so many bytes of JSON, or of one file that has more."""
    run: list[LocalFile] = []
    size = 0
    for file in files:
        grown = size + file.content_bytes
        if run and grown > limit_bytes:
            yield run
            run, grown = [], grown - size
        run.append(file)
        size = grown
    if run:
        yield run


def write_run(
    session: Session, writer: FileWriter, projection: Projection, files: Sequence[LocalFile], as_of_us: int
) -> list[str]:
    """Write the rows of some data files sorted by key, if they can be. `projection` is registered with the session."""
    schema = projection.schema
    key = ", ".join(carried(c.name) for c in schema.columns if c.path in {(k,) for k in schema.key})
    items = projection.select(lines_sql(files))
    row_bytes = sum(file.content_bytes for file in files) // max(1, sum(file.items for file in files))

    def write(ordered: str) -> list[str]:
        keyed = f"SELECT *, {key_text_sql(schema)} AS _key FROM ({items}{ordered})"  # sorted without what is added here
        rows = (
            f"SELECT * EXCLUDE (_key), {key_hash_sql()} AS _key_hash, make_timestamp({as_of_us}) AS _changed_at,"
            f" 'snapshot' AS _source, NULL::TIMESTAMP AS _expired_at FROM ({keyed})"
        )
        return writer.write_paths(rows, split=True, row_bytes=row_bytes)

    return sorted_if_it_fits(session, key, write, row_bytes)


class Lines:
    """The lines of data files while they are read: lines without a valid item are refused or left out.

    `files`: the data files; after lines were left out, copies without those lines.
    """

    def __init__(self, files: Sequence[LocalFile], folder: FilePath, reject: bool) -> None:
        self.files = files
        self._screen = Screen(folder) if reject else None

    @property
    def bad(self) -> BadLines:
        """The lines that were left out."""
        return self._screen.found if self._screen else BadLines()

    @property
    def set_aside(self) -> StagedRows | None:
        """The lines that were left out, as rows of the quarantine."""
        return self._screen.rows if self._screen else None

    def read(self, work: Callable[[Sequence[LocalFile], LineCheck], T]) -> T:
        """The result of `work`, which reads all lines with a check; it is called again after lines were left out.

        Raises ExportError for lines without a valid item, unless they are to be left out.
        """
        check = LineCheck()
        try:
            done = work(self.files, check)
        except DdbLakeError:
            raise
        except Exception as error:  # DuckDB stops at a line that is not JSON
            if not self._leave_out():
                raise
            cause: Exception | None = error
        else:
            if not check.faults:
                return done
            if not self._leave_out():
                raise CheckFailed(f"{check.faults} lines were not proven valid, and none is invalid: report this fault")
            cause = None
        again = LineCheck()
        done = work(self.files, again)
        if again.faults:
            raise CheckFailed(f"{again.faults} lines are invalid after all such lines were left out") from cause
        return done

    def _leave_out(self) -> bool:
        """Leave out lines without a valid item, and return whether there were any; without `reject`, raise ExportError."""
        if self._screen is None:
            found = find_bad_lines(self.files)
            if found.count:
                raise found.refusal()
            return False
        before = self._screen.found.count
        self.files = self._screen.run(self.files)
        return self._screen.found.count > before


def wrong_counts(files: Sequence[LocalFile], counts: dict[str, int]) -> Iterator[str]:
    """Which files have not the lines their manifest says. `counts`: lines by local path."""
    for file in files:
        found = counts.get(str(file.path), 0)
        if found != file.items:
            yield f"{file.uri} ({found} lines, expected {file.items})"


def miscounted(export: FoundExport, total: int, where: str | None) -> ExportError:
    """The error for another number of rows than the manifest's."""
    wanted = export.summary.item_count
    return ExportError(f"{where or export.uri}: {total} items read, the manifest says {wanted}")


def check_keyed(schema: TableSchema, total: int, keyed: int) -> None:
    """Raise CheckFailed unless every row has a key."""
    if keyed != total:
        names = list(schema.key)
        raise CheckFailed(f"{total - keyed} of {total} items lack a key attribute of {names}; is `key` right?")


def check_unique(export: FoundExport, schema: TableSchema, twice: int) -> None:
    """Raise CheckFailed if keys stand more than once. Equal hashes of different keys are no fault."""
    if twice:
        raise CheckFailed(
            f"{export.uri}: {twice} keys stand more than once for key {list(schema.key)}; is `key` right?"
        )
