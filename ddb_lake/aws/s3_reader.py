"""Objects fetched from S3 by obstore, which takes a tenth of the processor time that botocore takes for a request.

It sends one request. If the response is not the object (S3 fails or throttles, the connection breaks off, the object is
missing, rewritten or forbidden, the key is not supported), botocore requests the object: retries, errors and
advice are botocore's, and the same for every object. Code that lists or writes objects does not belong here.
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
"""After so many requests in a row that gave no object, a bucket is left to botocore: it waits where S3 throttles."""

_CREDENTIALS_LAST = timedelta(minutes=10)
"""As long as those that renew themselves are good for, at least, when botocore gives them. obstore asks every 5 minutes."""

_WHOLE_REQUEST = timedelta(hours=1)
"""obstore's own limit is 30 seconds, however much comes; what counts is how long nothing does."""

_log = logging.getLogger(__name__)


class Fetcher:
    """Fetches objects, one store a bucket. Threads may share it."""

    def __init__(self) -> None:
        self._stores: dict[str, S3Store] = {}
        self._misses: Counter[str] = Counter()
        self._making = Lock()

    def get(self, bucket: str, key: str, etag: str) -> bytes | None:
        """Return the bytes of the object, as stored, if its ETag is still this one; None if botocore must request it."""
        if not _can_be_said(key) or self._misses[bucket] >= MISSES or _process() != os.getpid():
            return None
        from obstore.exceptions import BaseError

        try:
            data = self._store(bucket).get(key, options={"if_match": f'"{etag}"'}).bytes().to_bytes()
        except (BaseError, OSError, ValueError) as error:
            self._misses[bucket] += 1
            _log.debug("s3://%s: botocore requests an object (%s)", bucket, type(error).__name__)
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
        aws_endpoint_url_s3=url,  # for the variable of this name goes before `endpoint`
        virtual_hosted_style_request=True,  # whichever style it is, the bucket is in the URL
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
    """Where this client, which is of no use afterwards, would send requests for a bucket's objects; it sends nothing."""
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
    """Return the session's credentials; the session renews them when they are read."""
    found = session().get_credentials()
    if found is None:
        raise LookupError("no credentials")  # botocore's error states the next step
    frozen = found.get_frozen_credentials()
    return {
        "access_key_id": frozen.access_key or "",
        "secret_access_key": frozen.secret_key or "",
        "token": frozen.token,
        "expires_at": datetime.now(UTC) + _CREDENTIALS_LAST,
    }


def _can_be_said(key: str) -> bool:
    """Whether obstore asks for exactly this key: it normalizes paths, and refuses control characters."""
    return key.isprintable() and not {"", ".", ".."} & set(key.split("/"))


@lru_cache(maxsize=1)
def _process() -> int:
    """The process that obstore runs in. A fork of it has none of its threads and would wait for them permanently."""
    return os.getpid()
