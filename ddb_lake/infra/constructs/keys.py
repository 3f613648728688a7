"""One customer-managed key a stack, and who besides its own account may use it for what."""

from __future__ import annotations

from typing import Any

import aws_cdk as cdk
from aws_cdk import aws_iam as iam
from aws_cdk import aws_kms as kms
from constructs import Construct

from ddb_lake.infra.plan import Plan


def data_key(scope: Construct, plan: Plan, alias: str) -> kms.IKey:
    """The key of a stack, rotated yearly and kept when the stack goes; or the adopted one.

    An adopted key needs the statements of `service_statements` in its policy: it is not ours to change.
    """
    if plan.settings.adopt.key_arn:
        return kms.Key.from_key_arn(scope, "Key", plan.settings.adopt.key_arn)
    key = kms.Key(
        scope,
        "Key",
        alias=f"alias/{plan.name}-{alias}",
        description=f"{plan.name}: data of the {alias} stack",
        enable_key_rotation=True,
        pending_window=cdk.Duration.days(30),
        removal_policy=cdk.RemovalPolicy.RETAIN,
    )
    for statement in service_statements(scope, plan):
        key.add_to_resource_policy(statement)
    return key


def service_statements(scope: Construct, plan: Plan) -> list[iam.PolicyStatement]:
    """AWS services that use the key on nobody's behalf: Logs, alarms to the topic, events to the queue."""
    stack = cdk.Stack.of(scope)
    groups = f"arn:{stack.partition}:logs:{stack.region}:{stack.account}:log-group:/*/{plan.name}-*"
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
