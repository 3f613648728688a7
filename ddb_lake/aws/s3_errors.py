"""What S3, or the way there, does wrong while an object is read, as errors that say what it means."""

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

from ddb_lake.core.operations.retry_policy import TRANSFERS
from ddb_lake.errors import UnreachableError

_PASSING = {"SlowDown", "InternalError", "ServiceUnavailable", "RequestTimeout", "ThrottlingException", "Throttling"}
_CHANGED = {"PreconditionFailed", "412"}
_GONE = {"NoSuchKey", "404"}

T = TypeVar("T")


def whole(uri: str, read: Callable[[], T]) -> T:
    """What `read` gives; it is called again if the transfer breaks off. Raises as `asked`."""
    for _ in range(TRANSFERS - 1):
        try:
            with asked(uri):
                return read()
        except UnreachableError as error:
            if not isinstance(error.__cause__, IncompleteReadError | ResponseStreamingError | HTTPError):
                raise
    with asked(uri):
        return read()


@contextmanager
def asked(uri: str) -> Iterator[None]:
    """Raise what passes with time as UnreachableError, and leave refusals and objects that are not there as they are."""
    try:
        yield
    except (IncompleteReadError, ResponseStreamingError, HTTPError) as error:
        raise UnreachableError(f"{uri}: the transfer broke off ({_said(error)})") from error
    except (HTTPClientError, EndpointConnectionError) as error:
        raise UnreachableError(f"{uri}: S3 does not answer ({_said(error)})") from error
    except ClientError as error:
        code = str(error.response.get("Error", {}).get("Code", ""))
        status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
        conditional = error.operation_name == "GetObject"
        if code in _CHANGED and conditional:
            raise UnreachableError(f"{uri}: it was rewritten after it was listed") from error
        if code in _PASSING or status >= 500:
            raise UnreachableError(f"{uri}: S3 fails ({_said(error)})") from error
        raise


def is_gone(error: ClientError) -> bool:
    """Whether S3 says that there is no such object."""
    return error.response.get("Error", {}).get("Code") in _GONE


def _said(error: Exception) -> str:
    return " ".join(str(error).split()).rstrip(".")
