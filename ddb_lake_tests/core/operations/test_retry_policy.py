"""Retry policies: how often, after which waits, and for which errors an operation is repeated."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from ddb_lake.core.operations import retry_policy
from ddb_lake.core.operations.retry_policy import RetryPolicy, retry_commit
from ddb_lake.errors import CommitConflict, TransientError, UnreachableError, UsageError

POLICY = RetryPolicy(attempts=4, longest_wait_s=0.3)


def failing(*errors: Exception) -> Iterator[Exception | None]:
    yield from errors
    while True:
        yield None


class Operation:
    """Raises the given errors, one a call, then returns its number of calls."""

    def __init__(self, *errors: Exception) -> None:
        self.errors, self.calls = failing(*errors), 0

    def __call__(self) -> int:
        self.calls += 1
        if (error := next(self.errors)) is not None:
            raise error
        return self.calls


def test_call_repeats_retryable_errors_after_growing_waits() -> None:
    operation, waits = Operation(*[ValueError()] * 3), []

    assert POLICY.call(operation, lambda error: isinstance(error, ValueError), waits.append) == 4

    assert len(waits) == 3
    assert all(0 <= wait <= longest for wait, longest in zip(waits, (0.1, 0.2, 0.3), strict=True))


def test_call_raises_the_error_of_the_last_attempt() -> None:
    operation = Operation(*[ValueError(number) for number in range(9)])

    with pytest.raises(ValueError, match="3"):
        POLICY.call(operation, lambda error: True, lambda _: None)

    assert operation.calls == 4


def test_call_raises_another_error_at_once() -> None:
    operation = Operation(ValueError(), KeyError("x"))

    with pytest.raises(KeyError):
        POLICY.call(operation, lambda error: isinstance(error, ValueError), lambda _: None)

    assert operation.calls == 2


def test_drain_attempts_only_what_is_left_and_returns_what_is_never_done() -> None:
    batches: list[list[int]] = []

    def attempt(batch: list[int]) -> list[int]:
        batches.append(batch)
        return [number for number in batch if number > len(batches)]

    assert POLICY.drain([1, 2, 3, 9], attempt, sleep=lambda _: None) == [9]
    assert batches == [[1, 2, 3, 9], [2, 3, 9], [3, 9], [9]]


def test_drain_keeps_the_whole_batch_after_a_retryable_error_and_raises_others() -> None:
    def attempt(batch: list[int]) -> list[int]:
        operation()
        return batch[1:]

    operation = Operation(*[ValueError()] * 2)
    assert POLICY.drain([1, 2, 3], attempt, is_retryable=lambda _: True, sleep=lambda _: None) == [3]
    operation = Operation(*[ValueError()] * 9)
    assert POLICY.drain([1, 2], attempt, is_retryable=lambda _: True, sleep=lambda _: None) == [1, 2]
    operation = Operation(ValueError())
    with pytest.raises(ValueError):
        POLICY.drain([1], attempt, sleep=lambda _: None)


def test_drain_begins_no_wait_that_is_longer_than_the_time_left() -> None:
    calls: list[list[int]] = []

    def attempt(batch: list[int]) -> list[int]:
        calls.append(batch)
        return batch

    assert POLICY.drain([1], attempt, remaining_s=lambda: -1.0) == [1]
    assert calls == [[1]]


def test_wait_after_many_failures_has_a_bound() -> None:
    assert all(0 <= POLICY.wait_s(failures) <= 0.3 for failures in (1, 2, 3, 10, 5000))


@pytest.mark.parametrize(
    ("error", "calls"),
    [(CommitConflict("x"), 3), (TransientError("x"), 3), (UnreachableError("x"), 1), (UsageError("x"), 1)],
)
def test_commit_is_repeated_after_a_conflict_and_not_when_a_service_is_unreachable(
    error: Exception, calls: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retry_policy, "COMMIT", RetryPolicy(attempts=3, longest_wait_s=0.0))
    operation = Operation(*[error] * 9)

    with pytest.raises(type(error)):
        retry_commit(operation)

    assert operation.calls == calls
