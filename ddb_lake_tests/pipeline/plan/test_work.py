"""What is due is named and cut the same, however it was listed."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta, timezone
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ddb_lake.pipeline.plan.work import HOUR, digest, hours_back

START = datetime(2026, 3, 1, tzinfo=UTC)

observations = st.lists(
    st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=5), unique=True, max_size=6
)


@given(observations, st.data())
def test_digest_ignores_the_order(parts: list[str], data: st.DataObject) -> None:
    assert digest(iter(data.draw(st.permutations(parts)))) == digest(parts)


@given(observations, observations)
def test_digest_differs_for_different_sets(left: list[str], right: list[str]) -> None:
    assert (digest(left) == digest(right)) == (set(left) == set(right))


def test_digest_keeps_observations_apart_and_is_the_same_in_every_process() -> None:
    assert digest(["ab", "c"]) != digest(["a", "bc"])
    assert digest(["s3://b/1", "s3://b/2"]) == "2463cd0431f0ff2f"
    assert re.fullmatch(r"[0-9a-f]{16}", digest([]))


@given(st.datetimes(datetime(2000, 1, 1), datetime(2100, 1, 1), timezones=st.just(UTC)), st.integers(0, 400_000))
def test_hours_back_are_all_hours_that_the_time_touches(now: datetime, seconds: int) -> None:
    hours = hours_back(now, seconds)
    assert hours[0] <= now - timedelta(seconds=seconds) < hours[0] + HOUR
    assert hours[-1] <= now < hours[-1] + HOUR
    assert all(later - earlier == HOUR for earlier, later in pairwise(hours))
    assert all(hour == hour.replace(minute=0, second=0, microsecond=0) for hour in hours)


@pytest.mark.parametrize(
    ("minute", "seconds", "count"), [(0, 0, 1), (0, 1, 2), (0, 3600, 2), (59, 3599, 2), (59, 59 * 60, 1), (30, 5401, 3)]
)
def test_hours_back_includes_both_ends(minute: int, seconds: int, count: int) -> None:
    assert len(hours_back(START + timedelta(minutes=minute), seconds)) == count


def test_hours_back_are_utc_whatever_the_zone_of_now() -> None:
    expected = hours_back(START + timedelta(minutes=20), 7200)
    assert all(hour.tzinfo is UTC for hour in expected)
    india = timezone(timedelta(hours=5, minutes=30))
    assert hours_back((START + timedelta(minutes=20)).astimezone(india), 7200) == expected


@pytest.mark.parametrize("moment", ["2026-03-29T03:30+00:00", "2026-10-25T03:30+00:00"])
def test_hours_back_across_a_change_of_the_clocks_are_hours_of_real_time(moment: str) -> None:
    now = datetime.fromisoformat(moment)
    assert hours_back(now.astimezone(ZoneInfo("Europe/Berlin")), 4 * 3600) == hours_back(now, 4 * 3600)
