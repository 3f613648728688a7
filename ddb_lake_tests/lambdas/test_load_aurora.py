from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any
from urllib.parse import quote_plus

import pytest

from ddb_lake.errors import ConfigError, TerminalError, TransientError
from ddb_lake.lambdas import load_aurora
from ddb_lake.lambdas.load_aurora import Settings, handler
from ddb_lake.mysql.connection import Database, Server
from ddb_lake.mysql.csv_rows import write_row
from ddb_lake.sandbox import Sandbox
from ddb_lake_tests.support.aws_calls import ACCOUNT
from ddb_lake_tests.support.mariadb import PASSWORD, MariaDb
from ddb_lake_tests.support.sandbox_lake import point_at
from ddb_lake_tests.support.sandbox_steps import make_bucket

KEY = "processed/2026/03/01/a key+with=signs & é.csv"
PUT = ["MODIFY", "5", "p", "1"]


class Landing:
    """A bucket of files, a table, and the function's environment."""

    def __init__(self, sandbox: Sandbox, database: Database) -> None:
        self.sandbox, self.database = sandbox, database
        self.bucket = make_bucket(sandbox)

    def put(self, *rows: Sequence[str | None], key: str = KEY) -> None:
        body = "".join(write_row(row) for row in rows).encode()
        self.sandbox.client("s3").put_object(Bucket=self.bucket, Key=key, Body=body)

    def direct(self, *keys: str, name: str = "ObjectCreated:Put") -> dict[str, Any]:
        entries = [{"bucket": {"name": self.bucket}, "object": {"key": quote_plus(key)}} for key in keys or (KEY,)]
        return {"Records": [{"eventSource": "aws:s3", "eventName": name, "s3": entry} for entry in entries]}

    def bridged(self, key: str = KEY) -> dict[str, Any]:
        detail = {"bucket": {"name": self.bucket}, "object": {"key": key}}
        return {"source": "aws.s3", "detail-type": "Object Created", "detail": detail}

    @staticmethod
    def queued(*events: Any) -> dict[str, Any]:
        bodies = [event if isinstance(event, str) else json.dumps(event) for event in events]
        return {
            "Records": [
                {"messageId": f"m{number}", "eventSource": "aws:sqs", "body": body}
                for number, body in enumerate(bodies)
            ]
        }

    def rows(self) -> list[tuple[Any, ...]]:
        return self.database.rows("SELECT page, hits, _seq FROM Pages ORDER BY page")


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    with Sandbox() as running:
        yield running


@pytest.fixture
def server(mariadb: MariaDb) -> Server:
    return mariadb.fresh()


@pytest.fixture
def landing(sandbox: Sandbox, mariadb: MariaDb, server: Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[Landing]:
    sandbox.reset()
    point_at(sandbox, monkeypatch)
    database = mariadb.open(server)
    database.execute(
        "CREATE TABLE Pages (_key BINARY(32) PRIMARY KEY, _seq DECIMAL(40,0) NOT NULL, page VARCHAR(20), hits INT)"
    )
    environment = {"HOST": server.host, "PORT": server.port, "DATABASE": server.database, "USER": server.user}
    environment |= {"PASSWORD": PASSWORD, "TABLE": "Pages", "KEY": "page", "PREFIX": "processed/"}
    for name, value in environment.items():
        monkeypatch.setenv(f"DDB_LAKE_AURORA_{name}", str(value))
    monkeypatch.setenv("DDB_LAKE_COLUMNS", json.dumps({"pages": {"page": "/page", "hits": "/payload/hits"}}))
    load_aurora._loader.cache_clear()
    yield Landing(sandbox, database)
    load_aurora._loader.cache_clear()
    database.close()


@pytest.mark.parametrize("form", ["direct", "bridged"])
def test_object_is_loaded_once_from_every_form_of_event(landing: Landing, form: str) -> None:
    landing.put(PUT)
    event = getattr(landing, form)()

    first, again = handler(event, None), handler(event, None)

    uri = f"s3://{landing.bucket}/{KEY}"
    assert first == {"loaded": [{"object": uri, "records": 1, "already_loaded": False, "rejected": 0}]}
    assert again == {"loaded": [{"object": uri, "records": 1, "already_loaded": True, "rejected": 0}]}
    assert handler(landing.queued(event), None) == {"batchItemFailures": []}
    wrapped = {"Type": "Notification", "Message": json.dumps(event)}
    assert handler(landing.queued(wrapped), None) == {"batchItemFailures": []}
    assert landing.rows() == [("p", 1, Decimal(5))]


def test_rewritten_object_is_loaded_again(landing: Landing) -> None:
    landing.put(PUT)
    handler(landing.direct(), None)
    landing.put(["MODIFY", "6", "p", "2"])

    handler(landing.direct(), None)

    assert landing.rows() == [("p", 2, Decimal(6))]


def test_messages_that_failed_come_back_and_the_others_are_done(landing: Landing) -> None:
    landing.put(PUT, key="processed/good")
    landing.put(["MODIFY", "6", "p", "4711-secret"], key="processed/bad")
    landing.put(["MODIFY", "7", "q", "1"], key="processed/good2")
    events = [landing.direct(f"processed/{name}") for name in ("good", "bad", "good2", "gone")]

    answer = handler(landing.queued(*events, "no event", {"Event": "s3:TestEvent"}), None)

    assert answer == {"batchItemFailures": [{"itemIdentifier": "m3"}]}
    assert landing.rows() == [("p", 1, Decimal(5)), ("q", 1, Decimal(7))]


def test_rejected_record_is_counted_and_replayed_on_request_and_no_value_is_logged(
    landing: Landing, caplog: pytest.LogCaptureFixture
) -> None:
    landing.put(["MODIFY", "6", "q", "47114711471147"], key="processed/bad")
    landing.put(PUT, key="processed/good")

    answer = handler(landing.direct("processed/bad", "processed/good"), None)

    assert [one["rejected"] for one in answer["loaded"]] == [1, 0]
    assert landing.rows() == [("p", 1, Decimal(5))]
    assert "processed/bad: the database rejected 1 record" in caplog.text
    assert "4711" not in caplog.text and PASSWORD not in caplog.text
    assert handler({"replay": True}, None) == {"replayed": 0, "still_rejected": 1}


def test_objects_that_are_not_for_loading_are_left_alone(landing: Landing) -> None:
    landing.put(PUT, key="failed/x")

    assert handler(landing.direct("failed/x", "processed/folder/"), None) == {"loaded": []}
    assert handler(landing.direct(name="ObjectRemoved:Delete"), None) == {"loaded": []}
    assert handler({"Service": "Amazon S3", "Event": "s3:TestEvent"}, None) == {"loaded": []}


def test_object_that_is_gone_says_so(landing: Landing) -> None:
    with pytest.raises(TerminalError, match="NoSuchKey; it was removed before it was loaded"):
        handler(landing.direct("processed/gone"), None)


def test_connection_that_was_lost_between_invocations_is_opened_again(landing: Landing) -> None:
    landing.put(PUT)
    handler(landing.direct(), None)
    for number, user in landing.database.rows("SELECT id, user FROM information_schema.processlist"):
        if number != landing.database.value("SELECT CONNECTION_ID()") and user == "loader":
            landing.database.execute(f"KILL {number}")
    landing.put(["REMOVE", "7", "p", None])

    handler(landing.direct(), None)

    assert landing.rows() == []


def test_database_that_is_away_is_tried_again(landing: Landing, monkeypatch: pytest.MonkeyPatch) -> None:
    landing.put(PUT)
    monkeypatch.setenv("DDB_LAKE_AURORA_PORT", "1")

    assert handler(landing.queued(landing.direct()), None) == {"batchItemFailures": [{"itemIdentifier": "m0"}]}
    with pytest.raises(TransientError):
        handler(landing.direct(), None)


class Aurora(Database):
    """MariaDB as Aurora: it says that it is, and reads the objects of S3 itself."""

    __slots__ = ("folder", "s3")

    def rows(self, sql: str, arguments: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        return [("aurora_version", "3.08.0")] if "aurora_version" in sql else super().rows(sql, arguments)

    def load(self, sql: str, what: str) -> int:
        found = re.match(r"LOAD DATA FROM S3 FILE 's3-eu-west-1://([^/]+)/((?:[^']|'')+)' ", sql)
        assert found, sql
        path = self.folder / "read-by-the-server"
        key = found[2].replace("''", "'")
        path.write_bytes(self.s3.get_object(Bucket=found[1], Key=key)["Body"].read())
        return super().load(sql.replace(found[0], f"LOAD DATA LOCAL INFILE '{path}' "), what)


def test_aurora_reads_the_object_itself(landing: Landing, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    really = load_aurora.open_database

    def opened(server: Server, password: str) -> Database:
        aurora = Aurora(server, really(server, password).driver)
        aurora.folder, aurora.s3 = tmp_path, landing.sandbox.client("s3")
        return aurora

    monkeypatch.setattr(load_aurora, "open_database", opened)
    key = "processed/it's a key"
    landing.put(PUT, key=key)

    assert handler(landing.bridged(key), None)["loaded"][0]["records"] == 1
    assert (tmp_path / "read-by-the-server").exists()
    assert landing.rows() == [("p", 1, Decimal(5))]


@pytest.mark.parametrize("load", ["client", "s3"])
def test_object_in_a_bucket_of_another_account_is_not_loaded(
    landing: Landing, monkeypatch: pytest.MonkeyPatch, load: str
) -> None:
    landing.put(PUT)
    monkeypatch.setenv("DDB_LAKE_AURORA_LOAD", load)
    monkeypatch.setenv("DDB_LAKE_BUCKET_OWNER", "444455556666")
    with pytest.raises(TerminalError, match="the owner of the bucket"):
        handler(landing.direct(), None)
    assert landing.rows() == []

    monkeypatch.setenv("DDB_LAKE_AURORA_LOAD", "client")
    monkeypatch.setenv("DDB_LAKE_BUCKET_OWNER", ACCOUNT)
    assert handler(landing.direct(), None)["loaded"][0]["records"] == 1


COMPLETE = {
    "DDB_LAKE_AURORA_HOST": "h",
    "DDB_LAKE_AURORA_DATABASE": "d",
    "DDB_LAKE_AURORA_USER": "u",
    "DDB_LAKE_AURORA_TABLE": "t",
    "DDB_LAKE_AURORA_KEY": "a, b",
    "DDB_LAKE_AURORA_IAM_AUTH": "true",
    "DDB_LAKE_COLUMNS": '{"t": ["a", "b", "c"]}',
}


def test_environment_gives_the_settings(tmp_path: Path) -> None:
    (tmp_path / "columns.json").write_text(COMPLETE["DDB_LAKE_COLUMNS"])
    inline = Settings.from_environment(COMPLETE)
    from_file = Settings.from_environment(COMPLETE | {"DDB_LAKE_COLUMNS": str(tmp_path / "columns.json")})

    assert inline == from_file
    assert (inline.columns, inline.key, inline.server.port, inline.login.iam_auth) == (
        ("a", "b", "c"),
        ("a", "b"),
        3306,
        True,
    )


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"DDB_LAKE_AURORA_HOST": ""}, "lacks DDB_LAKE_AURORA_HOST"),
        ({"DDB_LAKE_COLUMNS": ""}, "lacks DDB_LAKE_COLUMNS"),
        ({"DDB_LAKE_COLUMNS": "nowhere.json"}, "neither JSON nor the name"),
        ({"DDB_LAKE_COLUMNS": '{"a": ["x"], "b": ["y"]}'}, "the columns of one table"),
        ({"DDB_LAKE_AURORA_PORT": "x"}, "expected a number"),
        ({"DDB_LAKE_AURORA_LOAD": "x"}, "expected s3, client or auto"),
        ({"DDB_LAKE_BUCKET_OWNER": "x"}, "expected an account id"),
        ({"DDB_LAKE_AURORA_PASSWORD": "x"}, "exactly one of"),
    ],
)
def test_wrong_environment_is_an_error(changed: dict[str, str], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        Settings.from_environment(COMPLETE | changed)
