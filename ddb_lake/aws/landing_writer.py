"""Write to landing what no AWS service writes there: objects, and documents that are replaced by compare-and-swap.

An object is written once, under a name that is never used again. A document is replaced only if it still has the version that
was read: in S3 by a conditional put, in a folder under a lock.
https://docs.aws.amazon.com/AmazonS3/latest/userguide/conditional-writes.html
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from botocore.exceptions import ClientError

from ddb_lake.aws.error_codes import error_code
from ddb_lake.aws.objects import ObjectStore, join, local_path, split_s3
from ddb_lake.aws.s3_errors import is_missing
from ddb_lake.errors import CommitConflict

_CONFLICTS = {"PreconditionFailed", "ConditionalRequestConflict", "412", "409"}


class Landing:
    """The objects below one folder or prefix `uri`. Names are relative to it."""

    def __init__(self, objects: ObjectStore, uri: str) -> None:
        self._objects = objects
        self.uri = uri

    def put(self, name: str, data: bytes) -> str:
        """Write a new object atomically and durably. Returns its URI."""
        uri = join(self.uri, name)
        if uri.startswith("s3://"):
            bucket, key = split_s3(uri)
            self._objects.s3.put_object(Bucket=bucket, Key=key, Body=data)
        else:
            _replace(local_path(uri), data)
        return uri

    def remove(self, name: str) -> None:
        """Remove an object. It is no error if it is not there."""
        uri = join(self.uri, name)
        if uri.startswith("s3://"):
            bucket, key = split_s3(uri)
            self._objects.s3.delete_object(Bucket=bucket, Key=key)
        else:
            local_path(uri).unlink(missing_ok=True)

    def names(self) -> list[str]:
        """The names of all objects, in the order of keys."""
        if not self._objects.reachable(self.uri):
            return []
        folder = self.uri.rstrip("/") if self.uri.startswith("s3://") else str(local_path(self.uri))
        return [ref.uri.removeprefix(f"{folder}/") for ref in self._objects.list(f"{folder}/")]

    def load(self, name: str) -> tuple[bytes | None, str | None]:
        """A document and its version; None and None if it does not exist."""
        uri = join(self.uri, name)
        if not uri.startswith("s3://"):
            path = local_path(uri)
            data = path.read_bytes() if path.is_file() else None
            return data, None if data is None else _version(data)
        bucket, key = split_s3(uri)
        try:
            answer = self._objects.s3.get_object(Bucket=bucket, Key=key)
        except ClientError as error:
            if is_missing(error):
                return None, None
            raise
        return answer["Body"].read(), answer["ETag"]

    def replace(self, name: str, data: bytes, version: str | None) -> str:
        """Replace the document if it has `version` (None: if it does not exist). Returns its new version.

        Raises:
            CommitConflict: it has another version. After a lost response, this may be raised although the document was
                replaced: load it to find out.
        """
        uri = join(self.uri, name)
        if not uri.startswith("s3://"):
            path = local_path(uri)
            with _locked(path.with_name(".lock")):
                if self.load(name)[1] != version:
                    raise CommitConflict("another process replaced it first; read it again", uri=uri)
                _replace(path, data)
            return _version(data)
        bucket, key = split_s3(uri)
        condition: dict[str, Any] = {"IfNoneMatch": "*"} if version is None else {"IfMatch": version}
        try:
            answer = self._objects.s3.put_object(Bucket=bucket, Key=key, Body=data, **condition)
        except ClientError as error:
            if error_code(error) in _CONFLICTS or (version is not None and is_missing(error)):
                raise CommitConflict("another process replaced it first; read it again", uri=uri) from error
            raise
        etag: str = answer["ETag"]
        return etag


def _version(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _replace(path: Path, data: bytes) -> None:
    """Write a file atomically and durably: under a hidden name, which listings leave out, then rename it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    hidden = path.with_name(f".{uuid.uuid4().hex}")
    with hidden.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    hidden.replace(path)


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
