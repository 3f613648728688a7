"""Two accounts, the source's: table → Kinesis → Firehose with the transform function → the other account's bucket.

Also the role through which the lake's account starts exports. Deployable before or after `consumer`: each names the
other's roles and bucket, neither needs them to exist.
"""

from __future__ import annotations

import aws_cdk as cdk
from aws_cdk import aws_iam as iam

from ddb_lake.core.operations.policies import Estate, Place, Source, statements
from ddb_lake.infra.constructs.acknowledgements import acknowledge
from ddb_lake.infra.constructs.alarms import alarm_topic, create_alarms, function_alarms
from ddb_lake.infra.constructs.delivery import finding, other_keys
from ddb_lake.infra.constructs.feeds import LandingBucket, deliver_changes, transform_function
from ddb_lake.infra.constructs.keys import data_key
from ddb_lake.infra.constructs.network import network
from ddb_lake.infra.constructs.ordering import start_last
from ddb_lake.infra.constructs.roles import attach
from ddb_lake.infra.constructs.tables import kinesis_arn, table_arn
from ddb_lake.infra.deployment import Deployment, TableDeployment
from ddb_lake.infra.packaging import CodeSource
from ddb_lake.infra.stacks.same_account import ENDPOINTS


def build(stack: cdk.Stack, deployment: Deployment, code: CodeSource) -> str:
    """Fill the stack. Gives the ARN of its key."""
    key = data_key(stack, deployment, "producer", of="producer")
    vpc = network(stack, deployment, key, ENDPOINTS, ("s3", "dynamodb"))
    topic = alarm_topic(stack, key, f"{deployment.name}-alarms")
    transform = transform_function(stack, deployment, key, vpc, code)
    alarms = function_alarms("Transform", f"{deployment.name}-transform")
    for table in deployment.tables:
        bucket = f"arn:{stack.partition}:s3:::{table.landing.bucket}"
        alarms += deliver_changes(stack, deployment, table, key, transform, LandingBucket(bucket, None))
    for number, role_name in enumerate(dict.fromkeys(table.source_role for table in deployment.tables)):
        served = [table for table in deployment.tables if table.source_role == role_name]
        _source_role(stack, deployment, f"Source{number or ''}", role_name, served, key.key_arn)
    create_alarms(stack, topic, f"{deployment.name}-producer", alarms)
    start_last(stack)
    return str(key.key_arn)


def _source_role(
    stack: cdk.Stack, deployment: Deployment, id: str, name: str, tables: list[TableDeployment], key_arn: str
) -> None:
    """The role of the full load: assumed by the lake's roles, with the external id of the lake's configuration."""
    account = f"arn:{stack.partition}:iam::{deployment.consumer_account}"
    principal = iam.AccountPrincipal(deployment.consumer_account).with_conditions(
        {
            "ArnEquals": {"aws:PrincipalArn": [f"{account}:role/{name}" for name in deployment.lake_roles]},
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
    policy = attach(role, statements("source", _estate(stack, deployment, tables, key_arn)))
    for table in tables:
        arn = table_arn(stack, table.name)
        acknowledge(policy, finding(stack, f"{arn}/export/*"), "An export's ARN ends in an id that DynamoDB chooses")
        exported = f"arn:{stack.partition}:s3:::{table.exports.bucket}/{table.exports.prefix}AWSDynamoDB/*"
        acknowledge(policy, finding(stack, exported), "DynamoDB chooses the names of an export's objects")
    acknowledge(policy, finding(stack, "*"), "CloudWatch has no resource-level permissions for reading metrics")
    if deployment.settings.adopt.key_account_arn is None:
        other = other_keys(stack, deployment.consumer_account)
        acknowledge(policy, finding(stack, other), "The other account's key policy decides; its key may not exist yet")


def _estate(stack: cdk.Stack, deployment: Deployment, tables: list[TableDeployment], key_arn: str) -> Estate:
    other_key = deployment.settings.adopt.key_account_arn or other_keys(stack, deployment.consumer_account)
    return Estate(
        region=stack.region,
        dns_suffix=stack.url_suffix,
        sources=tuple(
            Source(
                table_arn(stack, table.name),
                None,
                key_arn,
                Place(f"arn:{stack.partition}:s3:::{table.exports.bucket}", table.exports.prefix, other_key),
                streams=table.stream is not None,
                kinesis_arn=kinesis_arn(stack, table, deployment.producer_account),
                fan_out=table.stream.fan_out if table.stream else None,
            )
            for table in tables
        ),
    )
