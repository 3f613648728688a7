"""Proves that the files below a table's location belong to the table. Without this proof none of them may be removed.

A table may be registered with a location that is not its own: another table's, the warehouse, or a folder above or
below another table. Catalogs accept that, and a symbolic link gives the same result. Files that this table does not name
are then another table's rows.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterable
from typing import Any

from pyiceberg.table import Table

from ddb_lake.core.layout.locations import is_within, resolved, spelled
from ddb_lake.core.layout.table_names import WAREHOUSE_FOLDERS
from ddb_lake.errors import DdbLakeError
from ddb_lake.lake.catalog import TABLE_NAME, WORKING, LakeCatalog

_FOLDERS = ("data", "metadata", "scratch", "sidecar")  # the last is of lakes of format 1
_WRITTEN = re.compile(r".*\.(parquet|avro|metadata\.json)")
_METADATA = re.compile(r".*\.metadata\.json")


def written_by_tables(uri: str, location: str) -> bool:
    """Whether the place and the name of a file below a table's location are those that writers of Iceberg tables use."""
    inner = spelled(uri).removeprefix(resolved(location).rstrip("/") + "/")
    return inner.split("/", 1)[0] in _FOLDERS and _WRITTEN.fullmatch(inner) is not None


def location_fault(catalog: LakeCatalog, location: str, landed: Iterable[str]) -> str | None:
    """Other files that the configuration places at, above or below a location, as a clause; None if there are none.

    Args:
        catalog: the catalog of the lake.
        location: the location of one of its tables.
        landed: the folders and prefixes that changes and exports of the lake's tables are read from.
    """
    warehouse = catalog.warehouse
    if is_within(warehouse, location):
        return f"its location {location} is the warehouse, or contains it"
    for folder in WAREHOUSE_FOLDERS:
        kept = f"{warehouse}/{folder}"
        if is_within(location, kept) or is_within(kept, location):
            return f"its location {location} overlaps {kept}, where the lake keeps other files"
    for uri in landed:
        if is_within(uri, location):
            return f"{uri}, where changes or exports land, is within its location {location}"
    return None


def foreign_claim(catalog: LakeCatalog, table: Table, found: Collection[str], named: Collection[str]) -> str | None:
    """The reason why files below the table's location may be another table's; None if it is proved that they are not.

    Args:
        catalog: the catalog of the lake.
        table: the table, loaded after `found` was listed.
        found: every file below its location.
        named: the files that the table names, as `spelled` writes paths.
    """
    there = {spelled(uri) for uri in found}
    if spelled(table.metadata_location) not in there:
        return f"its metadata {table.metadata_location} is not among the files at its location {table.location()}"
    lost = [
        path
        for path in named
        if is_below(path, table.location()) and path not in there and not _METADATA.fullmatch(path)
    ]
    if lost:
        return f"{lost[0]}, which it names, is not there"
    for uri in found:
        if _METADATA.fullmatch(uri) and spelled(uri) not in named and _is_of_another(table, uri):
            return f"{uri} is the metadata of another table"
    try:
        for name, location in catalog.locations():
            if name == tuple(table.name()):
                continue
            if is_within(location, table.location()) or is_within(table.location(), location):
                return f"table {'.'.join(name)} has its files at {location}, which overlaps {table.location()}"
    except DdbLakeError as error:
        return f"the locations of the catalog's other tables cannot be compared with its own: {error}"
    return None


def rebuild_claim(table: Table, young: Iterable[str]) -> str | None:
    """The reason why files below the table's location may be those of a rebuild under way; None if there is no such rebuild.

    Args:
        table: the table.
        young: files below its location that are too young to be removed. A rebuild commits more often than that.
    """
    for uri in young:
        if _METADATA.fullmatch(uri) and WORKING in _metadata(table, uri).get("properties", {}):
            return f"{uri} is the metadata of a rebuild that may be under way"
    return None


def is_below(path: str, location: str) -> bool:
    """Whether a `spelled` path is below a location."""
    return path.startswith(resolved(location).rstrip("/") + "/")


def _is_of_another(table: Table, uri: str) -> bool:
    """Whether a metadata file has the UUID of another table. A file that a crash cut short has no UUID.

    What an interrupted rebuild or an interrupted creation leaves is this table's.
    """
    document = _metadata(table, uri)
    if not document or WORKING in document.get("properties", {}) or _is_abandoned_creation(table, document):
        return False
    return str(document.get("table-uuid")) != str(table.metadata.table_uuid)


def _is_abandoned_creation(table: Table, document: dict[str, Any]) -> bool:
    """Whether a process that created this table was killed after it wrote the first metadata file and before the catalog had it.

    The next creation has another UUID. A table that is in use has snapshots, or a log of earlier metadata.
    """
    return (
        not document.get("snapshots")
        and not document.get("metadata-log")
        and document.get("location") == table.location()
        and document.get("properties", {}).get(TABLE_NAME) == table.properties.get(TABLE_NAME, "")
    )


def _metadata(table: Table, uri: str) -> dict[str, Any]:
    """A metadata file; empty if it is gone or cut short."""
    try:
        with table.io.new_input(uri).open() as stream:
            document: dict[str, Any] = json.loads(stream.read())
    except (FileNotFoundError, ValueError):
        return {}
    return document
