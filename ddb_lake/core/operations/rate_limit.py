"""A limit of DynamoDB's capacity units per second: how long to wait before the next request. Pure."""

from __future__ import annotations

from dataclasses import dataclass

READ_UNIT_BYTES = 4096
WRITE_UNIT_BYTES = 1024

DEFAULT_READ_RATE = 100.0
"""Read units a second of commands that read the source."""


@dataclass(slots=True)
class RateLimit:
    """At most `per_second` units a second on average, from the first request on. None: no limit.

    Units that were not used while idle are saved for one second at most.
    """

    per_second: float | None
    _ready_at: float | None = None

    def wait_s(self, now: float) -> float:
        """Seconds to wait before the next request may start. `now`: seconds of a monotonic clock."""
        if self.per_second is None or self._ready_at is None:
            return 0.0
        return max(0.0, self._ready_at - now)

    def spend(self, units: float, now: float) -> None:
        """Count the units of a request that ended at `now`."""
        if self.per_second is None:
            return
        start = now - 1.0 if self._ready_at is None else max(self._ready_at, now - 1.0)
        self._ready_at = start + units / self.per_second


def read_units(size_bytes: float, items: int = 1) -> int:
    """Read units of strongly consistent reads of `items` items of `size_bytes` on average."""
    return items * max(1, -(-int(size_bytes) // READ_UNIT_BYTES))
