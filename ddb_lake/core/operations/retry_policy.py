"""Retry policy: which limits apply to requests, and how often and after which waits an operation is repeated.

boto3, obstore, pyarrow (through pyiceberg) and DuckDB retry requests themselves. The first section has their settings, so
that landing and the warehouse behave in the same way. Operations that no client repeats (a commit that lost a race, a
batch that DynamoDB processed in part) are repeated by a `RetryPolicy` of the second section. Dagster's retries of whole
runs are in `orchestration.failures`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, TypeVar

from tenacity import RetryCallState, Retrying, retry_any, retry_if_exception, retry_if_result, wait_random_exponential

from ddb_lake.errors import TransientError, UnreachableError

# --- requests: settings of the clients

CONNECT_TIMEOUT_S: Final = 10
READ_TIMEOUT_S: Final = 60
"""The longest time without any bytes of a response."""

ATTEMPTS: Final = 8
"""The number of attempts of a request that a store fails or throttles."""

FIRST_WAIT_MS: Final = 100
WAIT_FACTOR: Final = 2
"""DuckDB's waits between attempts: 100 ms, 200 ms, …, 13 s in all."""

EXPORT_WAITS_S: Final = (0.5, 20.0)
"""The first and the longest wait between two looks at a running export; each is 1.5 times the one before.

An export takes minutes at least; the first looks are frequent for small tables and stand-ins.
"""

EXPORT_TIMEOUT_S: Final = 24 * 3600
"""How long to wait for an export."""

# --- operations: policies of this project

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How often an operation is attempted, and how long to wait between attempts.

    The wait after attempt n is a random time between 0 and 0.1 s · 2ⁿ⁻¹, at most `longest_wait_s`: "full jitter", which
    keeps concurrent writers apart.
    https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/

    Args:
        attempts: the number of calls, the first included.
        longest_wait_s: the upper bound of a single wait.
    """

    attempts: int
    longest_wait_s: float

    def call(
        self,
        operation: Callable[[], T],
        is_retryable: Callable[[BaseException], bool],
        sleep: Callable[[float], None] = time.sleep,
    ) -> T:
        """Return the result of `operation`; repeat it after a retryable error.

        Raises the error of the last attempt, or the first one that is not retryable.
        """
        return self._retrying(sleep, retry=retry_if_exception(is_retryable), reraise=True)(operation)

    def drain(
        self,
        work: Sequence[T],
        attempt: Callable[[list[T]], Sequence[T]],
        *,
        is_retryable: Callable[[BaseException], bool] = lambda _: False,
        sleep: Callable[[float], None] = time.sleep,
        remaining_s: Callable[[], float] | None = None,
    ) -> list[T]:
        """Process work with calls that may leave a part of it undone, such as DynamoDB's batch operations.

        Args:
            work: what to process.
            attempt: processes a list and returns what is left of it.
            is_retryable: whether an error of `attempt` leaves its whole list undone; other errors are raised.
            sleep: waits for seconds.
            remaining_s: the time left; no wait is begun that is longer.

        Returns:
            What is left after the last attempt; empty if all is done.
        """
        left = list(work)

        def process() -> bool:
            nonlocal left
            left = list(attempt(left))
            return not left

        retrying = self._retrying(
            sleep,
            remaining_s,
            retry=retry_any(retry_if_result(lambda done: not done), retry_if_exception(is_retryable)),
            retry_error_callback=lambda _: False,
        )
        retrying(process)
        return left

    def wait_s(self, failures: int) -> float:
        """A random wait after a number of failures in succession (at least 1)."""
        state = RetryCallState(Retrying(), None, (), {})
        state.attempt_number = failures
        return self._wait()(state)

    def _wait(self) -> wait_random_exponential:
        return wait_random_exponential(multiplier=FIRST_WAIT_MS / 1000, max=self.longest_wait_s)

    def _retrying(
        self, sleep: Callable[[float], None], remaining_s: Callable[[], float] | None = None, **options: object
    ) -> Retrying:
        def stop(state: RetryCallState) -> bool:
            too_long = remaining_s is not None and remaining_s() < state.upcoming_sleep
            return state.attempt_number >= self.attempts or too_long

        return Retrying(sleep=sleep, stop=stop, wait=self._wait(), **options)  # type: ignore[arg-type]


COMMIT: Final = RetryPolicy(attempts=12, longest_wait_s=2.0)
"""A commit that lost a race: the lake's commits and those of a replica in MySQL. Each attempt plans again from the new state."""

CATALOG: Final = RetryPolicy(attempts=5, longest_wait_s=0.4)
"""Creating the catalog's tables and namespace, which several processes may do at once."""

TRANSFER: Final = RetryPolicy(attempts=3, longest_wait_s=0.0)
"""Reading an object whose transfer breaks off: clients repeat requests, but not transfers. Nothing is throttled: no wait."""

DYNAMODB: Final = RetryPolicy(attempts=12, longest_wait_s=20.0)
"""Requests of items that DynamoDB throttles, and batches that it processes only in part.

https://docs.aws.amazon.com/amazondynamodb/latest/APIReference/API_BatchWriteItem.html recommends exponential back-off.
"""

STREAMS: Final = RetryPolicy(attempts=6, longest_wait_s=10.0)
"""Requests to DynamoDB Streams that are throttled. Reading records uses the waits alone, until its time is over."""

LAMBDA: Final = RetryPolicy(attempts=10, longest_wait_s=5.0)
"""Writes of a Lambda handler to Firehose or DynamoDB, within the time that is left of its invocation."""


def retry_commit(plan_and_commit: Callable[[], T]) -> T:
    """Plan and commit; repeat both while another writer commits first or holds the catalog.

    `plan_and_commit` must read the state again each time. An `UnreachableError` is raised at once: the clients have
    retried the request already.
    """
    return COMMIT.call(
        plan_and_commit, lambda error: isinstance(error, TransientError) and not isinstance(error, UnreachableError)
    )
