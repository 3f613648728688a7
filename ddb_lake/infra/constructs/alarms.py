"""Alarms to an encrypted topic, and a dashboard of what they watch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import aws_cdk as cdk
from aws_cdk import aws_cloudwatch as cloudwatch
from aws_cdk import aws_cloudwatch_actions as actions
from aws_cdk import aws_iam as iam
from aws_cdk import aws_kms as kms
from aws_cdk import aws_sns as sns
from constructs import Construct


@dataclass(frozen=True, slots=True, kw_only=True)
class Watched:
    """A metric and the bound above which somebody is told. A metric without data is no alarm: idle tables have none."""

    id: str
    title: str
    namespace: str
    metric: str
    dimensions: Mapping[str, str] = field(default_factory=dict)
    statistic: str = "Maximum"
    above: float
    period_s: int = 300
    periods: int = 3


def alarm_topic(scope: Construct, key: kms.IKey, name: str) -> sns.Topic:
    """The topic that alarms go to; whoever wants to be told subscribes to it."""
    topic = sns.Topic(scope, "Alarms", topic_name=name, master_key=key, enforce_ssl=True)
    topic.add_to_resource_policy(
        iam.PolicyStatement(
            sid="AlarmsOfThisAccount",
            principals=[iam.ServicePrincipal("cloudwatch.amazonaws.com")],
            actions=["sns:Publish"],
            resources=[topic.topic_arn],
            conditions={"StringEquals": {"aws:SourceAccount": cdk.Stack.of(scope).account}},
        )
    )
    return topic


def watch(scope: Construct, topic: sns.ITopic, name: str, watched: list[Watched]) -> None:
    """An alarm for each, and one dashboard with all of them."""
    alarms = [_alarm(scope, topic, name, one) for one in watched]
    dashboard = cloudwatch.Dashboard(scope, "Dashboard", dashboard_name=name)
    dashboard.add_widgets(cloudwatch.AlarmStatusWidget(title="Alarms", alarms=alarms, width=24, height=4))
    widgets = [
        cloudwatch.AlarmWidget(title=one.title, alarm=alarm, width=8, height=6)
        for one, alarm in zip(watched, alarms, strict=True)
    ]
    for start in range(0, len(widgets), 3):
        dashboard.add_widgets(*widgets[start : start + 3])


def _alarm(scope: Construct, topic: sns.ITopic, name: str, watched: Watched) -> cloudwatch.Alarm:
    metric = cloudwatch.Metric(
        namespace=watched.namespace,
        metric_name=watched.metric,
        dimensions_map=dict(watched.dimensions),
        statistic=watched.statistic,
        period=cdk.Duration.seconds(watched.period_s),
    )
    alarm = cloudwatch.Alarm(
        scope,
        f"{watched.id}Alarm",
        alarm_name=f"{name}-{watched.id}",
        alarm_description=watched.title,
        metric=metric,
        threshold=watched.above,
        comparison_operator=cloudwatch.ComparisonOperator.GREATER_THAN_THRESHOLD,
        evaluation_periods=watched.periods,
        treat_missing_data=cloudwatch.TreatMissingData.NOT_BREACHING,
    )
    alarm.add_alarm_action(actions.SnsAction(topic))
    return alarm


def of_delivery(id: str, name: str, freshness_minutes: int, from_kinesis: bool) -> list[Watched]:
    """What shows that a delivery stream lives."""
    dimensions = {"DeliveryStreamName": name}
    found = [
        Watched(
            id=f"{id}Freshness",
            title=f"{name}: age of the oldest record not delivered (s)",
            namespace="AWS/Firehose",
            metric="DeliveryToS3.DataFreshness",
            dimensions=dimensions,
            above=freshness_minutes * 60,
        ),
        Watched(
            id=f"{id}Throttled",
            title=f"{name}: throttled",
            namespace="AWS/Firehose",
            metric="ThrottledGetRecords" if from_kinesis else "ThrottledRecords",
            dimensions=dimensions,
            statistic="Sum",
            above=0,
        ),
    ]
    if from_kinesis:
        found.append(
            Watched(
                id=f"{id}Behind",
                title=f"{name}: behind the Kinesis stream (ms)",
                namespace="AWS/Firehose",
                metric="KinesisMillisBehindLatest",
                dimensions=dimensions,
                above=freshness_minutes * 60_000,
            )
        )
    return found


def of_capture(id: str, table: str, stream: str, behind_minutes: int) -> list[Watched]:
    """What shows that DynamoDB's changes reach Kinesis. A record that failed for good is a gap: repair by export."""
    both = {"TableName": table, "DelegatedOperation": "PutToKinesisStream"}
    kinesis = {"StreamName": stream}
    return [
        Watched(
            id=f"{id}ReplicationAge",
            title=f"{table}: age of the oldest change not in Kinesis (ms)",
            namespace="AWS/DynamoDB",
            metric="AgeOfOldestUnreplicatedRecord",
            dimensions=both,
            above=behind_minutes * 60_000,
        ),
        Watched(
            id=f"{id}ReplicationFailed",
            title=f"{table}: changes that Kinesis will never get",
            namespace="AWS/DynamoDB",
            metric="FailedToReplicateRecordCount",
            dimensions=both,
            statistic="Sum",
            above=0,
            periods=1,
        ),
        Watched(
            id=f"{id}WriteThrottled",
            title=f"{stream}: writes throttled (more shards are needed)",
            namespace="AWS/Kinesis",
            metric="WriteProvisionedThroughputExceeded",
            dimensions=kinesis,
            statistic="Sum",
            above=0,
        ),
        Watched(
            id=f"{id}ReadThrottled",
            title=f"{stream}: reads throttled",
            namespace="AWS/Kinesis",
            metric="ReadProvisionedThroughputExceeded",
            dimensions=kinesis,
            statistic="Sum",
            above=0,
        ),
    ]


def of_function(id: str, name: str, iterator_minutes: int | None = None) -> list[Watched]:
    """What shows that a function works. `iterator_minutes`: how old a stream's record may be when it is read."""
    dimensions = {"FunctionName": name}
    found = [
        Watched(
            id=f"{id}{metric}",
            title=f"{name}: {metric.lower()}",
            namespace="AWS/Lambda",
            metric=metric,
            dimensions=dimensions,
            statistic="Sum",
            above=0,
        )
        for metric in ("Errors", "Throttles")
    ]
    if iterator_minutes is not None:
        found.append(
            Watched(
                id=f"{id}IteratorAge",
                title=f"{name}: age of the records it reads (ms)",
                namespace="AWS/Lambda",
                metric="IteratorAge",
                dimensions=dimensions,
                above=iterator_minutes * 60_000,
            )
        )
    return found


def of_queue(id: str, name: str, dead_letters: bool, age_minutes: int = 60) -> list[Watched]:
    """What shows that a queue is emptied; a dead-letter queue has to be empty."""
    dimensions = {"QueueName": name}
    if dead_letters:
        return [
            Watched(
                id=f"{id}Depth",
                title=f"{name}: messages that failed for good",
                namespace="AWS/SQS",
                metric="ApproximateNumberOfMessagesVisible",
                dimensions=dimensions,
                above=0,
                periods=1,
            )
        ]
    return [
        Watched(
            id=f"{id}Age",
            title=f"{name}: age of the oldest message (s)",
            namespace="AWS/SQS",
            metric="ApproximateAgeOfOldestMessage",
            dimensions=dimensions,
            above=age_minutes * 60,
        )
    ]


def of_error_prefix(id: str, rule_name: str) -> list[Watched]:
    """Arrivals under an error prefix, counted by the rule that matches them."""
    return [
        Watched(
            id=f"{id}ErrorArrivals",
            title=f"{rule_name}: objects under the error prefix",
            namespace="AWS/Events",
            metric="MatchedEvents",
            dimensions={"RuleName": rule_name},
            statistic="Sum",
            above=0,
            periods=1,
        )
    ]
