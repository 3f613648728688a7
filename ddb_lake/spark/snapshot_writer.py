"""A full export's rows written on Spark: a task verifies, projects, sorts and writes some data files.

The driver hears of each task which files it wrote, counts, and what the columns did not hold. That no key stands twice
is seen by a shuffle of the key hashes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from math import ceil
from pathlib import Path as FilePath
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from ddb_lake.core.schema.inference import Inference
from ddb_lake.core.schema.table_schema import Path, SchemaOptions, TableSchema
from ddb_lake.engine.schema_fitting import observe_statistics, requires_reprojection
from ddb_lake.engine.staging import StagedRows
from ddb_lake.pipeline.load.export_files import SAMPLE_FILES, FoundExport
from ddb_lake.pipeline.load.line_screening import BadLines
from ddb_lake.pipeline.load.snapshot_writer import (
    Target,
    check_keyed,
    check_unique,
    miscounted,
)
from ddb_lake.pipeline.open_lake import Lake
from ddb_lake.spark.distribution import run_tasks, scan_rows
from ddb_lake.spark.export_tasks import (
    HashedKeys,
    Place,
    Share,
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
"""Data (as billed, not compressed) that a task is given at most, but for a single file that has more."""

WAVES = 3
"""Tasks a core is given at least, where there are so many files: the last of them end together."""

MAX_HASHES = 100_000
"""Repeated hashes that are looked at. There are that many if `key` is wrong, and hardly any if it is right."""


def spark_of(lake: Lake) -> Any:
    """The lake's SparkSession."""
    return open_spark(lake.settings.spark.master, lake.settings.spark.settings)


def place_of(lake: Lake, target_io: Any, location: str) -> Place:
    """How tasks reach a table's files."""
    memory = lake.settings.spark.memory
    return Place(target_io, location, lake.catalog.is_local, memory, lake.settings.spark.memory_bytes)


class SparkBase:
    """`pipeline.load.snapshot_writer.Base` on Spark."""

    def __init__(self, lake: Lake, target: Target, export: FoundExport, folder: FilePath, reject: bool = False) -> None:
        self._folder, self._reject = folder, reject
        self.rejected = 0
        self._spark = spark_of(lake)
        self._target, self._export = target, export
        self._place = place_of(lake, target.io, target.location)
        cores = self._spark.sparkContext.defaultParallelism
        self._shares = [Share(self._place, part, target.options) for part in shares_of(export, cores)]
        self._parts: list[Written] = []
        self.written: list[str] = []

    def sample(self) -> Inference:
        """What some items, spread over all data files, need."""
        filled = [entry for entry in self._export.files if entry[0].item_count]
        chosen = filled[:: max(1, len(filled) // SAMPLE_FILES)][: SAMPLE_FILES + 1]
        shares = [Share(self._place, replace(self._export, files=(one,)), self._target.options) for one in chosen]
        return merged(run_tasks(self._spark, sample_share, shares), self._target.options)

    def project_and_write(self, schema: TableSchema, nulls: set[Path]) -> Callable[[bool], Inference]:
        """Write all rows with these columns; the files before them are deleted."""
        self.discard()
        iceberg = self._target.iceberg(schema)
        tasks = [WriteShare(share, schema, frozenset(nulls), iceberg) for share in self._shares]
        what = f"{self._target.name}: shares of data files written"
        self._parts = run_tasks(
            self._spark, write_share, tasks, lambda done, all_: self._target.progress(what, done, all_)
        )
        self.written = [path for part in self._parts for path in part.paths]
        bad = BadLines()
        for part in self._parts:
            bad.merge(part.bad)
        if bad.count and not self._reject:
            raise bad.refusal()
        self.rejected = bad.count
        return partial(unfitted_values_of, self._spark, self._parts, self._files(schema), schema, self._target.options)

    @property
    def set_aside(self) -> StagedRows | None:
        """The lines that were left out, as rows of the quarantine."""
        parts = [part.set_aside for part in self._parts if part.set_aside is not None]
        if not parts:
            return None
        numbers = {uri: number for number, (_, uri) in enumerate(self._export.files)}
        rows = pa.concat_tables(parts)
        objects = pa.array([numbers[uri] for uri in rows.column("object").to_pylist()], pa.int64())
        rows = rows.set_column(rows.schema.get_field_index("_object"), "_object", objects)
        path = self._folder / "rejected.parquet"
        pq.write_table(rows, path)
        return StagedRows(path, rows.num_rows)

    def check(self, schema: TableSchema) -> None:
        """As many rows as the manifest says, each with a key, and no key twice."""
        total = sum(part.rows for part in self._parts)
        if total != self._export.summary.item_count - self.rejected:
            raise miscounted(
                self._export, total + self.rejected, next((part.wrong for part in self._parts if part.wrong), None)
            )
        check_keyed(schema, total, sum(part.keyed for part in self._parts))
        files = self._files(schema)
        hashes = self._repeated_hashes(files)
        if hashes:
            check_unique(self._export, schema, self._repeated_keys(files, hashes))

    def discard(self) -> None:
        """Delete what was written."""
        for path in self.written:
            self._target.io.delete(path)
        self.written, self._parts = [], []

    def _files(self, schema: TableSchema) -> list[WrittenFiles]:
        iceberg = self._target.iceberg(schema)
        return [WrittenFiles(self._place, schema, iceberg, part.paths) for part in self._parts if part.paths]

    def _repeated_hashes(self, files: Sequence[WrittenFiles]) -> list[int]:
        if not files:
            return []
        rows = scan_rows(self._spark, key_hashes, files, "_key_hash long")
        repeated = rows.groupBy("_key_hash").count().where("count > 1").limit(MAX_HASHES)
        found: list[int] = repeated.toArrow()["_key_hash"].to_pylist()
        return found

    def _repeated_keys(self, files: Sequence[WrittenFiles], hashes: list[int]) -> int:
        tasks = [HashedKeys(one, hashes) for one in files]
        keys = scan_rows(self._spark, keys_of_hashes, tasks, "_key string")
        found: int = keys.groupBy("_key").count().where("count > 1").count()
        return found


def unfitted_values_of(
    spark: Any,
    parts: Sequence[Written],
    files: Sequence[WrittenFiles],
    schema: TableSchema,
    options: SchemaOptions,
    count_columns: bool,
) -> Inference:
    """`engine.schema_fitting.unfitted_values` of what tasks wrote into `files`."""
    unfitted = merged([part.unfitted for part in parts], options)
    if count_columns or requires_reprojection(unfitted):
        counts = run_tasks(spark, count_columns_of, files)
        observe_statistics(unfitted, schema, [sum(column) for column in zip(*counts, strict=True)])
    return unfitted


def shares_of(export: FoundExport, cores: int) -> list[FoundExport]:
    """The export's data files in shares of about equal size, in order: enough for all cores, none too large.

    Each is the export with some of its files. The manifest says items, not bytes, so an item counts as their mean.
    """
    items = sum(file.item_count for file, _ in export.files)
    bytes_ = export.summary.billed_size_bytes
    wanted = max(cores * WAVES, ceil(bytes_ / SHARE_BYTES))
    limit = max(1, ceil(items / wanted))
    shares: list[FoundExport] = []
    held: list[Any] = []
    size = 0
    for entry in export.files:
        if held and size + entry[0].item_count > limit:
            shares.append(replace(export, files=tuple(held)))
            held, size = [], 0
        held.append(entry)
        size += entry[0].item_count
    return [*shares, replace(export, files=tuple(held))] if held else shares
