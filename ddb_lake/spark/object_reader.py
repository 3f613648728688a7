"""Read a group of landed objects on Spark: each task reads some of them with `pipeline.apply.object_reader.GroupReader`.

A task leaves its rows in scratch files below the location of the changelog that is applied, or in files that can become files
of this changelog (`pipeline.apply.changelog_files`), and returns their names. Other tasks write the rows of scratch files to the
tables (`spark.changelog`), so no row comes to the driver.
"""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import islice
from math import ceil
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pyiceberg.schema import Schema

from ddb_lake.aws.objects import ObjectRef, ObjectStore
from ddb_lake.aws.session import expect_bucket_owners, expected_owners
from ddb_lake.lake.file_writer import FileWriter
from ddb_lake.pipeline.apply.changelog import ensure_changelog
from ddb_lake.pipeline.apply.changelog_files import ChangelogFormat
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
from ddb_lake.spark.access import WAVES, TableAccess, table_access
from ddb_lake.spark.carrier import Carrier
from ddb_lake.spark.scratch import ScratchFolder, delete_files, names_of

LEAST_BYTES = 3 * 1024 * 1024
"""The compressed size below which dividing objects among tasks takes longer than it saves."""

MINUTE_US = 60_000_000


@dataclass(frozen=True, slots=True)
class ReadTask:
    """Read some objects of a group.

    Attributes:
        access: how the task reaches files.
        options: how the objects are read.
        known: the tables whose records may be among them.
        scratch: the folder for rows.
        objects: the objects with their numbers.
        changelog: the format of files that can become files of the changelog; None if there must be none.
        owners: of buckets.
    """

    access: TableAccess
    options: ReadOptions
    known: dict[str, TableDefinition]
    scratch: ScratchFolder
    objects: tuple[tuple[int, ObjectRef], ...]
    changelog: ChangelogFormat | None
    owners: Mapping[str, str] = field(default_factory=expected_owners)


@dataclass(frozen=True, slots=True)
class StagedShare:
    """One table's rows of some objects.

    Attributes:
        objects: the numbers of the objects.
        records: the number of rows of both kinds.
        changes: the name of the scratch file of change records; None without any.
        rows: the number of change records, those in `files` included.
        quarantine: the name of the scratch file of rejected records; None without any.
        rejected: their number.
        minutes: the minutes since 1970 in which the records changed, each once.
        files: the paths of further files of change records, which can become files of the changelog.
    """

    objects: frozenset[int]
    records: int
    changes: str | None
    rows: int
    quarantine: str | None
    rejected: int
    minutes: tuple[int, ...]
    files: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ReadResult:
    """What a task read. `unknown_table`: nothing was read, because the task needs this table's `KnownTable`."""

    objects: list[tuple[int, IngestedObject]]
    other_tables: Counter[str]
    keys: dict[str, tuple[str, ...]]
    tables: dict[str, StagedShare]
    unknown_table: str | None = None
    left_out: Counter[str] = field(default_factory=Counter)


@dataclass(frozen=True, slots=True)
class SparkGroup:
    """`pipeline.apply.object_reader.StagedGroup` of rows in shared files. `changelog`: the format of those that can become files of it."""

    objects: list[IngestedObject]
    tables: dict[str, list[StagedShare]]
    other_tables: Counter[str]
    keys: dict[str, tuple[str, ...]]
    scratch: ScratchFolder
    left_out: Counter[str] = field(default_factory=Counter)
    changelog: ChangelogFormat | None = None


# --- on the driver


def object_groups(lake: Lake, carrier: Carrier, table: str, refs: Sequence[ObjectRef]) -> Iterator[list[ObjectRef]]:
    """Groups of objects to commit at once: as many groups of one machine as all cores read in `WAVES` turns.

    While the key of the table is not known, a group is that of one machine: a single task reads it.
    """
    single_groups = groups(refs)
    while joined := list(islice(single_groups, carrier.cores * WAVES if table_key(lake, table) else 1)):
        yield [ref for group in joined for ref in group]


def read_objects_on_spark(lake: Lake, carrier: Carrier, table: str, refs: Sequence[ObjectRef]) -> SparkGroup:
    """Stage every record of the objects that is for a configured table.

    A task that meets a table it does not know returns its name, and is repeated with it.
    """
    options = ReadOptions(table, lake.routes())
    known = {table: table_definition(lake, table)}
    changes = ensure_changelog(lake, table, known[table].key)
    access = table_access(lake, changes.io, changes.location())
    scratch = ScratchFolder.below(access.io, access.location)
    are_distinct = len({ref.uri for ref in refs}) == len(refs)  # the rows of files of the changelog have names alone
    form = ChangelogFormat.of_next_commit(changes) if are_distinct else None
    done: list[ReadResult] = []
    shares = _shares(refs, carrier.cores if known[table].key else 0)
    while shares:
        if not all(one.key for one in known.values()) and len(shares) + len(done) > 1:
            _delete_shares(scratch, done)  # the first record of the group decides the key, so one task must read all
            done, shares = [], _shares(refs, 0)
        tasks = [ReadTask(access, options, known, scratch, share, form) for share in shares]
        results = carrier.map(read_objects, tasks, partial(lake.progress, f"{table}: shares of objects read"))
        done += [result for result in results if result.unknown_table is None]
        shares = [share for share, result in zip(shares, results, strict=True) if result.unknown_table is not None]
        known |= {
            result.unknown_table: table_definition(lake, result.unknown_table)
            for result in results
            if result.unknown_table is not None
        }
    return replace(joined(done, scratch), changelog=form)


def _shares(refs: Sequence[ObjectRef], cores: int) -> list[tuple[tuple[int, ObjectRef], ...]]:
    """The objects with their numbers, in order, in shares of about equal size; one share if `cores` is 0."""
    total = sum(ref.size_bytes for ref in refs)
    wanted = max(ceil(total / GROUP_BYTES), min(cores * WAVES, ceil(total / LEAST_BYTES)), 1) if cores else 1
    shares: dict[int, list[tuple[int, ObjectRef]]] = {}
    before = 0
    for number, ref in enumerate(refs):
        shares.setdefault(min(before * wanted // max(total, 1), wanted - 1), []).append((number, ref))
        before += ref.size_bytes
    return [tuple(share) for share in shares.values()]


def joined(results: Sequence[ReadResult], scratch: ScratchFolder) -> SparkGroup:
    """What several tasks read, as one group."""
    numbered = sorted((entry for result in results for entry in result.objects), key=lambda entry: entry[0])
    tables: dict[str, list[StagedShare]] = {}
    keys: dict[str, tuple[str, ...]] = {}
    for result in results:
        for name, share in result.tables.items():
            tables.setdefault(name, []).append(share)
        keys |= {name: key for name, key in result.keys.items() if key}
    others = sum((result.other_tables for result in results), Counter[str]())
    left_out = sum((result.left_out for result in results), Counter[str]())
    return SparkGroup([entry for _, entry in numbered], tables, others, keys, scratch, left_out)


def _delete_shares(scratch: ScratchFolder, results: Sequence[ReadResult]) -> None:
    for result in results:
        for share in result.tables.values():
            scratch.delete(names_of([share.changes, share.quarantine]))
            delete_files(scratch.io, share.files)


# --- in a task


def read_objects(task: ReadTask) -> ReadResult:
    """Stage the rows of some objects."""
    expect_bucket_owners(task.owners)
    with TemporaryDirectory(prefix="ddb-lake-read-") as folder:
        reader = GroupReader(Path(folder), task.options, only(task.known), task.changelog)
        numbers = [number for number, _ in task.objects]
        fetched = fetch(ObjectStore(), [ref for _, ref in task.objects])
        try:
            group = reader.read_numbered(zip(numbers, fetched, strict=True))
        except UnknownTableError as unknown:
            return ReadResult([], Counter(), {}, {}, unknown_table=unknown.table)
        tables = {
            name: staged_share(task.access, task.scratch, frozenset(numbers), staged)
            for name, staged in group.tables.items()
        }
        objects = list(zip(numbers, group.objects, strict=True))
        return ReadResult(objects, group.other_tables, reader.keys, tables, left_out=group.left_out)


def staged_share(
    access: TableAccess, scratch: ScratchFolder, numbers: frozenset[int], staged: StagedTable
) -> StagedShare:
    """Move the rows of the objects with these numbers to where other tasks find them."""
    changes, quarantine = staged.changes, staged.quarantine
    minutes = _minutes([*([changes.path] if changes.rows else []), *(file.path for file in staged.files)])
    files: tuple[str, ...] = ()
    if staged.files:
        with access.session() as session:
            writer = FileWriter(session.con, access.io, access.location, Schema())
            files = tuple(writer.adopt(file.path) for file in staged.files)
    return StagedShare(
        numbers,
        sum(staged.records.values()),
        _copy_to_scratch(access, scratch, changes.path) if changes.rows else None,
        changes.rows + sum(file.rows for file in staged.files),
        _copy_to_scratch(access, scratch, quarantine.path) if quarantine.rows else None,
        quarantine.rows,
        minutes,
        files,
    )


def _copy_to_scratch(access: TableAccess, scratch: ScratchFolder, path: Path) -> str:
    name = scratch.new_name()
    target = scratch.path(name)
    if access.local:
        shutil.move(path, target)
    else:
        with path.open("rb") as source, access.io.new_output(target).create() as out:
            shutil.copyfileobj(source, out, 16 * 1024 * 1024)
    return name


def _minutes(paths: Iterable[Path]) -> tuple[int, ...]:
    minutes: set[int] = set()
    for path in paths:
        with pq.ParquetFile(path) as file:
            times = file.read(columns=["changed_at"])["changed_at"].cast(pa.int64()).to_numpy()
        minutes.update(map(int, np.unique(times // MINUTE_US)))
    return tuple(sorted(minutes))
