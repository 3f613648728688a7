"""The one way to make boto3 sessions and clients: from the standard AWS variables, with an assumed role if configured.

`AWS_ENDPOINT_URL` is one of these variables. boto3 is imported when the first session is made, because many commands of a local
lake do not call AWS. Lambda handlers make clients themselves, with shorter time-outs.
"""

from __future__ import annotations

import os
from functools import lru_cache
from threading import Lock
from typing import TYPE_CHECKING, Any

from ddb_lake.core.operations.retry_policy import ATTEMPTS, CONNECT_TIMEOUT_S, READ_TIMEOUT_S

if TYPE_CHECKING:
    import boto3
    from botocore.config import Config

    from ddb_lake.engine.session import S3Access

_MAKING = Lock()
"""Held while a client is created: creating clients of one session is not thread-safe.

https://boto3.amazonaws.com/v1/documentation/api/latest/guide/session.html
"""


@lru_cache(maxsize=1)
def _config() -> Config:
    from botocore.config import Config

    return Config(
        retries={"mode": "adaptive", "total_max_attempts": ATTEMPTS},
        connect_timeout=CONNECT_TIMEOUT_S,
        read_timeout=READ_TIMEOUT_S,
        max_pool_connections=32,
    )


@lru_cache(maxsize=32)
def session(region: str | None = None, role_arn: str | None = None, external_id: str | None = None) -> boto3.Session:
    """A boto3 session. With `role_arn`, it has the role's credentials, which are refreshed before they expire."""
    import boto3

    base = boto3.Session(region_name=region)
    if role_arn is None:
        return base

    def assume() -> dict[str, str]:
        arguments = {"RoleArn": role_arn, "RoleSessionName": "ddb-lake"}
        if external_id:
            arguments["ExternalId"] = external_id
        credentials = base.client("sts", config=_config()).assume_role(**arguments)["Credentials"]  # type: ignore[arg-type]
        return {
            "access_key": credentials["AccessKeyId"],
            "secret_key": credentials["SecretAccessKey"],
            "token": credentials["SessionToken"],
            "expiry_time": credentials["Expiration"].isoformat(),
        }

    from botocore.credentials import RefreshableCredentials
    from botocore.session import get_session

    inner = get_session()
    inner._credentials = RefreshableCredentials.create_from_metadata(  # type: ignore[attr-defined]
        metadata=assume(), refresh_using=assume, method="sts-assume-role"
    )
    return boto3.Session(botocore_session=inner, region_name=region or base.region_name)


def client(service: str, region: str | None = None, role_arn: str | None = None, external_id: str | None = None) -> Any:
    """A client of an AWS service."""
    with _MAKING:
        return session(region, role_arn, external_id).client(service, config=_config())  # type: ignore[call-overload]


def s3_access() -> S3Access | None:
    """The settings with which DuckDB accesses S3 as this process does; None without credentials."""
    from ddb_lake.engine.session import S3Access  # imported here: Lambda handlers use sessions and do not have DuckDB

    current = session()
    credentials = current.get_credentials()
    if credentials is None:
        return None
    frozen = credentials.get_frozen_credentials()
    return S3Access(
        region=current.region_name or "us-east-1",
        key_id=frozen.access_key or "",
        secret=frozen.secret_key or "",
        session_token=frozen.token,
        endpoint_url=os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL"),
    )
