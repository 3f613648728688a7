"""Errors of libraries as what they mean: raised by the libraries themselves, against a store that fails on request."""

from __future__ import annotations

import http.server
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import botocore.exceptions
import duckdb
import pyiceberg.exceptions
import pytest
import requests
import sqlalchemy.exc
from pyarrow.fs import AwsStandardS3RetryStrategy, LocalFileSystem, S3FileSystem

from ddb_lake.aws.session import client
from ddb_lake.cli.failures import error_text, exit_status
from ddb_lake.core.operations.library_errors import reading, translate, translate_commit, translate_uncaught
from ddb_lake.core.operations.retry_policy import ATTEMPTS, CONNECT_TIMEOUT_S, READ_TIMEOUT_S
from ddb_lake.engine.session import S3Access, connect, use_s3
from ddb_lake.errors import (
    CommitConflict,
    CommitStateUnknown,
    ConfigError,
    DamagedError,
    DdbLakeError,
    DeniedError,
    MemoryLimitError,
    TerminalError,
    TransientError,
    UnreachableError,
    UsageError,
)
from ddb_lake.lake import catalog
from ddb_lake_tests.support.iceberg_table import catalog as lake_catalog

CODES = {
    500: "InternalError",
    503: "SlowDown",
    429: "TooManyRequests",
    403: "AccessDenied",
    404: "NoSuchKey",
}
MEANINGS = {500: UnreachableError, 503: UnreachableError, 429: UnreachableError, 403: DeniedError, 404: DamagedError}


@contextmanager
def store(code: int) -> Iterator[str]:
    """An S3 endpoint that answers every request with an HTTP status and S3's error for it."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def answer(self) -> None:
            body = f"<Error><Code>{CODES[code]}</Code><Message>it fails</Message></Error>".encode()
            self.send_response(code)
            self.send_header("Content-Type", "application/xml")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        do_GET = do_HEAD = do_PUT = do_POST = answer  # http.server's names

        def log_message(self, *_: Any) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def arrow_error(endpoint: str) -> Exception:
    once = AwsStandardS3RetryStrategy(max_attempts=1)
    files = S3FileSystem(
        access_key="a", secret_key="b", endpoint_override=endpoint, region="eu-west-1", retry_strategy=once
    )
    with pytest.raises(OSError) as raised:
        files.open_input_file("bucket/lake/x.parquet").read()
    return raised.value


def duckdb_error(endpoint: str) -> Exception:
    with duckdb.connect() as con:
        use_s3(con, S3Access("eu-west-1", "a", "b", None, endpoint))
        con.execute("SET http_retries = 0")
        with pytest.raises(duckdb.Error) as raised:
            con.execute("SELECT * FROM read_parquet('s3://bucket/lake/x.parquet')")
    return raised.value


RAISED = [arrow_error, pytest.param(duckdb_error, marks=pytest.mark.duckdb_wheels)]


@pytest.mark.parametrize("code", CODES)
@pytest.mark.parametrize("raised", RAISED)
def test_stores_answer_is_reported_as_what_it_means(code: int, raised: Any) -> None:
    with store(code) as endpoint:
        error = raised(endpoint)
    found = translate(error)
    assert type(found) is MEANINGS[code], f"{error!r} is {found!r}"
    assert found.transient == (MEANINGS[code] is UnreachableError)
    assert found.uri is not None
    assert found.uri.endswith("x.parquet")
    assert ("Run the command again" in error_text(error)) == found.transient
    assert exit_status(error) == 1


@pytest.mark.parametrize("raised", RAISED)
def test_store_that_does_not_answer_is_temporary(raised: Any) -> None:
    assert isinstance(translate(raised("http://127.0.0.1:9")), TransientError)


def test_missing_local_file_is_damage_only_where_the_lake_reads_it() -> None:
    with pytest.raises(FileNotFoundError) as raised:
        LocalFileSystem().open_input_file("/nowhere/x.parquet")
    assert translate_uncaught(raised.value) is None
    assert isinstance(translate(raised.value), DamagedError)


@pytest.mark.parametrize(
    "error",
    [EOFError(), ValueError("4111"), KeyError("4111"), IndexError(), UnicodeDecodeError("utf-8", b"4111", 0, 1, "x")],
)
def test_whatever_a_reader_raises_names_the_file_and_no_values(error: Exception) -> None:
    with (
        pytest.raises(DamagedError, match=r"orders: s3://b/m\.avro: it is damaged") as raised,
        reading("s3://b/m.avro", "orders"),
    ):
        raise error
    assert (raised.value.uri, raised.value.table, raised.value.transient) == ("s3://b/m.avro", "orders", False)
    assert raised.value.hint in str(raised.value)
    assert "4111" not in str(raised.value)


def test_values_in_duckdbs_message_are_not_repeated() -> None:
    error = duckdb.InvalidInputException(
        'Invalid Input Error: Invalid string encoding found in Parquet file "/lake/x.parquet": value "4111-1111" is not valid UTF8!'
    )
    found = translate(error)
    assert isinstance(found, DamagedError)
    assert found.uri == "/lake/x.parquet"
    assert "4111" not in str(found)


def test_memory_that_the_system_refuses_is_not_duckdbs_limit() -> None:
    refused = duckdb.OutOfMemoryException(
        "Out of Memory Error: Failed to allocate block of 16777216 bytes (bad allocation)"
    )
    with pytest.raises(MemoryLimitError, match="lower `memory`, or raise the limit of the process"), connect():
        raise refused
    with pytest.raises(UsageError) as raised, connect(memory="320MB", threads=1) as session:
        session.con.execute("SET temp_directory = ''")
        session.con.execute("SELECT list(i), list(i || 'abcdefgh') FROM range(40000000) t(i)")
    assert type(raised.value) is UsageError
    for error in (
        MemoryError(),
        ImportError("x.so: failed to map segment from shared object"),
        RuntimeError("can't start new thread"),
    ):
        assert "lower `memory`" in error_text(error)
        assert exit_status(error) == 2


def test_every_error_of_ours_stays_itself() -> None:
    kinds = [DdbLakeError]
    while kinds:
        kind = kinds.pop()
        kinds += kind.__subclasses__()
        assert translate(kind.__new__(kind)) is None


@pytest.mark.duckdb_wheels
def test_all_clients_have_one_policy(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-west-1")
    config = client("s3").meta.config
    assert (config.connect_timeout, config.read_timeout) == (CONNECT_TIMEOUT_S, READ_TIMEOUT_S)
    assert config.retries["total_max_attempts"] == ATTEMPTS
    with connect(S3Access("eu-west-1", "a", "b")) as session:
        settings = dict(
            session.rows("SELECT name, value FROM duckdb_settings() WHERE name IN ('http_timeout', 'http_retries')")
        )
    assert settings == {"http_timeout": str(READ_TIMEOUT_S), "http_retries": str(ATTEMPTS - 1)}
    with lake_catalog(tmp_path) as opened:
        properties = opened.catalog.properties
    assert float(properties["s3.connect-timeout"]) == CONNECT_TIMEOUT_S
    assert float(properties["s3.request-timeout"]) == READ_TIMEOUT_S
    assert properties["s3.retry-strategy-impl"] == f"{catalog.__name__}.Retries"
    assert catalog.Retries().max_attempts == ATTEMPTS


ICEBERG_ERRORS = [
    error for error in vars(pyiceberg.exceptions).values() if isinstance(error, type) and issubclass(error, Exception)
]


@pytest.mark.parametrize("kind", ICEBERG_ERRORS, ids=lambda kind: kind.__name__)
def test_error_of_pyiceberg_is_translated_without_its_message(kind: type[Exception]) -> None:
    raw = "Requirement failed: branch main has changed: expected id 1, found 2"
    found = translate(kind(raw), table="orders")
    assert found is not None and "Requirement" not in str(found) and "branch main" not in str(found)
    assert found.hint or isinstance(found, CommitStateUnknown)
    assert found.table == "orders" or isinstance(found, ConfigError)


def test_kinds_of_errors_of_pyiceberg() -> None:
    kinds = {error.__name__: type(translate(error("x"))) for error in ICEBERG_ERRORS}
    assert {name for name, kind in kinds.items() if kind is CommitConflict} >= {
        "CommitFailedException",
        "ValidationException",
    }
    assert {name for name, kind in kinds.items() if kind is CommitStateUnknown} == {"CommitStateUnknownException"}
    assert kinds["ServiceUnavailableError"] is UnreachableError
    assert issubclass(kinds["ForbiddenError"], TerminalError) and issubclass(kinds["BadRequestError"], TerminalError)


# --- commits


class PostgreSqlError(Exception):
    """An error of psycopg: `sqlstate` is the server's code, None if the connection broke."""

    def __init__(self, text: str, sqlstate: str | None) -> None:
        super().__init__(text)
        self.sqlstate = sqlstate


def wrapped(text: str, sqlstate: str | None = None) -> Exception:
    return sqlalchemy.exc.OperationalError("UPDATE iceberg_tables", None, PostgreSqlError(text, sqlstate))


def glue(code: str, status: int = 400) -> Exception:
    response: Any = {"Error": {"Code": code, "Message": ""}, "ResponseMetadata": {"HTTPStatusCode": status}}
    return botocore.exceptions.ClientError(response, "UpdateTable")


@pytest.mark.parametrize(
    ("error", "meaning"),
    [
        (pyiceberg.exceptions.CommitFailedException("branch main has changed"), CommitConflict),
        (pyiceberg.exceptions.CommitStateUnknownException("504"), CommitStateUnknown),
        (pyiceberg.exceptions.ServerError("500"), CommitStateUnknown),
        (pyiceberg.exceptions.ServiceUnavailableError("503"), CommitStateUnknown),
        (wrapped("database is locked"), TransientError),
        (wrapped("could not serialize access due to concurrent update", "40001"), CommitConflict),
        (wrapped("deadlock detected", "40P01"), CommitConflict),
        (wrapped("permission denied for table iceberg_tables", "42501"), DeniedError),
        (wrapped("value too long for type character varying(1000)", "22001"), TerminalError),
        (wrapped("terminating connection due to administrator command", "57P01"), CommitStateUnknown),
        (wrapped("server closed the connection unexpectedly"), CommitStateUnknown),
        (glue("ConcurrentModificationException"), CommitConflict),
        (glue("AccessDeniedException"), DeniedError),
        (glue("ThrottlingException"), TransientError),
        (glue("OperationTimeoutException"), CommitStateUnknown),
        (glue("InternalServiceException", 500), CommitStateUnknown),
        (botocore.exceptions.ReadTimeoutError(endpoint_url="https://glue"), CommitStateUnknown),
        (requests.exceptions.ConnectionError("reset"), CommitStateUnknown),
    ],
)
def test_error_of_a_commit_is_a_conflict_only_if_nothing_was_committed(
    error: Exception, meaning: type[DdbLakeError]
) -> None:
    assert type(translate_commit(error, "orders")) is meaning


def test_error_that_is_none_of_a_catalog_is_not_translated() -> None:
    assert translate_commit(ValueError("no catalog's"), "orders") is None
    assert translate_commit(glue("ValidationException"), "orders") is None
