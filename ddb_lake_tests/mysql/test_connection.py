from __future__ import annotations

import ssl
from dataclasses import replace
from typing import Any

import pymysql
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ddb_lake.errors import ConfigError, DatabaseError, TransientError
from ddb_lake.mysql.connection import Server, connect, open_database, translate_error
from ddb_lake.mysql.credentials import Login
from ddb_lake_tests.support.mariadb import PASSWORD
from ddb_lake_tests.support.mysql_pages import Pages

VALUE = "4711-secret"


@pytest.mark.parametrize(
    "message",
    [
        f"Incorrect integer value: '{VALUE}' for column `Demo`.`W`.`hits` at row 3",
        f"Duplicate entry '{VALUE}' for key 'PRIMARY'",
        f"Incorrect string value: '{VALUE}' for column 'hits' at row 3",
        f"Bad base64 data as position 5 of '{VALUE}'",
        f"Data truncated for column 'hits' at row 3 '{VALUE}'",
    ],
)
@pytest.mark.parametrize("code", [1062, 1265, 1366, 1406, 1958, 4025, 3140])
def test_messages_that_quote_values_are_not_passed_on(code: int, message: str) -> None:
    error = translate_error(pymysql.err.DataError(code, message), "s3://b/k")

    assert isinstance(error, DatabaseError)
    assert VALUE not in str(error) and str(code) in str(error)
    assert ("column hits" in str(error)) == message.endswith("at row 3")


@given(st.integers(0, 5000), st.text(max_size=40))
def test_message_of_an_unknown_error_is_its_number_alone(code: int, secret: str) -> None:
    said = str(translate_error(pymysql.err.InternalError(10_000 + code, f"value <{secret}> is wrong"), "here"))

    assert said == f"here: error {10_000 + code}"


@pytest.mark.parametrize("code", [1205, 1213, 2006, 2013, 1040, 1290, 1836])
def test_errors_that_pass_are_transient(code: int) -> None:
    assert isinstance(translate_error(pymysql.err.OperationalError(code, "x"), "here"), TransientError)


def test_wrong_password_says_what_to_correct_and_not_the_password(pages: Pages) -> None:
    with pytest.raises(DatabaseError, match="check `user` and the password") as raised:
        open_database(pages.server, "wrong-one")

    assert "wrong-one" not in str(raised.value)


def test_server_that_does_not_listen_is_a_matter_of_time() -> None:
    with pytest.raises(TransientError, match="check host, port"), connect(Server("127.0.0.1", "d", "u", 1), "p"):
        pass


def test_session_is_strict_and_in_utc(pages: Pages) -> None:
    mode, zone, isolation = pages.database.rows("SELECT @@sql_mode, @@time_zone, @@tx_isolation")[0]

    assert {"STRICT_TRANS_TABLES", "NO_BACKSLASH_ESCAPES"} <= set(mode.split(","))
    assert "ANSI_QUOTES" not in mode
    assert (zone, isolation) == ("+00:00", "READ-COMMITTED")


@pytest.mark.parametrize(
    ("host", "tls", "expected"),
    [
        ("localhost", None, False),
        ("127.0.0.1", None, False),
        ("::1", None, False),
        ("db.cluster.eu-west-1.rds.amazonaws.com", None, True),
        ("10.0.0.1", None, True),
        ("10.0.0.1", False, False),
        ("localhost", True, True),
    ],
)
def test_connections_to_other_machines_are_encrypted(host: str, tls: bool | None, expected: bool) -> None:
    assert Server(host, "d", "u", tls=tls).uses_tls is expected


def test_tls_is_refused_by_a_server_without_it_and_never_skipped(pages: Pages) -> None:
    with pytest.raises((TransientError, DatabaseError, ssl.SSLError)):
        open_database(replace(pages.server, tls=True), PASSWORD)


def test_certificates_that_cannot_be_read_are_named() -> None:
    with pytest.raises(ConfigError, match=r"tls_ca nowhere\.pem"):
        open_database(Server("10.255.255.1", "d", "u", tls_ca="nowhere.pem"), "p")


class Clients:
    """Replaces boto3: responds as Secrets Manager and IAM do."""

    def __init__(self, secret: str | None) -> None:
        self._secret = secret

    def __call__(self, service: str) -> Any:
        self.service = service
        return self

    def get_secret_value(self, SecretId: str) -> dict[str, Any]:  # boto3's name
        return {"SecretString": self._secret} if self._secret is not None else {"SecretBinary": b""}

    def generate_db_auth_token(self, **arguments: Any) -> str:
        return f"{arguments['DBHostname']}:{arguments['Port']}/?user={arguments['DBUsername']}"


SERVER = Server("h", "d", "u")


def test_password_comes_from_the_environment() -> None:
    password = Login(password_env="PW").password(SERVER, {"PW": "s"}, Clients(None))

    assert password.text == "s" and "'s'" not in repr(password)
    with pytest.raises(ConfigError, match="PW"):
        Login(password_env="PW").password(SERVER, {}, Clients(None))


@pytest.mark.parametrize(
    ("secret", "expected"), [('{"username":"u","password":"s"}', "s"), ("plain", "plain"), ("{x", "{x")]
)
def test_password_comes_from_a_secret(secret: str, expected: str) -> None:
    assert Login(secret_arn="arn").password(SERVER, {}, Clients(secret)).text == expected


@pytest.mark.parametrize("secret", [None, '{"user":"u"}', '{"password":5}'])
def test_secret_without_a_password_is_refused(secret: str | None) -> None:
    with pytest.raises(ConfigError, match="secret arn"):
        Login(secret_arn="arn").password(SERVER, {}, Clients(secret))


def test_password_is_a_token_of_iam() -> None:
    assert Login(iam_auth=True).password(SERVER, {}, Clients(None)).text == "h:3306/?user=u"


@pytest.mark.parametrize(
    "given", [{}, {"password_env": "A", "iam_auth": True}, {"password_env": "A", "secret_arn": "B"}]
)
def test_login_is_one_of_three(given: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="exactly one"):
        Login(**given)
