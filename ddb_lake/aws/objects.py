"""Objects in S3 and in local folders, behind the same few calls: list, fetch, read, download, exists.

What S3 or the way there does wrong (failing, throttling, a connection that ends half-way through an object) is an
`UnreachableError` after a few attempts: nothing that was read in part is ever given to a caller.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from threading import Lock
from typing import Any
from urllib.parse import unquote

from botocore.exceptions import ClientError

from ddb_lake.aws.s3_errors import complete_transfer, is_missing, translate_errors
from ddb_lake.aws.s3_reader import Fetcher
from ddb_lake.aws.session import client
from ddb_lake.errors import UnreachableError, UsageError


@dataclass(frozen=True, slots=True)
class ObjectRef:
    """One object as it was when listed.

    `version` changes when its content is rewritten: the ETag in S3; size and modification time in a folder.
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
    """Reads landed objects; writes nothing. URIs are `s3://bucket/key`, `file://…` or local paths."""

    def __init__(self) -> None:
        self._s3: Any = None
        self._making = Lock()
        self._fetcher = Fetcher()

    @property
    def s3(self) -> Any:
        """The S3 client, made on first use, which several threads may come to at once."""
        with self._making:
            if self._s3 is None:
                self._s3 = client("s3")
            return self._s3

    def list(self, uri: str) -> Iterator[ObjectRef]:
        """The objects at or below `uri`, in key order. Files and folders whose name begins with '.' are left out.

        Raises UsageError if a local path does not exist; an S3 prefix without objects gives none.
        """
        if uri.startswith("s3://"):
            yield from self._list_s3(uri)
            return
        path = local_path(uri)
        if path.is_file():
            yield _file_ref(path)
        elif path.is_dir():
            inside = sorted(p for p in path.rglob("*") if p.is_file())
            yield from (_file_ref(p) for p in inside if not _hidden(p.relative_to(path)))
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
            if not entry.key.endswith("/") and not _hidden(Path(entry.key.removeprefix(root))):
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
        entries = (_entry(bucket, found) for found in page.get("Contents", ()))
        inside = (entry for entry in entries if not entry.key.endswith("/"))
        folders = (found["Prefix"] for found in page.get("CommonPrefixes", ()))
        return Level(
            tuple(entry.ref for entry in inside if not _hidden(Path(entry.key.removeprefix(root)))),
            tuple(f"s3://{bucket}/{key}" for key in folders if not _hidden(Path(key.removeprefix(root)))),
        )

    def reachable(self, uri: str) -> bool:
        """Whether there is anything to list: a local folder may not have been made yet."""
        return uri.startswith("s3://") or local_path(uri).exists()

    def read(self, uri: str) -> bytes:
        """The bytes of an object."""
        if uri.startswith("s3://"):
            return complete_transfer(uri, lambda: self._body(uri))
        return local_path(uri).read_bytes()

    def fetch(self, ref: ObjectRef) -> bytes:
        """The bytes of an object, all of them, exactly as it was when listed.

        Raises UnreachableError if it was rewritten or removed since, or if fewer bytes come than it has.
        """
        try:
            data = self._fetched(ref)
        except (FileNotFoundError, ClientError) as error:
            if isinstance(error, ClientError) and not is_missing(error):
                raise
            raise UnreachableError("it was removed after it was listed", uri=ref.uri) from error
        if len(data) != ref.size_bytes:
            raise UnreachableError(f"{len(data)} bytes came of {ref.size_bytes}: half an object is none", uri=ref.uri)
        return data

    def _fetched(self, ref: ObjectRef) -> bytes:
        if ref.uri.startswith("s3://"):
            data = self._fetcher.get(*split_s3(ref.uri), ref.version)
            return (
                complete_transfer(ref.uri, lambda: self._body(ref.uri, IfMatch=f'"{ref.version}"'))
                if data is None
                else data
            )
        path = Path(ref.uri) if ref.uri.startswith("/") else local_path(ref.uri)
        with path.open("rb") as file:
            data = file.read()
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
        """Whether there is an object of exactly this name."""
        if not uri.startswith("s3://"):
            return local_path(uri).is_file()
        bucket, key = split_s3(uri)
        return any(page.key == key for page in self._keys(bucket, key, limit=1))

    def download(self, uri: str, target: Path) -> Path:
        """The object as a local file: itself if it is one, else a copy at `target`."""
        if not uri.startswith("s3://"):
            return local_path(uri)

        def copy() -> None:
            with target.open("wb") as file:
                shutil.copyfileobj(self._get(uri)["Body"], file, 1 << 20)

        complete_transfer(uri, copy)
        return target

    def _list_s3(self, uri: str) -> Iterator[ObjectRef]:
        bucket, key = split_s3(uri)
        found, whole_folder = False, key.endswith("/")
        if key and not whole_folder:
            for entry in self._keys(bucket, key, limit=1):
                if entry.key == key:
                    yield entry.ref
                    return
            key += "/"
        for entry in self._keys(bucket, key):
            found = True
            if not entry.key.endswith("/") and not _hidden(Path(entry.key.removeprefix(key))):
                yield entry.ref
        if not found and key.endswith("/") and not whole_folder:  # `prefix/2024/…`, or `prefix2024/…`
            yield from (entry.ref for entry in self._keys(bucket, key[:-1]) if not entry.key.endswith("/"))

    def _keys(self, bucket: str, prefix: str, limit: int | None = None, after: str | None = None) -> Iterator[_Entry]:
        settings = {"MaxItems": limit, "PageSize": limit} if limit else {}
        start = {"StartAfter": after} if after else {}
        pages = self.s3.get_paginator("list_objects_v2").paginate(
            Bucket=bucket, Prefix=prefix, PaginationConfig=settings, **start
        )
        with translate_errors(f"s3://{bucket}/{prefix}"):
            for page in pages:
                yield from (_entry(bucket, found) for found in page.get("Contents", ()))


@dataclass(frozen=True, slots=True)
class _Entry:
    key: str
    ref: ObjectRef


def _entry(bucket: str, found: dict[str, Any]) -> _Entry:
    modified_us = int(found["LastModified"].timestamp() * 1_000_000)
    ref = ObjectRef(f"s3://{bucket}/{found['Key']}", found["ETag"].strip('"'), found["Size"], modified_us)
    return _Entry(found["Key"], ref)


def local_path(uri: str) -> Path:
    """The absolute path of a local URI."""
    path = Path(unquote(uri.removeprefix("file://"))) if uri.startswith("file://") else Path(uri).expanduser()
    if "://" in uri and not uri.startswith("file://"):
        raise UsageError("only s3://, file:// and local paths are read", uri=uri)
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


def modified(ref: ObjectRef) -> datetime:
    """When the object was last written."""
    return datetime.fromtimestamp(ref.modified_us / 1e6, UTC)


def _file_ref(path: Path) -> ObjectRef:
    status = path.stat()
    return ObjectRef(str(path), _file_version(status), status.st_size, status.st_mtime_ns // 1000)


def _file_version(status: os.stat_result) -> str:
    return f"{status.st_size}-{status.st_mtime_ns}"


def _hidden(path: Path) -> bool:
    return any(part.startswith(".") for part in path.parts)
