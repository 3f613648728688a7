"""Finds lines of an export that hold no valid item, and refuses them or sets them aside for the quarantine.

Loading proves in SQL that all lines are valid (`engine.line_check`) and uses this module only if some may not be. So this
module reads the files line by line, with `core.decode.export_lines`. Its lines are those of `pipeline.load.export_files.lines_sql`.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from ddb_lake.core.decode.export_lines import read_full_line
from ddb_lake.engine.staging import (
    STAGED_QUARANTINE,
    Stage,
    StagedRows,
    quarantine_row,
)
from ddb_lake.errors import ExportError, UndecodableError
from ddb_lake.pipeline.load.export_files import LocalFile, bounded_lines

MAX_LISTED = 5


@dataclass(frozen=True, slots=True)
class BadLine:
    """A line that holds no valid item. `line` counts from 1, `offset` is its first byte in the decompressed file."""

    uri: str
    line: int
    offset: int
    reason: str

    def __str__(self) -> str:
        return f"{self.uri} line {self.line} (byte {self.offset}): {self.reason}"


@dataclass(slots=True)
class BadLines:
    """The number of lines that were found, and the first of them."""

    count: int = 0
    first: list[BadLine] = field(default_factory=list)

    def add(self, found: BadLine) -> None:
        """Count a line."""
        self.count += 1
        if len(self.first) < MAX_LISTED:
            self.first.append(found)

    def merge(self, other: BadLines) -> None:
        """Add the counts of `other`."""
        self.count += other.count
        self.first = [*self.first, *other.first][:MAX_LISTED]

    def refusal(self) -> ExportError:
        """The error for an export that has such lines."""
        listed = "; ".join(map(str, self.first))
        more = f"; and {self.count - len(self.first)} more" if self.count > len(self.first) else ""
        return ExportError(
            f"{self.count} line{'s' if self.count > 1 else ''} of the export without a valid item, nothing was"
            f" committed: {listed}{more}. Export again, or load the rest with `--reject-to-quarantine`"
        )


class Screen:
    """Sets aside the lines of data files that hold no valid item.

    `rows`: those lines as rows of the quarantine, in a file of `folder`. Each data file is screened once.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.found = BadLines()
        self.rows: StagedRows | None = None

    def run(self, files: Sequence[LocalFile]) -> list[LocalFile]:
        """The files without such lines: a file that had some is replaced by a copy with fewer items.

        Raises ExportError for a file that cannot be read to its end.
        """
        stage = Stage(self._folder / f"rejected-{self.found.count}.parquet", STAGED_QUARANTINE)
        kept = [self._screen(number, file, stage) for number, file in enumerate(files)]
        path = stage.close()
        if stage.rows:
            self.rows = StagedRows(path, stage.rows)
        return kept

    def _screen(self, number: int, file: LocalFile, stage: Stage) -> LocalFile:
        bad = {line: (found, raw) for line, found, raw in _bad_lines(file)}
        if not bad:
            return file
        for found, raw in bad.values():
            self.found.add(found)
            row = quarantine_row(found.reason, raw, found.uri, found.offset, found.line, number)
            stage.add(row, len(raw))
        valid = file.path.with_suffix(".valid")
        with valid.open("wb") as target:
            target.writelines(line + b"\n" for at, _, line in lines_of(file) if at not in bad)
        return replace(file, path=valid, items=file.items - len(bad), gzipped=False)


def find_bad_lines(files: Iterable[LocalFile]) -> BadLines:
    """The lines of data files that hold no valid item. Raises ExportError for a file that cannot be read to its end."""
    found = BadLines()
    for file in files:
        for _, bad, _ in _bad_lines(file):
            found.add(bad)
    return found


def lines_of(file: LocalFile) -> Iterator[tuple[int, int, bytes]]:
    """Number (from 1), offset and text of each line that is not blank.

    Raises ExportError for a file that cannot be read to its end.
    """
    number = offset = 0
    try:
        for number, line in enumerate(bounded_lines(file), start=1):
            text = line.strip(b" \t\r\n")
            if text:
                yield number, offset, text
            offset += len(line)
    except (OSError, EOFError, zlib.error) as error:
        raise ExportError(
            f"{file.uri}: damaged after line {number} ({error}), and its MD5 is the manifest's; export again"
        ) from error


def _bad_lines(file: LocalFile) -> Iterator[tuple[int, BadLine, bytes]]:
    for number, offset, text in lines_of(file):
        try:
            read_full_line(text)
        except UndecodableError as error:
            yield number, BadLine(file.uri, number, offset, str(error)), text
