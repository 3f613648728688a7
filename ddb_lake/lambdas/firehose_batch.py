"""The protocol of a Firehose transformation function: a batch of records in, one result for each of them out.

Event: `{"records": [{"recordId": …, "data": <base64>, "kinesisRecordMetadata": {…}}, …]}`. Response: `{"records": [{"recordId": …,
"result": "Ok" | "Dropped" | "ProcessingFailed", "data": <base64>, "metadata": {"partitionKeys": {…}}}, …]}`.
https://docs.aws.amazon.com/firehose/latest/dev/data-transformation-status-model.html

Every recordId is returned once. A record that cannot be processed fails alone, with any exception. The response stays
below Lambda's 6 MB: a record that does not fit is ProcessingFailed, and Firehose writes the original to the error prefix. Logs
contain nothing of a record but its recordId. Standard library only.
"""

from __future__ import annotations

import base64
import json
import logging
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from ddb_lake.core.decode.arrival_stamp import UNKNOWN_ARRIVAL, Arrival, read_stamp
from ddb_lake.core.operations.count_text import count_text
from ddb_lake.core.values.times import UNIT_US, arrival_us_or_none
from ddb_lake.errors import UndecodableError

MAX_RESPONSE_BYTES: Final = 6 * 1024 * 1024
"""The largest response of a synchronous invocation.

https://docs.aws.amazon.com/lambda/latest/dg/gettingstarted-limits.html
"""

_FRAME_BYTES: Final = len('{"records": []}')
_RESULT_BYTES: Final = len('{"recordId": , "result": "ProcessingFailed", "data": ""}, ')
_NO_ROOM: Final = "the response would be larger than 6 MB; lower the transformation's buffer size"
_LOGGED_REASONS: Final = 20
_log: Final = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Kept:
    """A record to deliver: its bytes, and the partition keys for dynamic partitioning."""

    data: bytes
    partition_keys: Mapping[str, str] | None = None


Process: TypeAlias = Callable[[bytes, Arrival], Kept | None]
"""Turns the bytes and the arrival of one record into what is delivered; None drops the record.

Raises UndecodableError, with the reason, for a record that goes to the error prefix.
"""


def is_blank(data: bytes) -> bool:
    """Whether a record is JSON white space alone. Such a record is dropped."""
    return not data.strip(b" \t\r\n")


def process_batch(event: Any, process: Process) -> dict[str, list[dict[str, Any]]]:
    """The response for an event: Ok, Dropped or ProcessingFailed for each record, in order. Never raises."""
    batch = event.get("records") if isinstance(event, dict) else None
    records: list[Any] = batch if isinstance(batch, list) else []
    reasons: Counter[str] = Counter()
    results = [_result(record, process, reasons) for record in records]
    _make_fit(results, reasons)
    if reasons:
        _log.warning(
            "%d of %s failed: %s",
            reasons.total(),
            count_text(len(records), "record"),
            "; ".join(f"{count} × {reason}" for reason, count in reasons.most_common(_LOGGED_REASONS)),
        )
    return {"records": results}


def _result(record: Any, process: Process, reasons: Counter[str]) -> dict[str, Any]:
    if not isinstance(record, dict):
        record = {}
    result: dict[str, Any] = {"recordId": record.get("recordId")}
    try:
        kept = process(_data(record), _arrival(record))
    except UndecodableError as error:
        reason = str(error)
    except Exception as error:  # a defect fails this record alone; Firehose writes it to the error prefix
        reason = f"unexpected {type(error).__name__}"
    else:
        if kept is None:
            return result | {"result": "Dropped"}
        result |= {"result": "Ok", "data": base64.b64encode(kept.data).decode()}
        if kept.partition_keys:
            result["metadata"] = {"partitionKeys": dict(kept.partition_keys)}
        return result
    reasons[reason] += 1
    result["result"] = "ProcessingFailed"
    if isinstance(record.get("data"), str):
        result["data"] = record["data"]
    return result


def _data(record: Mapping[str, Any]) -> bytes:
    data = record.get("data")
    if not isinstance(data, str):
        raise UndecodableError("data: missing")
    try:
        return base64.b64decode(data, validate=True)
    except ValueError:
        raise UndecodableError("data: no base64") from None


def _arrival(record: Mapping[str, Any]) -> Arrival:
    metadata = record.get("kinesisRecordMetadata")
    arrival = read_stamp(metadata) if isinstance(metadata, dict) else UNKNOWN_ARRIVAL
    if arrival.arrived_us is not None:
        return arrival
    arrived_us = arrival_us_or_none(record.get("approximateArrivalTimestamp"), UNIT_US["MILLISECOND"])
    return arrival.or_else(Arrival(arrived_us=arrived_us))


def _make_fit(results: list[dict[str, Any]], reasons: Counter[str]) -> None:
    """Remove data from results in place until the response fits: first the copies in failed results, then Ok results."""
    size = _FRAME_BYTES + sum(map(_size_bytes, results))
    for wanted in ("ProcessingFailed", "Ok"):
        for result in reversed(results):
            if size <= MAX_RESPONSE_BYTES:
                return
            if result["result"] != wanted or "data" not in result:
                continue
            size -= _size_bytes(result)
            del result["data"]
            if wanted == "Ok":
                result["result"] = "ProcessingFailed"
                result.pop("metadata", None)
                reasons[_NO_ROOM] += 1
            size += _size_bytes(result)


def _size_bytes(result: dict[str, Any]) -> int:
    """An upper bound of the size of a result in the response."""
    if result["result"] != "Ok" or "metadata" in result:
        return len(json.dumps(result)) + 2
    return _RESULT_BYTES + len(json.dumps(result["recordId"])) + len(result["data"])
