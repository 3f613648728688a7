"""Read an incremental export on Spark: each task verifies and reads some data files, and leaves their rows in scratch files."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

from ddb_lake.aws.objects import ObjectStore
from ddb_lake.aws.session import expect_bucket_owners, expected_owners
from ddb_lake.pipeline.apply.changelog import ensure_changelog
from ddb_lake.pipeline.apply.object_reader import GroupReader, ReadOptions, TableDefinition, Unreadable, fetch, only
from ddb_lake.pipeline.load.export_files import Export, InvalidLines, check_line_lengths, download_files
from ddb_lake.pipeline.load.increments import check_counts, increment_options, invalid_lines
from ddb_lake.pipeline.open_lake import Lake
from ddb_lake.pipeline.table_key import table_definition
from ddb_lake.spark.access import TableAccess, table_access
from ddb_lake.spark.carrier import Carrier
from ddb_lake.spark.object_reader import ReadResult, SparkGroup, joined, staged_share
from ddb_lake.spark.scratch import ScratchFolder
from ddb_lake.spark.snapshot_writer import shares_of


@dataclass(frozen=True, slots=True)
class ReadIncrement:
    """Read some data files. `export`: the export with these files alone. `first`: the number of the first of them."""

    access: TableAccess
    options: ReadOptions
    definition: TableDefinition
    scratch: ScratchFolder
    export: Export
    first: int
    owners: Mapping[str, str] = field(default_factory=expected_owners)


@dataclass(frozen=True, slots=True)
class SparkIncrement:
    """The lines of an incremental export in scratch files, and those that hold no valid record."""

    group: SparkGroup
    invalid: InvalidLines


def read_increment_on_spark(lake: Lake, carrier: Carrier, name: str, export: Export) -> SparkIncrement:
    """Stage every line. While the table's key is not known, one task reads all of them, because the first line defines it."""
    definition = table_definition(lake, name)
    changes = ensure_changelog(lake, name, definition.key)
    access = table_access(lake, changes.io, changes.location())
    scratch = ScratchFolder.below(access.io, access.location)
    shares = shares_of(export, carrier.cores) if definition.key else [export]
    tasks, first = [], 0
    for share in shares:
        tasks.append(ReadIncrement(access, increment_options(name, export), definition, scratch, share, first))
        first += len(share.files)
    results = carrier.map(read_increment, tasks, partial(lake.progress, f"{name}: shares of data files read"))
    invalid = InvalidLines()
    for _, lines in results:
        invalid.merge(lines)
    return SparkIncrement(joined([read for read, _ in results], scratch), invalid)


def read_increment(task: ReadIncrement) -> tuple[ReadResult, InvalidLines]:
    """Verify the files, and stage their lines."""
    expect_bucket_owners(task.owners)
    table = task.options.table
    with TemporaryDirectory(prefix="ddb-lake-read-") as folder:
        store = ObjectStore()
        files = download_files(store, task.export, Path(folder))
        check_line_lengths(files)
        refs, copies = [file.ref for file in files], {file.ref: file.path for file in files}
        reader = GroupReader(Path(folder), task.options, only({table: task.definition}))
        numbers = range(task.first, task.first + len(files))
        group = reader.read_numbered(zip(numbers, fetch(store, refs, copies), strict=True))
        check_counts(files, group.objects)
        first = [(number - task.first, offset, reason) for number, offset, reason in group.unreadable.first]
        invalid = invalid_lines(files, Unreadable(group.unreadable.count, first))
        tables = {
            name: staged_share(task.access, task.scratch, frozenset(numbers), staged)
            for name, staged in group.tables.items()
        }
        objects = list(zip(numbers, group.objects, strict=True))
        return ReadResult(objects, group.other_tables, reader.keys, tables, left_out=group.left_out), invalid
