"""Losses of change records in random histories: `python -m ddb_lake_tests.trust losses` tries more."""

from __future__ import annotations

import pytest

from ddb_lake_tests.support.effort import by_effort
from ddb_lake_tests.trust.losing import KINDS, run


@pytest.mark.exhaustive
def test_losses_are_named_and_nothing_else() -> None:
    found = run(range(by_effort(1, 1, 4) * len(KINDS)))

    assert (found.false_breaks, found.wrongly_named, found.unexplained) == (0, 0, [])
    assert found.named > found.lost // 2
