"""The source's account of two: table → Kinesis → Firehose with the transform function → the other account's bucket.

Also the role through which the lake's account starts exports. Deployable before or after `consumer`: each names the
other's roles and bucket, neither needs them to exist.
"""

from __future__ import annotations

import aws_cdk as cdk
from aws_cdk import aws_iam as iam

from ddb_lake.core.operations.policies import (
    Estate,
    Place,
    Source,
    statements,
)
from ddb_lake.infra.constructs.acknowledgements import acknowledge
from ddb_lake.infra.constructs.delivery import finding, other_keys
from ddb_lake.infra.constructs.feeds import transform_function, watched_feed
from ddb_lake.infra.constructs.keys import data_key
from ddb_lake.infra.constructs.network import network
from ddb_lake.infra.constructs.roles import attach
from ddb_lake.infra.constructs.tables import table_arn
from ddb_lake.infra.constructs.watching import alarm_topic, of_function, watch
from ddb_lake.infra.packaging import CodeSource
from ddb_lake.infra.plan import Plan, TablePlan
from ddb_lake.infra.stacks.same_account import ENDPOINTS


def build(stack: cdk.Stack, plan: Plan, code: CodeSource) -> str:
    """Fill the stack. Gives the ARN of its key."""
    key = data_key(stack, plan, "producer")
    vpc = network(stack, plan, key, ENDPOINTS, ("s3", "dynamodb"))
    topic = alarm_topic(stack, key, f"{plan.name}-alarms")
    transform = transform_function(stack, plan, key, vpc, code)
    watched = of_function("Transform", f"{plan.name}-transform")
    for table in plan.tables:
        bucket = f"arn:{stack.partition}:s3:::{table.landing.bucket}"
        watched += watched_feed(stack, plan, table, key, transform, bucket, None)
    for number, role_name in enumerate(dict.fromkeys(table.source_role for table in plan.tables)):
        served = [table for table in plan.tables if table.source_role == role_name]
        _source_role(stack, plan, f"Source{number or ''}", role_name, served, key.key_arn)
    watch(stack, topic, f"{plan.name}-producer", watched)
    return str(key.key_arn)


def _source_role(stack: cdk.Stack, plan: Plan, id: str, name: str, tables: list[TablePlan], key_arn: str) -> None:
    """The role of the full load: assumed by the lake's task, with the external id of the lake's configuration."""
    task = f"arn:{stack.partition}:iam::{plan.consumer_account}:role/{plan.task_role}"
    principal = iam.AccountPrincipal(plan.consumer_account).with_conditions(
        {
            "ArnEquals": {"aws:PrincipalArn": task},
            "StringEquals": {"sts:ExternalId": list(dict.fromkeys(table.external_id for table in tables))},
        }
    )
    role = iam.Role(
        stack,
        id,
        role_name=name,
        assumed_by=principal,
        description="Exports, describes and reads the source tables for the lake",
    )
    policy = attach(role, statements("source", _estate(stack, plan, tables, key_arn)))
    for table in tables:
        arn = table_arn(stack, table.name)
        acknowledge(policy, finding(stack, f"{arn}/export/*"), "An export's ARN ends in an id that DynamoDB chooses")
        exported = f"arn:{stack.partition}:s3:::{table.exports.bucket}/{table.exports.prefix}AWSDynamoDB/*"
        acknowledge(policy, finding(stack, exported), "DynamoDB chooses the names of an export's objects")
    acknowledge(policy, finding(stack, "*"), "CloudWatch has no resource-level permissions for reading metrics")
    if plan.settings.adopt.key_account_arn is None:
        other = other_keys(stack, plan.consumer_account)
        acknowledge(policy, finding(stack, other), "The other account's key policy decides; its key may not exist yet")


def _estate(stack: cdk.Stack, plan: Plan, tables: list[TablePlan], key_arn: str) -> Estate:
    other_key = plan.settings.adopt.key_account_arn or other_keys(stack, plan.consumer_account)
    return Estate(
        region=stack.region,
        sources=tuple(
            Source(
                table_arn(stack, table.name),
                None,
                key_arn,
                Place(f"arn:{stack.partition}:s3:::{table.exports.bucket}", table.exports.prefix, other_key),
            )
            for table in tables
        ),
    )
