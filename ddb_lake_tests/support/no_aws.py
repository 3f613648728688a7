"""Tests without AWS: no credentials, and no search for any."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from ddb_lake.aws.session import session

_VARIABLES = (
    "AWS_PROFILE",
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "AWS_ENDPOINT_URL",
    "DDB_LAKE_CONFIG",
)


@pytest.fixture
def no_aws(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """Remove what points at AWS from the environment. Without this, boto3 waits for the metadata of an EC2 instance."""
    for name in _VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "no-aws-config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "no-aws-credentials"))
    session.cache_clear()
    yield
    session.cache_clear()
