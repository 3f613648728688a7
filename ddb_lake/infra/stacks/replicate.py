"""Two accounts: replicate a Kinesis stream's records into a DynamoDB table of the other account, and forward that to S3.

`build_source` fills the stack of the account with the stream, `build_target` that of the account with the table. Either
may come first.
"""

from __future__ import annotations

import aws_cdk as cdk
from aws_cdk import aws_dynamodb as dynamodb
from aws_cdk import aws_iam as iam
from aws_cdk import aws_kinesis as kinesis

from ddb_lake.core.operations.policies import Statement, key_use
from ddb_lake.infra.constructs.acknowledgements import acknowledge
from ddb_lake.infra.constructs.alarms import (
    alarm_topic,
    create_alarms,
    error_prefix_alarms,
    function_alarms,
    queue_alarms,
)
from ddb_lake.infra.constructs.buckets import access_logs, bucket, landing_buckets
from ddb_lake.infra.constructs.feeds import enrichment, transform_function
from ddb_lake.infra.constructs.forwarding import StackResources, failed_batches, forward_stream
from ddb_lake.infra.constructs.functions import (
    FAILED_BATCHES,
    FunctionProps,
    StreamMapping,
    failure_calls,
    function,
    map_stream,
)
from ddb_lake.infra.constructs.keys import data_key, endpoint_domain
from ddb_lake.infra.constructs.network import network
from ddb_lake.infra.constructs.ordering import start_last
from ddb_lake.infra.constructs.queues import Arrivals, arrivals_to_topic, dead_letters, notify_of_failed_objects
from ddb_lake.infra.constructs.roles import attach
from ddb_lake.infra.constructs.tables import source_table
from ddb_lake.infra.deployment import Deployment, Location, TableDeployment
from ddb_lake.infra.packaging import CodeSource

SOURCE_ENDPOINTS = ("sts",)
TARGET_ENDPOINTS = ("kinesis-firehose",)


def function_role(deployment: Deployment, table: TableDeployment) -> str:
    """The name of the replicate function's role, in the stream's account."""
    return f"{deployment.name}-{table.name}-replicate-role"


def target_role(deployment: Deployment, table: TableDeployment) -> str:
    """The name of the role that writes the table, in the table's account."""
    return f"{deployment.name}-{table.name}-target"


def build_source(stack: cdk.Stack, deployment: Deployment, code: CodeSource) -> str:
    """Fill the stack of the account with the Kinesis stream. Gives the ARN of its key."""
    key = data_key(stack, deployment, "replicate-source", of="producer")
    vpc = network(stack, deployment, key, SOURCE_ENDPOINTS, ("dynamodb",))
    topic = alarm_topic(stack, key, f"{deployment.name}-replicate-alarms")
    failures = dead_letters(stack, "Undelivered", f"{deployment.name}-replicate-undelivered", key)
    name = f"{deployment.name}-unreplicated-{deployment.producer_account}-{stack.region}"
    unreplicated = bucket(stack, deployment, "Unreplicated", name, key, access_logs(stack))
    rule = f"{deployment.name}-unreplicated"
    arrivals_to_topic(
        stack, "UnreplicatedArrived", deployment, Arrivals(rule, [Location(name, FAILED_BATCHES)]), topic, failures
    )
    alarms = [
        *queue_alarms("Undelivered", f"{deployment.name}-replicate-undelivered", dead_letters=True),
        *error_prefix_alarms("Unreplicated", rule),
    ]
    for table in deployment.tables:
        on_demand = table.feed.shards == 0
        stream = kinesis.Stream(
            stack,
            f"{table.id}Events",
            stream_name=f"{deployment.name}-{table.name}-events",
            stream_mode=kinesis.StreamMode.ON_DEMAND if on_demand else kinesis.StreamMode.PROVISIONED,
            shard_count=None if on_demand else table.feed.shards,
            retention_period=cdk.Duration.hours(table.feed.retention_hours),
            encryption=kinesis.StreamEncryption.KMS,
            encryption_key=key,
            removal_policy=cdk.RemovalPolicy.DESTROY,
        )
        acknowledge(
            stream, "AwsSolutions-KDS3", "A customer-managed key is meant: its policy and its rotation are ours"
        )
        props = _replicate(stack, deployment, table, stream.stream_arn, unreplicated.bucket_arn, key.key_arn)
        built = function(stack, f"{table.id}Replicate", props, key, vpc, code)
        mapping = StreamMapping(arn=stream.stream_arn, starting_position="TRIM_HORIZON", batch_size=300)
        map_stream(stack, f"{table.id}Mapping", built, mapping, unreplicated.bucket_arn)
        alarms += function_alarms(f"{table.id}Replicate", props.name, deployment.settings.alarms.behind_minutes)
    create_alarms(stack, topic, f"{deployment.name}-replicate-source", alarms)
    start_last(stack)
    return str(key.key_arn)


def build_target(stack: cdk.Stack, deployment: Deployment, code: CodeSource) -> str:
    """Fill the stack of the account with the table. Gives the ARN of the key its bucket is under."""
    key = data_key(stack, deployment, "replicate-target", of="consumer")
    vpc = network(stack, deployment, key, TARGET_ENDPOINTS, ("s3",))
    topic = alarm_topic(stack, key, f"{deployment.name}-target-alarms")
    failures = dead_letters(stack, "Undelivered", f"{deployment.name}-target-undelivered", key)
    buckets = landing_buckets(stack, deployment, key, deployment.consumer_account)
    transform = transform_function(stack, deployment, key, vpc, code)
    alarms = [
        *function_alarms("Transform", f"{deployment.name}-transform"),
        *queue_alarms("Undelivered", f"{deployment.name}-target-undelivered", dead_letters=True),
    ]
    for table in deployment.tables:
        target = source_table(stack, table, key, stream=dynamodb.StreamViewType.NEW_AND_OLD_IMAGES)
        _target_role(stack, deployment, table, target.table_arn, key.key_arn)
        resources = StackResources(deployment, key, vpc, failures, buckets[table.landing.bucket], code)
        alarms += forward_stream(stack, table, target, transform.function, resources)
        rule = f"{deployment.name}-{table.name}-target-failed"
        failed = Arrivals(rule, [table.errors, failed_batches(table)])
        alarms += notify_of_failed_objects(stack, deployment, table, failed, topic, failures)
    create_alarms(stack, topic, f"{deployment.name}-replicate-target", alarms)
    start_last(stack)
    return str(key.key_arn)


def _replicate(
    stack: cdk.Stack, deployment: Deployment, table: TableDeployment, stream_arn: str, failures_arn: str, key_arn: str
) -> FunctionProps:
    assumed = f"arn:{stack.partition}:iam::{deployment.consumer_account}:role/{target_role(deployment, table)}"
    return FunctionProps(
        handler="replicate",
        name=f"{deployment.name}-{table.name}-replicate",
        purpose="Writes records of the stream into the table of the other account, each once",
        settings=deployment.settings.functions,
        role_name=function_role(deployment, table),
        environment={
            "DDB_LAKE_TARGET_TABLE": table.name,
            "DDB_LAKE_TARGET_ROLE_ARN": assumed,
            "DDB_LAKE_EXTERNAL_ID": table.external_id,
            **({} if table.keyed_by_sequence else {"DDB_LAKE_TARGET_KEY": table.key_names}),
            **enrichment(deployment.settings.enrich.replicate),
        },
        calls=[Statement("BecomeTarget", ("sts:AssumeRole",), (assumed,))],
        service_calls=[
            Statement(
                "ReadStream",
                (
                    "kinesis:DescribeStream",
                    "kinesis:DescribeStreamSummary",
                    "kinesis:GetRecords",
                    "kinesis:GetShardIterator",
                    "kinesis:ListShards",
                ),
                (stream_arn,),
            ),
            key_use("UseStreamKey", ("kms:Decrypt",), key_arn, "kinesis", endpoint_domain(stack)),
            *failure_calls(failures_arn, key_arn, stack),
        ],
        gateways=("dynamodb",),
        timeout_s=120,
    )


def _target_role(
    stack: cdk.Stack, deployment: Deployment, table: TableDeployment, table_arn: str, key_arn: str
) -> None:
    """The role that the other account's function assumes."""
    function = f"arn:{stack.partition}:iam::{deployment.producer_account}:role/{function_role(deployment, table)}"
    role = iam.Role(
        stack,
        f"{table.id}Target",
        role_name=target_role(deployment, table),
        assumed_by=iam.AccountPrincipal(deployment.producer_account).with_conditions(
            {"ArnEquals": {"aws:PrincipalArn": function}, "StringEquals": {"sts:ExternalId": table.external_id}}
        ),
        description="Writes the table for the other account's function",
    )
    attach(role, _target_calls(stack, table, table_arn, key_arn))


def _target_calls(stack: cdk.Stack, table: TableDeployment, table_arn: str, key_arn: str) -> list[Statement]:
    """The permissions for what the replicate handler calls with the target role: conditional puts if the newest record of a key wins.

    The items of a batch are also put one by one if DynamoDB refuses one of them.
    """
    batches = ("dynamodb:BatchGetItem", "dynamodb:BatchWriteItem") if table.keyed_by_sequence else ()
    return [
        Statement("WriteItems", (*batches, "dynamodb:PutItem"), (table_arn,)),
        key_use("UseTableKey", ("kms:Decrypt",), key_arn, "dynamodb", endpoint_domain(stack)),
    ]
