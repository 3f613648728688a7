"""DynamoDB Streams → forward function → Firehose (direct puts) → bucket."""

from __future__ import annotations

from dataclasses import dataclass

import aws_cdk as cdk
from aws_cdk import aws_dynamodb as dynamodb
from aws_cdk import aws_kms as kms
from aws_cdk import aws_lambda as lambda_
from aws_cdk import aws_s3 as s3
from aws_cdk import aws_sqs as sqs
from constructs import Construct

from ddb_lake.core.operations.policies import Statement, key_use
from ddb_lake.infra.constructs.acknowledgements import acknowledge
from ddb_lake.infra.constructs.delivery import DeliveryPlan, delivery_stream, finding
from ddb_lake.infra.constructs.feeds import firehose_role
from ddb_lake.infra.constructs.functions import (
    FAILED_BATCHES,
    FunctionPlan,
    StreamMapping,
    failure_calls,
    feed,
    function,
)
from ddb_lake.infra.constructs.network import Network
from ddb_lake.infra.constructs.watching import Watched, of_delivery, of_function
from ddb_lake.infra.packaging import CodeSource
from ddb_lake.infra.plan import DATED, Location, Plan, TablePlan

_DELIVERIES_MEBIBYTES = 256


@dataclass(frozen=True, slots=True)
class Around:
    """What a stack has already made, and forwarding uses."""

    key: kms.IKey
    vpc: Network
    failures: sqs.Queue
    bucket: s3.IBucket
    code: CodeSource


def oversize(table: TablePlan) -> Location:
    """Where records go that Firehose would not take for their size. Below the landing prefix: the lake reads them."""
    return Location(table.landing.bucket, f"{table.landing.prefix}oversize/")


def failed_batches(table: TablePlan) -> Location:
    """The place where Lambda puts batches that the function could not handle, of every table of this bucket."""
    return Location(table.landing.bucket, FAILED_BATCHES)


def forwarded(
    scope: Construct,
    plan: Plan,
    table: TablePlan,
    source: dynamodb.ITable,
    transform: lambda_.IFunction,
    around: Around,
    files: Location | None = None,
    extension: str = ".json.gz",
) -> list[Watched]:
    """Forward a table's stream to S3 through `transform`.

    `files`: where what the function makes of the records goes, if that is not for the lake; the records as they came in
    then land beside it, where the lake looks for them.
    """
    stack = cdk.Stack.of(scope)
    name = f"{plan.name}-{table.name}-delivery"
    delivery_stream(
        scope,
        f"{table.id}Delivery",
        plan,
        DeliveryPlan(
            name=name,
            role_name=firehose_role(plan, table),
            landing=files or table.landing,
            errors=table.errors,
            prefix=f"{files.prefix}{DATED}" if files else table.delivery_prefix,
            error_prefix=table.error_prefix,
            bucket_arn=around.bucket.bucket_arn,
            bucket_key_arn=around.key.key_arn,
            backup=table.landing if files else None,
            extension=extension,
        ),
        around.key,
        transform,
    )
    forwarder = f"{plan.name}-{table.name}-forward"
    big = oversize(table)
    objects = f"{around.bucket.bucket_arn}/{big.prefix}*"
    made = FunctionPlan(
        handler="forward",
        name=forwarder,
        purpose="Forwards stream records to Firehose",
        environment={"DDB_LAKE_DELIVERY_STREAM": name, "DDB_LAKE_OVERSIZE_URI": f"s3://{big.bucket}/{big.prefix}"},
        calls=forward_calls(stack, name, objects, around.key.key_arn),
        service_calls=stream_calls(stack, source, around),
        gateways=("s3",),
        timeout_s=120,
        memory_mb=_DELIVERIES_MEBIBYTES,
    )
    built = function(scope, f"{table.id}Forward", made, around.key, around.vpc, around.code)
    acknowledge(built.policy, finding(stack, objects), "One object for each record too large for Firehose")
    mapping = StreamMapping(arn=str(source.table_stream_arn), starting_position="TRIM_HORIZON", batch_size=500)
    feed(scope, f"{table.id}Stream", built, mapping, around.bucket.bucket_arn)
    alarms = plan.settings.alarms
    return [
        *of_function(f"{table.id}Forward", forwarder, alarms.behind_minutes),
        *of_delivery(table.id, name, alarms.freshness_minutes, from_kinesis=False),
    ]


def forward_calls(stack: cdk.Stack, delivery: str, objects: str, key_arn: str) -> list[Statement]:
    """What the forward handler calls. Putting to an encrypted delivery stream needs its key as well."""
    arn = stack.format_arn(service="firehose", resource="deliverystream", resource_name=delivery)
    return [
        Statement("PutRecords", ("firehose:PutRecordBatch",), (arn,)),
        Statement("KeepOversize", ("s3:PutObject",), (objects,)),
        key_use("Encrypt", ("kms:GenerateDataKey", "kms:Decrypt"), key_arn, "firehose", stack.region),
        key_use("EncryptOversize", ("kms:GenerateDataKey",), key_arn, "s3", stack.region),
    ]


def stream_calls(stack: cdk.Stack, source: dynamodb.ITable, around: Around) -> list[Statement]:
    """The permissions of the Lambda service to read a table's stream and to store failed batches."""
    key_arn = str(around.key.key_arn)
    return [
        Statement(
            "ReadStream",
            ("dynamodb:DescribeStream", "dynamodb:GetRecords", "dynamodb:GetShardIterator"),
            (str(source.table_stream_arn),),
        ),
        # AWS grants the listing of streams on no single one.
        Statement("ListStreams", ("dynamodb:ListStreams",), ("*",)),
        key_use("UseStreamKey", ("kms:Decrypt",), key_arn, "dynamodb", stack.region),
        *failure_calls(around.bucket.bucket_arn, key_arn, stack.region),
    ]
