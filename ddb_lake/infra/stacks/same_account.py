"""Everything in one account: table → Kinesis → Firehose with the transform function → bucket."""

from __future__ import annotations

import aws_cdk as cdk

from ddb_lake.infra.constructs.alarms import (
    alarm_topic,
    create_alarms,
    function_alarms,
    queue_alarms,
)
from ddb_lake.infra.constructs.buckets import landing_buckets
from ddb_lake.infra.constructs.feeds import LandingBucket, deliver_changes, transform_function
from ddb_lake.infra.constructs.keys import data_key
from ddb_lake.infra.constructs.network import network
from ddb_lake.infra.constructs.ordering import start_last
from ddb_lake.infra.constructs.queues import Arrivals, dead_letters, notify_of_failed_objects
from ddb_lake.infra.deployment import Deployment
from ddb_lake.infra.packaging import CodeSource

ENDPOINTS = ("kinesis-streams", "kinesis-firehose")
"""For applications in the VPC that write to the table or the streams. The transform function calls no service."""


def build(stack: cdk.Stack, deployment: Deployment, code: CodeSource) -> str:
    """Fill the stack. Gives the ARN of the key its buckets are under."""
    key = data_key(stack, deployment, "same-account", of="producer")
    vpc = network(stack, deployment, key, ENDPOINTS, ("s3", "dynamodb"))
    buckets = landing_buckets(stack, deployment, key, deployment.producer_account)
    topic = alarm_topic(stack, key, f"{deployment.name}-alarms")
    failures = dead_letters(stack, "Undelivered", f"{deployment.name}-undelivered", key)
    transform = transform_function(stack, deployment, key, vpc, code)
    alarms = [
        *function_alarms("Transform", f"{deployment.name}-transform"),
        *queue_alarms("Undelivered", f"{deployment.name}-undelivered", dead_letters=True),
    ]
    for table in deployment.tables:
        alarms += deliver_changes(
            stack,
            deployment,
            table,
            key,
            transform,
            LandingBucket(buckets[table.landing.bucket].bucket_arn, key.key_arn),
        )
        rule = f"{deployment.name}-{table.name}-failed"
        alarms += notify_of_failed_objects(stack, deployment, table, Arrivals(rule, [table.errors]), topic, failures)
        cdk.CfnOutput(stack, f"{table.id}Bucket", value=table.landing.bucket, description="Where the changes land")
    create_alarms(stack, topic, f"{deployment.name}-same-account", alarms)
    start_last(stack)
    cdk.CfnOutput(stack, "KeyArn", value=key.key_arn, description="`export.kms_key_id` of the lake's configuration")
    return str(key.key_arn)
