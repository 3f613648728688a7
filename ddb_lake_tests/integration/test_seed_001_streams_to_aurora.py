"""DynamoDB Streams → forward → Firehose with validate → S3 → load_aurora → MariaDB, and the same changes into a lake."""

from __future__ import annotations

import base64
import json
import random
from collections.abc import Iterator, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any
from urllib.parse import quote_plus

import pytest

import ddb_lake
from ddb_lake.config import parse_settings
from ddb_lake.executors import open_lake
from ddb_lake.lambdas import forward, load_aurora, validate
from ddb_lake.mysql.connection import Database, Server
from ddb_lake.pipeline.apply.apply import apply_objects
from ddb_lake.sandbox import Delivery, Sandbox
from ddb_lake.sandbox.web_analytics import TABLE, WebTraffic, create_web_analytics_table
from ddb_lake_tests.support.mariadb import PASSWORD, Dying, MariaDb
from ddb_lake_tests.support.sandbox_lake import assert_lake_is_source, point_at
from ddb_lake_tests.support.sandbox_steps import make_bucket

EXAMPLE = Path(ddb_lake.__file__).parent / "docs/examples/web_analytics"
BUCKET = "web-analytics-landing"
AURORA, LAKE = "webAnalytics", "webAnalyticsLake"


class Throttled:
    """Firehose that refuses some records of a batch, and some batches."""

    def __init__(self, client: Any, pick: random.Random) -> None:
        self._client, self._pick = client, pick

    def put_record_batch(self, DeliveryStreamName: str, Records: Sequence[dict[str, bytes]]) -> dict[str, Any]:
        refused = {number for number in range(len(Records)) if self._pick.random() < 0.3}
        taken = [record for number, record in enumerate(Records) if number not in refused]
        if taken:
            self._client.put_record_batch(DeliveryStreamName=DeliveryStreamName, Records=taken)
        answers = [
            {"ErrorCode": "ServiceUnavailableException", "ErrorMessage": "Slow down."}
            if n in refused
            else {"RecordId": "r"}
            for n in range(len(Records))
        ]
        return {"FailedPutCount": len(refused), "RequestResponses": answers}


class System:
    """The functions and what lies between them; `pick` decides which faults come."""

    def __init__(self, sandbox: Sandbox, server: Server, monkeypatch: pytest.MonkeyPatch, seed: int) -> None:
        self.sandbox, self.server, self._patch = sandbox, server, monkeypatch
        self.pick = random.Random(seed)
        make_bucket(sandbox, BUCKET)
        self.stream = create_web_analytics_table(sandbox.client("dynamodb"))
        self.traffic = WebTraffic(sandbox.client("dynamodb"), seed=seed)
        self._iterator = self._first_iterator()
        self.delivered: set[str] = set()
        self.crashes = 0
        sandbox.delivery_stream(
            Delivery(
                name=AURORA,
                bucket=BUCKET,
                prefix="processed/",
                error_prefix="failed/!{firehose:error-output-type}/",
                transform=self._validate,
                transform_bytes=2_000,
            )
        )
        sandbox.delivery_stream(Delivery(name=LAKE, bucket=BUCKET, prefix="changes/"))
        firehose = Throttled(sandbox.client("firehose"), self.pick)
        monkeypatch.setattr(
            forward,
            "_forwarder",
            lambda settings, *_: forward.Forwarder(
                firehose, sandbox.client("s3"), settings, pause=lambda seconds: None
            ),
        )
        really = load_aurora.open_database
        monkeypatch.setattr(load_aurora, "open_database", lambda *given: self._connection(really(*given)))

    # --- the stream to Firehose

    def _first_iterator(self) -> str:
        streams = self.sandbox.client("dynamodbstreams")
        (shard,) = streams.describe_stream(StreamArn=self.stream)["StreamDescription"]["Shards"]
        asked = {"StreamArn": self.stream, "ShardId": shard["ShardId"], "ShardIteratorType": "TRIM_HORIZON"}
        return str(streams.get_shard_iterator(**asked)["ShardIterator"])

    def records(self) -> list[dict[str, Any]]:
        """The stream's new records as Lambda gives them."""
        streams = self.sandbox.client("dynamodbstreams")
        found: list[dict[str, Any]] = []
        while page := streams.get_records(ShardIterator=self._iterator):
            self._iterator = page["NextShardIterator"]
            if not page["Records"]:
                break
            found += page["Records"]
        for record in found:
            body = record["dynamodb"]
            body["ApproximateCreationDateTime"] = body["ApproximateCreationDateTime"].timestamp()
            record["eventSourceARN"] = self.stream
        return found

    def forward(self) -> None:
        """Invoke the forwarder for each batch, for both delivery streams; again where it requests a retry, and at random otherwise."""
        records = self.records()
        batches = [records[start : start + 4] for start in range(0, len(records), 4)]
        again = self.pick.sample(batches, k=len(batches) // 3)
        self.pick.shuffle(batches)
        for batch in batches + again:
            for stream in (AURORA, LAKE):
                self._patch.setenv("DDB_LAKE_DELIVERY_STREAM", stream)
                left = batch
                while left:
                    event = json.loads(json.dumps({"Records": left}))
                    failed = forward.handler(event, None)["batchItemFailures"]
                    numbers = [r["dynamodb"]["SequenceNumber"] for r in left]
                    left = left[numbers.index(failed[0]["itemIdentifier"]) :] if failed else []

    def _validate(self, event: dict[str, Any]) -> Any:
        if self.pick.random() < 0.2:
            raise RuntimeError("the function died")  # Firehose tries three times more
        return validate.handler(event, None)

    # --- S3 to the database

    def land(self) -> list[str]:
        """Let Firehose write its objects; the keys of those for the database."""
        found = set(self.sandbox.pump()) | set(self.sandbox.flush())
        fresh = sorted(key for key in found - self.delivered if key.startswith("processed/"))
        self.delivered |= found
        return fresh

    def load(self, keys: Sequence[str]) -> None:
        """Notify the loader of the objects, in any order and form, some twice, until each was loaded."""
        told = [*keys, *self.pick.sample(list(keys), k=len(keys) // 3)]
        self.pick.shuffle(told)
        for key in told:
            while not self._told(key):
                self.crashes += 1

    def _told(self, key: str) -> bool:
        direct = {
            "Records": [
                {
                    "eventSource": "aws:s3",
                    "awsRegion": self.sandbox.region,
                    "eventName": "ObjectCreated:Put",
                    "s3": {"bucket": {"name": BUCKET}, "object": {"key": quote_plus(key)}},
                }
            ]
        }
        detail = {"bucket": {"name": BUCKET}, "object": {"key": key}}
        bridged = {"source": "aws.s3", "detail-type": "Object Created", "region": self.sandbox.region, "detail": detail}
        body = json.dumps(self.pick.choice([direct, bridged]))
        queued = {"Records": [{"messageId": "m1", "eventSource": "aws:sqs", "body": body}]}
        return load_aurora.handler(queued, None) == {"batchItemFailures": []}

    def _connection(self, database: Database) -> Database:
        return Dying(database, self.pick.randrange(60))  # before, within or after a transaction

    # --- what is expected

    def failures(self) -> list[dict[str, Any]]:
        """What Firehose wrote under the error prefix."""
        s3 = self.sandbox.client("s3")
        listed = s3.list_objects_v2(Bucket=BUCKET, Prefix="failed/").get("Contents", [])
        bodies = [s3.get_object(Bucket=BUCKET, Key=item["Key"])["Body"].read() for item in listed]
        return [json.loads(line) for body in bodies for line in body.splitlines()]

    def items(self) -> list[dict[str, Any]]:
        pages = self.sandbox.client("dynamodb").get_paginator("scan").paginate(TableName=TABLE)
        return [item for page in pages for item in page["Items"]]

    def put(self, page: str, payload: str) -> None:
        item = {"page_id": {"S": page}, "activity_dt": {"S": "2026-03-01"}, "payload": {"S": payload}}
        self.sandbox.client("dynamodb").put_item(TableName=TABLE, Item=item)


def expected_row(item: dict[str, Any]) -> tuple[Any, ...]:
    document = json.loads(item["payload"]["S"])
    device, session = document["device"], document["session"]
    return (
        item["page_id"]["S"],
        item["activity_dt"]["S"],
        int(document["Hits"]),
        device["make"],
        device["platform"]["name"],
        device["platform"]["version"],
        Decimal(device["location"]["latitude"]),
        Decimal(device["location"]["longitude"]),
        device["location"]["country"],
        session["session_id"],
        int(session["start_timestamp"]),
        int(session["stop_timestamp"]),
    )


COLUMNS = ", ".join(json.loads((EXAMPLE / "columns.json").read_text())[TABLE])


def stored_rows(mariadb: MariaDb, server: Server) -> list[tuple[Any, ...]]:
    database = mariadb.open(server)
    try:
        return sorted(database.rows(f"SELECT {COLUMNS} FROM WebAnalytics"))
    finally:
        database.close()


@pytest.fixture
def server(mariadb: MariaDb) -> Server:
    fresh = mariadb.fresh()
    database = mariadb.open(fresh)
    database.execute((EXAMPLE / "table.sql").read_text())
    database.close()
    return fresh


@pytest.fixture
def environment(server: Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The functions' environment as the example has it, but for where the database is."""
    for line in (EXAMPLE / "functions.env").read_text().splitlines():
        if line and not line.startswith("#"):
            monkeypatch.setenv(*line.split("=", 1))
    for name in ("IAM_AUTH", "TLS_CA"):
        monkeypatch.delenv(f"DDB_LAKE_AURORA_{name}")
    given = {"HOST": server.host, "PORT": str(server.port), "DATABASE": server.database, "USER": server.user}
    for name, value in {**given, "PASSWORD": PASSWORD}.items():
        monkeypatch.setenv(f"DDB_LAKE_AURORA_{name}", value)
    monkeypatch.chdir(EXAMPLE)
    load_aurora._loader.cache_clear()
    yield
    load_aurora._loader.cache_clear()


@pytest.mark.parametrize("seed", [1, 2])
def test_every_item_arrives_with_any_fault_between(
    seed: int, server: Server, environment: None, mariadb: MariaDb, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with Sandbox() as sandbox:
        point_at(sandbox, monkeypatch)
        system = System(sandbox, server, monkeypatch, seed)
        late: list[str] = []
        for number in range(8):
            system.traffic.view(6)
            system.traffic.view_again(4)
            system.traffic.forget(1)
            system.forward()
            keys = system.land()
            late += keys[:1] if number < 2 else []
            system.load([key for key in keys if key not in late])
        system.load(late)

        assert stored_rows(mariadb, server) == sorted(map(expected_row, system.items()))
        assert system.crashes > 2
        assert len(system.items()) == 40

        not_valid = json.dumps({**system.traffic.payload(), "Hits": "7"})
        system.put("not-json", "4711-secret {")
        system.put("not-valid", not_valid)
        sandbox.client("firehose").put_record(DeliveryStreamName=AURORA, Record={"Data": b"no record at all"})
        sandbox.client("firehose").put_record(DeliveryStreamName=LAKE, Record={"Data": b"no record at all\n"})
        system.traffic.view(2)
        system.forward()
        system.load(system.land())

        good = [item for item in system.items() if not item["page_id"]["S"].startswith("not-")]
        assert stored_rows(mariadb, server) == sorted(map(expected_row, good)) and len(good) == 42
        failures = system.failures()
        raw = {base64.b64decode(failure["rawData"]) for failure in failures}
        assert {failure["errorCode"] for failure in failures} == {"Lambda.ProcessingFailedStatus"}
        assert len(raw) == 3 and b"no record at all" in raw

        schema = json.loads((EXAMPLE / "schema.json").read_text())
        schema["properties"]["Hits"] = {"type": ["integer", "string"], "pattern": "^[0-9]+$"}
        mended = {TABLE: {"schema": schema, "attribute": "payload"}}
        monkeypatch.setenv("DDB_LAKE_SCHEMAS", json.dumps(mended))
        system.put("not-json", json.dumps(system.traffic.payload()))
        for data in sorted(raw):
            sandbox.client("firehose").put_record(DeliveryStreamName=AURORA, Record={"Data": data})
        system.forward()
        system.load(system.land())

        assert stored_rows(mariadb, server) == sorted(map(expected_row, system.items()))
        assert len(system.items()) == 44
        _assert_lake_has_it_too(sandbox, tmp_path)


def _assert_lake_has_it_too(sandbox: Sandbox, folder: Path) -> None:
    table = {"name": TABLE, "key": ["page_id", "activity_dt"]}
    settings = parse_settings({"warehouse": str(folder / "lake"), "tables": [table]}, "test")
    with open_lake(settings) as lake:
        result = apply_objects(lake, TABLE, [f"s3://{BUCKET}/changes/"])
        assert_lake_is_source(lake, sandbox, TABLE)
    assert (result.duplicates > 0, result.quarantined) == (True, 1)
