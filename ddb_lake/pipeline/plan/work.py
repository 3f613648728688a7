"""The record of one piece of work, and the kinds of work that a shell adds to the pipeline's own."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from ddb_lake.config import TableSettings
from ddb_lake.pipeline.open_lake import Lake

HOUR = timedelta(hours=1)


@dataclass(frozen=True, slots=True)
class Work:
    """One piece of work for one table.

    Attributes:
        kind: `read`: land the records of the table's DynamoDB stream. `load`: load an export. `apply`: apply landed
            objects. `merge`: apply the records of the changelog that `current` lacks, because a run ended between the
            two. `export`: start the windows of incremental exports that are due. `compact`: rewrite files. Other values
            are the names of `WorkKind`s.
        reason: one sentence for logs, without a full stop and without values of items.
        uris: the manifest of the export to load, or the objects to apply. Empty in what the sensor plans to apply: its run
            lists `hours`.
        hours: arrival hours (UTC) of the objects to apply, in order.
        everything: some of the objects are outside the folders of their hours, so that the run must list everything.
        digest: identifies the state that requires the work. The same state has the same digest.
        state: the progress of the lake in this kind of work. While it is unchanged, earlier requests had no effect.
        tries: how often the sensor has requested the work in this state, this time included.
    """

    table: str
    kind: str
    reason: str
    uris: tuple[str, ...] = ()
    hours: tuple[datetime, ...] = ()
    everything: bool = False
    digest: str = ""
    state: str = ""
    tries: int = 1


@dataclass(frozen=True, slots=True)
class WorkKind:
    """A kind of work that a shell adds to the pipeline's own, such as replication to a database.

    The command line and the Dagster component pass it to the planner and to `sync`; the pipeline imports no other system.

    Attributes:
        name: the `kind` of its `Work`.
        target: the system that it writes to, for messages.
        is_configured: whether a table's settings require it.
        due: why it is due for a table, or None. May raise DatabaseError or TransientError if the target does not answer.
        run: does it for the table of a name, and returns a result (a dataclass).
    """

    name: str
    target: str
    is_configured: Callable[[TableSettings], bool]
    due: Callable[[Lake, TableSettings], str | None]
    run: Callable[[Lake, str], Any]


def digest(parts: Iterable[str]) -> str:
    """A short name (16 hexadecimal digits) for a set of observations; their order does not matter."""
    return hashlib.sha256("\0".join(sorted(parts)).encode()).hexdigest()[:16]


def hours_back(now: datetime, seconds: int) -> list[datetime]:
    """The UTC hours from `seconds` ago to now, both inclusive, oldest first."""
    until = now.astimezone(UTC)  # first: an hour less on a local clock is not always an hour ago
    last = until.replace(minute=0, second=0, microsecond=0)
    first = (until - timedelta(seconds=seconds)).replace(minute=0, second=0, microsecond=0)
    return [first + HOUR * i for i in range(int((last - first) / HOUR) + 1)]
