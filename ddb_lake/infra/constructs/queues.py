"""Queues under the stack's key: dead letters, and notifications that S3 sends by way of EventBridge.

S3 notifying a queue directly, with one key for both, is a circle that CloudFormation does not resolve.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import aws_cdk as cdk
from aws_cdk import aws_events as events
from aws_cdk import aws_iam as iam
from aws_cdk import aws_kms as kms
from aws_cdk import aws_sns as sns
from aws_cdk import aws_sqs as sqs
from constructs import Construct

from ddb_lake.infra.constructs.acknowledgements import acknowledge
from ddb_lake.infra.constructs.alarms import AlarmProps, error_prefix_alarms
from ddb_lake.infra.constructs.keys import rules_of
from ddb_lake.infra.deployment import Deployment, Location, TableDeployment


def dead_letters(scope: Construct, id: str, name: str, key: kms.IKey, of_a_queue: bool = False) -> sqs.Queue:
    """A dead-letter queue that keeps messages for 14 days. `of_a_queue`: it belongs to a `work_queue`."""
    queue = sqs.Queue(
        scope,
        id,
        queue_name=name,
        encryption=sqs.QueueEncryption.KMS,
        encryption_master_key=key,
        enforce_ssl=True,
        retention_period=cdk.Duration.days(14),
    )
    if (
        not of_a_queue
    ):  # cdk-nag sees by itself that it is a queue's dead-letter queue, but not a rule's or a function's
        acknowledge(queue, "AwsSolutions-SQS3", f"{id}: this is the dead-letter queue itself")
    acknowledge(queue, "Serverless-SQSRedrivePolicy", f"{id}: this is the dead-letter queue itself")
    return queue


def work_queue(scope: Construct, id: str, name: str, key: kms.IKey, failures: sqs.Queue, visible_s: int) -> sqs.Queue:
    """A queue whose messages go to `failures` after five tries of `visible_s` each."""
    return sqs.Queue(
        scope,
        id,
        queue_name=name,
        encryption=sqs.QueueEncryption.KMS,
        encryption_master_key=key,
        enforce_ssl=True,
        visibility_timeout=cdk.Duration.seconds(visible_s),
        retention_period=cdk.Duration.days(14),
        dead_letter_queue=sqs.DeadLetterQueue(queue=failures, max_receive_count=5),
    )


@dataclass(frozen=True, slots=True)
class Arrivals:
    """Objects created below locations, which are in one bucket. `rule`: the name of the rule that matches them."""

    rule: str
    places: Sequence[Location]


def arrivals_to_queue(
    scope: Construct, id: str, deployment: Deployment, arrivals: Arrivals, queue: sqs.Queue, failures: sqs.Queue
) -> None:
    """Notify `queue` of every object of `arrivals`.

    https://docs.aws.amazon.com/AmazonS3/latest/userguide/EventBridge.html
    """
    rule = _rule(scope, id, arrivals)
    rule.targets = [_target(queue.queue_arn, "Queue", failures)]
    _allow_rules(failures, deployment)
    _allow_rules(queue, deployment)


def arrivals_to_topic(
    scope: Construct, id: str, deployment: Deployment, arrivals: Arrivals, topic: sns.Topic, failures: sqs.Queue
) -> None:
    """Notify `topic` of every object of `arrivals`.

    The topic's policy has no condition: "You can't use Condition blocks in Amazon SNS topic policies for EventBridge."
    https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-use-resource-based.html
    """
    rule = _rule(scope, id, arrivals)
    rule.targets = [_target(topic.topic_arn, "Topic", failures)]
    _allow_rules(failures, deployment)
    topic.add_to_resource_policy(  # equal for every rule, and so once in the policy
        iam.PolicyStatement(
            sid="Events",
            principals=[iam.ServicePrincipal("events.amazonaws.com")],
            actions=["sns:Publish"],
            resources=[topic.topic_arn],
        )
    )


def notify_of_failed_objects(
    stack: cdk.Stack,
    deployment: Deployment,
    table: TableDeployment,
    arrivals: Arrivals,
    topic: sns.Topic,
    failures: sqs.Queue,
) -> list[AlarmProps]:
    """Notify `topic` of every object with records of a table that failed. Returns the alarm that counts them."""
    arrivals_to_topic(stack, f"{table.id}Failed", deployment, arrivals, topic, failures)
    return error_prefix_alarms(table.id, arrivals.rule)


def _target(arn: str, id: str, failures: sqs.Queue) -> events.CfnRule.TargetProperty:
    return events.CfnRule.TargetProperty(
        arn=arn, id=id, dead_letter_config=events.CfnRule.DeadLetterConfigProperty(arn=failures.queue_arn)
    )


def _rule(scope: Construct, id: str, arrivals: Arrivals) -> events.CfnRule:
    pattern: dict[str, Any] = {
        "source": ["aws.s3"],
        "detail-type": ["Object Created"],
        "detail": {
            "bucket": {"name": list(dict.fromkeys(place.bucket for place in arrivals.places))},
            "object": {"key": [{"prefix": place.prefix} for place in arrivals.places]},
        },
    }
    return events.CfnRule(
        scope,
        id,
        name=arrivals.rule,
        description="Objects created below the prefixes",
        event_pattern=pattern,
        state="ENABLED",
    )


def _allow_rules(queue: sqs.Queue, deployment: Deployment) -> None:
    """Let all rules of the deployment send to the queue: one statement, because the policy of a queue has at most 20.

    https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/quotas-policies.html
    """
    queue.add_to_resource_policy(  # equal for every rule, and so once in the policy
        iam.PolicyStatement(
            sid="Events",
            principals=[iam.ServicePrincipal("events.amazonaws.com")],
            actions=["sqs:SendMessage"],
            resources=[queue.queue_arn],
            conditions={"ArnLike": {"aws:SourceArn": rules_of(cdk.Stack.of(queue), deployment)}},
        )
    )
