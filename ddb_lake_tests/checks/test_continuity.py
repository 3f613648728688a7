"""The check `continuity`: red, yellow and green, and the loss of an object that is found and repaired."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from ddb_lake.checks.check import Subject
from ddb_lake.checks.continuity import continuity, continuity_outcome
from ddb_lake.core.verify.outcome import Color, Outcome
from ddb_lake.pipeline.load.load import load_export
from ddb_lake.pipeline.open_lake import Lake
from ddb_lake.pipeline.verify.continuity import Continuity
from ddb_lake.pipeline.verify.gap_repair import repair_gaps
from ddb_lake_tests.support.folder_lake import lake as folder_lake
from ddb_lake_tests.support.image_trail import KEY, Trail
from ddb_lake_tests.support.sandbox_lake import BUCKET, assert_lake_is_source, orders_lake, orders_source
from ddb_lake_tests.support.verified_source import LANDING, Stand

COMPARED = Continuity("orders", records=1000, keys=50, compared=950, exported=50, first_us=0, last_us=9, export="e")


@pytest.fixture
def stand(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Stand]:
    uri = f"s3://{BUCKET}/{LANDING}"
    with orders_source(monkeypatch) as sandbox, orders_lake(sandbox, tmp_path, changes={"uri": uri}) as lake:
        yield Stand(sandbox, lake)


def evaluated(lake: Lake) -> Outcome:
    return continuity(Subject(lake, lake.table("orders")))


def test_lost_object_is_red_as_soon_as_one_of_its_keys_changes_until_it_is_repaired(stand: Stand) -> None:
    """4 inserts and 60 updates are in an object that is deleted before it is applied."""
    for number in range(60):
        stand.put(f"o{number}", total="1")
    stand.deliver()
    stand.wait(10)
    load_export(stand.lake, "orders", stand.export())
    stand.wait(20)
    for number in range(64):
        stand.put(f"o{number}", total="2")
    stand.deliver(lost=True)
    stand.wait(5)
    stand.put("another", total="1")
    stand.deliver()
    assert evaluated(stand.lake).color() == "green"
    stand.put("o7", total="3")
    stand.deliver()
    assert evaluated(stand.lake).color() == evaluated(stand.lake).color() == "red"
    stand.wait(60)
    assert repair_gaps(stand.lake, "orders").left == ()
    assert_lake_is_source(stand.lake, stand.sandbox)
    assert evaluated(stand.lake).color() == "green"


def test_table_without_compared_records_is_unknown(tmp_path: Path) -> None:
    trail = Trail(tmp_path)
    with folder_lake(tmp_path / "lake", "orders", KEY) as lake:
        assert evaluated(lake).state == "unknown"
        trail.put("a", 1, v=1)
        trail.apply(lake)
        assert evaluated(lake).state == "unknown", "one record of one key proves nothing"
        trail.put("a", 2, v=2)
        trail.apply(lake)
        assert evaluated(lake).state == "pass"


def test_stream_without_old_images_is_unknown(tmp_path: Path) -> None:
    trail = Trail(tmp_path)
    with folder_lake(tmp_path / "lake", "orders", KEY) as lake:
        for minute in range(3):
            record = trail.put("a", minute, v=minute)
            record["dynamodb"].pop("OldImage", None)
        trail.put("b", 4, v=1)
        trail.write("b", None, 5)
        trail.apply(lake)
        found = evaluated(lake)
    assert (found.state, found.figures["records without old image"]) == ("unknown", 2)


@pytest.mark.parametrize(
    ("breaks", "color"),
    [
        ({}, "green"),
        ({"repaired": 2}, "green"),
        ({"asserted": 2, "discarded": 1}, "green"),
        ({"restated": 1}, "yellow"),
        ({"known gap": 1}, "yellow"),
        ({"quarantined": 1, "repaired": 1}, "yellow"),
    ],
)
def test_breaks_that_leave_something_open_are_yellow(breaks: dict[str, int], color: Color) -> None:
    found = continuity_outcome(replace(COMPARED, breaks=Counter(breaks)))
    assert (found.color(), found.figures["differences explained"]) == (color, sum(breaks.values()))


def test_evidence_is_what_was_compared() -> None:
    text = continuity_outcome(COMPARED).text
    assert all(
        figure in text for figure in ("1,000 change records", "50 keys", "950 old images", "export e", "1970-01-01")
    )
