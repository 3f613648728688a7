"""Everything in one account: table → Kinesis → Firehose with the transform function → bucket."""

from __future__ import annotations

import aws_cdk as cdk

from ddb_lake.infra.constructs.buckets import landing_buckets
from ddb_lake.infra.constructs.feeds import transform_function, watched_feed
from ddb_lake.infra.constructs.keys import data_key
from ddb_lake.infra.constructs.network import network
from ddb_lake.infra.constructs.queues import arrivals_to_topic, dead_letters
from ddb_lake.infra.constructs.watching import alarm_topic, of_error_prefix, of_function, of_queue, watch
from ddb_lake.infra.packaging import CodeSource
from ddb_lake.infra.plan import Plan

ENDPOINTS = ("kinesis-streams", "kinesis-firehose")
"""For the applications in the VPC that write to the table or the streams; the transform function calls nothing."""


def build(stack: cdk.Stack, plan: Plan, code: CodeSource) -> str:
    """Fill the stack. Gives the ARN of the key its buckets are under."""
    key = data_key(stack, plan, "same-account")
    vpc = network(stack, plan, key, ENDPOINTS, ("s3", "dynamodb"))
    buckets = landing_buckets(stack, plan, key)
    topic = alarm_topic(stack, key, f"{plan.name}-alarms")
    failures = dead_letters(stack, "Undelivered", f"{plan.name}-undelivered", key)
    transform = transform_function(stack, plan, key, vpc, code)
    watched = [
        *of_function("Transform", f"{plan.name}-transform"),
        *of_queue("Undelivered", f"{plan.name}-undelivered", dead_letters=True),
    ]
    for table in plan.tables:
        watched += watched_feed(
            stack, plan, table, key, transform, buckets[table.landing.bucket].bucket_arn, key.key_arn
        )
        rule = f"{plan.name}-{table.name}-failed"
        arrivals_to_topic(stack, f"{table.id}Failed", rule, [table.errors], topic, failures)
        watched += of_error_prefix(table.id, rule)
        cdk.CfnOutput(stack, f"{table.id}Bucket", value=table.landing.bucket, description="Where the changes land")
    watch(stack, topic, f"{plan.name}-same-account", watched)
    cdk.CfnOutput(stack, "KeyArn", value=key.key_arn, description="`export.kms_key_id` of the lake's configuration")
    return str(key.key_arn)
