"""The rule of continuity, against trails that are walked in the order in which the changes happened."""

from __future__ import annotations

import random
from collections.abc import Sequence
from itertools import groupby, pairwise, permutations, product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ddb_lake.core.verify.continuity import (
    DELIVERY_US,
    HOUR_US,
    NO_ITEM,
    Break,
    Examined,
    ExportedItem,
    Image,
    KeyChange,
    KnownFaults,
    explain,
    export_breaks,
    key_breaks,
)
from ddb_lake_tests.support.effort import examples

MINUTE_US = 60_000_000
SKEW_US = 5 * MINUTE_US
IMAGES = (NO_ITEM, "a", "b", "c")


def change(time_us: int, before: Image | None, after: Image, sequence: int | None = None, **rest: object) -> KeyChange:
    return KeyChange("", time_us, sequence, before, after, **rest)  # type: ignore[arg-type]


@st.composite
def trails(draw: st.DrawFn, *, unknown: bool = True, longest: int = 9) -> list[KeyChange]:
    """What happened to one key, in order. Several changes may have the same time."""
    state: Image = draw(st.sampled_from(IMAGES))
    time_us, walked = 0, []
    for pause, after in draw(st.lists(st.tuples(st.integers(0, 2), st.sampled_from(IMAGES)), max_size=longest)):
        time_us += pause
        if after != state:
            hidden = unknown and state != NO_ITEM and draw(st.integers(0, 4)) == 0
            walked.append(change(time_us, None if hidden else state, after))
        state = after
    return walked


def shuffled(changes: Sequence[KeyChange], chance: random.Random) -> list[KeyChange]:
    return sorted(chance.sample(changes, len(changes)), key=lambda c: c.time_us)


def can_be_walked(changes: Sequence[KeyChange]) -> bool:
    """Whether any order of the changes of each instant is a trail, by trying all of them."""
    instants = [list(members) for _, members in groupby(changes, key=lambda c: c.time_us)]
    return any(_is_walk([c for part in order for c in part]) for order in product(*map(permutations, instants)))


def _is_walk(changes: Sequence[KeyChange]) -> bool:
    return all(b.before in (None, a.after) for a, b in pairwise(changes))


@examples(quick=60, exhaustive=2000, every=5000)
@given(trails(), st.randoms(use_true_random=False))
def test_complete_trail_has_no_break_in_any_order_of_its_instants(
    walked: list[KeyChange], chance: random.Random
) -> None:
    assert key_breaks(shuffled(walked, chance)) == []


@examples(quick=60, exhaustive=2000, every=5000)
@given(trails(unknown=False, longest=7), st.sets(st.integers(0, 6)), st.randoms(use_true_random=False))
def test_trail_with_known_images_has_a_break_if_no_order_of_its_instants_is_a_walk(
    walked: list[KeyChange], lost: set[int], chance: random.Random
) -> None:
    left = shuffled([c for at, c in enumerate(walked) if at not in lost], chance)
    assert bool(key_breaks(left)) != can_be_walked(left)


@examples(quick=60, exhaustive=1200, every=3000)
@given(trails(), st.sets(st.integers(0, 8)), st.randoms(use_true_random=False))
def test_break_spans_the_time_of_a_missing_change(
    walked: list[KeyChange], lost: set[int], chance: random.Random
) -> None:
    gone = [c.time_us for at, c in enumerate(walked) if at in lost]
    for found in key_breaks(shuffled([c for at, c in enumerate(walked) if at not in lost], chance)):
        assert any(found.from_us <= us <= found.to_us for us in gone)


@examples(quick=60, exhaustive=1200, every=3000)
@given(trails(), st.randoms(use_true_random=False))
def test_sequence_numbers_order_records_before_their_times(walked: list[KeyChange], chance: random.Random) -> None:
    told = [c._replace(sequence=at, time_us=c.time_us + chance.randint(-1, 1)) for at, c in enumerate(walked)]
    assert key_breaks(told) == []
    if walked and all(c.before is not None for c in walked):
        missing = [c for at, c in enumerate(told) if at != len(told) // 2]
        assert bool(key_breaks(missing)) == (not _is_walk(missing))


def test_equal_records_without_event_ids_are_one_change_or_two() -> None:
    once = [change(1, "a", "b", identified=False)]
    assert key_breaks([*once, *once, change(2, "b", "c")]) == []
    twice = [change(1, "a", "b", identified=False), change(1, "b", "a", identified=False), *once]
    assert key_breaks([*twice, change(2, "b", "c")]) == key_breaks([*twice, change(2, "a", "c")]) == []
    identified = [c._replace(identified=True) for c in (*once, *once)]
    assert [(b.from_us, b.to_us) for b in key_breaks(identified)] == [(1, 1)]


def test_break_names_the_records_on_both_sides_of_it() -> None:
    found = key_breaks([change(1, NO_ITEM, "a"), change(5, "b", "c"), change(9, "c", NO_ITEM)])
    assert found == [Break(1, 5, frozenset("a"), frozenset("b"))]


@examples(quick=40, exhaustive=800, every=2000)
@given(trails(), st.sampled_from(("both", "either")), st.randoms(use_true_random=False))
def test_two_sources_of_one_table_have_no_break(walked: list[KeyChange], kind: str, chance: random.Random) -> None:
    """Each change is in both sources, or in turns of a minute in one of them."""
    apart = [c._replace(time_us=c.time_us * MINUTE_US) for c in walked]
    sources = [chance.randrange(2) for _ in range(30)]
    time = [c for c in apart if kind == "both" or sources[c.time_us // MINUTE_US] == 0]
    stream = [
        c._replace(source="arn", sequence=at, time_us=c.time_us // 1_000_000 * 1_000_000)
        for at, c in enumerate(apart)
        if kind == "both" or sources[c.time_us // MINUTE_US] == 1
    ]
    known = all(c.before is not None for c in walked)  # a source takes over from a state that it does not know
    if kind == "both" or known:
        assert key_breaks([*shuffled(time, chance), *stream], several_sources=True) == []


def test_change_that_neither_of_two_sources_has_is_a_break() -> None:
    time = [change(0, NO_ITEM, "a"), change(9 * MINUTE_US, "c", "d")]
    stream = [KeyChange("arn", 5 * MINUTE_US, 7, "b", "c")]
    (found,) = key_breaks([*time, *stream], several_sources=True)
    assert (found.from_us, found.to_us) == (0, 9 * MINUTE_US)


# --- the boundary with an export


@examples(quick=60, exhaustive=1600, every=4000)
@given(trails(), st.integers(-6, 24), st.integers(-1, 1), st.randoms(use_true_random=False))
def test_export_of_a_complete_trail_has_no_break(
    walked: list[KeyChange], at: int, skew: int, chance: random.Random
) -> None:
    """Times are in minutes from the export, which read the item up to a minute before or after it."""
    changes = [c._replace(time_us=(2 * c.time_us - at) * MINUTE_US) for c in walked]
    state: Image = next((c.before for c in changes if c.before is not None), NO_ITEM)
    if changes and changes[0].before is None:
        return
    for one in changes:
        state = one.after if one.time_us <= skew * MINUTE_US else state
    assert export_breaks(ExportedItem(state, 0, SKEW_US), shuffled(changes, chance)) == []


EARLY, NEAR, LATE = -10 * MINUTE_US, MINUTE_US, 10 * MINUTE_US


@pytest.mark.parametrize(
    ("changes", "image", "expected"),
    [
        ([change(EARLY, "a", "b")], "c", [(EARLY, 0, True)]),
        ([change(EARLY, "a", "b")], "b", []),
        ([change(LATE, "a", "b")], "a", []),
        ([change(LATE, "a", "b")], NO_ITEM, [(-SKEW_US, LATE, False)]),
        ([change(LATE, NO_ITEM, "b"), change(LATE, "b", "c")], "a", [(-SKEW_US, LATE, False)]),
        ([change(LATE, None, "b")], "c", []),
        ([change(NEAR, "a", "b")], "a", []),
        ([change(NEAR, "a", "b")], "b", []),
        ([change(NEAR, "a", "b")], "c", [(-SKEW_US, SKEW_US, False)]),
        ([change(NEAR, None, "b")], "c", []),
        ([change(EARLY, "a", "b"), change(NEAR, "b", "c")], "a", [(EARLY, SKEW_US, False)]),
        ([change(EARLY, "a", "b"), change(LATE, "c", "a")], "c", [(EARLY, 0, True)]),
        ([change(EARLY, "a", "b"), change(LATE, "b", "a")], "c", [(EARLY, 0, True), (-SKEW_US, LATE, False)]),
    ],
)
def test_export_is_compared_with_the_records_around_it(
    changes: list[KeyChange], image: Image, expected: list[tuple[int, int, bool]]
) -> None:
    found = export_breaks(ExportedItem(image, 0, SKEW_US), changes)
    assert [(one.from_us, one.to_us, one.restated) for one in found] == expected


def test_scan_may_have_any_state_of_its_time() -> None:
    trail = [change(EARLY, "a", "b"), change(LATE, "b", "c"), change(2 * LATE, "c", "d")]
    for image, breaks in (("b", 0), ("c", 0), ("d", 1), ("a", 1)):
        scanned = ExportedItem(image, 0, SKEW_US, until_us=LATE + 1)
        assert len(export_breaks(scanned, trail)) == breaks, image
    assert len(export_breaks(ExportedItem("c", 0, SKEW_US), trail)) == 2


def test_sequence_numbers_show_the_records_nearest_to_an_export() -> None:
    second = 1_000_000
    trail = [change(EARLY + second, "a", "b", 1), change(EARLY, "b", "c", 2)]
    trail += [change(LATE + second, "c", "d", 3), change(LATE, "d", "c", 4)]
    assert export_breaks(ExportedItem("c", 0, SKEW_US), [c._replace(time_us=LATE) for c in trail[2:]]) == []
    assert export_breaks(ExportedItem("c", 0, SKEW_US), trail) == []
    assert len(export_breaks(ExportedItem("d", 0, SKEW_US), trail)) == 2


# --- explanations


@pytest.mark.parametrize(
    ("faults", "asserted", "expected"),
    [
        (KnownFaults(), (), "missing"),
        (KnownFaults(repaired=((12, 14),)), (), "repaired"),
        (KnownFaults(repaired=((21, 30), (0, 10))), (), "missing"),
        (KnownFaults(open=((5, 11),)), (), "known gap"),
        (KnownFaults(restated_us=20), (), "restated"),
        (KnownFaults(restated_us=19), (), "missing"),
        (KnownFaults(quarantined_hours=(20 + DELIVERY_US - 1,)), (), "quarantined"),
        (KnownFaults(quarantined_hours=(20 + DELIVERY_US, 10 - HOUR_US)), (), "missing"),
        (KnownFaults(discarded_hours=(20,)), (), "discarded"),
        (KnownFaults(discarded_hours=(20,)), (15,), "asserted"),
        (KnownFaults(), (15,), "asserted"),
        (KnownFaults(), (10, 21), "missing"),
    ],
)
def test_break_is_explained_by_what_is_known_of_its_time(
    faults: KnownFaults, asserted: Sequence[int], expected: str
) -> None:
    assert explain(Break(10, 20), asserted, faults) == expected


def test_examination_covers_later_spans_of_the_same_export() -> None:
    examined = Examined(7, 100, "e")
    assert Examined.from_json(examined.to_json()) == examined
    assert examined.covers(100, "e") and examined.covers(200, "e")
    assert not (examined.covers(99, "e") or examined.covers(None, "e") or examined.covers(100, "f"))
    assert Examined(7, None, None).covers(None, None)
