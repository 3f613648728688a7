"""S3 notifications through SQS: late objects are seen at once, and a queue that lies, repeats or is gone loses nothing."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from ddb_lake.pipeline.apply.apply import apply_objects
from ddb_lake.pipeline.open_lake import Lake
from ddb_lake.pipeline.plan.arrivals import prefixes_of_hours
from ddb_lake.pipeline.plan.cursor import SensorCursor
from ddb_lake.pipeline.plan.notifications import Notifications, receive_notifications
from ddb_lake.pipeline.plan.planner import ALL_EVERY_S, Busy, Plan, Planner, Tick
from ddb_lake.pipeline.read.status import table_status
from ddb_lake.sandbox import Sandbox
from ddb_lake_tests.support.landed_files import change, order
from ddb_lake_tests.support.sandbox_lake import START, orders_lake, orders_source
from ddb_lake_tests.support.sandbox_steps import make_bucket

HOUR = timedelta(hours=1)


class Sensor:
    """The sensor stepped by hand: each tick listens, plans, and forgets the messages when its requests are made."""

    def __init__(self, lake: Lake, sandbox: Sandbox) -> None:
        self.lake, self.sandbox = lake, sandbox
        self.cursor = SensorCursor()
        self.warnings: list[str] = []

    def tick(self, busy: Busy | None = None, dies: bool = False) -> Plan:
        busy = busy or Busy()
        received = receive_notifications(self.lake)
        plan = Planner(self.lake).tick(Tick(self.cursor, busy, received.hints))
        if not dies:
            self.warnings += [str(error) for error in (*received.errors, *received.delete_handled(plan, busy))]
        return plan

    def settle(self) -> None:
        for _ in range(5):
            plan = self.tick()
            if not plan.work:
                return
            for work in plan.work:
                apply_objects(
                    self.lake, work.table, prefixes_of_hours(self.lake, self.lake.table(work.table), work.hours)
                )
        raise AssertionError("the sensor never stops asking")

    @property
    def applied(self) -> int:
        return table_status(self.lake, "orders").changes


@pytest.fixture
def sandbox(monkeypatch: pytest.MonkeyPatch) -> Iterator[Sandbox]:
    with orders_source(monkeypatch) as sandbox:
        make_bucket(sandbox, "landing")
        yield sandbox


@pytest.fixture
def queue(sandbox: Sandbox) -> str:
    """A queue that S3 itself notifies of every new object in `landing`; received messages come again at once."""
    sqs = sandbox.client("sqs")
    url: str = sqs.create_queue(QueueName="landed", Attributes={"VisibilityTimeout": "0"})["QueueUrl"]
    arn = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    sandbox.client("s3").put_bucket_notification_configuration(
        Bucket="landing",
        NotificationConfiguration={"QueueConfigurations": [{"QueueArn": arn, "Events": ["s3:ObjectCreated:*"]}]},
    )
    return url


@pytest.fixture
def sensor(sandbox: Sandbox, queue: str, tmp_path: Path) -> Iterator[Sensor]:
    changes = {"uri": "s3://landing/orders/", "layout": "hourly", "notifications": queue}
    with orders_lake(sandbox, tmp_path / "lake", changes=changes) as lake:
        sensor = Sensor(lake, sandbox)
        sensor.settle()
        yield sensor


def land(sandbox: Sandbox, hours_ago: int, number: int, name: str = "a+b ü=%41") -> None:
    """A change object in the place of an hour of the past, with a name that S3 encodes in its message."""
    at = START - hours_ago * HOUR
    record = change(number, int(START.timestamp() * 1e6) + number, order("ann", number))
    body = json.dumps({**record, "dynamodb": {**record["dynamodb"], "Keys": keys(number)}}).encode()
    sandbox.client("s3").put_object(Bucket="landing", Key=f"orders/{at:%Y/%m/%d/%H}/{name}-{number}", Body=body)


def keys(number: int) -> dict[str, Any]:
    return {name: value for name, value in order("ann", number).items() if name in ("customer", "order_id")}


def waiting(sandbox: Sandbox, url: str) -> int:
    found = sandbox.client("sqs").get_queue_attributes(QueueUrl=url, AttributeNames=["All"])["Attributes"]
    return int(found["ApproximateNumberOfMessages"]) + int(found["ApproximateNumberOfMessagesNotVisible"])


def send(sandbox: Sandbox, url: str, *bodies: str) -> None:
    for body in bodies:
        sandbox.client("sqs").send_message(QueueUrl=url, MessageBody=body)


def test_late_object_is_seen_in_the_next_tick_and_its_message_is_deleted_when_it_is_requested(
    sensor: Sensor, sandbox: Sandbox, queue: str
) -> None:
    land(sandbox, 20, 1)
    plan = sensor.tick()
    assert [work.hours for work in plan.work] == [(START.replace(minute=0) - 20 * HOUR,)]
    assert waiting(sandbox, queue) == 0
    sensor.settle()


def test_tick_that_dies_before_it_ends_receives_its_messages_again(
    sensor: Sensor, sandbox: Sandbox, queue: str
) -> None:
    land(sandbox, 20, 1)
    before = sensor.cursor.dump(["orders"])
    sensor.tick(dies=True)
    sensor.cursor = SensorCursor.load(before)  # the cursor is saved with the requests
    assert waiting(sandbox, queue) > 0
    sensor.settle()
    assert sensor.applied == 1


def test_message_about_a_busy_table_waits(sensor: Sensor, sandbox: Sandbox, queue: str) -> None:
    land(sandbox, 20, 1)
    assert sensor.tick(Busy(applying=["orders"])).work == []
    assert waiting(sandbox, queue) > 0
    sensor.settle()
    assert (sensor.applied, waiting(sandbox, queue)) == (1, 0)


def test_doubles_test_events_foreign_keys_and_garbage_change_nothing_and_do_not_pile_up(
    sensor: Sensor, sandbox: Sandbox, queue: str
) -> None:
    land(sandbox, 20, 1)
    at = START - 20 * HOUR
    key = f"orders/{at:%Y/%m/%d/%H}/a%2Bb+%C3%BC%3D%2541-1"
    created = {"eventName": "ObjectCreated:CompleteMultipartUpload", "s3": {"bucket": {"name": "landing"}}}
    named = {**created, "s3": {"bucket": {"name": "landing"}, "object": {"key": key}}}
    foreign = {**created, "s3": {"bucket": {"name": "elsewhere"}, "object": {"key": key}}}
    gone = {**created, "s3": {"bucket": {"name": "landing"}, "object": {"key": "orders/2026/01/01/00/never-was"}}}
    send(
        sandbox,
        queue,
        json.dumps({"Records": [named, named]}),
        json.dumps({"Records": [named]}),
        json.dumps({"Event": "s3:TestEvent", "Bucket": "landing"}),
        json.dumps({"Records": [foreign]}),
        json.dumps({"Records": [gone]}),
        "no JSON",
    )
    sensor.settle()
    assert (sensor.applied, waiting(sandbox, queue), sensor.warnings) == (1, 0, [])


def test_messages_of_eventbridge_are_understood(sensor: Sensor, sandbox: Sandbox, queue: str) -> None:
    land(sandbox, 20, 1)
    sandbox.client("sqs").purge_queue(QueueUrl=queue)
    at = START - 20 * HOUR
    detail = {"bucket": {"name": "landing"}, "object": {"key": f"orders/{at:%Y/%m/%d/%H}/a+b ü=%41-1"}}
    send(sandbox, queue, json.dumps({"source": "aws.s3", "detail-type": "Object Created", "detail": detail}))
    sensor.settle()
    assert sensor.applied == 1


@pytest.mark.parametrize("lost", ["its messages", "the queue"])
def test_losing_the_queue_loses_no_object(sensor: Sensor, sandbox: Sandbox, queue: str, lost: str) -> None:
    land(sandbox, 1, 1)
    land(sandbox, 20, 2)
    if lost == "the queue":
        sandbox.client("sqs").delete_queue(QueueUrl=queue)
    else:
        sandbox.client("sqs").purge_queue(QueueUrl=queue)
    sensor.settle()
    assert sensor.applied == 1
    sandbox.clock.advance(timedelta(seconds=ALL_EVERY_S))
    sensor.settle()
    assert sensor.applied == 2
    assert all("listing finds the objects later" in warning for warning in sensor.warnings)
    assert bool(sensor.warnings) == (lost == "the queue")


def test_finished_export_is_looked_for_when_its_manifest_is_written(sensor: Sensor, sandbox: Sandbox) -> None:
    from ddb_lake.aws.export_requests import start_export

    start_export(sensor.lake.table("orders"))
    assert sensor.tick().work == []
    received = Notifications()
    received.hints["orders"] = ["s3://exports/AWSDynamoDB/01772357400000-0badcafe/manifest-summary.json"]
    plan = Planner(sensor.lake).tick(Tick(sensor.cursor, hints=received.hints))
    assert [work.kind for work in plan.work] == ["load"]
