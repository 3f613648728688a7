"""The copy of a landing bucket in another Region: replication by S3, and the bucket that it writes to.

The landing bucket holds the change records and the exports, from which a lake is built again. A copy of the warehouse would
not be a lake: Iceberg's metadata names files by the URI of the first bucket, and the catalog is in the first Region.
"""

from __future__ import annotations

import aws_cdk as cdk
from aws_cdk import aws_iam as iam
from aws_cdk import aws_kms as kms
from aws_cdk import aws_s3 as s3

from ddb_lake.core.operations.policies import Statement, key_use
from ddb_lake.infra.constructs.acknowledgements import acknowledge
from ddb_lake.infra.constructs.delivery import finding
from ddb_lake.infra.constructs.keys import endpoint_domain
from ddb_lake.infra.constructs.roles import attach
from ddb_lake.infra.deployment import Deployment, replica_name


def replicate_bucket(stack: cdk.Stack, deployment: Deployment, bucket: s3.Bucket, name: str, key: kms.IKey) -> None:
    """Replicate every object of the bucket called `name` to `replica_name`, in the same account. Deploy that stack first.

    https://docs.aws.amazon.com/AmazonS3/latest/userguide/replication-config-for-kms-objects.html
    """
    region = str(deployment.settings.replica_region)
    target = f"arn:{stack.partition}:s3:::{replica_name(name)}"
    keys = f"arn:{stack.partition}:kms:{region}:{stack.account}"
    # AWS documents this trust policy without a condition:
    # https://docs.aws.amazon.com/AmazonS3/latest/userguide/setting-repl-config-perm-overview.html
    role = iam.Role(
        bucket,
        "ReplicationRole",
        assumed_by=iam.ServicePrincipal("s3.amazonaws.com"),
        description="S3 copies the landing bucket into another Region",
    )
    policy = attach(role, _calls(stack, deployment, bucket, target, str(key.key_arn)))
    for arn in (f"{target}/*", f"{bucket.bucket_arn}/*", f"{keys}:key/*"):
        acknowledge(policy, finding(stack, arn), "S3 copies every object; the copy's key is found by its alias")
    bucket.node.default_child.replication_configuration = s3.CfnBucket.ReplicationConfigurationProperty(
        role=role.role_arn,
        rules=[
            s3.CfnBucket.ReplicationRuleProperty(
                id="Copy",
                status="Enabled",
                priority=1,
                filter=s3.CfnBucket.ReplicationRuleFilterProperty(prefix=""),
                delete_marker_replication=s3.CfnBucket.DeleteMarkerReplicationProperty(status="Enabled"),
                source_selection_criteria=s3.CfnBucket.SourceSelectionCriteriaProperty(
                    sse_kms_encrypted_objects=s3.CfnBucket.SseKmsEncryptedObjectsProperty(status="Enabled")
                ),
                destination=s3.CfnBucket.ReplicationDestinationProperty(
                    bucket=target,
                    encryption_configuration=s3.CfnBucket.EncryptionConfigurationProperty(
                        replica_kms_key_id=f"{keys}:alias/{deployment.name}-replica"
                    ),
                ),
            )
        ],
    )


def _calls(stack: cdk.Stack, deployment: Deployment, bucket: s3.Bucket, target: str, key_arn: str) -> list[Statement]:
    region = str(deployment.settings.replica_region)
    copies = key_use(
        "EncryptCopies",
        (
            "kms:Decrypt",
            "kms:Encrypt",
            "kms:GenerateDataKey",
        ),  # decrypted to check the key of a bucket with a bucket key
        f"arn:{stack.partition}:kms:{region}:{stack.account}:key/*",
        "s3",
        endpoint_domain(stack, region),
    )
    alias = {"ForAnyValue:StringEquals": {"kms:ResourceAliases": f"alias/{deployment.name}-replica"}}
    return [
        Statement("FindObjects", ("s3:GetReplicationConfiguration", "s3:ListBucket"), (bucket.bucket_arn,)),
        Statement(
            "ReadVersions",
            ("s3:GetObjectVersionForReplication", "s3:GetObjectVersionAcl", "s3:GetObjectVersionTagging"),
            (f"{bucket.bucket_arn}/*",),
        ),
        Statement("WriteCopies", ("s3:ReplicateObject", "s3:ReplicateDelete", "s3:ReplicateTags"), (f"{target}/*",)),
        key_use("DecryptObjects", ("kms:Decrypt",), key_arn, "s3", endpoint_domain(stack)),
        Statement(copies.sid, copies.actions, copies.resources, {**copies.conditions, **alias}),
    ]
