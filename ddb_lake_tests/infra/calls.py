"""Which AWS actions a stretch of code asks for, as the embedded stand-in sees them arrive over HTTP.

Recorded at the server and not in botocore, because DuckDB and pyarrow reach S3 on their own.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import parse_qs

import pytest

from ddb_lake.sandbox.front import Front

_SERVICES = {
    "DynamoDB_20120810": "dynamodb",
    "DynamoDBStreams_20120810": "dynamodb",
    "Kinesis_20131202": "kinesis",
    "Firehose_20150804": "firehose",
    "AWSGlue": "glue",
    "AmazonSQS": "sqs",
}


@contextmanager
def recorded_calls(monkeypatch: pytest.MonkeyPatch) -> Iterator[set[str]]:
    """The IAM actions of every request that the sandbox gets within the block."""
    found: set[str] = set()
    answer: Callable[..., Any] = Front.__call__

    def recording(front: Front, environ: dict[str, Any], start_response: Any) -> Any:
        found.add(_action(environ))
        return answer(front, environ, start_response)

    with monkeypatch.context() as patch:
        patch.setattr(Front, "__call__", recording)
        yield found


def _action(environ: dict[str, Any]) -> str:
    service, _, operation = environ.get("HTTP_X_AMZ_TARGET", "").partition(".")
    if service:
        return f"{_SERVICES[service]}:{operation}"
    if "/sts/" in environ.get("HTTP_AUTHORIZATION", ""):
        length = int(environ.get("CONTENT_LENGTH") or 0)
        body = environ["wsgi.input"].read(length)
        environ["wsgi.input"] = io.BytesIO(body)
        return f"sts:{parse_qs(body.decode())['Action'][0]}"
    return f"s3:{_s3(environ['REQUEST_METHOD'], environ['PATH_INFO'], parse_qs(environ['QUERY_STRING'], True))}"


def _s3(method: str, path: str, query: dict[str, list[str]]) -> str:
    is_object = path.strip("/").count("/") > 0
    if method in ("GET", "HEAD"):
        return "GetObject" if is_object else "ListBucket"
    if method == "DELETE":
        return "AbortMultipartUpload" if "uploadId" in query else "DeleteObject"
    return "DeleteObject" if "delete" in query else "PutObject" if is_object else "CreateBucket"
