"""Commits counted, and other writers' commits put between ours."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any
from unittest import mock

from ddb_lake.errors import CommitConflict
from ddb_lake.lake.commit import Commit

LONGEST_WAIT_S = 30


@contextmanager
def held(owner: Any, method: str, concerns: Callable[..., bool], parties: int = 2) -> Iterator[list[CommitConflict]]:
    """Hold each thread's first call of `method` that `concerns` is true of until `parties` threads are there.

    Yields the conflicts that calls of the method raise.
    """
    barrier = threading.Barrier(parties)
    threads: set[int] = set()
    conflicts: list[CommitConflict] = []
    original = getattr(owner, method)

    def waiting(*arguments: Any, **named: Any) -> Any:
        if concerns(*arguments) and threading.get_ident() not in threads:
            threads.add(threading.get_ident())
            with suppress(threading.BrokenBarrierError):
                barrier.wait(LONGEST_WAIT_S)
        try:
            return original(*arguments, **named)
        except CommitConflict as conflict:
            conflicts.append(conflict)
            raise

    with mock.patch.object(owner, method, waiting):
        yield conflicts
    assert len(threads) >= parties, f"only {len(threads)} threads came to {method}"


def commits_to(table: str) -> Any:
    """Both threads have planned their first commit to `table` before one of them commits."""
    return held(Commit, "run", lambda commit: commit._table.name()[-1] == table)
