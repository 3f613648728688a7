"""Compares the files that a table names with the files at its location, to find missing files and files of another size.

Files are compared with one listing of the location, not by a request for each file.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from pyarrow.parquet import read_metadata
from pyiceberg.table import Table

from ddb_lake.config.locations import spelled
from ddb_lake.core.operations.library_errors import reading
from ddb_lake.errors import DamagedError
from ddb_lake.lake.manifests import live_entries, snapshot_manifests
from ddb_lake.lake.sidecar import TOMBSTONE_COLUMNS
from ddb_lake.lake.state import lost_branch, lost_exports, sidecars_of

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


def sidecar_files(table: Table) -> list[str]:
    """The files of the table's tombstones and ledger."""
    return [path for sidecar in sidecars_of(table.properties) for path in sidecar.paths]


def named_files(table: Table) -> dict[str, int | None]:
    """The URIs of the files of all snapshots, with their sizes in bytes where the table states them.

    These are the newest metadata file, and the manifest lists, manifests, data files, delete files and statistics files of
    each snapshot and branch. Manifests are read by several threads, because each is a request on S3.

    Raises DamagedError if a manifest list or a manifest is missing or damaged.
    """
    name, metadata = table.name()[-1], table.metadata
    found: dict[str, int | None] = {table.metadata_location: None, **dict.fromkeys(sidecar_files(table))}
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


def check_sidecars(table: Table, local_only: bool = False) -> None:
    """Read the footers of the table's sidecar files. Raises DamagedError if the table states another number of rows.

    Args:
        table: the table.
        local_only: leave out files in S3, which take a request each.
    """
    name = table.name()[-1]
    for sidecar, columns in zip(sidecars_of(table.properties), (TOMBSTONE_COLUMNS,), strict=True):
        for file in sidecar.files:
            if local_only and "://" in file.path.removeprefix("file://"):
                continue
            with reading(file.path, name), table.io.new_input(file.path).open() as stream:
                footer = read_metadata(stream)
            names = set(footer.schema.to_arrow_schema().names)
            if footer.num_rows != file.rows or names != set(columns):
                what = f"it has {footer.num_rows} rows, where {file.rows} of {', '.join(columns)} were written"
                raise DamagedError(what, uri=file.path, table=name)


def take_inventory(table: Table, listed: Iterable[tuple[str, int]], exists: Callable[[str], bool]) -> Inventory:
    """Compare the files that a table names with those at its location, and the branches with its loaded exports.

    Args:
        table: the table.
        listed: URI and size of every file below its location.
        exists: whether a file exists; called for files that the table names at other places.
    """
    there = {spelled(uri): size for uri, size in listed}
    named = named_files(table)
    check_sidecars(table)
    faults = [lost_branch(table, export) for export in lost_exports(table)]
    for uri, size in named.items():
        present = there.get(spelled(uri))
        if present is None and not exists(uri):
            faults.append(DamagedError("it is not there", uri=uri, table=table.name()[-1]))
        elif present is not None and size is not None and present != size:
            what = f"it has {present} bytes, and {size} were written"
            faults.append(DamagedError(what, uri=uri, table=table.name()[-1]))
    return Inventory(len(named), tuple(faults))
