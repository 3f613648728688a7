"""Housekeeping of Iceberg tables: expires old snapshots, and finds files that no snapshot names any more."""

from __future__ import annotations

from collections.abc import Container, Iterable
from datetime import datetime

from pyiceberg.exceptions import CommitFailedException
from pyiceberg.table import Table
from sqlalchemy.exc import OperationalError

from ddb_lake.config import SnapshotSettings
from ddb_lake.core.layout.locations import spelled
from ddb_lake.lake.expiry import RemoveSnapshots, snapshots_to_expire
from ddb_lake.lake.metadata_files import live_entries, snapshot_manifests


def expire_snapshots(table: Table, retention: SnapshotSettings, now: datetime) -> int:
    """Expire the snapshots that a commit would expire, in a commit of its own.

    The files of an expired snapshot stay until compaction removes them (see `unnamed`). If another writer commits or
    expires snapshots at the same time, nothing may be expired.

    Args:
        table: the table.
        retention: how many snapshots are kept.
        now: the present time.

    Returns:
        The number of expired snapshots.
    """
    old = snapshots_to_expire(table.metadata, retention, int(now.timestamp() * 1000))
    if old:
        try:
            with table.transaction() as transaction:
                transaction._apply((RemoveSnapshots(snapshot_ids=old),))
        except (CommitFailedException, OperationalError):
            return 0
    return len(old)


def referenced(table: Table) -> set[str]:
    """Every file that the table names: in snapshots, branches, statistics and its metadata log, as `spelled` writes paths."""
    metadata = table.metadata
    files = {table.metadata_location, *(entry.metadata_file for entry in metadata.metadata_log)}
    files.update(
        s.statistics_path for s in (*metadata.statistics, *metadata.partition_statistics)
    )  # other engines write them
    for snapshot in metadata.snapshots:
        files.add(snapshot.manifest_list)
        for manifest in snapshot_manifests(table.io, snapshot, table.name()[-1]):
            if manifest.manifest_path in files:  # most manifests belong to many snapshots
                continue
            files.add(manifest.manifest_path)
            files.update(e.data_file.file_path for e in live_entries(table.io, manifest, table.name()[-1]))
    return {spelled(path) for path in files}


def unnamed(found: Iterable[tuple[str, int]], named: Container[str], before_us: int) -> list[str]:
    """The files that no commit names and that are old enough to belong to no running writer.

    Args:
        found: the URI of each file at the table's location, and its time of modification (microseconds since the epoch).
        named: the files that the table names, from `referenced`. The table must be loaded after the files were listed;
            otherwise the files of commits in between are missing in `named`.
        before_us: only files that were modified before this instant (exclusive).
    """
    return [uri for uri, modified_us in found if modified_us < before_us and spelled(uri) not in named]
