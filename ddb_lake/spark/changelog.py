"""Deduplicate and write staged rows on Spark (`pipeline.apply.deduplication.Deduplicator`).

1. One task, or one for each bucket of ids, finds the staged rows that are not new, among the staged rows and the table's rows
   of the same times. It writes their positions into a scratch file.
2. Tasks write the other rows as files of the table, and count them. The driver commits the names of the files.

If there are few rows, one task does both. The content of a row is read once, when it is written.
"""

from __future__ import annotations

from collections.abc import Sequence
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
    ChangesWrite,
    Figures,
    NumberedObjects,
    RejectedWrite,
    candidate_files,
)
from ddb_lake.pipeline.merge.sources import Relation
from ddb_lake.pipeline.open_lake import Lake
from ddb_lake.spark.access import WAVES, TableAccess, table_access
from ddb_lake.spark.carrier import Carrier
from ddb_lake.spark.object_reader import MINUTE_US, SparkGroup, StagedShare
from ddb_lake.spark.record_tasks import (
    FindRepeated,
    Ids,
    ScanIds,
    StagedFile,
    WriteNew,
    find_repeated,
    scan_ids,
    write_new,
)
from ddb_lake.spark.scratch import ScratchRows, delete_files, estimated_rows, names_of

ONE_TASK_ROWS = 20_000
"""The most staged rows that one task deduplicates and writes."""

BUCKET_ROWS = 2_000_000
"""The approximate number of ids that one task compares."""


class SparkDeduplicator:
    """Rows of one table that tasks have staged in scratch files (`Deduplicator`)."""

    def __init__(self, lake: Lake, session: Session, carrier: Carrier, table: str, group: SparkGroup) -> None:
        self._lake, self._session, self._carrier = lake, session, carrier
        self._scratch, self._format = group.scratch, group.changelog
        self._shares = group.tables[table]
        self._adopted: set[str] = set()
        self._progress = lambda what, done, all_: lake.progress(f"{table}: {what}", done, all_)
        self.records = sum(share.records for share in self._shares)
        self.rejected = sum(share.rejected for share in self._shares)

    def write_changes(
        self, table: Table, objects: NumberedObjects, write: ChangesWrite
    ) -> tuple[list[DataFile], Figures]:
        """Write the records that the changelog does not have, without those of erased keys."""
        staged = [(self._scratch.path(share.changes), share, False) for share in self._shares if share.changes]
        written = [(path, share, True) for share in self._shares for path in share.files]
        files = _numbered_files([*staged, *written], objects)
        minutes = np.unique(np.array([m for share in self._shares for m in share.minutes], dtype=np.int64))
        candidates = TableScan(table.schema(), tuple(candidate_files(table, minutes * MINUTE_US, MINUTE_US)))
        times = f"(SELECT DISTINCT changed_at FROM read_parquet({literals(file.path for file in files)}))"

        def of_these_times(paths: Sequence[str]) -> str:
            return f"(SELECT k.* FROM {candidates.sql(paths)} k SEMI JOIN {times} t ON t.changed_at = k.changed_at)"

        rows = sum(share.rows for share in self._shares)
        known = Relation(candidates.paths, of_these_times)
        adopts = self._format is not None and self._format.is_of(table) and not write.erased.allows_recreation
        entries, figures = self._write(table, _Write(RECORD_IDENTITY, tuple(files), known, rows, write, adopts))
        self._adopted |= {entry.file_path for entry in entries}
        return entries, figures

    def write_rejected(
        self, table: Table, objects: NumberedObjects, write: RejectedWrite
    ) -> tuple[list[DataFile], int]:
        """Write the rejected rows that the quarantine does not have, without those that name an erased key."""
        staged = [(self._scratch.path(share.quarantine), share, False) for share in self._shares if share.quarantine]
        files = _numbered_files(staged, objects)
        quarantine = scan_table(table)
        known = Relation(quarantine.paths, quarantine.sql)
        written, figures = self._write(table, _Write(REJECTED_IDENTITY, tuple(files), known, self.rejected, write))
        return written, figures.refused

    def close(self) -> None:
        """Delete the scratch files, and those files that were in no attempt to commit: such an attempt may have succeeded."""
        for share in self._shares:
            self._scratch.delete(names_of([share.changes, share.quarantine]))
            delete_files(self._scratch.io, set(share.files) - self._adopted)

    def _write(self, table: Table, write: _Write) -> tuple[list[DataFile], Figures]:
        if not write.files:
            return [], Figures()
        access = table_access(self._lake, cast(FileIO, table.io), table.location())
        # one task finds the duplicates of few rows itself
        repeated = self._find_repeated(access, write) if write.rows > ONE_TASK_ROWS else None
        known = write.known.sql if write.known.files and repeated is None else None
        tasks = [
            WriteNew(access, table.schema(), write.identity, part, repeated, known, write.how, write.adopts)
            for part in _divided(write.files, min(len(write.files), ceil(write.rows / ONE_TASK_ROWS)))
        ]
        results = self._carrier.map(write_new, tasks, partial(self._progress, "shares of new rows written"))
        if repeated is not None:
            self._scratch.delete(repeated.names)
        writer = FileWriter.for_table(self._session.con, table)
        entries = writer.entries([path for paths, _ in results for path in paths], table.metadata)
        return entries, sum((figures for _, figures in results), Figures())

    def _find_repeated(self, access: TableAccess, write: _Write) -> ScratchRows:
        """The positions of staged rows that are not new."""
        identity, scratch = write.identity, self._scratch
        buckets = ceil((write.rows + estimated_rows(self._session, write.known.files)) / BUCKET_ROWS)
        ids: list[Ids] = [Ids(identity, file) for file in write.files]
        ids += [Ids(identity, query) for query in write.known.parts(self._carrier.cores * WAVES)]
        if buckets <= 1:
            tasks = [FindRepeated(access, scratch, identity, tuple(ids))]
            in_buckets: tuple[str, ...] = ()
        else:
            scans = [ScanIds(access, scratch, one, buckets) for one in ids]
            in_buckets = names_of(self._carrier.map(scan_ids, scans, partial(self._progress, "ids read")))
            rows = ScratchRows(scratch, in_buckets)
            tasks = [FindRepeated(access, scratch, identity, rows, bucket) for bucket in range(buckets)]
        found = self._carrier.map(find_repeated, tasks, partial(self._progress, "duplicates found"))
        scratch.delete(in_buckets)
        return ScratchRows(scratch, names_of(found))


@dataclass(frozen=True, slots=True)
class _Write:
    """Staged rows to be written to a table.

    Attributes:
        identity: the columns that are equal in the same rows.
        files: the staged rows.
        known: rows of the table that may be the same as staged rows.
        rows: the number of staged rows.
        how: the number of the commit of the changelog, or the time of the quarantine; and the erased keys.
        adopts: whether files of staged rows can become files of the changelog.
    """

    identity: tuple[str, ...]
    files: tuple[StagedFile, ...]
    known: Relation
    rows: int
    how: ChangesWrite | RejectedWrite
    adopts: bool = False


def _numbered_files(staged: Sequence[tuple[str, StagedShare, bool]], objects: NumberedObjects) -> list[StagedFile]:
    """The files of staged rows that have an object that counts, in the order of their objects.

    Args:
        staged: the path of each file, the share that it is of, and whether it can become a file of the changelog.
        objects: the objects that count.
    """
    files = []
    for number, (path, share, can_be_adopted) in enumerate(sorted(staged, key=lambda entry: min(entry[1].objects))):
        own = [(n, o) for n, o in objects if n in share.objects]
        if own:
            names = tuple(o.ref.uri for _, o in own) if can_be_adopted else ()
            files.append(StagedFile(number, path, tuple((n, o.hour_us) for n, o in own), names))
    return files


def _divided(files: Sequence[StagedFile], parts: int) -> list[tuple[StagedFile, ...]]:
    """The files in so many parts of about equal number, in order."""
    bounds = [len(files) * part // parts for part in range(parts + 1)]
    return [tuple(files[first:end]) for first, end in pairwise(bounds)]
