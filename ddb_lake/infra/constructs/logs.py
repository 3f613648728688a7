"""Log groups: encrypted, with a retention, named as the key's policy requires."""

from __future__ import annotations

import aws_cdk as cdk
from aws_cdk import aws_kms as kms
from aws_cdk import aws_logs as logs
from constructs import Construct


def log_group(
    scope: Construct, id: str, name: str, key: kms.IKey, retention: logs.RetentionDays = logs.RetentionDays.ONE_YEAR
) -> logs.LogGroup:
    """A log group encrypted by `key`. The key's policy requires a name like `/<kind>/<deployment>-…`."""
    return logs.LogGroup(
        scope,
        id,
        log_group_name=name,
        encryption_key=key,
        retention=retention,
        removal_policy=cdk.RemovalPolicy.DESTROY,
    )
