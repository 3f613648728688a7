"""A demo's lake to look at."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from ddb_lake.orchestration.demo.home import DemoHome
from ddb_lake_tests.support.browser import serving
from ddb_lake_tests.support.browser_lake import prepare
from ddb_lake_tests.support.skips import need


@pytest.fixture(scope="session")
def ui(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of Dagster's webserver on the lake of a demo.

    The demo takes a minute, and test processes take each other's tests as they come: the first that needs it makes it,
    the others wait for it. Each has a webserver of its own on it.
    """
    need("chromium")
    shared = tmp_path_factory.getbasetemp()
    shared = shared.parent if "PYTEST_XDIST_WORKER" in os.environ else shared
    with serving(_made_once(shared)) as url:
        yield url


def _made_once(folder: Path) -> DemoHome:
    home, made = DemoHome(folder / "browser-demo"), folder / "browser-demo.made"
    with (folder / "browser-demo.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not made.exists():
            prepare(home)
            made.touch()
    return home
