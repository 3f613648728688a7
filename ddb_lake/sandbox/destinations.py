"""Kinesis Data Streams for DynamoDB: the destinations of tables, and their records.

https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/kds.html

A table has one active destination. Faults can be switched on: records delivered twice (same bytes, same eventID) and out
of order. Delayed records are put before the stream is read, so no record is lost.
"""

from __future__ import annotations

import random
import uuid
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from ddb_lake.sandbox import backend
from ddb_lake.sandbox.awserror import AwsError
from ddb_lake.sandbox.backend import Scope
from ddb_lake.sandbox.capture import TableRef
from ddb_lake.sandbox.clock import Clock
from ddb_lake.sandbox.history import Change, TableHistory
from ddb_lake.sandbox.metrics import Metrics
from ddb_lake.sandbox.records import change_record, partition_key

_STATE = "Table is not in a valid state to enable Kinesis Streaming Destination: "
_PRECISIONS = ("MILLISECOND", "MICROSECOND")


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamFaults:
    """The faults of the stream. Probabilities are from 0 to 1; `seed` makes the choices repeatable.

    A late record comes after up to `lateness` later ones. Records of more than `record_limit_bytes` are dropped, as
    DynamoDB drops records that Kinesis does not accept.
    """

    duplicates: float = 0.0
    reordering: float = 0.0
    lateness: int = 5
    seed: int = 0
    record_limit_bytes: int = 1_048_576


@dataclass(frozen=True, slots=True)
class _Destination:
    stream_arn: str
    status: str
    precision: str | None = None

    def described(self) -> dict[str, Any]:
        declared = {"ApproximateCreationDateTimePrecision": self.precision} if self.precision else {}
        return {"StreamArn": self.stream_arn, "DestinationStatus": self.status, **declared}


@dataclass(slots=True)
class _Held:
    reference: TableRef
    stream_arn: str
    partition_key: str
    data: bytes
    overtakers: int
    since_us: int
    was_late: bool = False


class Destinations:
    """The streaming destinations of all tables. Callers hold the recorder's lock."""

    def __init__(self, clock: Clock, faults: StreamFaults, metrics: Metrics) -> None:
        self._clock = clock
        self._metrics = metrics
        self._faults = faults
        self._random = random.Random(faults.seed)
        self._by_table: dict[TableRef, dict[str, _Destination]] = {}
        self._held: list[_Held] = []
        self.skipped = 0

    def forget(self) -> None:
        """Drop all destinations and delayed records."""
        self._by_table.clear()
        self._held.clear()
        self.skipped = 0

    def drop(self, scope: Scope, name: str) -> None:
        """Drop the destination of a deleted table."""
        self._by_table.pop((scope, name), None)

    def send(self, reference: TableRef, _history: TableHistory, change: Change) -> None:
        """Put a change's record into the streams of its table, with the configured faults."""
        self._let_overtake()
        for destination in self._by_table.get(reference, {}).values():
            if destination.status == "ACTIVE":
                self._send_to(destination, reference, change)

    def release(self) -> None:
        """Put all delayed records, before the stream is read."""
        held, self._held = self._held, []
        for record in held:
            self._put(record)

    def enable(self, scope: Scope, table: Any, _history: TableHistory, body: dict[str, Any]) -> dict[str, Any]:
        """EnableKinesisStreamingDestination."""
        precision = _precision(body.get("EnableKinesisStreamingConfiguration"))
        arn = _stream_arn(body)
        known = self._by_table.setdefault((scope, table.name), {})
        if any(destination.status == "ACTIVE" for destination in known.values()):
            raise AwsError(
                "ValidationException",
                _STATE + "EnableKinesisStreamingDestination must be DISABLED or ENABLE_FAILED to perform "
                "ENABLE operation.",
            )
        if backend.find_kinesis_stream(arn) is None:
            raise AwsError("ResourceNotFoundException", f"Kinesis stream {arn} not found.")
        known[arn] = _Destination(arn, "ACTIVE", precision)
        return _answer(table, body, "ENABLING", "EnableKinesisStreamingConfiguration", precision)

    def disable(self, scope: Scope, table: Any, _history: TableHistory, body: dict[str, Any]) -> dict[str, Any]:
        """DisableKinesisStreamingDestination."""
        destination = self._active(scope, table, body, "perform DISABLE operation.")
        self._by_table[scope, table.name][destination.stream_arn] = _Destination(destination.stream_arn, "DISABLED")
        return _answer(table, body, "DISABLING", "EnableKinesisStreamingConfiguration", None)

    def update(self, scope: Scope, table: Any, history: TableHistory, body: dict[str, Any]) -> dict[str, Any]:
        """UpdateKinesisStreamingDestination: change the precision of the times, from the next record on."""
        precision = _precision(body.get("UpdateKinesisStreamingConfiguration"))
        if precision is None:
            raise AwsError(
                "ValidationException",
                "Streaming destination cannot be updated with given parameters: "
                "UpdateKinesisStreamingConfiguration cannot be null or contain only null values",
            )
        destination = self._active(scope, table, body, "be updated.")
        if precision == (destination.precision or "MILLISECOND"):
            raise AwsError(
                "ValidationException",
                f"Invalid Request: Precision is already set to the desired value of {precision} "
                f"for tableId: {history.table_id}, kdsArn: {destination.stream_arn}",
            )
        updated = replace(destination, precision=precision)
        self._by_table[scope, table.name][destination.stream_arn] = updated
        return _answer(table, body, "UPDATING", "UpdateKinesisStreamingConfiguration", precision)

    def describe(self, scope: Scope, table: Any, _history: TableHistory, _body: dict[str, Any]) -> dict[str, Any]:
        """DescribeKinesisStreamingDestination."""
        known = self._by_table.get((scope, table.name), {}).values()
        described = [destination.described() for destination in known]
        return {"TableName": table.name, "KinesisDataStreamDestinations": described}

    def _active(self, scope: Scope, table: Any, body: dict[str, Any], purpose: str) -> _Destination:
        found = self._by_table.get((scope, table.name), {}).get(_stream_arn(body))
        if found is None or found.status != "ACTIVE":
            raise AwsError("ValidationException", f"{_STATE}KinesisStreamingDestination must be ACTIVE to {purpose}")
        return found

    def _send_to(self, destination: _Destination, reference: TableRef, change: Change) -> None:
        scope, name = reference
        event_id = str(uuid.uuid4())
        data = change_record(
            change, region=scope.region, table_name=name, event_id=event_id, precision=destination.precision
        )
        if len(data) > self._faults.record_limit_bytes:
            self.skipped += 1
            self._metrics.not_replicated(scope, name, change.time_us)
            return
        sent = reference, destination.stream_arn, partition_key(change), data
        record = _Held(*sent, self._lateness(), change.time_us)
        copies = [record]
        if self._random.random() < self._faults.duplicates:
            copies.append(replace(record, overtakers=self._lateness()))
        for copy in copies:
            if copy.overtakers:
                self._held.append(replace(copy, was_late=True))
            else:
                self._put(copy)

    def _lateness(self) -> int:
        late = self._random.random() < self._faults.reordering
        return self._random.randint(1, self._faults.lateness) if late else 0

    def _let_overtake(self) -> None:
        for record in self._held:
            record.overtakers -= 1
        due = [record for record in self._held if record.overtakers < 0]
        self._held = [record for record in self._held if record.overtakers >= 0]
        for record in due:
            self._put(record)

    def _put(self, record: _Held) -> None:
        stream = backend.find_kinesis_stream(record.stream_arn)
        if stream is None:
            return  # a deleted stream loses what was on its way, as in AWS
        now_us = self._clock.now_us()
        backend.put_kinesis_record(stream, record.partition_key, record.data, now_us)
        scope, table = record.reference
        self._metrics.replicated(scope, record.stream_arn.rpartition("/")[2], len(record.data), now_us)
        if record.was_late:
            self._metrics.replication_age(scope, table, now_us - record.since_us, now_us)


def _stream_arn(body: dict[str, Any]) -> str:
    arn = body.get("StreamArn")
    if not isinstance(arn, str):
        raise AwsError("ValidationException", "Member 'streamArn' must not be null")
    return arn


def _precision(configuration: dict[str, Any] | None) -> str | None:
    precision = (configuration or {}).get("ApproximateCreationDateTimePrecision")
    if precision is not None and precision not in _PRECISIONS:
        raise AwsError(
            "ValidationException", f"approximateCreationDateTimePrecision must be one of {', '.join(_PRECISIONS)}"
        )
    return precision


def _answer(table: Any, body: dict[str, Any], status: str, name: str, precision: str | None) -> dict[str, Any]:
    answer: dict[str, Any] = {"TableName": table.name, "StreamArn": body["StreamArn"], "DestinationStatus": status}
    if precision is not None:
        answer[name] = {"ApproximateCreationDateTimePrecision": precision}
    return answer


OPERATIONS: dict[str, Callable[..., dict[str, Any]]] = {
    "EnableKinesisStreamingDestination": Destinations.enable,
    "DisableKinesisStreamingDestination": Destinations.disable,
    "UpdateKinesisStreamingDestination": Destinations.update,
    "DescribeKinesisStreamingDestination": Destinations.describe,
}
