"""How errors of a step end in Dagster: retried, or failed permanently with the next step."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import dagster as dg

from ddb_lake.core.operations.display_text import escape_controls
from ddb_lake.core.operations.error_text import error_text
from ddb_lake.core.operations.library_errors import translate_uncaught
from ddb_lake.errors import CommitStateUnknown, DdbLakeError, TransientError

RETRIES = dg.RetryPolicy(max_retries=2, delay=10, backoff=dg.Backoff.EXPONENTIAL, jitter=dg.Jitter.PLUS_MINUS)
"""For what may pass: throttling, a lost connection, a commit of unknown outcome. Planning again is always safe."""

_NOT_SET_UP = {"NoCredentialsError", "PartialCredentialsError", "NoRegionError", "ProfileNotFound"}
_UNREACHABLE = _NOT_SET_UP | {
    "EndpointConnectionError",
    "ConnectTimeoutError",
    "ConnectionClosedError",
    "ReadTimeoutError",
}
"""Names of botocore's errors that say nothing about the lake: AWS cannot be reached from here, or not now."""

_REFUSALS = {"AccessDenied", "AccessDeniedException", "NoSuchBucket", "InvalidAccessKeyId", "SignatureDoesNotMatch"}
"""Error codes of AWS that do not change until an operator corrects their cause."""


@contextmanager
def failures() -> Iterator[None]:
    """Raise errors that a retry does not resolve as `dg.Failure` without retries, with their message alone."""
    try:
        yield
    except (TransientError, CommitStateUnknown):
        raise
    except DdbLakeError as error:
        raise _failure(str(error)).with_traceback(
            error.__traceback__
        ) from None  # a cause is shown with its raw message
    except Exception as error:
        if message := _permanent_error_text(error):
            raise _failure(message) from None
        translated = translate_uncaught(error)
        if translated is None:
            raise
        if isinstance(translated, TransientError | CommitStateUnknown):
            raise translated from error
        raise _failure(str(translated)) from error


def _failure(message: str) -> dg.Failure:
    return dg.Failure(description=escape_controls(message), allow_retries=False)


def is_unreachable(error: BaseException) -> bool:
    """Whether AWS could not be reached at all, as opposed to an error that AWS returned."""
    return isinstance(error, TransientError) or type(error).__name__ in _UNREACHABLE


def _permanent_error_text(error: Exception) -> str | None:
    """The message for an AWS error that does not change until its cause is corrected; None for other errors."""
    if type(error).__name__ in _NOT_SET_UP:
        return f"AWS cannot be called: {error_text(error)}; set the standard AWS variables, or see `ddb-lake doctor`"
    response = getattr(error, "response", None)
    code = response.get("Error", {}).get("Code") if isinstance(response, dict) else None
    return f"AWS refuses: {error_text(error)}; `ddb-lake doctor` shows what is missing" if code in _REFUSALS else None
