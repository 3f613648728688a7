"""Writes the rows of a full export by Spark: a task verifies, projects, sorts and writes some data files.

The driver gets from each task the files it wrote, counts, and the inference of the values that the columns did not hold.
Tasks that compare the key hashes find keys that occur more than once.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from functools import partial
from math import ceil
from pathlib import Path as FilePath
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from pyiceberg.schema import Schema

from ddb_lake.core.schema.inference import Inference
from ddb_lake.core.schema.table_schema import Path, TableSchema
from ddb_lake.engine.schema_fitting import UnfittedValues
from ddb_lake.engine.staging import StagedRows
from ddb_lake.lake.scan import TableScan
from ddb_lake.pipeline.load.export_files import SAMPLE_FILES, Export, InvalidLines
from ddb_lake.pipeline.load.snapshot_writer import SnapshotTarget, check_keyed, check_unique, count_mismatch
from ddb_lake.spark.access import WAVES, TableAccess
from ddb_lake.spark.carrier import Carrier
from ddb_lake.spark.export_tasks import (
    MAX_HASHES,
    HashedKeys,
    RepeatedHashes,
    Share,
    WriteShare,
    Written,
    WrittenFiles,
    keeps_files,
    keys_of_hashes,
    merged,
    repeated_hashes,
    sample_share,
    unfitted_values_of,
    write_share,
)
from ddb_lake.spark.scratch import ScratchFolder, ScratchRows, names_of

SHARE_BYTES = 512 * 1024 * 1024
"""Billed bytes of data that a task gets at most, except for a single larger file. DynamoDB bills uncompressed data."""

MOST_SHARES = 5_000
"""The most shares, whatever their size: a task that compares keys opens a scratch file of each."""

LEAST_SHARE_BYTES = 16 * 1024 * 1024
"""Billed bytes below which dividing data files among tasks takes longer than it saves."""

_LEAST_ITEM_BYTES = 100
"""The assumed size of an item, if the manifest does not say how many bytes were billed: DynamoDB adds 100 bytes to each item."""

BUCKET_HASHES = 16_000_000
"""The approximate number of key hashes that one task compares."""


class SparkSnapshotWriter:
    """A `pipeline.load.snapshot_writer.SnapshotWriter` whose tasks verify, project, sort and write some data files each.

    Args:
        access: how tasks reach the table's files.
        carrier: runs the tasks.
        target: where the rows go.
        export: the export.
        rejected: a local file for lines without a valid item, which are left out then. Without it they are an error.
    """

    def __init__(
        self, access: TableAccess, carrier: Carrier, target: SnapshotTarget, export: Export, rejected: FilePath | None
    ) -> None:
        self._access, self._carrier, self._target, self._export = access, carrier, target, export
        self._rejected = rejected
        self._scratch = ScratchFolder.below(access.io, access.location)
        self._buckets = max(1, ceil(export.summary.item_count / BUCKET_HASHES))
        self._shares = [
            _Share(Share(access, part, target.options, target.protection)) for part in shares_of(export, carrier.cores)
        ]
        self._schema = TableSchema(())
        self.scan = TableScan(Schema())

    def sample(self) -> Inference:
        """The inference of some items, spread over all data files."""
        filled = [entry for entry in self._export.files if entry[0].item_count]
        chosen = filled[:: max(1, len(filled) // SAMPLE_FILES)][: SAMPLE_FILES + 1]
        count = min(self._carrier.cores, len(chosen))
        parts = [replace(self._export, files=tuple(chosen[first::count])) for first in range(count)]
        shares = [Share(self._access, part, self._target.options, self._target.protection) for part in parts]
        return merged(self._carrier.map(sample_share, shares), self._target.options)

    def project_and_write(self, schema: TableSchema, nulls: set[Path]) -> UnfittedValues:
        """Write all rows with these columns. Shares whose files are already as they must be are not written again."""
        self._schema, iceberg = schema, self._target.iceberg_schema(schema)
        shares = [one for one in self._shares if not one.is_written_with(iceberg)]
        for one in shares:
            self._discard(one)
        tasks = [
            WriteShare(one.share, schema, frozenset(nulls), iceberg, self._scratch, self._buckets) for one in shares
        ]
        progress = partial(self._target.progress, f"{self._target.name}: shares of data files written")
        for one, written in zip(shares, self._carrier.map(write_share, tasks, progress), strict=True):
            one.written, one.iceberg = written, iceberg
        self.scan = TableScan(iceberg, tuple(path for part in self._parts for path in part.paths))
        invalid = self._invalid_lines()
        if invalid.count and self._rejected is None:
            raise invalid.error()
        return partial(unfitted_values_of, self._carrier, self._parts, self._files(), self._target.options)

    def check(self) -> None:
        """Check the files of the last pass: one row for each item of the manifest, no key twice."""
        total, invalid = sum(part.rows for part in self._parts), self._invalid_lines()
        absent = invalid.count + self.left_out
        if total != self._export.summary.item_count - absent:
            mismatched = next((part.mismatched_file for part in self._parts if part.mismatched_file), None)
            raise count_mismatch(self._export, total + absent, mismatched)
        check_keyed(self._schema, total, invalid)
        hashes = self._repeated_hashes()
        if hashes:
            check_unique(self._export, self._schema, self._count_repeated_keys(hashes))
        self._scratch.delete(names_of(part.hashes for part in self._parts))

    def rejected_lines(self) -> StagedRows | None:
        """The lines that were left out, as rows of the quarantine."""
        tables = [part.rejected for part in self._parts if part.rejected is not None]
        if not tables or self._rejected is None:
            return None
        # A task numbers its own data files; the quarantine needs their numbers in the export.
        numbers = {uri: number for number, (_, uri) in enumerate(self._export.files)}
        rows = pa.concat_tables(tables)
        objects = pa.array([numbers[uri] for uri in rows.column("object").to_pylist()], pa.int64())
        rows = rows.set_column(rows.schema.get_field_index("_object"), "_object", objects)
        pq.write_table(rows, self._rejected)
        return StagedRows(self._rejected, rows.num_rows)

    @property
    def left_out(self) -> int:
        """The number of items that the table's filter leaves out."""
        return sum(part.left_out for part in self._parts)

    def discard(self) -> None:
        """Delete the files of the last pass."""
        for one in self._shares:
            self._discard(one)
        self.scan = TableScan(self.scan.schema)

    def _discard(self, share: _Share) -> None:
        """Delete what was written of a share."""
        if share.written is not None:
            for path in share.written.paths:
                self._target.io.delete(path)
            self._scratch.delete(names_of([share.written.hashes]))
        share.written = None

    @property
    def _parts(self) -> list[Written]:
        return [one.written for one in self._shares if one.written is not None]

    def _invalid_lines(self) -> InvalidLines:
        invalid = InvalidLines()
        for part in self._parts:
            invalid.merge(part.invalid)
        return invalid

    def _files(self) -> list[WrittenFiles]:
        return [
            WrittenFiles(self._access, self._schema, self.scan.schema, part.paths) for part in self._parts if part.paths
        ]

    def _repeated_hashes(self) -> list[int]:
        hashes = ScratchRows(self._scratch, names_of(part.hashes for part in self._parts))
        tasks = [RepeatedHashes(self._access, hashes, bucket) for bucket in range(self._buckets)]
        found = self._carrier.map(repeated_hashes, tasks)
        return [key_hash for some in found for key_hash in some][:MAX_HASHES]

    def _count_repeated_keys(self, hashes: list[int]) -> int:
        found = self._carrier.map(keys_of_hashes, [HashedKeys(one, hashes) for one in self._files()])
        digests = Counter(digest for some in found for digest in some)
        return sum(rows > 1 for rows in digests.values())


@dataclass(slots=True)
class _Share:
    """A share, and what a task wrote of it with the columns `iceberg`."""

    share: Share
    written: Written | None = None
    iceberg: Schema | None = None

    def is_written_with(self, iceberg: Schema) -> bool:
        """Whether the files are those that would be written with these columns."""
        return (
            self.written is not None and self.iceberg is not None and keeps_files(self.written, self.iceberg, iceberg)
        )


def shares_of(export: Export, cores: int) -> list[Export]:
    """The data files of an export in shares of about equal size, in order: enough for all cores, none too large or too small.

    Each share is the export with some of its files. The manifest has the items of a file, and no bytes, so each item
    counts as the mean item.
    """
    items = sum(file.item_count for file, _ in export.files)
    size = max(export.summary.billed_size_bytes, items * _LEAST_ITEM_BYTES)
    count = max(min(cores * WAVES, ceil(size / LEAST_SHARE_BYTES)), min(ceil(size / SHARE_BYTES), MOST_SHARES), 1)
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
