"""A finished export: its manifests, its data files, and the lines of those.

`open_export` reads the manifests and checks them, `download_files` fetches the data files, checks their MD5, and writes files
in Amazon Ion as lines in DynamoDB JSON. The lines are read by DuckDB (`lines_sql`). Loading proves in SQL that all lines hold a
valid item (`engine.line_check`); `ExportLines` reads the files line by line with `core.decode.export_lines` only if some may not.

The format of the manifests and data files:
https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/S3DataExport.Output.html
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import os
import shutil
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import count, islice
from pathlib import Path
from typing import TypeVar

import orjson

from ddb_lake.aws.objects import ObjectRef, ObjectStore, local_path
from ddb_lake.core.decode.export_lines import ITEM_MEMBER, read_full_line
from ddb_lake.core.decode.splitter import ION_MARKER, ION_PROBLEM
from ddb_lake.core.layout.export_manifest import (
    ION,
    DataFile,
    ExportSummary,
    locate,
    md5_text,
    parse_files,
    parse_summary,
)
from ddb_lake.core.operations.count_text import count_text
from ddb_lake.core.protection.rules import Protection
from ddb_lake.core.values.attributes import without_members
from ddb_lake.core.values.change_record import Item
from ddb_lake.core.values.primary_key import key_text
from ddb_lake.engine.line_check import LineCheck
from ddb_lake.engine.sql import literals
from ddb_lake.engine.staging import STAGED_QUARANTINE, RowOrigin, StagedRows, StagingWriter, quarantine_row
from ddb_lake.errors import CheckFailed, DdbLakeError, ExportError, UndecodableError, UsageError

T = TypeVar("T")

SUMMARY = "manifest-summary.json"
CONCURRENT_DOWNLOADS = 8
MIN_GZIP_BYTES = 18
_GZIP_FLAGS = 3  # the place of the flags in a header
_GZIP_HAS_NAME = 8
MAX_LINE_BYTES = 16 * 1024 * 1024
SAMPLE_PER_FILE = 200
SAMPLE_FILES = 8
MAX_LISTED = 5
"""Invalid lines that an error names."""


@dataclass(frozen=True, slots=True)
class Export:
    """A finished export whose manifests are consistent.

    Attributes:
        uri: the URI of its `manifest-summary.json`.
        summary: the contents of that.
        files: the data files that `manifest-files.json` names, each with the URI where it should lie.
    """

    uri: str
    summary: ExportSummary
    files: tuple[tuple[DataFile, str], ...]


@dataclass(frozen=True, slots=True)
class LocalFile:
    """A data file on local disk.

    Attributes:
        uri: where it came from.
        path: where it is.
        items: the number of its items according to the manifest.
        gzipped: whether it is compressed.
        ref: the object that the ledger of the changelog names.
    """

    uri: str
    path: Path
    items: int
    gzipped: bool
    ref: ObjectRef

    @property
    def content_bytes(self) -> int:
        """Bytes when decompressed, according to the trailer of gzip. For planning only: the trailer counts modulo 4 GiB."""
        size = self.path.stat().st_size
        if not self.gzipped or size < MIN_GZIP_BYTES:
            return size
        with self.path.open("rb") as stream:
            stream.seek(-4, os.SEEK_END)
            return max(size, int.from_bytes(stream.read(4), "little"))


def open_export(store: ObjectStore, uri: str) -> Export:
    """Read and check the manifests of an export.

    Args:
        store: where the export lies.
        uri: its `manifest-summary.json`, or a folder or prefix with exactly one of those below it.

    Raises:
        UsageError: several exports lie below the URI.
        ExportError: no export lies there, or its manifests contradict each other or their checksums.
    """
    manifest = uri if uri.endswith(SUMMARY) else _only_manifest(store, uri)
    absolute = manifest if manifest.startswith("s3://") else str(local_path(manifest))
    summary_bytes = _read(store, absolute)
    _check_md5(store, absolute, summary_bytes)
    with _manifest_named_in_errors(absolute):
        summary = parse_summary(summary_bytes)
        files_uri = _locate(absolute, summary.manifest_files_key)
    files_bytes = _read(store, files_uri)
    _check_md5(store, files_uri, files_bytes)
    with _manifest_named_in_errors(files_uri):
        files = tuple((file, _locate(absolute, file.key)) for file in parse_files(files_bytes))
    total = sum(file.item_count for file, _ in files)
    if total != summary.item_count:
        raise ExportError(
            f"itemCount is {summary.item_count}, but {files_uri} counts {total}",
            uri=absolute,
            hint="copy the export again, or export again",
        )
    return Export(absolute, summary, files)


@contextmanager
def _manifest_named_in_errors(uri: str) -> Iterator[None]:
    """Add the URI of the export to errors of the parsers, which have the name of the file alone."""
    try:
        yield
    except ExportError as error:
        raise ExportError(f"{error}", uri=uri.rpartition("/")[0]) from error


def download_files(store: ObjectStore, export: Export, folder: Path) -> list[LocalFile]:
    """Download all data files of an export into a folder, and compare their MD5 with the manifest.

    Raises:
        ExportError: a file is missing or differs from the manifest. The message names the file.
        UsageError: the export is in Amazon Ion, and the package that reads it is not installed.
    """
    in_ion = export.summary.output_format == ION
    if in_ion:
        _require_ion()
    with ThreadPoolExecutor(CONCURRENT_DOWNLOADS, thread_name_prefix="download") as pool:
        jobs = [
            pool.submit(_download, store, file, uri, folder / f"{number:06d}")
            for number, (file, uri) in enumerate(export.files)
        ]
        files = [job.result() for job in jobs]
    return [_in_json(file, folder / f"{number:06d}.json") for number, file in enumerate(files)] if in_ion else files


def lines_sql(files: Sequence[LocalFile]) -> str:
    """A relation with one row for each line: `item`, the text of the line (`{"Item":{…}}`), and its `filename`.

    `read_ndjson_objects` finds the lines without parsing them. `read_json` would parse each line once more.
    """
    parts = []
    for gzipped in (True, False):
        paths = [str(f.path) for f in files if f.gzipped == gzipped and f.path.stat().st_size]
        if paths:
            parts.append(
                f"SELECT json AS item, filename FROM read_ndjson_objects({literals(paths)}, filename = true,"
                f" compression = '{'gzip' if gzipped else 'uncompressed'}', maximum_object_size = {MAX_LINE_BYTES})"
            )
    return "(" + (" UNION ALL ".join(parts) or "SELECT NULL::JSON AS item, '' AS filename WHERE false") + ")"


def sample_items(files: Sequence[LocalFile]) -> list[Item]:
    """Items from the beginning of some files, spread over all of them."""
    filled = [f for f in files if f.items]
    chosen = filled[:: max(1, len(filled) // SAMPLE_FILES)][: SAMPLE_FILES + 1]
    return [item for file in chosen for item in _first_items(file)]


def _first_items(file: LocalFile) -> list[Item]:
    """The valid items of the first lines of a data file."""
    return [item for line in islice(bounded_lines(file), SAMPLE_PER_FILE) for item in _valid_item(line)]


def _valid_item(line: bytes) -> list[Item]:
    """The item of a line; none if the line has no valid item, which is reported when the lines are loaded."""
    try:
        return [read_full_line(line)]
    except UndecodableError:
        return []


def bounded_lines(file: LocalFile) -> Iterator[bytes]:
    """The lines of a data file. Raises ExportError for a line of more than MAX_LINE_BYTES, before it is in memory."""
    with gzip.open(file.path) if file.gzipped else file.path.open("rb") as stream:
        for number in count(1):
            line = stream.readline(MAX_LINE_BYTES + 1)
            if not line:
                return
            if len(line) > MAX_LINE_BYTES:
                raise ExportError(
                    f"line {number} is longer than {MAX_LINE_BYTES >> 20} MiB, so it is no item of DynamoDB "
                    "(400 KB at most), and nothing was loaded",
                    uri=file.uri,
                    hint="copy the file again, or export again",
                )
            yield line


def check_line_lengths(files: Iterable[LocalFile]) -> None:
    """Raise ExportError if a line is too long. Only files that are large enough to have such a line are read."""
    for file in files:
        if file.content_bytes > MAX_LINE_BYTES:
            for _ in bounded_lines(file):
                pass


# --- lines without a valid item of the table


@dataclass(frozen=True, slots=True)
class InvalidLine:
    """A line that holds no valid item of the table.

    `line` counts from 1, `offset` is its first byte in the decompressed file. `unkeyed`: its item is valid, and lacks the table's key.
    """

    uri: str
    line: int
    offset: int
    reason: str
    unkeyed: bool = False

    def __str__(self) -> str:
        return f"{self.uri} line {self.line} (byte {self.offset}): {self.reason}"


@dataclass(slots=True)
class InvalidLines:
    """The number of invalid lines, how many of them are `unkeyed`, and the first of them."""

    count: int = 0
    unkeyed: int = 0
    first: list[InvalidLine] = field(default_factory=list)

    def add(self, line: InvalidLine) -> None:
        """Count a line."""
        self.count += 1
        self.unkeyed += line.unkeyed
        if len(self.first) < MAX_LISTED:
            self.first.append(line)

    def merge(self, other: InvalidLines) -> None:
        """Add the lines of `other`."""
        self.count += other.count
        self.unkeyed += other.unkeyed
        self.first = [*self.first, *other.first][:MAX_LISTED]

    def error(self) -> ExportError:
        """The error for an export that has these lines."""
        listed = "; ".join(map(str, self.first))
        more = f"; and {self.count - len(self.first)} more" if self.count > len(self.first) else ""
        again = "Is `key` right? If it is, export again" if self.unkeyed else "Export again"
        return ExportError(
            f"{self.count} line{'s' if self.count > 1 else ''} of the export without a valid item, nothing was"
            f" committed: {listed}{more}. {again}, or load the rest with `--reject-to-quarantine`"
        )


class ExportLines:
    """The lines of data files. Lines without a valid item, or whose item lacks the table's key, are an error, or are left out.

    Args:
        files: the data files.
        folder: a folder for the rejected lines, and for copies of the files that had some.
        reject: leave out invalid lines. By default, they are an error.
        protection: the rules of protected attributes, and the filter.

    Attributes:
        files: the data files; of a file with rejected lines, protected attributes or items that are left out, a copy without them.
        invalid: the rejected lines.
        rejected: the rejected lines as rows of the quarantine; None if there are none.
    """

    def __init__(self, files: Sequence[LocalFile], folder: Path, reject: bool, protection: Protection) -> None:
        self.files = protected_files(files, protection, folder)
        self._originals = list(files)
        self._protection = protection
        self.invalid = InvalidLines()
        self.rejected: StagedRows | None = None
        self._folder, self._reject = folder, reject

    @property
    def left_out(self) -> int:
        """The number of items that the filter leaves out."""
        return sum(file.items for file in self._originals) - sum(file.items for file in self.files)

    def read(self, work: Callable[[Sequence[LocalFile], LineCheck], T], key: Sequence[str] = ()) -> T:
        """Call `work`, which reads all lines with a check. After lines were left out, call it again.

        `key`: the attributes that each item must have, if `work` counts the items without them (`LineCheck.unkeyed`).

        Returns:
            The result of the last call.

        Raises:
            ExportError: there are invalid lines and `reject` is false, or a file cannot be read to its end.
        """
        check = LineCheck()
        try:
            result = work(self.files, check)
        except DdbLakeError:
            raise
        except Exception as error:  # DuckDB stops at a line that is not JSON
            if not self._reject_lines(key):
                raise
            cause: Exception | None = error
        else:
            if not check.faults and not check.unkeyed:
                return result
            if not self._reject_lines(key, 0 if check.faults else check.unkeyed):
                unproven = check.faults or check.unkeyed
                raise CheckFailed(
                    f"{count_text(unproven, 'line was', 'lines were')} not proven valid, and none is invalid: report this fault"
                )
            cause = None
        second_check = LineCheck()
        result = work(self.files, second_check)
        still_invalid = second_check.faults or second_check.unkeyed
        if still_invalid:
            raise CheckFailed(
                f"{count_text(still_invalid, 'line is', 'lines are')} invalid after all such lines were left out"
            ) from cause
        return result

    def _reject_lines(self, key: Sequence[str], known: int = 0) -> bool:
        """Leave out the invalid lines, and return whether there were any. Without `reject`, raise ExportError for them.

        `known`: their number, if it is known. Then only those that the error names are searched: with a wrong `key` all lines are invalid.
        """
        if not self._reject:
            found = (line for file in self._originals for line, _ in self._invalid_lines(file, key))
            invalid = InvalidLines()
            for line in islice(found, MAX_LISTED if known else None):
                invalid.add(line)
            if invalid.count:
                raise replace(invalid, count=max(known, invalid.count)).error()
            return False
        before = self.invalid.count
        writer = StagingWriter(self._folder / f"rejected-{before}.parquet", STAGED_QUARANTINE)
        self._originals = [self._valid_copy(number, file, key, writer) for number, file in enumerate(self._originals)]
        self.files = protected_files(self._originals, self._protection, self._folder)
        path = writer.close()
        if writer.rows:
            self.rejected = StagedRows(path, writer.rows)
        return self.invalid.count > before

    def _invalid_lines(self, file: LocalFile, key: Sequence[str]) -> Iterator[tuple[InvalidLine, bytes]]:
        """The invalid lines of a data file and their texts. Raises ExportError for a file that cannot be read to its end."""
        for number, offset, text in numbered_lines(file):
            try:
                item = read_full_line(text)
            except UndecodableError as error:
                reason = without_members(str(error)) if self._protection else str(error)
                yield InvalidLine(file.uri, number, offset, ion_fault(text) or reason), text
                continue
            try:
                key_text(item, key)
            except UndecodableError as error:
                yield InvalidLine(file.uri, number, offset, str(error), unkeyed=True), text

    def _valid_copy(self, number: int, file: LocalFile, key: Sequence[str], writer: StagingWriter) -> LocalFile:
        """The file, or a copy without its invalid lines, which are added to `writer`."""
        rejected = set()
        for line, raw in self._invalid_lines(file, key):
            self.invalid.add(line)
            kept = b"" if self._protection else raw
            row = quarantine_row(line.reason, kept, RowOrigin(line.uri, line.offset, line.line, number))
            writer.add(row, len(kept))
            rejected.add(line.line)
        if not rejected:
            return file
        valid = self._folder / f"{number:06d}.valid"
        with valid.open("wb") as target:
            target.writelines(text + b"\n" for line, _, text in numbered_lines(file) if line not in rejected)
        return replace(file, path=valid, items=file.items - len(rejected), gzipped=False)


def protected_files(files: Sequence[LocalFile], protection: Protection, folder: Path) -> list[LocalFile]:
    """Copies in a folder of data files of a full export, with protected items, and without those that the filter leaves out.

    They are the files themselves if there is neither a rule nor a filter. A copy has the lines without a valid item as they are,
    which are found when it is read. Its `items` are less by those that are left out.
    """
    if not protection:
        return list(files)
    return [_protected_copy(file, protection, folder / f"{number:06d}.protected") for number, file in enumerate(files)]


def _protected_copy(file: LocalFile, protection: Protection, copy: Path) -> LocalFile:
    left_out = 0
    with copy.open("wb") as target:
        for _, _, text in numbered_lines(file):
            try:
                item = read_full_line(text)
            except UndecodableError:
                target.write(text + b"\n")
                continue
            if protection.leaves_out(item):
                left_out += 1
            else:
                target.write(orjson.dumps({ITEM_MEMBER: protection.protect(item)}) + b"\n")
    return replace(file, path=copy, gzipped=False, items=file.items - left_out)


def numbered_lines(file: LocalFile) -> Iterator[tuple[int, int, bytes]]:
    """Number (from 1), offset and text of each line that is not blank: the lines of `lines_sql`.

    Raises:
        ExportError: the file cannot be read to its end.
    """
    number = offset = 0
    try:
        for number, line in enumerate(bounded_lines(file), start=1):
            text = line.strip(b" \t\r\n")
            if text:
                yield number, offset, text
            offset += len(line)
    except (OSError, EOFError, zlib.error) as error:
        raise ExportError(
            f"damaged after line {number} ({error}), and its MD5 is the manifest's", uri=file.uri, hint="export again"
        ) from error


# --- Amazon Ion


def _require_ion() -> None:
    try:
        import amazon.ion  # noqa: F401
    except ModuleNotFoundError as error:
        raise UsageError(
            "the export is in Amazon Ion, and the package that reads it is not installed",
            hint="install the extra `ion` of this package, or export again with ExportFormat DYNAMODB_JSON",
        ) from error


def _in_json(file: LocalFile, written: Path) -> LocalFile:
    """Write a data file in Ion to `written` with lines in DynamoDB JSON. Lines that are no item in Ion are kept: they are invalid there."""
    from ddb_lake.core.decode.ion_lines import json_line

    with written.open("wb") as target:
        for _, _, text in numbered_lines(file):
            try:
                target.write(json_line(text))
            except UndecodableError:
                target.write(text)
            target.write(b"\n")
    return replace(file, path=written, gzipped=False)


def ion_fault(line: bytes) -> str | None:
    """Why a line in Ion is no line of an export; None for a line that is not in Ion."""
    if not line.startswith(ION_MARKER):
        return None
    try:
        from ddb_lake.core.decode.ion_lines import json_line

        json_line(line)
    except ModuleNotFoundError:
        return ION_PROBLEM
    except UndecodableError as error:
        return str(error)
    return "in Amazon Ion, and the manifest's outputFormat is DYNAMODB_JSON"


# --- objects of the export


def _download(store: ObjectStore, file: DataFile, uri: str, target: Path) -> LocalFile:
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
                f"named by the manifest, but not there ({reason or error})", uri=uri, hint="copy the export again"
            ) from error
        raise
    md5 = base64.b64encode(digest.digest()).decode()
    if file.md5 and md5 != file.md5:
        raise ExportError(
            "the MD5 is not that of the manifest", uri=uri, expected=file.md5, found=md5, hint="copy the file again"
        )
    local = LocalFile(uri, path, file.item_count, head == b"\x1f\x8b", ObjectRef(uri, md5, path.stat().st_size, 0))
    return _decompressed(local, target) if local.gzipped and not _is_plain_gzip(path) else local


def _is_plain_gzip(path: Path) -> bool:
    """Whether a gzip file has no part in its header besides a file's name, and does not end in zeros. DuckDB refuses other files."""
    with path.open("rb") as stream:
        header = stream.read(_GZIP_FLAGS + 1)
        stream.seek(max(-4, -path.stat().st_size), os.SEEK_END)
        return len(header) > _GZIP_FLAGS and not header[_GZIP_FLAGS] & ~_GZIP_HAS_NAME and any(stream.read())


def _decompressed(file: LocalFile, target: Path) -> LocalFile:
    """A decompressed copy of a file beside `target`. A damaged file is returned as it is: the error comes when its lines are read."""
    copy = target.with_name(f"{target.name}.decompressed")
    try:
        with gzip.open(file.path) as source, copy.open("wb") as written:
            shutil.copyfileobj(source, written, 1 << 20)
    except (gzip.BadGzipFile, EOFError, zlib.error):
        copy.unlink(missing_ok=True)
        return file
    return replace(file, path=copy, gzipped=False)


def _chunks(stream: object) -> Iterable[bytes]:
    return iter(lambda: stream.read(1 << 20), b"")  # type: ignore[attr-defined]


def list_manifests(store: ObjectStore, uri: str) -> list[ObjectRef]:
    """The manifests of the finished exports at or below a URI, of any table, in the order of their names.

    DynamoDB writes `manifest-summary.json` last, so an export that has one is finished.
    https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/S3DataExport.Output.html
    """
    return [ref for ref in store.list(uri) if ref.uri.endswith(f"/{SUMMARY}")] if store.reachable(uri) else []


def _only_manifest(store: ObjectStore, uri: str) -> str:
    manifests = [ref.uri for ref in list_manifests(store, uri)]
    if len(manifests) == 1:
        return manifests[0]
    if not manifests:
        raise ExportError(f"no {SUMMARY} at or below it", uri=uri, hint="name the folder of a finished export")
    listed = ", ".join(manifests[:5])
    raise UsageError(f"{len(manifests)} exports below it ({listed})", uri=uri, hint="name one of them")


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
            raise ExportError("not there; the export is incomplete or not finished", uri=uri) from error
        raise


def _check_md5(store: ObjectStore, uri: str, data: bytes) -> None:
    """Compare a manifest with the checksum beside it, if there is one. A newline at its end may be missing or added."""
    for suffix in (".md5", ".checksum"):
        beside = uri.removesuffix(".json") + suffix
        if store.exists(beside):
            expected = store.read(beside).decode("ascii", "replace").strip()
            if expected not in (md5_text(data), md5_text(data.rstrip(b"\n"))):
                raise ExportError(f"its MD5 is not the one in {beside}", uri=uri, hint="copy the export again")


def _is_missing(error: Exception) -> bool:
    response = getattr(error, "response", None)
    code = response.get("Error", {}).get("Code") if isinstance(response, dict) else None
    return code in ("NoSuchKey", "404", "NoSuchBucket")
