"""DynamoDB Streams to Firehose: each record as Lambda gives it, on a line of its own, in its order.

Event source mapping: a DynamoDB stream, with `ReportBatchItemFailures`. For order, what comes back of a batch is the
sequence number of the *first* record that was not delivered, and nothing after it is sent any more: Lambda takes the least
number reported as its checkpoint and hands over everything from there again. Reporting each record alone would
redeliver no less. Records sent twice are one record in the lake.

`DDB_LAKE_DELIVERY_STREAM`
    Name of the delivery stream (direct put).
`DDB_LAKE_OVERSIZE_URI`
    `s3://bucket/prefix/` below the places that the lake applies. Records of more than 1,000 KiB, which Firehose does not
    take, are written there as objects of their own, `<prefix>yyyy/MM/dd/HH/<sequence number>-<hash>.json` by the hour
    of the change: the same record has the same key. So a large item never holds up its shard, and is not lost.

Throttling and passing faults are tried again with capped exponential back-off, only for what failed, until the time
left is short. A fault that trying again does not mend (a missing stream, a denied right) raises: Lambda counts it as an
error, and the records stay in the stream. Nothing of a record but its sequence number is ever logged.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

import boto3
from aws_lambda_powertools import Logger
from botocore.config import Config

from ddb_lake.core.capture.firehose_records import (
    MAX_RECORD_BYTES,
    batches,
    line_of,
    oversize_key,
)
from ddb_lake.core.operations.retry_policy import LAMBDA
from ddb_lake.errors import ConfigError
from ddb_lake.lambdas.environment import Variable, expected, given
from ddb_lake.lambdas.retries import is_transient

RESERVED_S: Final = 2.0
"""The part of an invocation's time that is reserved for returning the response."""

VARIABLES: Final = (
    Variable("DDB_LAKE_DELIVERY_STREAM", "<name>", required=True),
    Variable("DDB_LAKE_OVERSIZE_URI", "s3://<bucket>/<prefix>/", required=True),
)

_CONFIG: Final = Config(retries={"mode": "standard", "total_max_attempts": 2}, connect_timeout=5, read_timeout=30)
_log: Final = Logger(service="ddb_lake.forward")


def handler(event: dict[str, Any], context: Any) -> dict[str, list[dict[str, str]]]:
    """Lambda's entry point: what to hand over again.

    Raises:
        ConfigError: the environment lacks something.
        botocore.exceptions.ClientError: trying again does not help.
    """
    found = event.get("Records") if isinstance(event, dict) else None
    forwarder = _forwarder(Settings.from_environment(os.environ), os.environ.get("AWS_ENDPOINT_URL", ""))
    return forwarder.forward(found if isinstance(found, list) else [], _remaining(context))


@dataclass(frozen=True, slots=True)
class Settings:
    """What the environment asks for: the delivery stream, and where records go that are too large for it.

    `prefix` is empty or ends with a slash.
    """

    stream: str
    bucket: str
    prefix: str

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> Settings:
        """The settings. Raises ConfigError that says what is expected."""
        found = given(VARIABLES, environment)
        uri = found["DDB_LAKE_OVERSIZE_URI"]
        scheme, _, place = uri.partition("://")
        bucket, _, prefix = place.partition("/")
        if scheme != "s3" or not bucket:
            raise ConfigError(f"DDB_LAKE_OVERSIZE_URI is {uri!r}: {expected(VARIABLES)}")
        prefix = prefix if prefix.endswith("/") or not prefix else f"{prefix}/"
        return cls(found["DDB_LAKE_DELIVERY_STREAM"], bucket, prefix)


@lru_cache(maxsize=4)
def _forwarder(settings: Settings, _endpoint: str) -> Forwarder:
    """One for the life of the process; clients are dear to make."""
    session = boto3.session.Session()
    firehose, s3 = session.client("firehose", config=_CONFIG), session.client("s3", config=_CONFIG)
    return Forwarder(firehose, s3, settings.stream, settings.bucket, settings.prefix)


def _remaining(context: Any) -> Callable[[], float]:
    """Seconds left of this invocation, less what answering takes."""
    left_ms = getattr(context, "get_remaining_time_in_millis", lambda: 60_000)
    return lambda: left_ms() / 1000 - RESERVED_S


@dataclass(frozen=True, slots=True)
class Forwarder:
    """Sends records to one delivery stream; `pause` waits for seconds."""

    firehose: Any
    s3: Any
    stream: str
    bucket: str
    prefix: str = ""
    pause: Callable[[float], None] = time.sleep

    def forward(self, records: Sequence[Any], remaining_s: Callable[[], float]) -> dict[str, list[dict[str, str]]]:
        """Send the records of an event in their order; Lambda's partial batch response."""
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
            lambda left: self._try(left, records, lines),
            is_retryable=is_transient,
            sleep=self.pause,
            remaining_s=remaining_s,
        )
        return unsent[0] if unsent else None

    def _try(self, numbers: Sequence[int], records: Sequence[Any], lines: Sequence[bytes]) -> list[int]:
        """Send once. Returns the numbers of the records that Firehose rejected."""
        if len(lines[numbers[0]]) > MAX_RECORD_BYTES:  # a batch of its own
            self._put_aside(records[numbers[0]], lines[numbers[0]])
            return []
        answer = self.firehose.put_record_batch(
            DeliveryStreamName=self.stream, Records=[{"Data": lines[number]} for number in numbers]
        )
        if not answer["FailedPutCount"]:
            return []
        responses = answer["RequestResponses"]
        return [number for number, one in zip(numbers, responses, strict=True) if one.get("ErrorCode")]

    def _put_aside(self, record: Any, line: bytes) -> None:
        key = self.prefix + oversize_key(record, line)
        self.s3.put_object(Bucket=self.bucket, Key=key, Body=line, ContentType="application/json")
        _log.warning("larger than Firehose takes", extra={"bytes": len(line), "sequence": _sequence_number(record)})


def _sequence_number(record: Any) -> str:
    """Its name in a partial batch response; empty if it has none, upon which Lambda hands over the whole batch again."""
    body = record.get("dynamodb") if isinstance(record, Mapping) else None
    sequence = body.get("SequenceNumber") if isinstance(body, Mapping) else None
    return sequence if isinstance(sequence, str) else ""
