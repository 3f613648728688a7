from __future__ import annotations

import base64
import io
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from aws_lambda_powertools import Logger
from botocore.exceptions import ClientError
from hypothesis import given
from hypothesis import strategies as st

from ddb_lake.core.capture.dynamodb_copies import PARTITION_KEY, SORT_KEY, replica_of
from ddb_lake.errors import ConfigError, UndecodableError
from ddb_lake.lambdas import replicate
from ddb_lake.lambdas.enrichment import Enrichment, Origin
from ddb_lake.lambdas.replicate import Replicator, handler
from ddb_lake_tests.support.strategies import json_values

Records = list[dict[str, Any]]
ALL_DAY = lambda: 1e6  # noqa: E731  # seconds left of the invocation


def record(sequence: int, data: bytes, shard: int = 6) -> dict[str, Any]:
    """A record of a Kinesis event as Lambda gives it."""
    return {
        "kinesis": {
            "kinesisSchemaVersion": "1.0",
            "partitionKey": "p",
            "sequenceNumber": str(sequence),
            "data": base64.b64encode(data).decode(),
            "approximateArrivalTimestamp": 1545084650.987,
        },
        "eventSource": "aws:kinesis",
        "eventVersion": "1.0",
        "eventID": f"shardId-{shard:012}:{sequence}",
        "eventName": "aws:kinesis:record",
        "awsRegion": "eu-west-1",
        "eventSourceARN": "arn:aws:kinesis:eu-west-1:111122223333:stream/web-analytics",
    }


def click(sequence: int, **payload: Any) -> dict[str, Any]:
    return record(sequence, json.dumps(payload).encode())


def error(code: str) -> ClientError:
    return ClientError({"Error": {"Code": code, "Message": ""}}, "Call")


@dataclass
class Table:
    """DynamoDB as the replicator meets it. `faults`: for each call an error to raise, or how many to leave undone."""

    names: tuple[str, ...] = (PARTITION_KEY, SORT_KEY)
    items: dict[str, dict[str, Any]] = field(default_factory=dict)
    faults: list[ClientError | int] = field(default_factory=list)
    writes: int = 0
    calls: list[str] = field(default_factory=list)

    def batch_get_item(self, RequestItems: dict[str, Any]) -> dict[str, Any]:
        keys = RequestItems["t"]["Keys"]
        assert 0 < len(keys) <= 100
        done = len(keys) - self._fault("read")
        found = [{name: key[name] for name in self.names} for key in keys[:done] if self._mark(key) in self.items]
        left = {"t": {"Keys": keys[done:]}} if keys[done:] else {}
        return {"Responses": {"t": found}, "UnprocessedKeys": left}

    def batch_write_item(self, RequestItems: dict[str, Any]) -> dict[str, Any]:
        requests = RequestItems["t"]
        assert 0 < len(requests) <= 25
        items = [request["PutRequest"]["Item"] for request in requests]
        assert len({self._mark(item) for item in items}) == len(items)
        self._validate(*items)
        done = len(items) - self._fault("write")
        for item in items[:done]:
            self._store(item)
        return {"UnprocessedItems": {"t": requests[done:]} if requests[done:] else {}}

    def put_item(self, TableName: str, Item: dict[str, Any], **condition: Any) -> None:
        self._validate(Item)
        self._fault("put")
        name = condition["ExpressionAttributeNames"]["#n"]
        there = self.items.get(self._mark(Item), {}).get(name)
        order = condition.get("ExpressionAttributeValues", {}).get(":order")
        if there is not None and (order is None or there["S"] >= order["S"]):
            raise error("ConditionalCheckFailedException")
        self._store(Item)

    def _validate(self, *items: dict[str, Any]) -> None:
        if any(len(json.dumps(item)) > 400_000 for item in items):
            raise error("ValidationException")

    def _fault(self, call: str) -> int:
        self.calls.append(call)
        fault = self.faults.pop(0) if self.faults else 0
        if isinstance(fault, ClientError):
            raise fault
        return fault

    def _store(self, item: dict[str, Any]) -> None:
        self.writes += 1
        self.items[self._mark(item)] = item

    def _mark(self, item: dict[str, Any]) -> str:
        return json.dumps([item[name] for name in self.names])


def run(table: Table, records: Records, key_names: tuple[str, ...] = ()) -> list[str]:
    replicator = Replicator(table, "t", key_names, pause=lambda _: None)
    answer = json.loads(json.dumps(replicator.replicate(records, ALL_DAY)))
    return [one["itemIdentifier"] for one in answer["batchItemFailures"]]


def test_record_whose_enrichment_fails_is_reported_and_the_others_are_written() -> None:
    def double(item: dict[str, Any], origin: Origin) -> dict[str, Any]:
        return {**item, "double": item["v"] * 2, "table": origin.table, "from": origin.shard}

    table, records = Table(), [click(1, v=2), click(2, w=1), click(3, v=1.5)]
    replicator = Replicator(table, "t", pause=lambda _: None, enrichment=Enrichment("m:double", double))
    assert replicator.replicate(records, ALL_DAY) == {"batchItemFailures": [{"itemIdentifier": "2"}]}
    written = [{name: item[name] for name in ("double", "table", "from")} for item in table.items.values()]
    shard = {"S": "shardId-000000000006"}
    assert written == [{"double": {"N": n}, "table": {"S": "t"}, "from": shard} for n in ("4", "3.0")]


def test_item_has_the_keys_of_the_pattern_and_every_digit_of_its_numbers() -> None:
    sequence = "49545115243490985018280067714973144582180062593244200961"
    data = (
        b'{"event":"page view","n":12345678901234567890.123456789,"none":null,"empty":"","l":[1,"x"],"shardId":"own"}'
    )
    replica = replica_of(record(int(sequence), data))
    assert replica.key == {
        PARTITION_KEY: {"S": "96_shardId-000000000006"},
        SORT_KEY: {"S": sequence},
    }
    assert replica.item == {
        **replica.key,
        "shardId": {"S": "shardId-000000000006"},
        "payload_shardId": {"S": "own"},
        "event": {"S": "page view"},
        "n": {"N": "12345678901234567890.123456789"},
        "none": {"NULL": True},
        "empty": {"S": ""},
        "l": {"L": [{"N": "1"}, {"S": "x"}]},
    }


_POISON = st.one_of(
    json_values(),
    st.builds(record, st.integers(1, 60), st.binary(max_size=20)),
    st.builds(record, st.integers(1, 60), json_values().map(lambda value: json.dumps(value).encode())),
)
_GOOD = st.builds(click, st.integers(1, 60), v=st.integers(0, 3))
_FAULTS = st.one_of(
    st.integers(0, 1),
    st.sampled_from(("ProvisionedThroughputExceededException", "ThrottlingException", "InternalServerError")).map(
        error
    ),
)


@given(
    records=st.lists(st.one_of(_GOOD, _GOOD, _POISON), max_size=80),
    faults=st.lists(_FAULTS, max_size=30),
    key=st.sampled_from(((), ("v",))),
)
def test_what_was_written_and_what_comes_back_are_the_input(
    records: Records, faults: list[Any], key: tuple[str, ...]
) -> None:
    table = Table(key or (PARTITION_KEY, SORT_KEY), faults=faults)
    failed = run(table, records, key)
    replicas = {}
    for one in records:
        name = ""
        try:
            replica = replica_of(one, key)
            replicas[json.dumps([replica.key, replica.item])] = replica
            name = replica.item[SORT_KEY]["S"]
            there = table.items.get(table._mark(replica.item))
            newer = there is not None and (bool(key) and there["sequenceOrder"]["S"] >= replica.order)
            assert name in failed or there == replica.item or newer or _twice(records, name)
        except UndecodableError:
            sequence = _sequence(one)
            assert sequence in failed
    in_order = iter([_sequence(one) for one in records])
    assert all(name in in_order for name in failed), "what comes back is in Kinesis order"
    assert len(set(failed)) == len(failed)


def _sequence(one: Any) -> str:
    found = one.get("kinesis") if isinstance(one, dict) else None
    sequence = found.get("sequenceNumber") if isinstance(found, dict) else None
    return sequence if isinstance(sequence, str) and sequence.isdigit() and sequence.isascii() else ""


def _twice(records: Records, name: str) -> bool:
    """One number for different records, which Kinesis never gives: then one of them is there."""
    return sum(_sequence(one) == name for one in records) > 1


@given(event=json_values())
def test_no_event_makes_the_handler_raise(event: Any) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DDB_LAKE_TARGET_TABLE", "t")
        patch.setattr(replicate, "_replicator", lambda *_: Replicator(Table(), "t", pause=lambda _: None))
        assert set(handler(event, None)) == {"batchItemFailures"}


def test_replay_writes_nothing_and_leaves_alone_what_others_added() -> None:
    table, records = Table(), [click(number, v=number) for number in range(150)]
    assert run(table, records) == []
    assert table.writes == 150
    for item in table.items.values():
        item["note"] = {"S": "added since"}
    assert run(table, records[::-1] + records) == []
    assert table.writes == 150
    assert table.calls.count("write") == 6  # 150 items in batches of 25


def test_newest_of_a_key_stays_whatever_the_order_of_arrival() -> None:
    table = Table(("user",))
    late = click(90, user="ann", v=1)
    assert run(table, [click(9, user="ann", v=0), late, click(8, user="bob", v=2)], ("user",)) == []
    assert run(table, [click(10, user="ann", v=7)], ("user",)) == []  # text order would have it the newest
    assert {item["user"]["S"]: item["v"]["N"] for item in table.items.values()} == {"ann": "1", "bob": "2"}
    assert table.writes == 2


def test_record_that_dynamodb_refuses_fails_alone() -> None:
    table = Table()
    records = [click(1, v=1), click(2, text="x" * 500_000), click(3, v=3)]
    assert run(table, records) == ["2"]
    assert len(table.items) == 2


def test_throttling_without_end_gives_back_what_was_not_written() -> None:
    table = Table(faults=[0, *[error("ThrottlingException")] * 1000])
    assert run(table, [click(number, v=1) for number in (1, 2, 3)]) == ["1", "2", "3"]
    assert table.items == {}


def test_no_time_left_gives_back_what_was_not_written() -> None:
    table = Table(faults=[0, 2])
    answer = Replicator(table, "t", pause=lambda _: None).replicate([click(n, v=1) for n in (1, 2, 3)], lambda: -1.0)
    assert answer["batchItemFailures"] == [{"itemIdentifier": "2"}, {"itemIdentifier": "3"}]


def test_fault_that_stays_raises() -> None:
    with pytest.raises(ClientError):
        run(Table(faults=[error("AccessDeniedException")]), [click(1, v=1)])


def test_handler_without_a_table_says_what_to_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DDB_LAKE_TARGET_TABLE", raising=False)
    with pytest.raises(ConfigError, match="DDB_LAKE_TARGET_TABLE"):
        handler({"Records": []}, None)


@pytest.fixture
def logged(monkeypatch: pytest.MonkeyPatch) -> Iterator[io.StringIO]:
    stream = io.StringIO()
    monkeypatch.setattr(replicate, "_log", Logger(service="test.replicate", stream=stream))
    yield stream


def test_nothing_of_a_record_is_logged_but_its_sequence_number(logged: io.StringIO) -> None:
    secret = "s3cr3t"
    run(Table(), [record(7, f'{{"a":"{secret}"'.encode()), click(8, a=secret * 100_000)])
    assert [json.loads(line)["sequence"] for line in logged.getvalue().splitlines()] == ["7", "8"]
    assert secret not in logged.getvalue()
