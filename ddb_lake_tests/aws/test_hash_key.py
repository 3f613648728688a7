"""The key of hashes: from each of its places, and the errors when it is missing."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime

import pytest

from ddb_lake.aws.hash_key import read_hash_key
from ddb_lake.aws.session import session
from ddb_lake.config.lake import HashKeySettings
from ddb_lake.errors import ConfigError
from ddb_lake.sandbox import Sandbox
from ddb_lake_tests.support.sandbox_lake import point_at

KEY = "0123456789abcdef0123456789abcdef"


@pytest.fixture
def sandbox(monkeypatch: pytest.MonkeyPatch) -> Iterator[Sandbox]:
    with Sandbox(start=datetime(2026, 3, 1, tzinfo=UTC)) as opened:
        point_at(opened, monkeypatch)
        yield opened
    session.cache_clear()


def test_key_is_the_variable_without_white_space(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("A_KEY", f"{KEY}\n")
    assert read_hash_key(HashKeySettings(env="A_KEY")) == KEY.encode()


@pytest.mark.parametrize(
    ("value", "said"), [(None, "is not set or empty"), ("  ", "is not set or empty"), ("short", "has 5 bytes")]
)
def test_missing_or_short_key_is_an_error_that_does_not_show_it(
    monkeypatch: pytest.MonkeyPatch, value: str | None, said: str
) -> None:
    if value is None:
        monkeypatch.delenv("A_KEY", raising=False)
    else:
        monkeypatch.setenv("A_KEY", value)
    with pytest.raises(ConfigError, match=said) as raised:
        read_hash_key(HashKeySettings(env="A_KEY"))
    assert "A_KEY" in str(raised.value) and "short" not in str(raised.value)


def test_key_is_read_from_secrets_manager_and_systems_manager(sandbox: Sandbox) -> None:
    secrets, parameters = sandbox.client("secretsmanager"), sandbox.client("ssm")
    arn = secrets.create_secret(Name="lake/hash", SecretString=KEY)["ARN"]
    secrets.create_secret(Name="lake/bytes", SecretBinary=KEY.encode())
    parameters.put_parameter(Name="/lake/hash", Value=KEY, Type="SecureString")
    for place in (
        HashKeySettings(secret="lake/hash"),
        HashKeySettings(secret=arn),
        HashKeySettings(secret="lake/bytes"),
        HashKeySettings(parameter="/lake/hash"),
    ):
        assert read_hash_key(place) == KEY.encode()


@pytest.mark.usefixtures("sandbox")
@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (HashKeySettings(secret="no/such"), "the secret no/such: .*secretsmanager:GetSecretValue"),
        (HashKeySettings(parameter="/no/such"), "the parameter /no/such: .*ssm:GetParameter"),
    ],
)
def test_secret_that_is_not_there_is_an_error_with_the_permission(settings: HashKeySettings, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        read_hash_key(settings)
