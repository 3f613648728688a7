"""A short soak: `python -m ddb_lake_tests.trust soak --minutes 60` is the long one."""

from __future__ import annotations

import pytest

from ddb_lake_tests.trust.soaking import Soak


@pytest.mark.parametrize("seed", (2,))
def test_history_with_faults_at_random_ends_exact(seed: int) -> None:
    done = Soak()
    done.run(seed)
    assert done.differences == []
    assert done.faults.total() > 0 and done.changes > 0
