"""Requests that S3 refuses and moto accepts: those for the bucket of another owner, and those whose content has another checksum."""

from __future__ import annotations

import base64
import hashlib
import zlib
from collections.abc import Callable
from typing import Any, Final

from ddb_lake.sandbox import backend
from ddb_lake.sandbox.awserror import Reply

_DIGESTS: Final[dict[str, Callable[[bytes], bytes]]] = {
    "HTTP_CONTENT_MD5": lambda data: hashlib.md5(data, usedforsecurity=False).digest(),
    "HTTP_X_AMZ_CHECKSUM_CRC32": lambda data: zlib.crc32(data).to_bytes(4, "big"),
    "HTTP_X_AMZ_CHECKSUM_SHA1": lambda data: hashlib.sha1(data, usedforsecurity=False).digest(),
    "HTTP_X_AMZ_CHECKSUM_SHA256": lambda data: hashlib.sha256(data).digest(),
}
"""The digests of a request's body, by header. https://docs.aws.amazon.com/AmazonS3/latest/userguide/checking-object-integrity.html"""


def has_another_owner(environ: dict[str, Any]) -> bool:
    """Whether the ExpectedBucketOwner of a request to S3 is not the owner of the bucket.

    https://docs.aws.amazon.com/AmazonS3/latest/userguide/bucket-owner-condition.html
    """
    expected = environ.get("HTTP_X_AMZ_EXPECTED_BUCKET_OWNER")
    if expected is None:
        return False
    owner = backend.bucket_account(environ["PATH_INFO"].strip("/").partition("/")[0])
    return owner is not None and owner != expected


def has_digests(environ: dict[str, Any]) -> bool:
    """Whether a request states digests of its body. A body in signed chunks states them at its end: moto reads those."""
    return not environ.get("HTTP_X_AMZ_CONTENT_SHA256", "").startswith("STREAMING-") and not _DIGESTS.keys().isdisjoint(
        environ
    )


def is_damaged(environ: dict[str, Any], body: bytes) -> bool:
    """Whether a body has another digest than the request states."""
    stated = {name: environ[name] for name in _DIGESTS if name in environ}
    return any(base64.b64encode(_DIGESTS[name](body)).decode() != digest for name, digest in stated.items())


def access_denied(environ: dict[str, Any]) -> Reply:
    """The response to a request for the bucket of another owner."""
    return _error(environ, 403, "AccessDenied", "Access Denied")


def bad_digest(environ: dict[str, Any]) -> Reply:
    """The response to a damaged request. https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html"""
    message = "The Content-MD5 or checksum value that you specified did not match what the server received."
    return _error(environ, 400, "BadDigest", message)


def _error(environ: dict[str, Any], status: int, code: str, message: str) -> Reply:
    """An error of S3. The response to HEAD has no body."""
    body = b"" if environ["REQUEST_METHOD"] == "HEAD" else _XML.format(code=code, message=message).encode()
    return status, [("Content-Type", "application/xml"), ("Content-Length", str(len(body)))], body


_XML: Final = '<?xml version="1.0" encoding="UTF-8"?>\n<Error><Code>{code}</Code><Message>{message}</Message></Error>'
