"""Conservation: nothing lost is no shortage, whatever Firehose does; what is lost is one, and a repair explains it."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ddb_lake.core.capture.conservation import (
    HOUR_US,
    LEAST_SHORTAGE,
    Anchor,
    Balance,
    HourInLake,
    Shortage,
    balance,
    hours_between,
    next_anchor,
)

MINUTE_US = 60_000_000
HOURS = hours_between(0, 6 * HOUR_US)


@dataclass(frozen=True)
class Landed:
    """An object of the model: the arrivals (minutes) of its records, and the minute in which it was written."""

    arrivals: tuple[int, ...]
    written: int


def delivered(arrivals: list[int], buffer: int, down: range) -> list[Landed]:
    """What Firehose makes of arrivals: an object holds those from its first one on for `buffer` minutes, and is written
    then, or when S3 can be written again."""
    objects: list[Landed] = []
    left = sorted(arrivals)
    while left:
        closes = left[0] + buffer
        while closes in down:
            closes += 1
        objects.append(Landed(tuple(a for a in left if a < closes), closes))
        left = [a for a in left if a >= closes]
    return objects


def in_lake(objects: list[Landed]) -> dict[int, HourInLake]:
    """What a lake knows of the objects: by the hour of their oldest record."""
    found = {}
    for hour in range(-1, 8):
        end = 60 * (hour + 1)
        own = sum(len(o.arrivals) for o in objects if o.arrivals[0] // 60 == hour)
        late = sum(len(o.arrivals) for o in objects if o.arrivals[0] < end < o.written)
        found[hour * HOUR_US] = HourInLake(own, late)
    return found


def accepted(arrivals: list[int]) -> Counter[int]:
    return Counter(arrival // 60 * HOUR_US for arrival in arrivals)


BUSY = st.lists(st.integers(-60, 359), max_size=400)
FIREHOSE = st.integers(1, 15)
DOWN = st.builds(range, st.integers(-60, 400), st.integers(-60, 500))


@given(arrivals=BUSY, buffer=FIREHOSE, down=DOWN, again=st.lists(st.integers(0, 50), max_size=5))
def test_nothing_is_short_if_nothing_is_lost(arrivals: list[int], buffer: int, down: range, again: list[int]) -> None:
    """An outage, duplicates and any start are no loss."""
    objects = delivered(arrivals, buffer, down)
    repeated = [*objects, *(objects[n] for n in again if n < len(objects))]
    lake = in_lake(repeated)
    found = balance(HOURS, accepted(arrivals), lake, None)
    assert found.shortages == ()
    assert again or found.excess == 0
    assert found.counted == sum(0 <= a < 360 for a in arrivals)


@given(arrivals=BUSY, buffer=FIREHOSE, down=DOWN, lost=st.lists(st.integers(0, 50), min_size=1, max_size=5))
def test_what_is_lost_is_missing_up_to_the_precision_of_the_count(
    arrivals: list[int], buffer: int, down: range, lost: list[int]
) -> None:
    """With the surplus known at the anchor and no duplicates, exactly the records of the lost objects are missing."""
    objects = delivered(arrivals, buffer, down)
    kept = [o for number, o in enumerate(objects) if number not in lost]
    lake = in_lake(kept)
    open_at_anchor = sum(sum(a >= 0 for a in o.arrivals) for o in kept if o.arrivals[0] < 0)
    found = balance(HOURS, accepted(arrivals), lake, open_at_anchor)
    missing = sum(0 <= a < 360 for o in objects if o not in kept for a in o.arrivals)
    open_at_end = sum(sum(a >= 360 for a in o.arrivals) for o in kept)
    last = found.surplus[HOURS[-1] + HOUR_US]
    assert found.missing == missing + last - open_at_end + found.excess
    if found.excess == 0:
        assert (
            found.missing >= missing - open_at_end - LEAST_SHORTAGE - max(accepted(arrivals).values(), default=0) / 60
        )


def test_lost_object_is_a_shortage_of_its_hour() -> None:
    counted = {0: 40, HOUR_US: 64, 2 * HOUR_US: 30}
    lake = {0: HourInLake(40), HOUR_US: HourInLake(0), 2 * HOUR_US: HourInLake(30)}
    found = balance(HOURS[:3], counted, lake, 0)
    assert found == Balance(
        134, 70, (Shortage(HOUR_US, 2 * HOUR_US, 64),), 0, 0, {HOUR_US: 0, 2 * HOUR_US: 0, 3 * HOUR_US: 0}
    )


@pytest.mark.parametrize("repaired", [[(0, 3 * HOUR_US)], [(0, 90 * MINUTE_US), (80 * MINUTE_US, 2 * HOUR_US)]])
def test_repaired_shortage_is_explained_and_a_part_of_it_is_not(repaired: list[tuple[int, int]]) -> None:
    counted = {0: 40, HOUR_US: 64}
    lake = {0: HourInLake(40)}
    whole = balance(HOURS[:2], counted, lake, 0, repaired)
    assert (whole.shortages, whole.repaired) == ((), 64)
    part = balance(HOURS[:2], counted, lake, 0, [(HOUR_US, 2 * HOUR_US - 1), (HOUR_US + 1, 3 * HOUR_US)][:1])
    assert part.missing == 64


def test_small_shortages_of_many_hours_add_up() -> None:
    counted = dict.fromkeys(HOURS, 100)
    lake = dict.fromkeys(HOURS, HourInLake(96))
    assert balance(HOURS[:2], counted, lake, 0).shortages == ()
    assert balance(HOURS, counted, lake, 0).missing >= 12


def test_records_counted_in_one_hour_and_landed_in_the_next_are_no_shortage() -> None:
    counted, lake = {0: 6000, HOUR_US: 5940}, {0: HourInLake(5910), HOUR_US: HourInLake(6030)}
    assert balance(HOURS[:2], counted, lake, 0).shortages == ()
    assert balance(HOURS[:2], counted, {**lake, HOUR_US: HourInLake(5940)}, 0).missing == 90, "it stays short"


def test_duplicates_are_reported_and_hide_no_later_loss() -> None:
    counted = {0: 100, HOUR_US: 100}
    lake = {0: HourInLake(150), HOUR_US: HourInLake(50)}
    found = balance(HOURS[:2], counted, lake, 0)
    assert (found.excess, found.has_duplicates(), found.missing) == (50, True, 50)
    assert not found.has_duplicates(uncounted=45)


def test_anchor_moves_to_the_newest_end_that_balances_and_never_beyond_a_shortage() -> None:
    counted, whole = dict.fromkeys(HOURS, 100), dict.fromkeys(HOURS, HourInLake(100))
    start = Anchor(0, {})
    good, bad = (
        balance(HOURS, counted, whole, 3),
        balance(HOURS, counted, {**whole, 2 * HOUR_US: HourInLake(10)}, 0),
    )
    assert next_anchor({"a": good}, 4 * HOUR_US, start) == Anchor(4 * HOUR_US, {"a": 0})
    assert next_anchor({"a": good, "b": bad}, 4 * HOUR_US, start) == Anchor(2 * HOUR_US, {"a": 0, "b": 0})
    assert next_anchor({"a": good}, -1, start) is start
    assert next_anchor({}, 4 * HOUR_US, start) is start
    moved = next_anchor({"a": good}, 4 * HOUR_US, start)
    assert Anchor.from_json(moved.to_json()) == moved
