"""S3 errors while objects are listed and read: which are transient, and which transfers are repeated.

The codes: https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from botocore.exceptions import (
    ClientError,
    EndpointConnectionError,
    HTTPClientError,
    IncompleteReadError,
    ResponseStreamingError,
)
from urllib3.exceptions import HTTPError

from ddb_lake.core.operations.retry_policy import TRANSFER
from ddb_lake.errors import UnreachableError

_TRANSIENT = {"SlowDown", "InternalError", "ServiceUnavailable", "RequestTimeout", "ThrottlingException", "Throttling"}
_REWRITTEN = {"PreconditionFailed", "412"}
_MISSING = {"NoSuchKey", "404"}
_BROKEN_TRANSFERS = (IncompleteReadError, ResponseStreamingError, HTTPError)

T = TypeVar("T")


def complete_transfer(uri: str, read: Callable[[], T]) -> T:
    """Return the result of `read`; repeat it if the transfer breaks off. Raises as `translate_errors`."""

    def read_once() -> T:
        with translate_errors(uri):
            return read()

    return TRANSFER.call(read_once, lambda error: isinstance(error.__cause__, _BROKEN_TRANSFERS))


@contextmanager
def translate_errors(uri: str) -> Iterator[None]:
    """Translate transient S3 errors to UnreachableError; re-raise AccessDenied and NoSuchKey."""
    try:
        yield
    except _BROKEN_TRANSFERS as error:
        raise UnreachableError(f"the transfer broke off ({_one_line(error)})", uri=uri) from error
    except (HTTPClientError, EndpointConnectionError) as error:
        raise UnreachableError(f"S3 does not answer ({_one_line(error)})", uri=uri) from error
    except ClientError as error:
        code = str(error.response.get("Error", {}).get("Code", ""))
        status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
        conditional = error.operation_name == "GetObject"
        if code in _REWRITTEN and conditional:
            raise UnreachableError("it was rewritten after it was listed", uri=uri) from error
        if code in _TRANSIENT or status >= 500:
            raise UnreachableError(f"S3 fails ({_one_line(error)})", uri=uri) from error
        raise


def is_missing(error: ClientError) -> bool:
    """Whether S3 has no such object."""
    return error.response.get("Error", {}).get("Code") in _MISSING


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split()).rstrip(".")
