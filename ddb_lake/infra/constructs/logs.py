"""Log groups: encrypted, kept for a while, named so that the key's policy knows them."""

from __future__ import annotations

import aws_cdk as cdk
from aws_cdk import aws_kms as kms
from aws_cdk import aws_logs as logs
from constructs import Construct


def log_group(
    scope: Construct, id: str, name: str, key: kms.IKey, retention: logs.RetentionDays = logs.RetentionDays.ONE_YEAR
) -> logs.LogGroup:
    """A log group under `key`. Its name is `/<kind>/<deployment>-…`, which the key's policy asks for."""
    return logs.LogGroup(
        scope,
        id,
        log_group_name=name,
        encryption_key=key,
        retention=retention,
        removal_policy=cdk.RemovalPolicy.DESTROY,
    )
