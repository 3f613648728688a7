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
    """The maximum in the newest minute of the last half hour that has a value; None if none has.

    If several metrics have that dimension (one for each operation), their greatest value. Raises TransientError with the
    reason if CloudWatch cannot be called.
    """
    now = datetime.fromtimestamp(now_us / 1e6, UTC)
    wanted = [{"Name": dimension[0], "Value": dimension[1]}]
    points: list[dict[str, Any]] = []
    try:
        for found in client.list_metrics(Namespace=namespace, MetricName=metric, Dimensions=wanted)["Metrics"]:
            points += client.get_metric_statistics(
                Namespace=namespace,
                MetricName=metric,
                Dimensions=found["Dimensions"],
                StartTime=now - LOOK_BACK,
                EndTime=now,
                Period=PERIOD_S,
                Statistics=["Maximum"],
            )["Datapoints"]
    except (ClientError, BotoCoreError) as error:
        said = " ".join(str(error).split())
        raise TransientError(
            f"CloudWatch cannot be read for {metric} ({said})",
            hint="grant cloudwatch:ListMetrics and GetMetricStatistics",
        ) from error
    if not points:
        return None
    newest = max(point["Timestamp"] for point in points)
    value = max(point["Maximum"] for point in points if point["Timestamp"] == newest)
    return Measure(float(value), int(newest.timestamp()) * 1_000_000)
