"""The leases of followers, in a document below the lake's landing that is replaced by compare-and-swap."""

from __future__ import annotations

import os
import socket
import time
import uuid
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Final

from ddb_lake.aws.landing_writer import Landing
from ddb_lake.core.capture import leases
from ddb_lake.core.capture.leases import Lease, Leases, LeaseWatch
from ddb_lake.core.operations.retry_policy import retry_commit
from ddb_lake.pipeline.open_lake import Lake

FOLDER: Final = ".follow"
DOCUMENT: Final = "leases.json"


def process_name() -> str:
    """A name for this process that no other process has: host, process id and a random part."""
    return f"{socket.gethostname()}-{os.getpid()}-{uuid.uuid4().hex[:8]}"


def read_leases(lake: Lake) -> Leases:
    """The leases as they are stored. Those of a follower that was killed stay until another follower starts."""
    place = _place(lake)
    return leases.load(place.load(DOCUMENT)[0], place.uri)


def working_followers(lake: Lake) -> Leases:
    """The leases that were renewed within the last minute."""
    return leases.fresh(read_leases(lake), int(lake.now().timestamp() * 1_000_000))


@dataclass(slots=True)
class LeaseKeeper:
    """Takes, renews and releases the leases of one follower. `clock`: one that does not go back, in seconds."""

    lake: Lake
    tables: Collection[str]
    holder: str = field(default_factory=process_name)
    clock: Callable[[], float] = time.monotonic
    _watch: LeaseWatch = field(default_factory=LeaseWatch)

    def renew(self, lags: Mapping[str, float] | None = None) -> set[str]:
        """Take the leases that are free or expired, and renew those that this follower has.

        Args:
            lags: how far the lake is behind each table's source, in seconds, for `status`.

        Returns:
            The tables that this follower has to follow.

        Raises:
            CommitConflict: other followers replaced the document at each attempt.
        """
        return retry_commit(lambda: self._renew(lags or {}))

    def release(self) -> None:
        """Give up all leases, so that another follower need not wait."""
        retry_commit(self._release)

    def _renew(self, lags: Mapping[str, float]) -> set[str]:
        place = _place(self.lake)
        data, version = place.load(DOCUMENT)
        known = leases.load(data, place.uri)
        me = Lease(self.holder, 0, int(self.lake.now().timestamp() * 1_000_000))
        changed = leases.claimed(known, me, self.tables, self._watch.expired(known, self.clock()))
        changed = leases.with_lags(changed, self.holder, lags)
        if changed != known:
            place.replace(DOCUMENT, leases.dump(changed), version)
        return leases.held(changed, self.holder)

    def _release(self) -> None:
        place = _place(self.lake)
        data, version = place.load(DOCUMENT)
        known = leases.load(data, place.uri)
        left = leases.released(known, self.holder)
        if left != known:
            place.replace(DOCUMENT, leases.dump(left), version)


def _place(lake: Lake) -> Landing:
    return Landing(lake.objects, f"{lake.landing}/{FOLDER}")
