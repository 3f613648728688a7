"""Compares the files that a table names with the files at its location, to find missing files and files of another size.

Files are compared with one listing of the location, not by a request for each file.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from pyiceberg.table import Table

from ddb_lake.core.layout.locations import spelled
from ddb_lake.errors import DamagedError
from ddb_lake.lake.metadata_files import live_entries, snapshot_manifests
from ddb_lake.lake.state import lost_branch, lost_exports

_THREADS = 16


@dataclass(frozen=True, slots=True)
class Inventory:
    """The result of a comparison.

    Attributes:
        files: the number of files that the table names.
        faults: an error for each file that is missing or has another size, and for each lost branch of an export.
    """

    files: int
    faults: tuple[DamagedError, ...]


def named_files(table: Table) -> dict[str, int | None]:
    """The URIs of the files of all snapshots, with their sizes in bytes where the table states them.

    These are the newest metadata file, and the manifest lists, manifests, data files, delete files and statistics files of
    each snapshot and branch. Manifests are read by several threads, because each is a request on S3.

    Raises DamagedError if a manifest list or a manifest is missing or damaged.
    """
    name, metadata = table.name()[-1], table.metadata
    found: dict[str, int | None] = {table.metadata_location: None}
    for statistics in (*metadata.statistics, *metadata.partition_statistics):
        found[statistics.statistics_path] = statistics.file_size_in_bytes
    found.update({snapshot.manifest_list: None for snapshot in metadata.snapshots})
    with ThreadPoolExecutor(_THREADS) as threads:
        lists = threads.map(lambda snapshot: snapshot_manifests(table.io, snapshot, name), metadata.snapshots)
        # most manifests belong to many snapshots
        manifests = {manifest.manifest_path: manifest for listed in lists for manifest in listed}
        for entries in threads.map(lambda manifest: live_entries(table.io, manifest, name), manifests.values()):
            found.update({entry.data_file.file_path: entry.data_file.file_size_in_bytes for entry in entries})
    found.update({path: manifest.manifest_length for path, manifest in manifests.items()})
    return found


def take_inventory(table: Table, listed: Iterable[tuple[str, int]], exists: Callable[[str], bool]) -> Inventory:
    """Compare the files that a table names with those at its location, and the branches with its loaded exports.

    Args:
        table: the table.
        listed: URI and size of every file below its location.
        exists: whether a file exists; called for files that the table names at other places.
    """
    there = {spelled(uri): size for uri, size in listed}
    named = named_files(table)
    faults = [lost_branch(table, export) for export in lost_exports(table)]
    for uri, size in named.items():
        present = there.get(spelled(uri))
        if present is None and not exists(uri):
            faults.append(DamagedError("it is not there", uri=uri, table=table.name()[-1]))
        elif present is not None and size is not None and present != size:
            what = f"it has {present} bytes, and {size} were written"
            faults.append(DamagedError(what, uri=uri, table=table.name()[-1]))
    return Inventory(len(named), tuple(faults))
