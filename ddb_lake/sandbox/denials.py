"""Errors on request: the responses of AWS to denied or failing operations.

https://docs.aws.amazon.com/amazondynamodb/latest/APIReference/CommonErrors.html

moto does not enforce policies. So a test names the refused operation, the error's code and message.
"""

from __future__ import annotations

import io
import re
from dataclasses import dataclass, field
from typing import Any
from xml.sax.saxutils import escape

from ddb_lake.sandbox.awserror import AwsError, Reply

_ACTION = re.compile(rb"(?:^|&)Action=(\w+)")


@dataclass(slots=True)
class Denials:
    """The refused operations of JSON services and of STS, by name."""

    _refused: dict[str, AwsError] = field(default_factory=dict)

    def deny(self, operation: str, code: str, message: str) -> None:
        """Refuse an operation (`DescribeTable`, `AssumeRole`) from now on."""
        self._refused[operation] = AwsError(code, message)

    def forget(self) -> None:
        """Stop refusing operations."""
        self._refused.clear()

    def answer(self, environ: dict[str, Any]) -> Reply | None:
        """The error response to a request; None if it is not refused."""
        if not self._refused:
            return None
        operation = environ.get("HTTP_X_AMZ_TARGET", "").partition(".")[2]
        if operation:
            error = self._refused.get(operation)
            return None if error is None else error.reply()
        if "x-www-form-urlencoded" not in environ.get("CONTENT_TYPE", ""):
            return None
        action = _ACTION.search(_body(environ))
        error = self._refused.get(action[1].decode()) if action else None
        return None if error is None else _xml_reply(error)


def _body(environ: dict[str, Any]) -> bytes:
    """The request's body; left in `environ` to be read again."""
    length = environ.get("CONTENT_LENGTH")
    data: bytes = environ["wsgi.input"].read(int(length)) if length else b""
    environ["wsgi.input"] = io.BytesIO(data)
    return data


def _xml_reply(error: AwsError) -> Reply:
    body = (
        '<ErrorResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><Error><Type>Sender</Type>'
        f"<Code>{escape(error.code)}</Code><Message>{escape(str(error))}</Message></Error>"
        "<RequestId>00000000-0000-4000-8000-000000000000</RequestId></ErrorResponse>"
    ).encode()
    return 403, [("Content-Type", "text/xml"), ("Content-Length", str(len(body)))], body
