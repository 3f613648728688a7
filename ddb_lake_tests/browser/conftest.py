"""A demo's lake to look at, and the rule for when looking may be left out."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from ddb_lake.cli.demo import run_demo
from ddb_lake.orchestration.demo.home import DemoHome
from ddb_lake_tests.browser.ui import chromium, serving


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "browser: drives the real UI in Chromium; skipped without one, but not in CI")


@pytest.fixture(scope="session")
def ui(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of Dagster's webserver on the lake of a demo."""
    if chromium() is None and "CI" not in os.environ:
        pytest.skip("no Chromium on this machine")
    home = DemoHome(tmp_path_factory.mktemp("ui") / "demo")
    home.folder.mkdir()
    told: list[str] = []
    assert run_demo(home.folder, keep=True, emit=told.append, seed=1) == 0, "\n".join(told)
    with serving(home) as url:
        yield url
