"""Staged rows into the changelog and the quarantine on Spark (`pipeline.apply.deduplication.Deduplicator`).

1. Ids of the staged rows, and of the rows the table has of the same times, go to their buckets; each bucket says which
   staged rows are not new, by their place in a scratch file.
2. Tasks write the others as files of the table, and count them. The driver commits the names.

Few rows are looked through and written by one task at once. What content rows have is read once, where it is written.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
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
    CHANGES,
    QUARANTINE,
    Figures,
    Numbered,
    files_near,
)
from ddb_lake.pipeline.merge.sources import Relation
from ddb_lake.pipeline.open_lake import Lake
from ddb_lake.spark.distribution import run_groups, run_tasks, scan_rows
from ddb_lake.spark.export_tasks import Place
from ddb_lake.spark.object_reader import MINUTE_US, SparkGroup, StagedShare
from ddb_lake.spark.record_tasks import (
    DDL,
    KnownIds,
    Repeats,
    StagedFile,
    StagedIds,
    WriteNew,
    find_repeated,
    scan_ids,
    write_new,
)
from ddb_lake.spark.snapshot_writer import WAVES, place_of, spark_of

ONE_TASK_ROWS = 20_000
"""Staged rows that one task takes in."""

BUCKET_ROWS = 500_000
"""Ids that a bucket has about: they are held in memory."""


class SparkDeduplicator:
    """Rows of one table in scratch files."""

    def __init__(self, lake: Lake, session: Session, table: str, group: SparkGroup) -> None:
        self._lake, self._session = lake, session
        self._spark = spark_of(lake)
        self._cores = self._spark.sparkContext.defaultParallelism
        self._scratch = group.scratch
        self._shares = group.tables[table]
        self._progress = lambda what, done, all_: lake.progress(f"{table}: {what}", done, all_)
        self.records = sum(share.records for share in self._shares)
        self.rejected = sum(share.rejected for share in self._shares)

    def write_changes(self, table: Table, objects: Numbered, batch: int) -> tuple[list[DataFile], Figures]:
        """Write the records that the changelog does not have."""
        files = _files([(share.changes, share) for share in self._shares], objects)
        minutes = np.unique(np.array([m for share in self._shares for m in share.minutes], dtype=np.int64))
        near = TableScan(table.schema(), tuple(files_near(table, minutes * MINUTE_US, MINUTE_US)))
        times = f"(SELECT DISTINCT changed_at FROM read_parquet({literals(file.path for file in files)}))"

        def of_these_times(paths: Sequence[str]) -> str:
            return f"(SELECT k.* FROM {near.sql(paths)} k SEMI JOIN {times} t ON t.changed_at = k.changed_at)"

        rows = sum(share.rows for share in self._shares)
        return self._write(table, CHANGES, files, Relation(near.paths, of_these_times), rows, batch, None)

    def write_rejected(self, table: Table, objects: Numbered, at: str) -> list[DataFile]:
        """Write what the quarantine does not have."""
        files = _files([(share.quarantine, share) for share in self._shares], objects)
        scan = scan_table(table)
        known = Relation(scan.paths, scan.sql)
        return self._write(table, QUARANTINE, files, known, self.rejected, 0, at)[0]

    def close(self) -> None:
        """Delete the scratch files."""
        for share in self._shares:
            self._delete([path for path in (share.changes, share.quarantine) if path is not None])

    def _write(
        self,
        table: Table,
        same: tuple[str, ...],
        files: Sequence[StagedFile],
        known: Relation,
        rows: int,
        batch: int,
        at: str | None,
    ) -> tuple[list[DataFile], Figures]:
        if not files:
            return [], Figures()
        place = place_of(self._lake, cast(FileIO, table.io), table.location())
        repeated: tuple[str, ...] | None = None
        if rows > ONE_TASK_ROWS:
            repeated = self._repeated(place, same, files, known, rows)
        against = known.sql if known.files and repeated is None else None
        parts = min(len(files), ceil(rows / ONE_TASK_ROWS))
        tasks = [
            WriteNew(place, table.schema(), same, part, repeated, against, batch, at) for part in _evenly(files, parts)
        ]
        told = run_tasks(self._spark, write_new, tasks, partial(self._progress, "shares of new rows written"))
        self._delete(repeated or ())
        writer = FileWriter.for_table(self._session.con, table)
        entries = writer.entries([path for paths, _ in told for path in paths], table.metadata)
        return entries, sum((figures for _, figures in told), Figures())

    def _repeated(
        self, place: Place, same: tuple[str, ...], files: Sequence[StagedFile], known: Relation, rows: int
    ) -> tuple[str, ...]:
        buckets = max(ceil(rows / BUCKET_ROWS), min(self._cores, ceil(rows / ONE_TASK_ROWS)))
        scans: list[StagedIds | KnownIds] = [StagedIds(place, same, file, buckets) for file in files]
        scans += [KnownIds(place, same, query, buckets) for query in known.parts(self._cores * WAVES)]
        ids = scan_rows(self._spark, scan_ids, scans, DDL)
        task = Repeats(place, same, self._scratch)
        found = run_groups(ids, "bucket", partial(find_repeated, task), partial(self._progress, "duplicates found"))
        return tuple(path for path in found if path is not None)

    def _delete(self, paths: Sequence[str]) -> None:
        io = self._lake.catalog.file_io()
        for path in paths:
            with suppress(FileNotFoundError):
                io.delete(path)


def _files(staged: Sequence[tuple[str | None, StagedShare]], objects: Numbered) -> list[StagedFile]:
    """The files of rows, in the order of their objects, with the objects that count."""
    ordered = sorted(((path, share) for path, share in staged if path), key=lambda entry: min(entry[1].objects))
    return [
        StagedFile(number, path, tuple((n, o.hour_us) for n, o in objects if n in share.objects))
        for number, (path, share) in enumerate(ordered)
    ]


def _evenly(files: Sequence[StagedFile], parts: int) -> list[tuple[StagedFile, ...]]:
    """The files in so many parts, in order."""
    bounds = [len(files) * part // parts for part in range(parts + 1)]
    return [tuple(files[first:end]) for first, end in pairwise(bounds)]
