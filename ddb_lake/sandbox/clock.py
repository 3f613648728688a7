"""The sandbox's clock: increasing UTC microseconds, which tests and demos may move forward."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta

from ddb_lake.errors import UsageError

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Clock:
    """Runs at the rate of the host's clock from `start` (default: now). Every reading returns a new time.

    Thread-safe.
    """

    def __init__(self, start: datetime | None = None) -> None:
        self._lock = threading.Lock()
        self._offset_us = 0 if start is None else to_micros(start) - _machine_us()
        self._last_us = 0
        self._held = False

    def now_us(self) -> int:
        """The time, at least a microsecond later than every earlier reading."""
        with self._lock:
            current = self._last_us if self._held else _machine_us() + self._offset_us
            self._last_us = max(current, self._last_us + 1)
            return self._last_us

    def now(self) -> datetime:
        """As `now_us`, as a datetime in UTC."""
        return from_micros(self.now_us())

    def next_ms_us(self) -> int:
        """The next whole millisecond, in microseconds. Later readings are greater."""
        with self._lock:
            current = self._last_us if self._held else _machine_us() + self._offset_us
            self._last_us = -(-max(current, self._last_us + 1) // 1000) * 1000
            return self._last_us

    def advance(self, by: timedelta) -> None:
        """Jump forward."""
        self.set(self.now() + by)

    def set(self, at: datetime) -> None:
        """Jump to `at`. The time runs on from there.

        Raises:
            UsageError: `at` is before an earlier reading.
        """
        at_us = to_micros(at)
        with self._lock:
            if at_us < self._last_us:
                raise UsageError(
                    "the sandbox's clock only moves forward", hint="start a new sandbox at the earlier time"
                )
            self._offset_us = at_us - _machine_us()
            self._last_us = at_us

    @contextmanager
    def held(self) -> Iterator[None]:
        """Inside, only readings advance the time, by one microsecond each: a burst of changes within a millisecond.

        Starts on a whole millisecond, so that up to 999 readings share it.
        """
        self.next_ms_us()
        with self._lock:
            self._held = True
        try:
            yield
        finally:
            with self._lock:
                self._held = False


def to_micros(at: datetime) -> int:
    """UTC microseconds since the epoch.

    Raises:
        UsageError: `at` has no time zone.
    """
    if at.tzinfo is None:
        raise UsageError("an instant without a time zone is ambiguous", hint="give it in UTC")
    return (at - _EPOCH) // timedelta(microseconds=1)


def from_micros(at_us: int) -> datetime:
    """The datetime, in UTC, of microseconds since the epoch."""
    return _EPOCH + timedelta(microseconds=at_us)


def _machine_us() -> int:
    return time.time_ns() // 1000
