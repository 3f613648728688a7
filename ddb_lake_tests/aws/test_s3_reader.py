"""Objects fetched by obstore: whole and as they were listed, or what botocore says and does about it."""

from __future__ import annotations

import gzip
import json
import multiprocessing
import os
import time
import warnings
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from botocore.config import Config
from botocore.exceptions import ClientError, NoCredentialsError

from ddb_lake.aws import s3_reader
from ddb_lake.aws.objects import ObjectRef, ObjectStore
from ddb_lake.aws.session import client, session
from ddb_lake.core.decode.routing import Routes
from ddb_lake.errors import UnreachableError
from ddb_lake.pipeline.apply import parallel_reader
from ddb_lake.pipeline.apply.object_reader import ReadOptions, TableDefinition
from ddb_lake.sandbox import Sandbox
from ddb_lake.sandbox.front import Front
from ddb_lake_tests.support.fault_proxy import Fault, Way
from ddb_lake_tests.support.killed_steps import ended
from ddb_lake_tests.support.kinesis_lines import record

BODY = gzip.compress(os.urandom(50_000))
DENIED = b"<?xml version='1.0'?><Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>"
QUICK = Config(retries={"mode": "standard", "total_max_attempts": 3}, connect_timeout=1, read_timeout=1)
SAID = (
    "plain",
    "changes/dt=2026-03-04 10%3A00/tenant=a+b=c/part-0.gz",
    "%2F%25/%ff",
    "ключ/é/e\u0301/😀/日本",
    "a&b;c:d@e,f$g!h'i(j)k*l~m/[n]{o}|^`\"<>\\?#",
    ".hidden/..two/trailing.",
)
NOT_SAID = ("double//slash", "/leading", "trailing/", "a/./b", "a\ttab", "no\u00a0break", "delete\x7f")
ENDPOINT = {"AWS_ENDPOINT_URL": "http://127.0.0.1:9000"}


@dataclass
class Stand:
    """A sandbox that notes who gets objects. `refusing`: GETs of objects are denied."""

    sandbox: Sandbox
    agents: list[str] = field(default_factory=list)
    keys: list[str] = field(default_factory=list)
    conditions: list[str | None] = field(default_factory=list)
    refusing: bool = False

    @property
    def by_botocore(self) -> list[bool]:
        return ["boto" in agent.lower() for agent in self.agents]

    def put(self, key: str, body: bytes = BODY, **how: str) -> None:
        self.sandbox.client("s3").put_object(Bucket="landing", Key=key, Body=body, **how)

    def listed(self, key: str, body: bytes = BODY, **how: str) -> ObjectRef:
        """An object as listing gives it, or would if its name were no hidden one's."""
        self.put(key, body, **how)
        found = self.sandbox.client("s3").head_object(Bucket="landing", Key=key)
        return ObjectRef(f"s3://landing/{key}", found["ETag"].strip('"'), found["ContentLength"], 0)

    def answer(self, original: Callable[..., Any]) -> Callable[..., Any]:
        def answered(front: Front, environ: dict[str, Any], start: Any) -> Iterable[bytes]:
            if environ["REQUEST_METHOD"] != "GET" or not environ["PATH_INFO"].removeprefix("/landing").strip("/"):
                return original(front, environ, start)  # type: ignore[no-any-return]
            if environ["PATH_INFO"].startswith("/landing/"):
                self.agents.append(environ.get("HTTP_USER_AGENT", ""))
                self.keys.append(environ.get("HTTP_AUTHORIZATION", "").partition("Credential=")[2].partition("/")[0])
                self.conditions.append(environ.get("HTTP_IF_MATCH"))
                if self.refusing:
                    start("403 Forbidden", [("Content-Length", str(len(DENIED)))])
                    return [DENIED]
            return original(front, environ, start)  # type: ignore[no-any-return]

        return answered


@pytest.fixture
def stand(monkeypatch: pytest.MonkeyPatch) -> Iterator[Stand]:
    with Sandbox() as sandbox:
        for name, value in sandbox.environment().items():
            monkeypatch.setenv(name, value)
        session.cache_clear()
        where = {"LocationConstraint": sandbox.environment()["AWS_REGION"]}
        sandbox.client("s3").create_bucket(Bucket="landing", CreateBucketConfiguration=where)
        found = Stand(sandbox)
        monkeypatch.setattr(Front, "__call__", found.answer(Front.__call__))
        monkeypatch.setattr("ddb_lake.aws.session._config", lambda: QUICK)
        yield found
    session.cache_clear()


def test_object_is_fetched_as_listed_by_one_request(stand: Stand) -> None:
    ref = stand.listed("changes/a")

    assert ObjectStore().fetch(ref) == BODY
    assert stand.by_botocore == [False]
    assert stand.conditions == [f'"{ref.version}"']
    assert stand.keys == [stand.sandbox.environment()["AWS_ACCESS_KEY_ID"]]


@pytest.mark.parametrize("body", [b"", b"x", BODY * 40], ids=("empty", "a byte", "2 MB"))
def test_object_of_any_size_is_fetched_whole(stand: Stand, body: bytes) -> None:
    assert ObjectStore().fetch(stand.listed("a", body)) == body
    assert stand.by_botocore == [False]


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "br", "aws-chunked,gzip"])
def test_encoded_object_is_fetched_as_it_is_stored(stand: Stand, encoding: str) -> None:
    assert ObjectStore().fetch(stand.listed("a.gz", ContentEncoding=encoding, ContentType="text/plain")) == BODY
    assert stand.by_botocore == [False]


@pytest.mark.parametrize("key", SAID)
def test_odd_key_is_fetched_exactly(stand: Stand, key: str) -> None:
    for other in {key.replace("%2F", "/"), key.replace("+", " "), key.replace("e\u0301", "é"), f"{key}/"} - {key}:
        stand.put(other, b"another")

    assert ObjectStore().fetch(stand.listed(key)) == BODY
    assert stand.by_botocore == [False]


@pytest.mark.parametrize("key", NOT_SAID)
def test_key_that_obstore_cannot_say_is_fetched_by_botocore(stand: Stand, key: str) -> None:
    stand.put(key.strip("/").replace("//", "/").replace("/./", "/"), b"another")
    ref = stand.listed(key)

    assert ObjectStore().fetch(ref) == BODY
    assert stand.by_botocore == [True]


def test_object_rewritten_after_listing_is_refused(stand: Stand) -> None:
    ref = stand.listed("a")
    stand.put("a", b"newer")

    with pytest.raises(UnreachableError, match=r"s3://landing/a: it was rewritten after it was listed"):
        ObjectStore().fetch(ref)


def test_object_removed_after_listing_is_reported(stand: Stand) -> None:
    ref = stand.listed("a")
    stand.sandbox.client("s3").delete_object(Bucket="landing", Key="a")

    with pytest.raises(UnreachableError, match=r"s3://landing/a: it was removed after it was listed"):
        ObjectStore().fetch(ref)


def test_object_that_may_not_be_read_is_the_refusal_of_s3(stand: Stand) -> None:
    ref = stand.listed("a")
    stand.refusing = True

    with pytest.raises(ClientError) as raised:
        ObjectStore().fetch(ref)
    assert raised.value.response["Error"]["Code"] == "AccessDenied"


@pytest.mark.parametrize("kind", ["half", "throttle", "fail", "hang", "lose"])
def test_fault_that_passes_costs_nothing(stand: Stand, monkeypatch: pytest.MonkeyPatch, kind: Any) -> None:
    refs = [stand.listed(str(number), BODY + b"%d" % number) for number in range(6)]
    way = Way(stand.sandbox.environment()["AWS_ENDPOINT_URL"], [Fault(kind, ("get",), burst=2, period=4)])
    with way.served() as url:
        monkeypatch.setenv("AWS_ENDPOINT_URL", url)
        session.cache_clear()
        store = ObjectStore()
        assert [store.fetch(ref) for ref in refs] == [BODY + b"%d" % number for number in range(6)]
    assert way.injected[kind] > 2


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("half", "the transfer broke off"),
        ("throttle", "S3 fails"),
        ("hang", "S3 does not answer"),
        ("short", "bytes were received"),
    ],
)
def test_fault_that_stays_is_reported(stand: Stand, monkeypatch: pytest.MonkeyPatch, kind: Any, said: str) -> None:
    ref = stand.listed("a")
    way = Way(stand.sandbox.environment()["AWS_ENDPOINT_URL"], [Fault(kind, ("get",), burst=1, period=1)])
    with way.served() as url:
        monkeypatch.setenv("AWS_ENDPOINT_URL", url)
        session.cache_clear()
        with pytest.raises(UnreachableError, match=f"s3://landing/a: .*{said}"):
            ObjectStore().fetch(ref)


def test_bucket_that_gives_nothing_in_a_row_is_left_to_botocore(stand: Stand, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(s3_reader, "MISSES", 2)
    ref, other = stand.listed("a"), stand.listed("b", b"other")
    store = ObjectStore()
    for _ in range(2):
        with pytest.raises(UnreachableError):
            store.fetch(replace(ref, version="0" * 32))
    stand.agents.clear()

    assert [store.fetch(ref), store.fetch(other), ObjectStore().fetch(ref)] == [BODY, b"other", BODY]
    assert stand.by_botocore == [True, True, False]


def test_threads_share_one_client_a_bucket(stand: Stand) -> None:
    refs = [stand.listed(str(number), b"%d" % number) for number in range(40)]
    store = ObjectStore()
    with mock.patch.object(s3_reader, "_open", wraps=s3_reader._open) as opened, ThreadPoolExecutor(16) as pool:
        assert list(pool.map(store.fetch, refs)) == [b"%d" % number for number in range(40)]
    assert opened.call_count == 1


def test_credentials_that_were_renewed_are_used(stand: Stand, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(s3_reader, "_CREDENTIALS_LAST", timedelta(minutes=1))  # so they are requested
    ref, store = stand.listed("a"), ObjectStore()
    store.fetch(ref)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "renewed")
    session.cache_clear()
    time.sleep(0.2)  # obstore asks ten times a second at most

    store.fetch(ref)
    assert stand.keys[1:] == ["renewed"]
    assert stand.by_botocore == [False, False]


def test_request_is_signed_whatever_the_environment_says_to_obstore(
    stand: Stand, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("AWS_SKIP_SIGNATURE", "AWS_REQUEST_PAYER", "AWS_S3_EXPRESS"):
        monkeypatch.setenv(name, "true")
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", stand.sandbox.environment()["AWS_ENDPOINT_URL"])
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")

    assert ObjectStore().fetch(stand.listed("a")) == BODY
    assert stand.by_botocore == [False]
    assert stand.keys == [stand.sandbox.environment()["AWS_ACCESS_KEY_ID"]]


def test_missing_credentials_are_what_botocore_says_of_them(
    stand: Stand, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    ref = stand.listed("a")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    for name in ("AWS_SHARED_CREDENTIALS_FILE", "AWS_CONFIG_FILE"):
        monkeypatch.setenv(name, str(tmp_path / "none"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    session.cache_clear()

    with pytest.raises(NoCredentialsError):
        ObjectStore().fetch(ref)
    assert stand.agents == []


def test_reading_processes_fetch_by_obstore(stand: Stand, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(parallel_reader, "PARALLEL_BYTES", 1)
    monkeypatch.setattr(parallel_reader, "cpu_count", lambda: 2)
    refs = [stand.listed(f"{n}.gz", gzip.compress(json.dumps(record(n)).encode())) for n in range(6)]

    shared = parallel_reader.read_parallel(
        parallel_reader.ReadPlan(
            tmp_path, ReadOptions("orders", Routes({"orders": "orders"})), TableDefinition(("id",))
        ),
        refs,
    )

    assert shared is not None
    assert shared.tables["orders"].changes.rows == 6
    assert stand.by_botocore == [False] * 6


def fetch_once(ref: ObjectRef) -> None:
    assert ObjectStore().fetch(ref) == BODY


def test_fork_of_a_process_that_has_fetched_fetches_by_botocore(stand: Stand) -> None:
    ref = stand.listed("a")
    ObjectStore().fetch(ref)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # newer Pythons warn of every fork beside threads
        process = multiprocessing.get_context("fork").Process(target=fetch_once, args=(ref,))
        process.start()

    assert ended(process) == 0
    assert stand.by_botocore == [False, True]


@pytest.mark.parametrize(
    ("environment", "bucket", "expected"),
    [
        ({"AWS_DEFAULT_REGION": "eu-west-1"}, "landing", "https://landing.s3.eu-west-1.amazonaws.com"),
        ({"AWS_DEFAULT_REGION": "eu-west-1"}, "with.dots", "https://s3.eu-west-1.amazonaws.com/with.dots"),
        ({"AWS_DEFAULT_REGION": "us-east-1"}, "landing", "https://landing.s3.amazonaws.com"),
        (ENDPOINT, "landing", "http://127.0.0.1:9000/landing"),
        (ENDPOINT | {"AWS_ENDPOINT_URL_S3": "https://s3.here/at"}, "landing", "https://s3.here/at/landing"),
        ({"AWS_USE_FIPS_ENDPOINT": "true"}, "landing", "https://landing.s3-fips.us-east-1.amazonaws.com"),
    ],
)
def test_bucket_is_where_botocore_finds_it(
    environment: dict[str, str], bucket: str, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    usual = {"AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret", "AWS_DEFAULT_REGION": "us-east-1"}
    for name, value in {**usual, **environment}.items():
        monkeypatch.setenv(name, value)
    session.cache_clear()
    found = s3_reader.bucket_url(client("s3"), bucket)
    session.cache_clear()

    assert found == expected
