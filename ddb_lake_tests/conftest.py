"""What tests of several rooms share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import settings

from ddb_lake_tests.support import effort
from ddb_lake_tests.support.fault_marks import LINE
from ddb_lake_tests.support.mariadb import MariaDb, running
from ddb_lake_tests.support.no_aws import no_aws as no_aws

settings.register_profile("same", derandomize=True, deadline=None, suppress_health_check=effort.BY_SPEED)
"""The same examples each time, so that a red main means the change; plain pytest and `make trust` search at random."""

settings.register_profile("search", deadline=None, suppress_health_check=effort.BY_SPEED)
settings.load_profile("search")


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options of the tests."""
    effort.add_option(parser)


def pytest_configure(config: pytest.Config) -> None:
    """Register the markers."""
    config.addinivalue_line("markers", LINE)
    effort.configure(config)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out the tests that the chosen effort leaves out."""
    effort.select(config, items)


@pytest.fixture(scope="session")
def mariadb() -> Iterator[MariaDb]:
    """One real server a process (with xdist: a worker). Its absence is an error, not a reason to skip."""
    with running() as server:
        yield server
