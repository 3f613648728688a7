"""One customer-managed key for each stack, and its policy for services and other accounts."""

from __future__ import annotations

from typing import Any

import aws_cdk as cdk
from aws_cdk import aws_iam as iam
from aws_cdk import aws_kms as kms
from constructs import Construct

from ddb_lake.infra.config import Whose
from ddb_lake.infra.deployment import Deployment


def data_key(scope: Construct, deployment: Deployment, alias: str, *, of: Whose | None) -> kms.IKey:
    """The key of a stack: rotated yearly, retained when the stack is deleted. Or the adopted key, in its account and Region.

    `of`: whose account the stack is in; None in another Region. An adopted key needs the statements of `service_statements`
    in its policy, which the stack does not change.
    """
    adopted = deployment.settings.adopted_key(of) if of else None
    if adopted:
        return kms.Key.from_key_arn(scope, "Key", adopted)
    key = kms.Key(
        scope,
        "Key",
        alias=f"alias/{deployment.name}-{alias}",
        description=f"{deployment.name}: data of the {alias} stack",
        enable_key_rotation=True,
        pending_window=cdk.Duration.days(30),
        removal_policy=cdk.RemovalPolicy.RETAIN,
    )
    for statement in service_statements(scope, deployment):
        key.add_to_resource_policy(statement)
    return key


def endpoint_domain(stack: cdk.Stack, region: str | None = None) -> str:
    """What follows a service's name in its endpoint, in the stack's partition: `Estate.domain` of a stack."""
    return f"{region or stack.region}.{stack.url_suffix}"


def rules_of(stack: cdk.Stack, deployment: Deployment) -> str:
    """The ARN pattern of the deployment's rules of EventBridge."""
    return f"arn:{stack.partition}:events:{stack.region}:{stack.account}:rule/{deployment.name}-*"


def service_statements(scope: Construct, deployment: Deployment) -> list[iam.PolicyStatement]:
    """Statements for AWS services that use the key without a role: Logs, alarms and events.

    EventBridge sends no `aws:SourceAccount` and no `aws:SourceArn` when SNS encrypts its notification, and a condition on
    them loses the notification without an error; SNS's encryption context limits that statement. For SQS, EventBridge sends
    `aws:SourceArn`. https://docs.aws.amazon.com/sns/latest/dg/sns-key-management.html
    https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/sqs-key-management.html
    """
    stack = cdk.Stack.of(scope)
    ours = f"{stack.region}:{stack.account}"
    groups = f"arn:{stack.partition}:logs:{ours}:log-group:/*/{deployment.name}-*"
    topics = f"arn:{stack.partition}:sns:{ours}:{deployment.name}-*"
    events = iam.ServicePrincipal("events.amazonaws.com")
    return [
        iam.PolicyStatement(
            sid="EncryptLogGroups",
            principals=[iam.ServicePrincipal(f"logs.{endpoint_domain(stack)}")],
            actions=["kms:Encrypt*", "kms:Decrypt*", "kms:ReEncrypt*", "kms:GenerateDataKey*", "kms:Describe*"],
            resources=["*"],  # in a key's policy: this key
            conditions={"ArnLike": {"kms:EncryptionContext:aws:logs:arn": groups}},
        ),
        _delivery(
            "AlarmsToTopics",
            iam.ServicePrincipal("cloudwatch.amazonaws.com"),
            {"StringEquals": {"aws:SourceAccount": stack.account}},
        ),
        _delivery("EventsToTopics", events, {"ArnLike": {"kms:EncryptionContext:aws:sns:topicArn": topics}}),
        _delivery("EventsToQueues", events, {"ArnLike": {"aws:SourceArn": rules_of(stack, deployment)}}),
    ]


def _delivery(sid: str, service: iam.IPrincipal, conditions: dict[str, Any]) -> iam.PolicyStatement:
    """What a service needs to send to an encrypted topic or queue."""
    return iam.PolicyStatement(
        sid=sid,
        principals=[service],
        actions=["kms:Decrypt", "kms:GenerateDataKey"],
        resources=["*"],
        conditions=conditions,
    )


def allow_other_account(
    key: kms.IKey, stack: cdk.Stack, sid: str, account: str, roles: list[str], actions: list[str]
) -> None:
    """Let roles of another account use the key, for objects in S3 only.

    The roles are named in a condition, not as principals, so that the key can be made before they exist.
    """
    key.add_to_resource_policy(
        iam.PolicyStatement(
            sid=sid,
            principals=[iam.AccountPrincipal(account)],
            actions=actions,
            resources=["*"],
            conditions={
                "ArnEquals": {"aws:PrincipalArn": [f"arn:{stack.partition}:iam::{account}:role/{r}" for r in roles]},
                "StringEquals": {"kms:ViaService": f"s3.{endpoint_domain(stack)}"},
            },
        )
    )
