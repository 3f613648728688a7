"""Requests to a bucket whose owner is known say which account must own it, and exports too."""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import botocore.session
import pytest
from botocore.exceptions import ClientError

from ddb_lake.aws import session as aws_session
from ddb_lake.aws.export_requests import _destination
from ddb_lake.aws.objects import ObjectStore
from ddb_lake.aws.session import client, expect_bucket_owners, session
from ddb_lake.config import parse_settings
from ddb_lake.core.decode.routing import Routes
from ddb_lake.errors import TerminalError
from ddb_lake.pipeline.apply.object_reader import ReadOptions, TableDefinition
from ddb_lake.pipeline.apply.parallel_reader import ReadPlan, _read

OWNER, OTHER = "111122223333", "444455556666"
S3 = botocore.session.get_session().get_service_model("s3")


@pytest.fixture(autouse=True)
def _owners(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(aws_session, "_EXPECTED_OWNERS", {})
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "test")
    monkeypatch.setenv("AWS_REGION", "eu-west-1")
    session.cache_clear()
    yield
    session.cache_clear()


def test_every_operation_that_can_say_the_owner_does() -> None:
    expect_bucket_owners({"ours": OWNER})
    s3, found = client("s3"), set()
    for operation in S3.operation_names:
        model = S3.operation_model(operation)
        members = model.input_shape.members if model.input_shape is not None else {}
        for bucket in ("ours", "another"):
            params: dict[str, Any] = {"Bucket": bucket}
            s3.meta.events.emit(f"provide-client-params.s3.{operation}", params=params, model=model, context={})
            expected = OWNER if bucket == "ours" and "ExpectedBucketOwner" in members else None
            assert params.get("ExpectedBucketOwner") == expected
            found |= {operation} if expected else set()
    assert found >= {
        "GetObject",
        "PutObject",
        "ListObjectsV2",
        "HeadBucket",
        "HeadObject",
        "DeleteObject",
        "UploadPart",
    }


def test_request_has_the_header() -> None:
    expect_bucket_owners({"ours": OWNER})
    s3, sent = client("s3"), []

    def answer(request: Any, **_: Any) -> Any:
        sent.append(request.headers.get("x-amz-expected-bucket-owner"))
        raise ConnectionError

    s3.meta.events.register("before-send.s3", answer)
    for call in (lambda: s3.put_object(Bucket="ours", Key="k", Body=b""), lambda: s3.list_objects_v2(Bucket="another")):
        with pytest.raises(ConnectionError):
            call()
    assert sent == [OWNER.encode(), None]


def test_bucket_is_checked_once_for_clients_that_cannot_say_the_owner() -> None:
    expect_bucket_owners({"ours": OWNER, "theirs": OWNER})
    store, calls = ObjectStore(), []

    def head_bucket(Bucket: str) -> None:  # boto3's name
        calls.append(Bucket)
        if Bucket == "theirs":
            raise ClientError({"Error": {"Code": "403"}}, "HeadBucket")

    store._s3 = SimpleNamespace(head_bucket=head_bucket)
    for _ in range(2):
        store.check_owner("s3://ours/a/b")
        store.check_owner("s3://unknown/a")
        with pytest.raises(TerminalError, match=OWNER):
            store.check_owner("s3://theirs/a")
    assert calls == ["ours", "theirs", "theirs"]


def test_settings_say_the_owner_of_each_bucket() -> None:
    orders = {"name": "orders", "key": ["id"], "changes": {"uri": "s3://landing/o/"}, "export": {"bucket": "exports"}}
    theirs = {"name": "theirs", "key": ["id"], "export": {"bucket": "foreign", "bucket_owner": OTHER}}
    document = {"warehouse": "s3a://lake/w", "bucket_owner": OWNER, "tables": [orders, theirs]}
    settings = parse_settings(document, "test")
    assert settings.bucket_owners == {"lake": OWNER, "landing": OWNER, "exports": OWNER, "foreign": OTHER}
    assert parse_settings({"warehouse": "lake", "tables": [orders]}, "test").bucket_owners == {}

    expect_bucket_owners(settings.bucket_owners)
    owners = [_destination(table.export).get("S3BucketOwner") for table in settings.tables if table.export]
    assert owners == [OWNER, OTHER]


def test_reader_in_another_process_knows_the_owners(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    expect_bucket_owners({"ours": OWNER})
    options, definition = ReadOptions("orders", Routes({})), TableDefinition(("id",))
    task = pickle.dumps(ReadPlan(tmp_path, options, definition))

    monkeypatch.setattr(aws_session, "_EXPECTED_OWNERS", {})
    _read(pickle.loads(task), [])

    assert aws_session.expected_owner("ours") == OWNER
