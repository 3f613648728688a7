"""Deduplicate and write staged rows on Spark (`pipeline.apply.deduplication.Deduplicator`).

1. The ids of the staged rows, and of the table's rows of the same times, go to their buckets. Each bucket finds the
   staged rows that are not new, by their position in a scratch file.
2. Tasks write the other rows as files of the table, and count them. The driver commits the names of the files.

If there are few rows, one task does both. The content of a row is read once, when it is written.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from math import ceil
from typing import cast

import numpy as np
from pyiceberg.io import FileIO
from pyiceberg.manifest import DataFile
from pyiceberg.table import Table

from ddb_lake.engine.session import Session
from ddb_lake.engine.sql import literals
from ddb_lake.lake.file_writer import FileWriter
from ddb_lake.lake.scan import TableScan, scan_table
from ddb_lake.pipeline.apply.deduplication import (
    RECORD_IDENTITY,
    REJECTED_IDENTITY,
    Figures,
    NumberedObjects,
    candidate_files,
)
from ddb_lake.pipeline.merge.sources import Relation
from ddb_lake.pipeline.open_lake import Lake
from ddb_lake.spark.distribution import run_groups, run_tasks, scan_rows
from ddb_lake.spark.export_tasks import TableAccess
from ddb_lake.spark.object_reader import MINUTE_US, SparkGroup, StagedShare
from ddb_lake.spark.record_tasks import (
    DDL,
    FindRepeated,
    ScanKnownIds,
    ScanStagedIds,
    StagedFile,
    WriteNew,
    find_repeated,
    scan_ids,
    write_new,
)
from ddb_lake.spark.snapshot_writer import WAVES, spark_of, table_access

ONE_TASK_ROWS = 20_000
"""The most staged rows that one task writes."""

BUCKET_ROWS = 500_000
"""The approximate number of ids of a bucket: they are held in memory."""


class SparkDeduplicator:
    """Rows of one table that tasks have staged in scratch files (`Deduplicator`)."""

    def __init__(self, lake: Lake, session: Session, table: str, group: SparkGroup) -> None:
        self._lake, self._session = lake, session
        self._spark = spark_of(lake)
        self._cores = self._spark.sparkContext.defaultParallelism
        self._scratch, self._io = group.scratch, group.io
        self._shares = group.tables[table]
        self._progress = lambda what, done, all_: lake.progress(f"{table}: {what}", done, all_)
        self.records = sum(share.records for share in self._shares)
        self.rejected = sum(share.rejected for share in self._shares)

    def write_changes(self, table: Table, objects: NumberedObjects, batch: int) -> tuple[list[DataFile], Figures]:
        """Write the records that the changelog does not have."""
        files = _numbered_files([(share.changes, share) for share in self._shares], objects)
        minutes = np.unique(np.array([m for share in self._shares for m in share.minutes], dtype=np.int64))
        candidates = TableScan(table.schema(), tuple(candidate_files(table, minutes * MINUTE_US, MINUTE_US)))
        times = f"(SELECT DISTINCT changed_at FROM read_parquet({literals(file.path for file in files)}))"

        def of_these_times(paths: Sequence[str]) -> str:
            return f"(SELECT k.* FROM {candidates.sql(paths)} k SEMI JOIN {times} t ON t.changed_at = k.changed_at)"

        rows = sum(share.rows for share in self._shares)
        known = Relation(candidates.paths, of_these_times)
        return self._write(table, _Write(RECORD_IDENTITY, tuple(files), known, rows, batch=batch))

    def write_rejected(self, table: Table, objects: NumberedObjects, at: str) -> list[DataFile]:
        """Write the rejected rows that the quarantine does not have."""
        files = _numbered_files([(share.quarantine, share) for share in self._shares], objects)
        quarantine = scan_table(table)
        known = Relation(quarantine.paths, quarantine.sql)
        return self._write(table, _Write(REJECTED_IDENTITY, tuple(files), known, self.rejected, at=at))[0]

    def close(self) -> None:
        """Delete the scratch files."""
        for share in self._shares:
            self._delete([path for path in (share.changes, share.quarantine) if path is not None])

    def _write(self, table: Table, write: _Write) -> tuple[list[DataFile], Figures]:
        if not write.files:
            return [], Figures()
        access = table_access(self._lake, cast(FileIO, table.io), table.location())
        # one task finds the duplicates of few rows itself; many rows are compared in a shuffle
        repeated = self._find_repeated(access, write) if write.rows > ONE_TASK_ROWS else None
        known = write.known.sql if write.known.files and repeated is None else None
        tasks = [
            WriteNew(access, table.schema(), write.identity, part, repeated, known, write.batch, write.at)
            for part in _divided(write.files, min(len(write.files), ceil(write.rows / ONE_TASK_ROWS)))
        ]
        results = run_tasks(self._spark, write_new, tasks, partial(self._progress, "shares of new rows written"))
        self._delete(repeated or ())
        writer = FileWriter.for_table(self._session.con, table)
        entries = writer.entries([path for paths, _ in results for path in paths], table.metadata)
        return entries, sum((figures for _, figures in results), Figures())

    def _find_repeated(self, access: TableAccess, write: _Write) -> tuple[str, ...]:
        """Files of the positions of staged rows that are not new."""
        identity, rows = write.identity, write.rows
        buckets = max(ceil(rows / BUCKET_ROWS), min(self._cores, ceil(rows / ONE_TASK_ROWS)))
        scans: list[ScanStagedIds | ScanKnownIds] = [
            ScanStagedIds(access, identity, file, buckets) for file in write.files
        ]
        scans += [ScanKnownIds(access, identity, query, buckets) for query in write.known.parts(self._cores * WAVES)]
        ids = scan_rows(self._spark, scan_ids, scans, DDL)
        task = FindRepeated(access, identity, self._scratch)
        paths = run_groups(ids, "bucket", partial(find_repeated, task), partial(self._progress, "duplicates found"))
        return tuple(path for path in paths if path is not None)

    def _delete(self, paths: Sequence[str]) -> None:
        for path in paths:
            with suppress(FileNotFoundError):
                self._io.delete(path)


@dataclass(frozen=True, slots=True)
class _Write:
    """Staged rows to be written to a table.

    Attributes:
        identity: the columns that are equal in the same rows.
        files: the staged rows.
        known: rows of the table that may be the same as staged rows.
        rows: the number of staged rows.
        batch: the number of the commit, for the changelog.
        at: the time of the quarantine; None for the changelog.
    """

    identity: tuple[str, ...]
    files: tuple[StagedFile, ...]
    known: Relation
    rows: int
    batch: int = 0
    at: str | None = None


def _numbered_files(staged: Sequence[tuple[str | None, StagedShare]], objects: NumberedObjects) -> list[StagedFile]:
    """The files of staged rows, in the order of their objects, each with those of its objects that count."""
    ordered = sorted(((path, share) for path, share in staged if path), key=lambda entry: min(entry[1].objects))
    return [
        StagedFile(number, path, tuple((n, o.hour_us) for n, o in objects if n in share.objects))
        for number, (path, share) in enumerate(ordered)
    ]


def _divided(files: Sequence[StagedFile], parts: int) -> list[tuple[StagedFile, ...]]:
    """The files in so many parts of about equal number, in order."""
    bounds = [len(files) * part // parts for part in range(parts + 1)]
    return [tuple(files[first:end]) for first, end in pairwise(bounds)]
