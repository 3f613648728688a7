"""A group of landed objects read on Spark: a task reads some of them with `pipeline.apply.object_reader.GroupReader`.

Each task leaves its rows in scratch files below the changelog of the table that is applied, and says which; from there
other tasks take them into the tables (`spark.changelog`). They never come to the driver.
"""

from __future__ import annotations

import shutil
import uuid
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from math import ceil
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from ddb_lake.aws.objects import ObjectRef, ObjectStore
from ddb_lake.core.layout.table_names import CHANGES
from ddb_lake.pipeline.apply.object_reader import (
    GROUP_BYTES,
    GroupReader,
    IngestedObject,
    ReadOptions,
    StagedTable,
    TableDefinition,
    UnknownTableError,
    fetch,
    groups,
    only,
)
from ddb_lake.pipeline.open_lake import Lake
from ddb_lake.pipeline.table_key import table_definition, table_key
from ddb_lake.spark.distribution import run_tasks
from ddb_lake.spark.export_tasks import Place
from ddb_lake.spark.snapshot_writer import WAVES, place_of, spark_of

LEAST_BYTES = 3 * 1024 * 1024
"""Compressed size below which sharing objects out takes longer than it saves."""

MINUTE_US = 60_000_000


@dataclass(frozen=True, slots=True)
class ReadTask:
    """Some objects of a group, by their number in it. `known`: tables whose records may be among them."""

    place: Place
    options: ReadOptions
    known: dict[str, TableDefinition]
    scratch: str
    objects: tuple[tuple[int, ObjectRef], ...]


@dataclass(frozen=True, slots=True)
class StagedShare:
    """One table's rows of some objects (by number), in scratch files. `minutes`: in which the records changed."""

    objects: frozenset[int]
    records: int
    changes: str | None
    rows: int
    quarantine: str | None
    rejected: int
    minutes: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class ReadAnswer:
    """What a task read. `asks`: nothing, as the driver must first say what it knows of this table."""

    objects: list[tuple[int, IngestedObject]]
    other_tables: Counter[str]
    keys: dict[str, tuple[str, ...]]
    tables: dict[str, StagedShare]
    asks: str | None = None


@dataclass(frozen=True, slots=True)
class SparkGroup:
    """`pipeline.apply.object_reader.StagedGroup` of rows in scratch files."""

    objects: list[IngestedObject]
    tables: dict[str, list[StagedShare]]
    other_tables: Counter[str]
    keys: dict[str, tuple[str, ...]]
    scratch: str


# --- on the driver


def portions(lake: Lake, table: str, refs: Sequence[ObjectRef]) -> Iterator[list[ObjectRef]]:
    """Objects in groups that are committed at once: of one machine's groups as many as the cores take in turn.

    One, as long as the table's key is not known: then a single task has to read all of it.
    """
    cores = spark_of(lake).sparkContext.defaultParallelism
    several = groups(refs)
    while taken := list(islice(several, cores * WAVES if table_key(lake, table) else 1)):
        yield [ref for group in taken for ref in group]


def read_on_spark(lake: Lake, table: str, refs: Sequence[ObjectRef]) -> SparkGroup:
    """Stage every record of the objects, of any configured table."""
    options = ReadOptions(table, lake.routes())
    spark = spark_of(lake)
    location = lake.catalog.location(table + CHANGES)
    place = place_of(lake, lake.catalog.file_io(), location)
    scratch = f"{location}/scratch/{uuid.uuid4().hex}"
    known = {table: table_definition(lake, table)}
    cores = spark.sparkContext.defaultParallelism
    done: list[ReadAnswer] = []
    shares = _shares(refs, cores if known[table].key else 0)
    while shares:
        if not all(one.key for one in known.values()) and len(shares) + len(done) > 1:
            _discard(place, done)  # what the key is, the first record of all says
            done, shares = [], _shares(refs, 0)
        tasks = [ReadTask(place, options, known, scratch, share) for share in shares]
        told = run_tasks(spark, read_objects, tasks, partial(lake.progress, f"{table}: shares of objects read"))
        done += [answer for answer in told if answer.asks is None]
        shares = [share for share, answer in zip(shares, told, strict=True) if answer.asks is not None]
        known |= {answer.asks: table_definition(lake, answer.asks) for answer in told if answer.asks is not None}
    return _together(done, scratch)


def _shares(refs: Sequence[ObjectRef], cores: int) -> list[tuple[tuple[int, ObjectRef], ...]]:
    """The objects with their numbers, in order, in shares of about equal size; one share for no cores."""
    total = sum(ref.size_bytes for ref in refs)
    wanted = max(ceil(total / GROUP_BYTES), min(cores * WAVES, ceil(total / LEAST_BYTES)), 1) if cores else 1
    shares: dict[int, list[tuple[int, ObjectRef]]] = {}
    before = 0
    for number, ref in enumerate(refs):
        shares.setdefault(min(before * wanted // max(total, 1), wanted - 1), []).append((number, ref))
        before += ref.size_bytes
    return [tuple(share) for share in shares.values()]


def _together(answers: Sequence[ReadAnswer], scratch: str) -> SparkGroup:
    numbered = sorted((entry for answer in answers for entry in answer.objects), key=lambda entry: entry[0])
    tables: dict[str, list[StagedShare]] = {}
    keys: dict[str, tuple[str, ...]] = {}
    for answer in answers:
        for name, share in answer.tables.items():
            tables.setdefault(name, []).append(share)
        keys |= {name: key for name, key in answer.keys.items() if key}
    others = sum((answer.other_tables for answer in answers), Counter[str]())
    return SparkGroup([entry for _, entry in numbered], tables, others, keys, scratch)


def _discard(place: Place, answers: Sequence[ReadAnswer]) -> None:
    for answer in answers:
        for share in answer.tables.values():
            for path in (share.changes, share.quarantine):
                if path is not None:
                    place.io.delete(path)


# --- in a task


def read_objects(task: ReadTask) -> ReadAnswer:
    """Stage the rows of some objects."""
    with TemporaryDirectory(prefix="ddb-lake-read-") as folder:
        reader = GroupReader(Path(folder), task.options, only(task.known))
        numbers = [number for number, _ in task.objects]
        fetched = fetch(ObjectStore(), [ref for _, ref in task.objects])
        try:
            group = reader.read_numbered(zip(numbers, fetched, strict=True))
        except UnknownTableError as unknown:
            return ReadAnswer([], Counter(), {}, {}, asks=unknown.table)
        tables = {name: _hand_over(task, staged) for name, staged in group.tables.items()}
        objects = list(zip(numbers, group.objects, strict=True))
        return ReadAnswer(objects, group.other_tables, reader.keys, tables)


def _hand_over(task: ReadTask, staged: StagedTable) -> StagedShare:
    share = StagedShare(
        frozenset(number for number, _ in task.objects),
        sum(staged.records.values()),
        None,
        staged.changes.rows,
        None,
        staged.quarantine.rows,
        (),
    )
    if share.rows:
        share = replace(share, minutes=_minutes(staged.changes.path))
        share = replace(share, changes=_put(task, staged.changes.path))
    if share.rejected:
        share = replace(share, quarantine=_put(task, staged.quarantine.path))
    return share


def _put(task: ReadTask, path: Path) -> str:
    target = f"{task.scratch}/{uuid.uuid4().hex}.parquet"
    if task.place.local:
        Path(task.scratch).mkdir(parents=True, exist_ok=True)
        shutil.move(path, target)
    else:
        with path.open("rb") as source, task.place.io.new_output(target).create() as out:
            shutil.copyfileobj(source, out, 16 * 1024 * 1024)
    return target


def _minutes(path: Path) -> tuple[int, ...]:
    with pq.ParquetFile(path) as file:
        times = file.read(columns=["changed_at"])["changed_at"].cast(pa.int64()).to_numpy()
    return tuple(int(minute) for minute in np.unique(times // MINUTE_US))
