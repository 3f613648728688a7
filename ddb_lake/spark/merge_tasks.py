"""What one task on Spark does in a merge: finds the rows that matter, decides the keys of a bucket, projects winners.

A bucket is `_key_hash` modulo the number of buckets: all there is of a key is in one bucket, whoever computes it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import orjson
import pyarrow as pa
from pyiceberg.schema import Schema

from ddb_lake.config import TableSettings
from ddb_lake.core.schema.inference import Inference
from ddb_lake.core.schema.table_schema import Path, TableSchema
from ddb_lake.engine.merge_plan import (
    MergeCounts,
    MergeInput,
    find_undecided,
    first_expired_us,
    plan_merge,
)
from ddb_lake.engine.projection import Projection
from ddb_lake.engine.session import Session, with_memory
from ddb_lake.engine.sql import identifier, literal, literals
from ddb_lake.lake.file_writer import FileWriter
from ddb_lake.lake.schemas import CHANGES_COLUMNS, duckdb_type, metadata_type
from ddb_lake.lake.sidecar import TOMBSTONE_COLUMNS
from ddb_lake.pipeline.merge.local_merge import (
    GRAVES,
    RETIRED,
    ROW_COLUMNS,
    collect_outcome,
    sample_rows,
)
from ddb_lake.pipeline.merge.rows import images_among
from ddb_lake.spark.export_tasks import (
    Place,
    Written,
    look_at,
    scratch_file,
)

CURRENT = {
    "file_path": "VARCHAR",
    "pos": "BIGINT",
    "_key": "VARCHAR",
    "_changed_at": "TIMESTAMP",
    "_source": "VARCHAR",
}
BASE = {"_key": "VARCHAR", "item": "VARCHAR", "_rescued": "VARCHAR"}
SHOWN = {"_key": "VARCHAR", "_key_hash": "BIGINT", "shown_us": "BIGINT"}
CHANGES = {name: duckdb_type(metadata_type(kind)) for name, (kind, _) in CHANGES_COLUMNS.items()}
PARTS: dict[str, dict[str, str]] = {
    "fresh": CHANGES,
    "changelog": CHANGES,
    "current": CURRENT,
    "tombstones": TOMBSTONE_COLUMNS,
    "base": BASE,
    "shown": SHOWN,
}
"""The relations of a merge and their columns. They go through one shuffle, a row of each with the columns of all."""

COLUMNS = {"part": "VARCHAR", "bucket": "BIGINT"} | {n: t for columns in PARTS.values() for n, t in columns.items()}
_SPARK_TYPES = {"VARCHAR": "string", "BIGINT": "long", "TIMESTAMP": "timestamp_ntz", "BOOLEAN": "boolean"}
DDL = ", ".join(f"`{name}` {_SPARK_TYPES[kind]}" for name, kind in COLUMNS.items())


NOTHING = MergeCounts(0, 0, 0)


@dataclass(frozen=True, slots=True)
class Hashes:
    """Find the distinct `_key_hash` of a relation."""

    place: Place
    query: str
    scratch: str


@dataclass(frozen=True, slots=True)
class Part:
    """Rows of one relation; `touched`: files of key hashes, for a query that asks for a table of that name.

    `batch_rows`: the number of rows that are passed on at once.
    """

    place: Place
    name: str
    query: str
    buckets: int
    touched: tuple[str, ...]
    batch_rows: int


@dataclass(frozen=True, slots=True)
class Bucket:
    """How a bucket is decided. `whole`: the changelog's records of undecided keys are among its rows."""

    place: Place
    given: MergeInput
    settings: TableSettings
    scratch: str
    whole: bool
    sample: bool


@dataclass(frozen=True, slots=True)
class Retired:
    """A file of position deletes."""

    path: str
    size_bytes: int
    rows: int
    first_path: str
    last_path: str


@dataclass(frozen=True, slots=True)
class Decided:
    """What became of a bucket. `undecided`: a file of the hashes of keys that need the changelog; nothing else then.

    `outcome`, `graves`: files of what the keys become, and of changes among the tombstones. `seen`: what some of the
    items need, if it was requested. `expired_us`: the earliest time of an item that is kept as expired.
    """

    bucket: int
    undecided: str | None = None
    counts: MergeCounts = NOTHING
    changed: int = 0
    outcome: str | None = None
    graves: str | None = None
    retired: Retired | None = None
    seen: Inference | None = None
    expired_us: int | None = None


@dataclass(frozen=True, slots=True)
class WriteOutcome:
    """Winners to be written with some columns."""

    place: Place
    settings: TableSettings
    outcomes: tuple[str, ...]
    schema: TableSchema
    nulls: frozenset[Path]
    iceberg: Schema


def write_hashes(task: Hashes) -> tuple[str | None, int]:
    """A file of the distinct key hashes, None for none, and how many rows have them."""
    with task.place.session() as session:
        session.con.execute(f"CREATE TABLE found AS SELECT _key_hash FROM {task.query}")
        rows: int = session.value("SELECT count(*) FROM found")
        return scratch_file(session, "SELECT DISTINCT _key_hash FROM found", task.scratch), rows


def scan_part(task: Part) -> Iterator[pa.RecordBatch]:
    """The part's rows with the columns of all parts, and their bucket."""
    columns = PARTS[task.name]
    shown = [f"{literal(task.name)} AS part", f"(_key_hash % {task.buckets})::BIGINT AS bucket"]
    for name, kind in COLUMNS.items():
        if name not in ("part", "bucket"):
            shown.append(f"({identifier(name) if name in columns else 'NULL'})::{kind} AS {identifier(name)}")
    with task.place.session() as session:
        if task.touched:
            session.con.execute(
                f"CREATE TABLE touched AS SELECT DISTINCT _key_hash FROM read_parquet({literals(task.touched)})"
            )
        yield from session.con.execute(f"SELECT {', '.join(shown)} FROM {task.query}").to_arrow_reader(task.batch_rows)


def decide_bucket(task: Bucket, bucket: int, rows: pa.Table) -> Decided:
    """Decide the keys of a bucket with `engine.merge_plan`, or say which of them need the changelog."""
    with task.place.session() as session:
        session.con.register("bucket_rows", rows)
        for name, columns in PARTS.items():  # tables: what is registered is unknown to the session's other cursors
            shown = ", ".join(map(identifier, columns))
            session.con.execute(
                f"CREATE TABLE part_{name} AS SELECT {shown} FROM bucket_rows WHERE part = {literal(name)}"
            )
        # of a key that needs the changelog, all records are there; of any other its fresh ones are all that is asked for
        session.con.execute(
            "CREATE VIEW known AS SELECT * FROM part_changelog UNION ALL"
            " SELECT f.* FROM part_fresh f ANTI JOIN part_changelog c ON c._key_hash = f._key_hash"
        )
        if not task.whole and find_undecided(session, task.given):
            undecided = scratch_file(session, "SELECT DISTINCT _key_hash FROM undecided", task.scratch)
            return Decided(bucket, undecided)
        counts = plan_merge(
            session, task.given, lambda keys: images_among(session, "part_base", keys), lambda _from_us: ["part_shown"]
        )
        collect_outcome(session, task.given, task.settings.name)
        return Decided(
            bucket,
            None,
            counts,
            session.value("SELECT count(*) FROM outcome"),
            scratch_file(session, "SELECT * FROM outcome", task.scratch),
            scratch_file(session, GRAVES, task.scratch),
            _retire(session, task.place),
            _sample(session, task.settings) if task.sample else None,
            first_expired_us(session) if task.given.keep_expired and counts.late else None,
        )


def write_outcome(task: WriteOutcome) -> Written:
    """Project the winners that live, and write them."""
    with task.place.session() as session:
        living = f"(SELECT * FROM read_parquet({literals(task.outcomes)}) WHERE item IS NOT NULL)"
        projection = Projection(task.schema, task.nulls)
        projection.register(session.con)
        session.keep("projected", projection.select(living, ROW_COLUMNS))
        writer = FileWriter(session.con, task.place.io, task.place.location, task.iceberg)
        size = int(session.value(f"SELECT avg(strlen(item))::BIGINT FROM (SELECT item FROM {living} LIMIT 1000)") or 0)
        paths = with_memory(session, lambda: writer.write_paths("SELECT * FROM projected", split=True, row_bytes=size))
        return look_at(session, paths, task.schema, task.iceberg, task.settings.schema_options)


def _retire(session: Session, place: Place) -> Retired | None:
    written = FileWriter(session.con, place.io, place.location, Schema()).write_deletes(RETIRED)
    if not written:
        return None
    file = written[0]
    first, last = session.rows(f"SELECT min(file_path), max(file_path) FROM read_parquet({literal(file.file_path)})")[0]
    return Retired(file.file_path, file.file_size_in_bytes, file.record_count, first, last)


def _sample(session: Session, settings: TableSettings) -> Inference:
    seen = Inference(settings.schema_options)
    query = f"SELECT item FROM outcome WHERE item IS NOT NULL LIMIT {sample_rows(session)}"
    for (item,) in session.con.execute(query).fetchall():
        seen.observe(orjson.loads(item))
    return seen
