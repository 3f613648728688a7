"""The format of a lake: a number in the properties of each Iceberg table. A release refuses a table whose format it does not know.

A lake of format 1 has no such property. Its ledger and its tombstones are Parquet files that table properties name
(`pipeline.apply.format_1`). In format 2 the ledger is an Iceberg table, and removals are read from the changelog.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from pyiceberg.table import Table

from ddb_lake.core.operations.release import release
from ddb_lake.errors import UsageError

FORMAT: Final = 2
"""The format that this release writes. It also reads earlier ones."""

ICEBERG_VERSION: Final = 2
"""The version of Iceberg's format of every table. https://iceberg.apache.org/spec/#format-versioning"""

_FORMAT: Final = "ddb_lake.format"
_RELEASE: Final = "ddb_lake.release"

REFUSED_BY_FORMAT_1: Final = '"ddb_lake: format 2"'
"""The value of the properties that named files in format 1. Releases that know only format 1 cannot parse it. So they stop with an
error, and do not read an empty ledger."""


def format_properties() -> dict[str, str]:
    """The properties that state the present format, and the release that writes it."""
    return {_FORMAT: str(FORMAT), _RELEASE: release()}


def format_of(properties: Mapping[str, str]) -> int:
    """The format of a table with these properties."""
    return int(properties.get(_FORMAT, "1"))


def check_format(table: Table) -> None:
    """Raise UsageError if the table has a format of a later release, or version 3 of Iceberg's format.

    `lake.scan` does not read the deletion vectors of version 3, so it would return deleted rows.
    """
    if table.metadata.format_version > ICEBERG_VERSION:
        raise UsageError(
            f"it has version {table.metadata.format_version} of Iceberg's format, which another program gave it;"
            f" ddb_lake reads and writes version {ICEBERG_VERSION}",
            table=table.name()[-1],
            hint="load and apply it again in another warehouse; the landing objects have all of it",
        )
    found = format_of(table.properties)
    if found > FORMAT:
        needed = table.properties.get(_RELEASE, "a later release")
        raise UsageError(
            f"ddb_lake {needed} wrote it in format {found}, and this release ({release()}) knows formats up to {FORMAT}",
            table=table.name()[-1],
            hint=f"install ddb_lake {needed} or later",
        )
