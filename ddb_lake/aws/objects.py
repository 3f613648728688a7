"""Objects in S3 and in local folders, with one interface: list, fetch, read, download, exists.

After the retries, a transient fault of S3 or of the connection is an `UnreachableError`; a caller never gets a part of an object.
`fetch`, which reads landed objects by the thousand, uses obstore first (`s3_reader`). `read` and `download` use boto3 alone:
they read a few manifests and data files of exports, without a listed ETag to check.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from io import FileIO
from operator import attrgetter
from pathlib import Path
from stat import S_ISREG
from threading import Lock
from typing import Any
from urllib.parse import unquote

from botocore.exceptions import ClientError

from ddb_lake.aws.s3_errors import complete_transfer, is_missing, translate_errors
from ddb_lake.aws.s3_reader import Fetcher
from ddb_lake.aws.session import client, expected_owner
from ddb_lake.errors import DeniedError, TerminalError, UnreachableError, UsageError


@dataclass(frozen=True, slots=True)
class ObjectRef:
    """An object as it was listed.

    `version` changes when the content is rewritten: the ETag in S3, size and modification time in a folder.
    """

    uri: str
    version: str
    size_bytes: int
    modified_us: int


@dataclass(frozen=True, slots=True)
class Level:
    """The objects directly below a prefix, and the prefixes of the folders there, each with its final slash."""

    objects: tuple[ObjectRef, ...]
    folders: tuple[str, ...]


class ObjectStore:
    """Reads objects. URIs are `s3://bucket/key`, `file://…` or local paths."""

    def __init__(self) -> None:
        self._s3: Any = None
        self._making = Lock()
        self._fetcher = Fetcher()
        self._checked: set[str] = set()

    @property
    def s3(self) -> Any:
        """The S3 client, created on first use. Thread-safe."""
        with self._making:
            if self._s3 is None:
                self._s3 = client("s3")
            return self._s3

    def check_owner(self, uri: str) -> None:
        """Check once that the bucket of an S3 URI belongs to the account that must own it, if that is known.

        It is for clients that cannot send the expected owner with each request: DuckDB, pyarrow and obstore.
        https://docs.aws.amazon.com/AmazonS3/latest/API/API_HeadBucket.html

        Raises TerminalError if another account owns the bucket, or if this identity may not list it.
        """
        bucket, _ = split_s3(uri)
        owner = expected_owner(bucket)
        if owner is None or bucket in self._checked:
            return
        try:
            with translate_errors(uri):
                self.s3.head_bucket(Bucket=bucket)
        except ClientError as error:
            hint = "check `bucket_owner`, and that this identity may list the bucket"
            what = f"the bucket does not belong to account {owner}, or access is denied"
            raise TerminalError(what, uri=f"s3://{bucket}", hint=hint) from error
        self._checked.add(bucket)

    def list(self, uri: str) -> Iterator[ObjectRef]:
        """The objects at or below `uri`, in the order of keys, without files and folders whose name begins with '.'.

        A file that is removed meanwhile may be left out. Raises UsageError if a local path does not exist, and DeniedError if
        a folder may not be listed. An S3 prefix without objects is empty.
        """
        if uri.startswith("s3://"):
            yield from self._list_s3(uri)
            return
        path = local_path(uri)
        if path.is_file():
            yield _file_ref(str(path), path.stat())
        elif path.is_dir():
            yield from _files_below(str(path))
        else:
            raise UsageError("no such file or folder", uri=uri)

    def list_span(self, uri: str, first: str, last: str) -> Iterator[ObjectRef]:
        """The objects below `uri` from those below `first` to those below `last`, in key order.

        All three are S3 prefixes that end with `/`. One request for 1,000 objects, however many prefixes lie between.
        """
        bucket, root = split_s3(uri)
        begin, end = split_s3(first)[1], split_s3(last)[1]
        for entry in self._keys(bucket, root, after=begin):
            if entry.key > end and not entry.key.startswith(end):
                return
            if not entry.key.endswith("/") and not _hidden(entry.key.removeprefix(root)):
                yield entry.ref

    def level(self, uri: str) -> Level | None:
        """The objects and folders directly below an S3 prefix that ends with `/`, in one request; None if it returns only a part.

        https://docs.aws.amazon.com/AmazonS3/latest/API/API_ListObjectsV2.html
        """
        bucket, root = split_s3(uri)
        with translate_errors(uri):
            page = self.s3.list_objects_v2(Bucket=bucket, Prefix=root, Delimiter="/")
        if page.get("IsTruncated"):
            return None
        entries = (_entry(bucket, content) for content in page.get("Contents", ()))
        inside = (entry for entry in entries if not entry.key.endswith("/"))
        folders = (common["Prefix"] for common in page.get("CommonPrefixes", ()))
        return Level(
            tuple(entry.ref for entry in inside if not _hidden(entry.key.removeprefix(root))),
            tuple(f"s3://{bucket}/{key}" for key in folders if not _hidden(key.removeprefix(root))),
        )

    def reachable(self, uri: str) -> bool:
        """Whether the location can be listed: False for a local folder that does not exist yet."""
        return uri.startswith("s3://") or local_path(uri).exists()

    def read(self, uri: str) -> bytes:
        """The bytes of an object."""
        if uri.startswith("s3://"):
            return complete_transfer(uri, lambda: self._body(uri))
        return local_path(uri).read_bytes()

    def read_start(self, uri: str, most_bytes: int) -> bytes:
        """The first bytes of an object, at most `most_bytes` of them. Raises for an empty object in S3, which has no first byte."""
        if uri.startswith("s3://"):
            return complete_transfer(uri, lambda: self._body(uri, Range=f"bytes=0-{most_bytes - 1}"))
        with local_path(uri).open("rb") as file:
            return file.read(most_bytes)

    def fetch(self, ref: ObjectRef) -> bytes:
        """The complete bytes of an object as it was listed.

        Raises UnreachableError if it was rewritten or removed since, or if the number of bytes differs.
        """
        try:
            data = self._fetched(ref)
        except (FileNotFoundError, ClientError) as error:
            if isinstance(error, ClientError) and not is_missing(error):
                raise
            raise UnreachableError("it was removed after it was listed", uri=ref.uri) from error
        if len(data) != ref.size_bytes:
            raise UnreachableError(f"{len(data)} of {ref.size_bytes} bytes were received", uri=ref.uri)
        return data

    def _fetched(self, ref: ObjectRef) -> bytes:
        if ref.uri.startswith("s3://"):
            self.check_owner(ref.uri)
            data = self._fetcher.get(*split_s3(ref.uri), ref.version)
            return (
                complete_transfer(ref.uri, lambda: self._body(ref.uri, IfMatch=f'"{ref.version}"'))
                if data is None
                else data
            )
        path = ref.uri if ref.uri.startswith("/") else local_path(ref.uri)
        with FileIO(path) as file:
            data = file.readall()
            status = os.fstat(file.fileno())
        if _file_version(status) != ref.version:
            raise UnreachableError("it was rewritten after it was listed", uri=ref.uri)
        return data

    def _body(self, uri: str, **conditions: str) -> bytes:
        body: bytes = self._get(uri, **conditions)["Body"].read()
        return body

    def _get(self, uri: str, **conditions: str) -> Any:
        bucket, key = split_s3(uri)
        return self.s3.get_object(Bucket=bucket, Key=key, **conditions)

    def exists(self, uri: str) -> bool:
        """Whether an object with exactly this name exists."""
        if not uri.startswith("s3://"):
            return local_path(uri).is_file()
        bucket, key = split_s3(uri)
        return any(page.key == key for page in self._keys(bucket, key, limit=1))

    def download(self, uri: str, target: Path) -> Path:
        """The object as a local file: a local object itself, or a copy of an S3 object at `target`."""
        if not uri.startswith("s3://"):
            return local_path(uri)

        def copy() -> None:
            with target.open("wb") as file:
                shutil.copyfileobj(self._get(uri)["Body"], file, 1 << 20)

        complete_transfer(uri, copy)
        return target

    def _list_s3(self, uri: str) -> Iterator[ObjectRef]:
        bucket, key = split_s3(uri)
        has_objects, is_folder = False, key.endswith("/")
        if key and not is_folder:
            for entry in self._keys(bucket, key, limit=1):
                if entry.key == key:
                    yield entry.ref
                    return
            key += "/"
        for entry in self._keys(bucket, key):
            has_objects = True
            if not entry.key.endswith("/") and not _hidden(entry.key.removeprefix(key)):
                yield entry.ref
        if not has_objects and key.endswith("/") and not is_folder:  # `prefix/2024/…`, or `prefix2024/…`
            yield from (entry.ref for entry in self._keys(bucket, key[:-1]) if not entry.key.endswith("/"))

    def _keys(self, bucket: str, prefix: str, limit: int | None = None, after: str | None = None) -> Iterator[_Entry]:
        settings = {"MaxItems": limit, "PageSize": limit} if limit else {}
        start = {"StartAfter": after} if after else {}
        pages = self.s3.get_paginator("list_objects_v2").paginate(
            Bucket=bucket, Prefix=prefix, PaginationConfig=settings, **start
        )
        with translate_errors(f"s3://{bucket}/{prefix}"):
            for page in pages:
                yield from (_entry(bucket, content) for content in page.get("Contents", ()))


@dataclass(frozen=True, slots=True)
class _Entry:
    key: str
    ref: ObjectRef


def _entry(bucket: str, content: dict[str, Any]) -> _Entry:
    modified_us = int(content["LastModified"].timestamp() * 1_000_000)
    ref = ObjectRef(f"s3://{bucket}/{content['Key']}", content["ETag"].strip('"'), content["Size"], modified_us)
    return _Entry(content["Key"], ref)


def local_path(uri: str) -> Path:
    """The absolute path of a local URI."""
    path = Path(unquote(uri.removeprefix("file://"))) if uri.startswith("file://") else Path(uri).expanduser()
    if "://" in uri and not uri.startswith("file://"):
        raise UsageError("only s3://, file:// and local paths are supported", uri=uri)
    return path.resolve()


def split_s3(uri: str) -> tuple[str, str]:
    """Bucket and key of `s3://bucket/key`."""
    bucket, _, key = uri.removeprefix("s3://").partition("/")
    if not bucket:
        raise UsageError("no bucket", uri=uri)
    return bucket, key


def join(folder: str, name: str) -> str:
    """The URI of `name` below `folder`."""
    return f"{folder.rstrip('/')}/{name}"


def _files_below(folder: str) -> Iterator[ObjectRef]:
    """The files below a folder in the order of their names, folder by folder. Links to folders are not followed."""
    open_folders = [_entries(folder)]
    while open_folders:
        entry = next(open_folders[-1], None)
        if entry is None:
            open_folders.pop()
        elif entry.is_dir(follow_symlinks=False):
            open_folders.append(_entries(entry.path))
        else:
            try:
                status = entry.stat()
            except FileNotFoundError:  # it was removed meanwhile, or is a link to nothing
                continue
            if S_ISREG(status.st_mode):
                yield _file_ref(entry.path, status)


def _entries(folder: str) -> Iterator[os.DirEntry[str]]:
    """What is in a folder, by name, without hidden names; nothing if the folder was removed meanwhile."""
    try:
        with os.scandir(folder) as scan:
            entries = [entry for entry in scan if not _hidden(entry.name)]
    except PermissionError as error:
        raise DeniedError("this folder may not be listed", uri=folder) from error
    except FileNotFoundError:
        return iter(())
    return iter(sorted(entries, key=attrgetter("name")))


def _file_ref(path: str, status: os.stat_result) -> ObjectRef:
    return ObjectRef(path, _file_version(status), status.st_size, status.st_mtime_ns // 1000)


def _file_version(status: os.stat_result) -> str:
    return f"{status.st_size}-{status.st_mtime_ns}"


def _hidden(name: str) -> bool:
    """Whether a part of a relative name begins with a dot; a part that is one dot has no meaning."""
    if not name.startswith(".") and "/." not in name:
        return False
    return any(part.startswith(".") and part != "." for part in name.split("/"))
