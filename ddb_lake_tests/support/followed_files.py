"""The files of a followed table over many commits, without their contents: which are written, and which compactions rewrite.

Keys change at random. The limits and the choice of files are those of `lake.compaction_policy`; a compaction removes the deleted rows
of the files that it rewrites, and writes the remaining deleted positions again, as `pipeline.maintain.compact` does. The sizes were
measured with `benchmarks.follow_day`: 500 changes, items of 240 bytes as DynamoDB JSON.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass, field

import numpy
from pyiceberg.manifest import DataFile, DataFileContent, FileFormat
from pyiceberg.typedef import Record

from ddb_lake.lake.commit import position_delete_file
from ddb_lake.lake.compaction_policy import (
    SLICE_BYTES,
    crowded_hours,
    first_slice,
    rows_reason,
    slice_of_groups,
    worth_rewriting,
)
from ddb_lake.lake.file_writer import OWN_DELETE_FILE_ROWS
from ddb_lake.lake.scan import LiveFiles

ROW_BYTES, FILE_BYTES = 78, 4_000
RECORD_BYTES, CHANGES_FILE_BYTES = 117, 4_500
POSITION_BYTES, DELETES_BYTES = 2, 1_200
LANDED_BYTES = 98
"""Of one change in a gzip object."""

_HOUR_US = 3_600_000_000


@dataclass
class FollowedFiles:
    """A table of `keys` keys. In each commit, `changes` random ones of them change.

    Attributes:
        every_s: the interval of commits.
        written: bytes that were written, by the reason.
        landed_bytes: bytes that landed.
        rows: the rows of each data file of `current`, deleted ones too, by the file's number.
        deleted: deleted rows by the number of their data file.
        deletes: position delete files: deleted rows by the number of the data file.
        changelog: its data files by hour.
    """

    keys: int = 100_000
    changes: int = 500
    every_s: float = 5.0
    written: Counter[str] = field(default_factory=Counter)
    landed_bytes: int = 0
    commits: int = 0
    rows: dict[int, int] = field(default_factory=dict)
    deleted: Counter[int] = field(default_factory=Counter)
    deletes: list[dict[int, int]] = field(default_factory=list)
    changelog: dict[int | None, list[DataFile]] = field(default_factory=lambda: defaultdict(list))
    _numbers: int = 0

    def __post_init__(self) -> None:
        self._chance = numpy.random.default_rng(1)
        self._file_of = numpy.full(self.keys, -1, dtype=numpy.int64)  # the number of the file that has a key's row

    def commit(self) -> None:
        """One commit of the changelog and one of `current`."""
        self.commits += 1
        changed = numpy.unique(self._chance.integers(0, self.keys, self.changes))
        before = self._file_of[changed]
        files, counts = numpy.unique(before[before >= 0], return_counts=True)
        replaced = dict(zip(files.tolist(), counts.tolist(), strict=True))
        self.deleted.update(replaced)
        if replaced:
            self._add_deletes(replaced, "deletes")
        self._file_of[changed] = self._add_rows(len(changed), "rows")
        hour_us = int(self.commits * self.every_s * 1e6) // _HOUR_US * _HOUR_US
        self._add_changes(hour_us, self.changes, "records")
        self.landed_bytes += LANDED_BYTES * self.changes

    def compact(self) -> None:
        """Compact in slices until nothing is left."""
        while rows_reason(self.live()) is not None:
            worth = worth_rewriting(self.live().data, {_path(number): count for number, count in self.deleted.items()})
            chosen = [int(file.file_path) for file in first_slice(worth, SLICE_BYTES)]
            kept = sum(self.rows.pop(number) - self.deleted.pop(number, 0) for number in chosen)
            if kept:
                self._file_of[numpy.isin(self._file_of, chosen)] = self._add_rows(kept, "rows rewritten")
            single = {number: count for number, count in self.deleted.items() if count >= OWN_DELETE_FILE_ROWS}
            others = {number: count for number, count in self.deleted.items() if number not in single}
            self.deletes = []
            for deletes in (*({number: count} for number, count in single.items()), *([others] if others else [])):
                self._add_deletes(deletes, "deletes rewritten")
        while groups := slice_of_groups(crowded_hours(self.changelog), SLICE_BYTES):
            for group in groups:
                self._merge({file.file_path for file in group})

    def live(self) -> LiveFiles:
        """The files of `current`."""
        data = tuple(_entry(number, rows, FILE_BYTES + ROW_BYTES * rows) for number, rows in self.rows.items())
        deletes = tuple(
            position_delete_file(
                f"deletes {place}",
                DELETES_BYTES + POSITION_BYTES * sum(named.values()),
                sum(named.values()),
                _path(min(named)),
                _path(max(named)),
            )
            for place, named in enumerate(self.deletes)
        )
        return LiveFiles(data, deletes)

    @property
    def amplification(self) -> float:
        """The bytes written for each byte that landed."""
        return self.written.total() / self.landed_bytes

    @property
    def deleted_share(self) -> float:
        """The share of the rows in data files that are deleted."""
        return self.deleted.total() / sum(self.rows.values())

    def _add_rows(self, rows: int, reason: str) -> int:
        self._numbers += 1
        self.rows[self._numbers] = rows
        self.written[reason] += FILE_BYTES + ROW_BYTES * rows
        return self._numbers

    def _add_deletes(self, named: dict[int, int], reason: str) -> None:
        self.deletes.append(named)
        self.written[reason] += DELETES_BYTES + POSITION_BYTES * sum(named.values())

    def _add_changes(self, hour_us: int | None, records: int, reason: str) -> None:
        self._numbers += 1
        size = CHANGES_FILE_BYTES + RECORD_BYTES * records
        self.changelog[hour_us].append(_entry(self._numbers, records, size))
        self.written[reason] += size

    def _merge(self, paths: set[str]) -> None:
        """Rewrite files of the changelog: one file for each hour, which is its partition."""
        for hour_us, files in list(self.changelog.items()):
            merged = [file for file in files if file.file_path in paths]
            if merged:
                self.changelog[hour_us] = [file for file in files if file.file_path not in paths]
                self._add_changes(hour_us, sum(file.record_count for file in merged), "records rewritten")


def _path(number: int) -> str:
    return f"{number:09d}"


def _entry(number: int, rows: int, size: int) -> DataFile:
    return DataFile.from_args(
        content=DataFileContent.DATA,
        file_path=_path(number),
        file_format=FileFormat.PARQUET,
        partition=Record(),
        record_count=rows,
        file_size_in_bytes=size,
        lower_bounds={},
        upper_bounds={},
        spec_id=0,
    )
