"""For readers of the lake: Glue database, Athena workgroup; optionally Lake Formation and a copy in a second Region."""

from __future__ import annotations

import aws_cdk as cdk
from aws_cdk import aws_athena as athena
from aws_cdk import aws_glue as glue
from aws_cdk import aws_iam as iam
from aws_cdk import aws_kms as kms
from aws_cdk import aws_lakeformation as lakeformation
from aws_cdk import aws_s3 as s3

from ddb_lake.core.operations.policies import Place, Statement, key_use
from ddb_lake.infra.constructs.acknowledgements import acknowledge
from ddb_lake.infra.constructs.buckets import access_logs, bucket
from ddb_lake.infra.constructs.delivery import finding
from ddb_lake.infra.constructs.keys import data_key
from ddb_lake.infra.constructs.roles import attach, own_account
from ddb_lake.infra.deployment import Deployment
from ddb_lake.infra.packaging import CodeSource

_GIBIBYTE = 1024**3


def build(stack: cdk.Stack, deployment: Deployment, code: CodeSource) -> str:  # noqa: ARG001  # one signature for every topology
    """Fill the stack. Gives the ARN of the key that the warehouse and Athena's results are under."""
    key = data_key(stack, deployment, "catalog")
    logs = access_logs(stack)
    warehouse = bucket(stack, deployment, "Warehouse", deployment.warehouse.bucket, key, logs)
    if deployment.settings.catalog.replica_region:
        _replicate(stack, deployment, warehouse, key)
    results = bucket(
        stack, deployment, "Results", f"{deployment.name}-{deployment.consumer_account}-athena-results", key, logs
    )
    database = glue.CfnDatabase(
        stack,
        "Database",
        catalog_id=stack.account,
        database_input=glue.CfnDatabase.DatabaseInputProperty(
            name=deployment.namespace,
            description="Iceberg tables of the lake, made and committed by ddb-lake",
            location_uri=f"s3://{deployment.warehouse.bucket}/{deployment.warehouse.prefix}",
        ),
    )
    _workgroup(stack, deployment, key, results)
    if deployment.settings.catalog.lake_formation:
        _register(stack, deployment, warehouse, key)
    cdk.CfnOutput(
        stack, "DatabaseName", value=database.ref, description="`catalog.namespace` of the lake's configuration"
    )
    cdk.CfnOutput(stack, "KeyArn", value=key.key_arn)
    return str(key.key_arn)


def _workgroup(stack: cdk.Stack, deployment: Deployment, key: kms.IKey, results: s3.IBucket) -> None:
    """The workgroup. Its settings are enforced: a client cannot choose another location or unencrypted results.

    https://docs.aws.amazon.com/athena/latest/ug/workgroups-settings-override.html
    """
    athena.CfnWorkGroup(
        stack,
        "Workgroup",
        name=deployment.name,
        description="Queries of the lake",
        state="ENABLED",
        recursive_delete_option=False,
        work_group_configuration=athena.CfnWorkGroup.WorkGroupConfigurationProperty(
            enforce_work_group_configuration=True,
            publish_cloud_watch_metrics_enabled=True,
            requester_pays_enabled=False,
            bytes_scanned_cutoff_per_query=deployment.settings.catalog.scan_cutoff_gibibytes * _GIBIBYTE,
            engine_version=athena.CfnWorkGroup.EngineVersionProperty(selected_engine_version="Athena engine version 3"),
            result_configuration=athena.CfnWorkGroup.ResultConfigurationProperty(
                output_location=f"s3://{results.bucket_name}/",
                expected_bucket_owner=stack.account,
                encryption_configuration=athena.CfnWorkGroup.EncryptionConfigurationProperty(
                    encryption_option="SSE_KMS", kms_key=key.key_arn
                ),
            ),
        ),
    )


def _register(stack: cdk.Stack, deployment: Deployment, warehouse: s3.IBucket, key: kms.IKey) -> None:
    """Register the warehouse with Lake Formation, with a separate role. Lake Formation then grants access by table and column.

    https://docs.aws.amazon.com/lake-formation/latest/dg/register-data-lake.html
    """
    place = Place(warehouse.bucket_arn, deployment.warehouse.prefix, key.key_arn)
    role = iam.Role(
        stack,
        "RegistrationRole",
        assumed_by=own_account("lakeformation.amazonaws.com", stack),
        description="Lake Formation reads the warehouse",
    )
    policy = attach(
        role,
        [
            Statement("ReadWarehouse", ("s3:GetObject",), (place.objects,)),
            Statement("ListWarehouse", ("s3:ListBucket",), (place.bucket_arn,)),
            key_use("DecryptWarehouse", ("kms:Decrypt",), str(key.key_arn), "s3", stack.region),
        ],
    )
    acknowledge(policy, finding(stack, place.objects), "Every file below the warehouse belongs to a table")
    registered = lakeformation.CfnResource(
        stack,
        "Registration",
        resource_arn=f"{place.bucket_arn}/{deployment.warehouse.prefix.rstrip('/')}",
        use_service_linked_role=False,
        role_arn=role.role_arn,
        hybrid_access_enabled=True,
    )
    registered.node.add_dependency(policy)


def _replicate(stack: cdk.Stack, deployment: Deployment, warehouse: s3.IBucket, key: kms.IKey) -> None:
    """Replicate the warehouse into the bucket of `build_replica` in another Region. Deploy that stack first."""
    if not isinstance(warehouse, s3.Bucket):
        return  # an adopted bucket's replication is not ours to set
    region = str(deployment.settings.catalog.replica_region)
    target = f"arn:{stack.partition}:s3:::{replica_name(deployment)}"
    target_keys = f"arn:{stack.partition}:kms:{region}:{stack.account}:alias/{deployment.name}-replica"
    role = iam.Role(
        stack,
        "ReplicationRole",
        assumed_by=own_account("s3.amazonaws.com", stack),
        description="S3 copies the warehouse into another Region",
    )
    policy = attach(role, _replication_calls(stack, deployment, warehouse, key, region, target))
    copied = f"{target}/{deployment.warehouse.prefix}*"
    read = f"{warehouse.bucket_arn}/{deployment.warehouse.prefix}*"
    for arn in (copied, read, f"arn:{stack.partition}:kms:{region}:{stack.account}:key/*"):
        acknowledge(
            policy, finding(stack, arn), "S3 copies every object below the prefix; the copy's key is found by alias"
        )
    warehouse.node.default_child.replication_configuration = s3.CfnBucket.ReplicationConfigurationProperty(
        role=role.role_arn,
        rules=[
            s3.CfnBucket.ReplicationRuleProperty(
                id="Copy",
                status="Enabled",
                priority=1,
                filter=s3.CfnBucket.ReplicationRuleFilterProperty(prefix=deployment.warehouse.prefix),
                delete_marker_replication=s3.CfnBucket.DeleteMarkerReplicationProperty(status="Enabled"),
                source_selection_criteria=s3.CfnBucket.SourceSelectionCriteriaProperty(
                    sse_kms_encrypted_objects=s3.CfnBucket.SseKmsEncryptedObjectsProperty(status="Enabled")
                ),
                destination=s3.CfnBucket.ReplicationDestinationProperty(
                    bucket=target,
                    encryption_configuration=s3.CfnBucket.EncryptionConfigurationProperty(
                        replica_kms_key_id=target_keys
                    ),
                ),
            )
        ],
    )


def _replication_calls(
    stack: cdk.Stack, deployment: Deployment, warehouse: s3.IBucket, key: kms.IKey, region: str, target: str
) -> list[Statement]:
    def via(where: str) -> dict[str, dict[str, str]]:
        return {"StringEquals": {"kms:ViaService": f"s3.{where}.amazonaws.com"}}

    by_alias = {
        "StringEquals": {"kms:ViaService": f"s3.{region}.amazonaws.com"},
        "ForAnyValue:StringEquals": {"kms:ResourceAliases": f"alias/{deployment.name}-replica"},
    }
    return [
        Statement("FindObjects", ("s3:GetReplicationConfiguration", "s3:ListBucket"), (warehouse.bucket_arn,)),
        Statement(
            "ReadVersions",
            ("s3:GetObjectVersionForReplication", "s3:GetObjectVersionAcl", "s3:GetObjectVersionTagging"),
            (f"{warehouse.bucket_arn}/{deployment.warehouse.prefix}*",),
        ),
        Statement(
            "WriteCopies",
            ("s3:ReplicateObject", "s3:ReplicateDelete", "s3:ReplicateTags"),
            (f"{target}/{deployment.warehouse.prefix}*",),
        ),
        Statement("DecryptObjects", ("kms:Decrypt",), (key.key_arn,), via(stack.region)),
        Statement(
            "EncryptCopies",
            ("kms:Encrypt", "kms:GenerateDataKey"),
            (f"arn:{stack.partition}:kms:{region}:{stack.account}:key/*",),
            by_alias,
        ),
    ]


def replica_name(deployment: Deployment) -> str:
    """The name of the bucket with the copy."""
    return f"{deployment.warehouse.bucket}-replica"


def build_replica(stack: cdk.Stack, deployment: Deployment, code: CodeSource) -> str:  # noqa: ARG001  # one signature
    """Fill the stack of the other Region: the bucket that the warehouse is copied into, under a key of its own."""
    key = data_key(stack, deployment, "replica")
    bucket(stack, deployment, "Replica", replica_name(deployment), key, access_logs(stack))
    return str(key.key_arn)
