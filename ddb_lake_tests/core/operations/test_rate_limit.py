"""RateLimit: the rate is kept on average, whatever the requests take."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from ddb_lake.core.operations.rate_limit import RateLimit, read_units


@given(st.floats(1, 1000), st.lists(st.tuples(st.floats(0, 100), st.floats(0, 3)), min_size=1, max_size=30))
def test_units_never_exceed_the_rate_by_more_than_a_second_and_the_last_request(
    rate: float, requests: list[tuple[float, float]]
) -> None:
    pace, now, spent = RateLimit(rate), 0.0, 0.0
    for units, took_s in requests:
        now += pace.wait_s(now)
        assert spent <= rate * (now + 1.0) + 1e-6
        now += took_s
        pace.spend(units, now)
        spent += units


def test_no_rate_never_waits() -> None:
    pace = RateLimit(None)
    pace.spend(1e9, 0.0)
    assert pace.wait_s(0.0) == 0.0


def test_read_units_count_every_begun_four_kilobytes() -> None:
    assert [read_units(size) for size in (0, 1, 4096, 4097)] == [1, 1, 1, 2]
    assert read_units(5000, 10) == 20
