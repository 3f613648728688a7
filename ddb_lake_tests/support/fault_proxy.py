"""A proxy before an HTTP service that does what services and networks do on bad days. All clients meet it alike."""

from __future__ import annotations

import http.client
import re
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Literal, TypeAlias
from urllib.parse import parse_qs, urlsplit

Kind: TypeAlias = Literal["fail", "throttle", "deny", "refuse", "hang", "half", "short", "lose", "late"]
"""fail: 500. throttle: 503 SlowDown, of S3. deny: 403 AccessDenied, of S3. refuse: 400
ThrottlingException, of DynamoDB. hang: no answer for a while,
then none. half: the connection ends in the middle of the body. short: half a body that calls itself whole. lose: the
request is served, its answer lost. late: the newest objects are missing from a listing."""

Request: TypeAlias = Literal["get", "list", "put", "other"]

HANG_S = 1.2
_LAST = re.compile(rb"<Contents>(?:(?!<Contents>).)*</Contents>(?!.*<Contents>)", re.DOTALL)
_OF_THE_HOP = {"expect", "transfer-encoding", "content-length"}
_CODES = {"fail": (500, "InternalError"), "throttle": (503, "SlowDown"), "deny": (403, "AccessDenied")}


@dataclass(slots=True)
class Fault:
    """`burst` of every `period` requests of the kinds in `what` meet the fault; `below`: only objects of that prefix."""

    kind: Kind
    what: tuple[Request, ...]
    burst: int = 3
    period: int = 8
    below: str = "/"
    _seen: int = 0

    def hits(self, request: Request, path: str) -> bool:
        """Whether this request, which counts from now on, meets the fault."""
        if request not in self.what or not path.startswith(self.below):
            return False
        self._seen += 1
        return (self._seen - 1) % self.period < self.burst


@dataclass
class Way:
    """The way to a service at `target` (`http://host:port`). `injected`: faults that were met, by kind."""

    target: str
    faults: list[Fault] = field(default_factory=list)
    injected: Counter[str] = field(default_factory=Counter)
    lock: threading.Lock = field(default_factory=threading.Lock)

    @contextmanager
    def served(self) -> Iterator[str]:
        """The URL to use instead of `target`, for the length of a `with` block."""
        handler = type("Handler", (_Handler,), {"way": self})
        server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            server.server_close()
            thread.join()

    def met(self, request: Request, path: str) -> Kind | None:
        """The fault that a request meets."""
        with self.lock:
            for one in self.faults:
                if one.hits(request, path):
                    self.injected[one.kind] += 1
                    return one.kind
        return None


def request_kind(method: str, path: str) -> Request:
    """What a request to S3 asks for, by path-style addressing."""
    parts = urlsplit(path)
    query = parse_qs(parts.query, keep_blank_values=True)
    has_key = parts.path.count("/") > 1 and not parts.path.endswith("/")
    if method in ("PUT", "POST") and has_key:
        return "put"
    if method in ("GET", "HEAD") and has_key:
        return "get"
    return "list" if method == "GET" and ("list-type" in query or "prefix" in query) else "other"


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    way: Way

    def _serve(self) -> None:
        body = self._body()
        kind = self.way.met(request_kind(self.command, self.path), self.path)
        if kind in ("fail", "throttle", "deny", "refuse"):
            self._answer(*_refusal(kind))
            return
        if kind == "hang":
            time.sleep(HANG_S)
            self.close_connection = True
            return
        status, headers, data = self._relay(body)
        if kind == "lose":
            self.close_connection = True
            return
        if kind == "late":
            data = _LAST.sub(b"", data)
        if kind == "short":
            data = data[: len(data) // 2]
        self._answer(status, headers, data, half=kind == "half")

    do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = _serve

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding", "").lower() != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        parts = []
        while size := int(self.rfile.readline().split(b";")[0], 16):
            parts.append(self.rfile.read(size))
            self.rfile.readline()
        while self.rfile.readline().strip():
            pass
        return b"".join(parts)

    def _relay(self, body: bytes) -> tuple[int, list[tuple[str, str]], bytes]:
        host = urlsplit(self.way.target).netloc
        connection = http.client.HTTPConnection(host, timeout=60)
        headers = {name: value for name, value in self.headers.items() if name.lower() not in _OF_THE_HOP}
        try:
            connection.request(self.command, self.path, body, headers)
            answer = connection.getresponse()
            return answer.status, answer.getheaders(), answer.read()
        finally:
            connection.close()

    def _answer(self, status: int, headers: list[tuple[str, str]], data: bytes, half: bool = False) -> None:
        self.send_response_only(status)
        asked = self.command == "HEAD"
        for name, value in headers:
            kept = name.lower() not in ("content-length", "connection", "transfer-encoding")
            if kept or (asked and name.lower() == "content-length"):
                self.send_header(name, value)
        if not asked:
            self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if not asked:
            self.wfile.write(data[: len(data) // 2] if half else data)
        if half:
            self.close_connection = True

    def log_message(self, format: str, *arguments: Any) -> None:
        """Requests are not logged."""


def _refusal(kind: str) -> tuple[int, list[tuple[str, str]], bytes]:
    if kind == "refuse":
        said = b'{"__type":"com.amazonaws.dynamodb.v20120810#ThrottlingException","message":"on request"}'
        return 400, [("Content-Type", "application/x-amz-json-1.0")], said
    status, code = _CODES[kind]
    text = f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>on request</Message></Error>"
    return status, [("Content-Type", "application/xml")], text.encode()
