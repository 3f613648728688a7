"""The sandbox emits the metrics of AWS: what a minute's sum or maximum is, by resource."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from ddb_lake.sandbox import Delivery, Sandbox
from ddb_lake.sandbox.destinations import StreamFaults
from ddb_lake_tests.support.sandbox_steps import BUCKET, make_bucket, make_stream, make_table, objects, put

START = datetime(2026, 3, 1, 9, 0, tzinfo=UTC)
TABLE = ("TableName", "things"), ("DelegatedOperation", "PutToKinesisStream")
HOSE, STREAM = (("DeliveryStreamName", "hose"),), (("StreamName", "changes"),)


def values(sandbox: Sandbox, namespace: str, name: str, dimensions: Any, stat: str = "Sum") -> dict[str, float]:
    """A metric by the minute of `START`'s hour, as GetMetricData returns it."""
    found = sandbox.client("cloudwatch").get_metric_data(
        MetricDataQueries=[
            {
                "Id": "m",
                "MetricStat": {
                    "Metric": {
                        "Namespace": namespace,
                        "MetricName": name,
                        "Dimensions": [{"Name": key, "Value": value} for key, value in dimensions],
                    },
                    "Period": 60,
                    "Stat": stat,
                },
            }
        ],
        StartTime=START,
        EndTime=START + timedelta(hours=2),
        ScanBy="TimestampAscending",
    )["MetricDataResults"][0]
    return {f"{at:%H:%M}": value for at, value in zip(found["Timestamps"], found["Values"], strict=True)}


def failing(event: dict[str, Any]) -> dict[str, Any]:
    """A function that passes the first record of a batch and fails the others."""
    results = ["Ok"] + ["ProcessingFailed"] * (len(event["records"]) - 1)
    return {
        "records": [
            {"recordId": record["recordId"], "result": result, "data": record["data"]}
            for record, result in zip(event["records"], results, strict=True)
        ]
    }


def test_a_change_counts_where_it_passes_and_at_the_time_it_does() -> None:
    with Sandbox(start=START) as sandbox:
        make_table(sandbox)
        make_bucket(sandbox)
        arn = make_stream(sandbox, "things")
        sandbox.delivery_stream(Delivery(name="hose", bucket=BUCKET, source=arn, transform=failing, buffer_seconds=300))
        sandbox.clock.set(START + timedelta(minutes=1))
        for number in range(3):
            put(sandbox, f"k{number}")
        sandbox.clock.set(START + timedelta(minutes=50))
        sandbox.pump()
        assert values(sandbox, "AWS/Kinesis", "IncomingRecords", STREAM) == {"09:01": 3}
        assert values(sandbox, "AWS/Firehose", "DataReadFromKinesisStream.Records", HOSE) == {"09:01": 3}
        assert values(sandbox, "AWS/Firehose", "SucceedProcessing.Records", HOSE) == {"09:01": 1}
        assert values(sandbox, "AWS/Firehose", "DeliveryToS3.Records", HOSE) == {"09:06": 1}
        assert values(sandbox, "AWS/Firehose", "DeliveryToS3.Success", HOSE) == {"09:06": 1}
        assert values(sandbox, "AWS/Firehose", "DeliveryToS3.DataFreshness", HOSE, "Maximum") == {"09:06": 300}
        assert len(objects(sandbox)) == 2, "the failed records are in an object of their own"


def test_an_object_that_cannot_be_written_is_counted_as_such() -> None:
    with Sandbox(start=START) as sandbox:
        stream = sandbox.delivery_stream(Delivery(name="hose", bucket="absent", buffer_seconds=60))
        stream.put(b"x", START)
        with pytest.raises(Exception, match="NoSuchBucket"):
            stream.pump(START + timedelta(minutes=2))
        assert values(sandbox, "AWS/Firehose", "IncomingRecords", HOSE) == {"09:00": 1}
        assert values(sandbox, "AWS/Firehose", "DeliveryToS3.Success", HOSE) == {"09:01": 0}
        assert values(sandbox, "AWS/Firehose", "DeliveryToS3.Records", HOSE) == {}


def test_records_that_cannot_be_replicated_or_are_late_are_counted_for_their_table() -> None:
    faults = StreamFaults(record_limit_bytes=2000, reordering=1.0, lateness=1, seed=1)
    with Sandbox(start=START, faults=faults) as sandbox:
        make_table(sandbox)
        make_stream(sandbox, "things")
        put(sandbox, "a", v={"S": "x" * 3000})
        put(sandbox, "b")
        sandbox.clock.set(START + timedelta(minutes=5))
        for name in ("c", "d", "e"):
            put(sandbox, name)
        assert values(sandbox, "AWS/DynamoDB", "FailedToReplicateRecordCount", TABLE) == {"09:00": 1}
        ages = values(sandbox, "AWS/DynamoDB", "AgeOfOldestUnreplicatedRecord", TABLE, "Maximum")
        assert 299_000 < ages["09:05"] <= 301_000
        accepted = values(sandbox, "AWS/Kinesis", "IncomingRecords", STREAM)
        assert sum(accepted.values()) >= 1
