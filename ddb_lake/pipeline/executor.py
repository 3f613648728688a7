"""The boundary between the steps of the pipeline and the engine that does their heavy work.

A step decides what is read and what is committed. An executor does the work between the two: it reads landed objects,
deduplicates and writes records, merges records into `current`, and writes the rows of an export. Its methods write files
and commit nothing, so a step behaves alike on every executor.

`pipeline.local_executor` works in this process, `ddb_lake.spark` distributes the work to tasks. The pipeline imports
neither: who opens the lake passes the executors to it (`ddb_lake.executors.open_lake`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Protocol, TypeAlias

if TYPE_CHECKING:  # the steps import this module for their types only, and so does the open lake
    from pyiceberg.table import Table

    from ddb_lake.aws.objects import ObjectRef
    from ddb_lake.config import TableSettings
    from ddb_lake.engine.session import Session
    from ddb_lake.pipeline.apply.deduplication import ReadGroup
    from ddb_lake.pipeline.load.export_files import FoundExport
    from ddb_lake.pipeline.load.snapshot_writer import Base, Target
    from ddb_lake.pipeline.merge.inputs import Merge
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

    def merge(self, session: Session, table: Table | None) -> Merge:
        """A merge into the table's `current`. `table`: None if `current` does not exist yet."""

    def snapshot_writer(self, session: Session, target: Target, export: FoundExport, reject: bool) -> Base:
        """A writer of a full export's rows. `reject`: leave out lines without a valid item, which are errors otherwise."""


ExecutorFactory: TypeAlias = "Callable[[Lake, TableSettings], Executor]"
"""Makes the executor for a table of an open lake."""
