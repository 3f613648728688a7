"""A lake on which each check is green, and the evaluation of one check on it."""

from __future__ import annotations

from typing import Any

from ddb_lake.checks.check import Check, Subject
from ddb_lake.checks.registry import CHECKS
from ddb_lake.core.verify.outcome import Outcome
from ddb_lake.pipeline.load.load import load_export
from ddb_lake.pipeline.verify import daily_sample
from ddb_lake_tests.support.sandbox_lake import BUCKET
from ddb_lake_tests.support.verified_source import LANDING, Stand

CHECKED = [
    check
    for check in CHECKS
    if check.evaluate is not None and not check.reads_dagster and check.asset not in ("aurora", "streams")
]
SETTINGS: dict[str, Any] = {
    "changes": {
        "uri": f"s3://{BUCKET}/{LANDING}",
        "errors_uri": f"s3://{BUCKET}/failed/",
        "delivery_stream": "hose",
    },
    "entities": [{"name": "any"}],
    "checks": {
        "full": {"against": "scan"},
        "canary": {"key": {"customer": {"S": "canary"}, "order_id": {"S": "canary"}}},
    },
}


def fill(stand: Stand) -> None:
    """Write, export, load, change and deliver, so that each check can compare something."""
    for number in range(20):
        stand.put(f"o{number}", total="1")
    stand.deliver()
    stand.wait(5)
    load_export(stand.lake, "orders", stand.export())
    outcome(stand, next(check for check in CHECKED if check.name == "canary_arrives"))
    stand.wait(40)
    stand.put("o1", total="2")
    stand.deliver()
    stand.wait(120)


def outcome(stand: Stand, check: Check) -> Outcome:
    return check.outcome(Subject(stand.lake, stand.lake.table("orders")))


def due_again(stand: Stand, check: Check) -> None:
    """What a check needs to compare again: a new day for the sample, and a canary that has arrived."""
    if check.name == "sample_matches_source":
        stand.wait(daily_sample.EVERY_S / 60)
    if check.name == "canary_arrives":
        stand.deliver()
