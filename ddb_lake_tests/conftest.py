"""What tests of several rooms share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import settings

from ddb_lake_tests.support.fault_marks import LINE
from ddb_lake_tests.support.mariadb import MariaDb, running
from ddb_lake_tests.support.no_aws import no_aws as no_aws

settings.register_profile("same", derandomize=True, deadline=None)
"""The same examples each time, so that a red main means the change; plain pytest and `make trust` search at random."""

settings.register_profile("search", deadline=None)
settings.load_profile("search")


def pytest_configure(config: pytest.Config) -> None:
    """Make the marker known."""
    config.addinivalue_line("markers", LINE)


@pytest.fixture(scope="session")
def mariadb() -> Iterator[MariaDb]:
    """One real server a process (with xdist: a worker). Its absence is an error, not a reason to skip."""
    with running() as server:
        yield server
