"""An Iceberg REST catalog for DuckDB's extension, over pyiceberg's SQLite catalog: only the calls that it makes.

It serves one machine's files to one client, without authentication. A commit is checked and applied by pyiceberg, so its
time is part of what is measured, as with any catalog; it took a few hundredths of a second.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from pyiceberg.catalog import load_catalog
from pyiceberg.catalog.rest import TableResponse
from pyiceberg.exceptions import CommitFailedException, NoSuchNamespaceError, NoSuchTableError
from pyiceberg.table import CommitTableRequest, Table

NAMESPACE = "lake"
_ENDPOINTS = (
    "GET /v1/{prefix}/namespaces", "GET /v1/{prefix}/namespaces/{namespace}",
    "GET /v1/{prefix}/namespaces/{namespace}/tables", "GET /v1/{prefix}/namespaces/{namespace}/tables/{table}",
    "HEAD /v1/{prefix}/namespaces/{namespace}/tables/{table}",
    "POST /v1/{prefix}/namespaces/{namespace}/tables/{table}",
)  # fmt: skip
"""No `transactions/commit`: the extension commits table by table then."""


def sqlite_catalog(folder: str) -> Any:
    """The pyiceberg catalog of a folder, made with its namespace if there is none."""
    Path(folder).mkdir(parents=True, exist_ok=True)
    catalog = load_catalog("bench", type="sql", uri=f"sqlite:///{folder}/catalog.db", warehouse=folder)
    catalog.create_namespace_if_not_exists(NAMESPACE)
    return catalog


@contextmanager
def rest_catalog(folder: str) -> Iterator[str]:
    """Serve the catalog of a folder for the length of a block; gives its address."""
    catalog = sqlite_catalog(folder)

    class Handler(_Handler):
        def answer(self) -> tuple[int, str]:
            return _answer(catalog, self.command, urlsplit(self.path).path.strip("/").split("/"), self.body())

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join()
            catalog.engine.dispose()


def _answer(catalog: Any, method: str, path: list[str], body: bytes) -> tuple[int, str]:
    """Status and JSON of one call."""
    match (method, path):
        case "GET", ["v1", "config"]:
            return 200, json.dumps({"defaults": {}, "overrides": {}, "endpoints": _ENDPOINTS})
        case "GET", ["v1", "namespaces"]:
            return 200, json.dumps({"namespaces": [[NAMESPACE]]})
        case "GET" | "HEAD", ["v1", "namespaces", name]:
            return 200, json.dumps({"namespace": [name], "properties": {}})
        case "GET", ["v1", "namespaces", name, "tables"]:
            found = [{"namespace": [name], "name": table} for _, table in catalog.list_tables(name)]
            return 200, json.dumps({"identifiers": found})
        case "GET" | "HEAD", ["v1", "namespaces", name, "tables", table]:
            return 200, _told(catalog.load_table((name, table)))
        case "POST", ["v1", "namespaces", name, "tables", table]:
            asked = json.loads(body) | {"identifier": {"namespace": [name], "name": table}}
            request = CommitTableRequest.model_validate(asked)
            done = catalog.commit_table(catalog.load_table((name, table)), request.requirements, request.updates)
            return 200, TableResponse(
                metadata=done.metadata, metadata_location=done.metadata_location
            ).model_dump_json()
    return 404, _error(404, f"{method} {'/'.join(path)} is not served", "NotFoundException")


def _told(table: Table) -> str:
    return TableResponse(metadata=table.metadata, metadata_location=table.metadata_location).model_dump_json()


def _error(code: int, message: str, kind: str) -> str:
    return json.dumps({"error": {"message": message, "type": kind, "code": code}})


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def answer(self) -> tuple[int, str]:
        raise NotImplementedError

    def body(self) -> bytes:
        return self.rfile.read(int(self.headers.get("Content-Length") or 0))

    def _serve(self) -> None:
        try:
            status, text = self.answer()
        except (NoSuchTableError, NoSuchNamespaceError) as error:
            status, text = 404, _error(404, str(error), type(error).__name__)
        except CommitFailedException as error:
            status, text = 409, _error(409, str(error), "CommitFailedException")
        content = text.encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    do_GET = do_HEAD = do_POST = _serve  # the names that http.server calls

    def log_message(self, *_: Any) -> None:
        """Say nothing."""
