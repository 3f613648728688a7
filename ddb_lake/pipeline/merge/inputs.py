"""What a merge into `current` reads and what it must give, whichever engine carries it out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Protocol

from pyiceberg.manifest import DataFile
from pyiceberg.schema import Schema
from pyiceberg.table import Table
from pyiceberg.table.metadata import TableMetadata

from ddb_lake.core.schema.table_schema import TableSchema
from ddb_lake.engine.merge_plan import MergeCounts, MergeInput
from ddb_lake.lake.commit import Commit
from ddb_lake.lake.scan import TableScan
from ddb_lake.lake.schema_evolution import evolve_table
from ddb_lake.lake.sidecar import TOMBSTONE_COLUMNS, Sidecar


@dataclass(frozen=True, slots=True)
class Relation:
    """The rows of some data files. `read` gives the SQL of those of some of the files, also of none."""

    files: tuple[str, ...]
    read: Callable[[Sequence[str]], str]

    @property
    def sql(self) -> str:
        """All rows."""
        return self.read(self.files)

    def parts(self, most: int) -> list[str]:
        """The rows in at most so many parts, of about as many files each; no part if there is no file."""
        count = min(most, len(self.files))
        return [self.read(self.files[first::count]) for first in range(count)]


@dataclass(frozen=True, slots=True)
class BaseRows:
    """The rows of the newest export alone, and the columns they have."""

    scan: TableScan
    schema: TableSchema

    @property
    def rows(self) -> Relation:
        """As a relation."""
        return Relation(self.scan.paths, self.scan.sql)


@dataclass(frozen=True, slots=True)
class Sources:
    """The input of a merge: `engine.merge_plan.MergeInput`, with relations that can be divided.

    `shown`: `engine.merge_plan.ShownKeys`, as relations of columns _key, _key_hash and shown_us.
    """

    fresh: Relation
    changelog: Relation
    current: Relation
    tombstones: Sidecar
    base: BaseRows | None
    snapshot_cutoff_us: int | None
    base_us: int | None
    clock_skew_us: int
    simple: bool
    recheck: bool
    keep_expired: bool = False
    shown: Callable[[int], Sequence[Relation]] = lambda _from_us: ()

    def given(self) -> MergeInput:
        """All of it at once."""
        return self.over(self.fresh.sql, self.changelog.sql, self.current.sql, self.tombstones.sql(TOMBSTONE_COLUMNS))

    def over(self, fresh: str, changelog: str, current: str, tombstones: str) -> MergeInput:
        """The same over other relations."""
        return MergeInput(
            fresh,
            changelog,
            current,
            tombstones,
            self.snapshot_cutoff_us,
            self.base_us,
            self.clock_skew_us,
            self.simple,
            self.recheck,
            self.keep_expired,
        )


class Merge(Protocol):
    """One merge, step by step. `changed`: keys that get another row, or none."""

    changed: int

    def plan(self, sources: Sources) -> MergeCounts:
        """Decide what each key becomes. Raises CheckFailed unless each has exactly one winner."""

    def fit(self, schema: TableSchema, iceberg: Callable[[TableSchema], Schema]) -> TableSchema:
        """The columns for the rows. `iceberg`: the Iceberg schema that columns lead to."""

    def write(self, table: Table, metadata: TableMetadata) -> tuple[list[DataFile], list[DataFile]]:
        """The files of the new rows, and those that retire the rows they replace."""

    def bury(self, table: Table, tombstones: Sidecar) -> Sidecar:
        """Tombstones for removed keys; those of keys that live again are taken back."""


def evolved_schema(table: Table, steps: Sequence[TableSchema], keep_expired: bool) -> Schema:
    """The table's Iceberg schema after its columns went from the first of `steps` to the next, and so on."""
    commit = Commit(table)
    schema = table.schema()
    for old, new in pairwise(steps):
        evolve_table(commit, schema, old, new, keep_expired)
        schema = commit.transaction.table_metadata.schema()
    return schema
