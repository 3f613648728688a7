"""Reading the signs of life of a table's capture: from DynamoDB, CloudWatch, the landing and the lake.

`core.capture.health` judges them. The checks in Dagster and `ddb-lake doctor` show them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

from ddb_lake.aws.cloudwatch import Metric, exists, hourly_values, newest_maximum
from ddb_lake.aws.kinesis import observe_destination
from ddb_lake.aws.session import client
from ddb_lake.aws.source import describe_source, source_client
from ddb_lake.config import TableSettings, seconds
from ddb_lake.core.capture import health
from ddb_lake.core.capture.health import Sign
from ddb_lake.core.verify.outcome import Outcome, unknown
from ddb_lake.errors import DdbLakeError
from ddb_lake.lake.state import changes_state
from ddb_lake.pipeline.open_lake import Lake
from ddb_lake.pipeline.table_identity import source_id

ERRORS_HOURS = 24
"""How far back objects below Firehose's error prefix are counted."""


def capture_signs(lake: Lake, table: TableSettings) -> tuple[Sign, ...]:
    """The signs of the source table, its Kinesis destination, replication and delivery.

    Returns:
        One sign each. A sign that cannot be read is `unknown`, with the reason. If the source cannot be reached, its sign alone.
    """
    return tuple(_signs(lake, table))


def _signs(lake: Lake, table: TableSettings) -> Iterator[Sign]:
    now_us, max_lag_s = int(lake.now().timestamp() * 1_000_000), seconds(table.checks.max_lag)
    source = describe_source(table)
    if source.unreachable is not None:
        yield Sign("the source table", "unknown", f"{table.source_name} cannot be reached ({source.unreachable})")
        return
    known = source_id(lake, table.name)
    if known is not None:  # a lake without an export knows no id to compare with
        yield health.identity_sign(source.table_id, known, table.source_name)
    yield _read("the Kinesis destination", lambda: _destination(lake, table, now_us))
    yield _read("replication to Kinesis", lambda: _replication(table, now_us, max_lag_s))
    stream = table.changes.delivery_stream if table.changes else None
    if stream is not None:
        yield _read("delivery to S3", lambda: _delivery(stream, now_us, max_lag_s))


def _read(name: str, read: Callable[[], Sign]) -> Sign:
    try:
        return read()
    except DdbLakeError as error:
        return Sign(name, "unknown", str(error))


def _destination(lake: Lake, table: TableSettings, now_us: int) -> Sign:
    found = observe_destination(table, now_us)
    changes = lake.changes(table.name)
    seen = changes_state(changes).observed
    return health.destination_sign(found.stream, found.status, seen.stream if seen else None, table.source_name)


def _replication(table: TableSettings, now_us: int, max_lag_s: int) -> Sign:
    metrics = source_client(table, "cloudwatch")
    named = "TableName", table.source_name
    age = newest_maximum(metrics, "AWS/DynamoDB", "AgeOfOldestUnreplicatedRecord", named, now_us)
    return health.replication_sign(age, max_lag_s, table.source_name)


def _delivery(stream: str, now_us: int, max_lag_s: int) -> Sign:
    named = "DeliveryStreamName", stream
    metric, metrics = ("AWS/Firehose", "DeliveryToS3.DataFreshness"), client("cloudwatch")
    freshness = newest_maximum(metrics, *metric, named, now_us)
    listed = freshness is not None or exists(metrics, Metric(*metric, named))
    return health.delivery_sign(freshness, listed, max_lag_s, stream)


def source_freshness(lake: Lake, table: TableSettings) -> Outcome:
    """Compare the newest change in the lake with the newest records that the source's stream accepted (CloudWatch).

    The stream is the table's Kinesis destination or, without one, Firehose's `changes.delivery_stream`.

    Raises TerminalError or TransientError if DynamoDB or CloudWatch cannot be read.
    """
    now_us, max_lag_s = int(lake.now().timestamp() * 1_000_000), seconds(table.checks.max_lag)
    newest_us = changes_state(lake.changes(table.name)).last_change_us
    arn = observe_destination(table, now_us).stream
    hose = table.changes.delivery_stream if table.changes else None
    if arn is not None:
        name = arn.rpartition("/")[2]
        metrics = source_client(table, "cloudwatch")
        accepted = _minutes(metrics, Metric("AWS/Kinesis", "IncomingRecords", ("StreamName", name)), now_us)
        return health.freshness_outcome(accepted, newest_us, now_us, max_lag_s, f"the Kinesis stream {name}")
    if hose is not None:
        metrics, metric = client("cloudwatch"), Metric("AWS/Firehose", "IncomingRecords", ("DeliveryStreamName", hose))
        accepted = _minutes(metrics, metric, now_us)
        if not accepted and not exists(metrics, metric):
            return unknown(f"CloudWatch lists no IncomingRecords of {hose} in this Region and account")
        return health.freshness_outcome(accepted, newest_us, now_us, max_lag_s, f"Firehose's {hose}")
    return unknown(f"{table.source_name} feeds no Kinesis stream, and `changes.delivery_stream` is not set")


def _minutes(metrics: Any, metric: Metric, now_us: int) -> list[int]:
    """The starts of the minutes of the last 24 hours in which the sum of a metric is positive, in order."""
    by_minute = replace(metric, statistic="Sum", period_s=health.MINUTE_US // 1_000_000)
    (values,) = hourly_values(metrics, [by_minute], now_us - health.FRESHNESS_US, now_us)
    return sorted(at_us for at_us, value in values.items() if value > 0)


def error_sign(lake: Lake, table: TableSettings) -> Sign:
    """The objects that Firehose put below its error prefix in the last `ERRORS_HOURS` hours."""
    uri = table.changes.errors_uri if table.changes else None
    assert uri is not None, "the registry of checks requires it"
    since_us = int(lake.now().timestamp() - ERRORS_HOURS * 3600) * 1_000_000
    recent = [ref.modified_us for ref in lake.objects.list(uri) if ref.modified_us >= since_us]
    return health.failed_deliveries_sign(len(recent), max(recent, default=None), ERRORS_HOURS, uri)
