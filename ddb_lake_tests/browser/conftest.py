"""Dagster's UI on the lake of a demo, and a browser."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

from ddb_lake.orchestration.demo.home import DemoHome
from ddb_lake_tests.support.browser import browsing, serving
from ddb_lake_tests.support.skips import need

if TYPE_CHECKING:
    from playwright.sync_api import Browser


@pytest.fixture(scope="session")
def ui(request: pytest.FixtureRequest) -> Iterator[str]:
    """The URL of Dagster's webserver on the lake of a demo. Each test process has a webserver of its own on it."""
    need("chromium")
    home: DemoHome = request.getfixturevalue("demo_lake")
    with serving(home) as url:
        yield url


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """A headless Chromium for a module's tests; each opens a page without cookies or storage of another."""
    need("chromium")
    with browsing() as opened:
        yield opened
