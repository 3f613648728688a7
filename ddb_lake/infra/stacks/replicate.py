"""Two accounts: a Kinesis stream's records into a DynamoDB table of the other account, and on from there to S3.

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
from ddb_lake.infra.constructs.buckets import access_logs, bucket, landing_buckets
from ddb_lake.infra.constructs.feeds import transform_function
from ddb_lake.infra.constructs.forwarding import Around, failed_batches, forwarded
from ddb_lake.infra.constructs.functions import (
    FAILED_BATCHES,
    FunctionPlan,
    StreamMapping,
    failure_calls,
    feed,
    function,
)
from ddb_lake.infra.constructs.keys import data_key
from ddb_lake.infra.constructs.network import network
from ddb_lake.infra.constructs.queues import arrivals_to_topic, dead_letters
from ddb_lake.infra.constructs.roles import attach
from ddb_lake.infra.constructs.tables import source_table
from ddb_lake.infra.constructs.watching import alarm_topic, of_error_prefix, of_function, of_queue, watch
from ddb_lake.infra.packaging import CodeSource
from ddb_lake.infra.plan import Location, Plan, TablePlan

SOURCE_ENDPOINTS = ("sts",)
TARGET_ENDPOINTS = ("kinesis-firehose",)


def function_role(plan: Plan, table: TablePlan) -> str:
    """The name of the replicating function's role, in the account of the stream."""
    return f"{plan.name}-{table.name}-replicate-role"


def target_role(plan: Plan, table: TablePlan) -> str:
    """The name of the role that writes the table, in the account of the table."""
    return f"{plan.name}-{table.name}-target"


def build_source(stack: cdk.Stack, plan: Plan, code: CodeSource) -> str:
    """Fill the stack of the account with the Kinesis stream. Gives the ARN of its key."""
    key = data_key(stack, plan, "replicate-source")
    vpc = network(stack, plan, key, SOURCE_ENDPOINTS, ("dynamodb",))
    topic = alarm_topic(stack, key, f"{plan.name}-replicate-alarms")
    failures = dead_letters(stack, "Undelivered", f"{plan.name}-replicate-undelivered", key)
    name = f"{plan.name}-unreplicated-{plan.producer_account}-{stack.region}"
    unreplicated = bucket(stack, plan, "Unreplicated", name, key, access_logs(stack))
    rule = f"{plan.name}-unreplicated"
    arrivals_to_topic(stack, "UnreplicatedArrived", rule, [Location(name, FAILED_BATCHES)], topic, failures)
    watched = [
        *of_queue("Undelivered", f"{plan.name}-replicate-undelivered", dead_letters=True),
        *of_error_prefix("Unreplicated", rule),
    ]
    for table in plan.tables:
        on_demand = table.feed.shards == 0
        stream = kinesis.Stream(
            stack,
            f"{table.id}Events",
            stream_name=f"{plan.name}-{table.name}-events",
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
        made = _replicate(stack, plan, table, stream.stream_arn, unreplicated.bucket_arn, key.key_arn)
        built = function(stack, f"{table.id}Replicate", made, key, vpc, code)
        mapping = StreamMapping(arn=stream.stream_arn, starting_position="TRIM_HORIZON", batch_size=300)
        feed(stack, f"{table.id}Mapping", built, mapping, unreplicated.bucket_arn)
        watched += of_function(f"{table.id}Replicate", made.name, plan.settings.alarms.behind_minutes)
    watch(stack, topic, f"{plan.name}-replicate-source", watched)
    return str(key.key_arn)


def build_target(stack: cdk.Stack, plan: Plan, code: CodeSource) -> str:
    """Fill the stack of the account with the table. Gives the ARN of the key its bucket is under."""
    key = data_key(stack, plan, "replicate-target")
    vpc = network(stack, plan, key, TARGET_ENDPOINTS, ("s3",))
    topic = alarm_topic(stack, key, f"{plan.name}-target-alarms")
    failures = dead_letters(stack, "Undelivered", f"{plan.name}-target-undelivered", key)
    buckets = landing_buckets(stack, plan, key)
    transform = transform_function(stack, plan, key, vpc, code)
    watched = [
        *of_function("Transform", f"{plan.name}-transform"),
        *of_queue("Undelivered", f"{plan.name}-target-undelivered", dead_letters=True),
    ]
    for table in plan.tables:
        target = source_table(stack, table, key, stream=dynamodb.StreamViewType.NEW_AND_OLD_IMAGES)
        _target_role(stack, plan, table, target.table_arn, key.key_arn)
        around = Around(key, vpc, failures, buckets[table.landing.bucket], code)
        watched += forwarded(stack, plan, table, target, transform.function, around)
        rule = f"{plan.name}-{table.name}-target-failed"
        arrivals_to_topic(stack, f"{table.id}Failed", rule, [table.errors, failed_batches(table)], topic, failures)
        watched += of_error_prefix(table.id, rule)
    watch(stack, topic, f"{plan.name}-replicate-target", watched)
    return str(key.key_arn)


def _replicate(
    stack: cdk.Stack, plan: Plan, table: TablePlan, stream_arn: str, failures_arn: str, key_arn: str
) -> FunctionPlan:
    assumed = f"arn:{stack.partition}:iam::{plan.consumer_account}:role/{target_role(plan, table)}"
    return FunctionPlan(
        handler="replicate",
        name=f"{plan.name}-{table.name}-replicate",
        purpose="Writes records of the stream into the table of the other account, each once",
        role_name=function_role(plan, table),
        environment={
            "DDB_LAKE_TARGET_TABLE": table.name,
            "DDB_LAKE_TARGET_ROLE_ARN": assumed,
            "DDB_LAKE_EXTERNAL_ID": table.external_id,
            **({} if table.keyed_by_sequence else {"DDB_LAKE_TARGET_KEY": table.key_names}),
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
            key_use("UseStreamKey", ("kms:Decrypt",), key_arn, "kinesis", stack.region),
            *failure_calls(failures_arn, key_arn, stack.region),
        ],
        gateways=("dynamodb",),
        timeout_s=120,
    )


def _target_role(stack: cdk.Stack, plan: Plan, table: TablePlan, table_arn: str, key_arn: str) -> None:
    """The role that the other account's function becomes."""
    function = f"arn:{stack.partition}:iam::{plan.producer_account}:role/{function_role(plan, table)}"
    role = iam.Role(
        stack,
        f"{table.id}Target",
        role_name=target_role(plan, table),
        assumed_by=iam.AccountPrincipal(plan.producer_account).with_conditions(
            {"ArnEquals": {"aws:PrincipalArn": function}, "StringEquals": {"sts:ExternalId": table.external_id}}
        ),
        description="Writes the table for the other account's function",
    )
    attach(role, _target_calls(stack, table, table_arn, key_arn))


def _target_calls(stack: cdk.Stack, table: TablePlan, table_arn: str, key_arn: str) -> list[Statement]:
    """What the replicate handler calls with the target role: conditional puts where the newest record of a key stays.

    A batch in which DynamoDB refuses an item is put one by one as well.
    """
    batches = ("dynamodb:BatchGetItem", "dynamodb:BatchWriteItem") if table.keyed_by_sequence else ()
    return [
        Statement("WriteItems", (*batches, "dynamodb:PutItem"), (table_arn,)),
        key_use("UseTableKey", ("kms:Decrypt",), key_arn, "dynamodb", stack.region),
    ]
