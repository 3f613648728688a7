"""Is an export, or the source itself, the table that the lake's items are of? A table that is deleted and created again has another id.

Its new changes do not mention the old items: applied over the old table's rows they would mix both tables.
So an export with an unknown id is refused, unless it is a full one and the user confirms that it replaces the old items.
"""

from __future__ import annotations

from ddb_lake.core.layout.export_manifest import ExportSummary
from ddb_lake.errors import UsageError
from ddb_lake.lake.state import base_export, current_state
from ddb_lake.pipeline.open_lake import Lake


def source_id(lake: Lake, table: str) -> str | None:
    """The id of the source table that the newest loaded export is of; None if there is none that says it."""
    base = base_export(lake.current(table))
    return base.table_id if base is not None else None


def check_source(lake: Lake, table: str, found: str | None) -> None:
    """Raise UsageError if the source's id is not that of the table that the lake's items are of; unknown ids pass."""
    known = source_id(lake, table)
    if found is None or known is None or found == known:
        return
    raise UsageError(
        f"the source has the id {found}, the lake's items are of the table with the id {known}: "
        f"{lake.table(table).source_name} was deleted and created again, so that its items say nothing "
        f"of the lake's. Take a full export of the new table and load that with `ddb-lake load {table} "
        "URI --recreated`",
        table=table,
    )


def check_origin(lake: Lake, table: str, summary: ExportSummary, recreated: bool = False) -> None:
    """Raise UsageError if the export is of another table than the lake's items, unless the user confirmed that.

    Exports of a table that was the source before are known and may be loaded, as history.
    """
    current = lake.current(table)
    state = current_state(current)
    base = state.base if state is not None else None
    if state is None or base is None or base.table_id is None:
        return
    if summary.table_id in {export.table_id for export in state.exports}:
        return
    if recreated and summary.export_type == "FULL" and summary.as_of_us > base.export_us:
        return
    raise UsageError(
        f"export {summary.export_id} is of the table with the id {summary.table_id}, the lake's items "
        f"are of the one with the id {base.table_id}: {summary.table_name} was deleted and created "
        f"again, or this is another table. {_way(table, summary, base.export_us)}",
        table=table,
    )


def _way(table: str, summary: ExportSummary, base_us: int) -> str:
    other = "or load it into a lake table of its own (`name: another`, `source: {table: ...}`)"
    if summary.export_type == "FULL" and summary.as_of_us > base_us:
        return f"Let it replace the old table's items with `ddb-lake load {table} URI --recreated`, {other}"
    return f"Take a full export of the new table and load that first, with `--recreated`, {other}"
