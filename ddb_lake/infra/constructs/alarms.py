"""CloudWatch alarms that notify an encrypted topic, and a dashboard of their metrics."""

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

from ddb_lake.core.operations.metric_names import FOLLOWED, LAG, NAMESPACE, OPEN_GAPS

_ALARMS_OF_A_WIDGET = 100
"""The alarms that one widget shows.

https://docs.aws.amazon.com/AmazonCloudWatch/latest/APIReference/CloudWatch-Dashboard-Body-Structure.html
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class AlarmProps:
    """A metric, and the threshold above which the alarm fires. Missing data is not breaching: an idle table has none.

    `below`: the alarm fires below the threshold, and if data are missing.
    """

    id: str
    title: str
    namespace: str
    metric: str
    dimensions: Mapping[str, str] = field(default_factory=dict)
    statistic: str = "Maximum"
    above: float | None = None
    below: float | None = None
    period_s: int = 300
    periods: int = 3


def alarm_topic(scope: Construct, key: kms.IKey, name: str) -> sns.Topic:
    """The topic that alarms notify. Subscribe to it to receive them.

    https://docs.aws.amazon.com/sns/latest/dg/sns-access-policy-use-cases.html
    """
    topic = sns.Topic(scope, "Alarms", topic_name=name, master_key=key, enforce_ssl=True)
    stack = cdk.Stack.of(scope)
    topic.add_to_resource_policy(
        iam.PolicyStatement(
            sid="AlarmsOfThisAccount",
            principals=[iam.ServicePrincipal("cloudwatch.amazonaws.com")],
            actions=["sns:Publish"],
            resources=[topic.topic_arn],
            conditions={
                "ArnLike": {"aws:SourceArn": f"arn:{stack.partition}:cloudwatch:{stack.region}:{stack.account}:alarm:*"}
            },
        )
    )
    return topic


def create_alarms(scope: Construct, topic: sns.ITopic, name: str, properties: list[AlarmProps]) -> None:
    """Create an alarm for each of `properties`, and one dashboard with all of them."""
    alarms = [_alarm(scope, topic, name, props) for props in properties]
    dashboard = cloudwatch.Dashboard(scope, "Dashboard", dashboard_name=name)
    for start in range(0, len(alarms), _ALARMS_OF_A_WIDGET):
        shown = alarms[start : start + _ALARMS_OF_A_WIDGET]
        dashboard.add_widgets(cloudwatch.AlarmStatusWidget(title="Alarms", alarms=shown, width=24, height=4))
    widgets = [
        cloudwatch.AlarmWidget(title=props.title, alarm=alarm, width=8, height=6)
        for props, alarm in zip(properties, alarms, strict=True)
    ]
    for start in range(0, len(widgets), 3):
        dashboard.add_widgets(*widgets[start : start + 3])


def _alarm(scope: Construct, topic: sns.ITopic, name: str, props: AlarmProps) -> cloudwatch.Alarm:
    metric = cloudwatch.Metric(
        namespace=props.namespace,
        metric_name=props.metric,
        dimensions_map=dict(props.dimensions),
        statistic=props.statistic,
        period=cdk.Duration.seconds(props.period_s),
    )
    if (threshold := props.above if props.below is None else props.below) is None:
        raise ValueError(f"{props.id}: neither `above` nor `below`")
    comparison, missing = cloudwatch.ComparisonOperator, cloudwatch.TreatMissingData
    alarm = cloudwatch.Alarm(
        scope,
        f"{props.id}Alarm",
        alarm_name=f"{name}-{props.id}",
        alarm_description=props.title,
        metric=metric,
        threshold=threshold,
        comparison_operator=comparison.GREATER_THAN_THRESHOLD
        if props.below is None
        else comparison.LESS_THAN_THRESHOLD,
        evaluation_periods=props.periods,
        treat_missing_data=missing.NOT_BREACHING if props.below is None else missing.BREACHING,
    )
    alarm.add_alarm_action(actions.SnsAction(topic))
    return alarm


def delivery_alarms(id: str, name: str, freshness_minutes: int, from_kinesis: bool) -> list[AlarmProps]:
    """Alarms of a delivery stream.

    https://docs.aws.amazon.com/firehose/latest/dev/monitoring-with-cloudwatch-metrics.html
    """
    dimensions = {"DeliveryStreamName": name}
    found = [
        AlarmProps(
            id=f"{id}Freshness",
            title=f"{name}: age of the oldest record not delivered (s)",
            namespace="AWS/Firehose",
            metric="DeliveryToS3.DataFreshness",
            dimensions=dimensions,
            above=freshness_minutes * 60,
        ),
        AlarmProps(
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
            AlarmProps(
                id=f"{id}Behind",
                title=f"{name}: behind the Kinesis stream (ms)",
                namespace="AWS/Firehose",
                metric="KinesisMillisBehindLatest",
                dimensions=dimensions,
                above=freshness_minutes * 60_000,
            )
        )
    return found


def capture_alarms(id: str, table: str, stream: str, behind_minutes: int) -> list[AlarmProps]:
    """Alarms of a table's Kinesis destination. A record that could not be replicated is a gap, which an export repairs.

    https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/metrics-dimensions.html
    """
    both = {"TableName": table, "DelegatedOperation": "PutToKinesisStream"}
    kinesis = {"StreamName": stream}
    return [
        AlarmProps(
            id=f"{id}ReplicationAge",
            title=f"{table}: age of the oldest change not in Kinesis (ms)",
            namespace="AWS/DynamoDB",
            metric="AgeOfOldestUnreplicatedRecord",
            dimensions=both,
            above=behind_minutes * 60_000,
        ),
        AlarmProps(
            id=f"{id}ReplicationFailed",
            title=f"{table}: changes that Kinesis will never get",
            namespace="AWS/DynamoDB",
            metric="FailedToReplicateRecordCount",
            dimensions=both,
            statistic="Sum",
            above=0,
            periods=1,
        ),
        AlarmProps(
            id=f"{id}WriteThrottled",
            title=f"{stream}: writes throttled (more shards are needed)",
            namespace="AWS/Kinesis",
            metric="WriteProvisionedThroughputExceeded",
            dimensions=kinesis,
            statistic="Sum",
            above=0,
        ),
        AlarmProps(
            id=f"{id}ReadThrottled",
            title=f"{stream}: reads throttled",
            namespace="AWS/Kinesis",
            metric="ReadProvisionedThroughputExceeded",
            dimensions=kinesis,
            statistic="Sum",
            above=0,
        ),
    ]


def function_alarms(id: str, name: str, iterator_minutes: int | None = None) -> list[AlarmProps]:
    """Alarms of a function. `iterator_minutes`: the greatest age of a stream's record when it is read.

    https://docs.aws.amazon.com/lambda/latest/dg/monitoring-metrics-types.html
    """
    dimensions = {"FunctionName": name}
    found = [
        AlarmProps(
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
            AlarmProps(
                id=f"{id}IteratorAge",
                title=f"{name}: age of the records it reads (ms)",
                namespace="AWS/Lambda",
                metric="IteratorAge",
                dimensions=dimensions,
                above=iterator_minutes * 60_000,
            )
        )
    return found


def queue_alarms(id: str, name: str, dead_letters: bool, age_minutes: int = 60) -> list[AlarmProps]:
    """Alarms of a queue: the age of its oldest message, or for a dead-letter queue that it is not empty."""
    dimensions = {"QueueName": name}
    if dead_letters:
        return [
            AlarmProps(
                id=f"{id}Depth",
                title=f"{name}: messages that failed permanently",
                namespace="AWS/SQS",
                metric="ApproximateNumberOfMessagesVisible",
                dimensions=dimensions,
                above=0,
                periods=1,
            )
        ]
    return [
        AlarmProps(
            id=f"{id}Age",
            title=f"{name}: age of the oldest message (s)",
            namespace="AWS/SQS",
            metric="ApproximateAgeOfOldestMessage",
            dimensions=dimensions,
            above=age_minutes * 60,
        )
    ]


def error_prefix_alarms(id: str, rule_name: str) -> list[AlarmProps]:
    """The alarm of objects under an error prefix, counted by the EventBridge rule that matches them."""
    return [
        AlarmProps(
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


def follower_alarms(id: str, table: str, reads: str, lag_seconds: int) -> list[AlarmProps]:
    """Alarms of a followed table, by the metrics that `ddb-lake follow --emf` prints each minute.

    Two followers of a table are no fault, so the maximum counts: one of them has it.

    Args:
        table: its name in the lake's configuration.
        reads: the label `source`: `streams`, `kinesis` or `landed`.
    """
    return [
        AlarmProps(
            id=f"{id}Lag",
            title=f"{table}: how far the lake is behind (s)",
            namespace=NAMESPACE,
            metric=LAG,
            dimensions={"source": reads, "table": table},
            above=lag_seconds,
            period_s=60,
            periods=5,
        ),
        AlarmProps(
            id=f"{id}Silence",
            title=f"{table}: no follower has it",
            namespace=NAMESPACE,
            metric=FOLLOWED,
            dimensions={"table": table},
            below=1,
            periods=2,
        ),
        AlarmProps(
            id=f"{id}Gaps",
            title=f"{table}: intervals in which changes may be missing",
            namespace=NAMESPACE,
            metric=OPEN_GAPS,
            dimensions={"table": table},
            above=0,
            periods=1,
        ),
    ]
