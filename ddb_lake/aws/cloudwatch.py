"""CloudWatch: the newest value of a metric, and values by hour."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

from botocore.exceptions import BotoCoreError, ClientError

from ddb_lake.core.capture.health import Measure
from ddb_lake.errors import TransientError

PERIOD_S = 60
LOOK_BACK = timedelta(minutes=30)
HOUR_S = 3600


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric of one resource, and how the values of an hour become one."""

    namespace: str
    name: str
    dimension: tuple[str, str]
    statistic: Literal["Sum", "Maximum"] = "Sum"
    period_s: int = HOUR_S


def hourly_values(client: Any, metrics: Sequence[Metric], from_us: int, to_us: int) -> list[dict[int, float]]:
    """The values of metrics by hour, in one request (GetMetricData, which is charged by metric).

    https://docs.aws.amazon.com/AmazonCloudWatch/latest/APIReference/API_GetMetricData.html

    Args:
        client: of CloudWatch.
        metrics: what to read.
        from_us: UTC microseconds, the beginning of an hour, inclusive.
        to_us: UTC microseconds, exclusive.

    Returns:
        For each metric, in order, its values by the beginning of their period (UTC microseconds). A period without data
        is absent.

    Raises TransientError if CloudWatch cannot be read, or has not returned all values of a metric.
    """
    queries = [
        {
            "Id": f"m{number}",
            "MetricStat": {
                "Metric": {
                    "Namespace": metric.namespace,
                    "MetricName": metric.name,
                    "Dimensions": [{"Name": metric.dimension[0], "Value": metric.dimension[1]}],
                },
                "Period": metric.period_s,
                "Stat": metric.statistic,
            },
        }
        for number, metric in enumerate(metrics)
    ]
    found: list[dict[int, float]] = [{} for _ in metrics]
    status = ["absent"] * len(metrics)
    names = ", ".join(sorted({metric.name for metric in metrics}))
    with _reading(names, "cloudwatch:GetMetricData"):
        pages = client.get_paginator("get_metric_data").paginate(
            MetricDataQueries=queries,
            StartTime=datetime.fromtimestamp(from_us / 1e6, UTC),
            EndTime=datetime.fromtimestamp(to_us / 1e6, UTC),
        )
        for result in (result for page in pages for result in page["MetricDataResults"]):
            number = int(result["Id"].removeprefix("m"))
            values, status[number] = found[number], result.get("StatusCode", "Complete")
            for at, value in zip(result["Timestamps"], result["Values"], strict=True):
                values[int(at.timestamp()) * 1_000_000] = float(value)
    incomplete = {metric.name: known for metric, known in zip(metrics, status, strict=True) if known != "Complete"}
    if incomplete:
        faults = ", ".join(f"{name} ({known})" for name, known in sorted(incomplete.items()))
        raise TransientError(f"CloudWatch has not returned all values of {faults}", hint=_INCOMPLETE)
    return found


_INCOMPLETE = "evaluate again; Forbidden: grant cloudwatch:GetMetricData"
"""A request succeeds although a metric could not be read: the status of its result is then not Complete. The last page decides,
because an earlier one is PartialData.

https://docs.aws.amazon.com/AmazonCloudWatch/latest/APIReference/API_MetricDataResult.html
"""


def exists(client: Any, metric: Metric) -> bool:
    """Whether CloudWatch has any data of a metric in the last two weeks.

    https://docs.aws.amazon.com/AmazonCloudWatch/latest/APIReference/API_ListMetrics.html

    Raises TransientError if CloudWatch cannot be read.
    """
    wanted = [{"Name": metric.dimension[0], "Value": metric.dimension[1]}]
    with _reading(metric.name, "cloudwatch:ListMetrics"):
        listed = client.list_metrics(Namespace=metric.namespace, MetricName=metric.name, Dimensions=wanted)
    return bool(listed["Metrics"])


def newest_maximum(client: Any, namespace: str, metric: str, dimension: tuple[str, str], now_us: int) -> Measure | None:
    """The maximum of a metric in the newest minute of the last half hour with data; None without data.

    Several metrics may have the dimension, one for each operation: their greatest value counts.
    https://docs.aws.amazon.com/AmazonCloudWatch/latest/APIReference/API_GetMetricStatistics.html

    Raises TransientError if CloudWatch cannot be read.
    """
    now = datetime.fromtimestamp(now_us / 1e6, UTC)
    wanted = [{"Name": dimension[0], "Value": dimension[1]}]
    points: list[dict[str, Any]] = []
    with _reading(metric, "cloudwatch:ListMetrics and GetMetricStatistics"):
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
    if not points:
        return None
    newest = max(point["Timestamp"] for point in points)
    value = max(point["Maximum"] for point in points if point["Timestamp"] == newest)
    return Measure(float(value), int(newest.timestamp()) * 1_000_000)


@contextmanager
def _reading(metrics: str, actions: str) -> Iterator[None]:
    """Translate errors of CloudWatch to TransientError. `metrics`: what is read. `actions`: what the identity must be allowed."""
    try:
        yield
    except (ClientError, BotoCoreError) as error:
        message = " ".join(str(error).split())
        raise TransientError(f"CloudWatch cannot be read for {metrics} ({message})", hint=f"grant {actions}") from error
