"""Red, yellow, green and unknown of `conservation` and `objects_intact`."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from ddb_lake.checks.check import Subject
from ddb_lake.checks.conservation import conservation, conservation_outcome, objects_intact, objects_outcome
from ddb_lake.core.capture.conservation import HOUR_US, Balance, Shortage
from ddb_lake.core.capture.sightings import MOST, Sighting
from ddb_lake.core.verify.outcome import Color
from ddb_lake.pipeline.plan.sightings import SeenObjects
from ddb_lake.pipeline.verify.conservation import Comparison, Count, NotComparedError

SHORT = (Shortage(0, HOUR_US, 64),)
GOOD = Comparison(
    0,
    2 * HOUR_US,
    Count("the Kinesis stream changes", "accepted", Balance(100, 100)),
    (Count("the delivery stream hose", "delivered", Balance(100, 100)),),
)


def accepted(found: Balance) -> Count:
    assert GOOD.accepted is not None
    return replace(GOOD.accepted, found=found)


def delivered(found: Balance, **known: Any) -> tuple[Count, ...]:
    return (replace(GOOD.delivered[0], found=found, **known),)


LOST = Balance(100, 36, SHORT)
NOT_DELIVERED = replace(GOOD, accepted=accepted(LOST), delivered=delivered(Balance(36, 36)))


@pytest.mark.parametrize(
    ("found", "color", "words"),
    [
        (GOOD, "green", "accepted 100 records, the lake has 100; "),
        (replace(GOOD, accepted=accepted(replace(LOST, shortages=(), repaired=64))), "green", "repaired by exports"),
        (replace(GOOD, accepted=accepted(LOST), delivered=delivered(LOST)), "red", "Objects were removed"),
        (replace(GOOD, accepted=accepted(LOST), delivered=()), "red", "They were not delivered"),
        (NOT_DELIVERED, "red", "They were not delivered"),
        (replace(NOT_DELIVERED, delivered=delivered(Balance(36, 36), processed=True)), "yellow", "its function drops"),
        (replace(GOOD, delivered=delivered(LOST, partitioned=True)), "yellow", "partitions its records"),
        (replace(GOOD, accepted=accepted(LOST), waiting=2), "yellow", "2 landed objects of that time"),
        (replace(GOOD, accepted=accepted(Balance(100, 150, excess=50))), "yellow", "notably more"),
        (replace(GOOD, accepted=accepted(Balance(10_000, 10_050, excess=50))), "green", "10,050"),
        (
            replace(GOOD, delivered=delivered(Balance(80, 100, excess=20), failed=20)),
            "green",
            "records of failed deliveries",
        ),
        (replace(GOOD, notes=("CloudWatch has no X",)), "green", "Not compared: CloudWatch has no X."),
        (replace(GOOD, accepted=None, notes=("CloudWatch has no X",)), "yellow", "what could be compared is equal"),
        (replace(GOOD, fault="the destination cannot be read"), "yellow", "the destination cannot be read; "),
        (replace(NOT_DELIVERED, fault="the destination cannot be read"), "red", "They were not delivered"),
    ],
)
def test_color_and_sentence_of_conservation(found: Comparison, color: Color, words: str) -> None:
    outcome = conservation_outcome("orders", found)
    assert (outcome.color(), words in outcome.text) == (color, True), outcome.text
    assert ("missing records" in outcome.figures) == any(count.found.shortages for count in found.counts)


def test_conservation_that_cannot_compare_is_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    def nothing(_lake: Any, _table: Any) -> Comparison:
        raise NotComparedError("CloudWatch has no IncomingRecords of changes")

    monkeypatch.setattr("ddb_lake.checks.conservation.compare_counts", nothing)
    anything: Any = object()
    outcome = conservation(Subject(anything, anything))
    assert (outcome.state, outcome.color(), outcome.text) == (
        "unknown",
        "yellow",
        "CloudWatch has no IncomingRecords of changes",
    )


def test_objects_of_a_place_where_nothing_ever_landed_are_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ddb_lake.checks.conservation.examine_seen_objects", lambda _lake, _table: SeenObjects())
    for changes, state in ((None, "unknown"), (object(), "pass")):
        anything: Any = SimpleNamespace(name="orders", changes=lambda _name, found=changes: found)
        assert objects_intact(Subject(anything, anything)).state == state


GONE = Sighting("s3://landing/2026/03/01/09/object", 1234, 0, HOUR_US)
NAMED = replace(GONE, uri="/landing/object", size_bytes=None, seen_by="notification")


@pytest.mark.parametrize(
    ("found", "color", "words"),
    [
        (SeenObjects(ingested=3, waiting=(GONE,)), "green", "3 were ingested since the last examination, 1 are still"),
        (SeenObjects(repaired=1), "green", "1 are gone and made up for by exports"),
        (SeenObjects(is_full=True), "yellow", f"more than {MOST:,}"),
        (SeenObjects(lost=(GONE,)), "red", "s3://landing/2026/03/01/09/object (1,234 bytes, shown by a listing at"),
        (SeenObjects(lost=(GONE,)), "red", "--bucket landing --key '2026/03/01/09/object' --version-id"),
        (SeenObjects(lost=(NAMED,)), "red", "size unknown, shown by a notification"),
    ],
)
def test_color_and_sentence_of_objects_intact(found: SeenObjects, color: Color, words: str) -> None:
    outcome = objects_outcome("orders", found)
    assert (outcome.color(), words in outcome.text) == (color, True), outcome.text
    assert ("s3api" in outcome.text) == any(one.uri.startswith("s3://") for one in found.lost)
