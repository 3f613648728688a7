"""The values of a table that are in `_rescued` alone (`engine.misfits`)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ddb_lake.core.layout.table_names import entity_table
from ddb_lake.core.schema.key_patterns import part_path
from ddb_lake.core.schema.table_schema import pointer
from ddb_lake.engine.misfits import Misfit, count_misfits
from ddb_lake.lake.entity_state import EntityState
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


def find_entity_misfits(lake: Lake, name: str) -> dict[str, tuple[Misfit, ...]]:
    """As `find_misfits`, for the table of each entity that has such attributes, by the table's name.

    An entity has columns of its own, so a type that is rare in it may have a column in `current` only. Parts of keys are not
    attributes; the check `entities_complete` counts them.

    Raises:
        ConfigError: the table is not configured.
    """
    found = {}
    for entity in lake.table(name).entities:
        full_name = entity_table(name, entity.name)
        table = lake.readable(full_name)
        state = EntityState.of(table) if table is not None else None
        if table is None or state is None:
            continue
        with lake.session() as session:
            misfits = count_misfits(session, scan_table(table).sql(), state.schema.columns)
        parts = {pointer(part_path(part)) for part in entity.rule.parts}
        if attributes := tuple(one for one in misfits if one.pointer not in parts):
            found[full_name] = attributes
    return found


def misfits_of_load(lake: Lake, result: LoadResult) -> tuple[Misfit, ...]:
    """`find_misfits` after a full export. The rows of Spark's tables are not read by this process."""
    is_read = _is_new_base(result) and lake.table(result.table).engine == "duckdb"
    return find_misfits(lake, result.table) if is_read else ()


def entity_misfits_of_load(lake: Lake, result: LoadResult) -> dict[str, tuple[Misfit, ...]]:
    """`find_entity_misfits` after a full export."""
    return find_entity_misfits(lake, result.table) if _is_new_base(result) else {}


def _is_new_base(result: LoadResult) -> bool:
    return result.export_type == "FULL" and not result.already_loaded
