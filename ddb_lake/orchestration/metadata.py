"""The metadata of materializations: figures to plot, columns, the table's place, a few rows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import dagster as dg
from pyiceberg.table import Table

from ddb_lake.config import TableSettings
from ddb_lake.core.layout.table_names import CHANGES, entity_table
from ddb_lake.core.operations.count_text import count_text
from ddb_lake.core.operations.display_text import escape_controls, escape_markdown
from ddb_lake.core.schema.table_schema import NameCollision, TableSchema, name_collisions
from ddb_lake.engine.sql import carried, identifier, literal
from ddb_lake.lake.entity_state import EntityState
from ddb_lake.lake.scan import column_bounds, data_files, live_files, scan_table
from ddb_lake.lake.schemas import duckdb_type, metadata_columns
from ddb_lake.lake.state import CurrentState
from ddb_lake.pipeline.apply.apply import ApplyResult
from ddb_lake.pipeline.apply.changelog import IngestResult
from ddb_lake.pipeline.load.load import LoadResult
from ddb_lake.pipeline.merge.current import CurrentResult
from ddb_lake.pipeline.open_lake import Lake
from ddb_lake.pipeline.read.status import table_status

PREVIEW_ROWS = 3
PREVIEW_COLUMNS = 40
PREVIEW_CHARACTERS = 20
"""The most characters of a column's name and of a value in the sample. At 1,280 pixels, Dagster leaves about 30 for a line of metadata,
and a word that is longer makes the page wider than its panel."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_METADATA = metadata_columns(keep_expired=True)
_HIDDEN = ("_key_hash", "_rescued")
_EVENTS = {"INSERT": "inserted", "MODIFY": "modified", "REMOVE": "deleted"}
MASKED = "•••"


def place(lake: Lake, name: str, table: Table) -> dict[str, Any]:
    """Where a table is, and its columns, under Dagster's own names."""
    return {
        "dagster/table_name": ".".join(lake.catalog.identifier(name)),
        "dagster/uri": table.location(),
        "dagster/column_schema": column_schema(table),
    }


def column_schema(table: Table) -> dg.TableSchema:
    """The columns of an Iceberg table with their types; the description is the path in the item."""
    return dg.TableSchema(
        columns=[
            dg.TableColumn(
                field.name, duckdb_type(field.field_type).lower(), description=field.doc and escape_markdown(field.doc)
            )
            for field in table.schema().fields
        ]
    )


def column_types(schema: dg.TableSchema) -> dict[str, str]:
    """The types of the columns by name."""
    return {column.name: column.type for column in schema.columns}


def changes_metadata(lake: Lake, table: str, result: ApplyResult) -> dict[str, Any]:
    """What applying landed objects did to the changelog."""
    found = result.tables.get(table, IngestResult(table))
    metadata: dict[str, Any] = {
        "objects": result.objects,
        "objects already ingested": result.already_ingested,
        "records": found.records,
        "new": found.new,
        "duplicates": found.duplicates,
        "quarantined": found.quarantined,
        "seconds": round(result.seconds, 3),
    }
    if found.refused:
        metadata["records of erased keys refused"] = found.refused
    if found.left_out:
        metadata["records left out by `filter`"] = found.left_out
    if result.doubts and result.objects:  # the folder of an hour may be empty
        metadata["in doubt"] = _listed(result.doubts)
    if result.other_tables:
        others = {escape_controls(name): count for name, count in result.other_tables.items()}
        metadata["records of tables not configured"] = dg.MetadataValue.json(others)
    for event, label in _EVENTS.items():
        metadata[label] = found.by_event.get(event, 0)
    current = result.current.get(table)
    if current is not None:
        metadata["conflicting keys"] = current.late
    changes = lake.changes(table)
    if changes is not None:
        metadata |= place(lake, table + CHANGES, changes)
        metadata["dagster/row_count"] = live_files(changes).rows
    return metadata


def rows_by_hour(lake: Lake, name: str, hours: Collection[datetime]) -> Counter[datetime]:
    """The records of a table's changelog that arrived in some hours. Only files of several hours are read for it."""
    rows: Counter[datetime] = Counter()
    changes = lake.changes(name)
    if changes is None or not hours:
        return rows
    first, last = (_microseconds(hour) for hour in (min(hours), max(hours)))
    merged = []
    for file in data_files(changes, lambda ranges: ranges.overlaps("arrival_hour", first, last)):
        bounds = column_bounds(file, changes.schema(), "arrival_hour")
        if bounds is None or bounds[0] != bounds[1]:
            merged.append(file.file_path)
        else:
            rows[_EPOCH + timedelta(microseconds=bounds[0])] += file.record_count
    if merged:
        read = f"SELECT epoch_us(arrival_hour), count(*) FROM {scan_table(changes).sql(merged)} GROUP BY ALL"
        with lake.session() as session:
            for hour_us, count in session.rows(read):
                rows[_EPOCH + timedelta(microseconds=hour_us)] += count
    return rows


def _microseconds(hour: datetime) -> int:
    return (hour - _EPOCH) // timedelta(microseconds=1)


def current_metadata(lake: Lake, name: str, result: CurrentResult | None = None) -> dict[str, Any]:
    """How `current` is, and what bringing it up to date did."""
    found = table_status(lake, name)
    metadata: dict[str, Any] = {
        "dagster/row_count": found.rows,
        "columns": found.columns,
        "files": found.files,
        "delete files": found.delete_files,
        "deleted rows": found.deleted_rows,
        "delete share": _share(found.deleted_rows, found.rows + found.deleted_rows),
        "bytes": found.bytes,
        "pending batches": found.pending_batches,
    }
    if result is not None:
        metadata |= {
            "changed": result.changed,
            "upserted": result.upserted,
            "removed": result.removed,
            "conflicting keys": result.late,
            "seconds": round(result.seconds, 3),
        }
        if result.misfits:
            metadata["new values in no column"] = _listed(f"{one}; {one.advice}" for one in result.misfits)
    if found.name_collisions:
        metadata["name collisions"] = _listed(found.name_collisions)
    if found.lag_s is not None:
        metadata["lag seconds"] = round(found.lag_s, 3)
    for label, at_us in (("watermark", found.watermark_us), ("snapshot cutoff", found.horizon_us)):
        if at_us is not None:
            metadata[label] = dg.MetadataValue.timestamp(at_us / 1e6)
    table = lake.current(name)
    if table is not None:
        metadata |= place(lake, name, table)
        metadata["snapshot"] = str(found.snapshot_id)  # as a number it would lose digits in the browser
        metadata["rescued share"] = rescued_share(table)
        metadata["preview"] = preview(lake, lake.table(name), table)
    return metadata


def entity_metadata(lake: Lake, name: str, entity: str, result: CurrentResult | None = None) -> dict[str, Any]:
    """How the table of an entity is, and what the last update of it did. It shows no rows: parts of keys are values, too."""
    full_name = entity_table(name, entity)
    table = lake.readable(full_name)
    if table is None:
        return {}
    live = live_files(table)
    metadata: dict[str, Any] = {
        "dagster/row_count": live.rows,
        "columns": len(table.schema().fields),
        "files": len(live.data),
        "delete files": len(live.deletes),
        "bytes": live.bytes,
        **place(lake, full_name, table),
    }
    state = EntityState.of(table)
    if state is not None:
        metadata["snapshot of current"] = str(state.snapshot_id)
        if collisions := name_collisions(state.schema):
            metadata["name collisions"] = _listed(collisions)
    for one in result.entities if result is not None else ():
        if one.entity == entity:
            metadata |= {"rows added": one.added, "rows deleted": one.deleted}
            metadata |= {"all rows were written, because": one.rewritten} if one.rewritten else {}
            if one.misfits:
                metadata["new values in no column"] = _listed(f"{misfit}; {misfit.advice}" for misfit in one.misfits)
    return metadata


def collisions_of(table: Table) -> tuple[NameCollision, ...]:
    """The columns of a table whose names carry a suffix."""
    return name_collisions(CurrentState.of(table).schema)


def _listed(lines: Iterable[object]) -> dg.MarkdownMetadataValue:
    return dg.MetadataValue.md("\n".join(f"- {escape_markdown(str(line))}" for line in lines))


def snapshot_metadata(lake: Lake, name: str, result: LoadResult) -> dict[str, Any]:
    """The export that was loaded, and what it made of the table."""
    metadata: dict[str, Any] = {
        "dagster/row_count": result.items,
        "export": result.export_id,
        "export type": result.export_type,
        "export time": dg.MetadataValue.timestamp(result.export_us / 1e6),
        "data files": result.files,
        "already loaded": yes_or_no(result.already_loaded),
        "living rows": result.rows,
        "seconds": round(result.seconds, 3),
    }
    if result.horizon_us is not None:
        metadata["snapshot cutoff"] = dg.MetadataValue.timestamp(result.horizon_us / 1e6)
    if result.doubts:
        metadata["in doubt"] = _listed(result.doubts)
    if result.notes:
        metadata["notes"] = _listed(result.notes)
    if result.name_collisions:
        metadata["name collisions"] = _listed(result.name_collisions)
    if result.misfits:
        metadata["values in no column"] = _listed(f"{one}; {one.advice}" for one in result.misfits)
    if result.entity_misfits:
        lines = (f"{table}: {one}; {one.advice}" for table, several in result.entity_misfits.items() for one in several)
        metadata["values in no column of an entity"] = _listed(lines)
    table = lake.current(name)
    if table is not None:
        metadata |= place(lake, name, table)
    return metadata


def yes_or_no(value: bool) -> str:
    """A truth value for people."""
    return "yes" if value else "no"


def rescued_share(table: Table) -> float:
    """The share of rows with rescued data, from the table's manifests; deleted rows that are still in files count too."""
    live = live_files(table)
    field = table.schema().find_field("_rescued").field_id
    rows = sum(file.record_count for file in live.data)
    empty = sum((file.null_value_counts or {}).get(field, 0) for file in live.data)
    return _share(rows - empty, rows)


@dataclass(frozen=True, slots=True)
class _Cells:
    columns: tuple[str, ...]
    left_out: int


def preview(lake: Lake, settings: TableSettings, table: Table) -> dg.TableMetadataValue:
    """A table of a few living rows: a line for each column, with its values in these rows. It fits in the panel.

    Values of masked attributes are not read to be shown.
    """
    cells = _shown(table)
    masked = masked_columns(settings, CurrentState.of(table).schema)
    names = ", ".join(_selected(field, field in masked) for field in cells.columns)
    with lake.session() as session:
        rows = [
            row
            for source in _some_files(table)
            for row in session.rows(f"SELECT {names} FROM {source} LIMIT {PREVIEW_ROWS}")
        ]
    sample = rows[:PREVIEW_ROWS]
    lines = [
        f"{_cut(name)}: {' · '.join(_cut(_text(row[place])) for row in sample)}"
        for place, name in enumerate(cells.columns)
    ]
    if cells.left_out:
        lines.append(f"and {count_text(cells.left_out, 'more column')}")
    header = f"values in {count_text(len(sample), 'row')}"
    return dg.TableMetadataValue(
        [dg.TableRecord({header: line}) for line in lines], dg.TableSchema([dg.TableColumn(header)])
    )


def masked_columns(settings: TableSettings, schema: TableSchema) -> set[str]:
    """The columns whose values no sample shows."""
    return {column.name for column in schema.columns if settings.masks(column.path)}


def _selected(column: str, masked: bool) -> str:
    name = identifier(column) if column in _METADATA else carried(column)
    return f"CASE WHEN {name} IS NOT NULL THEN {literal(MASKED)} END" if masked else name


def _some_files(table: Table) -> Iterator[str]:
    """Relations of the living rows of a few files: reading one costs the same however large the table is."""
    scan = scan_table(table)
    for path in scan.paths[:PREVIEW_ROWS]:
        yield scan.sql([path])


def _shown(table: Table) -> _Cells:
    names = [field.name for field in table.schema().fields if field.name not in _HIDDEN]
    own = [name for name in names if name not in _METADATA]
    marks = [name for name in names if name in _METADATA]
    shown = own[: PREVIEW_COLUMNS - len(marks)] + marks
    return _Cells(tuple(shown), len(names) - len(shown))


def markdown_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table of texts."""
    lines = [_line([_cell(column) for column in columns]), _line(["---"] * len(columns))]
    return "\n".join([*lines, *(_line([_cell(value) for value in row]) for row in rows)])


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _cell(text: str) -> str:
    return escape_markdown(" ".join(text.split())).replace("`", "\\`")


def _text(value: Any) -> str:
    """A value of the sample on one line."""
    if value is None:
        return "NULL"
    if isinstance(value, list):
        return f"[{', '.join(map(_text, value))}]"
    text = value.hex() if isinstance(value, bytes | bytearray) else str(value)
    return escape_controls(" ".join(text.split())) or '""'


def _cut(text: str) -> str:
    return text if len(text) <= PREVIEW_CHARACTERS else text[: PREVIEW_CHARACTERS - 1] + "…"


def _share(part: int, whole: int) -> float:
    return round(part / whole, 6) if whole else 0.0
