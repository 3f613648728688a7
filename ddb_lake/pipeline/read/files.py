"""Whether the Iceberg tables of a table are there as they were written: each file, and each table that another one refers to."""

from __future__ import annotations

from ddb_lake.core.layout.table_names import CHANGES, ERASURES, QUARANTINE
from ddb_lake.core.operations.count_text import count_text
from ddb_lake.errors import DamagedError
from ddb_lake.lake.inventory import Inventory, take_inventory
from ddb_lake.lake.replacement import EARLIER, PLACEHOLDER
from ddb_lake.lake.scan import column_bounds
from ddb_lake.pipeline.agreement import agreeing_tables
from ddb_lake.pipeline.apply.ledger import read_ledger
from ddb_lake.pipeline.open_lake import Lake


def check_files(lake: Lake, name: str) -> None:
    """Check the Iceberg tables of one table, and their files.

    Raises:
        DamagedError: a file that a snapshot, a branch or the state names is missing or has another size, the branch of
            a loaded export was dropped, or `check_agreement` raises. It is the first fault that was found.
    """
    for full_name in lake.table(name).iceberg_names:
        found = inventory(lake, full_name)
        if found is not None and found.faults:
            raise found.faults[0]
    check_agreement(lake, name)


def check_agreement(lake: Lake, name: str) -> None:
    """Check that the Iceberg tables of one table have what the others say of them. Reads metadata only.

    Raises:
        DamagedError: a table was created by a rebuild that was interrupted; `current` or the changelog was registered by an
            earlier metadata file; one of them lacks commits that the other one names (`pipeline.agreement`); a file of a ledger
            of format 1 is missing; or the ledger counts rejected records and there is no quarantine.
    """
    hint = f"`ddb-lake rebuild {name}` builds it again from exports and landed objects"
    for full_name in lake.table(name).iceberg_names:
        table = lake.catalog.table(full_name)
        if table is not None and PLACEHOLDER in table.properties:
            raise DamagedError(
                "it has no contents: a rebuild created it, and was interrupted",
                uri=table.metadata_location,
                table=full_name,
                hint=f"`ddb-lake rebuild {name}` continues",
            )
        if table is not None and full_name in (name, name + CHANGES, name + ERASURES) and EARLIER in table.properties:
            raise DamagedError(
                "it was registered by an earlier metadata file, because the newest one was lost: its last commits are missing",
                uri=table.metadata_location,
                table=full_name,
                hint=hint,
            )
    agreeing_tables(lake, name)
    ledger = read_ledger(lake, name)
    if ledger.format_1 is not None and ledger.format_1.lost:
        raise DamagedError(
            f"it does not exist, and {count_text(len(ledger.format_1.lost) - 1, 'other file')} of the ledger that an earlier release wrote",
            uri=ledger.format_1.lost[0],
            table=name + CHANGES,
            hint=f"`ddb-lake rebuild {name} --state` derives the ledger from the changelog",
        )
    scan = ledger.scan
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
