"""The plan of a tick. Each test is named after what a simpler sensor would lose, or what it would cost."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import pytest

from ddb_lake.pipeline.apply.apply import apply_objects
from ddb_lake.pipeline.plan import due, planner
from ddb_lake.pipeline.plan.cursor import LONGEST_PAUSE_S, Request, SensorCursor, TableCursor
from ddb_lake.pipeline.plan.due import LONGEST_SPAN
from ddb_lake.pipeline.plan.planner import ALL_EVERY_S, LOOKBACK_EVERY_S, Busy
from ddb_lake_tests.support.landed_files import change, order
from ddb_lake_tests.support.memory_store import NOW, Steps

Make = Callable[..., Steps]

HOUR = timedelta(hours=1)
THIS_HOUR = NOW.replace(minute=0)


def table(name: str = "orders", **changes: Any) -> dict[str, Any]:
    return {
        "name": name,
        "key": ["customer", "order_id"],
        "changes": {"uri": f"s3://landing/{name}/", **changes},
    }


def uri(at: datetime, name: str = "object", table: str = "orders") -> str:
    return f"s3://landing/{table}/{at:%Y/%m/%d/%H}/{name}"


def record(number: int) -> bytes:
    at_us = int(NOW.timestamp() * 1e6) + number
    return json.dumps(change(number, at_us, order("ann", number))).encode()


def applied(lake: Steps) -> int:
    """How many distinct change records the changelog has."""
    from ddb_lake.pipeline.read.status import table_status

    return table_status(lake.lake, "orders").changes


def settle(lake: Steps) -> None:
    """Tick and apply until nothing is due."""
    for _ in range(10):
        plan = lake.tick()
        if not plan.work:
            return
        lake.apply(plan)
    raise AssertionError("the sensor never stops asking")


def test_first_tick_finds_what_landed_before_there_was_a_sensor(steps: Make) -> None:
    lake = steps(table())
    lake.store.put(uri(NOW - 30 * 24 * HOUR), record(1))
    lake.store.put(uri(NOW), record(2))

    settle(lake)

    assert applied(lake) == 2


def test_late_object_that_sorts_before_applied_ones_is_found(steps: Make) -> None:
    lake = steps(table())
    lake.store.put(uri(NOW, "m"), record(1))
    settle(lake)

    lake.store.put(uri(NOW, "a"), record(2))
    plan = lake.tick()

    assert [work.hours for work in plan.work] == [(THIS_HOUR,)]
    lake.apply(plan)
    assert applied(lake) == 2


def test_object_of_an_earlier_hour_is_found_within_the_look_back(steps: Make) -> None:
    lake = steps(table())
    lake.store.put(uri(NOW), record(1))
    settle(lake)

    lake.store.put(uri(NOW - 40 * HOUR), record(2))
    lake.now = NOW + timedelta(seconds=LOOKBACK_EVERY_S)
    plan = lake.tick()

    assert [work.hours for work in plan.work] == [(THIS_HOUR - 40 * HOUR,)]


def test_object_older_than_the_look_back_is_found_when_all_is_listed(steps: Make) -> None:
    lake = steps(table(lookback="2h"))
    lake.store.put(uri(NOW), record(1))
    settle(lake)

    lake.store.put(uri(NOW - 500 * HOUR), record(2))
    lake.now = NOW + timedelta(seconds=LOOKBACK_EVERY_S)
    assert lake.tick().work == []
    lake.now = NOW + timedelta(seconds=ALL_EVERY_S)
    plan = lake.tick()

    assert [work.hours for work in plan.work] == [(THIS_HOUR - 500 * HOUR,)]


def test_object_rewritten_under_its_key_is_applied_again(steps: Make) -> None:
    lake = steps(table())
    lake.store.put(uri(NOW), record(1))
    settle(lake)

    lake.store.put(uri(NOW), record(1) + record(2))
    settle(lake)

    assert applied(lake) == 2


@pytest.mark.parametrize(
    "key",
    ["s3://landing/orders/by-hand.json", "s3://landing/orders/2026/02/30/99/no-hour", uri(datetime(1999, 1, 1, 5))],
)
def test_object_whose_key_names_no_hour_that_is_a_partition_is_applied(steps: Make, key: str) -> None:
    lake = steps(table())
    lake.store.put(uri(NOW), record(1))
    lake.store.put(key, record(2))

    plan = lake.tick()

    assert [(work.everything, work.hours) for work in plan.work] == [(True, (THIS_HOUR,))]
    lake.apply(plan)
    assert applied(lake) == 2


def test_object_not_in_the_folder_of_the_hour_in_its_name_is_applied(steps: Make) -> None:
    lake = steps(table())
    name = "orders-1-2026-03-04-09-59-59-6b1f6f0e-6d6e-5c3d-9c0c-2f0f3a7f9a51"
    lake.store.put(uri(NOW, name), record(1))  # in the folder of 12 o'clock

    settle(lake)

    assert applied(lake) == 1


def test_objects_in_a_layout_of_their_own_are_applied_by_their_hours(steps: Make) -> None:
    lake = steps(table())
    key = "s3://landing/orders/year=2026/month=03/day=04/hour=11/object"
    lake.store.put(key, record(1))

    plan = lake.tick()

    assert [(work.hours, work.everything) for work in plan.work] == [((THIS_HOUR - HOUR,), False)]
    lake.apply(plan)
    assert applied(lake) == 1
    lake.store.put(key + "-2", record(2))
    assert len(lake.tick().work) == 1


def test_failed_deliveries_below_the_error_prefix_are_found(steps: Make) -> None:
    lake = steps(table(errors_uri="s3://landing/failed/"))
    lake.store.put(uri(NOW), record(1))
    settle(lake)

    lake.store.put(f"s3://landing/failed/processing-failed/{NOW:%Y/%m/%d/%H}/object", record(2))

    settle(lake)
    assert applied(lake) == 2


def test_work_whose_run_failed_is_requested_again_after_growing_pauses(steps: Make) -> None:
    lake = steps(table())
    lake.store.put(uri(NOW), record(1))

    asked = []
    for minute in range(40):
        lake.now = NOW + timedelta(minutes=minute)
        asked += [(minute, work.tries) for work in lake.tick().work]

    assert asked == [(0, 1), (1, 2), (3, 3), (7, 4), (15, 5), (31, 6)]


def test_pause_between_tries_has_a_bound(steps: Make) -> None:
    cursor = SensorCursor().table("orders")
    for at_s in range(0, 100 * LONGEST_PAUSE_S, LONGEST_PAUSE_S):
        assert cursor.should_request("apply", "state", at_s)
        cursor.record_request("apply", "state", at_s)


def test_work_after_a_run_that_did_some_is_requested_at_once(steps: Make) -> None:
    lake = steps(table())
    lake.store.put(uri(NOW), record(1))
    first = lake.tick()
    lake.apply(first)

    lake.store.put(uri(NOW, "another"), record(2))
    second = lake.tick()

    assert [work.tries for work in first.work + second.work] == [1, 1]
    assert first.work[0].digest != second.work[0].digest


def test_failure_under_another_hand_does_not_use_a_run_key_again(steps: Make) -> None:
    lake = steps(table(), {"name": "other", "key": ["customer", "order_id"]})
    lake.store.put(uri(NOW), record(1))
    first = lake.tick().work  # its run fails

    apply_objects(lake.lake, "orders", [lake.store.put("s3://elsewhere/object", record(2))])
    second = lake.tick().work

    assert first[0].hours == second[0].hours
    assert first[0].digest != second[0].digest


def test_tables_with_a_run_under_way_are_left_alone(steps: Make) -> None:
    lake = steps(table(), table("customers"))
    for name in ("orders", "customers"):
        lake.store.put(uri(NOW, table=name), record(1))

    plan = lake.tick(Busy(applying={"orders"}))

    assert [work.table for work in plan.work] == ["customers"]


def test_listing_that_failed_is_made_up_for_at_once(steps: Make) -> None:
    lake = steps(table())
    lake.store.put(uri(NOW - 500 * HOUR), record(1))
    lake.store.broken.add("s3://landing/")
    assert lake.tick().work == []

    lake.store.broken.clear()

    assert len(lake.tick().work) == 1


def test_listing_left_out_while_a_run_was_under_way_is_made_up_for(steps: Make) -> None:
    lake = steps(table())
    lake.store.put(uri(NOW - 500 * HOUR), record(1))
    assert lake.tick(Busy(applying={"orders"})).work == []

    assert len(lake.tick().work) == 1


def test_tick_out_of_time_goes_on_with_the_next_table(steps: Make) -> None:
    names = [f"t{number}" for number in range(5)]
    lake = steps(*(table(name) for name in names))
    for name in names:
        lake.store.put(uri(NOW, table=name), record(1))
    times = iter(range(1000))

    asked = [[w.table for w in lake.tick(budget_s=2, clock=lambda: next(times)).work] for _ in range(5)]

    assert all(asked), "every tick gets somewhere"
    assert {name for tick in asked for name in tick} == set(names)


def test_listing_too_long_for_a_tick_is_left_to_a_run(steps: Make) -> None:
    lake = steps(table())
    for number in range(50):
        lake.store.put(uri(NOW - number * HOUR), record(number))
    times = iter(range(1000))

    plan = lake.tick(budget_s=5, clock=lambda: next(times))

    assert [(work.everything, work.hours) for work in plan.work] == [(True, (THIS_HOUR,))]
    lake.apply(plan)
    assert applied(lake) == 50


def test_unreadable_table_does_not_keep_the_others_waiting(steps: Make) -> None:
    lake = steps(table("broken"), table())
    lake.store.broken.add("s3://landing/broken/")
    lake.store.put(uri(NOW), record(1))

    plan = lake.tick()

    assert [work.table for work in plan.work] == ["orders"]
    assert list(plan.failed) == ["broken"]


def test_idle_tables_cost_few_requests_and_no_look_into_the_lake(steps: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    names = [f"t{number}" for number in range(8)]
    lake = steps(*(table(name) for name in names))
    for name in names:
        for hours in range(48):
            lake.store.put(uri(NOW - hours * HOUR, table=name), record(hours))
    for _ in range(3):
        lake.apply(lake.tick())
    lake.tick()
    monkeypatch.setattr(planner, "unapplied", lambda *_: pytest.fail("nothing new was listed"))

    lake.store.requests = 0
    plan = lake.tick()

    assert plan.work == [] and len(plan.examined) == len(names)
    assert lake.store.requests <= 3 * len(names)


def test_cursor_stays_small_for_thousands_of_tables() -> None:
    cursor = SensorCursor()
    for number in range(5000):
        one = cursor.table(f"table-{number:04d}")
        one.lookback_at_s = one.all_at_s = one.rest_at_s = 1_700_000_000
        one.applied_listing = "0123456789abcdef"

    assert len(cursor.dump(cursor.tables)) < 400_000


def test_long_backlog_is_requested_in_stretches(steps: Make) -> None:
    lake = steps(table())
    hours = [THIS_HOUR - n * HOUR for n in range(0, 20 * 24, 5)]
    for number, hour in enumerate(hours):
        lake.store.put(uri(hour), record(number))

    plan = lake.tick()

    (work,) = plan.work
    assert work.hours[0] == min(hours)
    assert work.hours[-1] - work.hours[0] < LONGEST_SPAN
    settle_after = 0
    while plan.work:
        lake.apply(plan)
        lake.now += timedelta(seconds=ALL_EVERY_S)
        plan, settle_after = lake.tick(), settle_after + 1
    assert applied(lake) == len(hours)
    assert settle_after <= 4


def test_table_without_landed_objects_has_no_work(steps: Make) -> None:
    lake = steps(table())

    assert [lake.tick().work for _ in range(3)] == [[], [], []]


def test_failed_load_does_not_keep_landed_objects_waiting(steps: Make) -> None:
    lake = steps({**table(), "export": {"bucket": "exports"}})
    lake.store.put("s3://exports/AWSDynamoDB/01700000000000-aaaaaaaa/manifest-summary.json", b"damaged")
    lake.store.put(uri(NOW), record(1))

    assert [work.kind for work in lake.tick().work] == ["apply"]


def test_fault_in_one_kind_of_work_does_not_keep_the_others_waiting(
    steps: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    lake = steps(table())
    lake.store.put(uri(NOW), record(1))

    def broken(*_: object) -> None:
        raise PermissionError("no")

    monkeypatch.setattr(due, "exports_to_load", broken)
    monkeypatch.setattr(due, "compaction_reason", broken)
    plan = lake.tick()

    assert [work.kind for work in plan.work] == ["apply"]
    assert str(plan.failed["orders"]) == "no"


def test_run_that_died_between_changelog_and_current_is_made_up_for(
    steps: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    lake = steps(table())
    lake.store.put(uri(NOW), record(1))
    plan = lake.tick()

    def dies(*_: object) -> None:
        raise MemoryError

    with monkeypatch.context() as patch:
        patch.setattr("ddb_lake.pipeline.apply.apply.update_current", dies)
        with pytest.raises(MemoryError):
            lake.apply(plan)
    plan = lake.tick()

    assert [work.kind for work in plan.work] == ["merge"]


@pytest.mark.parametrize(
    "cursor", [None, "", "not json", "[]", '{"v": 0}', '{"v": 1}', '{"v": 1, "next": null, "t": 3}']
)
def test_cursor_of_another_format_is_an_empty_one(cursor: str | None) -> None:
    assert SensorCursor.load(cursor) == SensorCursor()


def test_cursor_is_loaded_as_it_was_dumped() -> None:
    cursor = SensorCursor("b")
    one = cursor.table("a")
    one.lookback_at_s, one.all_at_s, one.rest_at_s, one.applied_listing = 1, 2, 3, "x"
    one.record_request("apply", "digest", 3)

    assert SensorCursor.load(cursor.dump(["a"])) == cursor
    assert SensorCursor.load(cursor.dump([])).tables == {}


def test_cursor_of_an_earlier_release_keeps_its_requests_for_windows() -> None:
    cursor = SensorCursor(tables={"a": TableCursor(requests={"export": Request("state", 3, 17)})})
    text = cursor.dump(["a"])
    assert '"export"' in text
    assert SensorCursor.load(text.replace('"export"', '"window"')) == cursor
