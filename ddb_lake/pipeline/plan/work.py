"""What is due: which landed objects and exports a table has not taken in yet. Pure; listings are given."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Literal

HOUR = timedelta(hours=1)

FIRST_HOUR = datetime(2025, 1, 1, tzinfo=UTC)
"""The first arrival hour that has a partition of its own in Dagster. Objects that landed earlier are applied too."""


@dataclass(frozen=True, slots=True)
class Due:
    """One piece of work for one table. `read`: land what its DynamoDB stream has. `export`: start the windows of
    incremental exports that are due. `replicate`: bring
    the table's counterpart in a database up to date.

    `uris`: the objects to apply, or the export to load. `hours`: their arrival hours (ISO 8601, UTC), in order;
    empty where keys do not say. `digest`: names the observed state, so that the same work is asked for once.
    """

    table: str
    kind: Literal["read", "load", "apply", "export", "replicate", "compact"]
    reason: str
    uris: tuple[str, ...] = ()
    hours: tuple[str, ...] = ()
    digest: str = ""


def digest(parts: Iterable[str]) -> str:
    """A short name for a set of observations, whatever their order."""
    return hashlib.sha256("\0".join(sorted(parts)).encode()).hexdigest()[:16]


def hours_back(now: datetime, seconds: int) -> list[datetime]:
    """The UTC hours from `seconds` ago to now, both inclusive, oldest first."""
    until = now.astimezone(UTC)  # first: an hour less on a local clock is not always an hour ago
    last = until.replace(minute=0, second=0, microsecond=0)
    first = (until - timedelta(seconds=seconds)).replace(minute=0, second=0, microsecond=0)
    return [first + HOUR * i for i in range(int((last - first) / HOUR) + 1)]


def contiguous(hours: Sequence[datetime], limit: int = 24) -> list[list[datetime]]:
    """Hours in runs without a gap, at most `limit` long, oldest first; an hour given twice counts once."""
    runs: list[list[datetime]] = []
    for hour in sorted(set(hours)):
        if runs and hour - runs[-1][-1] == HOUR and len(runs[-1]) < limit:
            runs[-1].append(hour)
        else:
            runs.append([hour])
    return runs
