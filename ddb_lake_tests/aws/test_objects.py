"""Listing a span of hours: the objects that listing each hour would find, by one request."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import boto3
import pytest
from moto import mock_aws

from ddb_lake.aws.objects import ObjectStore
from ddb_lake.aws.session import session

KEYS = (
    "orders/2026/03/04/09/late",
    "orders/2026/03/04/10/a",
    "orders/2026/03/04/10/.hidden",
    "orders/2026/03/04/11/b",
    "orders/2026/03/04/11/zz",
    "orders/2026/03/04/12/c",
    "orders/processing-failed/2026/03/04/11/d",
    "orders2/2026/03/04/11/e",
)


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> Iterator[ObjectStore]:
    for name, value in {
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_REGION": "us-east-1",
    }.items():
        monkeypatch.setenv(name, value)
    session.cache_clear()
    with mock_aws():
        s3: Any = boto3.client("s3", region_name="us-east-1")
        s3.create_bucket(Bucket="landing")
        for key in KEYS:
            s3.put_object(Bucket="landing", Key=key, Body=b"x")
        yield ObjectStore()
    session.cache_clear()


@pytest.mark.parametrize("root", ["s3://landing/orders/", "s3://landing/orders"])
@pytest.mark.parametrize(
    ("first", "last", "expected"),
    [("10", "11", KEYS[1:2] + KEYS[3:5]), ("11", "11", KEYS[3:5]), ("09", "12", (KEYS[0], KEYS[1], *KEYS[3:6]))],
)
def test_span_has_the_objects_of_its_hours(
    store: ObjectStore, root: str, first: str, last: str, expected: tuple[str, ...]
) -> None:
    hours = (f"s3://landing/orders/2026/03/04/{hour}/" for hour in (first, last))

    found = [ref.uri for ref in store.list_span(root, *hours)]

    assert found == [f"s3://landing/{key}" for key in expected]


def test_folder_without_objects_is_listed_once(store: ObjectStore, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    store.s3.meta.events.register(
        "before-call.s3.ListObjectsV2", lambda **call: asked.append(call["params"]["url_path"])
    )

    assert list(store.list("s3://landing/nothing/")) == []
    assert len(asked) == 1
    assert [ref.uri for ref in store.list("s3://landing/orders2")] == [f"s3://landing/{KEYS[-1]}"]
