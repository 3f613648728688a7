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
from ddb_lake.infra.constructs.alarms import AlarmProps, delivery_alarms, function_alarms
from ddb_lake.infra.constructs.delivery import DeliveryProps, delivery_stream, finding
from ddb_lake.infra.constructs.feeds import firehose_role
from ddb_lake.infra.constructs.functions import (
    FAILED_BATCHES,
    FunctionProps,
    StreamMapping,
    failure_calls,
    function,
    map_stream,
)
from ddb_lake.infra.constructs.keys import endpoint_domain
from ddb_lake.infra.constructs.network import Network
from ddb_lake.infra.deployment import DATED, Deployment, Location, TableDeployment
from ddb_lake.infra.packaging import CodeSource

_DELIVERIES_MEBIBYTES = 256


@dataclass(frozen=True, slots=True)
class StackResources:
    """Resources of a stack that forwarding uses."""

    deployment: Deployment
    key: kms.IKey
    vpc: Network
    failures: sqs.Queue
    bucket: s3.IBucket
    code: CodeSource


@dataclass(frozen=True, slots=True)
class TransformedFiles:
    """Where Firehose writes the output of a function, if the lake does not read it."""

    location: Location
    extension: str


def oversize(table: TableDeployment) -> Location:
    """Where records larger than Firehose accepts are written: below the landing prefix, so that the lake reads them."""
    return Location(table.landing.bucket, f"{table.landing.prefix}oversize/")


def failed_batches(table: TableDeployment) -> Location:
    """Where Lambda writes batches that a function could not process, for all tables of this bucket."""
    return Location(table.landing.bucket, FAILED_BATCHES)


def forward_stream(
    scope: Construct,
    table: TableDeployment,
    source: dynamodb.ITable,
    transform: lambda_.IFunction,
    resources: StackResources,
    files: TransformedFiles | None = None,
) -> list[AlarmProps]:
    """Forward a table's DynamoDB stream to S3 through `transform`. Returns the alarms.

    With `files`, Firehose writes the function's output there, and the records as they came in to the landing prefix.
    """
    deployment, stack = resources.deployment, cdk.Stack.of(scope)
    name = f"{deployment.name}-{table.name}-delivery"
    props = DeliveryProps(
        name=name,
        role_name=firehose_role(deployment, table),
        landing=files.location if files else table.landing,
        errors=table.errors,
        prefix=f"{files.location.prefix}{DATED}" if files else table.delivery_prefix,
        error_prefix=table.error_prefix,
        bucket_arn=resources.bucket.bucket_arn,
        bucket_key_arn=resources.key.key_arn,
        transform=transform,
        backup=table.landing if files else None,
        extension=files.extension if files else ".json.gz",
    )
    delivery_stream(scope, f"{table.id}Delivery", deployment, props, resources.key)
    forwarder = f"{deployment.name}-{table.name}-forward"
    big = oversize(table)
    objects = f"{resources.bucket.bucket_arn}/{big.prefix}*"
    function_props = FunctionProps(
        handler="forward",
        name=forwarder,
        purpose="Forwards stream records to Firehose",
        settings=deployment.settings.functions,
        environment={
            "DDB_LAKE_DELIVERY_STREAM": name,
            "DDB_LAKE_OVERSIZE_URI": f"s3://{big.bucket}/{big.prefix}",
            "DDB_LAKE_BUCKET_OWNER": stack.account,
        },
        calls=forward_calls(stack, name, objects, resources.key.key_arn),
        service_calls=stream_calls(stack, source, resources),
        gateways=("s3",),
        timeout_s=120,
        memory_mb=_DELIVERIES_MEBIBYTES,
    )
    built = function(scope, f"{table.id}Forward", function_props, resources.key, resources.vpc, resources.code)
    acknowledge(built.policy, finding(stack, objects), "One object for each record too large for Firehose")
    mapping = StreamMapping(arn=str(source.table_stream_arn), starting_position="TRIM_HORIZON", batch_size=500)
    map_stream(scope, f"{table.id}Stream", built, mapping, resources.bucket.bucket_arn)
    limits = deployment.settings.alarms
    return [
        *function_alarms(f"{table.id}Forward", forwarder, limits.behind_minutes),
        *delivery_alarms(table.id, name, limits.freshness_minutes, from_kinesis=False),
    ]


def forward_calls(stack: cdk.Stack, delivery: str, objects: str, key_arn: str) -> list[Statement]:
    """The permissions for what the forward handler calls. Puts to an encrypted delivery stream also require its key.

    https://docs.aws.amazon.com/firehose/latest/dev/encryption.html
    """
    arn = stack.format_arn(service="firehose", resource="deliverystream", resource_name=delivery)
    return [
        Statement("PutRecords", ("firehose:PutRecordBatch",), (arn,)),
        Statement("KeepOversize", ("s3:PutObject",), (objects,)),
        key_use("Encrypt", ("kms:GenerateDataKey", "kms:Decrypt"), key_arn, "firehose", endpoint_domain(stack)),
        key_use("EncryptOversize", ("kms:GenerateDataKey",), key_arn, "s3", endpoint_domain(stack)),
    ]


def stream_calls(stack: cdk.Stack, source: dynamodb.ITable, resources: StackResources) -> list[Statement]:
    """The permissions of the Lambda service to read a table's stream and to store failed batches."""
    key_arn = str(resources.key.key_arn)
    return [
        Statement(
            "ReadStream",
            ("dynamodb:DescribeStream", "dynamodb:GetRecords", "dynamodb:GetShardIterator"),
            (str(source.table_stream_arn),),
        ),
        # ListStreams has no resource-level permission.
        Statement("ListStreams", ("dynamodb:ListStreams",), ("*",)),
        key_use("UseStreamKey", ("kms:Decrypt",), key_arn, "dynamodb", endpoint_domain(stack)),
        *failure_calls(resources.bucket.bucket_arn, key_arn, stack),
    ]
