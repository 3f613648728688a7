"""What another tool's clean-up leaves: only files that Iceberg's metadata reaches, by pyiceberg's own account of it."""

from __future__ import annotations

from pathlib import Path

from pyiceberg.table import Table

from ddb_lake.core.layout.table_names import ICEBERG_SUFFIXES
from ddb_lake.pipeline.open_lake import Lake


def reached_files(table: Table) -> set[str]:
    """The local files that the metadata of a table reaches."""
    metadata = table.metadata
    reached = {table.metadata_location, *(entry.metadata_file for entry in metadata.metadata_log)}
    reached |= {file.statistics_path for file in (*metadata.statistics, *metadata.partition_statistics)}
    for snapshot in metadata.snapshots:
        reached.add(snapshot.manifest_list)
        for manifest in snapshot.manifests(table.io):
            reached.add(manifest.manifest_path)
            reached |= {entry.data_file.file_path for entry in manifest.fetch_manifest_entry(table.io)}
    return {path.removeprefix("file://") for path in reached}


def remove_unreached_files(lake: Lake, name: str) -> list[str]:
    """Delete every other file below the locations of a table's Iceberg tables; their paths."""
    removed = []
    for full_name in (name + suffix for suffix in ICEBERG_SUFFIXES):
        table = lake.catalog.table(full_name)
        reached = reached_files(table) if table is not None else set()
        for path in Path(lake.catalog.location(full_name)).rglob("*"):
            if path.is_file() and str(path) not in reached:
                path.unlink()
                removed.append(str(path))
    return removed
