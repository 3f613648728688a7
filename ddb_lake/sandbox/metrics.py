"""CloudWatch metrics that the sandbox's DynamoDB, Kinesis and Firehose emit, with AWS's names, dimensions and units.

DynamoDB: https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/metrics-dimensions.html
Kinesis: https://docs.aws.amazon.com/streams/latest/dev/monitoring-with-cloudwatch.html
Firehose: https://docs.aws.amazon.com/firehose/latest/dev/monitoring-with-cloudwatch-metrics.html

As in AWS, a minute without a value has no data point. The values of one minute are one statistic set.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from ddb_lake.sandbox import backend
from ddb_lake.sandbox.backend import Scope

Dimensions: TypeAlias = tuple[tuple[str, str], ...]

REPLICATION = "PutToKinesisStream"
"""The value of `DelegatedOperation` for the replication of a table's changes to Kinesis."""

_MINUTE_US = 60_000_000


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric of one resource."""

    scope: Scope
    namespace: str
    name: str
    dimensions: Dimensions
    unit: str


@dataclass(slots=True)
class Metrics:
    """Adds values to moto's CloudWatch. Thread-safe."""

    _minutes: dict[tuple[Metric, int], Any] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def forget(self) -> None:
        """Drop all values. moto's own state is reset separately."""
        with self._lock:
            self._minutes.clear()

    def add(self, metric: Metric, value: float, at_us: int) -> None:
        """Add a value of the minute that has the instant `at_us` (UTC microseconds)."""
        minute = at_us // _MINUTE_US
        with self._lock:
            known = self._minutes.get((metric, minute))
            if known is not None:
                backend.add_to_statistics(known, value)
                return
            self._minutes[metric, minute] = backend.new_statistics(
                metric.scope,
                metric.namespace,
                {
                    "MetricName": metric.name,
                    "Dimensions": [{"Name": name, "Value": text} for name, text in metric.dimensions],
                    "Unit": metric.unit,
                },
                value,
                minute * _MINUTE_US,
            )

    # DynamoDB and Kinesis

    def accepted(self, scope: Scope, stream: str, records: int, at_us: int) -> None:
        """Kinesis accepted records."""
        named = (("StreamName", stream),)
        self.add(Metric(scope, "AWS/Kinesis", "IncomingRecords", named, "Count"), records, at_us)

    def replicated(self, scope: Scope, stream: str, size_bytes: int, at_us: int) -> None:
        """Kinesis accepted a record of a table."""
        self.accepted(scope, stream, 1, at_us)
        named = (("StreamName", stream),)
        self.add(Metric(scope, "AWS/Kinesis", "IncomingBytes", named, "Bytes"), size_bytes, at_us)

    def not_replicated(self, scope: Scope, table: str, at_us: int) -> None:
        """DynamoDB could not replicate a record to Kinesis."""
        self.add(_table_metric(scope, table, "FailedToReplicateRecordCount", "Count"), 1, at_us)

    def replication_age(self, scope: Scope, table: str, age_us: int, at_us: int) -> None:
        """A record waited for Kinesis for `age_us`."""
        self.add(_table_metric(scope, table, "AgeOfOldestUnreplicatedRecord", "Milliseconds"), age_us / 1000, at_us)


@dataclass(frozen=True, slots=True)
class FirehoseMetrics:
    """The metrics of one delivery stream."""

    metrics: Metrics
    scope: Scope
    stream: str

    def count(self, name: str, value: float, at_us: int, unit: str = "Count") -> None:
        """Add a value of a metric. Without any record, nothing is added."""
        if value or unit != "Count":
            named = (("DeliveryStreamName", self.stream),)
            self.metrics.add(Metric(self.scope, "AWS/Firehose", name, named, unit), value, at_us)

    def delivered(self, kind: str, records: int, opened_us: int, at_us: int) -> None:
        """An object was written. `kind`: DeliveryToS3 or BackupToS3. `opened_us`: the arrival of its oldest record."""
        self.count(f"{kind}.Records", records, at_us)
        self.count(f"{kind}.Success", 1, at_us, "None")
        self.count(f"{kind}.DataFreshness", max(0, at_us - opened_us) / 1e6, at_us, "Seconds")

    def failed(self, kind: str, opened_us: int, at_us: int) -> None:
        """An object could not be written."""
        self.count(f"{kind}.Success", 0, at_us, "None")
        self.count(f"{kind}.DataFreshness", max(0, at_us - opened_us) / 1e6, at_us, "Seconds")


def _table_metric(scope: Scope, table: str, name: str, unit: str) -> Metric:
    return Metric(scope, "AWS/DynamoDB", name, (("TableName", table), ("DelegatedOperation", REPLICATION)), unit)
