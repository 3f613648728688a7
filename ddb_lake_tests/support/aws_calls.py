"""Which calls of AWS a stretch of code makes, as the embedded emulator receives them over HTTP.

Recorded at the server and not in botocore, because DuckDB and pyarrow reach S3 on their own. A call is what IAM
would evaluate: the action, the resource, and the role whose credentials signed it.
"""

from __future__ import annotations

import io
import json
import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs, unquote

import pytest

from ddb_lake.sandbox.front import Front

ACCOUNT, REGION = "123456789012", "eu-west-1"
"""The credentials of the emulator."""

_SERVICES = {
    "DynamoDB_20120810": "dynamodb",
    "DynamoDBStreams_20120810": "dynamodb",
    "Kinesis_20131202": "kinesis",
    "Firehose_20150804": "firehose",
    "AWSGlue": "glue",
    "AmazonSQS": "sqs",
    "TrentService": "kms",
    "GraniteServiceVersion20100801": "cloudwatch",
}
_GRANTED_AS = {"sqs:DeleteMessageBatch": "sqs:DeleteMessage"}
"""Where IAM has one action for several operations."""

_CREDENTIAL = re.compile(r"Credential=([^/,\s]+)/\d{8}/([^/]+)/([^/]+)/")
_DELETED = re.compile(rb"<Key>([^<]+)</Key>")


@dataclass(frozen=True, slots=True)
class Call:
    """What IAM evaluates. `operation`: the API's name of the action, where several operations are one action.

    `by`: the ARN of the role whose credentials signed, None for the process's own. `prefix`: of `s3:ListBucket`, None
    where the request names none.
    """

    action: str
    resource: str
    by: str | None = None
    operation: str = ""
    prefix: str | None = None


@dataclass(slots=True)
class Recorder:
    """Watches the emulator. It exists as long as credentials do, because it must have seen whose they are."""

    _roles: dict[str, str] = field(default_factory=dict)
    _into: set[Call] | None = None

    @contextmanager
    def watching(self) -> Iterator[Recorder]:
        """Watch every request within the block."""
        answer: Callable[..., Iterable[bytes]] = Front.__call__

        def watched(front: Front, environ: dict[str, Any], start_response: Any) -> Any:
            statuses: list[str] = []

            def start(status: str, *rest: Any) -> Any:
                statuses.append(status)
                return start_response(status, *rest)

            request = Request.of(environ)
            body = list(answer(front, environ, start))
            if self._into is not None:
                self._into |= set(request.calls(self._roles, int(statuses[0][:3])))
            if request.operation == "AssumeRole":
                self._roles[_member(b"".join(body).decode(), "AccessKeyId")] = request.form["RoleArn"][0]
            return body

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Front, "__call__", watched)
            yield self

    @contextmanager
    def recording(self) -> Iterator[set[Call]]:
        """The calls within the block."""
        found: set[Call] = set()
        self._into = found
        try:
            yield found
        finally:
            self._into = None


@dataclass(frozen=True, slots=True)
class Request:
    """A request as it arrives."""

    method: str
    path: str
    query: dict[str, list[str]]
    headers: dict[str, str]
    body: bytes
    service: str
    operation: str
    key_id: str

    @classmethod
    def of(cls, environ: dict[str, Any]) -> Request:
        """Read a request, whose body is left to be read again."""
        body = b""
        if environ["REQUEST_METHOD"] == "POST" and "CONTENT_LENGTH" in environ:  # objects are put, and may be chunked
            body = environ["wsgi.input"].read(int(environ["CONTENT_LENGTH"] or 0))
            environ["wsgi.input"] = io.BytesIO(body)
        target, _, operation = environ.get("HTTP_X_AMZ_TARGET", "").partition(".")
        signed = _CREDENTIAL.search(environ.get("HTTP_AUTHORIZATION", ""))
        service = _SERVICES[target] if target else signed[3] if signed else "s3"
        if service == "monitoring":
            service = "cloudwatch"
        path = environ["PATH_INFO"]
        if not operation and service != "s3":
            operation = parse_qs(body.decode())["Action"][0] if b"Action=" in body else path.rpartition("/")[2]
        headers = {name: value for name, value in environ.items() if name.startswith("HTTP_")}
        query = parse_qs(environ["QUERY_STRING"], keep_blank_values=True)
        key_id = signed[1] if signed else ""
        return cls(environ["REQUEST_METHOD"], path, query, headers, body, service, operation, key_id)

    @property
    def form(self) -> dict[str, list[str]]:
        return parse_qs(self.body.decode())

    def calls(self, roles: dict[str, str], status: int) -> Iterator[Call]:
        """What IAM evaluates; of S3 also what only the response shows."""
        by = roles.get(self.key_id)
        if self.service == "s3":
            yield from self._s3(by, status)
            return
        operation = f"{self.service}:{self.operation}"
        for resource in self._resources(by.split(":")[4] if by else ACCOUNT):
            yield Call(_GRANTED_AS.get(operation, operation), resource, by, operation)

    def _resources(self, account: str) -> list[str]:
        if self.service == "cloudwatch":
            return ["*"]
        if self.service == "sts":
            return self.form.get("RoleArn", ["*"])
        if self.operation == "ListStreams":
            return ["*"]
        body = json.loads(self.body or b"{}")
        named = {"dynamodb": _dynamodb, "glue": _glue, "sqs": _sqs, "kms": _kms, "firehose": _firehose}
        return [name.replace("<account>", account) for name in named[self.service](body)]

    def _s3(self, by: str | None, status: int) -> Iterator[Call]:
        bucket, _, key = unquote(self.path).strip("/").partition("/")
        arn = f"arn:aws:s3:::{bucket}"
        if not key:
            yield from self._bucket(arn, by)
            return
        action = self._object_operation()
        granted = action if action in ("GetObject", "DeleteObject", "AbortMultipartUpload") else "PutObject"
        yield Call(f"s3:{granted}", f"{arn}/{key}", by, f"s3:{action}")
        if (
            granted == "GetObject" and status == 404
        ):  # without permission to list, S3 returns 403 for an object that does not exist
            yield Call("s3:ListBucket", arn, by, "s3:ListBucket", key)
        if granted == "PutObject" and "HTTP_IF_MATCH" in self.headers:  # a conditional write reads
            yield Call("s3:GetObject", f"{arn}/{key}", by, "s3:GetObject")

    def _object_operation(self) -> str:
        if self.method in ("GET", "HEAD"):
            return "GetObject"
        if self.method == "DELETE":
            return "AbortMultipartUpload" if "uploadId" in self.query else "DeleteObject"
        if "uploads" in self.query:
            return "CreateMultipartUpload"
        if "uploadId" in self.query:
            return "UploadPart" if self.method == "PUT" else "CompleteMultipartUpload"
        return "PutObject"

    def _bucket(self, arn: str, by: str | None) -> Iterator[Call]:
        if self.method == "POST" and "delete" in self.query:
            for key in _DELETED.findall(self.body):
                yield Call("s3:DeleteObject", f"{arn}/{key.decode()}", by, "s3:DeleteObject")
        elif self.method in ("GET", "HEAD") and set(self.query) <= _LISTING:
            yield Call("s3:ListBucket", arn, by, "s3:ListBucket", self.query.get("prefix", [None])[0])
        else:
            yield Call(f"s3:{self.method} {sorted(self.query)}", arn, by)  # no policy has that


_LISTING = {
    *("list-type", "prefix", "delimiter", "max-keys", "encoding-type"),
    *("start-after", "continuation-token", "fetch-owner"),
}


def _dynamodb(body: dict[str, Any]) -> list[str]:
    if "RequestItems" in body:
        return [_table(name) for name in body["RequestItems"]]
    if "ShardIterator" in body:
        return [str(body["ShardIterator"]).partition("|")[0]]
    if "StreamArn" in body or "ExportArn" in body:
        return [str(body.get("StreamArn") or body["ExportArn"])]
    return [_table(str(body.get("TableArn") or body["TableName"]))]


def _table(name: str) -> str:
    return name if name.startswith("arn:") else f"arn:aws:dynamodb:{REGION}:<account>:table/{name}"


def _glue(body: dict[str, Any]) -> list[str]:
    """The catalog, and the database and the table in it that a request names: IAM asks for all of them."""
    root = f"arn:aws:glue:{REGION}:<account>"
    table = body.get("Name") if "DatabaseName" in body else None
    table = body.get("TableInput", {}).get("Name") or table
    database = body.get("DatabaseName") or body.get("DatabaseInput", {}).get("Name") or body.get("Name")
    found = [f"{root}:catalog", f"{root}:database/{database}"]
    return [*found, f"{root}:table/{database}/{table}"] if table else found


def _sqs(body: dict[str, Any]) -> list[str]:
    return [f"arn:aws:sqs:{REGION}:<account>:{body['QueueUrl'].rpartition('/')[2]}"]


def _kms(body: dict[str, Any]) -> list[str]:
    return [str(body["KeyId"])]


def _firehose(body: dict[str, Any]) -> list[str]:
    return [f"arn:aws:firehose:{REGION}:<account>:deliverystream/{body['DeliveryStreamName']}"]


def _member(xml: str, name: str) -> str:
    found = re.search(f"<{name}>([^<]+)</{name}>", xml)
    assert found, xml
    return found[1]
