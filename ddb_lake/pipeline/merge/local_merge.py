"""A merge into `current` by this process, in one DuckDB session (`pipeline.executor.PlannedMerge`).

Replays and the tasks on Spark use the functions below the class.
"""

from __future__ import annotations

from collections.abc import Callable

import orjson
from pyiceberg.manifest import DataFile
from pyiceberg.schema import Schema
from pyiceberg.table import Table
from pyiceberg.table.metadata import TableMetadata

from ddb_lake.config import TableSettings
from ddb_lake.core.schema.misfits import Misfit
from ddb_lake.core.schema.table_schema import TableSchema
from ddb_lake.engine.merge_plan import MergeCounts, MergePlan, plan_merge
from ddb_lake.engine.misfits import count_misfits
from ddb_lake.engine.projection import Projection
from ddb_lake.engine.schema_fitting import SAMPLE_ROWS, SessionProjection, extend_schema, fit_schema, guess
from ddb_lake.engine.session import Session, with_memory
from ddb_lake.lake.file_writer import FileWriter
from ddb_lake.pipeline.merge.sources import MergeSources

SAMPLE_BYTES = 32 * 1024 * 1024
"""The size of the items from which the first guess at the columns comes."""

ROW_COLUMNS = ("_changed_at", "_source", "_key_hash", "_expired_at")
"""Columns of a plan's new states that rows of `current` have beside the item's."""


class LocalMerge:
    """A planned merge whose plan is in the step's session."""

    def __init__(self, session: Session, settings: TableSettings, plan: MergePlan) -> None:
        self._session, self._settings, self._plan = session, settings, plan
        self.counts: MergeCounts = plan.counts
        self.misfits: tuple[Misfit, ...] = ()
        self._rows = ""

    @classmethod
    def of(cls, session: Session, settings: TableSettings, sources: MergeSources) -> LocalMerge:
        """Decide what each key becomes."""
        return cls(session, settings, plan_merge(session, sources.inputs(session, settings.name)))

    def fit(self, schema: TableSchema, rows: int, iceberg: Callable[[TableSchema], Schema]) -> TableSchema:  # noqa: ARG002
        """Project the new states onto the columns that fit them. Field ids are needed only when rows are written."""
        schema, self._rows = fit_rows(self._session, self._plan, schema, self._settings, rows)
        self.misfits = count_misfits(self._session, self._rows, schema.columns)
        return schema

    def write(self, table: Table, metadata: TableMetadata) -> tuple[list[DataFile], list[DataFile]]:
        """Write the rows, and the positions of the rows that they replace."""
        session, rows = self._session, f"SELECT * FROM {self._rows}"
        writer = FileWriter.for_table(session.con, table, metadata)
        size = self._plan.mean_item_bytes(session)
        added = with_memory(session, lambda: writer.write(rows, metadata, split=True, row_bytes=size))
        session.keep("deleted_positions", self._plan.deleted_positions)  # they are read once for each data file
        return added, writer.write_deletes_by_file("deleted_positions")

    def close(self) -> None:
        """Do nothing: the plan is deleted with the session."""


def fit_rows(
    session: Session, plan: MergePlan, schema: TableSchema, settings: TableSettings, table_rows: int = 0
) -> tuple[TableSchema, str]:
    """The columns for a plan's items, and a relation of the session that has their rows.

    Args:
        session: the session of the plan.
        plan: the plan.
        schema: the columns that the table has; none for a new table.
        settings: those of the table.
        table_rows: about how many rows the table has.

    Raises:
        CheckFailed: the items have new attributes, and the table's `schema_evolution` is `fail`.
    """
    living = f"(SELECT * FROM {plan.new_states} WHERE item IS NOT NULL)"

    def project(projection: Projection) -> str:
        session.keep("projected_rows", projection.select(living, ROW_COLUMNS))
        return "projected_rows"

    projection = SessionProjection(session, settings.schema_options, project)
    if schema.columns:
        schema = extend_schema(schema, settings.schema_evolution, projection, table_rows)
    else:
        rows = f"{sample_rows(session, plan)} ROWS (reservoir, 7)"
        sample = session.con.execute(f"SELECT item FROM {living} USING SAMPLE {rows}").fetchall()
        items = sample or session.con.execute(f"SELECT item FROM {living} LIMIT 1").fetchall()
        first, nulls = guess((orjson.loads(item) for (item,) in items), schema, settings.schema_options)
        schema = fit_schema(first, schema, nulls, projection)
    return schema, projection.relation


def sample_rows(session: Session, plan: MergePlan) -> int:
    """The number of a plan's items from which the first guess at the columns comes."""
    return max(1, min(SAMPLE_ROWS, SAMPLE_BYTES // max(1, plan.mean_item_bytes(session))))
