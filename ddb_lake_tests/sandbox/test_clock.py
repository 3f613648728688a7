from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest

from ddb_lake.errors import UsageError
from ddb_lake.sandbox import Clock
from ddb_lake.sandbox.clock import from_micros, to_micros

PAST = datetime(2024, 5, 14, 11, tzinfo=UTC)


def test_now_us_read_many_times_is_always_later() -> None:
    clock = Clock()
    readings = [clock.now_us() for _ in range(5000)]
    assert all(earlier < later for earlier, later in pairwise(readings))


def test_clock_started_in_the_past_runs_on_from_there() -> None:
    clock = Clock(PAST)
    assert PAST <= clock.now() < PAST + timedelta(seconds=5)


def test_set_and_advance_move_forward() -> None:
    clock = Clock(PAST)
    clock.advance(timedelta(hours=1))
    clock.set(PAST + timedelta(hours=3))
    assert PAST + timedelta(hours=3) < clock.now() < PAST + timedelta(hours=3, seconds=5)


def test_set_before_a_reading_is_a_usage_error() -> None:
    clock = Clock(PAST)
    clock.now_us()
    with pytest.raises(UsageError, match="forward"):
        clock.set(PAST - timedelta(seconds=1))


def test_held_clock_gives_instants_of_one_millisecond() -> None:
    clock = Clock()
    with clock.held():
        readings = [clock.now_us() for _ in range(900)]
    assert len(set(readings)) == 900
    assert len({reading // 1000 for reading in readings}) == 1
    assert clock.now_us() > readings[-1]


def test_next_ms_us_is_whole_and_before_every_later_reading() -> None:
    clock = Clock()
    before, whole, after = clock.now_us(), clock.next_ms_us(), clock.now_us()
    assert whole % 1000 == 0
    assert before < whole < after


def test_micros_of_a_datetime_come_back() -> None:
    at = datetime(2024, 5, 14, 11, 14, 20, 608123, tzinfo=UTC)
    assert from_micros(to_micros(at)) == at
    with pytest.raises(UsageError, match="time zone"):
        to_micros(at.replace(tzinfo=None))
