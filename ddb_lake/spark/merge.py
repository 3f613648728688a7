"""A merge into `current` on Spark: rows that matter are found by tasks, shuffled by bucket, and decided a bucket a task.

1. The key hashes of the fresh records, from the changelog's new files: they go into scratch files.
2. Those records, the rows of `current` and the tombstones of those keys go to their buckets; each bucket is decided.
3. A bucket with keys that need all their records is decided again with the changelog's, and the base's, of those keys.
   A bucket is decided a second time, with the keys of later exports, if those exports may have its expired items.
4. Winners are projected and written; if their items need other columns, they are projected again.

The driver holds names of files and counts. Scratch files lie below the table, where `compact` removes what a broken
run leaves.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Sequence
from contextlib import suppress
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
from ddb_lake.engine.sql import literals
from ddb_lake.lake.commit import position_delete_file
from ddb_lake.lake.file_writer import FileWriter, mean_row_bytes
from ddb_lake.lake.sidecar import TOMBSTONE_COLUMNS, Sidecar
from ddb_lake.pipeline.merge.inputs import Relation, Sources
from ddb_lake.pipeline.merge.local_merge import numbered_graves
from ddb_lake.pipeline.merge.rows import images_sql
from ddb_lake.pipeline.open_lake import Lake
from ddb_lake.spark.distribution import run_groups, run_tasks, scan_rows
from ddb_lake.spark.export_tasks import Written, WrittenFiles, merged
from ddb_lake.spark.merge_tasks import (
    DDL,
    NOTHING,
    Bucket,
    Decided,
    Hashes,
    Part,
    WriteOutcome,
    decide_bucket,
    scan_part,
    write_hashes,
    write_outcome,
)
from ddb_lake.spark.snapshot_writer import (
    WAVES,
    place_of,
    spark_of,
    unfitted_values_of,
)

BUCKET_RECORDS = 50_000
"""Fresh records that a bucket has about: with their images it is held in memory."""

BUCKET_BYTES = 128 * 1024 * 1024
"""The approximate size of a bucket's records: a bucket of large items has fewer records."""

BATCH_BYTES = 32 * 1024 * 1024
BATCH_ROWS = 10_000
"""Bounds of the records that go through the shuffle at once; the smaller number of records applies."""

MEASURED_FILES = 16
"""The number of files of fresh records whose footers are read: they show the approximate size of a record."""

LEAST_RECORDS = 5_000
"""And as few as this only if there is one bucket: a bucket makes a file."""

_TOUCHED = "(SELECT r.* FROM {rows} r SEMI JOIN touched h ON h._key_hash = r._key_hash)"


class SparkMerge:
    """A merge (`pipeline.merge.inputs.Merge`) on Spark."""

    def __init__(self, lake: Lake, session: Session, settings: TableSettings, table: Table | None) -> None:
        io = cast(FileIO, table.io) if table is not None else lake.catalog.file_io()
        location = table.location() if table is not None else lake.catalog.location(settings.name)
        self._spark = spark_of(lake)
        self._session = session
        self._settings = settings.model_copy(update={"validation": None})  # of no use here, and not to be pickled
        self._place = place_of(lake, io, location)
        self._scratch = f"{location}/scratch/{uuid.uuid4().hex}"
        self._progress = lambda what, done, all_: lake.progress(f"{settings.name}: {what}", done, all_)
        self._cores = self._spark.sparkContext.defaultParallelism
        self._decided: list[Decided] = []
        self._parts: list[Written] = []
        self._left_over: list[str] = []
        self._batch_rows = BATCH_ROWS
        self.changed = 0

    # --- deciding

    def plan(self, sources: Sources) -> MergeCounts:
        """Decide what each key becomes."""
        touched, records = self._touched(sources)
        if not records:
            return NOTHING
        size = max(1, mean_row_bytes(self._session, sources.fresh.files[:MEASURED_FILES]))
        self._batch_rows = max(1, min(BATCH_ROWS, BATCH_BYTES // size))
        most = max(1, min(BUCKET_RECORDS, BUCKET_BYTES // size))
        buckets = max(ceil(records / most), min(self._cores, ceil(records / LEAST_RECORDS)))
        all_at_once = sources.recheck or not sources.simple
        narrow = self._scans(sources, buckets, touched, None if not all_at_once else touched)
        decided = self._decide(sources, scan_rows(self._spark, scan_part, narrow, DDL), all_at_once)
        wanted = touched
        unclear = [one for one in decided if one.undecided is not None]
        if unclear:
            wanted = tuple(one.undecided for one in unclear if one.undecided is not None)
            self._left_over += wanted
            scans = self._scans(sources, buckets, touched, wanted)
            decided = self._decide_again(sources, scans, decided, unclear)
        expired = [one for one in decided if one.expired_us is not None]
        since_us = min((one.expired_us for one in expired if one.expired_us is not None), default=None)
        shown = sources.shown(since_us + sources.clock_skew_us) if since_us is not None else ()
        if shown:
            self._left_over += [path for one in expired for path in _scratch_files(one)]
            self._left_over += [one.retired.path for one in expired if one.retired is not None]
            scans = self._scans(sources, buckets, touched, wanted, shown)
            decided = self._decide_again(sources, scans, decided, expired)
        self._decided = decided
        self._left_over += [path for one in decided for path in _scratch_files(one)]
        self.changed = sum(one.changed for one in decided)
        counts = [one.counts for one in decided]
        return MergeCounts(sum(c.touched for c in counts), sum(c.late for c in counts), sum(c.ties for c in counts))

    def _touched(self, sources: Sources) -> tuple[tuple[str, ...], int]:
        """Files of the fresh records' key hashes, and how many records there are."""
        tasks = [Hashes(self._place, query, self._scratch) for query in sources.fresh.parts(self._cores * WAVES)]
        found = run_tasks(self._spark, write_hashes, tasks, partial(self._progress, "new records found"))
        paths = tuple(path for path, _ in found if path is not None)
        self._left_over += paths
        return paths, sum(rows for _, rows in found)

    def _decide_again(
        self, sources: Sources, scans: list[Part], decided: list[Decided], buckets: list[Decided]
    ) -> list[Decided]:
        """`decided`, with some buckets decided again over all records."""
        rows = scan_rows(self._spark, scan_part, scans, DDL)
        again = rows.where(rows.bucket.isin([one.bucket for one in buckets]))
        numbers = {one.bucket for one in buckets}
        return [one for one in decided if one.bucket not in numbers] + self._decide(sources, again, True)

    def _scans(
        self,
        sources: Sources,
        buckets: int,
        touched: tuple[str, ...],
        undecided: tuple[str, ...] | None,
        shown: Sequence[Relation] = (),
    ) -> list[Part]:
        """The relations to read; of the changelog and the exports only the records of `undecided` keys (None: none)."""
        most = self._cores * WAVES

        def parts(name: str, queries: Sequence[str], hashes: tuple[str, ...]) -> list[Part]:
            return [Part(self._place, name, query, buckets, hashes, self._batch_rows) for query in queries]

        found = parts("fresh", sources.fresh.parts(most), ())
        found += parts("current", [_with_hash(q) for q in sources.current.parts(most)], touched)
        if sources.tombstones.files:
            found += parts("tombstones", [_only_touched(sources.tombstones.sql(TOMBSTONE_COLUMNS))], touched)
        if undecided is not None:
            found += parts("changelog", [_only_touched(q) for q in sources.changelog.parts(most)], undecided)
            base = sources.base
            if base is not None:
                images = [images_sql(_only_touched(q), base.schema) for q in base.rows.parts(most)]
                found += parts("base", images, undecided)
            for keys in shown:
                found += parts("shown", keys.parts(most), undecided)
        return found

    def _decide(self, sources: Sources, rows: Any, whole: bool) -> list[Decided]:
        given = sources.over("part_fresh", "known", "part_current", "part_tombstones")
        task = Bucket(self._place, given, self._settings, self._scratch, whole, sample=True)
        return run_groups(rows, "bucket", partial(decide_bucket, task), partial(self._progress, "buckets decided"))

    # --- writing

    def fit(self, schema: TableSchema, iceberg: Callable[[TableSchema], Schema]) -> TableSchema:
        """Write the rows with the columns that fit them."""
        options = self._settings.schema_options
        project = partial(self._project_and_write, iceberg)
        if schema.columns:
            return extend_schema(schema, self._settings.schema_evolution, project)
        first, nulls = guess_from(merged([one.seen for one in self._decided if one.seen is not None], options), schema)
        return fit_schema(first, schema, nulls, project)

    def _project_and_write(
        self, iceberg_of: Callable[[TableSchema], Schema], schema: TableSchema, nulls: set[Path]
    ) -> Callable[[bool], Inference]:
        self._discard()
        iceberg = iceberg_of(schema)
        tasks = [
            WriteOutcome(self._place, self._settings, (one.outcome,), schema, frozenset(nulls), iceberg)
            for one in self._decided
            if one.outcome is not None
        ]
        self._parts = run_tasks(self._spark, write_outcome, tasks, partial(self._progress, "buckets written"))
        files = [WrittenFiles(self._place, schema, iceberg, part.paths) for part in self._parts if part.paths]
        return partial(unfitted_values_of, self._spark, self._parts, files, schema, self._settings.schema_options)

    def write(self, table: Table, metadata: TableMetadata) -> tuple[list[DataFile], list[DataFile]]:
        """The files that tasks have written."""
        writer = FileWriter.for_table(self._session.con, table, metadata)
        added = writer.entries([path for part in self._parts for path in part.paths], metadata)
        retired = [one.retired for one in self._decided if one.retired is not None]
        deletes = [position_delete_file(r.path, r.size_bytes, r.rows, r.first_path, r.last_path) for r in retired]
        return added, deletes

    def bury(self, table: Table, tombstones: Sidecar) -> Sidecar:
        """Tombstones for removed keys, from the files that tasks have written; the scratch files go."""
        graves = [one.graves for one in self._decided if one.graves is not None]
        if graves:
            query = numbered_graves(table, f"SELECT * FROM read_parquet({literals(graves)})")
            tombstones = tombstones.append(self._session.con, table, query, TOMBSTONE_COLUMNS, newest_by="batch")
        self._forget()
        return tombstones

    def _discard(self) -> None:
        for part in self._parts:
            for path in part.paths:
                self._place.io.delete(path)
        self._parts = []

    def _forget(self) -> None:
        for path in self._left_over:
            with suppress(FileNotFoundError):
                self._place.io.delete(path)
        self._left_over = []


def _scratch_files(decided: Decided) -> list[str]:
    return [path for path in (decided.outcome, decided.graves) if path is not None]


def _only_touched(rows: str) -> str:
    return _TOUCHED.format(rows=rows)


def _with_hash(rows: str) -> str:
    """`keyed_rows_sql` gives the key; its hash says the bucket."""
    return f"(SELECT *, {key_hash_sql()} AS _key_hash FROM {rows})"
