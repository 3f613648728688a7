"""Tasks of a merge on Spark: find rows with changed keys, decide the keys of a bucket and write their rows, write deletes.

A bucket is `_key_hash` modulo the number of buckets, so all rows of a key are in one bucket. Each task is a dataclass
that is pickled, and a function that a worker calls with it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import partial

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.compute as pc
from pyiceberg.manifest import DataFile
from pyiceberg.schema import Schema

from ddb_lake.config import TableSettings
from ddb_lake.core.schema.inference import Inference
from ddb_lake.core.schema.misfits import UnheldValues
from ddb_lake.core.schema.table_schema import Path, TableSchema
from ddb_lake.engine.merge_plan import (
    CHANGED_KEYS,
    CONFLICTING_KEY_HASHES,
    MergeCounts,
    MergeInput,
    MergePlan,
    MergeRules,
    complete_plan,
    deciding_records,
    find_conflicting_keys,
)
from ddb_lake.engine.misfits import unheld_values
from ddb_lake.engine.projection import Projection
from ddb_lake.engine.session import Session, with_memory
from ddb_lake.engine.sql import identifier
from ddb_lake.lake.file_writer import FileWriter
from ddb_lake.lake.schemas import CHANGES_COLUMNS, COLUMN_TYPES, duckdb_type
from ddb_lake.pipeline.merge.local_merge import ROW_COLUMNS, sample_rows
from ddb_lake.pipeline.merge.sources import images_of
from ddb_lake.spark.access import TableAccess
from ddb_lake.spark.export_tasks import Written, describe_written
from ddb_lake.spark.scratch import BUCKET, ScratchFolder, ScratchRows, write_buckets, write_rows

CURRENT = {
    "file_path": "VARCHAR",
    "pos": "BIGINT",
    "_key": "VARCHAR",
    "_changed_at": "TIMESTAMP",
    "_source": "VARCHAR",
}
BASE = {"_key": "VARCHAR", "item": "VARCHAR", "_rescued": "VARCHAR"}
EXPORTED_KEYS = {"_key": "VARCHAR", "_key_hash": "BIGINT", "exported_us": "BIGINT"}
CHANGES = {name: duckdb_type(COLUMN_TYPES[kind]) for name, (kind, _) in CHANGES_COLUMNS.items()}
PARTS: dict[str, dict[str, str]] = {
    "new_records": CHANGES,
    "changelog": CHANGES,
    "current": CURRENT,
    "removals": {"_key": "VARCHAR", "_key_hash": "BIGINT", "removed_us": "BIGINT"},
    "base": BASE,
    "exported_keys": EXPORTED_KEYS,
}
"""The relations of a merge and their columns."""

POSITIONS = {"file_path": "VARCHAR", "pos": "BIGINT"}
"""The columns of the positions of rows that are replaced or removed."""

_POSITIONS_ROWS = 100_000
"""Positions that pass to a scratch file at once."""


@dataclass(frozen=True, slots=True)
class ScanPart:
    """Scan rows of one relation of a merge, and write them by bucket.

    Attributes:
        access: how the task reaches files.
        scratch: the folder for the rows.
        name: the relation, one of `PARTS`.
        query: its rows.
        buckets: the number of buckets.
        hashes: key hashes, from which the task makes the table `CHANGED_KEYS` that the query joins; None if it joins none.
        batch_rows: the number of rows that are passed on at once.
        rules: of new records, the rules of the merge.
    """

    access: TableAccess
    scratch: ScratchFolder
    name: str
    query: str
    buckets: int
    hashes: ScratchRows | None
    batch_rows: int
    rules: MergeRules | None = None


@dataclass(frozen=True, slots=True)
class ScannedPart:
    """What a scan found.

    Attributes:
        name: the relation.
        rows: the file of the rows; None if there are none.
        hashes: of new records, the file of their distinct key hashes; None if there are none.
        count: of new records, the number of those that were written.
        first_us: of these, the least time of a change, microseconds since the epoch.
    """

    name: str
    rows: str | None
    hashes: str | None = None
    count: int = 0
    first_us: int | None = None


@dataclass(frozen=True, slots=True)
class Columns:
    """The columns with which rows are written, and the paths where NULL values are expected."""

    schema: TableSchema
    nulls: frozenset[Path]
    iceberg: Schema


@dataclass(frozen=True, slots=True)
class DecideBucket:
    """Decide the keys of a bucket, and write their rows.

    Attributes:
        access: how the task reaches files.
        scratch: the folder for files that other tasks read.
        rules: those of the merge.
        settings: those of the table.
        rows: the relations of the merge, by name; those without rows are left out.
        delete_parts: the number of buckets of the positions that are replaced or removed.
        bucket: the number of the bucket.
        has_changelog: the changelog's records of conflicting keys are among the rows.
        columns: those of the rows; None: no rows are written yet.
    """

    access: TableAccess
    scratch: ScratchFolder
    rules: MergeRules
    settings: TableSettings
    rows: dict[str, ScratchRows]
    delete_parts: int
    bucket: int
    has_changelog: bool
    columns: Columns | None


@dataclass(frozen=True, slots=True)
class DecidedBucket:
    """What became of a bucket.

    Attributes:
        bucket: its number.
        conflicting: a file of the hashes of keys that need the changelog. If it is there, nothing else is.
        counts: figures.
        seen: what columns some of the items need, if no rows were written.
        written: the rows of the items.
        unheld: the values of these rows that no column holds.
        deleted: a file of the positions of rows that are replaced or removed, if rows were written.
        first_expired_us: the earliest time of an item that is kept as expired.
    """

    bucket: int
    conflicting: str | None = None
    counts: MergeCounts = field(default_factory=MergeCounts)
    seen: Inference | None = None
    written: Written | None = None
    unheld: UnheldValues = field(default_factory=dict)
    deleted: str | None = None
    first_expired_us: int | None = None


@dataclass(frozen=True, slots=True)
class WriteDeletes:
    """Write the position delete files of the data files of a bucket of positions."""

    access: TableAccess
    positions: ScratchRows
    bucket: int


def scan_part(task: ScanPart) -> ScannedPart:
    """Write the rows of a relation by bucket; of new records those that decide, with the images that are read of them."""
    unread = _unread_images(task.rules) if task.rules is not None else ()
    columns = [
        f"({'NULL' if name in unread else identifier(name)})::{kind} AS {identifier(name)}"
        for name, kind in PARTS[task.name].items()
    ]
    bucket = f"(_key_hash % {task.buckets})::INTEGER AS {BUCKET}"
    with task.access.session() as session:
        query = task.query
        if task.rules is not None and task.rules.decides_by_new_records and _has_hot_keys(session, query):
            session.con.execute(f"CREATE TABLE deciding AS {deciding_records(task.rules, query)}")
            query = f"(SELECT r.* FROM {query} r SEMI JOIN deciding d ON d.record_id = r.record_id)"
        if task.hashes is not None:
            hashes = task.hashes.sql({"_key_hash": "BIGINT"})
            session.con.execute(f"CREATE TABLE {CHANGED_KEYS} AS SELECT DISTINCT _key_hash FROM {hashes}")
        reader = session.con.sql(f"SELECT {', '.join([*columns, bucket])} FROM {query}")
        batches = reader.to_arrow_reader(task.batch_rows)
        if task.name != "new_records":
            return ScannedPart(task.name, write_buckets(batches, task.scratch))
        seen = _SeenRecords()
        rows = write_buckets(seen.of(batches), task.scratch)
        return ScannedPart(task.name, rows, seen.write_hashes(session, task.scratch), seen.count, seen.first_us)


def _unread_images(rules: MergeRules) -> tuple[str, ...]:
    """The images of new records that a merge does not read: it reads those of the changelog if all records decide a key."""
    if not rules.decides_by_new_records:
        return "new_image", "old_image"
    return () if rules.keep_expired else ("old_image",)


def _has_hot_keys(session: Session, records: str) -> bool:
    """Whether leaving out records of keys with more than two makes a relation smaller by a tenth or more."""
    counts = f"SELECT count(*) AS n FROM {records} GROUP BY _key_hash"
    most = f"SELECT sum(n - 2) FILTER (n > 2) * 10 >= sum(n) FROM ({counts})"
    return bool(session.value(most))


class _SeenRecords:
    """The key hashes and the least time of records that pass."""

    def __init__(self) -> None:
        self.count = 0
        self.first_us: int | None = None
        self._hashes: list[np.ndarray] = []

    def of(self, batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """The same batches."""
        for batch in batches:
            self.count += batch.num_rows
            self._hashes.append(np.unique(batch.column("_key_hash").to_numpy()))
            first_us = pc.min(batch.column("changed_at").cast(pa.int64())).as_py()
            if first_us is not None:
                self.first_us = min(first_us, self.first_us) if self.first_us is not None else first_us
            yield batch

    def write_hashes(self, session: Session, scratch: ScratchFolder) -> str | None:
        """Write the distinct hashes. Returns the name of the file."""
        if not self.count:
            return None
        hashes = pa.table({"_key_hash": np.unique(np.concatenate(self._hashes))})
        session.con.register("key_hashes", hashes)
        return write_rows(session, "SELECT _key_hash FROM key_hashes", scratch)


def decide_bucket(task: DecideBucket) -> DecidedBucket:
    """Decide the keys of a bucket with `engine.merge_plan` and write them, or return those that need the changelog."""
    with task.access.session() as session:
        for name, columns in PARTS.items():  # views, which other cursors of the session see
            rows = task.rows.get(name, ScratchRows(task.scratch)).sql(columns, task.bucket)
            session.con.execute(f"CREATE VIEW part_{name} AS SELECT * FROM {rows}")
        # of a key that needs the changelog all records are there; of any other key a merge reads only the new ones
        session.con.execute(
            "CREATE VIEW known_records AS SELECT * FROM part_changelog UNION ALL"
            " SELECT n.* FROM part_new_records n ANTI JOIN part_changelog c ON c._key_hash = n._key_hash"
        )
        inputs = MergeInput(
            task.settings.name,
            new_records="part_new_records",
            changelog=lambda: "known_records",
            current="part_current",
            rules=task.rules,
            removals=lambda _from_us: "part_removals",
            base_images=partial(images_of, session, "part_base"),
            exported_keys=lambda _from_us: ["part_exported_keys"],
        )
        conflicting = find_conflicting_keys(session, inputs)
        if conflicting and not task.has_changelog:
            return DecidedBucket(task.bucket, write_rows(session, CONFLICTING_KEY_HASHES, task.scratch))
        plan = complete_plan(session, inputs, conflicting)
        expired_us = plan.first_expired_us
        if task.columns is None:
            seen = _seen_items(session, plan, task.settings)
            return DecidedBucket(task.bucket, counts=plan.counts, seen=seen, first_expired_us=expired_us)
        written = _write_items(session, plan, task, task.columns)
        return DecidedBucket(
            task.bucket,
            counts=plan.counts,
            written=written,
            unheld=unheld_values(session, _PROJECTED, task.columns.schema.columns),
            deleted=_write_positions(session, plan, task),
            first_expired_us=expired_us,
        )


_PROJECTED = "projected_rows"
"""The relation of the rows that a task writes."""


def _write_items(session: Session, plan: MergePlan, task: DecideBucket, columns: Columns) -> Written:
    """Project the existing items of a plan, and write them."""
    access = task.access
    projection = Projection(columns.schema, columns.nulls)
    projection.register(session.con)
    living = f"(SELECT * FROM {plan.new_states} WHERE item IS NOT NULL)"
    session.keep(_PROJECTED, projection.select(living, ROW_COLUMNS))
    writer = FileWriter(session.con, access.io, access.location, columns.iceberg)
    size = plan.mean_item_bytes(session)
    paths = with_memory(session, lambda: writer.write_paths(f"SELECT * FROM {_PROJECTED}", split=True, row_bytes=size))
    return describe_written(session, paths, columns.schema, columns.iceberg, task.settings.schema_options)


def _write_positions(session: Session, plan: MergePlan, task: DecideBucket) -> str | None:
    """Write the positions of rows that are replaced or removed, in buckets of data files."""
    bucket = f"(md5_number(file_path) % {task.delete_parts})::INTEGER AS {BUCKET}"
    positions = session.con.sql(f"SELECT file_path, pos, {bucket} FROM ({plan.deleted_positions})")
    return write_buckets(positions.to_arrow_reader(_POSITIONS_ROWS), task.scratch)


def write_deletes(task: WriteDeletes) -> list[DataFile]:
    """Write the position delete files of some data files. Returns their manifest entries."""
    access = task.access
    with access.session() as session:
        writer = FileWriter(session.con, access.io, access.location, Schema())
        return writer.write_deletes_by_file(task.positions.sql(POSITIONS, task.bucket))


def _seen_items(session: Session, plan: MergePlan, settings: TableSettings) -> Inference:
    """What columns some of the plan's items need."""
    seen = Inference(settings.schema_options)
    query = f"SELECT item FROM {plan.new_states} WHERE item IS NOT NULL LIMIT {sample_rows(session, plan)}"
    for (item,) in session.con.execute(query).fetchall():
        seen.observe(orjson.loads(item))
    return seen
