"""The Kinesis destination of a table's changes: its state, and the records that DynamoDB could not replicate to it.

https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/kds_gettingstarted.html
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from ddb_lake.aws.diagnostics import kinesis_destinations
from ddb_lake.aws.source import source_client
from ddb_lake.config import TableSettings
from ddb_lake.core.capture.gaps import Observation
from ddb_lake.errors import TerminalError

NAMESPACE, METRIC = "AWS/DynamoDB", "FailedToReplicateRecordCount"
PERIOD_S = 300
POINTS = 1_440
"""The number of data points in one response of GetMetricStatistics."""


def observe_destination(table: TableSettings, now_us: int) -> Observation:
    """The table's Kinesis destination; an active one if it has several. Raises TerminalError if it cannot be read."""
    destinations = sorted(kinesis_destinations(table), key=lambda d: (d.status != "ACTIVE", d.stream_arn))
    if not destinations:
        return Observation(None, "not set up", None, now_us)
    return Observation(destinations[0].stream_arn, destinations[0].status, destinations[0].precision, now_us)


def failed_replications(table: TableSettings, from_us: int, to_us: int) -> list[tuple[int, int, int]]:
    """(from, to, records) of each five minutes in which DynamoDB could not replicate records to Kinesis, in µs.

    Raises TerminalError if CloudWatch cannot be read.
    """
    try:
        points = list(_points(source_client(table, "cloudwatch"), table.source_name, from_us, to_us))
    except (ClientError, BotoCoreError) as error:
        message = " ".join(str(error).split())
        raise TerminalError(
            f"CloudWatch cannot be read for {METRIC} ({message})",
            hint="grant cloudwatch:ListMetrics and GetMetricStatistics",
        ) from error
    counts: dict[int, int] = {}
    for point in points:
        at_us = int(point["Timestamp"].timestamp()) * 1_000_000
        counts[at_us] = counts.get(at_us, 0) + int(point["Sum"])
    return [(at, at + PERIOD_S * 1_000_000, count) for at, count in sorted(counts.items()) if count]


def _points(client: Any, name: str, from_us: int, to_us: int) -> Iterator[dict[str, Any]]:
    wanted = [{"Name": "TableName", "Value": name}]
    for low_us in range(from_us, to_us, POINTS * PERIOD_S * 1_000_000):
        high_us = min(low_us + POINTS * PERIOD_S * 1_000_000, to_us)
        for metric in client.list_metrics(Namespace=NAMESPACE, MetricName=METRIC, Dimensions=wanted)["Metrics"]:
            yield from client.get_metric_statistics(
                Namespace=NAMESPACE,
                MetricName=METRIC,
                Dimensions=metric["Dimensions"],
                StartTime=datetime.fromtimestamp(low_us / 1e6, UTC),
                EndTime=datetime.fromtimestamp(high_us / 1e6, UTC),
                Period=PERIOD_S,
                Statistics=["Sum"],
            )["Datapoints"]
