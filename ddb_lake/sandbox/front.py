"""The WSGI application in front of moto: responds to requests that moto lacks, and captures the changes of the others.

Requests are processed one at a time, except those that may wait: moto is not thread-safe, a transaction must be atomic, and
every change must be captured.
"""

from __future__ import annotations

import io
import json
import re
from collections.abc import Callable, Iterable
from contextlib import nullcontext
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

from werkzeug.http import http_date
from werkzeug.test import run_wsgi_app

from ddb_lake.sandbox import backend, destinations, exports, s3_refusals
from ddb_lake.sandbox.awserror import AwsError, Reply, bytes_reply, json_reply
from ddb_lake.sandbox.backend import Scope
from ddb_lake.sandbox.capture import Recorder
from ddb_lake.sandbox.clock import Clock, from_micros
from ddb_lake.sandbox.denials import Denials
from ddb_lake.sandbox.destinations import Destinations
from ddb_lake.sandbox.exports import Exports
from ddb_lake.sandbox.firehose_api import FirehoseApi
from ddb_lake.sandbox.lambda_api import LambdaApi
from ddb_lake.sandbox.refusals import refusal, refuse_attributes
from ddb_lake.sandbox.running import CONTROL

_CREDENTIAL = re.compile(r"Credential=([^/,\s]+)/\d{8}/([^/]+)/([^/]+)/")
_DEFAULT_REGION = "us-east-1"
_WAITING = ("sqs",)
"""Services whose requests may wait: ReceiveMessage of SQS waits up to 20 seconds."""
_READING = ("GetRecords", "SubscribeToShard")
_DESCRIBING = ("CreateTable", "DescribeTable", "UpdateTable")


@dataclass(frozen=True, slots=True)
class Front:
    """The application. `moto`: moto's application. `forget`: called when a client resets moto. `control`: responds
    to the sandbox's own requests."""

    moto: Callable[..., Iterable[bytes]]
    clock: Clock
    recorder: Recorder
    destinations: Destinations
    exports: Exports
    firehose: FirehoseApi
    lambdas: LambdaApi
    forget: Callable[[], None]
    denials: Denials
    control: Callable[[str, dict[str, Any]], dict[str, Any] | None]

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        """Respond to one request."""
        if environ["PATH_INFO"].startswith(CONTROL):
            answer = self.control(environ["PATH_INFO"], _json_body(environ))
            return _send(json_reply(answer or {}, 200 if answer else 400), start_response)
        denied = self.denials.answer(environ)
        if denied is not None:
            return _send(denied, start_response)
        if s3_refusals.has_another_owner(environ):
            return _send(s3_refusals.access_denied(environ), start_response)
        service, _, operation = environ.get("HTTP_X_AMZ_TARGET", "").partition(".")
        if service == "Firehose_20150804":
            return _send(self._firehose(operation, environ), start_response)
        if service == "DynamoDB_20120810" and operation in exports.OPERATIONS:
            return _send(self._export(operation, environ), start_response)
        if environ["PATH_INFO"] == "/moto-api/reset":
            self.forget()
        signed_for = _signed_for(environ)
        if signed_for == "s3" and s3_refusals.has_digests(environ) and s3_refusals.is_damaged(environ, _body(environ)):
            return _send(s3_refusals.bad_digest(environ), start_response)
        if signed_for == "lambda":
            return _send(self._lambda(environ), start_response)
        with nullcontext() if signed_for in _WAITING else self.recorder.lock:
            refused = refusal(_scope(environ), f"{service}.{operation}", _json_body(environ)) if service else None
            if refused is not None:
                return _send(refused.reply(), start_response)
            if service == "DynamoDB_20120810":
                return _send(self._dated(self._dynamodb(operation, environ)), start_response)
            if service == "Kinesis_20131202" and operation in _READING:
                self.destinations.release()
            return self.moto(environ, start_response)

    def _dynamodb(self, operation: str, environ: dict[str, Any]) -> Reply:
        scope, body = _scope(environ), _json_body(environ)
        try:
            if operation in destinations.OPERATIONS:
                return json_reply(self._destination(operation, scope, body))
            refuse_attributes(body)
        except AwsError as error:
            return error.reply()
        with self.recorder.observed(scope, operation, body):
            if operation == "DescribeContinuousBackups":
                self._show_restorable(scope, body)
            reply = self._pass(environ)
            return self._completed(scope, operation, body, reply) if reply[0] == 200 else reply

    def _dated(self, reply: Reply) -> Reply:
        """Add the Date header with the sandbox's time, as in every response of AWS."""
        status, headers, body = reply
        kept = [(name, value) for name, value in headers if name.lower() != "date"]
        return status, [*kept, ("Date", http_date(self.clock.now()))], body

    def _export(self, operation: str, environ: dict[str, Any]) -> Reply:
        """Respond without the lock: exports acquire it themselves and write to S3 through this application."""
        try:
            return json_reply(exports.OPERATIONS[operation](self.exports, _scope(environ), _json_body(environ)))
        except AwsError as error:
            return error.reply()

    def _firehose(self, operation: str, environ: dict[str, Any]) -> Reply:
        scope, body = _scope(environ), _json_body(environ)
        try:
            answer = self.firehose.answer(scope, operation, body)
        except AwsError as error:
            return error.reply()
        if answer is not None:
            return json_reply(answer)
        reply = self._pass(environ)
        if reply[0] == 200:
            self.firehose.completed(scope, operation, body)
        return reply

    def _lambda(self, environ: dict[str, Any]) -> Reply:
        """Respond without the lock: a function calls this application."""
        scope, data = _scope(environ), _body(environ)
        reply = self.lambdas.answer(scope, environ, data)
        if reply is not None:
            return reply
        with self.recorder.lock:
            reply = self._pass(environ)
        if reply[0] < 300:
            self.lambdas.completed(scope, environ)
        return reply

    def _destination(self, operation: str, scope: Scope, body: dict[str, Any]) -> dict[str, Any]:
        name = str(body.get("TableName"))
        table = backend.find_table(scope, name)
        if table is None:
            raise AwsError("ResourceNotFoundException", f"Requested resource not found: Table: {name} not found")
        history = self.recorder.history(scope, table)
        return destinations.OPERATIONS[operation](self.destinations, scope, table, history, body)

    def _pass(self, environ: dict[str, Any]) -> Reply:
        """moto's complete response."""
        chunks, status, headers = run_wsgi_app(self.moto, environ, buffered=True)
        return int(status.split()[0]), list(headers.items()), b"".join(chunks)

    def _completed(self, scope: Scope, operation: str, body: dict[str, Any], reply: Reply) -> Reply:
        """After moto's response: update the sandbox's state, and add the members that moto leaves out."""
        name = str(body.get("TableName")).rpartition(":table/")[2]
        table = backend.find_table(scope, name)
        table_id = None if table is None else self.recorder.history(scope, table).table_id
        if operation == "DeleteTable":
            self.recorder.drop(scope, name)
            self.destinations.drop(scope, name)
        elif operation == "UpdateTable" and body.get("StreamSpecification", {}).get("StreamEnabled") is False:
            backend.close_stream(table)
        elif operation == "UpdateContinuousBackups":
            self._note_recovery(scope, table)
        if operation in _DESCRIBING and table_id is not None:
            described = json.loads(reply[2])
            shown = described.get("Table", described.get("TableDescription", {}))
            shown["TableId"] = table_id
            for name in ("GlobalSecondaryIndexes", "LocalSecondaryIndexes"):
                if not shown.get(name):
                    shown.pop(name, None)  # a table without indexes has no such member in AWS's response
            return bytes_reply(json.dumps(described).encode())
        return reply

    def _note_recovery(self, scope: Scope, table: Any) -> None:
        history = self.recorder.history(scope, table)
        if not backend.recovery_enabled(table):
            history.recoverable_from_us = None
        elif history.recoverable_from_us is None:
            history.recoverable_from_us = self.clock.now_us()

    def _show_restorable(self, scope: Scope, body: dict[str, Any]) -> None:
        table = backend.find_table(scope, str(body.get("TableName")))
        earliest_us = None if table is None else self.recorder.history(scope, table).recoverable_from_us
        if earliest_us is not None:
            backend.set_restorable(table, from_micros(earliest_us), self.clock.now())


def _signed_for(environ: dict[str, Any]) -> str:
    """The service that a request is signed for; S3 if it is not signed."""
    match = _CREDENTIAL.search(environ.get("HTTP_AUTHORIZATION", ""))
    return "s3" if match is None else match[3]


def _scope(environ: dict[str, Any]) -> Scope:
    match = _CREDENTIAL.search(environ.get("HTTP_AUTHORIZATION", ""))
    if match is None:
        return Scope(backend.account_of(""), _DEFAULT_REGION)
    return Scope(backend.account_of(match[1]), match[2])


def _body(environ: dict[str, Any]) -> bytes:
    """The request's body; left in `environ` to be read again."""
    length = environ.get("CONTENT_LENGTH")
    data: bytes = environ["wsgi.input"].read(int(length)) if length else b""
    environ["wsgi.input"] = io.BytesIO(data)
    return data


def _json_body(environ: dict[str, Any]) -> dict[str, Any]:
    """The members of the request's JSON document; none if it is no JSON object."""
    try:
        body = json.loads(_body(environ) or b"{}")
    except ValueError:
        return {}  # moto answers for a body that is no JSON
    return body if isinstance(body, dict) else {}


def _send(reply: Reply, start_response: Callable[..., Any]) -> Iterable[bytes]:
    status, headers, body = reply
    start_response(f"{status} {HTTPStatus(status).phrase}", headers)
    return [body]
