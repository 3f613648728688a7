"""What tests of several rooms share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from ddb_lake_tests.mariadb import MariaDb, running


@pytest.fixture(scope="session")
def mariadb() -> Iterator[MariaDb]:
    """One real server a process (with xdist: a worker). Its absence is an error, not a reason to skip."""
    with running() as server:
        yield server
