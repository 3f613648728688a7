"""Tasks of a merge on Spark: find rows with changed keys, decide the keys of a bucket, write the rows of a bucket.

A bucket is `_key_hash` modulo the number of buckets, so all rows of a key are in one bucket. Each task is a dataclass
that is pickled, and a function that a worker calls with it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial

import orjson
import pyarrow as pa
from pyiceberg.schema import Schema

from ddb_lake.config import TableSettings
from ddb_lake.core.schema.inference import Inference
from ddb_lake.core.schema.table_schema import Path, TableSchema
from ddb_lake.engine.merge_plan import (
    CHANGED_KEYS,
    CONFLICTING_KEY_HASHES,
    MergeCounts,
    MergeInput,
    MergePlan,
    MergeRules,
    find_conflicting_keys,
    plan_merge,
)
from ddb_lake.engine.projection import Projection
from ddb_lake.engine.session import Session, with_memory
from ddb_lake.engine.sql import identifier, literal, literals
from ddb_lake.lake.file_writer import FileWriter
from ddb_lake.lake.schemas import CHANGES_COLUMNS, duckdb_type, metadata_type
from ddb_lake.pipeline.merge.local_merge import ROW_COLUMNS, sample_rows
from ddb_lake.pipeline.merge.sources import images_of
from ddb_lake.spark.export_tasks import TableAccess, Written, describe_written, scratch_file

CURRENT = {
    "file_path": "VARCHAR",
    "pos": "BIGINT",
    "_key": "VARCHAR",
    "_changed_at": "TIMESTAMP",
    "_source": "VARCHAR",
}
BASE = {"_key": "VARCHAR", "item": "VARCHAR", "_rescued": "VARCHAR"}
EXPORTED_KEYS = {"_key": "VARCHAR", "_key_hash": "BIGINT", "exported_us": "BIGINT"}
CHANGES = {name: duckdb_type(metadata_type(kind)) for name, (kind, _) in CHANGES_COLUMNS.items()}
PARTS: dict[str, dict[str, str]] = {
    "new_records": CHANGES,
    "changelog": CHANGES,
    "current": CURRENT,
    "removals": {"_key": "VARCHAR", "_key_hash": "BIGINT", "removed_us": "BIGINT"},
    "base": BASE,
    "exported_keys": EXPORTED_KEYS,
}
"""The relations of a merge and their columns. They go through one shuffle, a row of each with the columns of all."""

COLUMNS = {"part": "VARCHAR", "bucket": "BIGINT"} | {n: t for columns in PARTS.values() for n, t in columns.items()}
_SPARK_TYPES = {"VARCHAR": "string", "BIGINT": "long", "TIMESTAMP": "timestamp_ntz", "BOOLEAN": "boolean"}
DDL = ", ".join(f"`{name}` {_SPARK_TYPES[kind]}" for name, kind in COLUMNS.items())


@dataclass(frozen=True, slots=True)
class FindHashes:
    """Find the distinct `_key_hash` of a relation, and write them into the folder `scratch`."""

    access: TableAccess
    query: str
    scratch: str


@dataclass(frozen=True, slots=True)
class ScanPart:
    """Scan the rows of one relation of a merge.

    Attributes:
        access: how the task reaches files.
        name: the relation, one of `PARTS`.
        query: its rows.
        buckets: the number of buckets.
        hashes: files of key hashes, from which the task makes the table `CHANGED_KEYS` that the query joins.
        batch_rows: the number of rows that are passed on at once.
    """

    access: TableAccess
    name: str
    query: str
    buckets: int
    hashes: tuple[str, ...]
    batch_rows: int


@dataclass(frozen=True, slots=True)
class DecideBucket:
    """Decide the keys of a bucket.

    Attributes:
        access: how the task reaches files.
        rules: those of the merge.
        settings: those of the table.
        scratch: the folder for files that other tasks read.
        has_changelog: the changelog's records of conflicting keys are among the bucket's rows.
    """

    access: TableAccess
    rules: MergeRules
    settings: TableSettings
    scratch: str
    has_changelog: bool


@dataclass(frozen=True, slots=True)
class DeletedPositions:
    """A written file of position deletes."""

    path: str
    size_bytes: int
    rows: int
    first_path: str
    last_path: str


@dataclass(frozen=True, slots=True)
class DecidedBucket:
    """What became of a bucket.

    Attributes:
        bucket: its number.
        conflicting: a file of the hashes of keys that need the changelog. If it is there, nothing else is.
        counts: figures.
        new_states: a file of what the keys become.
        deleted: the positions of rows that are replaced or removed.
        seen: what columns some of the items need.
        first_expired_us: the earliest time of an item that is kept as expired.
    """

    bucket: int
    conflicting: str | None = None
    counts: MergeCounts = field(default_factory=MergeCounts)
    new_states: str | None = None
    deleted: DeletedPositions | None = None
    seen: Inference | None = None
    first_expired_us: int | None = None

    @property
    def scratch_files(self) -> list[str]:
        """The files that only other tasks read."""
        return [self.new_states] if self.new_states is not None else []


@dataclass(frozen=True, slots=True)
class WriteRows:
    """Write the existing items of a bucket's new states with some columns."""

    access: TableAccess
    settings: TableSettings
    new_states: str
    schema: TableSchema
    nulls: frozenset[Path]
    iceberg: Schema


@dataclass(frozen=True, slots=True)
class FoundHashes:
    """The result of `find_hashes`.

    Attributes:
        path: a file of the distinct key hashes; None if there are none.
        rows: the number of rows.
        first_us: the least time of a change, microseconds since the epoch; None if there are no rows.
    """

    path: str | None
    rows: int
    first_us: int | None


def find_hashes(task: FindHashes) -> FoundHashes:
    """Find the distinct key hashes of some records."""
    with task.access.session() as session:
        session.con.execute(f"CREATE TABLE hashes AS SELECT _key_hash, changed_at FROM {task.query}")
        ((rows, first_us),) = session.rows("SELECT count(*), epoch_us(min(changed_at)) FROM hashes")
        return FoundHashes(scratch_file(session, "SELECT DISTINCT _key_hash FROM hashes", task.scratch), rows, first_us)


def scan_part(task: ScanPart) -> Iterator[pa.RecordBatch]:
    """The part's rows with the columns of all parts, and their bucket."""
    columns = PARTS[task.name]
    selected = [f"{literal(task.name)} AS part", f"(_key_hash % {task.buckets})::BIGINT AS bucket"]
    for name, kind in COLUMNS.items():
        if name not in ("part", "bucket"):
            selected.append(f"({identifier(name) if name in columns else 'NULL'})::{kind} AS {identifier(name)}")
    with task.access.session() as session:
        if task.hashes:
            hashes = f"SELECT DISTINCT _key_hash FROM read_parquet({literals(task.hashes)})"
            session.con.execute(f"CREATE TABLE {CHANGED_KEYS} AS {hashes}")
        rows = session.con.sql(f"SELECT {', '.join(selected)} FROM {task.query}")
        yield from rows.to_arrow_reader(task.batch_rows)


def decide_bucket(task: DecideBucket, bucket: int, rows: pa.Table) -> DecidedBucket:
    """Decide the keys of a bucket with `engine.merge_plan`, or return those that need the changelog."""
    with task.access.session() as session:
        session.con.register("bucket_rows", rows)
        for name, columns in PARTS.items():  # tables: other cursors of the session do not see what is registered
            selected = ", ".join(map(identifier, columns))
            session.con.execute(
                f"CREATE TABLE part_{name} AS SELECT {selected} FROM bucket_rows WHERE part = {literal(name)}"
            )
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
        if not task.has_changelog and find_conflicting_keys(session, inputs):
            return DecidedBucket(bucket, scratch_file(session, CONFLICTING_KEY_HASHES, task.scratch))
        plan = plan_merge(session, inputs)
        return DecidedBucket(
            bucket,
            None,
            plan.counts,
            scratch_file(session, f"SELECT * FROM {plan.new_states}", task.scratch),
            _write_deleted_positions(session, task.access, plan),
            _seen_items(session, plan, task.settings),
            plan.first_expired_us,
        )


def write_rows(task: WriteRows) -> Written:
    """Project the existing items, and write them."""
    with task.access.session() as session:
        living = f"(SELECT * FROM read_parquet({literal(task.new_states)}) WHERE item IS NOT NULL)"
        projection = Projection(task.schema, task.nulls)
        projection.register(session.con)
        session.keep("projected_rows", projection.select(living, ROW_COLUMNS))
        writer = FileWriter(session.con, task.access.io, task.access.location, task.iceberg)
        size = int(session.value(f"SELECT avg(strlen(item))::BIGINT FROM (SELECT item FROM {living} LIMIT 1000)") or 0)
        paths = with_memory(
            session, lambda: writer.write_paths("SELECT * FROM projected_rows", split=True, row_bytes=size)
        )
        return describe_written(session, paths, task.schema, task.iceberg, task.settings.schema_options)


def _write_deleted_positions(session: Session, access: TableAccess, plan: MergePlan) -> DeletedPositions | None:
    written = FileWriter(session.con, access.io, access.location, Schema()).write_deletes(plan.deleted_positions)
    if not written:
        return None
    file = written[0]
    first, last = session.rows(f"SELECT min(file_path), max(file_path) FROM read_parquet({literal(file.file_path)})")[0]
    return DeletedPositions(file.file_path, file.file_size_in_bytes, file.record_count, first, last)


def _seen_items(session: Session, plan: MergePlan, settings: TableSettings) -> Inference:
    """What columns some of the plan's items need."""
    seen = Inference(settings.schema_options)
    query = f"SELECT item FROM {plan.new_states} WHERE item IS NOT NULL LIMIT {sample_rows(session, plan)}"
    for (item,) in session.con.execute(query).fetchall():
        seen.observe(orjson.loads(item))
    return seen
