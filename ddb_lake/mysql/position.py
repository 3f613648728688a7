"""The position of replication: which state of the lake's table a database has, stored there in the rows' transaction."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ddb_lake.core.schema.table_schema import Column, TableSchema
from ddb_lake.mysql.columns import Replicated
from ddb_lake.mysql.statements import STATE, SqlColumn, Target, qualified

if TYPE_CHECKING:
    from ddb_lake.mysql.connection import Database


@dataclass(frozen=True, slots=True)
class Position:
    """The state of `current` that the table in the database has.

    Attributes:
        snapshot_id: the snapshot of the lake's Iceberg table.
        applied_batch: the last applied batch of the changelog.
        base: the id of the newest full export; None without one.
        snapshot_cutoff_us: the snapshot cutoff of that export.
        columns: the lake's columns at that time.
        layout: the replicated columns.
        rows: the number of rows of the lake's table.
    """

    snapshot_id: int
    applied_batch: int
    base: str | None
    snapshot_cutoff_us: int | None
    columns: TableSchema
    layout: tuple[Replicated, ...]
    rows: int

    def dump(self) -> str:
        """The position as a JSON document."""
        return json.dumps(
            {
                "snapshot_id": str(self.snapshot_id),
                "applied_batch": self.applied_batch,
                "base": self.base,
                "horizon_us": self.snapshot_cutoff_us,
                "columns": self.columns.to_json(),
                "layout": [_layout(one) for one in self.layout],
                "rows": self.rows,
            },
            separators=(",", ":"),
        )

    @classmethod
    def load(cls, text: str) -> Position:
        """The inverse of `dump`."""
        found = json.loads(text)
        return cls(
            int(found["snapshot_id"]),
            found["applied_batch"],
            found["base"],
            found["horizon_us"],
            TableSchema.from_json(found["columns"]),
            tuple(_replicated(one) for one in found["layout"]),
            found["rows"],
        )


def _layout(one: Replicated) -> list[Any]:
    path, tag, name, kind, *role = one.column.to_json()
    return [path, tag, name, kind, one.sql.name, one.sql.type, *role]


def _replicated(document: list[Any]) -> Replicated:
    path, tag, name, kind, sql_name, sql_type, *role = document
    return Replicated(Column.from_json([path, tag, name, kind, *role]), SqlColumn(sql_name, sql_type))


def read_position(database: Database, target: Target) -> Position | None:
    """The position of a table; None before its first replication."""
    text = database.value(
        f"SELECT position FROM {qualified(target.database, STATE)} WHERE target = %s", (target.table,)
    )
    return Position.load(text) if text is not None else None


def write_position(database: Database, target: Target, position: Position) -> None:
    """Set the position, in the transaction of the rows."""
    database.execute(
        f"UPDATE {qualified(target.database, STATE)} SET position = %s, changed_at = UTC_TIMESTAMP(6) WHERE target = %s",
        (position.dump(), target.table),
    )
