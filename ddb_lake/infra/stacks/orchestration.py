"""The resources for running Dagster: the task's role, the arrivals queue of its sensor, alarms, and EMR Serverless."""

from __future__ import annotations

from collections.abc import Mapping

import aws_cdk as cdk
from aws_cdk import aws_ec2 as ec2
from aws_cdk import aws_emrserverless as emrserverless
from aws_cdk import aws_iam as iam
from aws_cdk import aws_kms as kms

from ddb_lake.core.operations.policies import Estate
from ddb_lake.infra.constructs.alarms import alarm_topic, create_alarms, error_prefix_alarms, queue_alarms
from ddb_lake.infra.constructs.keys import data_key
from ddb_lake.infra.constructs.lake_roles import Queues, attach_lake_role, estate
from ddb_lake.infra.constructs.network import network
from ddb_lake.infra.constructs.queues import Arrivals, arrivals_to_queue, dead_letters, work_queue
from ddb_lake.infra.constructs.roles import own_account
from ddb_lake.infra.deployment import Deployment
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
    found = estate(stack, deployment, key_arns, Queues((queue.queue_arn,), key.key_arn))
    _task_role(stack, deployment, found)
    if deployment.settings.orchestration.emr:
        _spark(stack, deployment, key, found)
    create_alarms(stack, topic, f"{deployment.name}-orchestration", alarms)
    cdk.CfnOutput(stack, "KeyArn", value=key.key_arn, description="For the stack `follow`, if it reads the queue")
    cdk.CfnOutput(stack, "ArrivalsQueueUrl", value=queue.queue_url, description="For the sensor of the lake")
    return str(key.key_arn)


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
    attach_lake_role(stack, role, "dagster-task", found)


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
    attach_lake_role(stack, role, "applier", found)


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
