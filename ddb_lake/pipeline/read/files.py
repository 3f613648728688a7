"""Checks that each file named by the metadata of a table's Iceberg tables exists, with the size that was written."""

from __future__ import annotations

from ddb_lake.core.layout.table_names import derived_names
from ddb_lake.lake.inventory import Inventory, take_inventory
from ddb_lake.pipeline.open_lake import Lake


def check_files(lake: Lake, name: str) -> None:
    """Check the files of all Iceberg tables of one table.

    Raises:
        DamagedError: a file that a snapshot, a branch or the state names is missing or has another size, or the branch of
            a loaded export was dropped. The error states the first fault.
    """
    for full_name in derived_names(name, daily=False):
        found = inventory(lake, full_name)
        if found is not None and found.faults:
            raise found.faults[0]


def inventory(lake: Lake, full_name: str) -> Inventory | None:
    """The comparison of an Iceberg table with the files at its location; None if there is no such table.

    Args:
        lake: the open lake.
        full_name: the name of the Iceberg table, with its suffix.

    Raises:
        DamagedError: its metadata, a manifest list or a manifest is missing or damaged.
    """
    table = lake.catalog.table(full_name)
    if table is None:
        return None
    # The metadata is read first: files of a later commit are no fault, and the files of this metadata stay for a day.
    listed = ((ref.uri, ref.size_bytes) for ref in lake.objects.list(f"{table.location()}/"))
    return take_inventory(table, listed, lake.objects.exists)
