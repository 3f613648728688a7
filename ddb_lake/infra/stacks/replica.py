"""Another Region: the buckets that S3 copies the landing buckets into."""

from __future__ import annotations

import aws_cdk as cdk

from ddb_lake.infra.constructs.buckets import access_logs, bucket
from ddb_lake.infra.constructs.keys import data_key
from ddb_lake.infra.deployment import Deployment, replica_name
from ddb_lake.infra.packaging import CodeSource


def build(stack: cdk.Stack, deployment: Deployment, code: CodeSource) -> str:  # noqa: ARG001  # one signature for every topology
    """Fill the stack. Gives the ARN of the key that the copies are under."""
    key = data_key(stack, deployment, "replica", of=None)
    logs = access_logs(stack)
    for number, name in enumerate(deployment.landing_buckets):
        bucket(stack, deployment, f"Replica{number or ''}", replica_name(name), key, logs)
    return str(key.key_arn)
