"""One customer-managed key for each stack, and its policy for services and other accounts."""

from __future__ import annotations

from typing import Any

import aws_cdk as cdk
from aws_cdk import aws_iam as iam
from aws_cdk import aws_kms as kms
from constructs import Construct

from ddb_lake.infra.deployment import Deployment


def data_key(scope: Construct, deployment: Deployment, alias: str) -> kms.IKey:
    """The key of a stack: rotated yearly, retained when the stack is deleted. Or the adopted key.

    An adopted key needs the statements of `service_statements` in its policy: it is not ours to change.
    """
    if deployment.settings.adopt.key_arn:
        return kms.Key.from_key_arn(scope, "Key", deployment.settings.adopt.key_arn)
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


def service_statements(scope: Construct, deployment: Deployment) -> list[iam.PolicyStatement]:
    """Statements for AWS services that use the key without a role: Logs, alarms to the topic, events to the queue."""
    stack = cdk.Stack.of(scope)
    groups = f"arn:{stack.partition}:logs:{stack.region}:{stack.account}:log-group:/*/{deployment.name}-*"
    account: dict[str, Any] = {"StringEquals": {"aws:SourceAccount": stack.account}}
    return [
        iam.PolicyStatement(
            sid="EncryptLogGroups",
            principals=[iam.ServicePrincipal(f"logs.{stack.region}.amazonaws.com")],
            actions=["kms:Encrypt", "kms:Decrypt", "kms:GenerateDataKey", "kms:DescribeKey"],
            resources=["*"],  # in a key's policy: this key
            conditions={"ArnLike": {"kms:EncryptionContext:aws:logs:arn": groups}},
        ),
        iam.PolicyStatement(
            sid="DeliverAlarmsAndEvents",
            principals=[iam.ServicePrincipal("cloudwatch.amazonaws.com"), iam.ServicePrincipal("events.amazonaws.com")],
            actions=["kms:Decrypt", "kms:GenerateDataKey"],
            resources=["*"],
            conditions=account,
        ),
    ]


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
                "StringEquals": {"kms:ViaService": f"s3.{stack.region}.amazonaws.com"},
            },
        )
    )
