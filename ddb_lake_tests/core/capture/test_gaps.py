"""Gaps: what is lost once is never forgotten, and what is repaired stays repaired."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from ddb_lake.core.capture.gaps import (
    ALWAYS_US,
    Gap,
    Observation,
    add_gap,
    gap_between,
    new_gaps,
    open_ranges,
    repaired_gaps,
    united_ranges,
)

INSTANTS = 40


@st.composite
def some_gaps(draw: st.DrawFn) -> Gap:
    low = draw(st.integers(0, INSTANTS - 2))
    high = draw(st.integers(low + 1, INSTANTS))
    return Gap(draw(st.sampled_from(["stream_off", "trimmed"])), low, high, "why", draw(st.integers(0, 9)))


def covered(gaps: tuple[Gap, ...], is_open: bool) -> set[int]:
    return {us for g in gaps if g.is_open == is_open for us in range(g.from_us, g.to_us)}


@given(st.lists(some_gaps(), max_size=8), st.tuples(st.integers(0, 20), st.integers(21, 40)), some_gaps())
def test_open_and_repaired_stretches_partition_what_was_ever_lost(
    found: list[Gap], repaired: tuple[int, int], later: Gap
) -> None:
    gaps: tuple[Gap, ...] = ()
    for gap in found:
        gaps = add_gap(gaps, gap)
    lost = {us for g in found for us in range(g.from_us, g.to_us)}
    assert covered(gaps, True) == lost
    gaps = repaired_gaps(gaps, *repaired, "export-1")
    assert covered(gaps, True) == lost - set(range(*repaired))
    assert covered(gaps, False) == lost & set(range(*repaired))
    closed = covered(gaps, False)
    again = add_gap(gaps, later)
    assert covered(again, False) == closed
    assert covered(again, True) == covered(gaps, True) | (set(range(later.from_us, later.to_us)) - closed)
    assert add_gap(again, later) == again


@given(some_gaps(), some_gaps())
def test_order_of_detection_does_not_matter(one: Gap, two: Gap) -> None:
    assert covered(add_gap(add_gap((), one), two), True) == covered(add_gap(add_gap((), two), one), True)


def test_only_a_gap_that_was_detected_since_is_new() -> None:
    before = add_gap((), Gap("trimmed", 10, 20, "why", 30))
    grown = add_gap(before, Gap("trimmed", 20, 25, "why", 40))
    cut = repaired_gaps(before, 0, 15, "export-1")
    assert new_gaps(before, grown) == new_gaps(before, cut[-1:]) == ()
    other = Gap("trimmed", 50, 60, "why", 70)
    assert new_gaps(before, add_gap(grown, other)) == (other,), "a gap that is open hides no later one"


@given(st.lists(some_gaps(), max_size=5))
def test_a_full_export_closes_all_before_it(found: list[Gap]) -> None:
    gaps: tuple[Gap, ...] = ()
    for gap in found:
        gaps = add_gap(gaps, gap)
    assert not [g for g in repaired_gaps(gaps, ALWAYS_US, INSTANTS, "full") if g.is_open]


def test_open_gaps_of_one_kind_that_touch_become_one() -> None:
    gaps = add_gap((Gap("trimmed", 0, 5, "first", 7),), Gap("trimmed", 5, 9, "second", 9))
    assert gaps == (Gap("trimmed", 0, 9, "second", 7),)


def test_gap_survives_json() -> None:
    gap = Gap("too_large", 1, 2, "why", 3, "export")
    assert Gap.from_json(gap.to_json()) == gap


@given(st.lists(some_gaps(), max_size=6), st.integers(0, 3))
def test_stretches_are_apart_and_cover_the_open_gaps(found: list[Gap], margin: int) -> None:
    united = open_ranges(found, margin)
    assert all(left[1] < right[0] for left, right in pairwise(united))
    wanted = {us for g in found for us in range(g.from_us, g.to_us + margin)}
    assert {us for low, high in united for us in range(low, high)} == wanted


def seen(stream: str | None, status: str = "ACTIVE", precision: str = "MILLISECOND", at: int = 10) -> Observation:
    return Observation(stream, status, precision, at)


def test_gap_between_observations_says_what_changed() -> None:
    before = seen("arn-1", at=5)
    cases = [
        (seen("arn-1"), None),
        (seen("arn-1", "DISABLED"), "stream_off"),
        (seen(None, "DISABLED"), "stream_off"),
        (seen("arn-2"), "stream_changed"),
        (seen("arn-1", precision="MICROSECOND"), "precision_changed"),
    ]
    for after, kind in cases:
        gap = gap_between(before, after)
        assert (gap.kind if gap else None) == kind
        assert gap is None or (gap.from_us, gap.to_us, gap.detected_us) == (5, 11, 10)
    assert gap_between(seen("arn-1", "DISABLED", at=5), seen("arn-1")) is not None
    assert gap_between(seen(None, at=5), seen(None)) is None


def test_ranges_that_are_near_are_united() -> None:
    ranges = [(20, 30), (1, 5), (6, 8), (4, 6), (33, 34)]
    assert united_ranges(ranges) == [(1, 8), (20, 30), (33, 34)]
    assert united_ranges(ranges, 3) == [(1, 8), (20, 34)]
    assert united_ranges([]) == []
