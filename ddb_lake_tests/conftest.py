"""What tests of several rooms share."""

from __future__ import annotations

import gc
import sys
from collections.abc import Generator, Iterator
from typing import TYPE_CHECKING, Any
from unittest import mock

import pytest
from hypothesis import settings

from ddb_lake.aws import session as aws_session
from ddb_lake_tests.support import duckdb_wheels, effort, skips
from ddb_lake_tests.support.botocore_models import share_models
from ddb_lake_tests.support.fault_marks import LINE
from ddb_lake_tests.support.mariadb import MariaDb, running
from ddb_lake_tests.support.ministack import MiniStack, running_ministack
from ddb_lake_tests.support.no_aws import no_aws as no_aws
from ddb_lake_tests.support.postgresql import PostgreSql, running_postgresql
from ddb_lake_tests.support.seaweedfs import SeaweedFs, running_seaweedfs
from ddb_lake_tests.support.shared_folder import made_once

if TYPE_CHECKING:
    from ddb_lake.orchestration.demo.home import DemoHome
    from ddb_lake_tests.support.iceberg_spark import IcebergSpark

IMPORTED = pytest.StashKey[frozenset[str]]()
"""The modules that are imported when all tests are collected."""

settings.register_profile("same", derandomize=True, **effort.PROFILE)
"""The same examples each time, so that a red main means the change; plain pytest and `make trust` search at random."""

settings.register_profile("search", **effort.PROFILE)
settings.load_profile("search")


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options of the tests."""
    effort.add_option(parser)


def pytest_configure(config: pytest.Config) -> None:
    """Register the markers."""
    config.addinivalue_line("markers", LINE)
    config.addinivalue_line("markers", skips.MARKER)
    config.addinivalue_line("markers", duckdb_wheels.MARKER)
    effort.configure(config)
    share_models()
    gc.disable()  # a collection makes 10,000 tests and no garbage: searching for some takes a third of its time


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out the tests that the chosen effort leaves out, and start the long ones first."""
    effort.select(config, items)
    effort.start_long_first(items)


def pytest_collection_finish(session: pytest.Session) -> None:
    """Note what the collection imported, and keep the modules of all tests out of later garbage collections."""
    session.config.stash[IMPORTED] = frozenset(sys.modules)
    gc.enable()
    gc.collect()
    gc.freeze()
    gc.set_threshold(
        10_000, 20, 50
    )  # a search passes over all that fixtures keep: Python's own thresholds take 6 % of the time


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip a test that needs a system package which is absent."""
    skips.need_of_marks(item)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, Any, Any]:
    """Fail a test that is skipped, if all are required."""
    report = yield
    skips.fail_if_required(report)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, Any, Any]:
    """Fail a module that is skipped, if all are required."""
    report = yield
    skips.fail_if_required(report)
    return report


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """State what was skipped, why, and how to run it."""
    for line in skips.summary(terminalreporter.getreports("skipped")):
        terminalreporter.write_line(line, yellow=True)


@pytest.fixture(scope="session")
def mariadb() -> Iterator[MariaDb]:
    """One real server a process (with xdist: a worker)."""
    skips.need("mariadb")
    with running() as server:
        yield server


@pytest.fixture(scope="session")
def postgresql() -> Iterator[PostgreSql]:
    """One real server a process."""
    skips.need("postgresql")
    with running_postgresql() as server:
        yield server


@pytest.fixture(scope="session")
def seaweedfs() -> Iterator[SeaweedFs]:
    """One object store with table buckets a process."""
    with running_seaweedfs() as server:
        yield server


@pytest.fixture(scope="session")
def iceberg_spark() -> Iterator[IcebergSpark]:
    """One session of Spark with Iceberg's runtime a process (with xdist: a worker)."""
    from ddb_lake_tests.support import iceberg_spark  # it imports PySpark, which few runs need

    skips.need("java")
    with iceberg_spark.iceberg_spark() as session:
        yield session


@pytest.fixture(scope="session")
def iceberg_rest() -> Iterator[str]:
    """The endpoint of one Iceberg REST catalog a process, of Iceberg's Java library."""
    from ddb_lake_tests.support.iceberg_rest import running_iceberg_rest  # as above

    skips.need("java")
    with running_iceberg_rest() as endpoint:
        yield endpoint


@pytest.fixture(scope="session")
def ministack() -> Iterator[MiniStack]:
    """One MiniStack a process (with xdist: a worker)."""
    with running_ministack() as server:
        yield server


@pytest.fixture(scope="session")
def demo_lake(tmp_path_factory: pytest.TempPathFactory) -> DemoHome:
    """The lake of one demo, made by `support.demo_lake`."""
    from ddb_lake.orchestration.demo.home import DemoHome
    from ddb_lake_tests.support.demo_lake import prepare

    return DemoHome(made_once(tmp_path_factory, "demo-lake", lambda folder: prepare(DemoHome(folder))))


@pytest.fixture
def imported_by_collection(pytestconfig: pytest.Config) -> frozenset[str]:
    """The modules that are imported when the tests of this run are collected, before the first one runs."""
    return pytestconfig.stash[IMPORTED]


@pytest.fixture(autouse=True)
def _no_known_bucket_owners() -> Iterator[None]:
    """Buckets of one name have other owners in other tests; a process keeps what it learned of them."""
    with mock.patch.dict(aws_session._EXPECTED_OWNERS, clear=True):
        yield
