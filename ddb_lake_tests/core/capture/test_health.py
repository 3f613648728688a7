"""Signs of life: when a process is dead, when it is alive, and when its state is unknown."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from ddb_lake.core.capture.health import (
    MINUTE_US,
    MISSED_TICKS,
    Measure,
    Sign,
    canary_step,
    delivery_sign,
    destination_sign,
    failed_deliveries_sign,
    freshness_outcome,
    identity_sign,
    merged_signs,
    replication_sign,
    sensor_sign,
)
from ddb_lake.core.verify.outcome import Outcome

LAG_S = 1800


@given(st.integers(0, 10**9))
def test_replication_is_dead_as_soon_as_a_record_waits_longer_than_max_lag(age_ms: int) -> None:
    sign = replication_sign(Measure(age_ms, 0), LAG_S, "orders")
    assert sign.state == ("pass" if age_ms <= LAG_S * 1000 else "fail")


@given(st.integers(0, 10**6))
def test_delivery_is_dead_as_soon_as_firehose_holds_a_record_longer_than_max_lag(age_s: int) -> None:
    assert delivery_sign(Measure(age_s, 0), True, LAG_S, "hose").state == ("pass" if age_s <= LAG_S else "fail")


def test_metric_without_a_value_means_that_nothing_waits_where_cloudwatch_knows_it() -> None:
    assert replication_sign(None, LAG_S, "orders").state == "pass"
    assert delivery_sign(None, True, LAG_S, "hose").state == "pass"
    assert delivery_sign(None, False, LAG_S, "hose").state == "unknown"


@given(st.lists(st.integers(0, 1439), max_size=5), st.none() | st.integers(0, 1439 * 60), st.integers(0, 120))
def test_lake_is_as_fresh_as_what_the_stream_accepted_longer_than_max_lag_ago(
    minutes: list[int], newest_s: int | None, lag_min: int
) -> None:
    now_us = 1440 * MINUTE_US
    newest_us = None if newest_s is None else newest_s * 1_000_000
    found = freshness_outcome(
        sorted(minute * MINUTE_US for minute in minutes), newest_us, now_us, lag_min * 60, "the stream"
    )

    due = [minute for minute in minutes if minute + 1 <= 1440 - lag_min]
    behind = bool(due) and max(due) * 60 - 120 > (newest_s or 0)
    unexplained = not minutes and newest_s is not None and newest_s > 120
    assert found.state == ("fail" if behind else "unknown" if unexplained else "pass")
    assert found.color() != "red"


def test_table_with_another_id_is_another_table() -> None:
    states = [identity_sign(*ids, "orders").state for ids in (("a", "a"), ("b", "a"), (None, "a"), ("a", None))]
    assert states == ["pass", "fail", "unknown", "unknown"]
    assert "--recreated" in identity_sign("b", "a", "orders").text


def test_destination_must_be_active_and_the_one_that_was_seen() -> None:
    cases = {
        ("arn:1", "ACTIVE", "arn:1"): "pass",
        ("arn:1", "UPDATING", None): "pass",
        ("arn:1", "DISABLED", "arn:1"): "fail",
        (None, "not set up", "arn:1"): "fail",
        ("arn:2", "ACTIVE", "arn:1"): "fail",
        (None, "not set up", None): "unknown",
    }
    assert {case: destination_sign(*case, "orders").state for case in cases} == cases


def test_objects_below_the_error_prefix_are_reported() -> None:
    assert failed_deliveries_sign(0, None, 24, "s3://b/failed/").state == "pass"
    found = failed_deliveries_sign(2, 5, 24, "s3://b/failed/")
    assert (found.state, found.figures) == ("fail", {"objects": 2, "newest": 5})


@given(st.integers(0, 10**7), st.integers(1, 600))
def test_sensor_is_dead_when_it_missed_its_ticks(age_s: int, interval_s: int) -> None:
    now_us = 10**15
    sign = sensor_sign(now_us - age_s * 10**6, now_us, interval_s, False, "s")
    assert sign.state == ("pass" if age_s <= MISSED_TICKS * interval_s else "fail")


def test_sensor_that_is_switched_off_is_dead_and_one_that_is_not_known_is_neither() -> None:
    assert sensor_sign(10, 10, 30, True, "s").state == "fail"
    assert sensor_sign(None, 10, 30, False, "s").state == "unknown"


@given(st.integers(0, 10**7), st.booleans())
def test_canary_that_arrived_is_followed_by_another_and_one_under_way_is_waited_for(age_s: int, there: bool) -> None:
    now_us = 10**15
    step = canary_step(("n", now_us - age_s * 10**6), "n" if there else "older", now_us, LAG_S)
    late = not there and age_s > LAG_S
    state = "pass" if there else "fail" if late else "unknown"
    assert (step.sign.state, step.write) == (state, there)


def test_first_canary_is_written() -> None:
    step = canary_step(None, None, 0, LAG_S)
    assert (step.sign.state, step.write) == ("unknown", True)


def test_several_signs_are_as_bad_as_the_worst_of_them_and_say_that() -> None:
    passed, failed, open_ = (
        Sign("a", "pass", "A.", {"x": 1}),
        Sign("b", "fail", "B."),
        Sign("c", "unknown", "c", {"y": 2}),
    )
    assert merged_signs((passed, failed, open_)) == Outcome("fail", "B.", {"x": 1, "y": 2})
    assert merged_signs((passed, open_)) == Outcome("unknown", "c", {"x": 1, "y": 2})
    assert merged_signs((passed,)) == Outcome("pass", "A.", {"x": 1})
    assert merged_signs(()).state == "unknown"
