"""Small limits, so that a short history has merged manifests and merged files of the changelog."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from unittest import mock

from ddb_lake.lake import commit, compaction_policy, size_tiers


@contextmanager
def merging_early() -> Iterator[None]:
    """Commits merge two manifests of a size, to four files at most; compaction merges two files of an hour or a day."""
    with ExitStack() as stack:
        stack.enter_context(mock.patch.object(size_tiers, "TIER_SIZE", 2))
        stack.enter_context(mock.patch.object(commit, "LARGE_MANIFEST_FILES", 4))
        for limit in ("MAX_FILES_PER_DAY", "MAX_FILES_PER_HOUR", "MAX_FILES_OF_LATEST_HOUR"):
            stack.enter_context(mock.patch.object(compaction_policy, limit, 1))
        yield
