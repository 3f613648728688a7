"""Buckets: encrypted, versioned, private, logged, kept. Adopted buckets are referenced and not changed."""

from __future__ import annotations

import aws_cdk as cdk
from aws_cdk import aws_iam as iam
from aws_cdk import aws_kms as kms
from aws_cdk import aws_s3 as s3
from constructs import Construct

from ddb_lake.infra.constructs.acknowledgements import skip_checkov
from ddb_lake.infra.constructs.replication import replicate_bucket
from ddb_lake.infra.deployment import Deployment

_NONCURRENT_DAYS = 30


def access_logs(scope: Construct) -> s3.Bucket:
    """The bucket of S3's access logs. S3 delivers them only to buckets encrypted with SSE-S3.

    https://docs.aws.amazon.com/AmazonS3/latest/userguide/enable-server-access-logging.html
    """
    bucket_resource = s3.Bucket(
        scope,
        "AccessLogs",
        encryption=s3.BucketEncryption.S3_MANAGED,
        block_public_access=s3.BlockPublicAccess.BLOCK_ALL,
        object_ownership=s3.ObjectOwnership.BUCKET_OWNER_ENFORCED,
        enforce_ssl=True,
        minimum_tls_version=1.2,
        versioned=True,
        removal_policy=cdk.RemovalPolicy.RETAIN,
        lifecycle_rules=[*_housekeeping(), s3.LifecycleRule(id="ExpireLogs", expiration=cdk.Duration.days(365))],
    )
    skip_checkov(
        bucket_resource.node.default_child, "CKV_AWS_18", "The bucket of the access logs cannot log into itself"
    )
    return bucket_resource


def bucket(
    scope: Construct, deployment: Deployment, id: str, name: str, key: kms.IKey, logs: s3.IBucket | None
) -> s3.IBucket:
    """A data bucket encrypted by `key`, which notifies EventBridge of new objects; or the adopted bucket of that name."""
    if name in deployment.settings.adopt.buckets:
        return s3.Bucket.from_bucket_name(scope, id, name)
    bucket_resource = s3.Bucket(
        scope,
        id,
        bucket_name=name,
        encryption=s3.BucketEncryption.KMS,
        encryption_key=key,
        bucket_key_enabled=True,
        block_public_access=s3.BlockPublicAccess.BLOCK_ALL,
        object_ownership=s3.ObjectOwnership.BUCKET_OWNER_ENFORCED,
        enforce_ssl=True,
        minimum_tls_version=1.2,
        versioned=True,
        server_access_logs_bucket=logs,
        server_access_logs_prefix=f"{id.lower()}/",
        removal_policy=cdk.RemovalPolicy.RETAIN,
        lifecycle_rules=_housekeeping(),
    )
    # CDK's own `event_bridge_enabled` brings a custom resource with a function of its own.
    plain = bucket_resource.node.default_child
    plain.notification_configuration = s3.CfnBucket.NotificationConfigurationProperty(
        event_bridge_configuration=s3.CfnBucket.EventBridgeConfigurationProperty(event_bridge_enabled=True)
    )
    return bucket_resource


def landing_buckets(stack: cdk.Stack, deployment: Deployment, key: kms.IKey, account: str) -> dict[str, s3.IBucket]:
    """The buckets that Firehose and exports write into, by name. Creates a bucket for their access logs, unless all are adopted.

    `account`: the stack's. In the lake's account, where the replica is, the buckets are replicated if that is configured.
    """
    names = deployment.landing_buckets
    logs = None if set(names) <= set(deployment.settings.adopt.buckets) else access_logs(stack)
    found = {
        name: bucket(stack, deployment, f"Landing{number or ''}", name, key, logs) for number, name in enumerate(names)
    }
    if deployment.settings.replica_region and account == deployment.consumer_account:
        for name, made in found.items():
            replicate_bucket(stack, deployment, made, name, key)
    return found


def allow_writers(
    bucket: s3.IBucket, stack: cdk.Stack, account: str, writers: dict[str, tuple[str, list[str]]]
) -> None:
    """Let roles of another account write below prefixes: `{sid: (role name, prefixes)}`.

    `s3:PutObjectAcl` is among the actions because Firehose and exports hand the object over to the bucket's owner.
    The roles are named in a condition, so that this stack and theirs can be deployed in either order.
    """
    principal = iam.AccountPrincipal(account)
    for sid, (role, prefixes) in writers.items():
        condition = {"ArnEquals": {"aws:PrincipalArn": f"arn:{stack.partition}:iam::{account}:role/{role}"}}
        bucket.add_to_resource_policy(
            iam.PolicyStatement(
                sid=sid,
                principals=[principal],
                actions=["s3:GetObject", "s3:PutObject", "s3:PutObjectAcl", "s3:AbortMultipartUpload"],
                resources=[bucket.arn_for_objects(f"{prefix}*") for prefix in prefixes],
                conditions=condition,
            )
        )
        bucket.add_to_resource_policy(
            iam.PolicyStatement(
                sid=f"{sid}Bucket",
                principals=[principal],
                actions=["s3:GetBucketLocation", "s3:ListBucket", "s3:ListBucketMultipartUploads"],
                resources=[bucket.bucket_arn],
                conditions=condition,
            )
        )


def _housekeeping() -> list[s3.LifecycleRule]:
    return [
        s3.LifecycleRule(
            id="Housekeeping",
            abort_incomplete_multipart_upload_after=cdk.Duration.days(7),
            noncurrent_version_expiration=cdk.Duration.days(_NONCURRENT_DAYS),
        )
    ]
