"""A sandbox that runs in another process, as its clients see it."""

from __future__ import annotations

import json
import os
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import boto3

from ddb_lake.errors import UsageError

DEFAULT_URL: Final = "http://127.0.0.1:4566"
CONTROL: Final = "/_sandbox"
"""The path of the sandbox's own requests. A bucket cannot have this name."""

_DIRECT: Final = urllib.request.build_opener(urllib.request.ProxyHandler({}))


@dataclass(slots=True)
class RunningSandbox:
    """The sandbox at a URL. Its clients have the credentials of the environment, else those of the default account."""

    url: str
    environment: Mapping[str, str] = field(default_factory=lambda: os.environ)
    _clients: dict[str, Any] = field(default_factory=dict)

    def describe(self) -> dict[str, Any]:
        """The sandbox's `region` and `now` (ISO 8601, UTC).

        Raises:
            UsageError: nothing answers at the URL, or what answers is no sandbox.
        """
        return self._request(CONTROL, None)

    def advance(self, seconds: int) -> dict[str, Any]:
        """Move the sandbox's clock, and wait until it has delivered what is due. Returns `now` and the `objects` written.

        Raises: as `describe`.
        """
        return self._request(f"{CONTROL}/advance", {"seconds": seconds})

    def client(self, service: str) -> Any:
        """A boto3 client of the sandbox."""
        if service not in self._clients:
            variables = self.environment
            self._clients[service] = boto3.session.Session().client(
                service,  # type: ignore[call-overload]  # boto3-stubs lists the services it has stubs for
                endpoint_url=self.url,
                region_name=variables.get("AWS_REGION")
                or variables.get("AWS_DEFAULT_REGION")
                or self.describe()["region"],
                aws_access_key_id=variables.get("AWS_ACCESS_KEY_ID", "testing"),
                aws_secret_access_key=variables.get("AWS_SECRET_ACCESS_KEY", "testing"),
                aws_session_token=variables.get("AWS_SESSION_TOKEN"),
            )
        return self._clients[service]

    def _request(self, path: str, body: Mapping[str, Any] | None) -> dict[str, Any]:
        data = None if body is None else json.dumps(body).encode()
        start = "start it with `ddb-lake sandbox`, and give its address with --endpoint-url or AWS_ENDPOINT_URL"
        try:
            with _DIRECT.open(urllib.request.Request(self.url.rstrip("/") + path, data=data)) as answer:
                document = json.load(answer)
        except urllib.error.HTTPError as error:
            error.close()
            raise UsageError(
                "what answers there is no sandbox", uri=self.url, found=f"HTTP {error.code}", hint=start
            ) from None
        except ValueError:
            raise UsageError("what answers there is no sandbox", uri=self.url, hint=start) from None
        except OSError as error:
            raise UsageError("no sandbox answers", uri=self.url, found=str(error), hint=start) from None
        if not isinstance(document, dict) or "now" not in document:
            raise UsageError("what answers there is no sandbox", uri=self.url, hint=start)
        return document
