"""The sandbox: moto with additions, in this process, over HTTP on loopback."""

from __future__ import annotations

import functools
import logging
import socket
import threading
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from types import TracebackType
from typing import Any, Self

import boto3
from botocore.config import Config
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, MotoRequestHandler, create_backend_app
from werkzeug.serving import ThreadedWSGIServer

from ddb_lake.errors import UsageError
from ddb_lake.sandbox import backend
from ddb_lake.sandbox.backend import Scope
from ddb_lake.sandbox.capture import Recorder
from ddb_lake.sandbox.clock import Clock
from ddb_lake.sandbox.denials import Denials
from ddb_lake.sandbox.destinations import Destinations, StreamFaults
from ddb_lake.sandbox.export_requests import ExportOptions
from ddb_lake.sandbox.exports import Exports
from ddb_lake.sandbox.firehose import Delivery, DeliveryStream
from ddb_lake.sandbox.firehose_api import FirehoseApi
from ddb_lake.sandbox.front import Front
from ddb_lake.sandbox.lambda_api import LambdaApi, LocalFunction
from ddb_lake.sandbox.metrics import FirehoseMetrics, Metrics
from ddb_lake.sandbox.running import CONTROL
from ddb_lake.sandbox.transform import Handler

_LOG = logging.getLogger(__name__)
_HOST = "127.0.0.1"
_POLL_S = 0.05
_ONE_AT_A_TIME = threading.Lock()
_CREDENTIAL = "testing"
_MOST_ROUNDS = 50
"""An end to functions that write what they are notified of."""


class Sandbox:
    """An AWS emulator: a context manager that serves while it is entered.

    Real clients pointed at it by `environment` meet S3, DynamoDB (with exports, Kinesis streaming and Time
    to Live), DynamoDB Streams, Kinesis, Firehose to S3, STS, Glue and SQS. Nothing is kept on disk and
    nothing leaves the machine. moto's state belongs to the process: one sandbox at a time, empty when it
    starts and when it stops.

    Args:
        port: the TCP port on 127.0.0.1; 0 takes a free one.
        region: the region of `client` and `environment`. Requests say their own.
        start: where the sandbox's clock begins (default: now); it runs on from there.
        faults: duplicates and reordering in the change streams.
        exports: how long exports take, their files, the windows allowed.
        functions: Lambda functions whose code is on this machine.
    """

    def __init__(
        self,
        port: int = 0,
        *,
        region: str = "eu-west-1",
        start: datetime | None = None,
        faults: StreamFaults | None = None,
        exports: ExportOptions | None = None,
        functions: Sequence[LocalFunction] = (),
    ) -> None:
        self.region = region
        self.clock = Clock(start)
        self._port = port
        self._clients: dict[tuple[Scope, str], Any] = {}
        self._making_clients = threading.Lock()
        self._server: _Server | None = None
        self._metrics = Metrics()
        self._destinations = Destinations(self.clock, faults or StreamFaults(), self._metrics)
        self._recorder = Recorder(self.clock, self._destinations.send)
        self._exports = Exports(self.clock, self._recorder, lambda: self.client("s3"), exports or ExportOptions())
        local = {one.name: one for one in functions}
        self._lambda = LambdaApi(self._client, lambda: self.endpoint_url, self.clock.now_us, local)
        self._firehose = FirehoseApi(self._make_delivery_stream, self._lambda.call)
        self._denials = Denials()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Start the server.

        Raises:
            UsageError: another sandbox runs in this process, or the port is taken.
        """
        if not _ONE_AT_A_TIME.acquire(blocking=False):
            raise UsageError("another sandbox runs in this process, and moto's state is shared: stop that one first")
        try:
            backend.reset()
            backend.connect(self.clock.now_us, self._lambda.notify)
            front = Front(
                _moto(),
                self.clock,
                self._recorder,
                self._destinations,
                self._exports,
                self._firehose,
                self._lambda,
                self._forget,
                self._denials,
                self._control,
            )
            self._server = _Server(self._port, front)
        except OSError as error:
            _ONE_AT_A_TIME.release()
            raise UsageError(
                f"port {self._port} on {_HOST} cannot be served: {error.strerror}", hint="choose another"
            ) from error
        except BaseException:
            _ONE_AT_A_TIME.release()
            raise

    def stop(self) -> None:
        """Stop the server and drop all state. Does nothing if it is not running."""
        if self._server is None:
            return
        self._exports.stop()
        self._lambda.forget()
        backend.disconnect()
        for client in self._clients.values():
            client.close()
        self._clients.clear()
        self._server.stop()
        self._server = None
        self._forget()
        backend.reset()
        _ONE_AT_A_TIME.release()

    def reset(self) -> None:
        """Drop all state and keep serving: a fast way to a fresh sandbox between tests."""
        self._forget()
        with self._recorder.lock:
            backend.reset()

    @property
    def endpoint_url(self) -> str:
        """The URL of the sandbox.

        Raises:
            UsageError: it is not running.
        """
        if self._server is None:
            raise UsageError("the sandbox is not running", hint="enter it first")
        return f"http://{_HOST}:{self._server.port}"

    def environment(self) -> dict[str, str]:
        """The environment variables with which AWS clients use this sandbox."""
        return {
            "AWS_ENDPOINT_URL": self.endpoint_url,
            "AWS_ACCESS_KEY_ID": _CREDENTIAL,
            "AWS_SECRET_ACCESS_KEY": _CREDENTIAL,
            "AWS_REGION": self.region,
            "AWS_DEFAULT_REGION": self.region,
        }

    def environment_text(self) -> str:
        """The environment as lines for a shell to evaluate."""
        return "".join(f"export {name}={value}\n" for name, value in self.environment().items())

    def client(self, service: str, region: str | None = None) -> Any:
        """A boto3 client of this sandbox. It is created once, and closed when the sandbox stops."""
        return self._client(Scope(backend.account_of(_CREDENTIAL), region or self.region), service)

    def _client(self, scope: Scope, service: str) -> Any:
        """A client in an account and Region."""
        with self._making_clients:
            if (scope, service) not in self._clients:
                self._clients[scope, service] = _session().client(
                    service,  # type: ignore[call-overload]  # boto3-stubs lists the services it has stubs for
                    region_name=scope.region,
                    endpoint_url=self.endpoint_url,
                    config=Config(retries={"mode": "standard"}),
                    **self._credentials(scope),
                )
            return self._clients[scope, service]

    def _credentials(self, scope: Scope) -> dict[str, str]:
        """The credentials of an account: those of a role of it, unless it is the default account."""
        if scope.account == backend.account_of(_CREDENTIAL):
            return {"aws_access_key_id": _CREDENTIAL, "aws_secret_access_key": _CREDENTIAL}
        sts = _session().client(
            "sts",
            region_name=scope.region,
            endpoint_url=self.endpoint_url,
            aws_access_key_id=_CREDENTIAL,
            aws_secret_access_key=_CREDENTIAL,
        )
        try:
            role = sts.assume_role(RoleArn=f"arn:aws:iam::{scope.account}:role/sandbox", RoleSessionName="sandbox")
        finally:
            sts.close()
        return {
            "aws_access_key_id": role["Credentials"]["AccessKeyId"],
            "aws_secret_access_key": role["Credentials"]["SecretAccessKey"],
            "aws_session_token": role["Credentials"]["SessionToken"],
        }

    @property
    def lambdas(self) -> dict[str, Handler]:
        """Handlers, by name of the function, that run in this process. They replace functions of that name."""
        return self._lambda.in_process

    def delivery_stream(self, delivery: Delivery) -> DeliveryStream:
        """Create a Firehose delivery stream. `pump` drives it; PutRecord over HTTP works too."""
        return self._firehose.add(self._scope(), delivery)

    def pump(self, now: datetime | None = None) -> list[str]:
        """Pass new records to functions, and pump every delivery stream. Returns the keys of the written objects."""
        self._lambda.poll()
        keys = [key for stream in self._firehose.streams() for key in stream.pump(now)]
        self._lambda.poll()  # the notifications of these objects
        return keys

    def flush(self) -> list[str]:
        """As `pump`, and write all buffers. Returns the keys of the written objects."""
        self._lambda.poll()
        keys = [key for stream in self._firehose.streams() for key in stream.flush()]
        self._lambda.poll()
        return keys

    def settle(self, *, pause: bool = False) -> list[str]:
        """Pass on what is due, from service to service, until nothing moves. Returns the keys of the written objects.

        `pause`: a batch that a function failed is not due before a pause, which grows with each failure to 1 min.
        """
        keys: list[str] = []
        for _ in range(_MOST_ROUNDS):
            moved = self._lambda.poll(pause=pause)
            written = [key for stream in self._firehose.streams() for key in stream.pump()]
            keys += written
            if not moved and not written:
                break
        return keys

    def advance(self, by: timedelta) -> list[str]:
        """Move the clock forward, and settle before and after it. Returns the keys of the objects that Firehose has written.

        Exports whose duration is over have ended. Records that were on their way arrive before the jump, so a buffer of
        Firehose that is older than its interval afterwards is written.
        """
        keys = self.settle()
        self.clock.advance(by)
        self._exports.end_due()
        self.expire_all()
        return keys + self.settle()

    def count_earlier(self, stream: str, delivery: str, hours: Mapping[int, int]) -> None:
        """Let CloudWatch have the counts of a time before this sandbox.

        Args:
            stream: the name of the Kinesis stream that accepted the records.
            delivery: the name of the delivery stream that delivered them.
            hours: the number of records by the beginning of an hour (UTC microseconds).
        """
        scope = self._scope()
        for hour_us, records in hours.items():
            self._metrics.accepted(scope, stream, records, hour_us)
            FirehoseMetrics(self._metrics, scope, delivery).count("DeliveryToS3.Records", records, hour_us)

    def continue_table(self, table: str, table_id: str) -> None:
        """Give a table the id of a table that it continues: a lake of that table then reads it as its own source."""
        found = backend.find_table(self._scope(), table)
        with self._recorder.lock:
            self._recorder.history(self._scope(), found).table_id = table_id

    def expire(self, table: str, now: datetime | None = None) -> int:
        """Delete a table's expired items, as Time to Live does. Returns their number.

        Raises:
            UsageError: the table does not exist in the sandbox.
        """
        found = backend.find_table(self._scope(), table)
        if found is None:
            raise UsageError(f"table {table} does not exist in {self.region} of the sandbox")
        return self._recorder.expire(self._scope(), found, int((now or self.clock.now()).timestamp()))

    def expire_all(self) -> int:
        """Delete the expired items of all tables, of every account and Region. Returns their number."""
        now_s = int(self.clock.now().timestamp())
        return sum(self._recorder.expire(scope, table, now_s) for scope, table in list(backend.all_tables()))

    @property
    def skipped_records(self) -> int:
        """The number of change records that were too large for Kinesis."""
        return self._destinations.skipped

    def _scope(self) -> Scope:
        return Scope(backend.account_of(_CREDENTIAL), self.region)

    def _control(self, path: str, body: dict[str, Any]) -> dict[str, Any] | None:
        """The response to a request of `RunningSandbox`; None if there is no such request."""
        if path == CONTROL:
            return {"region": self.region, "now": self.clock.now().isoformat()}
        seconds = body.get("seconds")
        if path != f"{CONTROL}/advance" or not isinstance(seconds, int) or seconds < 0:
            return None
        objects = self.advance(timedelta(seconds=seconds))
        return {"now": self.clock.now().isoformat(), "objects": objects}

    def _make_delivery_stream(self, scope: Scope, delivery: Delivery) -> DeliveryStream:
        return DeliveryStream(
            delivery,
            s3=self.client("s3"),
            kinesis=self._client(scope, "kinesis"),
            clock=self.clock,
            scope=scope,
            metrics=FirehoseMetrics(self._metrics, scope, delivery.name),
        )

    def deny(self, operation: str, code: str, message: str) -> None:
        """Refuse an operation of a JSON service or of STS with an error, until `allow`."""
        self._denials.deny(operation, code, message)

    def allow(self) -> None:
        """Stop refusing operations."""
        self._denials.forget()

    def fail_export(self, code: str, message: str) -> None:
        """Make the next export FAILED, with a FailureCode."""
        self._exports.failing.append((code, message))

    def _forget(self) -> None:
        self._metrics.forget()
        self._denials.forget()
        self._exports.forget()
        self._firehose.forget()
        self._lambda.forget()
        self._destinations.forget()
        self._recorder.forget()


@functools.cache
def _moto() -> Any:
    """moto's application, one for each process, like its state."""
    application = DomainDispatcherApplication(create_backend_app)
    # The service of a host never changes; without the cache, moto lists its own folder for every request.
    application.get_backend_for_host = functools.cache(application.get_backend_for_host)
    return application


@functools.cache
def _session() -> boto3.session.Session:
    """The session of the process: it caches service models. Each client is given its credentials."""
    return boto3.session.Session()


class _Handler(MotoRequestHandler):  # type: ignore[misc]  # moto ships no types
    """moto's handler without logging, and with one Date header in a response: the application's, if it has one."""

    _dated = False

    def send_response(self, code: int, message: str | None = None) -> None:
        self._dated = False
        self.send_response_only(code, message)
        self.send_header("Server", self.version_string())

    def send_header(self, keyword: str, value: str) -> None:
        self._dated = self._dated or keyword.lower() == "date"
        super().send_header(keyword, value)

    def end_headers(self) -> None:
        if not self._dated:
            self.send_header("Date", self.date_time_string())
        super().end_headers()

    def log(self, type: str, message: str, *args: Any) -> None:  # noqa: ARG002  # werkzeug's signature
        _LOG.debug(message, *args)


class _Server(ThreadedWSGIServer):
    """An HTTP server in a thread. werkzeug closes every connection after its response, so none remains."""

    def __init__(self, port: int, app: Callable[..., Any]) -> None:
        with socket.create_server((_HOST, port)) as listening:  # werkzeug would end the process on a taken port
            super().__init__(_HOST, port, app, _Handler, fd=listening.fileno())
        self._thread = threading.Thread(target=self.serve_forever, args=(_POLL_S,), name="sandbox", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self.shutdown()
        self._thread.join()
        self.server_close()
