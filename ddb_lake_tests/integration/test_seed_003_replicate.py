"""Kinesis → replicate → DynamoDB in another account → Streams → forward → Firehose → S3 → lake, with all that goes wrong.

Records come twice, in any order of shards, throttled and left unprocessed; the function dies before and after every
call that it makes; some records can never be written. What is left must be every other record, once.
"""

from __future__ import annotations

import base64
import json
import random
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError

from ddb_lake.aws.session import session
from ddb_lake.aws.streams import TableStreams
from ddb_lake.config import LakeSettings, parse_settings
from ddb_lake.core.capture.dynamodb_copies import PARTITION_KEY, SHARD, SORT_KEY
from ddb_lake.core.capture.shards import ShardPosition
from ddb_lake.core.capture.stream_lines import stream_line
from ddb_lake.core.operations.retry_policy import RetryPolicy
from ddb_lake.executors import open_lake
from ddb_lake.lambdas import forward, replicate
from ddb_lake.pipeline.apply.apply import apply_objects
from ddb_lake.pipeline.read.dump import dump_items
from ddb_lake.sandbox import Sandbox
from ddb_lake.sandbox.items import canonical
from ddb_lake_tests.support.crashing_lake import Crash, apply_with_crashes, changelog_rows
from ddb_lake_tests.support.sandbox_lake import point_at

TABLE = "web-analytics-copy"
BUCKET = "web-analytics-lake"
ROLE = "arn:aws:iam::444455556666:role/DynamoDB-AnalyticsWrite-role"
STREAM = "web-analytics"
MOST_RETRIES = 3

Invoke = Callable[[Sequence[dict[str, Any]]], list[str]]


class Faulty:
    """A client whose calls are throttled, leave work undone, or are the last thing that the process does."""

    def __init__(self, client: Any, pick: random.Random) -> None:
        self._client, self._pick = client, pick

    def __getattr__(self, name: str) -> Any:
        call = getattr(self._client, name)

        def faulty(**arguments: Any) -> Any:
            chance = self._pick.random()
            if chance < 0.1:
                raise Crash
            if chance < 0.25:
                code = self._pick.choice(("ProvisionedThroughputExceededException", "ThrottlingException"))
                raise ClientError({"Error": {"Code": code, "Message": "Slow down."}}, name)
            if name == "batch_write_item" and chance < 0.5:
                return self._half(call, arguments["RequestItems"][TABLE])
            answer = call(**arguments)
            if chance > 0.9:
                raise Crash
            return answer

        return faulty

    def _half(self, call: Any, requests: Sequence[Any]) -> dict[str, Any]:
        done, left = requests[::2], requests[1::2]
        call(RequestItems={TABLE: done})
        return {"UnprocessedItems": {TABLE: left} if left else {}}


class FaultySession:
    """A session whose clients are `Faulty`."""

    def __init__(self, real: boto3.Session, pick: random.Random) -> None:
        self._real, self._pick = real, pick

    def client(self, service: str, **settings: Any) -> Any:
        return Faulty(self._real.client(service, **settings), self._pick)  # type: ignore[call-overload]


class Mapping:
    """Lambda's event source mapping: what it does with what a function answers, or with its death."""

    def __init__(self, invoke: Invoke, name_of: Callable[[dict[str, Any]], str]) -> None:
        self._invoke, self._name_of = invoke, name_of
        self.destination: list[dict[str, Any]] = []
        self.crashes = 0

    def hand_over(self, batch: Sequence[dict[str, Any]]) -> None:
        """Hand a batch over until it is through; what fails too often goes to the on-failure destination."""
        tries = 0
        while batch:
            try:
                failed = self._invoke(batch)
            except Crash:
                self.crashes += 1
                continue
            if not failed:
                return
            first = min([self._name_of(record) for record in batch].index(name) for name in failed)
            batch, tries = batch[first:], tries + 1
            if tries > MOST_RETRIES:
                self.destination.append(batch[0])  # bisected until it was alone
                batch, tries = batch[1:], 0


def _invoked(handler: Callable[[Any, Any], Any]) -> Invoke:
    def invoke(batch: Sequence[dict[str, Any]]) -> list[str]:
        answer = handler(json.loads(json.dumps({"Records": list(batch)})), None)
        return [one["itemIdentifier"] for one in json.loads(json.dumps(answer))["batchItemFailures"]]

    return invoke


def _events(count: int, pick: random.Random) -> tuple[list[bytes], list[bytes]]:
    """Web events, each with a number of its own, and what can never be one."""
    good = [
        json.dumps(
            {
                "event": pick.choice(("page view", "donate", "")),
                "number": number,
                "useremail": f"user{number % 7}@example.com",
                "amount": None if number % 5 else 12.5,
                "shardId": "of the page",
                "path": {"parts": ["a", number, {"deep": True}]},
            }
        ).encode()
        for number in range(count)
    ]
    poison = [b"not json", b'{"cut":', b"[1,2]", b'{"number":1e999}', b"\xff\xfe", b'{"huge":"%s"}' % (b"x" * 420_000)]
    return good, poison


@pytest.fixture
def sandbox(monkeypatch: pytest.MonkeyPatch) -> Iterator[Sandbox]:
    with Sandbox() as running:
        point_at(running, monkeypatch)
        replicate._replicator.cache_clear()
        forward._forwarder.cache_clear()
        yield running
    session.cache_clear()
    replicate._replicator.cache_clear()
    forward._forwarder.cache_clear()


def _target(sandbox: Sandbox, service: str) -> Any:
    """A client in the account of the target."""
    return session(sandbox.region, ROLE, "research").client(service)  # type: ignore[call-overload]


def _make_target(sandbox: Sandbox) -> None:
    _target(sandbox, "dynamodb").create_table(
        TableName=TABLE,
        KeySchema=[
            {"AttributeName": PARTITION_KEY, "KeyType": "HASH"},
            {"AttributeName": SORT_KEY, "KeyType": "RANGE"},
        ],
        AttributeDefinitions=[{"AttributeName": name, "AttributeType": "S"} for name in (PARTITION_KEY, SORT_KEY)],
        BillingMode="PAY_PER_REQUEST",
        StreamSpecification={"StreamEnabled": True, "StreamViewType": "NEW_AND_OLD_IMAGES"},
    )
    place = {"LocationConstraint": sandbox.region}
    _target(sandbox, "s3").create_bucket(Bucket=BUCKET, CreateBucketConfiguration=place)
    _target(sandbox, "firehose").create_delivery_stream(
        DeliveryStreamName="prod-s3-firehose",
        ExtendedS3DestinationConfiguration={
            "RoleARN": "arn:aws:iam::444455556666:role/firehosedeliveryrole",
            "BucketARN": f"arn:aws:s3:::{BUCKET}",
            "Prefix": "prod-kinesis-data/",
        },
    )


def _kinesis_records(sandbox: Sandbox) -> dict[str, list[dict[str, Any]]]:
    """Each shard's records as Lambda gives them, from TRIM_HORIZON."""
    kinesis = sandbox.client("kinesis")
    found: dict[str, list[dict[str, Any]]] = {}
    for shard in kinesis.list_shards(StreamName=STREAM)["Shards"]:
        asked = {"StreamName": STREAM, "ShardId": shard["ShardId"], "ShardIteratorType": "TRIM_HORIZON"}
        iterator = kinesis.get_shard_iterator(**asked)["ShardIterator"]
        records = kinesis.get_records(ShardIterator=iterator)["Records"]
        found[shard["ShardId"]] = [
            {
                "kinesis": {
                    "partitionKey": record["PartitionKey"],
                    "sequenceNumber": record["SequenceNumber"],
                    "data": base64.b64encode(record["Data"]).decode(),
                },
                "eventID": f"{shard['ShardId']}:{record['SequenceNumber']}",
                "eventSource": "aws:kinesis",
            }
            for record in records
        ]
    return found


def _replicated(records: dict[str, list[dict[str, Any]]], pick: random.Random, again: bool) -> Mapping:
    """Hand all records over, the shards' batches in any order between them, with `again` some batches twice."""
    mapping = Mapping(_invoked(replicate.handler), lambda record: str(record["kinesis"]["sequenceNumber"]))
    batches = {
        shard: [some[start : start + 40] for start in range(0, len(some), 40)] for shard, some in records.items()
    }
    while any(batches.values()):
        shard = pick.choice([name for name, left in batches.items() if left])
        batch = batches[shard].pop(0)
        mapping.hand_over(batch)
        if again:
            mapping.hand_over(batch)
    return mapping


def _scanned(sandbox: Sandbox) -> list[dict[str, Any]]:
    pages = _target(sandbox, "dynamodb").get_paginator("scan").paginate(TableName=TABLE)
    return [item for page in pages for item in page["Items"]]


def _expected(records: dict[str, list[dict[str, Any]]], good: Sequence[bytes]) -> list[str]:
    """The items that the good records must have become."""
    found = []
    for shard, some in records.items():
        for record in some:
            data, sequence = base64.b64decode(record["kinesis"]["data"]), record["kinesis"]["sequenceNumber"]
            if data in good:
                payload = json.loads(data)
                amount = {"NULL": True} if payload["amount"] is None else {"N": "12.5"}
                number = {"N": str(payload["number"])}
                item = {
                    PARTITION_KEY: {"S": f"{sequence[-3:-1]}_{shard}"},
                    SORT_KEY: {"S": sequence},
                    SHARD: {"S": shard},
                    "payload_shardId": {"S": "of the page"},
                    "event": {"S": payload["event"]},
                    "number": number,
                    "useremail": {"S": payload["useremail"]},
                    "amount": amount,
                    "path": {"M": {"parts": {"L": [{"S": "a"}, number, {"M": {"deep": {"BOOL": True}}}]}}},
                }
                found.append(canonical(item))
    return sorted(found)


def _forwarded(sandbox: Sandbox, lake: LakeSettings, pick: random.Random, monkeypatch: pytest.MonkeyPatch) -> int:
    """Hand the target's stream to the forwarder, in its own account; some batches twice. How many records there were."""
    source = TableStreams(lake.table("clicks"))
    (arn,) = source.streams()
    (shard,) = source.describe(arn).shards
    iterator: str | None = source.iterator(arn, shard.shard_id, ShardPosition())
    records: list[dict[str, Any]] = []
    while iterator is not None:
        page = source.records(iterator)
        if not page.records:
            break
        records += [json.loads(stream_line(record, arn)) for record in page.records]
        iterator = page.next_iterator
    credentials = session(sandbox.region, ROLE, "research").get_credentials()
    assert credentials is not None
    frozen = credentials.get_frozen_credentials()
    with monkeypatch.context() as patch:
        patch.setenv("AWS_ACCESS_KEY_ID", frozen.access_key or "")
        patch.setenv("AWS_SECRET_ACCESS_KEY", frozen.secret_key or "")
        patch.setenv("AWS_SESSION_TOKEN", frozen.token or "")
        patch.setenv("DDB_LAKE_DELIVERY_STREAM", "prod-s3-firehose")
        patch.setenv("DDB_LAKE_OVERSIZE_URI", f"s3://{BUCKET}/prod-kinesis-data/oversize/")
        mapping = Mapping(_invoked(forward.handler), lambda record: str(record["dynamodb"]["SequenceNumber"]))
        batches = [records[start : start + 30] for start in range(0, len(records), 30)]
        for batch in [*batches, *pick.sample(batches, k=len(batches) // 2)]:
            mapping.hand_over(batch)
    assert mapping.destination == []
    return len(records)


def test_every_event_gets_from_the_stream_in_one_account_into_the_lake_of_another(
    sandbox: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pick = random.Random(1)
    _make_target(sandbox)
    good, poison = _events(80, pick)
    put = [*good, *poison]
    pick.shuffle(put)
    kinesis = sandbox.client("kinesis")
    kinesis.create_stream(StreamName=STREAM, ShardCount=3)
    for data in put:
        kinesis.put_record(StreamName=STREAM, Data=data, PartitionKey=str(pick.random()))
    records = _kinesis_records(sandbox)
    assert sum(map(len, records.values())) == len(put)
    for name, value in (("TARGET_TABLE", TABLE), ("TARGET_ROLE_ARN", ROLE), ("EXTERNAL_ID", "research")):
        monkeypatch.setenv(f"DDB_LAKE_{name}", value)
    monkeypatch.setattr(replicate, "session", lambda *given: FaultySession(session(*given), pick))
    monkeypatch.setattr(replicate, "LAMBDA", RetryPolicy(attempts=10, longest_wait_s=0.0))

    mapping = _replicated(records, pick, again=True)
    assert mapping.crashes > 0
    failed = [base64.b64decode(record["kinesis"]["data"]) for record in mapping.destination]
    assert set(failed) == set(poison)
    assert sorted(canonical(item) for item in _scanned(sandbox)) == _expected(records, good)

    dynamodb = _target(sandbox, "dynamodb")
    enriched = _scanned(sandbox)[0]
    dynamodb.put_item(TableName=TABLE, Item={**enriched, "note": {"S": "added by an analyst"}})
    replayed = _scanned(sandbox)
    _replicated(records, pick, again=False)  # a new event source mapping, from TRIM_HORIZON
    assert _scanned(sandbox) == replayed

    settings = parse_settings(
        {
            "warehouse": str(tmp_path),
            "tables": [
                {
                    "name": "clicks",
                    "key": [PARTITION_KEY, SORT_KEY],
                    "source": {"table": TABLE, "role_arn": ROLE, "external_id": "research", "region": sandbox.region},
                    "changes": {"uri": f"s3://{BUCKET}/prod-kinesis-data/"},
                }
            ],
        },
        "test",
    )
    written = _forwarded(sandbox, settings, pick, monkeypatch)
    assert written == len(good) + 1  # a write that changes nothing is none
    assert sandbox.flush()
    uris = settings.change_uris(settings.table("clicks"))
    assert apply_with_crashes(lambda: open_lake(settings), "clicks", uris) > 0
    with open_lake(settings) as lake:
        apply_objects(lake, "clicks", uris)
        assert changelog_rows(lake, "clicks") == written
        dumped = sorted(canonical(json.loads(line)["Item"]) for line in dump_items(lake, "clicks"))
    assert dumped == sorted(canonical(item) for item in _scanned(sandbox))


def test_role_is_assumed_once_and_again_before_its_credentials_expire(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    _make_target(sandbox)
    monkeypatch.setenv("DDB_LAKE_TARGET_TABLE", TABLE)
    monkeypatch.setenv("DDB_LAKE_TARGET_ROLE_ARN", ROLE)
    monkeypatch.setenv("DDB_LAKE_EXTERNAL_ID", "research")
    keys = set()

    def invoke(number: int) -> None:
        data = base64.b64encode(b'{"a": %d}' % number).decode()
        record = {"kinesis": {"sequenceNumber": str(10**20 + number), "data": data}, "eventID": "shardId-0:1"}
        assert replicate.handler({"Records": [record]}, None) == {"batchItemFailures": []}
        found = session(None, ROLE, "research").get_credentials()
        assert found is not None
        keys.add(found.get_frozen_credentials().access_key)

    invoke(1)
    invoke(2)
    assert len(keys) == 1
    credentials = session(None, ROLE, "research").get_credentials()
    monkeypatch.setattr(credentials, "_time_fetcher", lambda: datetime.now(UTC) + timedelta(minutes=50))
    invoke(3)
    assert len(keys) == 2
    assert len(_scanned(sandbox)) == 3
