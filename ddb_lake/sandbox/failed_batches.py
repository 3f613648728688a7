"""What Lambda sends to the on-failure destination of an event source mapping: to S3 with the records, to SQS and SNS without.

https://docs.aws.amazon.com/lambda/latest/dg/services-dynamodb-errors.html
https://docs.aws.amazon.com/lambda/latest/dg/kinesis-on-failure-destination.html
"""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

from ddb_lake.sandbox.stream_trigger import DiscardedBatch

SERVICES = ("s3", "sqs", "sns")
"""The services of a destination."""


def send(
    client: Callable[[str], Any], destination: str, notice: dict[str, Any], mapping: str, batch: DiscardedBatch
) -> None:
    """Send a notice to a destination.

    Args:
        client: returns the client of a service.
        destination: the ARN of a bucket, a queue or a topic.
        notice: as `notice_of` returns it.
        mapping: the UUID of the event source mapping.
        batch: the batch of the notice.
    """
    service, name = destination.split(":")[2], destination.split(":")[-1]
    if service == "s3":
        at = datetime.fromisoformat(notice["timestamp"])
        key = f"aws/lambda/{mapping}/{batch.shard}/{at:%Y/%m/%d/%Y-%m-%dT%H.%M.%S}-{uuid4()}"
        body = {**notice, "payload": json.dumps({"Records": batch.records})}
        client("s3").put_object(Bucket=name, Key=key, Body=json.dumps(body).encode())
    elif service == "sqs":
        queue = client("sqs").get_queue_url(QueueName=name)["QueueUrl"]
        client("sqs").send_message(QueueUrl=queue, MessageBody=json.dumps(notice))
    else:
        client("sns").publish(TopicArn=destination, Message=json.dumps(notice))


def notice_of(batch: DiscardedBatch, stream_arn: str, function_arn: str, now_us: int) -> dict[str, Any]:
    """The notice about a discarded batch, without its records."""
    is_kinesis = stream_arn.split(":")[2] == "kinesis"
    bodies = [record["kinesis" if is_kinesis else "dynamodb"] for record in batch.records]
    number = "sequenceNumber" if is_kinesis else "SequenceNumber"
    arrival = "approximateArrivalTimestamp" if is_kinesis else "ApproximateCreationDateTime"
    return {
        "requestContext": {
            "requestId": str(uuid4()),
            "functionArn": function_arn,
            "condition": batch.condition,
            "approximateInvokeCount": batch.invocations,
        },
        "responseContext": {"statusCode": 200, "executedVersion": "$LATEST", "functionError": "Unhandled"},
        "version": "1.0",
        "timestamp": _text(now_us / 1e6),
        "KinesisBatchInfo" if is_kinesis else "DDBStreamBatchInfo": {
            "shardId": batch.shard,
            "startSequenceNumber": bodies[0][number],
            "endSequenceNumber": bodies[-1][number],
            "approximateArrivalOfFirstRecord": _text(bodies[0][arrival]),
            "approximateArrivalOfLastRecord": _text(bodies[-1][arrival]),
            "batchSize": len(bodies),
            "streamArn": stream_arn,
        },
    }


def _text(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
