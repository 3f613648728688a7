"""Fetch objects from S3 with obstore, which takes a tenth of botocore's processor time for a request.

obstore sends one request. If it does not return the object (a fault, throttling, a broken connection, a missing, rewritten or
denied object, a key that it cannot express), the caller reads the object with botocore. So there is one policy of retries
and one set of errors. Decision 0038 has the measurements.
"""

from __future__ import annotations

import logging
import os
from collections import Counter
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from io import BytesIO
from threading import Lock
from typing import TYPE_CHECKING, Any

from ddb_lake.aws.session import client, session

if TYPE_CHECKING:
    from obstore.store import S3Credential, S3Store

MISSES = 16
"""After this many failed requests in succession, only botocore reads from the bucket: it waits if S3 throttles."""

_CREDENTIALS_LAST = timedelta(minutes=10)
"""The lifetime that is reported to obstore: botocore refreshes credentials at least 10 minutes before they expire."""

_WHOLE_REQUEST = timedelta(hours=1)
"""The limit of a complete request, in place of obstore's 30 seconds: the read timeout bounds the time without data."""

_log = logging.getLogger(__name__)


class Fetcher:
    """Fetches objects, with one store for each bucket. Thread-safe."""

    def __init__(self) -> None:
        self._stores: dict[str, S3Store] = {}
        self._misses: Counter[str] = Counter()
        self._making = Lock()

    def get(self, bucket: str, key: str, etag: str) -> bytes | None:
        """The stored bytes of the object if it has this ETag; None if the caller has to read it with botocore."""
        if not _is_expressible(key) or self._misses[bucket] >= MISSES or _obstore_process() != os.getpid():
            return None
        from obstore.exceptions import BaseError

        try:
            data = self._store(bucket).get(key, options={"if_match": f'"{etag}"'}).bytes().to_bytes()
        except (BaseError, OSError, ValueError) as error:
            self._misses[bucket] += 1
            _log.debug("s3://%s: botocore reads an object (%s)", bucket, type(error).__name__)
            return None
        self._misses[bucket] = 0
        return data

    def _store(self, bucket: str) -> S3Store:
        with self._making:
            if bucket not in self._stores:
                self._stores[bucket] = _open(bucket)
            return self._stores[bucket]


def _open(bucket: str) -> S3Store:
    from obstore.store import S3Store

    s3 = client("s3")
    url, settings = bucket_url(s3, bucket), s3.meta.config
    return S3Store(
        bucket,
        aws_endpoint_url_s3=url,  # the environment variable of this name would override `endpoint`
        virtual_hosted_style_request=True,  # the URL contains the bucket in either style
        region=s3.meta.region_name.replace("aws-global", "us-east-1"),
        credential_provider=_credentials,
        skip_signature=False,
        request_payer=False,
        s3_express=False,
        retry_config={"max_retries": 0},
        client_options={
            "allow_http": url.startswith("http://"),
            "connect_timeout": timedelta(seconds=settings.connect_timeout),
            "read_timeout": timedelta(seconds=settings.read_timeout),
            "timeout": _WHOLE_REQUEST,
        },
    )


def bucket_url(s3: Any, bucket: str) -> str:
    """The URL to which a client sends requests for a bucket's objects. Sends nothing; the client is unusable afterwards."""
    from botocore.awsrequest import AWSResponse
    from urllib3 import HTTPResponse

    urls: list[str] = []

    def answer(request: Any, **_: Any) -> AWSResponse:
        urls.append(request.url)
        return AWSResponse(request.url, 200, {}, HTTPResponse(BytesIO()))  # type: ignore[arg-type]  # no headers

    s3.meta.events.register_first("before-send.s3.HeadObject", answer)
    s3.head_object(Bucket=bucket, Key="k")
    return urls[0].removesuffix("/k")


def _credentials() -> S3Credential:
    """The session's credentials, which botocore refreshes when they are read."""
    credentials = session().get_credentials()
    if credentials is None:
        raise LookupError("no credentials")  # botocore then raises the error with the next step
    frozen = credentials.get_frozen_credentials()
    return {
        "access_key_id": frozen.access_key or "",
        "secret_access_key": frozen.secret_key or "",
        "token": frozen.token,
        "expires_at": datetime.now(UTC) + _CREDENTIALS_LAST,
    }


def _is_expressible(key: str) -> bool:
    """Whether obstore requests exactly this key: it normalizes paths and rejects control characters."""
    return key.isprintable() and not {"", ".", ".."} & set(key.split("/"))


@lru_cache(maxsize=1)
def _obstore_process() -> int:
    """The process that uses obstore. A fork has none of its threads and would wait for them forever."""
    return os.getpid()
