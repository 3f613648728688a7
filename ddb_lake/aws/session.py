"""The one way to make boto3 sessions and clients: from the standard AWS variables, with an assumed role if configured.

`AWS_ENDPOINT_URL` is one of these variables, and a profile can name an endpoint. boto3 is imported when the first session is made,
because many commands of a local lake do not call AWS. Lambda handlers make clients themselves, with shorter time-outs.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from functools import lru_cache
from threading import Lock
from typing import TYPE_CHECKING, Any, Final

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


def _region_of_environment() -> str | None:
    """`AWS_REGION`, the variable of AWS's other SDKs. boto3 reads `AWS_DEFAULT_REGION` alone.

    https://docs.aws.amazon.com/sdkref/latest/guide/feature-region.html
    """
    return os.environ.get("AWS_REGION") or None


@lru_cache(maxsize=32)
def session(region: str | None = None, role_arn: str | None = None, external_id: str | None = None) -> boto3.Session:
    """A boto3 session. With `role_arn`, it has the role's credentials, which are refreshed before they expire.

    The Region is the first of `region`, `AWS_REGION`, `AWS_DEFAULT_REGION` and the profile's.
    """
    import boto3

    base = boto3.Session(region_name=region or _region_of_environment())
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
    """A client of an AWS service. One of S3 sends the expected owner of each bucket (`expect_bucket_owners`)."""
    with _MAKING:
        # a program may set the Region after a first call failed: a session without one is not used again
        made = session(region or _region_of_environment(), role_arn, external_id).client(service, config=_config())  # type: ignore[call-overload]
    if service == "s3":
        made.meta.events.register("provide-client-params.s3", _add_expected_owner)
    return made


_ENDPOINT_SETTING: Final = "endpoint_url"

_EXPECTED_OWNERS: dict[str, str] = {}
"""The account of each bucket whose owner is known. Names of buckets are unique, so it is one fact for the whole process."""


def expect_bucket_owners(owners: Mapping[str, str]) -> None:
    """From now on, requests of boto3 for these buckets fail if another account owns the bucket.

    https://docs.aws.amazon.com/AmazonS3/latest/userguide/bucket-owner-condition.html

    Args:
        owners: account ids by bucket.
    """
    _EXPECTED_OWNERS.update(owners)


def expected_owners() -> dict[str, str]:
    """The accounts that must own buckets, by bucket, for another process, which passes them to `expect_bucket_owners`."""
    return dict(_EXPECTED_OWNERS)


def expected_owner(bucket: str) -> str | None:
    """The account that must own a bucket; None if it is not known."""
    return _EXPECTED_OWNERS.get(bucket)


def _add_expected_owner(params: dict[str, Any], model: Any, **_: Any) -> None:
    """Add ExpectedBucketOwner to the parameters of any operation of S3 that has it."""
    owner = expected_owner(params.get("Bucket", ""))
    members = model.input_shape.members if model.input_shape is not None else {}
    if owner is not None and "ExpectedBucketOwner" in members:
        params.setdefault("ExpectedBucketOwner", owner)


def s3_access() -> S3Access | None:
    """The settings with which DuckDB accesses S3 as this process does; None without credentials."""
    from ddb_lake.engine.session import S3Access  # imported here: Lambda handlers use sessions and do not have DuckDB

    current = session(_region_of_environment())
    credentials = current.get_credentials()
    if credentials is None:
        return None
    frozen = credentials.get_frozen_credentials()
    return S3Access(
        region=current.region_name or "us-east-1",
        key_id=frozen.access_key or "",
        secret=frozen.secret_key or "",
        session_token=frozen.token,
        endpoint_url=s3_endpoint(),
    )


def s3_endpoint() -> str | None:
    """The endpoint of S3 that the environment or the profile names; None for that of AWS.

    botocore has no public function for the endpoint of a profile, so the endpoints of two clients are compared.
    """
    if given := os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL"):
        return given
    from botocore.config import Config
    from botocore.session import Session

    if _ENDPOINT_SETTING not in repr(Session().full_config):  # clients take time
        return None
    without = Config(ignore_configured_endpoint_urls=True)  # type: ignore[call-arg]  # the stubs of botocore lack it
    with _MAKING:
        current = session(_region_of_environment())
        configured = current.client("s3").meta.endpoint_url
        aws = current.client("s3", config=without).meta.endpoint_url
    return None if configured == aws else configured
