"""A finished export, verified: its manifests, and each data file where it should be, whole."""

from __future__ import annotations

import base64
import gzip
import hashlib
import os
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count, islice
from pathlib import Path

from ddb_lake.aws.objects import ObjectRef, ObjectStore, local_path
from ddb_lake.core.decode.export_lines import read_full_line
from ddb_lake.core.layout.export_manifest import (
    DataFile,
    ExportSummary,
    locate,
    md5_text,
    parse_files,
    parse_summary,
)
from ddb_lake.core.values.change_record import Item
from ddb_lake.engine.sql import literals
from ddb_lake.errors import ExportError, UndecodableError, UsageError

SUMMARY = "manifest-summary.json"
DOWNLOADS = 8
_LEAST_GZIP_BYTES = 18
MAX_OBJECT_BYTES = 16 * 1024 * 1024
SAMPLE_PER_FILE = 200
SAMPLE_FILES = 8


@dataclass(frozen=True, slots=True)
class FoundExport:
    """An export whose manifests are right. `files`: what its manifest names, with the URI where each should lie."""

    uri: str
    summary: ExportSummary
    files: tuple[tuple[DataFile, str], ...]


@dataclass(frozen=True, slots=True)
class LocalFile:
    """A verified data file on local disk."""

    uri: str
    path: Path
    items: int
    gzipped: bool
    ref: ObjectRef

    @property
    def content_bytes(self) -> int:
        """Bytes when decompressed, as gzip's trailer says: for planning, as it counts modulo 4 GiB."""
        size = self.path.stat().st_size
        if not self.gzipped or size < _LEAST_GZIP_BYTES:
            return size
        with self.path.open("rb") as stream:
            stream.seek(-4, os.SEEK_END)
            return max(size, int.from_bytes(stream.read(4), "little"))


def find_export(store: ObjectStore, uri: str) -> FoundExport:
    """The export at `uri`: its manifest-summary.json, or a folder with exactly one of those below it.

    Raises UsageError for several, ExportError for none, and for manifests that contradict each other or their checksums.
    """
    manifest = uri if uri.endswith(SUMMARY) else _only_manifest(store, uri)
    absolute = manifest if manifest.startswith("s3://") else str(local_path(manifest))
    summary_bytes = _read(store, absolute)
    _check_md5(store, absolute, summary_bytes)
    with _named(absolute):
        summary = parse_summary(summary_bytes)
        files_uri = _locate(absolute, summary.manifest_files_key)
    files_bytes = _read(store, files_uri)
    _check_md5(store, files_uri, files_bytes)
    with _named(files_uri):
        files = tuple((file, _locate(absolute, file.key)) for file in parse_files(files_bytes))
    total = sum(file.item_count for file, _ in files)
    if total != summary.item_count:
        raise ExportError(
            f"{absolute}: itemCount is {summary.item_count}, but {files_uri} counts {total};"
            " copy the export again, or export again"
        )
    return FoundExport(absolute, summary, files)


@contextmanager
def _named(uri: str) -> Iterator[None]:
    """Say which export's manifest it is: the parsers know the file's name alone."""
    try:
        yield
    except ExportError as error:
        raise ExportError(f"{uri.rpartition('/')[0]}: {error}") from error


def verified(store: ObjectStore, export: FoundExport, folder: Path) -> list[LocalFile]:
    """Every data file, on local disk, with the MD5 its manifest says. Raises ExportError naming the file."""
    with ThreadPoolExecutor(DOWNLOADS, thread_name_prefix="download") as pool:
        jobs = [
            pool.submit(_fetch, store, file, uri, folder / f"{number:06d}")
            for number, (file, uri) in enumerate(export.files)
        ]
        return [job.result() for job in jobs]


def lines_sql(files: Sequence[LocalFile]) -> str:
    """A relation with one `item` (a line's text, `{"Item":{…}}`) a line of the data files, and its `filename`.

    `read_ndjson_objects` finds the lines without parsing them, which `read_json` would do once more than needed.
    """
    parts = []
    for gzipped in (True, False):
        paths = [str(f.path) for f in files if f.gzipped == gzipped and f.path.stat().st_size]
        if paths:
            parts.append(
                f"SELECT json AS item, filename FROM read_ndjson_objects({literals(paths)}, filename = true,"
                f" compression = '{'gzip' if gzipped else 'uncompressed'}', maximum_object_size = {MAX_OBJECT_BYTES})"
            )
    return "(" + (" UNION ALL ".join(parts) or "SELECT NULL::JSON AS item, '' AS filename WHERE false") + ")"


def sample_items(files: Sequence[LocalFile]) -> list[Item]:
    """Items from the beginning of some files, spread over all of them."""
    filled = [f for f in files if f.items]
    chosen = filled[:: max(1, len(filled) // SAMPLE_FILES)][: SAMPLE_FILES + 1]
    return [item for file in chosen for item in _first_items(file)]


def _first_items(file: LocalFile) -> list[Item]:
    """The items of a data file's first lines."""
    return [item for line in islice(bounded_lines(file), SAMPLE_PER_FILE) for item in _item(line)]


def _item(line: bytes) -> list[Item]:
    """The item of a line; None if the line has no valid item: `pipeline.load.line_screening` reports it when the lines are loaded."""
    try:
        return [read_full_line(line)]
    except UndecodableError:
        return []


def bounded_lines(file: LocalFile) -> Iterator[bytes]:
    """The lines of a data file; a line has at most MAX_OBJECT_BYTES in memory. Raises ExportError."""
    with gzip.open(file.path) if file.gzipped else file.path.open("rb") as stream:
        for number in count(1):
            line = stream.readline(MAX_OBJECT_BYTES + 1)
            if not line:
                return
            if len(line) > MAX_OBJECT_BYTES:
                raise ExportError(
                    f"{file.uri}: line {number} is longer than {MAX_OBJECT_BYTES >> 20} MiB, so that it is no item of"
                    " DynamoDB (400 KB at most), and nothing was loaded; copy the file again, or export again"
                )
            yield line


def check_lines(files: Iterable[LocalFile]) -> None:
    """Look for a line that is too long, in the files that are large enough to have one. Raises ExportError."""
    for file in files:
        if file.content_bytes > MAX_OBJECT_BYTES:
            for _ in bounded_lines(file):
                pass


def _fetch(store: ObjectStore, file: DataFile, uri: str, target: Path) -> LocalFile:
    try:
        path = store.download(uri, target)
        digest = hashlib.md5(usedforsecurity=False)
        with path.open("rb") as stream:
            head = stream.read(2)
            digest.update(head)
            for chunk in _chunks(stream):
                digest.update(chunk)
    except Exception as error:
        if isinstance(error, (OSError, UsageError)) or _is_missing(error):
            reason = error.strerror if isinstance(error, OSError) else None
            raise ExportError(
                f"{uri}: named by the manifest, but not there ({reason or error}); copy the export again"
            ) from error
        raise
    found = base64.b64encode(digest.digest()).decode()
    if file.md5 and found != file.md5:
        raise ExportError(f"{uri}: MD5 is {found}, the manifest says {file.md5}; copy the file again")
    size = path.stat().st_size
    return LocalFile(uri, path, file.item_count, head == b"\x1f\x8b", ObjectRef(uri, found, size, 0))


def _chunks(stream: object) -> Iterable[bytes]:
    return iter(lambda: stream.read(1 << 20), b"")  # type: ignore[attr-defined]


def _only_manifest(store: ObjectStore, uri: str) -> str:
    found = [ref.uri for ref in store.list(uri) if ref.uri.endswith("/" + SUMMARY)] if store.reachable(uri) else []
    if len(found) == 1:
        return found[0]
    if not found:
        raise ExportError(f"{uri}: no {SUMMARY} at or below it; name the folder of a finished export")
    listed = ", ".join(found[:5])
    raise UsageError(f"{uri}: {len(found)} exports below it ({listed}); name one of them")


def _locate(manifest: str, key: str) -> str:
    if not manifest.startswith("s3://"):
        return locate(manifest, key)
    bucket, _, manifest_key = manifest.removeprefix("s3://").partition("/")
    return f"s3://{bucket}/{locate(manifest_key, key)}"


def _read(store: ObjectStore, uri: str) -> bytes:
    try:
        return store.read(uri)
    except Exception as error:
        if isinstance(error, FileNotFoundError) or _is_missing(error):
            raise ExportError(f"{uri}: not there; the export is incomplete or not finished") from error
        raise


def _check_md5(store: ObjectStore, uri: str, data: bytes) -> None:
    """Compare a manifest with the checksum beside it, if there is one; a newline at its end is forgiven."""
    for suffix in (".md5", ".checksum"):
        beside = uri.removesuffix(".json") + suffix
        if store.exists(beside):
            wanted = store.read(beside).decode("ascii", "replace").strip()
            if wanted not in (md5_text(data), md5_text(data.rstrip(b"\n"))):
                raise ExportError(f"{uri}: its MD5 is not the one in {beside}; copy the export again")


def _is_missing(error: Exception) -> bool:
    response = getattr(error, "response", None)
    code = response.get("Error", {}).get("Code") if isinstance(response, dict) else None
    return code in ("NoSuchKey", "404", "NoSuchBucket")
