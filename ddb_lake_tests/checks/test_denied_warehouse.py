"""Each check is not green if the files of a warehouse in S3 are denied: they are not read by boto3, and fail on the way."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from ddb_lake.aws.session import session
from ddb_lake.checks.check import Check
from ddb_lake.core.verify.outcome import GREEN
from ddb_lake_tests.support.fault_proxy import Fault, Way
from ddb_lake_tests.support.green_checks import CHECKED, SETTINGS, due_again, fill, outcome
from ddb_lake_tests.support.sandbox_lake import BUCKET, orders_lake, orders_source
from ddb_lake_tests.support.verified_source import Stand

WITHOUT_FILES = {"no_failed_deliveries"}
"""The checks that read nothing of the lake's tables."""

WAREHOUSE = f"s3://{BUCKET}/warehouse"


@pytest.fixture(scope="module")
def distant(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Way, Stand]]:
    """A lake in S3 behind a way that may refuse requests, on which each check is green, and its source."""
    with pytest.MonkeyPatch.context() as patch, orders_source(patch) as sandbox:
        way = Way(sandbox.environment()["AWS_ENDPOINT_URL"])
        with way.served() as url:
            patch.setenv("AWS_ENDPOINT_URL", url)
            session.cache_clear()
            with orders_lake(sandbox, tmp_path_factory.mktemp("lake"), WAREHOUSE, **SETTINGS) as lake:
                stand = Stand(sandbox, lake)
                fill(stand)
                yield way, stand
    session.cache_clear()


@pytest.mark.exhaustive
@pytest.mark.parametrize("check", CHECKED, ids=lambda check: check.name)
def test_check_is_not_green_if_the_files_of_the_warehouse_are_denied(distant: tuple[Way, Stand], check: Check) -> None:
    way, stand = distant
    due_again(stand, check)
    way.injected.clear()
    way.faults = [Fault("deny", ("get", "list"), burst=1, period=1, below=f"/{BUCKET}/warehouse")]
    try:
        found = outcome(stand, check)
    finally:
        way.faults = []
    reads_files = way.injected["deny"] > 0
    assert reads_files == (check.name not in WITHOUT_FILES)
    assert (found.state in GREEN) == (not reads_files), found.text
