"""The ledger of a lake of format 1 (`lake.lake_format`): Parquet files that a property of the changelog names.

Until such a lake is upgraded, these files are its ledger. They are in no Iceberg metadata, so other tools may have deleted them as
orphan files. The rows of deleted files are derived from the changelog.
"""

from __future__ import annotations

import json
from dataclasses import dataclass

from pyiceberg.table import Table

from ddb_lake.engine.sql import literal
from ddb_lake.lake.lake_format import format_of
from ddb_lake.lake.scan import TableScan, scan_table
from ddb_lake.lake.schemas import OBJECTS_COLUMNS, fixed_schema

_LEDGER = "ddb_lake.ledger"


@dataclass(frozen=True, slots=True)
class Format1Ledger:
    """The ledger of a changelog of format 1.

    Attributes:
        changes: the changelog.
        paths: the files of the ledger that exist.
        lost: the files that the changelog names and that do not exist.
        rows: the number of rows that all these files had.
    """

    changes: Table
    paths: tuple[str, ...] = ()
    lost: tuple[str, ...] = ()
    rows: int = 0

    @classmethod
    def of(cls, changes: Table) -> Format1Ledger | None:
        """The ledger of a changelog; None if the changelog has the present format."""
        if format_of(changes.properties) > 1:
            return None
        named = json.loads(changes.properties.get(_LEDGER, "[]"))
        exist = {path: changes.io.new_input(path).exists() for path, _ in named}
        return cls(
            changes,
            tuple(path for path, there in exist.items() if there),
            tuple(path for path, there in exist.items() if not there),
            sum(rows for _, rows in named),
        )

    def sql(self) -> str:
        """A relation with the columns `OBJECTS_COLUMNS`. Columns that these files lack are NULL."""
        rows = TableScan(fixed_schema(OBJECTS_COLUMNS)).sql()
        if self.paths:
            relations = [rows, *(f"SELECT * FROM read_parquet({literal(path)})" for path in self.paths)]
            rows = f"(SELECT {', '.join(OBJECTS_COLUMNS)} FROM ({' UNION ALL BY NAME '.join(relations)}))"
        if not self.lost:
            return rows
        derived = objects_of_changelog(self.changes)
        return f"(FROM {rows} UNION ALL BY NAME SELECT d.* FROM {derived} d ANTI JOIN {rows} r ON r.object = d.object)"


def objects_of_changelog(changes: Table) -> str:
    """The rows of the ledger that can be derived from the changelog: a relation with some of the columns `OBJECTS_COLUMNS`.

    It has the objects from which records are in the changelog, without their versions. `records` and `new` are the number of these
    records.
    """
    return (
        "(SELECT object, max(arrival_hour) AS arrival_hour, count(*) AS records, count(*) AS new"
        f" FROM {scan_table(changes).sql()} GROUP BY object)"
    )
