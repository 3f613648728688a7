"""A day of commits every five seconds by the policy: bytes written, files, and deleted rows that a reader reads."""

from __future__ import annotations

import pytest

from ddb_lake.lake.compaction_policy import (
    MAX_DELETE_FILES,
    MAX_DELETED_SHARE,
    MAX_FILES_OF_LATEST_HOUR,
    MAX_SMALL_FILES,
)
from ddb_lake.pipeline.follow.follower import COMPACT_EVERY_S
from ddb_lake_tests.support.effort import cases
from ddb_lake_tests.support.followed_files import FollowedFiles

INTERVAL_S = 5.0
DAY = 17_280
"""The commits of a day."""

BETWEEN = int(COMPACT_EVERY_S / INTERVAL_S)
"""The commits between two compactions."""


def _follow(commits: int, keys: int, changes: int) -> tuple[FollowedFiles, list[float]]:
    """Follow; asserts that files stay few. Gives the shares of deleted rows after each commit of the second half."""
    table, shares = FollowedFiles(keys, changes, INTERVAL_S), list[float]()
    for number in range(1, commits + 1):
        table.commit()
        if number % BETWEEN == 0:
            table.compact()
        assert len(table.rows) <= 2 * MAX_SMALL_FILES + BETWEEN
        assert len(table.deletes) <= 2 * MAX_DELETE_FILES + BETWEEN
        assert sum(map(len, table.changelog.values())) <= MAX_FILES_OF_LATEST_HOUR + BETWEEN + 8 * 24
        assert table.deleted.total() == sum(sum(named.values()) for named in table.deletes)
        assert sum(table.rows.values()) - table.deleted.total() <= keys
        if number > commits // 2:
            shares.append(table.deleted_share)
    return table, shares


@pytest.mark.parametrize(
    ("commits", "keys", "most"),
    cases(((DAY // 5, 100_000, 6.0), (DAY, 100_000, 6.0), (DAY, 1_000_000, 7.2)), quick=((DAY // 5, 100_000, 6.0),)),
)
def test_few_bytes_are_written_for_a_byte_that_landed(commits: int, keys: int, most: float) -> None:
    table, shares = _follow(commits, keys, 500)
    assert table.amplification <= most
    assert sum(shares) / len(shares) < 0.8 * MAX_DELETED_SHARE
    assert max(shares) <= 1.2 * MAX_DELETED_SHARE
