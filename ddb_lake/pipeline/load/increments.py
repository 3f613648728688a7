"""Reads the lines of an incremental export into staged rows, in this process. Tasks on Spark use the functions below."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import accumulate

from ddb_lake.core.decode.routing import Routes
from ddb_lake.engine.session import Session
from ddb_lake.errors import ExportError
from ddb_lake.pipeline.apply.changelog import not_ingested
from ddb_lake.pipeline.apply.deduplication import Deduplicator, LocalDeduplicator
from ddb_lake.pipeline.apply.object_reader import (
    GroupReader,
    IngestedObject,
    ReadOptions,
    StagedGroup,
    StagedTable,
    Unreadable,
    fetch,
    only,
)
from ddb_lake.pipeline.apply.parallel_reader import MAX_READERS, ReadPlan, read_parallel
from ddb_lake.pipeline.load.export_files import (
    Export,
    InvalidLine,
    InvalidLines,
    LocalFile,
    check_line_lengths,
    download_files,
    ion_fault,
    numbered_lines,
)
from ddb_lake.pipeline.open_lake import Lake
from ddb_lake.pipeline.table_key import table_definition


@dataclass(frozen=True, slots=True)
class IncrementRows:
    """The lines of an incremental export, staged.

    Attributes:
        objects: the data files, in the order of their numbers. The ledger may name some of them.
        rows: the staged rows.
        key: the key attributes of the table.
        is_known: whether the ledger names all data files of the export, which has some.
        invalid: lines that hold no valid record. They are among the rows for the quarantine.
        left_out: the number of lines that the table's filter leaves out.
    """

    objects: list[IngestedObject]
    rows: Deduplicator
    key: tuple[str, ...]
    is_known: bool
    invalid: InvalidLines = field(default_factory=InvalidLines)
    left_out: int = 0


def increment_options(table: str, export: Export) -> ReadOptions:
    """How the lines of an incremental export of a table are read."""
    return ReadOptions(table, Routes({}), asserted_us=export.summary.as_of_us)


def read_increment(lake: Lake, session: Session, name: str, export: Export) -> IncrementRows:
    """Read the data files that the ledger of a table does not name.

    Raises:
        ExportError: a data file is missing, differs from the manifest, or has another number of lines.
    """
    files = download_files(lake.objects, export, session.folder)
    unknown = set(not_ingested(lake, session, name, [file.ref for file in files]))
    new_files = [file for file in files if file.ref in unknown]
    check_line_lengths(new_files)
    staged, key = _stage_increment(lake, session, increment_options(name, export), new_files)
    check_counts(new_files, staged.objects)
    rows = LocalDeduplicator(session, staged.tables.get(name) or StagedTable.empty(session.folder))
    invalid = invalid_lines(new_files, staged.unreadable)
    is_known = bool(files) and not new_files
    return IncrementRows(staged.objects, rows, key, is_known, invalid, staged.left_out[name])


def _stage_increment(
    lake: Lake, session: Session, options: ReadOptions, files: Sequence[LocalFile]
) -> tuple[StagedGroup, tuple[str, ...]]:
    """Read data files by several processes, or by this one if they are small or the key is not known. Returns their rows and the key."""
    name = options.table
    refs, copies = [file.ref for file in files], {file.ref: file.path for file in files}
    definition = table_definition(lake, name)
    most = readers_that_fit([file.content_bytes for file in files], lake.settings.memory_bytes)
    staged = read_parallel(ReadPlan(session.folder, options, definition, copies, min(most, MAX_READERS)), refs)
    if staged is not None:
        return staged, definition.key
    reader = GroupReader(session.folder, options, only({name: definition}))
    staged = reader.read(fetch(lake.objects, refs, copies))
    return staged, reader.keys.get(name, ())


def readers_that_fit(content_bytes: Iterable[int], memory_bytes: int) -> int:
    """How many processes may read files of these sizes at once, so that the largest ones together fit in the memory; at least one.

    A process has the content of one file in memory at a time.
    """
    totals = accumulate(sorted(content_bytes, reverse=True))
    return max(1, sum(total <= memory_bytes for total in totals))


def check_counts(files: Sequence[LocalFile], objects: Sequence[IngestedObject]) -> None:
    """Raise ExportError if a data file has another number of lines than the manifest states."""
    for file, read in zip(files, objects, strict=True):
        if read.records != file.items:
            raise ExportError(
                "the number of lines is not that of the manifest",
                uri=file.uri,
                expected=file.items,
                found=read.records,
                hint="copy the file again",
            )


def invalid_lines(files: Sequence[LocalFile], unreadable: Unreadable) -> InvalidLines:
    """The lines that are not valid records. `unreadable`: their number, and the position in `files` and the offset of the first ones."""
    invalid = InvalidLines(unreadable.count)
    for number, offset, reason in unreadable.first:
        before = ((line, text) for line, start, text in numbered_lines(files[number]) if start <= offset)
        line, text = max(before, default=(0, b""))
        invalid.first.append(InvalidLine(files[number].uri, line, offset, ion_fault(text) or reason))
    return invalid
