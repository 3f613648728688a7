"""The values of a table that are in `_rescued` alone (`engine.misfits`)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ddb_lake.engine.misfits import Misfit, count_misfits
from ddb_lake.lake.scan import scan_table
from ddb_lake.lake.state import CurrentState
from ddb_lake.pipeline.open_lake import Lake

if TYPE_CHECKING:
    from ddb_lake.pipeline.load.load import LoadResult


def find_misfits(lake: Lake, name: str) -> tuple[Misfit, ...]:
    """The attributes of a table with values that no column holds, those with the most values first.

    It reads `_rescued` of all rows. A table without rows has none.

    Raises:
        ConfigError: the table is not configured.
    """
    lake.table(name)
    table = lake.current(name)
    if table is None:
        return ()
    with lake.session() as session:
        return count_misfits(session, scan_table(table).sql(), CurrentState.of(table).schema.columns)


def misfits_of_load(lake: Lake, result: LoadResult) -> tuple[Misfit, ...]:
    """`find_misfits` after a full export. The rows of Spark's tables are not read by this process."""
    read = result.export_type == "FULL" and not result.already_loaded and lake.table(result.table).engine == "duckdb"
    return find_misfits(lake, result.table) if read else ()
