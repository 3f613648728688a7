"""An Aurora MySQL cluster: private, encrypted, IAM authentication, a secret that RDS rotates, no open group."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import aws_cdk as cdk
from aws_cdk import aws_ec2 as ec2
from aws_cdk import aws_iam as iam
from aws_cdk import aws_kms as kms
from aws_cdk import aws_rds as rds
from constructs import Construct

from ddb_lake.core.operations.policies import Statement, key_use
from ddb_lake.infra.constructs.acknowledgements import acknowledge
from ddb_lake.infra.constructs.delivery import finding
from ddb_lake.infra.constructs.keys import endpoint_domain
from ddb_lake.infra.constructs.network import Network
from ddb_lake.infra.constructs.roles import attach, own_account
from ddb_lake.infra.deployment import Deployment

_FAMILY = "aurora-mysql8.0"
_VERSION = "8.0.mysql_aurora.3.10.3"


@dataclass(frozen=True, slots=True)
class Cluster:
    """The cluster and its security group."""

    resource: rds.CfnDBCluster
    group: ec2.SecurityGroup
    arn: str


def cluster(
    scope: Construct, deployment: Deployment, key: kms.IKey, network: Network, objects: Sequence[str], bucket_arn: str
) -> Cluster:
    """Create the cluster. It may read `objects` (ARN patterns) of the bucket with `LOAD DATA FROM S3`.

    https://docs.aws.amazon.com/AmazonRDS/latest/AuroraUserGuide/AuroraMySQL.Integrating.LoadFromS3.html
    """
    group = network.client_group(scope, "AuroraGroup", "Aurora: entered by the loader, reaches S3 only", ("s3",))
    reader = _import_role(scope, key, objects, bucket_arn)
    subnets = rds.CfnDBSubnetGroup(
        scope,
        "AuroraSubnets",
        db_subnet_group_description=f"{deployment.name}: private subnets",
        subnet_ids=network.vpc.select_subnets(subnet_type=ec2.SubnetType.PRIVATE_ISOLATED).subnet_ids,
    )
    settings = deployment.settings.aurora
    cluster_resource = rds.CfnDBCluster(
        scope,
        "Aurora",
        db_cluster_identifier=f"{deployment.name}-aurora",
        engine="aurora-mysql",
        engine_version=_VERSION,
        database_name=settings.database,
        port=settings.port,
        master_username="ddb_lake_admin",
        manage_master_user_password=True,
        master_user_secret=rds.CfnDBCluster.MasterUserSecretProperty(kms_key_id=key.key_arn),
        enable_iam_database_authentication=True,
        enable_http_endpoint=True,
        storage_encrypted=True,
        kms_key_id=key.key_arn,
        deletion_protection=True,
        copy_tags_to_snapshot=True,
        backup_retention_period=14,
        db_subnet_group_name=subnets.ref,
        vpc_security_group_ids=[group.security_group_id],
        db_cluster_parameter_group_name=_parameters(scope, deployment, reader.role_arn).ref,
        associated_roles=[rds.CfnDBCluster.DBClusterRoleProperty(role_arn=reader.role_arn)],
        enable_cloudwatch_logs_exports=["audit", "error", "slowquery"],
        serverless_v2_scaling_configuration=rds.CfnDBCluster.ServerlessV2ScalingConfigurationProperty(
            min_capacity=settings.min_capacity, max_capacity=settings.max_capacity
        ),
    )
    cluster_resource.apply_removal_policy(cdk.RemovalPolicy.SNAPSHOT)
    acknowledge(cluster_resource, "AwsSolutions-RDS14", "The table is a copy: it is loaded again from S3, not rewound")
    monitor = _monitoring_role(scope)
    for number in range(2):
        _instance(scope, deployment, key, cluster_resource.ref, monitor.role_arn, number)
    return Cluster(cluster_resource, group, str(cluster_resource.attr_db_cluster_arn))


def _instance(
    scope: Construct, deployment: Deployment, key: kms.IKey, cluster_ref: str, monitor_arn: str, number: int
) -> None:
    rds.CfnDBInstance(
        scope,
        f"AuroraInstance{number}",
        db_cluster_identifier=cluster_ref,
        db_instance_identifier=f"{deployment.name}-aurora-{number}",
        db_instance_class="db.serverless",
        engine="aurora-mysql",
        publicly_accessible=False,
        auto_minor_version_upgrade=True,
        enable_performance_insights=True,
        performance_insights_kms_key_id=key.key_arn,
        promotion_tier=number,
        monitoring_interval=60,
        monitoring_role_arn=monitor_arn,
    )


def _monitoring_role(scope: Construct) -> iam.Role:
    stack = cdk.Stack.of(scope)
    role = iam.Role(
        scope,
        "AuroraMonitoringRole",
        assumed_by=own_account("monitoring.rds.amazonaws.com", stack),
        description="Aurora writes the metrics of its machines",
    )
    group = f"arn:{stack.partition}:logs:{stack.region}:{stack.account}:log-group:RDSOSMetrics"
    streams = f"{group}:log-stream:*"
    writing = ("logs:CreateLogStream", "logs:PutLogEvents", "logs:DescribeLogStreams", "logs:GetLogEvents")
    policy = attach(
        role,
        [
            Statement("MakeGroup", ("logs:CreateLogGroup", "logs:PutRetentionPolicy"), (group,)),
            Statement("WriteMetrics", writing, (streams,)),
        ],
    )
    acknowledge(policy, finding(stack, streams), "RDS names the log streams by the instances' resource ids")
    return role


def _parameters(scope: Construct, deployment: Deployment, role_arn: str) -> rds.CfnDBClusterParameterGroup:
    return rds.CfnDBClusterParameterGroup(
        scope,
        "AuroraParameters",
        description=f"{deployment.name}: loading from S3, TLS only",
        family=_FAMILY,
        parameters={
            "aws_default_s3_role": role_arn,
            "activate_all_roles_on_login": "ON",  # so that AWS_LOAD_S3_ACCESS holds without SET ROLE
            "require_secure_transport": "ON",
            "server_audit_logging": "1",
            "server_audit_events": "CONNECT,QUERY_DCL,QUERY_DDL",  # never QUERY_DML: it would log values
        },
    )


def _import_role(scope: Construct, key: kms.IKey, objects: Sequence[str], bucket_arn: str) -> iam.Role:
    stack = cdk.Stack.of(scope)
    role = iam.Role(
        scope,
        "AuroraImportRole",
        assumed_by=own_account("rds.amazonaws.com", stack),
        description="Aurora reads the files that it loads",
    )
    policy = attach(
        role,
        [
            Statement("ReadFiles", ("s3:GetObject", "s3:GetObjectVersion"), tuple(objects)),
            Statement("FindFiles", ("s3:ListBucket",), (bucket_arn,)),
            key_use("DecryptFiles", ("kms:Decrypt",), str(key.key_arn), "s3", endpoint_domain(stack)),
        ],
    )
    for arn in objects:
        acknowledge(policy, finding(stack, arn), "Firehose chooses the names of the files below the prefix")
    return role
