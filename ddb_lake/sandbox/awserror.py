"""Errors as AWS services return them over HTTP."""

from __future__ import annotations

import json
import zlib
from typing import Any, TypeAlias

Reply: TypeAlias = tuple[int, list[tuple[str, str]], bytes]
"""HTTP status, headers, body."""

_DYNAMODB_NAMESPACE = "com.amazonaws.dynamodb.v20120810#"


class AwsError(Exception):
    """An error response of an emulated service. Clients see its `code`."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code

    def reply(self) -> Reply:
        """The HTTP answer."""
        return json_reply({"__type": _DYNAMODB_NAMESPACE + self.code, "message": str(self)}, status=400)


def json_reply(body: dict[str, Any], status: int = 200) -> Reply:
    """A response of a JSON service, without members that are None, as in AWS."""
    present = {name: value for name, value in body.items() if value is not None}
    return bytes_reply(json.dumps(present).encode(), status)


def bytes_reply(data: bytes, status: int = 200) -> Reply:
    """A response with the checksum that clients of DynamoDB verify."""
    headers = [
        ("Content-Type", "application/x-amz-json-1.0"),
        ("Content-Length", str(len(data))),
        ("x-amz-crc32", str(zlib.crc32(data))),
    ]
    return status, headers, data
