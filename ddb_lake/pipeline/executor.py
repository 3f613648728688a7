"""The boundary between the steps of the pipeline and the engine that does their heavy work.

A step decides what is read and what is committed. An executor does the work between the two: it reads landed objects,
deduplicates and writes records, merges records into `current`, writes the rows of an export, and rewrites files. Its methods write files
and commit nothing, so a step behaves alike on every executor.

`pipeline.local_executor` works in this process, `ddb_lake.spark` distributes the work to tasks. The pipeline imports
neither: `ddb_lake.executors.open_lake` passes the executors to the lake that it opens.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Protocol, TypeAlias

if TYPE_CHECKING:  # the steps import this module for their types only, and so does the open lake
    from pyiceberg.manifest import DataFile
    from pyiceberg.schema import Schema
    from pyiceberg.table import Table
    from pyiceberg.table.metadata import TableMetadata

    from ddb_lake.aws.objects import ObjectRef
    from ddb_lake.config import TableSettings
    from ddb_lake.core.schema.misfits import Misfit, UnheldValues
    from ddb_lake.core.schema.table_schema import Column, TableSchema
    from ddb_lake.engine.merge_plan import MergeCounts
    from ddb_lake.engine.session import Session
    from ddb_lake.lake.scan import TableScan
    from ddb_lake.pipeline.apply.deduplication import ReadGroup
    from ddb_lake.pipeline.load.export_files import Export
    from ddb_lake.pipeline.load.increments import IncrementRows
    from ddb_lake.pipeline.load.snapshot_writer import SnapshotTarget, SnapshotWriter
    from ddb_lake.pipeline.merge.entity_source import EntitySource
    from ddb_lake.pipeline.merge.sources import MergeSources
    from ddb_lake.pipeline.open_lake import Lake


class Executor(Protocol):
    """Does the heavy work of one table. A `session` is the step's own: it lasts until the step has committed."""

    def groups(self, refs: Sequence[ObjectRef]) -> Iterator[list[ObjectRef]]:
        """Divide landed objects, in their order, into groups that are read and committed one after another."""

    def read(self, session: Session, refs: Sequence[ObjectRef]) -> ReadGroup:
        """Read a group of landed objects into staged rows.

        Raises UnreachableError or DamagedError if an object cannot be fetched. Content that is no record is rejected,
        which is no error.
        """

    def read_increment(self, session: Session, export: Export) -> IncrementRows:
        """Read the lines of an incremental export of the table into staged rows.

        Raises:
            ExportError: a data file is missing, differs from the manifest, or has another number of lines.
        """

    def plan_merge(self, session: Session, table: Table, sources: MergeSources) -> PlannedMerge:
        """Decide what each key with new records becomes.

        Args:
            session: the step's session.
            table: the table's `current`; None if it does not exist yet.
            sources: what the merge reads.

        Raises:
            CheckFailed: a key has no winner, or several; this is a fault of the program.
        """

    def rewrite(
        self, session: Session, table: Table, scan: TableScan, groups: Sequence[Sequence[DataFile]], key: str
    ) -> list[str]:
        """Write the living rows of some data files as other files, without the rows that position deletes name.

        Args:
            session: the step's session.
            table: the table, whose columns do not change.
            scan: the scan of the table.
            groups: data files of the scan. A written file has rows of one group.
            key: the columns by which the rows of a file are sorted, if sorting fits in memory, as SQL.

        Returns:
            The paths of the files.
        """

    def entity_rows(self, session: Session, source: EntitySource, since: int | None) -> EntityRows | str:
        """The rows by which the tables of entities change.

        Args:
            session: the step's session.
            source: the snapshot of `current` whose rows the tables will have, and the entities.
            since: the snapshot from which the tables were derived. None: the tables are written as a whole.

        Returns:
            The rows; a text that says why the difference of the snapshots does not lead to them. There is none without `since`.

        Raises:
            DamagedError: a file of one of the snapshots is missing or damaged.
        """

    def unheld_values(
        self, session: Session, table: Table, scan: TableScan, columns: Sequence[Column]
    ) -> list[UnheldValues]:
        """Count the values that no column holds, in parts of the rows of a scan of the table. `columns`: those of its items."""

    def snapshot_writer(self, session: Session, target: SnapshotTarget, export: Export, reject: bool) -> SnapshotWriter:
        """A writer of a full export's rows. `reject`: leave out lines without a valid item, which are errors otherwise."""


class PlannedMerge(Protocol):
    """A merge that is decided and not written: `fit`, then `write` and `close`, then a commit by the step."""

    @property
    def counts(self) -> MergeCounts:
        """How many keys change, and how they were decided."""

    @property
    def misfits(self) -> tuple[Misfit, ...]:
        """After `fit`: the attributes of the new rows with values that no column holds."""

    def fit(self, schema: TableSchema, rows: int, iceberg: Callable[[TableSchema], Schema]) -> TableSchema:
        """Find the columns that fit the new rows.

        Args:
            schema: the columns that the table has; none for a new table.
            rows: about how many rows the table has.
            iceberg: returns the Iceberg schema, with field ids, to which columns lead.

        Raises:
            CheckFailed: the rows have new attributes, and the table's `schema_evolution` is `fail`.
        """

    def write(self, table: Table, metadata: TableMetadata) -> tuple[list[DataFile], list[DataFile]]:
        """Write data files of the new rows, and position delete files of the rows that they replace or remove.

        `metadata`: that of the transaction, with the columns that `fit` returned.
        """

    def close(self) -> None:
        """Delete the files of the plan. Those that `write` returned stay."""


class EntityRows(Protocol):
    """The rows that an update of entities adds and removes. For each entity: `find_removed`, if there is a difference, `fit`, `write`.

    An entity is named by its position in the configuration.
    """

    @property
    def misfits(self) -> tuple[Misfit, ...]:
        """After `fit`: the attributes and parts of the key of the added rows with values that no column holds."""

    def find_removed(self, number: int, table: Table, schema: TableSchema) -> tuple[int, int]:
        """Find the rows that an entity loses.

        Args:
            number: the entity.
            table: its table.
            schema: the columns of its items.

        Returns:
            How many rows the entity loses, and how many of these the table has.
        """

    def fit(
        self, number: int, table: Table, names: TableSchema, rows: int, iceberg: Callable[[TableSchema], Schema]
    ) -> TableSchema:
        """Find the columns that fit the added rows.

        Args:
            number: the entity.
            table: its table.
            names: the columns that its table has. If it is written as a whole: columns whose names are kept.
            rows: about how many rows the table has.
            iceberg: returns the Iceberg schema, with field ids, to which columns lead.
        """

    def write(self, table: Table, metadata: TableMetadata) -> tuple[list[DataFile], list[DataFile]]:
        """Write data files of the added rows, and position delete files of the removed ones, of the entity of the last `fit`.

        `metadata`: that of the transaction, with the columns that `fit` returned.
        """

    def close(self) -> None:
        """Delete the files that are in no table."""


ExecutorFactory: TypeAlias = "Callable[[Lake, TableSettings], Executor]"
"""Makes the executor for a table of an open lake."""
