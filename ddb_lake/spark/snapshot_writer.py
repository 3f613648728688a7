"""Writes the rows of a full export by Spark: a task verifies, projects, sorts and writes some data files.

The driver gets from each task the files it wrote, counts, and the inference of the values that the columns did not hold.
A shuffle of the key hashes finds keys that occur more than once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from math import ceil
from pathlib import Path as FilePath
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from pyiceberg.schema import Schema

from ddb_lake.core.schema.inference import Inference
from ddb_lake.core.schema.table_schema import Path, SchemaOptions, TableSchema
from ddb_lake.engine.schema_fitting import UnfittedValues, observe_statistics, requires_reprojection
from ddb_lake.engine.staging import StagedRows
from ddb_lake.lake.scan import TableScan
from ddb_lake.pipeline.load.export_files import SAMPLE_FILES, Export, InvalidLines
from ddb_lake.pipeline.load.snapshot_writer import SnapshotTarget, check_keyed, check_unique, count_mismatch
from ddb_lake.pipeline.open_lake import Lake
from ddb_lake.spark.distribution import run_tasks, scan_rows
from ddb_lake.spark.export_tasks import (
    HashedKeys,
    Share,
    TableAccess,
    WriteShare,
    Written,
    WrittenFiles,
    count_columns_of,
    key_hashes,
    keys_of_hashes,
    merged,
    sample_share,
    write_share,
)
from ddb_lake.spark.session import open_spark

SHARE_BYTES = 512 * 1024 * 1024
"""Billed bytes of data that a task gets at most, except for a single larger file. DynamoDB bills uncompressed data."""

WAVES = 3
"""Tasks for each core, if there are as many files: with several, the cores finish at about the same time."""

MAX_HASHES = 100_000
"""Repeated hashes that are checked. There are that many if `key` is wrong, and very few if it is right."""


def spark_of(lake: Lake) -> Any:
    """The lake's SparkSession."""
    return open_spark(lake.settings.spark.master, lake.settings.spark.settings)


def table_access(lake: Lake, target_io: Any, location: str) -> TableAccess:
    """How tasks reach a table's files."""
    memory = lake.settings.spark.memory
    return TableAccess(target_io, location, lake.catalog.is_local, memory, lake.settings.spark.memory_bytes)


class SparkSnapshotWriter:
    """A `pipeline.load.snapshot_writer.SnapshotWriter` whose tasks verify, project, sort and write some data files each.

    Args:
        lake: the open lake.
        target: where the rows go.
        export: the export.
        folder: a local folder for the rejected lines.
        reject: leave out lines without a valid item. By default they are an error.
    """

    def __init__(
        self, lake: Lake, target: SnapshotTarget, export: Export, folder: FilePath, reject: bool = False
    ) -> None:
        self._folder, self._reject = folder, reject
        self._spark = spark_of(lake)
        self._target, self._export = target, export
        self._access = table_access(lake, target.io, target.location)
        cores = self._spark.sparkContext.defaultParallelism
        self._shares = [Share(self._access, part, target.options) for part in shares_of(export, cores)]
        self._schema = TableSchema(())
        self._parts: list[Written] = []
        self.scan = TableScan(Schema())

    def sample(self) -> Inference:
        """The inference of some items, spread over all data files."""
        filled = [entry for entry in self._export.files if entry[0].item_count]
        chosen = filled[:: max(1, len(filled) // SAMPLE_FILES)][: SAMPLE_FILES + 1]
        shares = [Share(self._access, replace(self._export, files=(one,)), self._target.options) for one in chosen]
        return merged(run_tasks(self._spark, sample_share, shares), self._target.options)

    def project_and_write(self, schema: TableSchema, nulls: set[Path]) -> UnfittedValues:
        """Write all rows with these columns, in place of the files of the pass before."""
        self.discard()
        self._schema, iceberg_schema = schema, self._target.iceberg_schema(schema)
        tasks = [WriteShare(share, schema, frozenset(nulls), iceberg_schema) for share in self._shares]
        progress = partial(self._target.progress, f"{self._target.name}: shares of data files written")
        self._parts = run_tasks(self._spark, write_share, tasks, progress)
        self.scan = TableScan(iceberg_schema, tuple(path for part in self._parts for path in part.paths))
        invalid = self._invalid_lines()
        if invalid.count and not self._reject:
            raise invalid.error()
        return partial(unfitted_values_of, self._spark, self._parts, self._files(), schema, self._target.options)

    def check(self) -> None:
        """Check the files of the last pass: one row for each item of the manifest, each with a key, no key twice."""
        total, rejected = sum(part.rows for part in self._parts), self._invalid_lines().count
        if total != self._export.summary.item_count - rejected:
            mismatched = next((part.mismatched_file for part in self._parts if part.mismatched_file), None)
            raise count_mismatch(self._export, total + rejected, mismatched)
        check_keyed(self._schema, total, sum(part.keyed for part in self._parts))
        files = self._files()
        hashes = self._repeated_hashes(files)
        if hashes:
            check_unique(self._export, self._schema, self._count_repeated_keys(files, hashes))

    def rejected_lines(self) -> StagedRows | None:
        """The lines that were left out, as rows of the quarantine."""
        tables = [part.rejected for part in self._parts if part.rejected is not None]
        if not tables:
            return None
        # A task numbers its own data files; the quarantine needs their numbers in the export.
        numbers = {uri: number for number, (_, uri) in enumerate(self._export.files)}
        rows = pa.concat_tables(tables)
        objects = pa.array([numbers[uri] for uri in rows.column("object").to_pylist()], pa.int64())
        rows = rows.set_column(rows.schema.get_field_index("_object"), "_object", objects)
        path = self._folder / "rejected.parquet"
        pq.write_table(rows, path)
        return StagedRows(path, rows.num_rows)

    def discard(self) -> None:
        """Delete the files of the last pass."""
        for path in self.scan.paths:
            self._target.io.delete(path)
        self.scan, self._parts = TableScan(self.scan.schema), []

    def _invalid_lines(self) -> InvalidLines:
        invalid = InvalidLines()
        for part in self._parts:
            invalid.merge(part.invalid)
        return invalid

    def _files(self) -> list[WrittenFiles]:
        return [
            WrittenFiles(self._access, self._schema, self.scan.schema, part.paths) for part in self._parts if part.paths
        ]

    def _repeated_hashes(self, files: Sequence[WrittenFiles]) -> list[int]:
        if not files:
            return []
        rows = scan_rows(self._spark, key_hashes, files, "_key_hash long")
        repeated = rows.groupBy("_key_hash").count().where("count > 1").limit(MAX_HASHES)
        hashes: list[int] = repeated.toArrow()["_key_hash"].to_pylist()
        return hashes

    def _count_repeated_keys(self, files: Sequence[WrittenFiles], hashes: list[int]) -> int:
        tasks = [HashedKeys(one, hashes) for one in files]
        keys = scan_rows(self._spark, keys_of_hashes, tasks, "_key string")
        count: int = keys.groupBy("_key").count().where("count > 1").count()
        return count


def unfitted_values_of(
    spark: Any,
    parts: Sequence[Written],
    files: Sequence[WrittenFiles],
    schema: TableSchema,
    options: SchemaOptions,
    count_columns: bool,
) -> Inference:
    """`engine.schema_fitting.unfitted_values` of the files that tasks wrote."""
    unfitted = merged([part.unfitted for part in parts], options)
    if count_columns or requires_reprojection(unfitted):
        counts = run_tasks(spark, count_columns_of, files)
        observe_statistics(unfitted, schema, [sum(column) for column in zip(*counts, strict=True)])
    return unfitted


def shares_of(export: Export, cores: int) -> list[Export]:
    """The data files of an export in shares of about equal size, in order: enough for all cores, none too large.

    Each share is the export with some of its files. The manifest has the items of a file, and no bytes, so each item
    counts as the mean item.
    """
    items = sum(file.item_count for file, _ in export.files)
    count = max(cores * WAVES, ceil(export.summary.billed_size_bytes / SHARE_BYTES))
    limit = max(1, ceil(items / count))
    shares: list[Export] = []
    share: list[Any] = []
    share_items = 0
    for entry in export.files:
        if share and share_items + entry[0].item_count > limit:
            shares.append(replace(export, files=tuple(share)))
            share, share_items = [], 0
        share.append(entry)
        share_items += entry[0].item_count
    return [*shares, replace(export, files=tuple(share))] if share else shares
