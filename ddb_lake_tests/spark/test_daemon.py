"""The process from which Spark forks Python workers."""

from __future__ import annotations

import gc
import sys

import pytest

from ddb_lake.spark import daemon


@pytest.mark.parametrize("is_complete", [True, False])
def test_workers_are_forked_also_if_a_package_is_missing(monkeypatch: pytest.MonkeyPatch, is_complete: bool) -> None:
    """The check of the executors needs a worker to say which package is missing."""
    calls: list[str] = []
    monkeypatch.setattr(daemon, "hide_pandas", lambda: calls.append("hide"))
    monkeypatch.setattr(gc, "freeze", lambda: calls.append("freeze"))
    monkeypatch.setattr("pyspark.daemon.manager", lambda: calls.append("fork"))
    if not is_complete:
        monkeypatch.setitem(sys.modules, "ddb_lake.spark.executor", None)
    daemon.main()
    assert calls == ["hide", "freeze", "fork"]
