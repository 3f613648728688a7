"""The endpoint of S3 in a profile: DuckDB and pyiceberg use it as boto3 does."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from ddb_lake.aws.session import s3_access, s3_endpoint, session
from ddb_lake.pipeline.load.load import load_export
from ddb_lake.pipeline.read.dump import dump_items
from ddb_lake_tests.support.export_files import full, item
from ddb_lake_tests.support.sandbox_lake import BUCKET, orders_lake, orders_source

CONFIG = """
[profile of-service]
services = local
[services local]
s3 =
  endpoint_url = {url}
[profile of-all]
endpoint_url = {url}
[profile of-another]
services = others
[services others]
glue =
  endpoint_url = {url}
[profile plain]
"""


@pytest.fixture(autouse=True)
def _fresh_sessions(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name in ("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3"):
        monkeypatch.delenv(name, raising=False)
    session.cache_clear()
    yield
    session.cache_clear()


def choose(monkeypatch: pytest.MonkeyPatch, folder: Path, profile: str, url: str) -> None:
    """Let this process use a profile of a file."""
    (folder / "config").write_text(CONFIG.format(url=url))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(folder / "config"))
    monkeypatch.setenv("AWS_PROFILE", profile)
    session.cache_clear()


@pytest.mark.parametrize(
    ("profile", "names_it"), [("of-service", True), ("of-all", True), ("of-another", False), ("plain", False)]
)
def test_endpoint_is_that_of_the_profile_or_of_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, profile: str, names_it: bool
) -> None:
    url = "http://127.0.0.1:9"
    choose(monkeypatch, tmp_path, profile, url)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "a")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "b")
    assert s3_endpoint() == (url if names_it else None)
    access = s3_access()
    assert access is not None and access.endpoint_url == s3_endpoint()
    monkeypatch.setenv("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS", "true")
    assert s3_endpoint() is None
    monkeypatch.delenv("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS")
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "http://127.0.0.1:10")
    assert s3_endpoint() == "http://127.0.0.1:10"


def test_lake_in_s3_works_with_an_endpoint_that_only_the_profile_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    manifest = str(full([item("a", v=1)], [item("b", v=2)]).write(tmp_path / "exports"))
    with orders_source(monkeypatch) as sandbox:
        url = sandbox.endpoint_url
        monkeypatch.delenv("AWS_ENDPOINT_URL")
        choose(monkeypatch, tmp_path, "of-service", url)
        with orders_lake(sandbox, tmp_path, f"s3://{BUCKET}/lake", key=["id"], export=None) as lake:
            assert load_export(lake, "orders", manifest).items == 2
            assert len(list(dump_items(lake, "orders"))) == 2
            assert sandbox.client("s3").list_objects_v2(Bucket=BUCKET, Prefix="lake/")["KeyCount"] > 0
