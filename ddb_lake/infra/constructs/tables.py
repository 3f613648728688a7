"""Source tables, and the Kinesis streams their changes go to."""

from __future__ import annotations

from dataclasses import dataclass

import aws_cdk as cdk
from aws_cdk import aws_dynamodb as dynamodb
from aws_cdk import aws_kinesis as kinesis
from aws_cdk import aws_kms as kms
from constructs import Construct

from ddb_lake.infra.constructs.acknowledgements import acknowledge
from ddb_lake.infra.deployment import Deployment, TableDeployment

_TYPES = {
    "S": dynamodb.AttributeType.STRING,
    "N": dynamodb.AttributeType.NUMBER,
    "B": dynamodb.AttributeType.BINARY,
}


@dataclass(frozen=True, slots=True)
class Capture:
    """A table and the Kinesis stream of its changes."""

    table_arn: str
    stream: kinesis.Stream
    stream_name: str


def capture(scope: Construct, deployment: Deployment, table: TableDeployment, key: kms.IKey) -> Capture:
    """Create the table with its Kinesis stream.

    An adopted table is left as it is: CloudFormation cannot switch its streaming on, so that the command that does is
    an output of the stack.
    """
    stream_name = f"{deployment.name}-{table.name}-changes"
    on_demand = table.feed.shards == 0
    stream = kinesis.Stream(
        scope,
        f"{table.id}Changes",
        stream_name=stream_name,
        stream_mode=kinesis.StreamMode.ON_DEMAND if on_demand else kinesis.StreamMode.PROVISIONED,
        shard_count=None if on_demand else table.feed.shards,
        retention_period=cdk.Duration.hours(table.feed.retention_hours),
        encryption=kinesis.StreamEncryption.KMS,
        encryption_key=key,
        removal_policy=cdk.RemovalPolicy.DESTROY,
    )
    acknowledge(stream, "AwsSolutions-KDS3", "A customer-managed key is meant: its policy and its rotation are ours")
    if not table.feed.adopt:
        return Capture(source_table(scope, table, key, stream).table_arn, stream, stream_name)
    stack = cdk.Stack.of(scope)
    cdk.CfnOutput(
        stack,
        f"{table.id}EnableStreaming",
        description=f"Run once: sends the changes of the adopted table {table.id} to the stream",
        value=f"aws dynamodb enable-kinesis-streaming-destination --table-name {table.name} --stream-arn "
        f"{stream.stream_arn} --enable-kinesis-streaming-configuration "
        "ApproximateCreationDateTimePrecision=MICROSECOND",
    )
    return Capture(table_arn(stack, table.name), stream, stream_name)


def source_table(
    scope: Construct,
    table: TableDeployment,
    key: kms.IKey,
    kinesis_stream: kinesis.IStream | None = None,
    stream: dynamodb.StreamViewType | None = None,
) -> dynamodb.ITable:
    """Create the table: point-in-time recovery, deletion protection, encrypted by `key`, change times in microseconds.

    `dynamodb.Table` and not `TableV2`, which cannot say how precise the times in Kinesis are. An adopted table is left as it
    is: its stream is the one that the deployment names.
    """
    if table.feed.adopt:
        arn = table_arn(cdk.Stack.of(scope), table.name)
        return dynamodb.Table.from_table_attributes(
            scope, f"{table.id}Table", table_arn=arn, table_stream_arn=table.feed.stream_arn
        )
    attributes = [dynamodb.Attribute(name=name, type=_TYPES[kind]) for name, kind in table.key]
    return dynamodb.Table(
        scope,
        f"{table.id}Table",
        table_name=table.name,
        partition_key=attributes[0],
        sort_key=attributes[1] if len(attributes) > 1 else None,
        billing_mode=dynamodb.BillingMode.PAY_PER_REQUEST,
        encryption=dynamodb.TableEncryption.CUSTOMER_MANAGED,
        encryption_key=key,
        point_in_time_recovery_specification=dynamodb.PointInTimeRecoverySpecification(
            point_in_time_recovery_enabled=True
        ),
        deletion_protection=True,
        kinesis_stream=kinesis_stream,
        kinesis_precision_timestamp=(
            dynamodb.ApproximateCreationDateTimePrecision.MICROSECOND if kinesis_stream else None
        ),
        stream=stream,
        removal_policy=cdk.RemovalPolicy.RETAIN,
    )


def table_arn(stack: cdk.Stack, name: str, account: str | None = None, region: str | None = None) -> str:
    """The ARN of a table by its name."""
    return f"arn:{stack.partition}:dynamodb:{region or stack.region}:{account or stack.account}:table/{name}"


def kinesis_arn(stack: cdk.Stack, table: TableDeployment, account: str) -> str | None:
    """The ARN of the Kinesis stream that the lake reads directly; None if it reads none."""
    name = table.stream.kinesis if table.stream else None
    if name is None or name.startswith("arn:"):
        return name
    return f"arn:{stack.partition}:kinesis:{stack.region}:{account}:stream/{name}"
