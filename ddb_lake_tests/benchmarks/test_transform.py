"""The benchmark's two versions do the same work: `compare` fails if they deliver anything different."""

from __future__ import annotations

import pytest

from ddb_lake_tests.benchmarks import transform


def test_both_versions_deliver_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DDB_LAKE_MODE", "envelope")
    assert set(transform.compare(600)) == {"envelope", "flatten"}
