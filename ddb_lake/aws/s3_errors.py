"""S3 errors while objects are listed and read: which are transient, and which transfers are repeated.

The codes: https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeVar

from ddb_lake.core.operations.retry_policy import TRANSFER
from ddb_lake.errors import UnreachableError

if TYPE_CHECKING:
    from botocore.exceptions import ClientError

_TRANSIENT = {"SlowDown", "InternalError", "ServiceUnavailable", "RequestTimeout", "ThrottlingException", "Throttling"}
_REWRITTEN = {"PreconditionFailed", "412"}
_MISSING = {"NoSuchKey", "404"}

T = TypeVar("T")


def complete_transfer(uri: str, read: Callable[[], T]) -> T:
    """Return the result of `read`; repeat it if the transfer breaks off. Raises as `translate_errors`."""

    def read_once() -> T:
        with translate_errors(uri):
            return read()

    return TRANSFER.call(read_once, lambda error: _is_broken_transfer(error.__cause__))


@contextmanager
def translate_errors(uri: str) -> Iterator[None]:
    """Translate transient S3 errors to UnreachableError; others, such as AccessDenied and NoSuchKey, pass."""
    try:
        yield
    except Exception as error:
        fault = _transient_fault(error)
        if fault is None:
            raise
        raise UnreachableError(fault, uri=uri) from error


def _transient_fault(error: Exception) -> str | None:
    """What failed, if it may succeed later; None for other errors."""
    # imported here for start-up time: commands on local lakes read no object from S3
    from botocore.exceptions import ClientError, EndpointConnectionError, HTTPClientError

    if _is_broken_transfer(error):
        return f"the transfer broke off ({_one_line(error)})"
    if isinstance(error, HTTPClientError | EndpointConnectionError):
        return f"S3 does not answer ({_one_line(error)})"
    if not isinstance(error, ClientError):
        return None
    code = str(error.response.get("Error", {}).get("Code", ""))
    status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    if code in _REWRITTEN and error.operation_name == "GetObject":
        return "it was rewritten after it was listed"
    if code in _TRANSIENT or status >= 500:
        return f"S3 fails ({_one_line(error)})"
    return None


def _is_broken_transfer(error: BaseException | None) -> bool:
    from botocore.exceptions import IncompleteReadError, ResponseStreamingError
    from urllib3.exceptions import HTTPError

    return isinstance(error, IncompleteReadError | ResponseStreamingError | HTTPError)


def is_missing(error: ClientError) -> bool:
    """Whether S3 has no such object."""
    return error.response.get("Error", {}).get("Code") in _MISSING


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split()).rstrip(".")
