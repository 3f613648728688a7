"""The resources for running Dagster: the task's role, the arrivals queue of its sensor, alarms, and EMR Serverless."""

from __future__ import annotations

from collections.abc import Mapping

import aws_cdk as cdk
from aws_cdk import aws_ec2 as ec2
from aws_cdk import aws_emrserverless as emrserverless
from aws_cdk import aws_iam as iam
from aws_cdk import aws_kms as kms

from ddb_lake.core.operations.policies import Estate, Place, Source, statements
from ddb_lake.infra.constructs.acknowledgements import acknowledge
from ddb_lake.infra.constructs.alarms import alarm_topic, create_alarms, error_prefix_alarms, queue_alarms
from ddb_lake.infra.constructs.delivery import finding
from ddb_lake.infra.constructs.keys import data_key
from ddb_lake.infra.constructs.network import network
from ddb_lake.infra.constructs.queues import Arrivals, arrivals_to_queue, dead_letters, work_queue
from ddb_lake.infra.constructs.roles import attach, own_account
from ddb_lake.infra.constructs.tables import table_arn
from ddb_lake.infra.deployment import Deployment, Location
from ddb_lake.infra.packaging import CodeSource

ENDPOINTS = ("glue", "logs")
_SENSOR_SECONDS = 300


def build(stack: cdk.Stack, deployment: Deployment, code: CodeSource, key_arns: Mapping[str, str]) -> str:  # noqa: ARG001
    """Fill the stack. `key_arns`: the keys of the buckets, as `landing` and `warehouse`. Gives the ARN of its own key."""
    key = data_key(stack, deployment, "orchestration", of="consumer")
    topic = alarm_topic(stack, key, f"{deployment.name}-orchestration-alarms")
    failures = dead_letters(stack, "Unread", f"{deployment.name}-unread", key, of_a_queue=True)
    queue = work_queue(stack, "Arrivals", f"{deployment.name}-arrivals", key, failures, _SENSOR_SECONDS)
    alarms = [
        *queue_alarms("Unread", f"{deployment.name}-unread", dead_letters=True),
        *queue_alarms("Arrivals", f"{deployment.name}-arrivals", dead_letters=False),
    ]
    for table in deployment.tables:
        landed, failed = f"{deployment.name}-{table.name}-arrived", f"{deployment.name}-{table.name}-arrived-failed"
        arrivals_to_queue(stack, f"{table.id}Arrived", deployment, Arrivals(landed, [table.landing]), queue, failures)
        arrivals_to_queue(
            stack, f"{table.id}ArrivedFailed", deployment, Arrivals(failed, [table.errors]), queue, failures
        )
        alarms += error_prefix_alarms(table.id, failed)
    found = estate(stack, deployment, key_arns, queue.queue_arn, key.key_arn)
    _task_role(stack, deployment, found)
    if deployment.settings.orchestration.emr:
        _spark(stack, deployment, key, found)
    create_alarms(stack, topic, f"{deployment.name}-orchestration", alarms)
    cdk.CfnOutput(stack, "ArrivalsQueueUrl", value=queue.queue_url, description="For the sensor of the lake")
    return str(key.key_arn)


def estate(
    stack: cdk.Stack, deployment: Deployment, key_arns: Mapping[str, str], queue_arn: str, queue_key_arn: str
) -> Estate:
    """The resources that the task accesses. Tables of another account are accessed through their role."""
    here = deployment.producer_account == deployment.consumer_account
    roles = [
        f"arn:{stack.partition}:iam::{deployment.producer_account}:role/{table.source_role}"
        for table in deployment.tables
    ]
    exports = [_place(stack, table.exports, key_arns["landing"]) for table in deployment.tables]
    catalog = f"arn:{stack.partition}:glue:{stack.region}:{stack.account}"
    return Estate(
        region=stack.region,
        dns_suffix=stack.url_suffix,
        sources=tuple(
            Source(
                table_arn(stack, table.name, deployment.producer_account),
                None if here else role,
                key_arns["landing"] if here else None,
                export,
            )
            for table, role, export in zip(deployment.tables, roles, exports, strict=True)
        ),
        landing=tuple(_place(stack, p, key_arns["landing"]) for t in deployment.tables for p in (t.landing, t.errors)),
        warehouse=_place(stack, deployment.warehouse, key_arns["warehouse"]),
        glue=(
            f"{catalog}:catalog",
            f"{catalog}:database/{deployment.namespace}",
            f"{catalog}:table/{deployment.namespace}/*",
        ),
        queue_arns=(queue_arn,),
        queue_key_arn=queue_key_arn,
    )


def _place(stack: cdk.Stack, where: Location, key_arn: str) -> Place:
    return Place(f"arn:{stack.partition}:s3:::{where.bucket}", where.prefix, key_arn)


def _task_role(stack: cdk.Stack, deployment: Deployment, found: Estate) -> None:
    """The role of Dagster's code, with the statements that `ddb-lake iam dagster-task` prints."""
    principal = own_account(deployment.settings.orchestration.task_principal, stack)
    role = iam.Role(
        stack,
        "Task",
        role_name=deployment.task_role,
        assumed_by=principal,
        description="Dagster's code: exports, applies, verifies",
    )
    _attach(stack, role, "dagster-task", found)


def _attach(stack: cdk.Stack, role: iam.Role, name: str, found: Estate) -> None:
    allowed = statements(name, found)
    policy = attach(role, allowed)
    for arn in dict.fromkeys(arn for statement in allowed for arn in statement.resources if arn.endswith("*")):
        acknowledge(policy, finding(stack, arn), _reason(arn))


def _reason(arn: str) -> str:
    if arn == "*":
        return "CloudWatch has no resource-level permissions for reading metrics"
    return "Names below it are chosen by DynamoDB, Firehose, or the lake's writer"


def _spark(stack: cdk.Stack, deployment: Deployment, key: kms.IKey, found: Estate) -> None:
    """EMR Serverless in private subnets, and the role of its jobs, with the permissions for applying changes."""
    vpc = network(stack, deployment, key, ENDPOINTS, ("s3",))
    group = vpc.client_group(stack, "SparkGroup", "EMR Serverless workers", ("s3",))
    for direction in (group.add_ingress_rule, group.add_egress_rule):
        direction(group, ec2.Port.all_tcp(), "Between the workers of a job")
    if "s3" in vpc.gateways:
        vpc.gateways["s3"].add_to_policy(_managed_logs(stack, vpc.vpc))
    limit = deployment.settings.orchestration.emr_max_vcpu
    emrserverless.CfnApplication(
        stack,
        "Spark",
        name=f"{deployment.name}-spark",
        type="SPARK",
        release_label=deployment.settings.orchestration.emr_release,
        architecture="ARM64",
        auto_start_configuration=emrserverless.CfnApplication.AutoStartConfigurationProperty(enabled=True),
        auto_stop_configuration=emrserverless.CfnApplication.AutoStopConfigurationProperty(
            enabled=True, idle_timeout_minutes=15
        ),
        maximum_capacity=emrserverless.CfnApplication.MaximumAllowedResourcesProperty(
            cpu=f"{limit} vCPU", memory=f"{limit * 8} GB", disk=f"{limit * 20} GB"
        ),
        network_configuration=emrserverless.CfnApplication.NetworkConfigurationProperty(
            subnet_ids=vpc.vpc.select_subnets(subnet_type=ec2.SubnetType.PRIVATE_ISOLATED).subnet_ids,
            security_group_ids=[group.security_group_id],
        ),
    )
    role = iam.Role(
        stack,
        "SparkJob",
        role_name=f"{deployment.name}-spark-job",
        assumed_by=iam.ServicePrincipal("emr-serverless.amazonaws.com"),
        description="Spark jobs of the lake: read landing, write the warehouse",
    )
    _attach(stack, role, "applier", found)


def _managed_logs(stack: cdk.Stack, vpc: ec2.IVpc) -> iam.PolicyStatement:
    """EMR Serverless stores the logs of its jobs in a bucket of its own, through the VPC's endpoint for S3.

    https://docs.aws.amazon.com/emr/latest/EMR-Serverless-UserGuide/logging.html
    """
    bucket = f"arn:{stack.partition}:s3:::prod.{stack.region}.appinfo.src"
    return iam.PolicyStatement(
        sid="EMRServerlessManagedLogging",
        principals=[iam.AnyPrincipal()],
        actions=["s3:PutObject", "s3:PutObjectAcl"],
        resources=[bucket, f"{bucket}/*"],
        conditions={
            "StringEquals": {
                "aws:PrincipalServiceName": "emr-serverless.amazonaws.com",
                "aws:SourceVpc": vpc.vpc_id,
            }
        },
    )
