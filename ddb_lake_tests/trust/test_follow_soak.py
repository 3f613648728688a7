"""A short soak of followers: `python -m ddb_lake_tests.trust follow-soak --minutes 60` is the long one."""

from __future__ import annotations

import pytest

from ddb_lake_tests.trust.follow_soaking import follow_soak


@pytest.mark.exhaustive
def test_two_followers_with_faults_at_random_end_exact() -> None:
    done = follow_soak(30.0, seed=2)
    assert done.differences == []
    assert done.comparisons == 1
    # a turn that ends by a fault prints no figures, and a slow machine has few faults in this time: neither is counted here
    assert done.changes > 0
