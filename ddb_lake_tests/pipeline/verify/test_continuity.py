"""The examination of a changelog's continuity: what it finds, what explains it, and the gaps that it records."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from ddb_lake.core.capture.gaps import Gap
from ddb_lake.lake.state import changes_state
from ddb_lake.pipeline.capture.gap_log import all_gaps, record_gap, record_repair
from ddb_lake.pipeline.open_lake import Lake
from ddb_lake.pipeline.verify.continuity import DAY_US, Continuity, examine_continuity
from ddb_lake_tests.support.export_files import MINUTE_US, T0_US, item
from ddb_lake_tests.support.folder_lake import lake as folder_lake
from ddb_lake_tests.support.image_trail import KEY, Trail


@pytest.fixture
def trail(tmp_path: Path) -> Trail:
    return Trail(tmp_path)


@pytest.fixture
def lake(tmp_path: Path) -> Iterator[Lake]:
    with folder_lake(tmp_path / "lake", "orders", KEY) as opened:
        yield opened


def examined(lake: Lake, days: int | None = 8) -> Continuity:
    return examine_continuity(lake, "orders", None if days is None else days * DAY_US)


def minutes(found: Continuity) -> list[tuple[str, float, float, str]]:
    """Key, begin and end of each listed break, in minutes from the export, and its explanation."""
    return [
        (b.key["id"]["S"], (b.from_us - T0_US) / MINUTE_US, (b.to_us - T0_US) / MINUTE_US, b.explanation)
        for b in found.listed
    ]


def test_complete_changelog_has_no_break_and_its_evidence_is_counted(lake: Lake, trail: Trail) -> None:
    trail.put("a", -30, v=1)
    trail.put("b", -20, v=1)
    trail.put("a", -15, v=2)
    trail.load(lake)
    trail.put("a", 30, v=3)
    trail.write("b", None, 30)
    trail.put("b", 30, v=2)
    trail.apply(lake)
    found = examined(lake)
    assert (found.records, found.keys, found.compared, found.exported, found.without_old_image) == (6, 2, 4, 2, 0)
    assert (found.breaks.total(), found.gaps, found.judged) == (0, (), 1)
    assert (found.first_us, found.last_us) == (T0_US - 30 * MINUTE_US, T0_US + 30 * MINUTE_US)


def test_lost_changes_are_named_and_recorded_as_one_gap_until_an_export_repairs_them(lake: Lake, trail: Trail) -> None:
    for key in "abc":
        trail.put(key, -30, v=1)
    trail.load(lake)
    trail.put("b", 20, v=2)
    for key, minute in (("a", 31), ("b", 32), ("new", 33)):
        trail.put(key, minute, v=9, lost=True)
    trail.apply(lake)
    assert examined(lake).breaks.total() == 0, "nothing can be seen until a key changes again"
    for key, minute in (("a", 40), ("b", 41), ("new", 42), ("c", 43)):
        trail.put(key, minute, v=10)
    trail.apply(lake)
    found = examined(lake)
    assert sorted(minutes(found)) == [
        ("a", -5, 40, "missing"),
        ("b", 20, 41, "missing"),
        ("new", -5, 42, "missing"),
    ]
    (gap,) = found.gaps
    assert (gap.kind, gap.from_us, gap.to_us) == (
        "discontinuous",
        T0_US - 5 * MINUTE_US,
        T0_US + 42 * MINUTE_US + 1_000_000,
    )
    assert minutes(examined(lake)) == minutes(found)
    assert all_gaps(lake, "orders") == found.gaps
    record_repair(lake, "orders", gap.from_us, gap.to_us, "an-export")
    repaired = examined(lake)
    assert (repaired.gaps, repaired.missing, dict(repaired.breaks)) == ((), 0, {"repaired": 3})


def test_gap_is_withdrawn_when_the_missing_object_arrives(lake: Lake, trail: Trail) -> None:
    trail.put("a", 10, v=1)
    trail.apply(lake)
    trail.put("a", 11, v=2)
    late = trail.land()
    trail.put("a", 12, v=3)
    trail.apply(lake)
    assert examined(lake).missing == 1 and len(all_gaps(lake, "orders")) == 1
    trail.apply(lake, late)
    assert examined(lake).breaks.total() == 0 and all_gaps(lake, "orders") == ()


def test_respelled_numbers_and_sets_are_the_same_image(lake: Lake, trail: Trail) -> None:
    trail.put("a", 10, v=1, s={"SS": ["x", "y"]})
    again = trail.put("a", 11, v=2)
    again["dynamodb"]["OldImage"] = item("a", s={"SS": ["y", "x"]}, v={"N": "1.0"})
    trail.apply(lake)
    found = examined(lake)
    assert (found.judged, found.breaks.total()) == (1, 0)


def test_later_examination_judges_only_keys_with_later_records(lake: Lake, trail: Trail) -> None:
    for key in "ab":
        trail.put(key, 10, v=1)
        trail.put(key, 10, v=2)
    trail.apply(lake)
    assert examined(lake).judged == 2
    assert examined(lake).judged == 0
    trail.put("a", 12, v=3)
    trail.apply(lake)
    assert examined(lake).judged == 1
    assert examined(lake, days=None).judged == 2, "all records are judged on request"
    state = changes_state(lake.changes("orders")).continuity
    assert state is not None and (state.batch, state.since_us) == (2, None)


def test_gap_of_another_kind_and_a_quarantined_object_explain_a_break(lake: Lake, trail: Trail) -> None:
    trail.put("a", 10, v=1)
    trail.put("a", 20, v=2, lost=True)
    trail.put("a", 30, v=3)
    hour = trail.folder / "landing/2026/03/01/09/garbage"
    hour.parent.mkdir(parents=True)
    hour.write_bytes(b'{"dynamodb": {"Keys": 1}}')
    trail.apply(lake, hour, trail.land())
    assert (dict(examined(lake).breaks), all_gaps(lake, "orders")) == ({"quarantined": 1}, ())
    record_gap(lake, "orders", Gap("stream_off", T0_US + 15 * MINUTE_US, T0_US + 25 * MINUTE_US, "off", T0_US))
    assert dict(examined(lake).breaks) == {"known gap": 1}


def test_export_names_a_change_that_was_lost_before_it(lake: Lake, trail: Trail) -> None:
    """The row is right, because the export states it; the history of the key is short."""
    trail.put("a", -30, v=1)
    trail.apply(lake)
    trail.put("a", -20, v=2, lost=True)
    trail.load(lake)
    found = examined(lake)
    assert (minutes(found), found.gaps) == ([("a", -30, 0, "restated")], ())


def test_rejected_line_of_an_export_is_no_absent_item(lake: Lake, trail: Trail) -> None:
    trail.put("a", -30, v=1)
    trail.load(lake, items=[item("a", v={"N": "no number"})], reject=True)
    trail.apply(lake)
    trail.put("a", 30, v=2)
    trail.apply(lake)
    assert examined(lake).breaks.total() == 0


def test_changes_before_the_span_are_not_read(lake: Lake, trail: Trail) -> None:
    trail.put("a", 0, v=1)
    trail.put("a", 10, v=2, lost=True)
    trail.put("a", 24 * 60, v=3)
    trail.put("b", 10 * 24 * 60, v=1)
    trail.apply(lake)
    assert (examined(lake).records, examined(lake).breaks.total()) == (1, 0)
    assert examined(lake, days=None).missing == 1


def test_table_without_change_records_has_nothing_to_compare(lake: Lake, trail: Trail) -> None:
    assert (examined(lake).records, examined(lake).keys) == (0, 0)
