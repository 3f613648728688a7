"""The catalogs on which the tests run a lake: each with the settings that its guide describes, and the environment for them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

import pytest
from pyiceberg.catalog.rest import RestCatalog

from ddb_lake.aws.session import session
from ddb_lake.sandbox import Sandbox
from ddb_lake_tests.support import postgresql
from ddb_lake_tests.support.postgresql import PostgreSql
from ddb_lake_tests.support.seaweedfs import REGION, SeaweedFs

CATALOGS: Final = (
    "rest",
    pytest.param("java rest", marks=[pytest.mark.exhaustive, pytest.mark.needs("java")]),
    pytest.param("sqlite", marks=pytest.mark.exhaustive),
    pytest.param("postgresql", marks=[pytest.mark.exhaustive, pytest.mark.needs("postgresql")]),
    pytest.param("glue", marks=pytest.mark.exhaustive),
)
"""Parameters of `catalog_settings`. `rest`: table buckets of SeaweedFS. `java rest`: the server side of Iceberg's Java library."""

_numbers = count(1)


@pytest.fixture
def catalog_settings(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[dict[str, Any]]:
    """`warehouse` and `catalog` of a new lake in the catalog that the parameter names; its environment is set."""
    kind = request.param
    if kind == "glue":
        with _glue(monkeypatch) as settings:
            yield settings
        return
    settings = {"warehouse": str(tmp_path / "lake")}
    if kind == "postgresql":
        settings["catalog"] = {"type": "sql", "uri": postgresql_uri(request.getfixturevalue("postgresql"))}
    if kind == "rest":
        server = request.getfixturevalue("seaweedfs")
        _set(monkeypatch, server.environment)
        settings["catalog"] = rest_settings(server)
    if kind == "java rest":
        namespace = f"lake_{next(_numbers)}"
        server = request.getfixturevalue("iceberg_rest")
        RestCatalog("tests", uri=server).create_namespace(
            namespace
        )  # Iceberg's JDBC catalog fails if two create it at once
        settings["catalog"] = {"type": "rest", "uri": server, "namespace": namespace}
    yield settings
    session.cache_clear()


def postgresql_uri(server: PostgreSql) -> str:
    """The address of a new database."""
    password = quote(postgresql.PASSWORD, safe="")
    return f"postgresql+psycopg://{postgresql.USER}:{password}@127.0.0.1:{server.port}/{server.fresh()}"


def rest_settings(server: SeaweedFs) -> dict[str, Any]:
    """`catalog` for a new table bucket, whose requests are signed as those to S3 Tables are."""
    bucket = server.table_bucket(f"tables-{next(_numbers)}")
    signing = {"signing_name": "s3tables", "signing_region": REGION}
    return {"type": "rest", "uri": server.iceberg, "warehouse": bucket, **signing}


@contextmanager
def _glue(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, Any]]:
    with Sandbox() as sandbox:
        _set(monkeypatch, sandbox.environment())
        where = {"LocationConstraint": sandbox.environment()["AWS_REGION"]}
        sandbox.client("s3").create_bucket(Bucket="lake", CreateBucketConfiguration=where)
        yield {"warehouse": "s3://lake/warehouse"}
    session.cache_clear()


def _set(monkeypatch: pytest.MonkeyPatch, environment: dict[str, str]) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    session.cache_clear()
