"""Reads the metadata of Iceberg tables: metadata files, manifest lists and manifests. Checks that the latter two are complete.

pyiceberg stops reading at the end of the bytes. A file that was cut short then has fewer entries, and the table has fewer
rows, without an error. So this module compares each file with every length and count that the table states about it. The
checks take no further request.

An apply reads most of these files several times, to notice other writers. For each manifest, pyiceberg derives a schema and readers
again, which takes most of the time. So this module keeps what it parsed of the files that were read last, by the bytes of the files.
It still reads the bytes each time, and notices a file that was damaged after it was read.
https://iceberg.apache.org/spec/#manifests and https://iceberg.apache.org/spec/#manifest-lists
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from io import BytesIO
from typing import Any, TypeVar

from pyiceberg.avro.file import AvroFile
from pyiceberg.avro.reader import Reader
from pyiceberg.io import FileIO, InputFile
from pyiceberg.manifest import ManifestContent, ManifestEntry, ManifestEntryStatus, ManifestFile, read_manifest_list
from pyiceberg.serializers import Compressor, FromByteStream
from pyiceberg.table.metadata import TableMetadata
from pyiceberg.table.snapshots import Snapshot

from ddb_lake.core.operations.library_errors import reading
from ddb_lake.errors import DamagedError
from ddb_lake.lake.avro_container import frame_fault
from ddb_lake.lake.column_ranges import RANGES_HEADER, StoredRanges, from_header

FILE_PATH_ID = 2147483546
POS_ID = 2147483545
"""Field ids of the two columns of a position delete file. https://iceberg.apache.org/spec/#reserved-field-ids"""

OPERATION = "ddb_lake.operation"
"""Property of a snapshot: the step of ours that made it, unless the step is an apply or a load."""

COMPACTION = "compact"
"""The value of `OPERATION` of a compaction, which changes no row."""

NO_DANGLING_DELETES = "ddb_lake.no-dangling-deletes"
"""Property of a snapshot: each position delete of it names a row of a data file of it.

Other engines leave deletes of files that they rewrote, and their snapshots do not have the property.
https://iceberg.apache.org/spec/#position-delete-files
"""

KEPT_ENTRIES = 4_000
"""The number of parsed entries that are kept for the next reader of the same bytes. One takes 2 to 6 kB of memory."""

_KEPT_METADATA = 32
"""Room for 16 metadata files: each counts as two entries (`ParsedFiles` adds one for the file). One takes about 1 MB of memory."""

_Rows = TypeVar("_Rows", bound=Sequence[Any])


class ParsedFiles:
    """The entries of the files that were read last, by the bytes of the files.

    Threads share the entries, so a reader must not change them.

    Args:
        limit: the most entries of all these files. A file counts as one more.
    """

    def __init__(self, limit: int = KEPT_ENTRIES) -> None:
        self._limit = limit
        self._rows: OrderedDict[Hashable, Any] = OrderedDict()
        self._lock = threading.Lock()
        self._kept = 0

    def rows(self, data: bytes, context: Hashable, parse: Callable[[], _Rows]) -> _Rows:
        """The result of `parse`, which depends on nothing but `data` and `context`."""
        key = blake2b(data, digest_size=16).digest(), context
        with self._lock:
            known: _Rows | None = self._rows.get(key)
            if known is not None:
                self._rows.move_to_end(key)
                return known
        rows = parse()
        with self._lock:
            if key not in self._rows and len(rows) < self._limit:  # a larger file would displace all others
                self._rows[key] = rows
                self._kept += 1 + len(rows)
            while self._kept > self._limit:
                self._kept -= 1 + len(self._rows.popitem(last=False)[1])
        return rows


_parsed = ParsedFiles()
_parsed_metadata = ParsedFiles(_KEPT_METADATA)


def _new_reader(cls: type[Reader], *_arguments: Any, **_options: Any) -> Reader:
    return object.__new__(cls)


Reader.__new__ = _new_reader
"""pyiceberg keeps each reader of an Avro file for later files, but never finds it again: the key has functions that it makes for
each file. A process that commits every few seconds grew by 25 MB a minute. Readers have no state, so none needs to be kept.
https://github.com/apache/iceberg-python/issues/2325
"""


def read_metadata(io: FileIO, location: str) -> TableMetadata:
    """The contents of a metadata file. Files of the same bytes share their parsed form, which pyiceberg never changes."""
    data, compression = _read(io, location), Compressor.get_compressor(location)

    def parse() -> tuple[TableMetadata]:
        return (FromByteStream.table_metadata(BytesIO(data), compression=compression),)

    (metadata,) = _parsed_metadata.rows(data, type(compression).__name__, parse)
    return metadata


@dataclass(frozen=True, slots=True)
class ListedManifest:
    """A manifest of a snapshot.

    Attributes:
        file: its entry in the manifest list.
        ranges: the ranges of columns in its data files, as far as the manifest list states them.
    """

    file: ManifestFile
    ranges: StoredRanges


def snapshot_manifests(io: FileIO, snapshot: Snapshot, table: str) -> list[ManifestFile]:
    """The manifests of a snapshot. Raises as `listed_manifests`."""
    return [manifest.file for manifest in listed_manifests(io, snapshot, table)]


def listed_manifests(io: FileIO, snapshot: Snapshot, table: str) -> list[ListedManifest]:
    """The manifests of a snapshot, with what the manifest list states about their files.

    Raises:
        DamagedError: its manifest list is missing, belongs to another snapshot, or names fewer files than the snapshot has.
    """
    uri = snapshot.manifest_list
    with reading(uri, table):
        data = _read(io, uri)
        owner, *manifests = _parsed.rows(data, "manifest list", lambda: _parse_list(uri, data, table))
        if owner is not None and owner != str(snapshot.snapshot_id):
            what = f"it is the manifest list of snapshot {owner}, where {snapshot.snapshot_id}'s was written"
            raise DamagedError(what, uri=uri, table=table)
        _check_totals(snapshot, [manifest.file for manifest in manifests], table)
        return manifests


def _parse_list(uri: str, data: bytes, table: str) -> tuple[Any, ...]:
    """The snapshot that a manifest list states as its own, if any, and then its manifests (`ListedManifest`).

    Raises DamagedError as `_check_frame`.
    """
    _check_frame(uri, data, table)
    file = _Bytes(uri, data)
    with AvroFile(file) as opened:
        header = opened.header
    manifests = list(read_manifest_list(file))
    ranges = from_header(header.meta.get(RANGES_HEADER), len(manifests))
    return header.meta.get("snapshot-id"), *map(ListedManifest, manifests, ranges)


def live_entries(io: FileIO, manifest: ManifestFile, table: str) -> list[ManifestEntry]:
    """The entries of a manifest whose files are in the table.

    Raises DamagedError if its length, or its number of files or rows, is not what the manifest list states. Figures that
    a list leaves out (format version 1) are not compared.
    """
    uri = manifest.manifest_path
    with reading(uri, table):
        data = _read(io, uri)
        if manifest.manifest_length and len(data) != manifest.manifest_length:
            raise DamagedError(
                f"it has {len(data)} bytes, and {manifest.manifest_length} were written", uri=uri, table=table
            )

        def parse() -> tuple[ManifestEntry, ...]:
            _check_frame(uri, data, table)
            return tuple(manifest.fetch_manifest_entry(_Memory(uri, data), discard_deleted=False))

        inherited = manifest.added_snapshot_id, manifest.sequence_number, manifest.partition_spec_id
        entries = _parsed.rows(data, inherited, parse)
        live = [entry for entry in entries if entry.status != ManifestEntryStatus.DELETED]
        added = [entry for entry in live if entry.status == ManifestEntryStatus.ADDED]
        kept = [entry for entry in live if entry.status == ManifestEntryStatus.EXISTING]
        for stated, what, found in (
            (manifest.added_files_count, "added files", len(added)),
            (manifest.existing_files_count, "existing files", len(kept)),
            (manifest.added_rows_count, "added rows", sum(entry.data_file.record_count for entry in added)),
            (manifest.existing_rows_count, "existing rows", sum(entry.data_file.record_count for entry in kept)),
        ):
            if stated is not None and stated != found:
                raise DamagedError(
                    f"it has {found} {what}, and its manifest list states {stated}", uri=uri, table=table
                )
        foreign = next((e for e in added if e.snapshot_id not in (None, manifest.added_snapshot_id)), None)
        if foreign is not None:
            what = f"it is of snapshot {foreign.snapshot_id}, where one of {manifest.added_snapshot_id} was written"
            raise DamagedError(what, uri=uri, table=table)
        return live


def has_no_dangling_deletes(snapshot: Snapshot) -> bool:
    """Whether it is known, without reading a file, that each position delete of a snapshot names a row of it."""
    return snapshot.summary is not None and snapshot.summary[NO_DANGLING_DELETES] == "true"


def _check_totals(snapshot: Snapshot, manifests: Sequence[ManifestFile], table: str) -> None:
    """Compare the numbers of files with the snapshot's summary: a manifest list that is cut short has fewer.

    A summary without totals is not compared, and one with fewer files than there are is a mistake of another engine.
    Rows are not compared: engines count deletes of rows that no longer exist differently.
    """
    summary: Any = snapshot.summary
    for content, total in ((ManifestContent.DATA, "total-data-files"), (ManifestContent.DELETES, "total-delete-files")):
        stated = None if summary is None else summary[total]
        counts = [(m.added_files_count, m.existing_files_count) for m in manifests if m.content == content]
        if stated is None or any(count is None for pair in counts for count in pair):
            continue
        found = sum(added + existing for added, existing in counts)
        if found < int(stated):
            what = f"it names manifests of {found} files, and the snapshot's {total} is {stated}"
            raise DamagedError(what, uri=snapshot.manifest_list, table=table)


def _check_frame(uri: str, data: bytes, table: str) -> None:
    """Raise DamagedError if the bytes are not a complete Avro file."""
    fault = frame_fault(data)
    if fault is not None:
        raise DamagedError(fault, uri=uri, table=table)


def _read(io: FileIO, uri: str) -> bytes:
    with io.new_input(uri).open() as stream:
        data: bytes = stream.read()
    return data


class _Bytes(InputFile):  # type: ignore[misc]  # pyiceberg is untyped to mypy here
    """A file whose bytes are in memory."""

    def __init__(self, location: str, data: bytes) -> None:
        super().__init__(location)
        self._data = data

    def __len__(self) -> int:
        return len(self._data)

    def exists(self) -> bool:
        return True

    def open(self, seekable: bool = True) -> Any:  # noqa: ARG002  # pyiceberg's signature
        return BytesIO(self._data)


class _Memory(FileIO):  # type: ignore[misc]  # see above
    """Access to one file that was read already."""

    def __init__(self, location: str, data: bytes) -> None:
        super().__init__()
        self._file = _Bytes(location, data)

    def new_input(self, location: str) -> InputFile:
        assert location == self._file.location
        return self._file

    def new_output(self, location: str) -> Any:
        raise NotImplementedError

    def delete(self, location: Any) -> None:
        raise NotImplementedError
