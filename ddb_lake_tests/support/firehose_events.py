"""Firehose's transformation events, and what a handler answered to them."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Sequence
from typing import Any

from ddb_lake.core.decode.objects import read_object
from ddb_lake.core.values.change_record import ChangeRecord, Rejected
from ddb_lake_tests.support import envelopes
from ddb_lake_tests.support.samples import sample_files

Handler = Callable[[dict[str, Any], object], dict[str, Any]]

BLOCKED = ("orjson", "cramjam", "boto3", "botocore", "duckdb", "pyarrow", "pydantic", "numpy", "dagster", "yaml")
"""What is no pure Python, or not in the packages of the handlers that transform."""


def firehose_samples() -> list[dict[str, Any]]:
    """Events in which no record holds a change."""
    return [json.loads(path.read_text()) for path in sample_files("firehose_lambda_events", "*.json")]


def results(handler: Handler, event: dict[str, Any]) -> list[dict[str, Any]]:
    """The answer's results, after what holds for every answer was looked at."""
    answer = json.loads(json.dumps(handler(event, None)))
    found: list[dict[str, Any]] = answer["records"]
    assert [result["recordId"] for result in found] == [record["recordId"] for record in event["records"]]
    assert {result["result"] for result in found} <= {"Ok", "Dropped", "ProcessingFailed"}
    assert len(json.dumps(answer)) <= 6 * 1024 * 1024
    return found


def transformed(handler: Handler, *contents: bytes) -> list[tuple[str, bytes]]:
    """The result and the data of each record."""
    found = results(handler, envelopes.firehose_event(*contents))
    return [(result["result"], base64.b64decode(result.get("data", ""))) for result in found]


def records_of(data: bytes, key_names: Sequence[str] | None = None) -> list[ChangeRecord | Rejected]:
    """What the lake reads in delivered bytes."""
    return [located.outcome for located in read_object(data, key_names=key_names)]
