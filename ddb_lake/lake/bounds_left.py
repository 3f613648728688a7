"""Finds bounds of columns in manifests that belong to no file any more: for the proof of an erasure.

The bounds of a column are values of rows. The bounds of a file that exists are as free of a removed row as the file is.
"""

from __future__ import annotations

from collections.abc import Container, Iterator

from pyiceberg.avro.file import AvroFile
from pyiceberg.io import FileIO
from pyiceberg.manifest import (
    DEFAULT_READ_VERSION,
    MANIFEST_ENTRY_SCHEMAS,
    DataFile,
    DataFileContent,
    FileFormat,
    ManifestEntry,
    ManifestEntryStatus,
)

from ddb_lake.core.layout.locations import spelled

MANIFEST_LIST = "snap-"
"""The beginning of the name of a manifest list, which has no bounds of columns of items."""


def has_bounds_without_file(io: FileIO, path: str, files: Container[str]) -> bool:
    """Whether a manifest has bounds of a file that is none of `files` (as `spelled` writes paths).

    A manifest of deleted positions has the paths of data files as bounds, which are no values.
    """
    return any(
        entry.data_file.content == DataFileContent.DATA
        and bool(entry.data_file.lower_bounds or entry.data_file.upper_bounds)
        and spelled(entry.data_file.file_path) not in files
        for entry in _entries(io, path)
    )


def _entries(io: FileIO, path: str) -> Iterator[ManifestEntry]:
    with AvroFile[ManifestEntry](
        io.new_input(path),
        MANIFEST_ENTRY_SCHEMAS[DEFAULT_READ_VERSION],
        read_types={-1: ManifestEntry, 2: DataFile},
        read_enums={0: ManifestEntryStatus, 101: FileFormat, 134: DataFileContent},
    ) as reader:
        yield from reader
