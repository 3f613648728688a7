"""A merge into `current` on Spark: tasks find the rows of changed keys, a shuffle brings them to buckets, and tasks decide
a bucket each.

1. Tasks write the key hashes of the new records, which are in the changelog's new files, into scratch files.
2. The new records, and the rows of `current` and the applied removals with those hashes, go to their buckets. Each bucket is
   decided.
3. A bucket with conflicting keys is decided again, with the records of the changelog and the rows of the base of these
   keys. A bucket with expired items is decided once more, with the keys of later exports, if there are such exports.
4. The new rows are projected and written; if their items need other columns, they are projected again.

The driver holds names of files and counts. Scratch files are below the table's location, where `compact` removes those
that a broken run leaves.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from math import ceil
from typing import Any, cast

from pyiceberg.io import FileIO
from pyiceberg.manifest import DataFile
from pyiceberg.schema import Schema
from pyiceberg.table import Table
from pyiceberg.table.metadata import TableMetadata

from ddb_lake.config import TableSettings
from ddb_lake.core.schema.inference import Inference
from ddb_lake.core.schema.table_schema import Path, TableSchema
from ddb_lake.engine.key_text import key_hash_sql
from ddb_lake.engine.merge_plan import MergeCounts
from ddb_lake.engine.schema_fitting import extend_schema, fit_schema, guess_from
from ddb_lake.engine.session import Session
from ddb_lake.lake.commit import position_delete_file
from ddb_lake.lake.file_writer import FileWriter, mean_row_bytes
from ddb_lake.pipeline.merge.sources import IN_CHANGED_KEYS, MergeSources, Relation, images_sql
from ddb_lake.pipeline.open_lake import Lake
from ddb_lake.spark.distribution import run_groups, run_tasks, scan_rows
from ddb_lake.spark.export_tasks import TableAccess, Written, WrittenFiles, merged
from ddb_lake.spark.merge_tasks import (
    DDL,
    DecideBucket,
    DecidedBucket,
    FindHashes,
    ScanPart,
    WriteRows,
    decide_bucket,
    find_hashes,
    scan_part,
    write_rows,
)
from ddb_lake.spark.snapshot_writer import WAVES, spark_of, table_access, unfitted_values_of

BUCKET_RECORDS = 50_000
"""The most new records of a bucket, about: with their images it is held in memory."""

BUCKET_BYTES = 128 * 1024 * 1024
"""The approximate size of a bucket's records: a bucket of large items has fewer records."""

BATCH_BYTES = 32 * 1024 * 1024
BATCH_ROWS = 10_000
"""Bounds of the records that go through the shuffle at once; the smaller number of records applies."""

MEASURED_FILES = 16
"""The number of files of new records whose footers are read: they show the approximate size of a record."""

LEAST_RECORDS = 5_000
"""The fewest new records of a bucket, if there are several buckets: each bucket becomes a file."""


class SparkMerge:
    """A planned merge (`pipeline.executor.PlannedMerge`) whose parts are in files that tasks wrote."""

    def __init__(self, lake: Lake, session: Session, settings: TableSettings, table: Table) -> None:
        self._spark = spark_of(lake)
        self._session = session
        self._settings = settings.model_copy(update={"validation": None})  # tasks do not need it, and it is not pickled
        self._access = table_access(lake, cast(FileIO, table.io), table.location())
        self._scratch = f"{table.location()}/data/scratch/{uuid.uuid4().hex}"
        self._progress = lambda what, done, all_: lake.progress(f"{settings.name}: {what}", done, all_)
        self._cores = self._spark.sparkContext.defaultParallelism
        self._decided: list[DecidedBucket] = []
        self._parts: list[Written] = []
        self._scratch_files: list[str] = []
        self.counts = MergeCounts()

    # --- deciding

    def plan(self, sources: MergeSources) -> None:
        """Decide what each key becomes."""
        hashes, records, oldest_us = self._find_hashes(sources)
        if not records:
            return
        record_bytes = max(1, mean_row_bytes(self._session, sources.new_records.files[:MEASURED_FILES]))
        most = max(1, min(BUCKET_RECORDS, BUCKET_BYTES // record_bytes))
        buckets = max(ceil(records / most), min(self._cores, ceil(records / LEAST_RECORDS)))
        scans = _Scans(
            self._access,
            sources,
            hashes,
            oldest_us,
            buckets,
            parts=self._cores * WAVES,
            batch_rows=max(1, min(BATCH_ROWS, BATCH_BYTES // record_bytes)),
        )
        redecides = sources.rules.redecide_all or not sources.rules.time_ordered
        tasks = [*scans.of_changed_keys(), *(scans.of_conflicting_keys(hashes) if redecides else ())]
        decided = self._decide(sources, scan_rows(self._spark, scan_part, tasks, DDL), redecides)
        conflicting = hashes
        unfinished = [one for one in decided if one.conflicting is not None]
        if unfinished:
            conflicting = tuple(one.conflicting for one in unfinished if one.conflicting is not None)
            self._scratch_files += conflicting
            tasks = [*scans.of_changed_keys(), *scans.of_conflicting_keys(conflicting)]
            decided = self._decide_again(sources, tasks, decided, unfinished)
        expiring = [one for one in decided if one.first_expired_us is not None]
        first_us = min((one.first_expired_us for one in expiring if one.first_expired_us is not None), default=None)
        exported = sources.exported_keys(first_us + sources.rules.clock_skew_us) if first_us is not None else ()
        if exported:
            for one in expiring:
                self._scratch_files += one.scratch_files
                self._scratch_files += [one.deleted.path] if one.deleted is not None else []
            tasks = [*scans.of_changed_keys(), *scans.of_conflicting_keys(conflicting, exported)]
            decided = self._decide_again(sources, tasks, decided, expiring)
        self._decided = decided
        self._scratch_files += [path for one in decided for path in one.scratch_files]
        self.counts = sum((one.counts for one in decided), MergeCounts())

    def _find_hashes(self, sources: MergeSources) -> tuple[tuple[str, ...], int, int]:
        """Files of the new records' key hashes, the number of new records, and the time of the oldest (microseconds)."""
        parts = sources.new_records.parts(self._cores * WAVES)
        tasks = [FindHashes(self._access, query, self._scratch) for query in parts]
        results = run_tasks(self._spark, find_hashes, tasks, partial(self._progress, "new records found"))
        paths = tuple(found.path for found in results if found.path is not None)
        self._scratch_files += paths
        times = [found.first_us for found in results if found.first_us is not None]
        return paths, sum(found.rows for found in results), min(times, default=0)

    def _decide(self, sources: MergeSources, rows: Any, has_changelog: bool) -> list[DecidedBucket]:
        task = DecideBucket(self._access, sources.rules, self._settings, self._scratch, has_changelog)
        return run_groups(rows, "bucket", partial(decide_bucket, task), partial(self._progress, "buckets decided"))

    def _decide_again(
        self, sources: MergeSources, scans: list[ScanPart], decided: list[DecidedBucket], buckets: list[DecidedBucket]
    ) -> list[DecidedBucket]:
        """`decided`, with some `buckets` of it decided again over the rows of `scans`."""
        numbers = [one.bucket for one in buckets]
        rows = scan_rows(self._spark, scan_part, scans, DDL)
        redecided = self._decide(sources, rows.where(rows.bucket.isin(numbers)), True)
        return [one for one in decided if one.bucket not in numbers] + redecided

    # --- writing

    def fit(self, schema: TableSchema, iceberg: Callable[[TableSchema], Schema]) -> TableSchema:
        """Write the rows with the columns that fit them."""
        options = self._settings.schema_options
        project = partial(self._project_and_write, iceberg)
        if schema.columns:
            return extend_schema(schema, self._settings.schema_evolution, project)
        sample = merged([one.seen for one in self._decided if one.seen is not None], options)
        first, nulls = guess_from(sample, schema)
        return fit_schema(first, schema, nulls, project)

    def _project_and_write(
        self, iceberg_of: Callable[[TableSchema], Schema], schema: TableSchema, nulls: set[Path]
    ) -> Callable[[bool], Inference]:
        """Write all rows with these columns, in place of those that were written before."""
        self._discard()
        iceberg = iceberg_of(schema)
        tasks = [
            WriteRows(self._access, self._settings, one.new_states, schema, frozenset(nulls), iceberg)
            for one in self._decided
            if one.new_states is not None
        ]
        self._parts = run_tasks(self._spark, write_rows, tasks, partial(self._progress, "buckets written"))
        files = [WrittenFiles(self._access, schema, iceberg, part.paths) for part in self._parts if part.paths]
        return partial(unfitted_values_of, self._spark, self._parts, files, schema, self._settings.schema_options)

    def write(self, table: Table, metadata: TableMetadata) -> tuple[list[DataFile], list[DataFile]]:
        """The entries of the files that tasks have written."""
        writer = FileWriter.for_table(self._session.con, table, metadata)
        added = writer.entries([path for part in self._parts for path in part.paths], metadata)
        deleted = [one.deleted for one in self._decided if one.deleted is not None]
        return added, [position_delete_file(d.path, d.size_bytes, d.rows, d.first_path, d.last_path) for d in deleted]

    def close(self) -> None:
        """Delete the scratch files."""
        for path in self._scratch_files:
            with suppress(FileNotFoundError):
                self._access.io.delete(path)
        self._scratch_files = []

    def _discard(self) -> None:
        for part in self._parts:
            for path in part.paths:
                self._access.io.delete(path)
        self._parts = []


@dataclass(frozen=True, slots=True)
class _Scans:
    """The tasks that scan the relations of a merge.

    Attributes:
        access: how tasks reach files.
        sources: the relations.
        hashes: files of the hashes of all changed keys.
        oldest_us: the time of the oldest new record, microseconds since the epoch.
        buckets: the number of buckets.
        parts: the most tasks for one relation.
        batch_rows: the number of rows that a task passes on at once.
    """

    access: TableAccess
    sources: MergeSources
    hashes: tuple[str, ...]
    oldest_us: int
    buckets: int
    parts: int
    batch_rows: int

    def of_changed_keys(self) -> list[ScanPart]:
        """Scans of the new records, and of the rows and the applied removals that changed keys have."""
        sources, most = self.sources, self.parts
        # rows of `current` have the key, and its hash says the bucket
        current = [f"(SELECT *, {key_hash_sql()} AS _key_hash FROM {query})" for query in sources.current.parts(most)]
        scans = self._scans("new_records", sources.new_records.parts(most), ())
        scans += self._scans("current", current, self.hashes)
        if sources.rules.time_ordered and not sources.rules.redecide_all:
            removals = [_of_keys(query) for query in sources.removals(self.oldest_us).parts(most)]
            scans += self._scans("removals", removals, self.hashes)
        return scans

    def of_conflicting_keys(self, hashes: tuple[str, ...], exported: Sequence[Relation] = ()) -> list[ScanPart]:
        """Scans of all records and the base's items of some keys, and of those keys in `exported`."""
        sources, most = self.sources, self.parts
        scans = self._scans("changelog", [_of_keys(query) for query in sources.changelog().parts(most)], hashes)
        base = sources.base
        if base is not None:
            images = [images_sql(_of_keys(query), base.schema) for query in base.rows.parts(most)]
            scans += self._scans("base", images, hashes)
        for keys in exported:
            scans += self._scans("exported_keys", keys.parts(most), hashes)
        return scans

    def _scans(self, name: str, queries: Sequence[str], hashes: tuple[str, ...]) -> list[ScanPart]:
        return [ScanPart(self.access, name, query, self.buckets, hashes, self.batch_rows) for query in queries]


def _of_keys(rows: str) -> str:
    """The rows of a relation that have the hash of a changed key."""
    return f"(SELECT r.* FROM {rows} r {IN_CHANGED_KEYS})"
