"""The daily sample: at most 50 read units, kept for the hours between, and its differing keys judged again."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest

from ddb_lake.aws.items import TableItems
from ddb_lake.checks.check import Subject
from ddb_lake.checks.verification import sample_matches_source
from ddb_lake.core.verify.outcome import Color, Outcome
from ddb_lake.errors import UnreachableError
from ddb_lake.pipeline.load.load import load_export
from ddb_lake.pipeline.verify.daily_sample import EVERY_S, VALID_S, last_sample
from ddb_lake.pipeline.verify.repair import repair_from_source
from ddb_lake.pipeline.verify.sample import affordable_keys
from ddb_lake_tests.support.sandbox_lake import orders_lake, orders_source
from ddb_lake_tests.support.verified_source import Stand


@pytest.fixture(scope="module")
def stand(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stand]:
    """A lake that equals its source. Each test leaves it equal, and begins when a sample is due."""
    folder = tmp_path_factory.mktemp("lake")
    with (
        pytest.MonkeyPatch.context() as patch,
        orders_source(patch) as sandbox,
        orders_lake(sandbox, folder) as lake,
    ):
        stand = Stand(sandbox, lake)
        for number in range(60):
            stand.put(f"o{number}", total=str(number))
        stand.deliver()
        stand.wait()
        load_export(lake, "orders", stand.export())
        yield stand


def evaluate(stand: Stand) -> Outcome:
    return sample_matches_source(Subject(stand.lake, stand.lake.table("orders")))


def color(stand: Stand) -> Color:
    return evaluate(stand).color()


def sampled_us(stand: Stand) -> int:
    last = last_sample(stand.lake, "orders")
    assert last is not None
    return last.sampled_us


def later(stand: Stand, seconds: float) -> None:
    now = stand.lake.now()
    stand.lake.now = lambda: now + timedelta(seconds=seconds)


def test_sample_is_taken_once_a_day_within_its_budget_and_shown_in_between(
    stand: Stand, monkeypatch: pytest.MonkeyPatch
) -> None:
    consistent = []
    call = TableItems._call

    def recorded(self: TableItems, operation: str, *arguments: Any, **options: Any) -> Any:
        requests = options.get("RequestItems", {}).get("orders", options)
        consistent.append(requests.get("ConsistentRead", False))
        return call(self, operation, *arguments, **options)

    monkeypatch.setattr(TableItems, "_call", recorded)
    found = evaluate(stand)
    assert not any(consistent)  # the sandbox counts 1 unit for such a read, where DynamoDB counts 0.5
    first = sampled_us(stand)
    assert found.state == "pass" and "all are equal" in found.text
    assert 50 < int(str(found.figures["keys compared"])) <= 100

    later(stand, EVERY_S - 10)
    assert color(stand) == "green" and sampled_us(stand) == first
    later(stand, 10)
    assert color(stand) == "green" and sampled_us(stand) > first

    # the source cannot be read: unknown, with the last result until it is too old
    monkeypatch.setattr("ddb_lake.pipeline.verify.daily_sample.verify_daily_sample", _unreachable)
    later(stand, EVERY_S)
    shown = evaluate(stand)
    assert shown.state == "unknown" and "no newer sample can be taken (not now)" in shown.text
    later(stand, VALID_S)
    subject = Subject(stand.lake, stand.lake.table("orders"))
    with pytest.raises(UnreachableError):
        sample_matches_source(subject)


def test_key_that_differs_is_read_again_every_hour_until_it_is_repaired(stand: Stand) -> None:
    later(stand, EVERY_S)
    for number in range(12):
        stand.put(f"o{number}", total=str(-number - 1))
    stand.deliver(lost=True)
    assert color(stand) == "yellow"  # the lake has no change later than the read: it may still arrive
    first = sampled_us(stand)

    stand.wait(60)
    stand.put("later", total="1")
    stand.deliver()
    later(stand, 3600)
    assert color(stand) == "red" and sampled_us(stand) == first

    last = last_sample(stand.lake, "orders")
    assert last is not None
    repair_from_source(stand.lake, "orders", [difference.key for difference in last.report.differences])
    later(stand, 3600)
    assert color(stand) == "green" and sampled_us(stand) == first


@pytest.mark.parametrize(
    ("keys", "size_bytes", "items", "affordable"),
    [
        (100, 0, 0, 100),
        (100, 400_000, 100, 100),
        (100, 409_600, 100, 100),
        (100, 410_000, 100, 50),
        (100, 40_960_000, 100, 2),
    ],
)
def test_large_items_make_the_sample_smaller(keys: int, size_bytes: int, items: int, affordable: int) -> None:
    assert affordable_keys(keys, size_bytes, items) == affordable


def _unreachable(*_: object, **__: object) -> None:
    raise UnreachableError("not now")
