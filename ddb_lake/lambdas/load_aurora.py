"""Load the CSV files of `validate` into a table of Aurora or another MySQL-compatible database.

Event: a notification of S3 (https://docs.aws.amazon.com/AmazonS3/latest/userguide/notification-content-structure.html), an event of
EventBridge (https://docs.aws.amazon.com/AmazonS3/latest/userguide/ev-events.html), SQS messages with either
(https://docs.aws.amazon.com/lambda/latest/dg/with-sqs.html), or `{"replay": true}`.

Response: for SQS `{"batchItemFailures": [{"itemIdentifier": <message id>}, …]}` (the mapping needs `ReportBatchItemFailures`);
for other events `{"loaded": [{"object", "records", "already_loaded", "rejected"}, …]}`, and an error after all files were attempted if
one of them failed; for a replay `{"replayed": n, "still_rejected": n}`.

Each version of a file is loaded once and atomically (`mysql.change_files`). Repeated, late and rewritten files do no harm.

`DDB_LAKE_AURORA_HOST`, `_PORT` (3306), `_DATABASE`, `_USER`, `_TABLE`
    The table. `_TLS_CA`: a file of certificates to trust (AWS's RDS bundle); `_TLS`: `off` for a plain connection.
`DDB_LAKE_AURORA_PASSWORD`, `_SECRET_ARN`, or `_IAM_AUTH=true`
    The login: exactly one of them.
`DDB_LAKE_COLUMNS`, `DDB_LAKE_AURORA_KEY`
    The files' columns, as for `validate` (of one table), and the names of the key's columns, comma-separated.
`DDB_LAKE_AURORA_LOAD`
    `s3`: the server reads the file (`LOAD DATA FROM S3`); `client`: this function sends it; default: `s3` on Aurora.
`DDB_LAKE_AURORA_PREFIX`
    Load only keys with this prefix (default: all), for instance to leave out an error prefix.
`DDB_LAKE_BUCKET_OWNER`
    The account that must own the bucket of a file; a file in a bucket of another account is an error. The stacks set it.

A record that the database rejects is written to `<table>_rejected` with the reason, and the other records of its file are loaded.
After you have changed the table (a column widened), invoke the function with `{"replay": true}` to load the rejected records again.

Logs contain no values of rows.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import boto3
from aws_lambda_powertools import Logger
from botocore.config import Config
from botocore.exceptions import ClientError

from ddb_lake.core.layout.s3_notifications import parse_message
from ddb_lake.core.operations.count_text import count_text
from ddb_lake.errors import ConfigError, DdbLakeError, TerminalError
from ddb_lake.lambdas.environment import BUCKET_OWNER, Variable, expected_owner, read_variables
from ddb_lake.mysql.change_files import ChangeLoader, Loaded, Replayed, is_aurora
from ddb_lake.mysql.connection import Database, Server, open_database
from ddb_lake.mysql.credentials import Login
from ddb_lake.mysql.statements import from_client, from_s3

PREFIX: Final = "DDB_LAKE_AURORA_"
COLUMNS: Final = "DDB_LAKE_COLUMNS"
VARIABLES: Final = (
    *(Variable(PREFIX + name, required=True) for name in ("HOST", "DATABASE", "USER", "TABLE", "KEY")),
    Variable(COLUMNS, '{"<table>": …}', required=True),
    *(Variable(PREFIX + name) for name in ("PORT", "TLS", "TLS_CA", "LOAD", "PREFIX")),
    *(Variable(PREFIX + name) for name in ("PASSWORD", "SECRET_ARN", "IAM_AUTH")),
    BUCKET_OWNER,
)
_CONFIG: Final = Config(retries={"mode": "standard"}, connect_timeout=5, read_timeout=60)
_log: Final = Logger(service="ddb_lake.load_aurora")


def handler(event: dict[str, Any], context: object) -> dict[str, Any]:  # noqa: ARG001  # Lambda's signature
    """The entry point of Lambda. Returns the failed messages, or the loaded files; for `{"replay": true}`, the replayed records.

    Raises:
        DdbLakeError: a file of an event that did not come through SQS failed.
    """
    loader = _loader(tuple(read_variables(VARIABLES, os.environ).items()), os.environ.get("AWS_ENDPOINT_URL", ""))
    if event.get("replay") is True:
        replayed = loader.replay()
        return {"replayed": replayed.replayed, "still_rejected": replayed.still_rejected}
    messages = [record for record in event.get("Records", ()) if record.get("eventSource") == "aws:sqs"]
    if messages:
        failed = [message for message in messages if not _processed(loader, message)]
        return {"batchItemFailures": [{"itemIdentifier": message.get("messageId", "")} for message in failed]}
    return {"loaded": [_summary(loaded) for loaded in loader.load_all(_uris(json.dumps(event)))]}


def _processed(loader: Loader, message: Mapping[str, Any]) -> bool:
    """Whether a message was processed. An error of one message does not affect the others of its batch."""
    try:
        loader.load_all(_uris(message.get("body", "")))
    except DdbLakeError:  # `load_all` has logged it
        return False
    except Exception as error:
        _log.error("message %s: unexpected %s", message.get("messageId"), type(error).__name__)
        return False
    return True


def _uris(text: str) -> tuple[str, ...]:
    """The objects that an event or a message names."""
    notification = parse_message(text)
    if notification.kind == "other":
        _log.warning("the event names no new object")
    return notification.uris


def _summary(loaded: Loaded) -> dict[str, Any]:
    return {
        "object": loaded.object,
        "records": loaded.records,
        "already_loaded": loaded.already_loaded,
        "rejected": loaded.rejected,
    }


@dataclass(frozen=True, slots=True)
class Settings:
    """The settings."""

    server: Server
    login: Login
    table: str
    columns: tuple[str, ...]
    key: tuple[str, ...]
    load: str = "auto"
    prefix: str = ""
    owner: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> Settings:
        """Read the settings. Raises ConfigError for a missing or invalid variable."""
        found = read_variables(VARIABLES, environment)

        def of(name: str, otherwise: str = "") -> str:
            return found.get(PREFIX + name, otherwise)

        load = of("LOAD", "auto").lower()
        if load not in ("auto", "s3", "client"):
            raise ConfigError(f"{PREFIX}LOAD is {load!r}: expected s3, client or auto")
        port = of("PORT", "3306")
        if not port.isdecimal():
            raise ConfigError(f"{PREFIX}PORT is {port!r}: expected a number")
        tls = False if of("TLS").lower() == "off" else None
        server = Server(of("HOST"), of("DATABASE"), of("USER"), int(port), tls, of("TLS_CA") or None)
        login = Login(
            password_env=PREFIX + "PASSWORD" if of("PASSWORD") else None,
            secret_arn=of("SECRET_ARN") or None,
            iam_auth=of("IAM_AUTH").lower() == "true",
        )
        key = tuple(name.strip() for name in of("KEY").split(","))
        owner = expected_owner(found)
        return cls(server, login, of("TABLE"), _columns(found[COLUMNS]), key, load, of("PREFIX"), owner)


def _columns(text: str) -> tuple[str, ...]:
    """The names of the columns: `{"<table>": {"<column>": "<pointer>"}}` or `{"<table>": ["<attribute>"]}`."""
    try:
        tables = json.loads(text if text.lstrip().startswith("{") else Path(text).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(f"{COLUMNS}: neither JSON nor the name of a file with JSON") from error
    if (
        not isinstance(tables, dict)
        or len(tables) != 1
        or not isinstance(columns := next(iter(tables.values())), dict | list)
    ):
        raise ConfigError(f"{COLUMNS}: expected the columns of one table, as for the validating transformation")
    return tuple(columns)


@dataclass(slots=True)
class Loader:
    """Loads objects over a connection that is kept between invocations."""

    settings: Settings
    environment: Mapping[str, str] = field(repr=False)
    _changes: ChangeLoader | None = field(default=None, repr=False)
    _by_server: bool = False
    _clients: dict[str, Any] = field(default_factory=dict, repr=False)

    def load_all(self, uris: Sequence[str]) -> list[Loaded]:
        """Load the objects. Attempts all, then raises the first error."""
        loaded, failure = [], None
        for uri in uris:
            if not self._is_in_prefix(uri):
                continue
            try:
                loaded.append(self.load(uri))
            except DdbLakeError as error:
                _log.error("%s", error)
                failure = failure or error
        if failure:
            raise failure
        return loaded

    def load(self, uri: str) -> Loaded:
        """Load one object as it is now. Raises DdbLakeError."""
        changes = self._connected()
        try:
            with self._source(uri) as (source, version):
                loaded = changes.load(uri, version, source)
        except DdbLakeError as error:
            if not isinstance(error, TerminalError):
                self.close()
            raise
        done = "was loaded before" if loaded.already_loaded else "loaded"
        _log.info("%s: %s, %s", loaded.object, done, count_text(loaded.records, "record"))
        if loaded.rejected:
            rejected = f"{self.settings.table}_rejected"
            count = count_text(loaded.rejected, "record")
            _log.warning("%s: the database rejected %s: see table %s", loaded.object, count, rejected)
        return loaded

    def replay(self) -> Replayed:
        """Load the rejected records again. Raises DdbLakeError."""
        return self._connected().replay()

    def close(self) -> None:
        """Close the connection. The next object opens a new one."""
        if self._changes is not None:
            self._changes.database.close()
            self._changes = None

    def _is_in_prefix(self, uri: str) -> bool:
        _, key = _split(uri)
        return key.startswith(self.settings.prefix) and not key.endswith("/")

    def _connected(self) -> ChangeLoader:
        if self._changes is not None and not self._changes.database.alive:
            self.close()
        if self._changes is None:
            database = self._open()
            try:
                self._by_server = self.settings.load == "s3" or (self.settings.load == "auto" and is_aurora(database))
                self._changes = ChangeLoader(database, self.settings.table, self.settings.columns, self.settings.key)
            except BaseException:
                database.close()
                raise
        return self._changes

    def _open(self) -> Database:
        server = self.settings.server
        return open_database(server, self.settings.login.password(server, self.environment, self._client).text)

    def _client(self, service: str) -> Any:
        if service not in self._clients:
            self._clients[service] = boto3.client(service, config=_CONFIG)  # type: ignore[call-overload]  # no stubs for all
        return self._clients[service]

    @contextmanager
    def _source(self, uri: str) -> Iterator[tuple[str, str]]:
        """The source clause of LOAD DATA for the object, and its current version.

        If the object is rewritten in between, its new contents are loaded under the old version, and again with their
        own event. This does no harm, because the upsert compares `_seq`.
        """
        s3 = self._client("s3")
        bucket, key = _split(uri)
        try:
            if self._by_server:
                answer = s3.head_object(Bucket=bucket, Key=key, **self.settings.owner)
                region = answer["ResponseMetadata"]["HTTPHeaders"].get("x-amz-bucket-region") or s3.meta.region_name
                yield from_s3(uri, region), answer["ETag"].strip('"')
                return
            with TemporaryDirectory() as folder:
                path = Path(folder) / "changes.csv"
                answer = s3.get_object(Bucket=bucket, Key=key, **self.settings.owner)
                with path.open("wb") as file:
                    for chunk in answer["Body"].iter_chunks(1 << 20):
                        file.write(chunk)
                yield from_client(str(path)), answer["ETag"].strip('"')
        except ClientError as error:
            raise _unreadable(uri, error) from None


def _split(uri: str) -> tuple[str, str]:
    """Bucket and key of `s3://bucket/key`."""
    bucket, _, key = uri.removeprefix("s3://").partition("/")
    return bucket, key


def _unreadable(uri: str, error: ClientError) -> TerminalError:
    code = error.response.get("Error", {}).get("Code", "unknown")
    is_missing = code in ("404", "NoSuchKey")
    advice = (
        "it was removed before it was loaded"
        if is_missing
        else "check the function's role, the owner of the bucket, and the function's way to S3"
    )
    return TerminalError(f"S3 answers {code}; {advice}", uri=uri)


@lru_cache(maxsize=1)
def _loader(environment: tuple[tuple[str, str], ...], _endpoint: str) -> Loader:
    """The loader of this process."""
    found = dict(environment)
    return Loader(Settings.from_environment(found), found)
