"""GetMetricData: what CloudWatch has not returned is an error, also where the request succeeds."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import pytest

from ddb_lake.aws.cloudwatch import Metric, hourly_values
from ddb_lake.errors import TransientError

METRICS = [Metric("AWS/Kinesis", "IncomingRecords", ("StreamName", "orders"))]
AT = datetime(2026, 3, 1, 9, tzinfo=UTC)


class Answering:
    """A client of CloudWatch that answers with pages of results."""

    def __init__(self, pages: Sequence[Sequence[dict[str, Any]]]) -> None:
        self.pages = pages

    def get_paginator(self, _operation: str) -> Any:
        return self

    def paginate(self, **_: Any) -> Any:
        return ({"MetricDataResults": page} for page in self.pages)


def result(status: str, *values: float) -> dict[str, Any]:
    return {"Id": "m0", "StatusCode": status, "Timestamps": [AT] * len(values), "Values": list(values)}


def test_values_of_complete_metrics_are_returned() -> None:
    at_us = int(AT.timestamp()) * 1_000_000
    for pages in ([[result("Complete", 5)]], [[result("PartialData", 5)], [result("Complete")]]):
        assert hourly_values(Answering(pages), METRICS, 0, at_us) == [{at_us: 5.0}]


@pytest.mark.parametrize(
    "pages",
    [[[result("Forbidden")]], [[result("InternalError", 5)]], [[result("PartialData", 5)]], [[]]],
    ids=["forbidden", "internal error", "partial data", "no result"],
)
def test_metric_that_is_not_complete_is_an_error(pages: Sequence[Sequence[dict[str, Any]]]) -> None:
    with pytest.raises(TransientError, match="has not returned all values of IncomingRecords"):
        hourly_values(Answering(pages), METRICS, 0, 1)
