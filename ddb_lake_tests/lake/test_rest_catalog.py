"""Requests to REST catalogs of AWS: the configurations of the guide, sent to a server that records their signatures."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
import yaml

from ddb_lake.aws.session import session
from ddb_lake.config import parse_settings
from ddb_lake.errors import ConfigError
from ddb_lake.lake.catalog import LakeCatalog
from ddb_lake_tests.support.docs_blocks import blocks, pages

PAGE = "guides/catalogs.md"
SCOPE = re.compile(
    r"AWS4-HMAC-SHA256 Credential=(?P<key>[^/]+)/(?P<day>\d{8})/(?P<region>[^/]+)/(?P<service>[^/]+)/aws4_request,"
)


def configuration(heading: str) -> dict[str, Any]:
    """The attributes of the guide's only configuration below a heading."""
    (found,) = (block for block in blocks(pages()[PAGE], PAGE) if block.heading == heading and block.language == "yaml")
    attributes: dict[str, Any] = yaml.safe_load(found.text)["attributes"]
    return attributes


class Recorder:
    """An Iceberg REST catalog without tables. `requests`: path and Authorization of each request."""

    def __init__(self) -> None:
        self.requests: list[tuple[str, str]] = []
        recorder = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                recorder.requests.append((self.path, self.headers.get("Authorization", "")))
                content = b'{"identifiers": []}' if "/tables" in self.path else b'{"defaults": {}, "overrides": {}}'
                self.send_response(200)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *arguments: Any) -> None:
                """Print nothing."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.uri = f"http://127.0.0.1:{self.server.server_port}/iceberg"


@pytest.fixture
def recorder(monkeypatch: pytest.MonkeyPatch, no_aws: None) -> Iterator[Recorder]:
    for name, value in {
        "AWS_ACCESS_KEY_ID": "AKIDEXAMPLE",
        "AWS_SECRET_ACCESS_KEY": "s",
        "AWS_REGION": "ap-south-1",
    }.items():
        monkeypatch.setenv(name, value)
    session.cache_clear()
    recorder = Recorder()
    thread = threading.Thread(target=recorder.server.serve_forever)
    thread.start()
    yield recorder
    recorder.server.shutdown()
    recorder.server.server_close()
    thread.join()


@pytest.mark.parametrize(
    ("heading", "service", "warehouse"),
    [
        ("S3 Tables", "s3tables", "arn%3Aaws%3As3tables%3Aeu-west-1%3A111122223333%3Abucket%2Fmy-tables"),
        ("Glue's REST endpoint", "glue", "111122223333"),
    ],
)
def test_requests_to_aws_are_signed_for_the_region_and_service_of_the_guide(
    recorder: Recorder, heading: str, service: str, warehouse: str
) -> None:
    attributes = configuration(heading)
    assert attributes["catalog"]["uri"] == f"https://{service}.eu-west-1.amazonaws.com/iceberg"
    attributes["catalog"]["uri"] = recorder.uri
    with LakeCatalog(parse_settings(attributes, "test")) as catalog:
        assert catalog.names() == set()
        assert catalog.identifier("Orders-v2") == ("ddb_lake", "orders_v2")
    assert recorder.requests[0][0] == f"/iceberg/v1/config?warehouse={warehouse}"
    assert len(recorder.requests) >= 2
    for path, authorization in recorder.requests:
        scope = SCOPE.match(authorization)
        assert scope, f"{path}: {authorization!r}"
        assert (scope["key"], scope["region"], scope["service"]) == ("AKIDEXAMPLE", "eu-west-1", service)


def test_requests_to_other_catalogs_are_not_signed_by_aws(recorder: Recorder) -> None:
    attributes = configuration("REST")
    attributes["catalog"] |= {"uri": recorder.uri, "properties": {"token": "abc"}}
    with LakeCatalog(parse_settings(attributes, "test")) as catalog:
        assert catalog.names() == set()
        assert catalog.identifier("Orders-v2") == ("ddb_lake", "Orders-v2")
    assert {authorization for _, authorization in recorder.requests} == {"Bearer abc"}


BUCKET = "arn:aws:s3tables:eu-west-1:111122223333:bucket/my-tables"
URI = "https://s3tables.eu-west-1.amazonaws.com/iceberg"
AWS = {"type": "rest", "uri": URI, "warehouse": BUCKET, "signing_name": "s3tables"}


@pytest.mark.parametrize(
    ("catalog", "tables", "message"),
    [
        ({**AWS, "signing_name": None}, ["orders"], "set `signing_name: s3tables`"),
        ({**AWS, "signing_name": "glue"}, ["orders"], "set `signing_name: s3tables`"),
        ({**AWS, "location": "s3://bucket/tables"}, ["orders"], "remove `location`"),
        ({**AWS, "namespace": "My_Lake"}, ["orders"], "S3 Tables needs a `catalog.namespace`"),
        ({**AWS, "namespace": "my-lake"}, ["orders"], "S3 Tables needs a `catalog.namespace`"),
        ({**AWS, "namespace": "aws_lake"}, ["orders"], "does not begin with 'aws'"),
        ({**AWS, "namespace": "lake_"}, ["orders"], "S3 Tables needs a `catalog.namespace`"),
        (AWS, ["_orders"], "table '_orders': S3 Tables takes names of"),
        ({"type": "rest"}, ["orders"], "a REST catalog needs `uri`"),
        ({"type": "rest", "uri": "http://c", "signing_region": "eu-west-1"}, ["orders"], "signing_region needs"),
        ({"type": "sql", "signing_name": "glue"}, ["orders"], "signing_name is a setting of REST catalogs"),
        ({"warehouse": "analytics"}, ["orders"], "warehouse is a setting of REST catalogs"),
        ({"type": "glue", "namespace": "Lake"}, ["orders"], "in lower case without dots; 'Lake' could be 'lake'"),
        ({"type": "glue", "namespace": "a.b"}, ["orders"], "'a.b' could be 'a_b'"),
        ({"type": "sql", "namespace": "n" * 256}, ["orders"], "at most 255"),
    ],
)
def test_settings_and_names_that_a_catalog_does_not_accept_are_errors(
    catalog: dict[str, Any], tables: list[str], message: str
) -> None:
    attributes = {"warehouse": "lake", "catalog": catalog, "tables": [{"name": name, "key": ["id"]} for name in tables]}
    with pytest.raises(ConfigError, match=re.escape(message)):
        parse_settings(attributes, "test")
