"""Compares the files that a table names with the files at its location, to find missing files and files of another size."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from pyarrow.parquet import read_metadata
from pyiceberg.table import Table

from ddb_lake.config.locations import spelled
from ddb_lake.core.operations.library_errors import reading
from ddb_lake.errors import DamagedError
from ddb_lake.lake.manifests import live_entries, snapshot_manifests
from ddb_lake.lake.sidecar import ADDED_COLUMNS, LEDGER_COLUMNS, TOMBSTONE_COLUMNS
from ddb_lake.lake.state import sidecars_of


@dataclass(frozen=True, slots=True)
class Inventory:
    """The result of a comparison.

    Attributes:
        files: the number of files that the table names.
        faults: a clause for each file that is missing or has another size.
    """

    files: int
    faults: tuple[str, ...]


def sidecar_files(table: Table) -> list[str]:
    """The files of the table's tombstones and ledger."""
    return [path for sidecar in sidecars_of(table.properties) for path in sidecar.paths]


def named_files(table: Table) -> dict[str, int | None]:
    """The URIs of the files of all snapshots, with their sizes in bytes where the table states them.

    Raises DamagedError if a manifest list or a manifest is missing or damaged.
    """
    name = table.name()[-1]
    found: dict[str, int | None] = {table.metadata_location: None, **dict.fromkeys(sidecar_files(table))}
    for snapshot in table.metadata.snapshots:
        found[snapshot.manifest_list] = None
        for manifest in snapshot_manifests(table.io, snapshot, name):
            if manifest.manifest_path in found:  # most manifests belong to many snapshots
                continue
            found[manifest.manifest_path] = manifest.manifest_length
            for entry in live_entries(table.io, manifest, name):
                found[entry.data_file.file_path] = entry.data_file.file_size_in_bytes
    return found


def check_sidecars(table: Table, local_only: bool = False) -> None:
    """Read the footers of the table's sidecar files. Raises DamagedError if the table states another number of rows.

    Args:
        table: the table.
        local_only: leave out files in S3, which take a request each.
    """
    name = table.name()[-1]
    for sidecar, columns in zip(sidecars_of(table.properties), (TOMBSTONE_COLUMNS, LEDGER_COLUMNS), strict=True):
        for file in sidecar.files:
            if local_only and "://" in file.path.removeprefix("file://"):
                continue
            with reading(file.path, name), table.io.new_input(file.path).open() as stream:
                footer = read_metadata(stream)
            names = set(footer.schema.to_arrow_schema().names)
            if footer.num_rows != file.rows or not set(columns) - ADDED_COLUMNS <= names <= set(columns):
                what = f"it has {footer.num_rows} rows, where {file.rows} of {', '.join(columns)} were written"
                raise DamagedError(what, uri=file.path, table=name)


def take_inventory(table: Table, listed: Iterable[tuple[str, int]], exists: Callable[[str], bool]) -> Inventory:
    """Compare the files that a table names with those at its location.

    Args:
        table: the table.
        listed: URI and size of every file below its location.
        exists: whether a file exists; called for files that the table names at other places.
    """
    there = {spelled(uri): size for uri, size in listed}
    named = named_files(table)
    check_sidecars(table)
    faults = []
    for uri, size in named.items():
        found = there.get(spelled(uri))
        if found is None and not exists(uri):
            faults.append(f"{uri} is not there")
        elif found is not None and size is not None and found != size:
            faults.append(f"{uri} has {found} bytes, and {size} were written")
    return Inventory(len(named), tuple(faults))
