"""Housekeeping of Iceberg tables: old snapshots, and files of crashed writers. Never a live file."""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator, Mapping
from contextlib import suppress
from datetime import datetime

from pyiceberg.exceptions import CommitFailedException
from pyiceberg.serializers import FromInputFile
from pyiceberg.table import Table
from sqlalchemy.exc import OperationalError

from ddb_lake.config.locations import spelled
from ddb_lake.lake.manifests import live_entries, snapshot_manifests
from ddb_lake.lake.state import sidecars_of

KEEP_SNAPSHOTS = 10


def expire_snapshots(table: Table, before: datetime) -> int:
    """Expire snapshots older than `before`, but the newest ten and the heads of branches; gives how many.

    Their files stay until compaction removes them as `unnamed`. A concurrent commit or expiry wins: nothing is expired then.
    """
    heads = {ref.snapshot_id for ref in table.metadata.refs.values()}
    newest = sorted(table.metadata.snapshots, key=lambda s: s.sequence_number or 0)[-KEEP_SNAPSHOTS:]
    kept = heads | {s.snapshot_id for s in newest}
    limit_ms = int(before.timestamp() * 1000)
    old = [s.snapshot_id for s in table.metadata.snapshots if s.snapshot_id not in kept and s.timestamp_ms < limit_ms]
    if old:
        try:
            table.maintenance.expire_snapshots().by_ids(old).commit()
        except (CommitFailedException, OperationalError, ValueError):  # ValueError: one of them is expired already
            return 0
    return len(old)


def referenced(table: Table) -> set[str]:
    """Every file that a snapshot, branch or sidecar of the table, or its metadata log, names, as `spelled` writes paths.

    The sidecars of the versions in the log count too: another writer may still plan on one of them.
    """
    metadata = table.metadata
    files = {table.metadata_location, *(entry.metadata_file for entry in metadata.metadata_log)}
    for snapshot in metadata.snapshots:
        files.add(snapshot.manifest_list)
        for manifest in snapshot_manifests(table.io, snapshot, table.name()[-1]):
            if manifest.manifest_path in files:  # most are of many snapshots, and never change
                continue
            files.add(manifest.manifest_path)
            files.update(e.data_file.file_path for e in live_entries(table.io, manifest, table.name()[-1]))
    for properties in (table.properties, *_logged_properties(table)):
        for sidecar in sidecars_of(properties):
            files.update(sidecar.paths)
    return {spelled(path) for path in files}


def unnamed(found: Iterable[tuple[str, int]], named: Container[str], before_us: int) -> list[str]:
    """Of the `found` files (URI, last written) those not in `named` (see `referenced`) that are older than `before_us`.

    The table must have been loaded after the listing: it then names the files of commits in between.
    """
    return [uri for uri, modified_us in found if modified_us < before_us and spelled(uri) not in named]


def _logged_properties(table: Table) -> Iterator[Mapping[str, str]]:
    for entry in table.metadata.metadata_log:
        with suppress(FileNotFoundError):  # a later commit has cut the log
            yield FromInputFile.table_metadata(table.io.new_input(entry.metadata_file)).properties
