from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from ddb_lake.sandbox import Sandbox, StreamFaults, Traffic, create_orders_table
from ddb_lake.sandbox.items import canonical
from ddb_lake_tests.support.sandbox_steps import (
    QUICK_EXPORTS,
    export,
    make_bucket,
    make_stream,
    read_export,
    scan,
    stream_records,
)

START = datetime(2024, 5, 14, 11, tzinfo=UTC)


class Requests:
    """A client that only records its requests."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, Any]] = []

    def __getattr__(self, name: str) -> Any:
        def call(**request: Any) -> dict[str, Any]:
            self.asked.append((name, request))
            return {}

        return call


def test_traffic_of_one_seed_sends_the_same_requests() -> None:
    sent = []
    for seed in (1, 1, 2):
        requests = Requests()
        Traffic(requests, seed=seed, now=lambda: START).run(50)
        sent.append(requests.asked)
    assert sent[0] == sent[1] != sent[2]


def test_orders_have_every_kind_of_attribute() -> None:
    requests = Requests()
    Traffic(requests, now=lambda: START).insert(300)
    orders = [put["PutRequest"]["Item"] for _, request in requests.asked for put in request["RequestItems"]["orders"]]
    kinds = {kind for order in orders for value in order.values() for kind in value}
    assert kinds == {"S", "N", "B", "BOOL", "NULL", "M", "L", "SS", "NS", "BS"}
    assert len({(order["customer"]["S"], order["order_id"]["S"]) for order in orders}) == 300
    assert {len(value) for order in orders for value in order.values()} == {1}
    coupons = {number for order in orders for number in order.get("coupons", {"NS": []})["NS"]}
    assert {number.partition(".")[2] for number in coupons} == {"5"}, "the dbt models have decimal(38,1)"


def test_create_orders_table_has_recovery_and_time_to_live_on(sandbox: Sandbox) -> None:
    client = sandbox.client("dynamodb")
    arn = create_orders_table(client, streams=True)
    described = client.describe_table(TableName="orders")["Table"]
    recovery = client.describe_continuous_backups(TableName="orders")["ContinuousBackupsDescription"]
    assert described["TableArn"] == arn
    assert described["StreamSpecification"]["StreamViewType"] == "NEW_AND_OLD_IMAGES"
    assert recovery["PointInTimeRecoveryDescription"]["PointInTimeRecoveryStatus"] == "ENABLED"
    ttl = client.describe_time_to_live(TableName="orders")["TimeToLiveDescription"]
    assert (ttl["TimeToLiveStatus"], ttl["AttributeName"]) == ("ENABLED", "expires_at")


def test_burst_with_the_clock_held_is_within_a_millisecond(sandbox: Sandbox) -> None:
    client = sandbox.client("dynamodb")
    create_orders_table(client)
    arn = make_stream(sandbox, "orders")
    traffic = Traffic(client)
    order = traffic.burst(6, sandbox.clock.held)
    records = [record for record in stream_records(sandbox, arn) if record["eventName"] == "MODIFY"]
    assert {record["dynamodb"]["Keys"]["order_id"]["S"] for record in records} == {order[1]}
    assert len({record["dynamodb"]["ApproximateCreationDateTime"] for record in records}) == 1
    assert len(records) == 6


def test_rewrite_leaves_no_trace_in_the_stream(sandbox: Sandbox) -> None:
    client = sandbox.client("dynamodb")
    create_orders_table(client)
    traffic = Traffic(client)
    traffic.insert(5)
    arn = make_stream(sandbox, "orders")
    assert len(traffic.rewrite(5)) == 5
    assert stream_records(sandbox, arn) == []


def replayed(records: list[dict[str, Any]]) -> dict[str, Any]:
    """The table that the records lead to, the latest of each key winning; every image is checked to follow."""
    state: dict[str, Any] = {}
    unique = {record["eventID"]: record for record in records}.values()
    for record in sorted(unique, key=lambda r: r["dynamodb"]["ApproximateCreationDateTime"]):
        body = record["dynamodb"]
        key = canonical(body["Keys"])
        assert body.get("OldImage") == state.get(key)
        if record["eventName"] == "REMOVE":
            del state[key]
        else:
            state[key] = body["NewImage"]
    return state


@pytest.mark.parametrize("seed", range(2))
def test_history_stream_and_export_of_random_traffic_all_equal_the_table(seed: int) -> None:
    faults = StreamFaults(duplicates=0.2, reordering=0.2, seed=seed)
    with Sandbox(start=START, faults=faults, exports=QUICK_EXPORTS) as sandbox:
        client = sandbox.client("dynamodb")
        arn = create_orders_table(client)
        make_bucket(sandbox)
        stream = make_stream(sandbox, "orders", "MICROSECOND")
        traffic = Traffic(client, seed=seed, now=sandbox.clock.now)
        traffic.insert(20)
        traffic.run(20)
        middle = sandbox.clock.now().replace(microsecond=0) + timedelta(minutes=20)
        sandbox.clock.set(middle)
        then = scan(sandbox, "orders")
        traffic.run(15)
        sandbox.expire("orders", middle + timedelta(hours=5))
        table = scan(sandbox, "orders")
        _, _, lines = read_export(sandbox, export(sandbox, arn))
        _, _, earlier = read_export(sandbox, export(sandbox, arn, ExportTime=middle))
        records = stream_records(sandbox, stream)
        sandbox.clock.advance(timedelta(minutes=20))
        window = {"ExportFromTime": middle}
        increment = export(sandbox, arn, ExportType="INCREMENTAL_EXPORT", IncrementalExportSpecification=window)
        _, _, changes = read_export(sandbox, increment)
    assert sorted(canonical(line["Item"]) for line in lines) == table
    assert sorted(canonical(line["Item"]) for line in earlier) == then
    assert len(replayed(records)) == len(table)
    merged = {canonical(key_of(line["Item"])): canonical(line["Item"]) for line in earlier}
    for line in changes:
        merged.pop(canonical(line["Keys"]), None)
        if "NewImage" in line:
            merged[canonical(line["Keys"])] = canonical(line["NewImage"])
    assert sorted(merged.values()) == table


def key_of(item: dict[str, Any]) -> dict[str, Any]:
    return {name: item[name] for name in ("customer", "order_id")}
