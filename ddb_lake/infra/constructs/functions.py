"""Lambda functions: one role each, in the private subnets, no payload in their logs, reserved concurrency where configured.

A function's policy has two parts: `calls` for its handler, which a test compares with the handler's code, and the
permissions that the Lambda service uses for it (logs, network interfaces, decrypting the environment).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import aws_cdk as cdk
from aws_cdk import aws_ec2 as ec2
from aws_cdk import aws_iam as iam
from aws_cdk import aws_kms as kms
from aws_cdk import aws_lambda as lambda_
from constructs import Construct

from ddb_lake.core.operations.policies import Statement, key_use
from ddb_lake.infra.config import FunctionSettings, Handler
from ddb_lake.infra.constructs.acknowledgements import acknowledge, skip_checkov
from ddb_lake.infra.constructs.delivery import finding
from ddb_lake.infra.constructs.keys import endpoint_domain
from ddb_lake.infra.constructs.logs import log_group
from ddb_lake.infra.constructs.network import Network
from ddb_lake.infra.constructs.roles import attach, role
from ddb_lake.infra.packaging import CodeSource

RUNTIME = lambda_.Runtime.PYTHON_3_14
_INTERFACES = (
    "ec2:CreateNetworkInterface",
    "ec2:DeleteNetworkInterface",
    "ec2:DescribeNetworkInterfaces",
    "ec2:DescribeSubnets",
    "ec2:AssignPrivateIpAddresses",
    "ec2:UnassignPrivateIpAddresses",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class FunctionProps:
    """The properties of one function. `handler`: a module of `ddb_lake.lambdas`. `calls`: the permissions for what it calls."""

    handler: Handler
    name: str
    purpose: str
    settings: FunctionSettings
    environment: Mapping[str, str] = field(default_factory=dict)
    calls: Sequence[Statement] = ()
    service_calls: Sequence[Statement] = ()
    gateways: Sequence[str] = ()
    memory_mb: int = 256
    timeout_s: int = 60
    role_name: str | None = None
    no_dead_letters: str = "invoked by a stream's mapping, which has its own failure destination"


@dataclass(frozen=True, slots=True)
class BuiltFunction:
    """A function, its role, its security group, and its policy, which must exist before the function is used."""

    function: lambda_.Function
    role: iam.Role
    group: ec2.SecurityGroup
    policy: iam.Policy


def function(
    scope: Construct, id: str, props: FunctionProps, key: kms.IKey, network: Network, code: CodeSource
) -> BuiltFunction:
    """Create a function in the private subnets of `network`, with its environment and logs encrypted by `key`."""
    stack = cdk.Stack.of(scope)
    within = Construct(scope, id)
    group = network.client_group(within, "Group", props.purpose, props.gateways)
    logs = log_group(within, "Logs", f"/lambda/{props.name}", key)
    owner = role(
        within,
        "Role",
        props.role_name or f"{props.name}-role",
        iam.ServicePrincipal("lambda.amazonaws.com"),
        props.purpose,
    )
    arn = stack.format_arn(
        service="lambda", resource="function", resource_name=props.name, arn_format=cdk.ArnFormat.COLON_RESOURCE_NAME
    )
    policy = attach(owner, [*props.calls, *props.service_calls, *_service(arn, logs.log_group_arn, key.key_arn)])
    policy.add_statements(_not_from_code(arn))
    _acknowledge_findings(policy)
    reserved = props.settings.reserved_concurrency.get(props.handler)
    built = lambda_.Function(
        within,
        "Function",
        function_name=props.name,
        description=props.purpose,
        runtime=RUNTIME,
        architecture=lambda_.Architecture.ARM_64,
        handler=f"ddb_lake.lambdas.{props.handler}.handler",
        code=code(stack, props.handler),
        role=owner.without_policy_updates(),
        environment=dict(props.environment),
        environment_encryption=key,
        log_group=logs,
        memory_size=props.memory_mb,
        timeout=cdk.Duration.seconds(props.timeout_s),
        reserved_concurrent_executions=reserved,
        tracing=lambda_.Tracing.ACTIVE,
        vpc=network.vpc,
        vpc_subnets=network.subnets,
        security_groups=[group],
    )
    built.node.add_dependency(policy)
    acknowledge(built, "Serverless-LambdaDLQ", props.no_dead_letters)
    skip_checkov(built.node.default_child, "CKV_AWS_116", props.no_dead_letters)
    if reserved is None:
        skip_checkov(
            built.node.default_child, "CKV_AWS_115", "A new account has no concurrency to reserve; see `functions`"
        )
    return BuiltFunction(built, owner, group, policy)


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamMapping:
    """An event source mapping from a stream.

    https://docs.aws.amazon.com/lambda/latest/dg/with-kinesis.html
    """

    arn: str
    starting_position: str
    batch_size: int
    window_s: int = 5
    attempts: int = 10
    age_s: int = 86_400
    parallel: int = 1


FAILED_BATCHES: Final = "aws/lambda/"
"""The prefix of failed batches in the bucket of a mapping's on-failure destination. Lambda fixes it.

https://docs.aws.amazon.com/lambda/latest/dg/services-dynamodb-errors.html
"""


def map_stream(scope: Construct, id: str, built: BuiltFunction, mapping: StreamMapping, failures_arn: str) -> None:
    """Invoke a function with the records of a stream. Failing batches are bisected, retried, and then written to a bucket.

    The objects contain the records, so `ddb-lake apply` can read them. To a queue or topic Lambda sends no records.
    https://docs.aws.amazon.com/lambda/latest/dg/kinesis-on-failure-destination.html
    """
    source = lambda_.CfnEventSourceMapping(
        scope,
        id,
        function_name=built.function.function_name,
        event_source_arn=mapping.arn,
        starting_position=mapping.starting_position,
        batch_size=mapping.batch_size,
        maximum_batching_window_in_seconds=mapping.window_s,
        bisect_batch_on_function_error=True,
        function_response_types=["ReportBatchItemFailures"],
        maximum_retry_attempts=mapping.attempts,
        maximum_record_age_in_seconds=mapping.age_s,
        parallelization_factor=mapping.parallel,
        destination_config=lambda_.CfnEventSourceMapping.DestinationConfigProperty(
            on_failure=lambda_.CfnEventSourceMapping.OnFailureProperty(destination=failures_arn)
        ),
    )
    source.node.add_dependency(built.policy)
    objects = f"{failures_arn}/{FAILED_BATCHES}*"
    acknowledge(built.policy, finding(cdk.Stack.of(scope), objects), "Lambda names the objects of failed batches")


def failure_calls(bucket_arn: str, key_arn: str, stack: cdk.Stack) -> list[Statement]:
    """The permissions of the Lambda service to put failed batches into a bucket with a KMS key.

    The bucket has to be in this account: a bucket of the same name that another account makes after it was deleted gets no
    records. https://docs.aws.amazon.com/lambda/latest/dg/kinesis-on-failure-destination.html
    """
    ours = {"StringEquals": {"s3:ResourceAccount": stack.account}}
    return [
        Statement("KeepFailedBatches", ("s3:PutObject",), (f"{bucket_arn}/{FAILED_BATCHES}*",), ours),
        Statement("ListFailedBatches", ("s3:ListBucket",), (bucket_arn,), ours),
        key_use("UseBucketKey", ("kms:GenerateDataKey",), key_arn, "s3", endpoint_domain(stack)),
    ]


def _service(function_arn: str, logs_arn: str, key_arn: str) -> list[Statement]:
    environment: dict[str, Any] = {"StringEquals": {"kms:EncryptionContext:aws:lambda:FunctionArn": function_arn}}
    return [
        Statement("WriteLogs", ("logs:CreateLogStream", "logs:PutLogEvents"), (logs_arn,)),
        Statement("DecryptEnvironment", ("kms:Decrypt",), (key_arn,), environment),
        Statement("ManageInterfaces", _INTERFACES, ("*",)),
        Statement("Trace", ("xray:PutTraceSegments", "xray:PutTelemetryRecords"), ("*",)),
    ]


def _not_from_code(function_arn: str) -> iam.PolicyStatement:
    """Deny the function's code the network interface actions, which only the Lambda service needs.

    https://docs.aws.amazon.com/lambda/latest/dg/configuration-vpc.html
    """
    return iam.PolicyStatement(
        sid="NotFromCode",
        effect=iam.Effect.DENY,
        actions=list(_INTERFACES),
        resources=["*"],
        conditions={"ArnEquals": {"lambda:SourceFunctionArn": function_arn}},
    )


def _acknowledge_findings(policy: iam.Policy) -> None:
    reason = "Lambda checks for the EC2 actions on all resources, and a Deny keeps the code from them; so X-Ray's"
    acknowledge(policy, "AwsSolutions-IAM5[Resource::*]", reason)
    skip_checkov(policy.node.default_child, "CKV_AWS_111", reason)
