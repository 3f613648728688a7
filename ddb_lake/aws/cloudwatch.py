"""CloudWatch: the newest value of a metric."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from ddb_lake.core.capture.health import Measure
from ddb_lake.errors import TransientError

PERIOD_S = 60
LOOK_BACK = timedelta(minutes=30)


def newest_maximum(client: Any, namespace: str, metric: str, dimension: tuple[str, str], now_us: int) -> Measure | None:
    """The maximum of a metric in the newest minute of the last half hour with data; None without data.

    Several metrics may have the dimension, one for each operation: their greatest value counts.
    https://docs.aws.amazon.com/AmazonCloudWatch/latest/APIReference/API_GetMetricStatistics.html

    Raises TransientError if CloudWatch cannot be read.
    """
    now = datetime.fromtimestamp(now_us / 1e6, UTC)
    wanted = [{"Name": dimension[0], "Value": dimension[1]}]
    points: list[dict[str, Any]] = []
    try:
        for listed in client.list_metrics(Namespace=namespace, MetricName=metric, Dimensions=wanted)["Metrics"]:
            points += client.get_metric_statistics(
                Namespace=namespace,
                MetricName=metric,
                Dimensions=listed["Dimensions"],
                StartTime=now - LOOK_BACK,
                EndTime=now,
                Period=PERIOD_S,
                Statistics=["Maximum"],
            )["Datapoints"]
    except (ClientError, BotoCoreError) as error:
        message = " ".join(str(error).split())
        raise TransientError(
            f"CloudWatch cannot be read for {metric} ({message})",
            hint="grant cloudwatch:ListMetrics and GetMetricStatistics",
        ) from error
    if not points:
        return None
    newest = max(point["Timestamp"] for point in points)
    value = max(point["Maximum"] for point in points if point["Timestamp"] == newest)
    return Measure(float(value), int(newest.timestamp()) * 1_000_000)
