"""Whether the Iceberg tables of a table are there as they were written: each file, and each table that another one refers to."""

from __future__ import annotations

from ddb_lake.core.layout.table_names import CHANGES, QUARANTINE, derived_names
from ddb_lake.errors import DamagedError
from ddb_lake.lake.inventory import Inventory, take_inventory
from ddb_lake.lake.replacement import EARLIER
from ddb_lake.lake.scan import column_bounds
from ddb_lake.lake.state import check_applied
from ddb_lake.pipeline.apply.ledger import read_ledger
from ddb_lake.pipeline.open_lake import Lake


def check_files(lake: Lake, name: str) -> None:
    """Check the Iceberg tables of one table, and their files.

    Raises:
        DamagedError: a file that a snapshot, a branch or the state names is missing or has another size, the branch of
            a loaded export was dropped, or `check_agreement` raises. It is the first fault that was found.
    """
    for full_name in derived_names(name, daily=False):
        found = inventory(lake, full_name)
        if found is not None and found.faults:
            raise found.faults[0]
    check_agreement(lake, name)


def check_agreement(lake: Lake, name: str) -> None:
    """Check that the Iceberg tables of one table have what the others say of them. Reads metadata only.

    Raises:
        DamagedError: `current` or the changelog was registered by an earlier metadata file; the changelog lacks commits that are
            applied to `current`; or the ledger counts rejected records and there is no quarantine.
    """
    hint = f"`ddb-lake rebuild {name}` builds it again from exports and landed objects"
    for full_name in (name, name + CHANGES):
        table = lake.catalog.table(full_name)
        if table is not None and EARLIER in table.properties:
            raise DamagedError(
                "it was registered by an earlier metadata file, because the newest one was lost: its last commits are missing",
                uri=table.metadata_location,
                table=full_name,
                hint=hint,
            )
    current = lake.current(name)
    check_applied(current, lake.changes(name))
    scan = read_ledger(lake, name).scan
    bounds = [column_bounds(file, scan.schema, "rejected") for file in scan.live.data]
    if any(known and known[1] > 0 for known in bounds) and lake.quarantine(name) is None:
        raise DamagedError(
            "it does not exist, and the ledger counts records that were put into it",
            uri="the quarantine",
            table=name + QUARANTINE,
            hint=hint,
        )


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
