"""The path from a table to a verified lake on MiniStack and SeaweedFS, which others wrote, by the command line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ddb_lake.core.values.change_record import Item
from ddb_lake.sandbox import Traffic
from ddb_lake.sandbox.items import canonical, with_bytes
from ddb_lake_tests.support import strategies
from ddb_lake_tests.support.command_line import Run
from ddb_lake_tests.support.command_line import run as run
from ddb_lake_tests.support.effort import SHARED_FIXTURE, cases, examples
from ddb_lake_tests.support.emulated_path import (
    FIREHOSE,
    FORWARD,
    KINESIS,
    STREAMS,
    Delivery,
    landed_changes,
    make_buckets,
    make_table,
    succeed,
    used,
    write_configuration,
)
from ddb_lake_tests.support.ministack import MiniStack
from ddb_lake_tests.support.scanned_items import scan_items

QUICK = (STREAMS, "glue", "ministack")
WAYS = [
    QUICK,
    (KINESIS, "sql", "ministack"),
    (FIREHOSE, "glue", "ministack"),
    (FORWARD, "sql", "ministack"),
    (STREAMS, "sql", "seaweedfs"),
    (KINESIS, "glue", "seaweedfs"),
]


@pytest.mark.parametrize(("delivery", "catalog", "store"), cases(WAYS, [QUICK]), ids=str)
def test_lake_equals_the_table_of_ministack(
    request: pytest.FixtureRequest, run: Run, tmp_path: Path, delivery: Delivery, catalog: str, store: str
) -> None:
    ministack: MiniStack = request.getfixturevalue("ministack")
    other = request.getfixturevalue("seaweedfs") if store == "seaweedfs" else None
    account = ministack.account(other)
    make_table(account)
    make_buckets(account)
    land = delivery.start(account)
    traffic = Traffic(account.client("dynamodb"), seed=15)
    traffic.insert(25)
    write_configuration(tmp_path / "ddb_lake.yaml", account, landed_changes(account, delivery), catalog)
    with used(account.environment(), tmp_path):
        succeed(run, "load", "orders", "--scan", "--read-rate", 10_000)
        traffic.run(20)
        traffic.burst(5)
        traffic.delete(2)
        land()
        succeed(run, "sync", "--strict")
        assert_equal(run, scan_items(account.client("dynamodb"), "orders"))


FOLLOWED: dict[str, tuple[Delivery, dict[str, Any]]] = {
    "streams": (STREAMS, {"streams": True}),
    "kinesis": (KINESIS, {"kinesis": "changes"}),
    "fan-out": (KINESIS, {"kinesis": "changes", "fan_out": "lake"}),
}


@pytest.mark.exhaustive
@pytest.mark.parametrize("way", FOLLOWED)
def test_follower_makes_the_table_of_ministack(ministack: MiniStack, run: Run, tmp_path: Path, way: str) -> None:
    """Guards the calls of each way of reading against a service that was written from AWS's documentation by others."""
    delivery, changes = FOLLOWED[way]
    account = ministack.account()
    make_table(account)
    make_buckets(account)
    delivery.start(account)
    traffic = Traffic(account.client("dynamodb"), seed=17)
    traffic.insert(25)
    write_configuration(tmp_path / "ddb_lake.yaml", account, changes, "sql")
    with used(account.environment(), tmp_path):
        succeed(run, "follow", "--once")
        for _ in range(2):
            traffic.run(20)
            traffic.burst(5)
            traffic.delete(2)
            succeed(run, "follow", "--once")
            assert_equal(run, scan_items(account.client("dynamodb"), "orders"))
        quiet = [json.loads(line) for line in succeed(run, "follow", "--once", "--json").splitlines()]
    assert [event["event"] for event in quiet if event["event"] == "turn"] == [], "what was read is read again"


def assert_equal(run: Run, items: list[str]) -> None:
    """The lake has exactly these items: by `verify`, and by a comparison with what `dump` prints."""
    report = json.loads(succeed(run, "verify", "orders", "--full", "--scan", "--read-rate", 10_000, "--json"))
    assert (report["outcome"], report["compared"]) == ("equal", len(items))
    dumped = (
        succeed(run, "dump", "orders").removesuffix("\n").split("\n")
    )  # `splitlines` also splits at U+2028, which an item may have
    assert sorted(canonical(json.loads(line)["Item"]) for line in dumped) == items


@pytest.mark.exhaustive
@examples(1, 2, suppress=SHARED_FIXTURE)
@given(items=st.lists(strategies.items(), min_size=20, max_size=60))
def test_any_item_of_ministack_is_in_the_lake(
    ministack: MiniStack, run: Run, tmp_path_factory: pytest.TempPathFactory, items: list[Item]
) -> None:
    """The values and names of DynamoDB that break parsers, written and replaced, by DynamoDB Streams."""
    account, folder = ministack.account(), tmp_path_factory.mktemp("lake")
    make_table(account)
    make_buckets(account)
    dynamodb = account.client("dynamodb")
    write_configuration(folder / "ddb_lake.yaml", account, landed_changes(account, STREAMS), "sql")
    with used(account.environment(), folder):
        succeed(run, "load", "orders", "--scan", "--read-rate", 10_000)
        for number, item in enumerate(items):
            key = {"customer": {"S": "ann"}, "order_id": {"S": str(number % 50)}}
            dynamodb.put_item(TableName="orders", Item=with_bytes({**strategies.storable(item), **key}))
        succeed(run, "sync", "--strict")
        assert_equal(run, scan_items(dynamodb, "orders"))
