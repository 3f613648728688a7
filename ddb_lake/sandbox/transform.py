"""Firehose's Lambda processing: the event of a handler, and how Firehose interprets its response.

https://docs.aws.amazon.com/firehose/latest/dev/data-transformation.html
"""

from __future__ import annotations

import base64
import json
import logging
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from ddb_lake.core.operations.count_text import count_text
from ddb_lake.sandbox.functions import FunctionFault

Handler: TypeAlias = Callable[[dict[str, Any]], Any]
"""A transformation, such as a `Function`: Firehose's event in, `{"records": [{"recordId", "result", "data", …}]}` out."""

_LOG = logging.getLogger(__name__)
_RESULTS = ("Ok", "Dropped", "ProcessingFailed")
_MOST_RESPONSE_BYTES = 6 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Arrived:
    """One record as it reached the delivery stream. `kinesis` is its metadata, None for a direct put."""

    record_id: str
    data: bytes
    arrived_us: int
    kinesis: dict[str, Any] | None = None

    def in_event(self) -> dict[str, Any]:
        """The record as a member of the event's `records`."""
        record: dict[str, Any] = {
            "recordId": self.record_id,
            "approximateArrivalTimestamp": self.arrived_us // 1000,
            "data": base64.b64encode(self.data).decode(),
        }
        if self.kinesis is not None:
            record["kinesisRecordMetadata"] = self.kinesis
        return record


@dataclass(frozen=True, slots=True)
class Transformed:
    """A record to deliver: its bytes, and the partition keys that the handler returned."""

    source: Arrived
    data: bytes
    partition_keys: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Failed:
    """A record that goes to the error output, with Firehose's reason."""

    source: Arrived
    code: str
    message: str
    attempts: int


Outcome: TypeAlias = Transformed | Failed


@dataclass(frozen=True, slots=True)
class Transform:
    """The Lambda processor of a delivery stream, run in this process."""

    handler: Handler
    stream_arn: str
    region: str
    source_arn: str | None = None
    retries: int = 3

    def process(self, records: Sequence[Arrived]) -> list[Outcome]:
        """Run the handler for `records`; repeat it if it raises. Dropped records are left out."""
        attempts = 0
        while True:
            attempts += 1
            try:
                answer = self._invoke(records)
                break
            except FunctionFault as fault:
                code, message = fault.code, fault.message
            except Exception:  # whatever the handler raises is a function error to Firehose
                code = "Lambda.FunctionError"
                message = "The Lambda function was successfully invoked but it returned an error result."
            if attempts > self.retries:
                _LOG.warning(
                    "%s: %s failed after %s: %s",
                    self.stream_arn,
                    count_text(len(records), "record"),
                    count_text(attempts, "attempt"),
                    code,
                )
                return [Failed(record, code, message, attempts) for record in records]
        return list(_outcomes(records, answer, attempts))

    def _invoke(self, records: Sequence[Arrived]) -> Any:
        event: dict[str, Any] = {"invocationId": str(uuid.uuid4())}
        if self.source_arn is not None:
            event["sourceKinesisStreamArn"] = self.source_arn
        event |= {"deliveryStreamArn": self.stream_arn, "region": self.region}
        event["records"] = [record.in_event() for record in records]
        # Through JSON both ways: a handler sees no object of ours, and may answer nothing JSON cannot say.
        answer = json.dumps(self.handler(json.loads(json.dumps(event))))
        if len(answer) > _MOST_RESPONSE_BYTES:
            raise ValueError("the response is larger than 6 MB")
        return json.loads(answer)


def _outcomes(records: Sequence[Arrived], answer: Any, attempts: int) -> Iterator[Outcome]:
    results = _by_id(answer)
    for record in records:
        of_record = None if results is None else results.get(record.record_id, [])
        yield from _outcome(record, of_record, attempts)


def _by_id(answer: Any) -> dict[str, list[dict[str, Any]]] | None:
    """The response's results by record id; None if the response has another form."""
    listed = answer.get("records") if isinstance(answer, dict) else None
    if not isinstance(listed, list):
        return None
    results: dict[str, list[dict[str, Any]]] = {}
    for result in listed:
        if not isinstance(result, dict) or result.get("result") not in _RESULTS:
            return None
        results.setdefault(str(result.get("recordId")), []).append(result)
    return results


def _outcome(record: Arrived, results: list[dict[str, Any]] | None, attempts: int) -> Iterator[Outcome]:
    fault = None
    if results is None:
        fault = "Lambda.JsonProcessingException", "The returned records do not follow the status model."
    elif not results:
        fault = "Lambda.MissingRecordId", "One or more record IDs were not returned."
    elif len(results) > 1:
        fault = "Lambda.DuplicatedRecordId", "Multiple records were returned with the same record ID."
    elif results[0]["result"] == "ProcessingFailed":
        fault = "Lambda.ProcessingFailedStatus", "ProcessingFailed status set for record"
    if fault is not None:
        yield Failed(record, *fault, attempts)
    elif results and results[0]["result"] == "Ok":
        yield from _delivered(record, results[0], attempts)


def _delivered(record: Arrived, result: dict[str, Any], attempts: int) -> Iterator[Outcome]:
    metadata = result.get("metadata") or {}
    try:
        data = base64.b64decode(result.get("data", ""), validate=True)
    except (ValueError, TypeError):
        yield Failed(record, "Lambda.FunctionError", "The returned data is no base64.", attempts)
        return
    yield Transformed(record, data, {str(k): str(v) for k, v in (metadata.get("partitionKeys") or {}).items()})
