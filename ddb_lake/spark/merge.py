"""A merge into `current` on Spark: tasks find the rows of changed keys, others decide a bucket of keys each and write it.

1. Tasks write the new records that decide, by bucket, and their key hashes into scratch files. Of a key with many records
   these are few (`engine.merge_plan.deciding_records`).
2. Tasks write the rows of `current` and the applied removals with those hashes, by bucket.
3. A task decides a bucket, and writes its rows with the columns of the table. If some items need other columns, their buckets
   are decided and written again.
4. A bucket with conflicting keys is decided again, with the records of the changelog and the rows of the base of these
   keys. A bucket with expired items is decided once more, with the keys of later exports, if there are such exports.
5. Tasks write the position deletes, which the buckets have found, by data file.

The driver holds names of files and counts.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from math import ceil
from typing import cast

from pyiceberg.io import FileIO
from pyiceberg.manifest import DataFile
from pyiceberg.schema import Schema
from pyiceberg.table import Table
from pyiceberg.table.metadata import TableMetadata

from ddb_lake.config import TableSettings
from ddb_lake.core.schema.inference import Inference
from ddb_lake.core.schema.misfits import Misfit, misfits_of
from ddb_lake.core.schema.table_schema import Path, TableSchema
from ddb_lake.engine.key_text import key_hash_sql
from ddb_lake.engine.merge_plan import MergeCounts
from ddb_lake.engine.schema_fitting import extend_schema, fit_schema, guess_from
from ddb_lake.engine.session import Session
from ddb_lake.lake.file_writer import MEASURED_FILES, FileWriter, mean_row_bytes
from ddb_lake.pipeline.merge.sources import IN_CHANGED_KEYS, MergeSources, Relation, images_sql
from ddb_lake.pipeline.open_lake import Lake
from ddb_lake.spark.access import WAVES, table_access
from ddb_lake.spark.carrier import Carrier
from ddb_lake.spark.export_tasks import WrittenFiles, keeps_files, merged, unfitted_values_of
from ddb_lake.spark.merge_tasks import (
    Columns,
    DecideBucket,
    DecidedBucket,
    ScannedPart,
    ScanPart,
    WriteDeletes,
    decide_bucket,
    scan_part,
    write_deletes,
)
from ddb_lake.spark.scratch import ScratchFolder, ScratchRows, estimated_rows, names_of

BUCKET_RECORDS = 250_000
"""The most new records of a bucket, about."""

BUCKET_BYTES = 384 * 1024 * 1024
"""The approximate size of a bucket's records: a bucket of large items has fewer records."""

BATCH_BYTES = 16 * 1024 * 1024
BATCH_ROWS = 10_000
"""Bounds of the records that pass to a scratch file at once; the smaller number of records applies."""

LEAST_RECORDS = 20_000
"""The fewest new records of a bucket, if there are several buckets: each bucket becomes a file."""

PART_ROWS = 500_000
"""The fewest rows of a relation that are worth a task of their own, if only some of the columns are read."""

PART_BYTES = 64 * 1024 * 1024
"""The same of records with their images, as their size in memory."""

POSITIONS_ROWS = 1_000_000
"""The most positions, about, whose delete files one task writes."""


class SparkMerge:
    """A merge (`pipeline.executor.PlannedMerge`) whose tasks decide and write buckets when the columns are known."""

    def __init__(
        self,
        lake: Lake,
        session: Session,
        settings: TableSettings,
        table: Table,
        carrier: Carrier,
        sources: MergeSources,
    ) -> None:
        self._carrier, self._session, self._sources = carrier, session, sources
        self._settings = settings.model_copy(update={"validation": None})  # tasks do not need it, and it is not pickled
        self._access = table_access(lake, cast(FileIO, table.io), table.location())
        self._scratch = ScratchFolder.below(self._access.io, self._access.location)
        self._progress = lambda what, done, all_: lake.progress(f"{settings.name}: {what}", done, all_)
        self._buckets = self._delete_parts = 0
        self._batch_rows = 1
        self._rows: dict[str, ScratchRows] = {}
        self._conflicting = ScratchRows(self._scratch)
        self._scratch_files: list[str] = []
        self._decided: dict[int, _Bucket] = {}
        self.counts = MergeCounts()
        self.misfits: tuple[Misfit, ...] = ()

    # --- finding rows

    def plan(self) -> None:
        """Find the rows of the keys that have new records."""
        sources = self._sources
        files = sources.new_records.files
        estimated = estimated_rows(self._session, files)
        record_bytes = max(1, mean_row_bytes(self._session, files[:MEASURED_FILES]))
        most = max(1, min(BUCKET_RECORDS, BUCKET_BYTES // record_bytes))
        self._buckets = max(ceil(estimated / most), min(self._carrier.cores, ceil(estimated / LEAST_RECORDS)), 1)
        self._delete_parts = max(1, ceil(estimated / POSITIONS_ROWS))
        self._batch_rows = max(1, min(BATCH_ROWS, BATCH_BYTES // record_bytes))
        parts = self._parts(sources.new_records, max(1, PART_BYTES // record_bytes))
        tasks = [replace(self._task("new_records", query, None), rules=sources.rules) for query in parts]
        found = self._scan(tasks, "new records found")
        if not sum(part.count for part in found):
            self._buckets = 0
            return
        hashes = ScratchRows(self._scratch, names_of(part.hashes for part in found))
        self._scratch_files += hashes.names
        oldest_us = min((part.first_us for part in found if part.first_us is not None), default=0)
        # rows of `current` have the key, and its hash says the bucket
        tasks = [
            self._task("current", f"(SELECT *, {key_hash_sql()} AS _key_hash FROM {query})", hashes)
            for query in self._parts(sources.current, PART_ROWS)
        ]
        if sources.rules.decides_by_new_records:
            removals = self._parts(sources.removals(oldest_us), PART_ROWS)
            tasks += [self._task("removals", _of_keys(query), hashes) for query in removals]
        else:
            tasks += self._conflict_scans(hashes)
            self._conflicting = hashes
        self._scan(tasks, "rows of changed keys found")

    def _parts(self, relation: Relation, rows: int) -> list[str]:
        """A relation in parts: enough for the cores, but with at least `rows` rows each."""
        wanted = ceil(estimated_rows(self._session, relation.files) / rows)
        return relation.parts(max(1, min(self._carrier.cores * WAVES, wanted)))

    def _task(self, name: str, query: str, hashes: ScratchRows | None) -> ScanPart:
        return ScanPart(self._access, self._scratch, name, query, self._buckets, hashes, self._batch_rows)

    def _scan(self, tasks: Sequence[ScanPart], what: str) -> list[ScannedPart]:
        """Run scans, and keep the rows that they found."""
        found = self._carrier.map(scan_part, tasks, partial(self._progress, what))
        for name in {task.name for task in tasks}:
            files = names_of(part.rows for part in found if part.name == name)
            known = self._rows.get(name, ScratchRows(self._scratch))
            self._rows[name] = replace(known, names=known.names + files)
            self._scratch_files += files
        return found

    def _conflict_scans(self, hashes: ScratchRows) -> list[ScanPart]:
        """Scans of all records and the base's items of some keys."""
        sources, base = self._sources, self._sources.base
        records = self._parts(sources.changelog(), PART_ROWS)
        scans = [self._task("changelog", _of_keys(query), hashes) for query in records]
        if base is not None:
            images = [images_sql(_of_keys(query), base.schema) for query in self._parts(base.rows, PART_ROWS)]
            scans += [self._task("base", query, hashes) for query in images]
        return scans

    # --- deciding and writing

    def fit(self, schema: TableSchema, rows: int, iceberg: Callable[[TableSchema], Schema]) -> TableSchema:
        """Decide the buckets, and write the rows with the columns that fit them."""
        options = self._settings.schema_options
        self._decided = {number: _Bucket() for number in range(self._buckets)}
        project = partial(self._project_and_write, iceberg)
        if schema.columns:
            schema = extend_schema(schema, self._settings.schema_evolution, project, rows)
        else:
            self._decide(None)
            sample = merged([one.seen for one in self._results if one.seen is not None], options)
            first, nulls = guess_from(sample, schema)
            schema = fit_schema(first, schema, nulls, project)
        self.misfits = misfits_of([one.unheld for one in self._results], schema.columns)
        return schema

    def _project_and_write(
        self, iceberg_of: Callable[[TableSchema], Schema], schema: TableSchema, nulls: set[Path]
    ) -> Callable[[bool], Inference]:
        """Write the rows with these columns, apart from buckets that are written with them, or with some, and need no other."""
        columns = Columns(schema, frozenset(nulls), iceberg_of(schema))
        for bucket in self._decided.values():
            if bucket.result is not None and not bucket.is_written_with(columns.iceberg):
                self._discard(bucket)
        self._decide(columns)
        parts = [one.written for one in self._results if one.written is not None]
        files = [WrittenFiles(self._access, schema, columns.iceberg, part.paths) for part in parts if part.paths]
        return partial(unfitted_values_of, self._carrier, parts, files, self._settings.schema_options)

    def _decide(self, columns: Columns | None) -> None:
        """Decide the buckets that are not decided."""
        sources = self._sources
        all_records = not sources.rules.decides_by_new_records
        self._decide_open(columns, all_records)
        conflicting = [one for one in self._results if one.conflicting is not None]
        if conflicting:
            hashes = ScratchRows(self._scratch, names_of(one.conflicting for one in conflicting))
            self._scratch_files += hashes.names
            self._scan(self._conflict_scans(hashes), "records of conflicting keys found")
            self._conflicting = hashes
            for one in conflicting:
                self._decided[one.bucket] = _Bucket(has_changelog=True)
            self._decide_open(columns, all_records)
        expired = [one.first_expired_us for one in self._results if one.first_expired_us is not None]
        if expired and "exported_keys" not in self._rows:
            exported = sources.exported_keys(min(expired) + sources.rules.clock_skew_us)
            parts = [query for keys in exported for query in self._parts(keys, PART_ROWS)]
            self._rows["exported_keys"] = ScratchRows(self._scratch)
            self._scan(
                [self._task("exported_keys", query, self._conflicting) for query in parts], "keys of exports found"
            )
            for bucket in self._decided.values():
                if exported and bucket.result is not None and bucket.result.first_expired_us is not None:
                    self._discard(bucket)
            self._decide_open(columns, all_records)
        self.counts = sum((one.counts for one in self._results), MergeCounts())

    def _decide_open(self, columns: Columns | None, all_records: bool) -> None:
        tasks = [
            DecideBucket(
                self._access,
                self._scratch,
                self._sources.rules,
                self._settings,
                self._rows,
                self._delete_parts,
                number,
                all_records or bucket.has_changelog,
                columns,
            )
            for number, bucket in self._decided.items()
            if bucket.result is None
        ]
        for one in self._carrier.map(decide_bucket, tasks, partial(self._progress, "buckets decided")):
            bucket = self._decided[one.bucket]
            bucket.result, bucket.columns = one, columns

    @property
    def _results(self) -> list[DecidedBucket]:
        return [bucket.result for bucket in self._decided.values() if bucket.result is not None]

    def _discard(self, bucket: _Bucket) -> None:
        """Delete what was written of a bucket, which is then not decided."""
        if bucket.result is not None:
            for path in bucket.result.written.paths if bucket.result.written is not None else ():
                self._access.io.delete(path)
            self._scratch_files += names_of([bucket.result.deleted])
        bucket.result = None

    def write(self, table: Table, metadata: TableMetadata) -> tuple[list[DataFile], list[DataFile]]:
        """The entries of the files that tasks have written."""
        written = [path for one in self._results if one.written is not None for path in one.written.paths]
        added = FileWriter.for_table(self._session.con, table, metadata).entries(written, metadata)
        positions = ScratchRows(self._scratch, names_of(one.deleted for one in self._results))
        self._scratch_files += positions.names
        tasks = [
            WriteDeletes(self._access, positions, part) for part in range(self._delete_parts if positions.names else 0)
        ]
        deletes = self._carrier.map(write_deletes, tasks, partial(self._progress, "position deletes written"))
        return added, [entry for entries in deletes for entry in entries]

    def close(self) -> None:
        """Delete the scratch files."""
        self._scratch.delete(self._scratch_files)
        self._scratch_files = []


@dataclass(slots=True)
class _Bucket:
    """A bucket, and what became of it; `columns`: those with which it was written."""

    has_changelog: bool = False
    result: DecidedBucket | None = None
    columns: Columns | None = None

    def is_written_with(self, iceberg: Schema) -> bool:
        """Whether the bucket's files are those that would be written with these columns."""
        written = self.result.written if self.result is not None else None
        return written is not None and self.columns is not None and keeps_files(written, self.columns.iceberg, iceberg)


def _of_keys(rows: str) -> str:
    """The rows of a relation that have the hash of a changed key."""
    return f"(SELECT r.* FROM {rows} r {IN_CHANGED_KEYS})"
