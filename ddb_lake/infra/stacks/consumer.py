"""The lake's account of two: the buckets that the source's account delivers and exports into."""

from __future__ import annotations

import aws_cdk as cdk

from ddb_lake.infra.constructs.buckets import allow_writers, landing_buckets
from ddb_lake.infra.constructs.feeds import firehose_role
from ddb_lake.infra.constructs.keys import allow_other_account, data_key
from ddb_lake.infra.constructs.queues import arrivals_to_topic, dead_letters
from ddb_lake.infra.constructs.watching import alarm_topic, of_error_prefix, of_queue, watch
from ddb_lake.infra.packaging import CodeSource
from ddb_lake.infra.plan import Plan


def build(stack: cdk.Stack, plan: Plan, code: CodeSource) -> str:  # noqa: ARG001  # one signature for every topology
    """Fill the stack. Gives the ARN of the key its buckets are under."""
    key = data_key(stack, plan, "consumer")
    topic = alarm_topic(stack, key, f"{plan.name}-landing-alarms")
    failures = dead_letters(stack, "Undelivered", f"{plan.name}-landing-undelivered", key)
    watched = of_queue("Undelivered", f"{plan.name}-landing-undelivered", dead_letters=True)
    for name, made in landing_buckets(stack, plan, key).items():
        writers = {}
        for table in plan.tables:
            if name == table.landing.bucket:
                prefixes = [table.landing.prefix, table.errors.prefix]
                writers[f"{table.id}Delivery"] = (firehose_role(plan, table), prefixes)
            if name == table.exports.bucket:
                writers[f"{table.id}Export"] = (table.source_role, [f"{table.exports.prefix}AWSDynamoDB/"])
        allow_writers(made, stack, plan.producer_account, writers)
    roles = [role for table in plan.tables for role in (firehose_role(plan, table), table.source_role)]
    allow_other_account(
        key,
        stack,
        "WritersOfTheSourceAccount",
        plan.producer_account,
        list(dict.fromkeys(roles)),
        ["kms:GenerateDataKey", "kms:Decrypt"],
    )
    for table in plan.tables:
        rule = f"{plan.name}-{table.name}-landing-failed"
        arrivals_to_topic(stack, f"{table.id}Failed", rule, [table.errors], topic, failures)
        watched += of_error_prefix(table.id, rule)
    watch(stack, topic, f"{plan.name}-consumer", watched)
    cdk.CfnOutput(
        stack,
        "KeyArn",
        value=key.key_arn,
        description="`export.kms_key_id`, and `adopt.key_account_arn` of the producer",
    )
    return str(key.key_arn)
