"""Forward DynamoDB Streams to Firehose: each record as Lambda passes it, one on each line, in the order of the stream.

Event: `{"Records": [{"eventID": …, "eventName": …, "dynamodb": {…}}, …]}`, from an event source mapping of a DynamoDB stream
with `ReportBatchItemFailures` (https://docs.aws.amazon.com/lambda/latest/dg/with-ddb.html).

Response: `{"batchItemFailures": [{"itemIdentifier": <sequence number>}]}`, with the *first* record that was not delivered. No later
record is sent after it, which keeps the order: Lambda retries everything from the lowest reported number
(https://docs.aws.amazon.com/lambda/latest/dg/services-ddb-batchfailurereporting.html). A record that is sent twice is one record
in the lake.

`DDB_LAKE_DELIVERY_STREAM`
    Name of the delivery stream (direct put).
`DDB_LAKE_OVERSIZE_URI`
    `s3://bucket/prefix/` below a landing prefix of the lake. A record of more than 1,000 KiB, which Firehose does not
    accept (https://docs.aws.amazon.com/firehose/latest/dev/limits.html), is written there as an object,
    `<prefix>yyyy/MM/dd/HH/<sequence number>-<hash>.json` by the hour
    of the change. The same record has the same key. So a large item does not block its shard, and is not lost.
`DDB_LAKE_BUCKET_OWNER`
    The account that must own this bucket; S3 refuses the object if another account does. The stacks set it.

Transient errors are retried for the rejected records alone, by `retry_policy.LAMBDA`, within the time left. Any other error (a
missing stream, a denied permission) is raised: Lambda counts it as an error and retries the batch. Logs contain sequence
numbers and nothing else of a record.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Final

import boto3
from aws_lambda_powertools import Logger
from botocore.config import Config

from ddb_lake.core.capture.firehose_records import MAX_RECORD_BYTES, batches, line_of, oversize_key
from ddb_lake.core.operations.retry_policy import LAMBDA
from ddb_lake.errors import ConfigError
from ddb_lake.lambdas.environment import BUCKET_OWNER, Variable, describe_required, expected_owner, read_variables
from ddb_lake.lambdas.transient_errors import is_transient

RESERVED_S: Final = 2.0
"""The part of an invocation's time that is reserved for returning the response."""

VARIABLES: Final = (
    Variable("DDB_LAKE_DELIVERY_STREAM", "<name>", required=True),
    Variable("DDB_LAKE_OVERSIZE_URI", "s3://<bucket>/<prefix>/", required=True),
    BUCKET_OWNER,
)

_CONFIG: Final = Config(retries={"mode": "standard", "total_max_attempts": 2}, connect_timeout=5, read_timeout=30)
_log: Final = Logger(service="ddb_lake.forward")


def handler(event: dict[str, Any], context: Any) -> dict[str, list[dict[str, str]]]:
    """The entry point of Lambda. Returns the partial batch response.

    Raises:
        ConfigError: a variable is missing or invalid.
        botocore.exceptions.ClientError: an error that is not transient.
    """
    found = event.get("Records") if isinstance(event, dict) else None
    forwarder = _forwarder(Settings.from_environment(os.environ), os.environ.get("AWS_ENDPOINT_URL", ""))
    return forwarder.forward(found if isinstance(found, list) else [], _remaining(context))


@dataclass(frozen=True, slots=True)
class Settings:
    """The settings: the delivery stream, and the bucket and prefix of records that are too large for it.

    `prefix` is empty or ends with a slash. `owner`: the account that must own the bucket, as a parameter of S3's operations.
    """

    stream: str
    bucket: str
    prefix: str = ""
    owner: Mapping[str, str] = field(default_factory=dict, hash=False)

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> Settings:
        """Read the settings. Raises ConfigError."""
        found = read_variables(VARIABLES, environment)
        uri = found["DDB_LAKE_OVERSIZE_URI"]
        scheme, _, place = uri.partition("://")
        bucket, _, prefix = place.partition("/")
        if scheme != "s3" or not bucket:
            raise ConfigError(f"DDB_LAKE_OVERSIZE_URI is {uri!r}: {describe_required(VARIABLES)}")
        prefix = prefix if prefix.endswith("/") or not prefix else f"{prefix}/"
        return cls(found["DDB_LAKE_DELIVERY_STREAM"], bucket, prefix, expected_owner(found))


@lru_cache(maxsize=4)
def _forwarder(settings: Settings, _endpoint: str) -> Forwarder:
    """The forwarder of this process: creating clients is slow."""
    session = boto3.session.Session()
    firehose, s3 = session.client("firehose", config=_CONFIG), session.client("s3", config=_CONFIG)
    return Forwarder(firehose, s3, settings)


def _remaining(context: Any) -> Callable[[], float]:
    """A function that returns the seconds left for this invocation, without `RESERVED_S`."""
    left_ms = getattr(context, "get_remaining_time_in_millis", lambda: 60_000)
    return lambda: left_ms() / 1000 - RESERVED_S


@dataclass(frozen=True, slots=True)
class Forwarder:
    """Sends records to one delivery stream. `pause` waits for seconds."""

    firehose: Any
    s3: Any
    settings: Settings
    pause: Callable[[float], None] = time.sleep

    def forward(self, records: Sequence[Any], remaining_s: Callable[[], float]) -> dict[str, list[dict[str, str]]]:
        """Send the records of an event in order. Returns Lambda's partial batch response."""
        lines = [line_of(record) for record in records]
        first_unsent: int | None = None
        for numbers in batches([len(line) for line in lines]):
            first_unsent = self._send(numbers, records, lines, remaining_s)
            if first_unsent is not None:
                break
        if first_unsent is None:
            return {"batchItemFailures": []}
        sequence = _sequence_number(records[first_unsent])
        _log.warning("not delivered in time", extra={"records": len(records), "first_unsent": first_unsent})
        return {"batchItemFailures": [{"itemIdentifier": sequence}]}

    def _send(
        self, numbers: Sequence[int], records: Sequence[Any], lines: Sequence[bytes], remaining_s: Callable[[], float]
    ) -> int | None:
        """Send one batch until it is accepted. Returns the number of the first record that is not; None if all are."""
        unsent = LAMBDA.drain(
            numbers,
            lambda left: self._send_once(left, records, lines),
            is_retryable=is_transient,
            sleep=self.pause,
            remaining_s=remaining_s,
        )
        return unsent[0] if unsent else None

    def _send_once(self, numbers: Sequence[int], records: Sequence[Any], lines: Sequence[bytes]) -> list[int]:
        """Send once. Returns the numbers of the records that Firehose rejected."""
        if len(lines[numbers[0]]) > MAX_RECORD_BYTES:  # a batch of its own
            self._write_oversize(records[numbers[0]], lines[numbers[0]])
            return []
        answer = self.firehose.put_record_batch(
            DeliveryStreamName=self.settings.stream, Records=[{"Data": lines[number]} for number in numbers]
        )
        if not answer["FailedPutCount"]:
            return []
        responses = answer["RequestResponses"]
        return [number for number, one in zip(numbers, responses, strict=True) if one.get("ErrorCode")]

    def _write_oversize(self, record: Any, line: bytes) -> None:
        key = self.settings.prefix + oversize_key(record, line)
        where = {"Bucket": self.settings.bucket, "Key": key, **self.settings.owner}
        self.s3.put_object(**where, Body=line, ContentType="application/json")
        _log.warning("larger than Firehose accepts", extra={"bytes": len(line), "sequence": _sequence_number(record)})


def _sequence_number(record: Any) -> str:
    """The record's identifier in a partial batch response. If it is empty, Lambda retries the complete batch."""
    body = record.get("dynamodb") if isinstance(record, Mapping) else None
    sequence = body.get("SequenceNumber") if isinstance(body, Mapping) else None
    return sequence if isinstance(sequence, str) else ""
