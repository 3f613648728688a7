"""Which faults of AWS pass by themselves, and how long to wait for that."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Final

from botocore.exceptions import BotoCoreError, ClientError, ConnectionError, HTTPClientError

TRANSIENT_CODES: Final = frozenset(
    {
        "InternalFailure",
        "InternalServerError",
        "LimitExceededException",
        "ProvisionedThroughputExceededException",
        "RequestLimitExceeded",
        "RequestTimeout",
        "ServiceUnavailable",
        "ServiceUnavailableException",
        "SlowDown",
        "Throttling",
        "ThrottlingException",
    }
)


def transient(error: BaseException) -> bool:
    """Whether the same call may succeed a little later: throttling, a service's own fault, a broken connection."""
    if isinstance(error, ClientError):
        status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
        return error.response.get("Error", {}).get("Code") in TRANSIENT_CODES or status >= 500
    return isinstance(error, BotoCoreError) and isinstance(error, ConnectionError | HTTPClientError)


def pauses(attempts: int, longest_s: float) -> Iterator[float | None]:
    """How long to wait after each attempt, None after the last: full jitter, doubling up to the longest."""
    for attempt in range(attempts - 1):
        yield random.uniform(0, min(longest_s, 0.1 * 2**attempt))
    yield None
