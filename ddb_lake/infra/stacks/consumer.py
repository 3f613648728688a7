"""Two accounts, the lake's: the buckets that the source's account delivers and exports into."""

from __future__ import annotations

import aws_cdk as cdk

from ddb_lake.infra.constructs.alarms import alarm_topic, create_alarms, queue_alarms
from ddb_lake.infra.constructs.buckets import allow_writers, landing_buckets
from ddb_lake.infra.constructs.feeds import firehose_role
from ddb_lake.infra.constructs.keys import allow_other_account, data_key
from ddb_lake.infra.constructs.queues import Arrivals, dead_letters, notify_of_failed_objects
from ddb_lake.infra.deployment import Deployment
from ddb_lake.infra.packaging import CodeSource


def build(stack: cdk.Stack, deployment: Deployment, code: CodeSource) -> str:  # noqa: ARG001  # one signature for every topology
    """Fill the stack. Gives the ARN of the key its buckets are under."""
    key = data_key(stack, deployment, "consumer", of="consumer")
    topic = alarm_topic(stack, key, f"{deployment.name}-landing-alarms")
    failures = dead_letters(stack, "Undelivered", f"{deployment.name}-landing-undelivered", key)
    alarms = queue_alarms("Undelivered", f"{deployment.name}-landing-undelivered", dead_letters=True)
    for name, bucket in landing_buckets(stack, deployment, key, deployment.consumer_account).items():
        writers = {}
        for table in deployment.tables:
            if name == table.landing.bucket:
                prefixes = [table.landing.prefix, table.errors.prefix]
                writers[f"{table.id}Delivery"] = (firehose_role(deployment, table), prefixes)
            if name == table.exports.bucket:
                writers[f"{table.id}Export"] = (table.source_role, [f"{table.exports.prefix}AWSDynamoDB/"])
        allow_writers(bucket, stack, deployment.producer_account, writers)
    roles = [role for table in deployment.tables for role in (firehose_role(deployment, table), table.source_role)]
    allow_other_account(
        key,
        stack,
        "WritersOfTheSourceAccount",
        deployment.producer_account,
        list(dict.fromkeys(roles)),
        ["kms:GenerateDataKey", "kms:Decrypt"],
    )
    for table in deployment.tables:
        rule = f"{deployment.name}-{table.name}-landing-failed"
        alarms += notify_of_failed_objects(stack, deployment, table, Arrivals(rule, [table.errors]), topic, failures)
    create_alarms(stack, topic, f"{deployment.name}-consumer", alarms)
    cdk.CfnOutput(
        stack,
        "KeyArn",
        value=key.key_arn,
        description="`export.kms_key_id`, and `adopt.key_account_arn` of the producer",
    )
    return str(key.key_arn)
